#!/usr/bin/env bats
# agent-run, and the pipeline as a whole.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

# what a test that failed left behind: else bats waited for it
teardown() {
  local file
  grep -lszF "AGENT_HOME=$AGENT_HOME" /proc/[0-9]*/environ | while read -r file; do
    file=${file#/proc/}; kill -KILL "${file%/environ}" 2>/dev/null || true
  done
}

pipeline() { sh -c 'agent-pull default | agent-prepare | agent-run'; }

# watched [QUEUE]: the next task, which is $id, runs and has printed `on`; sets pid, agent-run's
watched() {
  sh -c "agent-pull ${1:-default} | agent-prepare" >prepared.json
  agent-run prepared.json >receipt.json &
  pid=$!
  wait_for 10 grep -qs on "$(attempt "$id")/log"
}

@test "a shell task runs and is completed; the receipt says how it ended" {
  id=$(enqueue_shell 'echo hello; exit 0')
  pipeline >receipt.json
  [ "$(status "$id")" = completed ]
  [ "$(field .run.end receipt.json)" = completed ]
  [ "$(field .pull receipt.json)" = null ]
  [ "$(field .origin.queue receipt.json)" != null ]
  [ "$(cat "$(attempt "$id")/log")" = hello ]
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.runtime.hostname)" = "$(uname -n)" ]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
}

# bats test_tags=store
@test "no command leaves a log beside the store: who copies the one file has all of it" {
  enqueue_shell 'echo hello'
  look() { [ "$(ls "$AGENT_HOME"/state/agent.db*)" = "$AGENT_HOME/state/agent.db" ]; }
  agent-pull default >line
  look
  agent-prepare <line >prepared
  look
  agent-run <prepared >receipt
  look
  agent-task list
  look
}

# bats test_tags=local
@test "the pipeline exits as the script did, under dash too" {
  id=$(enqueue_shell 'exit 3')
  run dash -c 'agent-pull default | agent-prepare | agent-run'
  [ "$status" -eq 3 ]
  [ "$(status "$id")" = failed ]
}

# bats test_tags=local
@test "--supervised exits 0 once the end is recorded" {
  enqueue_shell 'env -u PYTHONUNBUFFERED python3 -c "print(1)" >/dev/full'
  run --separate-stderr sh -c 'agent-pull default | agent-prepare | agent-run --supervised'
  [ "$status" -eq 0 ]
  [ "$(field .run.exit <<<"$output")" = 120 ]
  [[ $output == *'cannot be written (a full disk?)'* ]]
}

# bats test_tags=local
@test "a script killed by a signal of its own ends with 128+N" {
  id=$(enqueue_shell 'kill -SEGV $$')
  run pipeline
  [ "$status" -eq 139 ]
  [ "$(status "$id")" = failed ]
  [[ $(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.runtime._agentpipe_end.reason) == *SIGSEGV* ]]
}

@test "INT to agent-run aborts: the task is stopped, and 130" {
  id=$(enqueue_shell 'trap "exit 0" TERM; echo on; while :; do sleep 0.05; done')
  watched
  kill -INT $pid
  ended $pid
  [ "$status" -eq 130 ]
  [ "$(status "$id")" = stopped ]
  [ "$(field .run.end receipt.json)" = aborted ]
}

# bats test_tags=claims
@test "TERM to agent-run drains: the task is first in its queue again, finds what it saved, and 75" {
  id=$(enqueue_shell '[ -z "$AGENT_LAST_ATTEMPT" ] || exec cat "$AGENT_LAST_ATTEMPT/saved"; echo saved >saved; echo on; sleep 60')
  enqueue_shell 'echo other'
  watched
  kill -TERM $pid
  ended $pid
  [ "$status" -eq 75 ]
  [ "$(status "$id")" = queued ]
  [ "$(call queues.get_all | field .queues.0.entries.0.task)" = "$id" ]
  agent-pull default | agent-prepare -q | agent-run -q >receipt.json
  [ "$(agent-task log --stream log "$id" | tail -1)" = saved ]
}

@test "told to stop, no stage begins what is left of its input: it goes back" {
  first=$(enqueue_shell 'echo on; sleep 60')
  second=$(enqueue_shell "touch $BATS_TEST_TMPDIR/begun")
  queued() { [ "$(status "$first") $(status "$second")" = 'queued queued' ]; }
  for id in "$first" "$second"; do agent-pull --id "$id"; done >pulled
  AGENT_STAGE_FETCH='touch fetching; exec sleep 60' agent-prepare <pulled >prepared 3>&- & pid=$!
  wait_for 20 test -e fetching
  kill -TERM $pid
  ended $pid
  [ "$status" -eq 75 ]
  queued
  for id in "$first" "$second"; do agent-pull --id "$id"; done | agent-prepare >lines
  printf %s "$(cat lines)" >prepared # the last line lacks its newline
  agent-run <prepared >receipt.json 3>&- & pid=$!
  wait_for 20 grep -q on "$(attempt "$first")/log"
  kill -TERM $pid
  ended $pid
  [ "$status" -eq 75 ]
  queued
  [ ! -e begun ]
}

@test "a task by hand that is told to stop is handed on with the word, and nothing is left running" {
  AGENT_STAGE_FETCH='touch fetching; exec sleep 60' agent-prepare <<<'{"task": {"script": {}, "name": "mine"}}' \
    >line 2>said 3>&- & pid=$!
  wait_for 20 test -e fetching
  kill -TERM $pid
  ended $pid
  [ "$status" -eq 75 ]
  [ "$(cat said)" = "agent-prepare: told to stop" ]
  [ "$(field .task.name line) $(field .failed.stage line) $(field .failed.reason line)" = "mine prepare told to stop" ]
}

@test "a wrong setting of this machine ends no task: a supervisor backs off, and all stay in their queue" {
  first=$(enqueue_shell 'true'); second=$(enqueue_shell 'true')
  AGENT_STAGE_ENV='sh -c "exit 127"' agent-supervisor default 2>said 3>&- & pid=$!
  wait_for 30 sh -c '[ "$(grep -c "ended with 127" said)" -ge 2 ]'
  kill -TERM $pid
  ended $pid
  [ "$(status "$first") $(status "$second")" = 'queued queued' ]
  agent-pull default | agent-prepare | agent-run >/dev/null
  [ "$(status "$first")" = completed ]
}

@test "a task that comes back for a machine's setting a third time fails with it: others wait behind it" {
  first=$(enqueue_shell 'true'); second=$(enqueue_shell 'true')
  for _ in 1 2; do
    AGENT_STAGE_ENV=nosuchcommand run -78 pipeline
    [ "$(status "$first")" = queued ]
  done
  AGENT_STAGE_ENV=nosuchcommand run -78 pipeline
  [ "$(status "$first") $(status "$second")" = 'failed queued' ]
  [[ $(agent-task why "$first") == *"setup_failed, exit 78"*"nosuchcommand"* ]]
  agent-task enqueue "$first" >/dev/null
  pipeline >/dev/null
  AGENT_STAGE_ENV=nosuchcommand run -78 pipeline
  [ "$(status "$first") $(status "$second")" = 'queued completed' ]
}

@test "a stage of ours that was put in its own place with a wrong option costs the task nothing" {
  id=$(enqueue_shell 'true')
  AGENT_STAGE_ENV='agent-env --typo' run -78 pipeline
  [[ $output == *"AGENT_STAGE_ENV (agent-env --typo): No such option: --typo"* ]]
  [ "$(status "$id")" = queued ]
  pipeline >/dev/null
  [ "$(status "$id")" = completed ]
}

@test "a swapped stage's own 73, 75 and 78 are the task's" {
  for code in 73 75 78; do
    id=$(enqueue_shell 'true')
    AGENT_STAGE_ENV="exit $code" run "-$code" pipeline
    [ "$(status "$id")" = failed ]
  done
}

@test "a supervisor whose stages cannot begin costs its task nothing, however often; the server is told why" {
  id=$(enqueue_shell 'true')
  rounds() { [ "$(find "$AGENT_HOME/state/tasks" -maxdepth 1 -name "$id.*" | wc -l)" -ge "$1" ]; }
  reason() { call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.status_reason; }
  is_back_for() { [[ $(status "$id") == queued && $(reason) == *$1* ]]; }
  number=0
  for stage in 'agent-prepare --typo' 'AGENT_PLACE=nonsense agent-prepare' 'exit 5'; do
    AGENT_STAGE_PREPARE=$stage agent-supervisor default 2>said 3>&- & pid=$!
    number=$((number + 2))
    wait_for 30 rounds $number
    case $stage in
      *typo) wait_for 30 is_back_for 'No such option: --typo' ;;
      *nonsense*) wait_for 30 is_back_for 'AGENT_PLACE*nonsense' ;;
    esac
    kill -TERM $pid
    ended $pid
    number=$(find "$AGENT_HOME/state/tasks" -maxdepth 1 -name "$id.*" | wc -l)
  done
  AGENT_CLAIM_GRACE=0 pipeline >/dev/null
  [ "$(status "$id")" = completed ]
  # the last supervisor left one behind as it ended
  [ "$(find "$AGENT_HOME/state/tasks" -name pid -lname given-back | wc -l)" -le 1 ]
}

@test "a supervisor's agent-run whose receipt cannot be written exits 73, and the task has its end" {
  id=$(enqueue_shell 'true')
  agent-pull default | agent-prepare >prepared.json
  run -73 sh -c 'agent-run --supervised prepared.json >/dev/full'
  [[ $output == *"the receipt could not be written: No space left on device"* ]]
  [ "$(status "$id")" = completed ]
}

@test "a script that puts something else in the place of its log is told that it is lost" {
  id=$(enqueue_shell 'echo one; ln -sf /etc/passwd "$AGENT_TASK_DIR/log"; echo two')
  pipeline >receipt.json
  [ "$(status "$id")" = completed ]
  log=$(agent-task log "$id")
  [[ $log == *"log is no regular file: what the script printed is lost"* ]]
  [[ $log != *root:* ]]
}

# bats test_tags=claims
@test "HUP leaves the script running, and the next pull takes it over" {
  id=$(enqueue_shell "echo on; while [ ! -e $BATS_TEST_TMPDIR/go ]; do sleep 0.05; done; echo off; exit 4")
  watched
  kill -HUP $pid
  ended $pid
  [ "$status" -eq 129 ]
  pipeline >receipt.json &
  wait_for 10 grep -q 'taking over' "$(attempt "$id")/setup.log"
  touch go
  ended $!
  [ "$status" -eq 4 ]
  [ "$(cat "$(attempt "$id")/log")" = $'on\noff' ]
  [ "$(status "$id")" = failed ]
}

# bats test_tags=claims
@test "tasks.stop ends the script and the task is stopped" {
  id=$(enqueue_shell 'echo on; sleep 60')
  pipeline >receipt.json &
  pid=$!
  wait_for 20 sh -c "grep -qs on '$AGENT_HOME'/state/tasks/$id.*/log"
  call tasks.stop "{\"task\": \"$id\"}"
  ended $pid
  [ "$status" -eq 130 ]
  [ "$(status "$id")" = stopped ]
}

# bats test_tags=local
@test "a script that failed is one line without a terminal, quiet or not, with where to ask; a good end is none" {
  id=$(enqueue_shell 'exit 3')
  run -3 --separate-stderr pipeline
  [ "$stderr" = "agent-run: task $id: script_failed, exit 3 (agent-task why $id)" ]
  id=$(enqueue_shell 'kill -9 $$')
  run -137 --separate-stderr sh -c 'agent-pull default | agent-prepare | agent-run -q'
  [ "$stderr" = "agent-run: task $id: script_failed, exit 137: ended by SIGKILL (agent-task why $id)" ]
  echo '{"task":{"script":{"binary":"bash","entry_point":"main.sh","diff":"exit 4"}}}' >hand.json
  run -4 --separate-stderr sh -c 'agent-prepare hand.json | agent-run'
  id=$(field .task.id <<<"$output")
  [ "$stderr" = "agent-run: task $id: script_failed, exit 4 (cat $(attempt "$id")/log)" ]
  enqueue_shell 'echo fine'
  run -0 --separate-stderr pipeline
  [ -z "$stderr" ]
}

# bats test_tags=local
@test "the receipt of a set-up that failed is passed on with a word, and tried again without its failure" {
  by_hand() { agent-prepare "$@" 2>/dev/null | agent-run 2>/dev/null; }
  echo "{\"task\":{\"script\":{\"repository\":\"$PWD/repo\",\"entry_point\":\"train.py\"}}}" >hand.json
  by_hand hand.json >receipt.json || [ $? -eq 66 ]
  run -66 --separate-stderr sh -c 'agent-prepare receipt.json | agent-run'
  [ "${#stderr_lines[@]}" -eq 1 ]
  [[ $stderr == "agent-prepare: passed on: the receipt of task $(field .task.id receipt.json), which failed in agent-fetch: cannot fetch "* ]]
  agent-fetch hand.json 2>/dev/null >failed.json || [ $? -eq 66 ]
  run -66 --separate-stderr agent-patch failed.json
  [ -z "$stderr" ]
  make_repo repo
  jq -c 'del(.failed)' receipt.json | agent-prepare | agent-run >again.json
  [ "$(field .run.end again.json)" = completed ]
}

# bats test_tags=local
@test "what is changed in a receipt and passed over for its pins is said, with how to drop these" {
  make_repo repo
  echo 'print("changed")' >>repo/train.py
  agent-task create --repo repo train.py >id 2>/dev/null
  agent-task enqueue "$(cat id)"
  pipeline >receipt.json
  run -0 --separate-stderr sh -c 'agent-prepare receipt.json | agent-run'
  [ -z "$stderr" ]
  jq -c '.task.script |= (.version_num = "abc" | .requirements.pip = "six")' receipt.json >edited.json
  run -0 --separate-stderr sh -c 'agent-prepare edited.json | agent-run'
  [ "$stderr" = "agentpipe: warning: task.script.version_num, task.script.requirements changed in this receipt, but its pins \
count (jq -c 'del(.pins.commit, .pins.packages)' drops these)" ]
  jq -c '.task.script.branch = "other"' receipt.json | jq -c 'del(.pins.commit)' >edited.json
  run -0 --separate-stderr sh -c 'agent-prepare edited.json | agent-run | tee next.json'
  [ -z "$stderr" ]
  run -0 --separate-stderr sh -c 'agent-prepare next.json | agent-run'
  [ -z "$stderr" ]
  jq -c '.task.script.diff = ""' receipt.json >edited.json
  run -0 --separate-stderr sh -c 'agent-prepare edited.json | agent-run'
  [ "$stderr" = "agentpipe: warning: task.script.diff is not the one that the receipt's pins name: it is used as it is now" ]
}

# bats test_tags=local
@test "a script that cannot be started for a program that is not here is given back with the shell's own words" {
  id=$(enqueue_shell 'echo never')
  sh -c 'agent-pull default | agent-prepare' >prepared.json
  mkdir bin
  for each in /usr/bin/* /bin/* "$(dirname "$(command -v agent-run)")"/*; do
    [ "${each##*/}" = setsid ] || ln -sf "$each" bin/
  done
  PATH=$PWD/bin run -75 --separate-stderr agent-run prepared.json
  [[ $stderr == *"could not be started (exit 127 of the shell above it: "*"setsid: not found)"*"install util-linux"* ]]
}

# bats test_tags=local
@test "a time limit ends the script, and the end says which" {
  id=$(enqueue_shell 'echo on; sleep 60')
  run -124 --separate-stderr sh -c 'agent-pull default | agent-prepare | agent-run --time-limit 0.5'
  [ "$stderr" = "agent-run: task $id: time_limit, exit 124: it ran longer than 0.5 s (agent-task why $id)" ]
  [[ $(agent-task why "$id") == *'or: raise --time-limit of agent-run, or let the script save, and look in $AGENT_LAST_ATTEMPT'* ]]
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.runtime._agentpipe_end.class)" = time_limit ]
}

# bats test_tags=local
@test "a script that prints nothing for too long is stalled" {
  id=$(enqueue_shell 'echo on; sleep 60')
  run sh -c 'agent-pull default | agent-prepare | agent-run --stall-limit 1'
  [ "$status" -eq 124 ]
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.runtime._agentpipe_end.class)" = stalled ]
}

# bats test_tags=local
@test "a task by hand needs no store and no queue" {
  make_repo repo
  echo "{\"task\":{\"script\":{\"repository\":\"$PWD/repo\",\"entry_point\":\"train.py\"}}}" |
    agent-fetch | agent-patch | agent-env | agent-run >receipt.json
  [ "$(field .run.end receipt.json)" = completed ]
  [[ $(field .task.id receipt.json) == local-* ]]
  [ ! -e "$AGENT_HOME/state/agent.db" ]
  [ "$(cat "$(attempt "$(field .task.id receipt.json)")/log")" = "hello from train.py" ]
}

# bats test_tags=local
@test "a prepared task by hand can be run again and again" {
  make_repo repo
  echo "{\"task\":{\"script\":{\"repository\":\"$PWD/repo\",\"entry_point\":\"train.py\"}}}" | agent-prepare >prepared.json
  [ "$(agent-run <prepared.json | field .run.end)" = completed ]
  [ "$(agent-run prepared.json | field .run.end)" = completed ]
}

# bats test_tags=local
@test "more files than may be open at a time" {
  echo '{"task":{"script":{"repository":"https://x.invalid/r.git","entry_point":"t.py"}}}' >one.json
  ulimit -n 40
  # shellcheck disable=SC2046  # sixty words
  run -0 agent-fetch --dry-run $(printf 'one.json %.0s' {1..60})
}

# bats test_tags=local
@test "the receipt reproduces the task" {
  make_repo repo
  echo "{\"task\":{\"script\":{\"repository\":\"$PWD/repo\",\"entry_point\":\"train.py\"}}}" | agent-prepare | agent-run >one.json
  git -C repo commit -q --allow-empty -m second
  agent-prepare <one.json | agent-run >two.json
  [ "$(field .pins.commit one.json)" = "$(field .pins.commit two.json)" ]
  [ "$(field .task.id one.json)" != "$(field .task.id two.json)" ]
}

# bats test_tags=local
@test "several tasks: each is done, later ones also when one fails, and 123" {
  make_repo repo train.py 'import sys; sys.exit(int(sys.argv[1]))'
  for code in 0 5 0; do
    echo "{\"task\":{\"script\":{\"repository\":\"$PWD/repo\",\"entry_point\":\"train.py $code\"}}}"
  done | agent-prepare >prepared.json
  run --separate-stderr agent-run prepared.json
  [ "$status" -eq 123 ]
  [ "${#lines[@]}" -eq 3 ]
  [[ $stderr == *"exit 5"* ]]
  [ "$(field .run.exit <<<"${lines[1]}")" = 5 ]
}

# bats test_tags=local
@test "a broken manifest is 65 at every stage, and what it prints makes the pipeline fail under dash" {
  for stage in agent-prepare agent-fetch agent-patch agent-env agent-run; do
    run dash -c "echo '{\"task\":{\"script\":{\"repository\":3}}}' | $stage 2>/dev/null | agent-run"
    [ "$status" -eq 65 ]
    [ "$(field .failed.exit <<<"$output")" = 65 ]
    [ "$(field .task <<<"$output")" = null ]
  done
}

@test "what failed before run is reported, with the stage, and exits as it failed" {
  call tasks.create '{"name":"nothing","type":"training","script":{"repository":"/nonexistent/repo","entry_point":"t.py"}}' >created
  call tasks.enqueue "{\"task\": \"$(field .id created)\"}" >enqueued
  run dash -c 'agent-pull default | agent-prepare | agent-run >receipt.json'
  [ "$status" -eq 66 ]
  [ "$(status "$(field .id created)")" = failed ]
  [ "$(field .failed.stage receipt.json)" = fetch ]
  [ "$(field .failed.class receipt.json)" = setup_failed ]
}

# bats test_tags=local
@test "a line that failed before its task had an id exits as it failed" {
  echo '{"task":{"name":"mine"},"failed":{"exit":66,"reason":"my-fetch: no such file"}}' >failed.json
  run -66 --separate-stderr agent-run failed.json
  [ -z "$stderr" ]
  [ "$(field .failed.reason <<<"$output")" = "my-fetch: no such file" ]
  [[ $(field .task.id <<<"$output") == local-* ]]
}

# bats test_tags=local
@test "a pulled task that has no script is setup_failed" {
  call tasks.create '{"name":"empty","type":"training"}' >created
  call tasks.enqueue "{\"task\": \"$(field .id created)\"}" >enqueued
  run pipeline
  [ "$status" -eq 65 ]
  [ "$(status "$(field .id created)")" = failed ]
}

@test "a line that was used already runs nothing: 75" {
  id=$(enqueue_shell "echo run >>$BATS_TEST_TMPDIR/runs")
  agent-pull default | tee task.json | agent-prepare | agent-run >receipt.json
  run sh -c 'agent-prepare <task.json | agent-run'
  [ "$status" -eq 75 ]
  [ "$(cat runs)" = run ]
  [ "$(status "$id")" = completed ]
}

@test "a task of another server is refused: 78" {
  enqueue_shell 'echo hi'
  agent-pull default >task.json
  run env -u CLEARML_API_HOST AGENT_HOME="$BATS_TEST_TMPDIR/other" agent-prepare task.json
  [ "$status" -eq 78 ]
}

@test "--dry-run says what would be started, and the task can still be run" {
  id=$(enqueue_shell 'echo hi')
  sh -c 'agent-pull default | agent-prepare' >prepared.json
  run agent-run --dry-run prepared.json
  [ "$status" -eq 0 ]
  [[ $output == *"would run in"*main.sh* ]]
  run -0 agent-prepare --dry-run prepared.json
  [[ $output == *"would "* ]]
  agent-run prepared.json >receipt.json
  run -1 grep 'would ' "$(attempt "$id")/setup.log"
  [ "$(status "$id")" = completed ]
}

# bats test_tags=local
@test "a stage is replaced by a small shell script through AGENT_STAGE_ENV" {
  cat >my-env <<'EOF'
#!/bin/sh
exec python3 -c 'import json, sys
line = json.loads(sys.stdin.readline())
line["env"] = {"python": "/usr/bin/env", "path": [], "packages": []}
print(json.dumps(line))'
EOF
  chmod +x my-env
  id=$(enqueue_shell 'echo swapped')
  AGENT_STAGE_ENV=$PWD/my-env pipeline >receipt.json
  [ "$(field .env.python receipt.json)" = /usr/bin/env ]
  [ "$(status "$id")" = completed ]
}

# bats test_tags=local
@test "a swapped stage that fails, or answers nonsense, fails the task" {
  for answer in 'exit 7' 'echo nonsense' 'cat >/dev/null' 'yes nonsense'; do
    id=$(enqueue_shell 'echo never')
    AGENT_STAGE_ENV=$answer run pipeline
    [ "$status" -ne 0 ]
    [ "$(status "$id")" = failed ]
  done
}

# bats test_tags=local
@test "a pre-fetch hook rewrites the branch" {
  make_repo repo
  git -C repo checkout -q -b other
  echo 'print("the other branch")' >repo/train.py
  git -C repo commit -q -a -m other
  git -C repo checkout -q main
  mkdir -p "$HOME/.config/agentpipe/hooks"
  cat >"$HOME/.config/agentpipe/hooks/pre-fetch" <<'EOF'
#!/usr/bin/env python3
import json, sys
line = json.loads(sys.stdin.readline())
line["task"]["script"]["branch"] = "other"
print(json.dumps(line))
EOF
  chmod +x "$HOME/.config/agentpipe/hooks/pre-fetch"
  echo "{\"task\":{\"script\":{\"repository\":\"$PWD/repo\",\"branch\":\"main\",\"entry_point\":\"train.py\"}}}" |
    agent-prepare | agent-run >receipt.json
  [ "$(cat "$(attempt "$(field .task.id receipt.json)")/log")" = "the other branch" ]
  [[ $(field .hooks receipt.json) == *pre-fetch*task* ]]
}

# bats test_tags=local
@test "a hook's veto fails the task with the hook's name" {
  id=$(enqueue_shell 'echo never')
  mkdir -p hooks
  printf '#!/bin/sh\necho too big >&2\nexit 3\n' >hooks/pre-env
  chmod +x hooks/pre-env
  AGENT_HOOKS=$PWD/hooks run pipeline
  [ "$status" -eq 77 ]
  [[ $(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.runtime._agentpipe_end) == *pre-env*"too big"* ]]
}

# bats test_tags=local
@test "the script's shell cannot truncate the log" {
  id=$(enqueue_shell 'echo one; echo two >/dev/stderr; echo three')
  pipeline >receipt.json
  [ "$(cat "$(attempt "$id")/log")" = $'one\ntwo\nthree' ]
}

# bats test_tags=local
@test "a mistyped option makes the whole pipeline fail under dash" {
  run dash -c 'agent-pull --bogus 2>/dev/null | agent-prepare | agent-run'
  [ "$status" -eq 64 ]
  [[ $(field .failed.reason <<<"$output") == *"No such option"* ]]
}

# bats test_tags=claims
@test "what a user stopped is not run again after the death of its stage" {
  id=$(enqueue_shell "echo run >>$BATS_TEST_TMPDIR/runs")
  AGENT_CRASH_AT=fetch:done run pipeline
  call workers.status_report "{\"worker\": \"w\", \"timestamp\": 1, \"task\": \"$id\"}" >reported
  call tasks.stop "{\"task\": \"$id\"}" >stopped
  [ "$(status "$id")" = in_progress ]
  AGENT_CLAIM_GRACE=0 run pipeline
  [ "$(status "$id")" = stopped ]
  [ ! -e runs ]
}

@test "a stage that says try again later gives the task back, as often as it likes" {
  id=$(enqueue_shell 'echo never')
  printf '#!/bin/sh\ncat >/dev/null\necho "{\\"manifest\\":1,\\"failed\\":{\\"exit\\":75,\\"reason\\":\\"the licence server is busy\\"}}"\n' >busy
  chmod +x busy
  for _ in 1 2 3 4 5 6 7 8 9 10 11; do
    AGENT_STAGE_ENV=$PWD/busy AGENT_CLAIM_GRACE=0 run pipeline
    [ "$status" -eq 75 ]
    [[ $output == *"licence server is busy"* ]]
  done
  [ "$(status "$id")" = queued ]
}

@test "wrong options of agent-run are told without a task too: in a crontab most runs have none" {
  for words in '--time-limit nan' '--stall-limit 0' '--gpus 1-0' '--on-drain maybe' '--on-lost maybe' '--hold-on-failure x' '-O 7'; do
    run -64 --separate-stderr sh -c "agent-run $words </dev/null"
    [ "$(wc -l <<<"$stderr")" -eq 1 ]
  done
  run -0 agent-run --time-limit 5 --gpus 0-1 --supervised </dev/null
  AGENT_ON_LOST=maybe run -0 agent-run --time-limit 5 </dev/null
}

@test "a pipeline that is called in a wrong way costs its task nothing, however often" {
  id=$(enqueue_shell 'echo hi')
  export AGENT_CLAIM_GRACE=0
  first() { [ "$(status "$id") $(call queues.get_all | field .queues.0.entries.0.task)" = "queued $id" ]; }
  for words in --bogus '--time-limit 0' '--on-drain maybe' '--gpus 0:1'; do
    run -64 sh -c "agent-pull default | agent-prepare --setup-limit 60 | agent-run $words"
    first
  done
  run -64 sh -c 'agent-pull default | agent-prepare --setup-limit 0 | agent-run'
  first
  run -64 sh -c 'agent-pull default | agent-prepare --bogus'
  first
  CLEARML_AGENT_EXEC_USER=nobody-else run -78 pipeline
  first
  CLEARML_AGENT_EXEC_USER=nobody-else AGENT_STAGE_RUN=another run -78 pipeline # which says that another runs it
  first
  CLEARML_AGENT_EXEC_USER=nobody-else run -78 agent-supervisor default
  pipeline >receipt.json
  [ "$(status "$id")" = completed ]
  ls "$AGENT_HOME/state/tasks"
  for directory in "$AGENT_HOME/state/tasks/$id".*; do [ "$(readlink "$directory/pid")" != given-back ]; done
}

@test "looking with --dry-run costs a task nothing, however often" {
  id=$(enqueue_shell 'echo hi')
  for _ in 1 2 3 4; do
    AGENT_CLAIM_GRACE=0 run sh -c 'agent-pull default | agent-prepare --dry-run'
    [ "$status" -eq 0 ]
  done
  [ "$(call queues.get_all | field .queues.0.entries.0.task)" = "$id" ]
  pipeline >receipt.json
  [ "$(status "$id")" = completed ]
}

# bats test_tags=local
@test "--dry-run by hand leaves nothing behind" {
  make_repo repo
  echo "{\"task\":{\"script\":{\"repository\":\"$PWD/repo\",\"entry_point\":\"train.py\"}}}" >task.json
  agent-fetch --dry-run task.json
  [ -z "$(ls -A "$AGENT_HOME/state/tasks")" ]
}

# bats test_tags=local
@test "--dry-run of a line that failed reports nothing" {
  id=$(enqueue_shell 'echo hi')
  AGENT_STAGE_ENV='exit 9' sh -c 'agent-pull default | agent-prepare' >failed.json || true
  run agent-run --dry-run failed.json
  [ "$status" -ne 0 ]
  [ "$(status "$id")" = in_progress ]
}

@test "--on-drain stop leaves a drained task stopped, why tells where its files are, and another word is a mistake" {
  id=$(enqueue_shell 'echo on; sleep 60')
  sh -c 'agent-pull default | agent-prepare' >prepared.json
  run agent-run --on-drain bogus prepared.json
  [ "$status" -eq 64 ]
  agent-run --on-drain stop prepared.json >receipt.json &
  pid=$!
  wait_for 10 grep -q on "$(attempt "$id")/log"
  kill -TERM $pid
  ended $pid
  [ "$status" -eq 75 ]
  [ "$(field .run.end receipt.json)" = drained ]
  [ "$(status "$id")" = stopped ]
  [[ $(agent-task why "$id") == *"to do: continue it (agent-task continue)"*'$AGENT_LAST_ATTEMPT'* ]]
}

@test "a script that ended by itself is not run again because TERM came a moment later" {
  id=$(enqueue_shell 'exit 0')
  AGENT_CRASH_AT=run:over AGENT_CRASH_WITH=15 run pipeline
  [ "$status" -eq 0 ]
  [ "$(status "$id")" = completed ]
}

# bats test_tags=local
@test "a file that is missing keeps the others from nothing" {
  make_repo repo
  echo "{\"task\":{\"script\":{\"repository\":\"$PWD/repo\",\"entry_point\":\"train.py\"}}}" | agent-prepare >prepared.json
  run agent-run missing.json prepared.json
  [ "$status" -eq 123 ]
  [[ $output == *missing.json* ]]
  [[ $output == *'"end":"completed"'* ]]
}

# bats test_tags=local
@test "post-run hooks see how it ended, and what a swapped stage says is in the task's log" {
  mkdir -p hooks
  # shellcheck disable=SC2016  # it expands in the hook
  printf '#!/bin/sh\ngrep -o "\\"end\\":\\"[a-z]*\\"" >"$SEEN"\n' >hooks/post-run
  chmod +x hooks/post-run
  id=$(enqueue_shell 'exit 0')
  SEEN=$PWD/seen AGENT_HOOKS=$PWD/hooks AGENT_STAGE_ENV='echo said so >&2; agent-env' pipeline >receipt.json
  [ "$(cat seen)" = '"end":"completed"' ]
  grep -q 'said so' "$(attempt "$id")/setup.log"
}

# bats test_tags=local
@test "a hook that takes away how it ended changes nothing of the end" {
  mkdir -p hooks
  printf '#!/bin/sh\njq -c "del(.run)"\n' >hooks/post-run
  chmod +x hooks/post-run
  id=$(enqueue_shell 'exit 4')
  AGENT_HOOKS=$PWD/hooks run -4 --separate-stderr pipeline
  [ "$stderr" = "agent-run: task $id: script_failed, exit 4 (agent-task why $id)" ]
  [ "$(field .run.end <<<"$output")" = script_failed ]
  grep -q 'post-run.*it changed run' "$(attempt "$id")/setup.log"
}

@test "when its queue is gone a drained task stays, stopped, and agent-run exits as it should" {
  id=$(enqueue_shell 'echo on; sleep 60' doomed)
  watched doomed
  queue=$(call queues.get_all '{"name": "^doomed$"}' | field '.queues[0].id')
  call queues.delete "{\"queue\": \"$queue\", \"force\": true}"
  kill -TERM $pid
  ended $pid
  [ "$status" -eq 75 ]
  [ "$(status "$id")" = stopped ]
}

# bats test_tags=local
@test "a stdin or stdout that is closed or full is one line, and costs no task" {
  id=$(enqueue_shell 'echo hi')
  run -65 --separate-stderr sh -c 'agent-run <&-'
  [ "${#stderr_lines[@]}" -eq 1 ]
  run -65 --separate-stderr agent-prepare /tmp
  [ "${#stderr_lines[@]}" -eq 1 ]
  run -73 sh -c 'agent-pull default >&-'
  [ "${#lines[@]}" -eq 1 ]
  run -73 sh -c 'agent-pull default >/dev/full'
  [ "${#lines[@]}" -eq 1 ]
  [ "$(status "$id")" = queued ]
  pipeline >receipt.json
  [ "$(status "$id")" = completed ]
}

# bats test_tags=local
@test "limits that cannot be meant are a mistake" {
  for words in '--time-limit -1' '--stall-limit 0' '--grace -5'; do
    # shellcheck disable=SC2086
    run agent-run $words </dev/null
    [ "$status" -eq 64 ]
    echo '{"task":{}}' >line.json
    # shellcheck disable=SC2086
    run agent-run $words line.json
    [ "$status" -eq 64 ]
  done
}

# bats test_tags=local
@test "a pretty-printed manifest is refused in one line, with what makes it a manifest" {
  printf '{\n  "task": {\n    "script": {}\n  }\n}\n' >pretty.json
  run -65 --separate-stderr agent-prepare pretty.json
  [ "${#stderr_lines[@]}" -eq 1 ]
  [[ $stderr == *"jq -c ."* ]]
}

@test "a script that deletes its task's directory is lost, and said so" {
  # shellcheck disable=SC2016  # it expands in the script
  id=$(enqueue_shell 'rm -rf "$AGENT_TASK_DIR"')
  run pipeline
  [ "$status" -eq 125 ]
  [ "$(status "$id")" = failed ]
  [[ $(agent-task why "$id") == *"was deleted while the script ran"* ]]
}

# bats test_tags=local
@test "a swapped stage that is not installed, or forgets its key, is told by its name" {
  for command in nope cat; do
    id=$(enqueue_shell 'echo never')
    AGENT_STAGE_ENV=$command run pipeline
    [ "$status" -ne 0 ]
    [[ $output == *"AGENT_STAGE_ENV ($command)"* ]]
  done
}

# bats test_tags=local
@test "a password in the URL of a task by hand stands in no manifest" {
  echo '{"task":{"script":{"repository":"https://me:s3cr3tpw@localhost:1/r.git","entry_point":"t.py"}}}' >task.json
  run --separate-stderr agent-fetch task.json
  [ "$status" -ne 0 ]
  [[ $output$stderr != *s3cr3tpw* ]]
  run grep -rl s3cr3tpw "$AGENT_HOME/state"
  [[ $output == */secrets.json ]]
  agent-fetch <task.json 2>/dev/null | agent-run >/dev/null 2>&1 || true # a second one, which comes to its end
  [ "$(grep -rl s3cr3tpw "$AGENT_HOME/state" | sort -u)" = "$output" ]
}

@test "the script finds its server, its task and its worker, in a file that only its owner reads" {
  id=$(enqueue_shell 'env; if [ -n "${CLEARML_CONFIG_FILE:-}" ]; then cat "$CLEARML_CONFIG_FILE"; stat -c %a "$CLEARML_CONFIG_FILE"; fi')
  CLEARML_OFFLINE_MODE=1 CLEARML_TASK_ID=other pipeline >receipt.json
  log=$(attempt "$id")/log
  grep -qx "CLEARML_TASK_ID=$id" "$log"
  grep -qx "CLEARML_WORKER_ID=$(field .origin.worker receipt.json)" "$log"
  run -1 grep CLEARML_OFFLINE_MODE "$log"
  if [ -n "${CLEARML_API_HOST:-}" ]; then # without a server there is none
    grep -q "\"api_server\": \"$CLEARML_API_HOST\"" "$log"
    grep -qx 600 "$log"
    [ ! -e "$(attempt "$id")/clearml.conf" ]
  fi
}

# bats test_tags=local
@test "--gpus and --cpu-only pin what the script sees; what is no GPU, or another user, is refused" {
  id=$(enqueue_shell 'echo "<$CUDA_VISIBLE_DEVICES>"')
  sh -c 'agent-pull default | agent-prepare' >prepared.json
  run -64 agent-run --gpus 0:1 prepared.json
  [[ $output == *UUID* ]]
  run -64 agent-run --gpus 0 --cpu-only prepared.json
  # "$GPUS" of a variable that is not set
  run -64 agent-run --gpus '' prepared.json
  run -64 agent-run --gpus '' --cpu-only prepared.json
  run -64 agent-prepare --gpus '' prepared.json
  run -78 env CLEARML_AGENT_EXEC_USER=nobody-else agent-run prepared.json
  agent-run --gpus 0-2 prepared.json >receipt.json
  [ "$(cat "$(attempt "$id")/log")" = "<0,1,2>" ]
  id=$(enqueue_shell 'echo "<${CUDA_VISIBLE_DEVICES-unset}>"')
  sh -c 'agent-pull default | agent-prepare | agent-run --cpu-only' >receipt.json
  [ "$(cat "$(attempt "$id")/log")" = "<>" ]
  id=$(enqueue_shell 'echo "<${CUDA_VISIBLE_DEVICES-unset}>"')
  CPU_ONLY=1 sh -c 'agent-pull default | agent-prepare | agent-run' >receipt.json
  [ "$(cat "$(attempt "$id")/log")" = "<>" ]
}

# told TASK KEY=VALUE…: what the clearml package would write into the task's runtime
told() {
  py - "$@" <<'PY'
import json, sys

from agentpipe.claim import runtime
from agentpipe.transport import api

runtime.merge(api.connect(), sys.argv[1], api.connect().call(
    "tasks.get_by_id", {"task": sys.argv[1]})["task"]["runtime"]["_agentpipe_claim"],
    {key: json.loads(value) for key, _, value in (word.partition("=") for word in sys.argv[2:])})
PY
}

# bats test_tags=claims
@test "a stopped script's abort callback gets the time that it asked for, and is not waited for once it is done" {
  id=$(enqueue_shell 'trap "echo over; exit 0" TERM; echo on; while :; do sleep 0.1; done')
  pipeline >receipt.json &
  pid=$!
  wait_for 20 sh -c "grep -qs on '$AGENT_HOME'/state/tasks/$id.*/log"
  told "$id" _abort_callback_timeout=300.0 _abort_poll_freq=30.0 _abort_callback_completed='""'
  call tasks.stop "{\"task\": \"$id\"}"
  wait_for 20 grep -q 'waiting up to 330 s for the abort callback' "$(attempt "$id")/setup.log"
  run -1 grep over "$(attempt "$id")/log"
  told "$id" _abort_callback_completed=1
  ended $pid
  [ "$status" -eq 130 ]
  [ "$(status "$id")" = stopped ]
  grep -q over "$(attempt "$id")/log"
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.status_reason)" = "task was stopped by tasks.stop" ]
}

# bats test_tags=local
@test "agent.abort_callback_max_timeout bounds the wait for a callback that never ends" {
  id=$(enqueue_shell 'echo on; sleep 60')
  CLEARML_AGENT__AGENT__ABORT_CALLBACK_MAX_TIMEOUT=1 pipeline >receipt.json &
  pid=$!
  wait_for 20 sh -c "grep -qs on '$AGENT_HOME'/state/tasks/$id.*/log"
  told "$id" _abort_callback_timeout=300.0
  call tasks.stop "{\"task\": \"$id\"}"
  ended $pid
  [ "$status" -eq 130 ]
  grep -q 'was not done after 1 s' "$(attempt "$id")/setup.log"
}

@test "CLEARML_AGENT_ABORT_CALLBACK_CMD runs beside the script before it is ended, and is told to the server" {
  id=$(enqueue_shell 'echo "on ${CLEARML_AGENT_ABORT_CALLBACK_CMD:-}"; until [ -e called ]; do sleep 0.1; done; echo saved; sleep 60')
  export CLEARML_AGENT_ABORT_CALLBACK_CMD="sh -c 'echo stopping \$CLEARML_TASK_ID; touch called; until grep -q saved ../log; do sleep 0.1; done'"
  pipeline >receipt.json &
  pid=$!
  wait_for 20 sh -c "grep -qsx 'on ' '$AGENT_HOME'/state/tasks/$id.*/log"
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.runtime._abort_callback_timeout)" = 180 ]
  call tasks.stop "{\"task\": \"$id\"}"
  ended $pid
  [ "$status" -eq 130 ]
  [ "$(tail -n 1 "$(attempt "$id")/log")" = saved ]
  grep -qx "stopping $id" "$(attempt "$id")/setup.log"
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.runtime._abort_callback_completed)" = 1 ]
  # an old callback's marks do not count in the next run
  call tasks.enqueue "{\"task\": \"$id\"}"
  unset CLEARML_AGENT_ABORT_CALLBACK_CMD
  sh -c 'agent-pull default | agent-prepare' >prepared.json
  agent-run prepared.json >receipt.json &
  pid=$!
  wait_for 20 grep -qs on "$AGENT_HOME/state/tasks/$id.2/log"
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.runtime._abort_callback_timeout)" = -1 ]
  kill -INT $pid
  ended $pid
  [ "$(status "$id")" = stopped ]
}

# suspend PID: with SIGSTOP, at a moment when it does not hold the store's lock (nobody could get it then)
suspend() {
  kill -STOP "$1"
  until py '
import os, sqlite3
file = os.environ["AGENT_HOME"] + "/state/agent.db"
if os.path.exists(file):
    db = sqlite3.connect(file, timeout=0.2, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    db.execute("ROLLBACK")'; do
    kill -CONT "$1"
    sleep 0.05
    kill -STOP "$1"
  done
}

# bats test_tags=claims
@test "a script that sees its stop first and dies of it was aborted, it did not fail" {
  id=$(enqueue_shell 'echo on; until [ -e seen ]; do sleep 0.05; done; kill -KILL $$')
  sh -c 'agent-pull default | agent-prepare' >prepared.json
  agent-run prepared.json >receipt.json &
  pid=$!
  wait_for 20 grep -qs on "$(attempt "$id")/log"
  suspend $pid # it does not see the stop itself
  call tasks.stop "{\"task\": \"$id\"}"
  touch "$(attempt "$id")/code/seen"
  wait_for 10 test -e "$(attempt "$id")/exit.137"
  kill -CONT $pid
  ended $pid
  [ "$status" -eq 130 ]
  [ "$(status "$id")" = stopped ]
}

# unwatched SCRIPT: its task's script runs, and no agent-run any more; sets id
unwatched() {
  id=$(enqueue_shell "$1")
  watched
  kill -KILL $pid
  ended $pid
}

# bats test_tags=claims
@test "a script that nobody watches is ended when its task was stopped outright, and the status left alone" {
  unwatched 'echo on; sleep 60 & wait'
  script=$(readlink "$(attempt "$id")/pid")
  call tasks.stopped "{\"task\": \"$id\", \"status_reason\": \"by hand\", \"force\": true}"
  AGENT_CLAIM_GRACE=0 run -0 --separate-stderr agent-pull -v default
  [ -z "$output" ]
  [[ $stderr == *"ending its script"* ]]
  gone "${script%% *}"
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.status_reason)" = "by hand" ]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
}

@test "a script that has marked its own task completed runs on to its end, also when nobody watched it for a while" {
  unwatched 'echo on; until [ -e go ]; do sleep 0.05; done; echo off'
  call tasks.completed "{\"task\": \"$id\"}"
  AGENT_CLAIM_GRACE=0 pipeline >receipt.json &
  pid=$!
  wait_for 10 grep -q 'taking over' "$(attempt "$id")/setup.log"
  touch "$(attempt "$id")/code/go"
  ended $pid
  [ "$status" -eq 0 ]
  [ "$(status "$id")" = completed ]
  [ "$(agent-task log --stream log "$id")" = $'on\noff' ]
}

@test "a script that has marked its own task completed and ends while nobody watches it: its last lines are sent" {
  unwatched 'echo on; until [ -e go ]; do sleep 0.05; done; printf off'
  call tasks.completed "{\"task\": \"$id\"}"
  touch "$(attempt "$id")/code/go"
  wait_for 10 test -e "$(attempt "$id")/exit.0"
  AGENT_CLAIM_GRACE=0 run -0 --separate-stderr agent-pull -v default
  [[ $stderr == *"reporting that it ended: completed"* ]]
  [ "$(status "$id")" = completed ]
  [ "$(agent-task log --stream log "$id")" = $'on\noff' ]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
}

@test "of a script whose task somebody else has ended meanwhile, watched or not, all that it printed is on the server" {
  id=$(enqueue_shell 'trap "printf saved; exit 3" TERM; echo on; sleep 60 & wait')
  watched
  call tasks.failed "{\"task\": \"$id\", \"status_reason\": \"by hand\"}"
  ended $pid
  [ "$status" -eq 75 ]
  [ "$(agent-task log --stream log "$id")" = $'on\nsaved' ]
  unwatched 'echo on; until [ -e go ]; do sleep 0.05; done; printf off'
  touch "$(attempt "$id")/code/go"
  wait_for 10 test -e "$(attempt "$id")/exit.0"
  call tasks.stopped "{\"task\": \"$id\", \"status_reason\": \"by hand\", \"force\": true}"
  AGENT_CLAIM_GRACE=0 run -0 agent-pull default
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.status_reason)" = "by hand" ]
  [ "$(agent-task log --stream log "$id")" = $'on\noff' ]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
}

@test "recovery leaves alone what another server gave out" {
  unwatched 'echo on; until [ -e go ]; do sleep 0.05; done'
  script=$(readlink "$(attempt "$id")/pid")
  mkdir other
  for kind in ours clearml; do
    ( cd other; serve $kind; AGENT_CLAIM_GRACE=0 agent-pull default )
  done
  [ -n "$(ls "$AGENT_HOME/state/active")" ]
  run -1 gone "${script%% *}"
  touch "$(attempt "$id")/code/go"
  AGENT_CLAIM_GRACE=0 pipeline >receipt.json
  [ "$(status "$id")" = completed ]
}

# a task that all ranks run: each says its rank and waits for go; what a follower does then is its own affair
ranked() { enqueue_shell "echo on \${RANK:-0}; until [ -e $PWD/go ]; do sleep 0.1; done; exit \${RANK:-0}"; }

# bats test_tags=claims
@test "ranks above 0 follow: they run the task and ship their lines, but its status is the leader's" {
  id=$(ranked)
  pipeline >receipt.json &
  leader=$!
  wait_for 20 sh -c "grep -qs on '$AGENT_HOME'/state/tasks/$id.1/log"
  RANK=2 CLEARML_MULTI_NODE_SINGLE_TASK=1 sh -c "agent-pull --no-recover --id $id | agent-prepare | agent-run" >two.json &
  follower=$!
  wait_for 20 sh -c "grep -qs 'on 2' '$AGENT_HOME'/state/tasks/$id.2/log"
  [ "$(field .pull.follows "$AGENT_HOME/state/tasks/$id.2/manifest.json")" = true ]
  [ "$(field .pull.queue_name "$AGENT_HOME/state/tasks/$id.2/manifest.json")" = default ]
  touch go
  ended $follower
  [ "$status" -eq 2 ]
  ended $leader
  [ "$status" -eq 0 ]
  [ "$(status "$id")" = completed ]
  [ "$(agent-task log --stream log "$id" | sort | tr '\n' ,)" = "RANK 2: on 2,on 0," ]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
  RANK=1 run -75 agent-pull --id "$id"
}

@test "one line read by the ranks of a Slurm step: rank 0 leads, a follower that is told to stop gives nothing back" {
  id=$(ranked)
  agent-pull default >task.json
  SLURM_PROCID=0 sh -c 'agent-prepare task.json | agent-run' >receipt.json &
  leader=$!
  wait_for 20 sh -c "grep -qs on '$AGENT_HOME'/state/tasks/$id.1/log"
  SLURM_PROCID=1 agent-prepare task.json >one.json
  SLURM_PROCID=1 agent-run one.json >two.json &
  follower=$!
  wait_for 20 sh -c "grep -qs on '$AGENT_HOME'/state/tasks/$id.2/log"
  kill -TERM $follower
  ended $follower
  [ "$status" -eq 75 ]
  SLURM_PROCID=1 sh -c 'agent-prepare task.json >one.json; :' # whose shell is gone
  AGENT_CLAIM_GRACE=0 run -0 --separate-stderr agent-pull default # what that follower left is let go
  [ -z "$output" ]
  [ "$(status "$id")" = in_progress ]
  touch go
  ended $leader
  [ "$(status "$id")" = completed ]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
}

# bats test_tags=claims
@test "agents that are ranks of one Slurm step have a task of their own each, also one that they take over" {
  export SLURM_PROCID=2
  id=$(ranked)
  agent-pull default | agent-prepare >line
  agent-run line >receipt.json &
  first=$!
  wait_for 20 grep -qs on "$AGENT_HOME/state/tasks/$id.1/log"
  kill -KILL $first
  ended $first
  touch go
  AGENT_CLAIM_GRACE=0 SLURM_PROCID=1 run -0 pipeline
  [ "$(status "$id")" = completed ]
  [ "$(agent-task log --stream log "$id")" = 'on 0' ]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
}

@test "a follower ends with the task that somebody stops" {
  id=$(ranked)
  pipeline >receipt.json &
  leader=$!
  wait_for 20 sh -c "grep -qs on '$AGENT_HOME'/state/tasks/$id.1/log"
  RANK=1 sh -c "agent-pull --no-recover --id $id | agent-prepare | agent-run" >two.json &
  follower=$!
  wait_for 20 sh -c "grep -qs on '$AGENT_HOME'/state/tasks/$id.2/log"
  call tasks.stop "{\"task\": \"$id\"}"
  ended $leader
  [ "$status" -eq 130 ]
  ended $follower
  [ "$status" -ne 0 ]
  [ "$(status "$id")" = stopped ]
}

# lose TASK AGENT: kill agent-run, the script and its shim in one, as a power failure does
lose() {
  local pids
  wait_for 20 grep -qs on "$(attempt "$1")/log"
  pids=$(grep -lszF "AGENT_TASK_DIR=$(attempt "$1")" /proc/[0-9]*/environ | tr -dc '0-9\n' | tr '\n' ' ')
  # shellcheck disable=SC2086
  kill -STOP $2 $pids
  # shellcheck disable=SC2086
  kill -KILL $2 $pids
  ended "$2"
}

# bats test_tags=claims
@test "--on-lost requeue: a lost task is first in its queue again, its iterations kept; the third time it fails" {
  id=$(enqueue_shell 'echo on; exec sleep 60')
  call events.add_batch "[{\"type\": \"training_stats_scalar\", \"task\": \"$id\", \"metric\": \"loss\", \"variant\": \"a\", \"iter\": 7, \"value\": 1, \"timestamp\": 1}]"
  for round in 1 2 3; do
    sh -c 'agent-pull default | agent-prepare' >prepared.json
    agent-run prepared.json >receipt.json &
    lose "$id" $!
    case $round in
      1) AGENT_CLAIM_GRACE=0 agent-pull --on-lost requeue --create-queue nothing ;;
      *) AGENT_CLAIM_GRACE=0 AGENT_ON_LOST=Requeue agent-pull nothing ;;
    esac
    [ "$round" = 3 ] || [ "$(status "$id")" = queued ]
    [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.last_iteration)" = 7 ]
  done
  [ "$(status "$id")" = failed ]
  run -64 agent-pull --on-lost maybe default
  AGENT_ON_LOST=maybe run -78 agent-pull default
  AGENT_ON_LOST=maybe run -78 agent-run prepared.json
}

# bats test_tags=local
@test "--setup-limit ends a set-up that takes too long, and what was at work" {
  id=$(enqueue_shell 'echo never')
  AGENT_STAGE_ENV='echo $$ >pid; exec sleep 60' run dash -c 'agent-pull default | agent-prepare --setup-limit 1 | agent-run'
  [ "$status" -eq 124 ]
  gone "$(cat pid)"
  [ "$(status "$id")" = failed ]
  [[ $(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.runtime._agentpipe_end) == *time_limit*env*"longer than 1 s"* ]]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
}

# bats test_tags=local
@test "a folder to run in that is not there is said by agent-run, not by a shell in the log" {
  id=$(enqueue_shell 'echo never')
  agent-pull default | agent-prepare | sed 's#"code":"#&/nonexistent#' >prepared.json
  run -66 --separate-stderr agent-run prepared.json
  [[ $stderr == "agent-run: the folder to run in is not there: /nonexistent/"* ]]
  [ "$(status "$id")" = failed ]
}

# bats test_tags=local
@test "a place that cannot be entered is said with its own words, not as a task that was given back" {
  id=$(enqueue_shell 'echo never')
  sh -c 'agent-pull default | agent-prepare' | python3 -c '
import json, sys
line = json.loads(sys.stdin.read())
line["place"] = {"kind": "prefix", "prefix": ["sh", "-c", "echo the engine is broken >&2; exit 126"]}
print(json.dumps(line))' >prepared.json
  run -75 --separate-stderr agent-run prepared.json
  [[ $stderr == *"its place could not be entered"*"ended with 126"* ]]
  grep -q 'the engine is broken' "$(attempt "$id")/setup.log"
}
