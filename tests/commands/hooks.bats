# The examples in hooks/, installed as an operator would.

# shellcheck disable=SC2016 # what stands in single quotes is for the scripts of tasks
bats_require_minimum_version 1.5.0

setup() {
  load ../helpers
  fresh
  hooks=$HOME/.config/agentpipe/hooks
  mkdir -p "$hooks"
}

teardown() { [ -z "${server:-}" ] || kill "$server"; }

completed() { [ "$(status "$1")" = completed ]; }
pipeline() { agent-pull default | agent-prepare | agent-run "$@"; }

# a web service that takes one POST into the file posted and answers $1
webhook() {
  python3 - "$1" posted port <<'PY' 3>&- &
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[2], "wb") as file:
            file.write(body)
        self.send_response(int(sys.argv[1]))
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
with open("port.new", "w") as file:
    file.write(str(server.server_port))
os.rename("port.new", sys.argv[3])
server.serve_forever()
PY
  server=$!
  wait_for 10 test -s port
  AGENT_WEBHOOK_URL=http://127.0.0.1:$(cat port)/hook
  export AGENT_WEBHOOK_URL
}

@test "refuse-large-task after pull: a task with a large diff fails, and its owner reads why" {
  cp "$ROOT/hooks/refuse-large-task" "$hooks/post-pull"
  id=$(enqueue_shell "# $(head -c 30000 /dev/zero | tr '\0' x)
echo never")
  AGENT_MAX_TASK_MB=0.01 run -77 pipeline
  run -0 agent-task why "$id"
  [[ $output == *setup_failed*"the task (its diff included) is 0.03 MB, this machine takes 0.01 MB"* ]]
}

@test "refuse-large-task lets a small task through" {
  cp "$ROOT/hooks/refuse-large-task" "$hooks/post-pull"
  cp "$ROOT/hooks/refuse-large-task" "$hooks/post-fetch"
  id=$(enqueue_shell 'echo hello')
  run -0 pipeline
  [ "$(status "$id")" = completed ]
}

@test "refuse-large-task after fetch: a large repository is not run" {
  cp "$ROOT/hooks/refuse-large-task" "$hooks/post-fetch"
  make_repo repo train.sh 'echo never' data.txt "$(head -c 100000 /dev/zero | tr '\0' x)"
  id=$(agent-task enqueue --repo repo train.sh)
  AGENT_MAX_CHECKOUT_MB=0.05 run -77 pipeline
  run -0 agent-task why "$id"
  [[ $output == *"the checkout is 0.10 MB, this machine takes 0.05 MB"* ]]
}

@test "on-end-webhook posts how a task ended" {
  cp "$ROOT/hooks/on-end-webhook" "$hooks/on-end"
  webhook 200
  id=$(enqueue_shell 'exit 3')
  run -3 pipeline
  [ "$(field .task posted)" = "$id" ]
  [ "$(field .end posted)" = script_failed ]
  [ "$(field .exit posted)" = 3 ]
}

@test "on-end-webhook: an unreachable service changes nothing of the task's end" {
  mkdir "$hooks/on-end.d"
  cp "$ROOT/hooks/on-end-webhook" "$hooks/on-end.d/50-webhook"
  webhook 500
  id=$(enqueue_shell 'echo fine')
  run -0 pipeline
  [ "$(status "$id")" = completed ]
  grep -q 'webhook: Internal Server Error' "$(attempt "$id")/setup.log"
  kill "$server"; server=''
  id=$(enqueue_shell 'echo fine')
  run -0 pipeline
  [ "$(status "$id")" = completed ]
  grep -q 'webhook: .*refused' "$(attempt "$id")/setup.log"
}

@test "a stage that prints nothing is said to, not to have written bad JSON" {
  id=$(enqueue_shell 'echo hi')
  AGENT_STAGE_ENV=true run --separate-stderr sh -c 'agent-pull default | agent-prepare'
  [[ $stderr == *"AGENT_STAGE_ENV (true) printed nothing"* ]]
}

# slow HOOK: one that takes a minute, and has written its pid into the file slow once it is at it
slow() {
  printf '#!/bin/sh\necho $$ >%s/slow.new; mv %s/slow.new %s/slow; exec sleep 60\n' "$PWD" "$PWD" "$PWD" >"$hooks/$1"
  chmod +x "$hooks/$1"
}

# told PID: to stop, once the slow hook is at it; the hook ends too
told() {
  wait_for 20 test -e slow
  kill -TERM "$1"
  ended "$1"
  gone "$(cat slow)"
}

@test "told to stop, nobody waits for the end of a hook: before pull, after run, on the end of a task by hand" {
  id=$(enqueue_shell 'echo fine')
  slow pre-pull
  agent-pull default >pulled 3>&- &
  SECONDS=0
  told $!
  [ "$status" -eq 75 ]
  [ "$(status "$id")" = queued ]
  rm slow; mv "$hooks/pre-pull" "$hooks/post-run"
  sh -c 'agent-pull default | agent-prepare' >prepared.json
  agent-run prepared.json >receipt.json 3>&- &
  told $!
  [ "$status" -eq 0 ]
  [ "$(status "$id")" = completed ]
  rm slow; mv "$hooks/post-run" "$hooks/on-end"
  field .task prepared.json | sed 's/.*/{"task":&}/' | agent-prepare >by-hand.json
  agent-run by-hand.json >receipt.json 3>&- &
  told $!
  [ "$status" -eq 0 ]
  [ "$(field .run.end receipt.json)" = completed ]
  [ "$SECONDS" -lt 50 ]
}

@test "a secret that a hook prints stands neither in a manifest nor in what cron would mail" {
  printf '#!/bin/sh\necho "not with $SITE_TOKEN" >&2; exit 1\n' | tee "$hooks/post-pull" >"$hooks/pre-env"
  chmod +x "$hooks/pre-env"
  export SITE_TOKEN=s3cr3tvalue
  for _ in pre-env post-pull; do
    enqueue_shell 'echo never'
    run -77 --separate-stderr pipeline
    [[ $stderr == *"not with [REDACTED]"* ]]
    [[ $output$stderr != *s3cr3tvalue* ]]
    chmod +x "$hooks/post-pull"
  done
}

@test "a misspelt hook is said: by the doctor, by a pull, and once by a supervisor as it starts" {
  printf '#!/bin/sh\nexit 1\n' >"$hooks/pre-fecth"
  chmod +x "$hooks/pre-fecth"
  said="$hooks/pre-fecth is no hook by its name; pre-fetch may be meant (mv $hooks/pre-fecth $hooks/pre-fetch)"
  run -0 agent-config check hooks
  [ "${lines[1]}" = "warning hooks: $said" ]
  run -0 --separate-stderr agent-pull default
  [ "$stderr" = "agent-pull: warning: $said" ]
  run -0 agent-pull --quiet default
  [ -z "$output" ]
  first=$(enqueue_shell 'true'); second=$(enqueue_shell 'true')
  agent-supervisor --jobs 2 default 2>told 3>&- &
  supervisor=$!
  for id in "$first" "$second"; do wait_for 60 completed "$id"; done
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$(grep -c 'pre-fecth is no hook' told)" -eq 1 ]
  grep -qxF "agent-supervisor: warning: $said" told
  mv "$hooks/pre-fecth" "$hooks/pre-fetch"
  enqueue_shell 'true'
  run -77 pipeline
}
