#!/usr/bin/env bats
# agent-server, as a user types it.
# shellcheck disable=SC2030,SC2031  # each test is a subshell, with a server of its own

# its own servers are all that is spoken to
setup() { load ../helpers; AGENT_TESTS_TRANSPORT=store fresh; unset SERVER; }

teardown() { if [ -n "${SERVER:-}" ]; then kill "$SERVER" 2>/dev/null || true; fi; }

# start OPTION…: a server on free ports in the background; what it says on stdout is in `ready`
start() {
  agent-server --port 0 --files-port 0 "$@" >ready 2>said 3>&- &
  SERVER=$!
  wait_for 20 grep -q -e api_server -e "the API at" ready said
}

# ask ENDPOINT [CURL OPTION…]: with the keys of `ready`
ask() {
  local endpoint=$1; shift
  curl -s -u "$(field .access_key ready):$(field .secret_key ready)" "$@" "$(field .api_server ready)/$endpoint"
}

@test "the first start makes keys, and a script can log in with what it printed" {
  start --json
  [ "$(ask auth.login | field .meta.result_msg)" = OK ]
  [ "$(ask queues.get_all | field .data.queues.0.name)" = default ]
}

@test "pipelines have their queue from the first start, and one that was removed stays away" {
  start --json
  queue() { ask queues.get_all -H 'Content-Type: application/json' -d '{"name": "^services$"}' | field .data.queues.0.id; }
  id=$(queue)
  [ ${#id} -eq 32 ]
  ask queues.delete -H 'Content-Type: application/json' -d "{\"queue\": \"$id\"}" | grep -q '"deleted": *1'
  kill "$SERVER"; wait "$SERVER"
  rm ready
  agent-server --json --port 0 --files-port 0 >ready 2>said 3>&- & SERVER=$!
  wait_for 20 grep -q api_server ready
  shown=$(agent-status --once)
  [[ $shown == *default* && $shown != *services* ]]
}

@test "a number that is no port, or no time, is 64, and nobody listens" {
  for words in "--port 99999" "--port -1" "--port 65536" "--files-port 65536" "--files-port -5" "--silent -1"; do
    # shellcheck disable=SC2086 # to be split
    run timeout 20 agent-server $words
    [ "$status" -eq 64 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == "agent-server: ${words% *} "*"(agent-server --help)" ]]
  done
  for words in "--port 70000" "--port 0" "--files-port 0" "--host https://a/b" "--host a:80" "--host ftp://a"; do
    # shellcheck disable=SC2086 # to be split
    run timeout 20 agent-server --new-keys $words
    [ "$status" -eq 64 ]
    [[ $output == "agent-server: ${words% *} "*"(agent-server --help)" ]]
  done
  for option in --user --label; do
    run timeout 20 agent-server --port 0 --files-port 0 $option me
    [ "$status" -eq 64 ]
    [[ $output == "agent-server: $option goes with --new-keys (agent-server --help)" ]]
  done
  run timeout 20 agent-server --host https://lab.example.org
  [ "$status" -eq 64 ]
  [[ $output == *"where to listen, and no https://lab.example.org, which goes with --new-keys"* ]]
}

@test "a task of the store of this machine is there over HTTP, and the other way round" {
  id=$(enqueue_shell 'echo hi')
  start --json
  [ "$(ask "tasks.get_by_id?task=$id" | field .data.task.status)" = queued ]
  ask "tasks.dequeue?task=$id" >/dev/null
  [ "$(status "$id")" = created ]
  kill "$SERVER"; ended "$SERVER"; [ "$status" -eq 0 ]
}

@test "a task that is enqueued over HTTP wakes a waiting pull of this machine" {
  id=$(enqueue_shell 'echo hi')
  start --json
  ask "tasks.dequeue?task=$id" >/dev/null
  agent-pull --wait default >task.json 3>&- &
  puller=$!
  ask "tasks.enqueue?task=$id" >/dev/null
  ended "$puller"
  [ "$status" -eq 0 ]
  [ "$(field .task.id task.json)" = "$id" ]
}

@test "without a terminal no secret is printed, and it says how to get keys" {
  start
  wait_for 10 grep -q -- --new-keys said
  [ ! -s ready ]
  run grep -q secret_key said
  [ "$status" -eq 1 ]
}

@test "--new-keys prints a block for clearml.conf that logs in, while the server runs" {
  start
  run agent-server --new-keys --port 1234
  [ "$status" -eq 0 ]
  [[ $output == *'api_server: "http://127.0.0.1:1234"'*'"access_key" = "'*'"secret_key" = "'* ]]
  agent-server --new-keys --json >keys
  port=$(grep -o '127.0.0.1:[0-9]*' said | head -n 1)
  run curl -s -u "$(field .access_key keys):$(field .secret_key keys)" "http://$port/auth.login"
  [[ $output == *'"token"'* ]]
  # clearml-init wants three addresses that differ
  [ "$(agent-server --new-keys | grep -o 'http://[^"]*' | sort -u | wc -l)" -eq 3 ]
  # the addresses are those of the server that runs
  [ "$(field .api_server keys)" = "http://$port" ]
  grep -q "files at $(field .files_server keys)\$" said
}

@test "with --new-keys what is not named is that of the server that runs, and https:// is a proxy's" {
  blocks() { agent-server --new-keys "$@" | sed -n 's/.*\(api\|files\)_server: "\(.*\)"/\2/p' | paste -sd ' '; }
  [ "$(blocks --host lab)" = "http://lab:8008 http://lab:8081" ]
  start --json
  api=$(field .api_server ready | grep -o '[0-9]*$') files=$(field .files_server ready | grep -o '[0-9]*$')
  [ "$(blocks --host lab.example.org)" = "http://lab.example.org:$api http://lab.example.org:$files" ]
  [ "$(blocks --port 443)" = "http://127.0.0.1:443 http://127.0.0.1:$files" ]
  [ "$(blocks --files-port 8081 --host 127.0.0.1)" = "http://127.0.0.1:$api http://127.0.0.1:8081" ]
  [ "$(blocks --host https://lab.example.org/ --port 443)" = "https://lab.example.org:443 https://lab.example.org:$files" ]
  [ "$(blocks --host '[2001:db8::1]')" = "http://[2001:db8::1]:$api http://[2001:db8::1]:$files" ]
  # one that was killed is none that runs
  kill -KILL "$SERVER"; ended "$SERVER"
  [ "$(blocks)" = "http://127.0.0.1:8008 http://127.0.0.1:8081" ]
}

@test "keys that the server does not know, or with another secret, end the supervisor with 77 and what to do" {
  start --json
  api=$(field .api_server ready)
  export CLEARML_API_HOST=$api CLEARML_API_ACCESS_KEY=nobody CLEARML_API_SECRET_KEY=wrong
  AGENT_HOME=$PWD/node run agent-supervisor default
  [ "$status" -eq 77 ]
  [[ $output == *"$api does not accept the key nobody"*"agent-server --new-keys"* ]]
  # a token that the right secret got is none of the wrong one's
  CLEARML_API_ACCESS_KEY=$(field .access_key ready)
  AGENT_HOME=$PWD/node CLEARML_API_SECRET_KEY=$(field .secret_key ready) agent-task list
  AGENT_HOME=$PWD/node run agent-task list
  [ "$status" -eq 77 ]
}

@test "keys that are revoked while a task runs: said at once, why knows, and new ones in clearml.conf are taken up" {
  start --json
  agent-server --new-keys >one.conf; agent-server --new-keys >two.conf
  export CLEARML_CONFIG_FILE=$PWD/node.conf
  cp one.conf node.conf
  id=$(enqueue_shell 'echo first; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo last')
  export AGENT_HOME=$PWD/node
  agent-pull default | agent-prepare -q | agent-run -q >receipt.json 2>run.err 3>&- & runner=$!
  ids_log() { [ "$(CLEARML_CONFIG_FILE=$PWD/two.conf agent-task log "$id" --stream log)" = "$1" ]; }
  wait_for 20 ids_log first
  ask auth.revoke_credentials -H 'Content-Type: application/json' \
    -d "{\"access_key\": \"$(sed -n 's/.*"access_key" = "\(.*\)"/\1/p' one.conf)\"}" | grep -q '"revoked": *1'
  wait_for 40 grep -q "agent-report: task $id goes on, but .* does not accept the key " run.err
  report=$(CLEARML_CONFIG_FILE=$PWD/two.conf agent-task why "$id")
  [[ $report == *"its agent cannot reach the server: "*"does not accept the key"*"to do: put good keys into"* ]]
  touch "$HOME/go"
  said_over() { CLEARML_CONFIG_FILE=$PWD/two.conf agent-task why "$id" | grep -q "its script has ended with 0"; }
  wait_for 10 said_over
  cp two.conf node.conf.new; mv node.conf.new node.conf
  wait "$runner"
  [ "$(field .run.end receipt.json)" = completed ]
  [ "$(agent-task log "$id" --stream log)" = $'first\nlast' ]
}

@test "TERM, Ctrl-C and a hang-up stop it gracefully, with exit 0" {
  for signal in TERM INT HUP; do
    rm -f said # the last one's words are not this one's
    # bash starts background jobs with INT ignored
    env --default-signal=INT agent-server --port 0 --files-port 0 >ready 2>said 3>&- &
    SERVER=$!
    wait_for 20 grep -q "the API at" said
    kill -s "$signal" "$SERVER"
    ended "$SERVER"
    [ "$status" -eq 0 ]
    run grep -q Traceback said
    [ "$status" -eq 1 ]
  done
}

@test "a stop that comes while it starts, or the moment it has begun, is none of its failures: exit 0" {
  for module in jwt uvicorn; do
    for signal in TERM INT HUP; do
      rm -rf stop; mkdir stop
      printf 'import os, signal\nos.kill(os.getpid(), signal.SIG%s)\n' "$signal" >stop/$module.py # which it imports before it listens
      PYTHONPATH=$PWD/stop run env --default-signal=INT,HUP agent-server --port 0 --files-port 0
      [ "$status" -eq 0 ]
      [ -z "$output" ]
    done
  done
  start # nothing is left in its way
}

@test "a second server of the same store names the first and exits 75" {
  start --json
  run agent-server --port 0 --files-port 0
  [ "$status" -eq 75 ]
  [[ $output == *"pid $SERVER"* ]]
  [ "${#lines[@]}" -eq 1 ]
}

@test "a port that is taken, and an address that is not ours, are one line and 73" {
  start --json
  port=$(field .api_server ready); port=${port##*:}
  AGENT_HOME=$BATS_TEST_TMPDIR/other run agent-server --port "$port"
  [ "$status" -eq 73 ]
  [[ $output == *"127.0.0.1:$port"*--port* ]]
  for host in 203.0.113.7 nosuch.invalid; do
    AGENT_HOME=$BATS_TEST_TMPDIR/other run agent-server --host "$host"
    [ "$status" -eq 73 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == *"$host"*"(choose another --host)" ]]
  done
}

@test "what cannot be written at the start is named: a folder that is a file, the note of who serves on a full disk" {
  touch file
  run timeout 20 agent-server --port 0 --files-port 0 --files-dir file
  [ "$status" -eq 73 ]
  [ "$output" = "agent-server: cannot write to file: it is no directory (choose another --files-dir)" ]
  ln -sf /dev/full "$AGENT_HOME/state/server.pid"
  run timeout 20 agent-server --port 0 --files-port 0
  [ "$status" -eq 73 ]
  [[ $output == "agent-server: cannot write $AGENT_HOME/state/server.pid: No space left on device ("* ]]
}

@test "without the packages of the extra it says what to install and exits 69" {
  mkdir -p missing/starlette
  echo 'raise ModuleNotFoundError("no", name="starlette")' >missing/starlette/__init__.py
  PYTHONPATH=$PWD/missing run agent-server
  [ "$status" -eq 69 ]
  [[ $output == *"pip install 'agentpipe[server]'"* ]]
  [ "${#lines[@]}" -eq 1 ]
}

@test "--verbose says each request, and no secret" {
  start --json --verbose
  ask queues.get_all >/dev/null
  ask nothing.here >/dev/null
  grep -q '200 queues.get_all' said
  grep -q '404 nothing.here' said
  run grep -qFe "$(field .secret_key ready)" said
  [ "$status" -eq 1 ]
}

@test "files go up and come down" {
  start --json
  token=$(ask auth.login | field .data.token)
  files=$(field .files_server ready)
  echo content >file
  [ "$(curl -s -H "Authorization: Bearer $token" -F "a/b.txt=@file" "$files")" = '["a/b.txt"]' ]
  [ "$(curl -s -H "Authorization: Bearer $token" "$files/a/b.txt")" = content ]
  [ "$(cat "$AGENT_HOME/state/files/a/b.txt")" = content ]
  [ "$(curl -s -o /dev/null -w '%{http_code}' "$files/a/b.txt")" = 401 ]
}

@test "a mistyped option is one line and 64; --help has examples" {
  run agent-server --prot 1
  [ "$status" -eq 64 ]
  run agent-server --help
  [ "$status" -eq 0 ]
  [[ $output == *"agent-server --new-keys"* ]]
}
