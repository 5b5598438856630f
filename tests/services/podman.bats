#!/usr/bin/env bats
# The main path in containers of a real Podman, through its socket that answers Docker's API (root, Debian).

bats_require_minimum_version 1.5.0

setup_file() {
  local line
  while read -r line; do export "${line?}"; done < <("$BATS_TEST_DIRNAME/podman-up.sh" 3>&- 4>&-)
  "$BATS_TEST_DIRNAME/docker-base-image.sh"
}

setup() {
  load ../helpers
  fresh
  image=agentpipe-test/python:bookworm
}

teardown() { containers | xargs -r docker rm -f >/dev/null 2>&1 || true; }

teardown_file() { "$BATS_TEST_DIRNAME/podman-down.sh"; }

containers() { docker ps -aq --filter "label=agentpipe.home=$AGENT_HOME/state/tasks"; }
log_of() { cat "$AGENT_HOME"/state/tasks/*/log; }
printed() { log_of 2>/dev/null | grep -q "$1"; }
by_hand() { tr -d '\n' <<<"{\"task\": {\"container\": {\"image\": \"$image\"}, \"script\": {$1}}}"; }

@test "podman: a task runs in the image, with its packages, and leaves nothing but its result" {
  by_hand '"entry_point": "main.py", "requirements": {"pip": "wheel\niniconfig\n"},
           "diff": "import iniconfig, wheel\nprint(wheel.__file__)\nraise SystemExit(5)\n"' >task.json
  agent-prepare --place podman task.json >line
  [ "$(field .place.kind line)" = podman ]
  [[ $(field .place.digest line) == *agentpipe-test/python@sha256:* ]]
  run --separate-stderr bash -c 'agent-run line >receipt'
  [ "$status" -eq 5 ]
  [ "$(log_of)" = /usr/lib/python3/dist-packages/wheel/__init__.py ]
  [ -z "$(containers)" ]
}

@test "podman: TERM ends what runs inside, after its grace; so does a lack of memory, and is told" {
  sed 's/"image"/"arguments": "--memory=64m --memory-swap 64m", "image"/' >task.json < <(
    by_hand '"entry_point": "main.py", "diff": "x = bytearray(200 << 20)\n"')
  AGENT_PLACE=podman agent-prepare task.json >line
  run -137 bash -c 'agent-run line >receipt'
  [ "$(field .run.end receipt)" = out_of_memory ]
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "trap \"echo told; exit 0\" TERM; echo begun; sleep 4713 & wait $!\n"' >task.json
  AGENT_PLACE=podman agent-prepare task.json >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 30 printed begun
  kill -TERM "$run_pid"
  ended "$run_pid"
  [ "$status" -eq 75 ]
  printed told
  [ -z "$(containers)" ]
}
