#!/usr/bin/env bats
# A place with its own mount and pid namespace, entered through a prefix: what containers will be (bubblewrap; root).

bats_require_minimum_version 1.5.0

setup() {
  load containers
  contained
  # the keeper: PID 1 of the place; it stays when its task is gone

  bwrap --unshare-pid --bind / / --dev-bind /dev /dev --proc /proc --tmpfs /mnt --die-with-parent \
    --info-fd 3 sh -c 'trap "" TERM; echo up >"$1"; while sleep 1; do :; done' sh "$PWD/up" 3>info 2>/dev/null &
  wrapper=$!
  disown
  wait_for 10 test -s up
  keeper=$(field '.child-pid' <(tr -d '\n' <info))
  prefix="[\"nsenter\", \"-t\", \"$keeper\", \"-m\", \"-p\", \"--\"]"
}

teardown() {
  kill -KILL "$keeper" "$wrapper" 2>/dev/null || true
}

manifest() {  # SCRIPT: a task by hand in that place
  py - "$1" "$prefix" <<'PY'
import json
import sys
print(json.dumps({"manifest": 1, "task": {"script": {"binary": "bash", "entry_point": "main.sh", "diff": sys.argv[1] + "\n"}},
                  "place": {"kind": "bubblewrap", "reason": "a test", "prefix": json.loads(sys.argv[2])}}))
PY
}

prepared() { manifest "$1" | agent-fetch | agent-patch | agent-env; }

pulled() {  # SCRIPT: the same, of a task in the store; prints the prepared line
  enqueue_shell "$1" >task
  pulled_again
}

pulled_again() {
  agent-pull default | py '
import json, sys
line = json.loads(sys.stdin.readline())
line["place"] = {"kind": "bubblewrap", "reason": "a test", "prefix": json.loads(sys.argv[1])}
print(json.dumps(line))' "$prefix" | agent-fetch | agent-patch | agent-env
}

in_place() { nsenter -t "$keeper" -m -p -- ps -e -o args= | grep -q "$1"; }
absent() { ! in_place "$1"; }

@test "the script runs in the place's own pid and mount namespace, and its exit status comes out" {
  run --separate-stderr bash -c 'agent-run >receipt' < <(prepared 'echo "pid $$ of $(readlink /proc/self/ns/pid)"; ls -d /mnt/* 2>/dev/null; exit 7')
  [ "$status" -eq 7 ]
  [ "$(field .run.end receipt)" = script_failed ]
  inside=$(readlink "/proc/$keeper/ns/pid")
  [ "$inside" != "$(readlink /proc/self/ns/pid)" ]
  log_of | grep -F "$inside"
  pid=$(log_of | sed -n 's/^pid \([0-9]*\) .*/\1/p')
  [ "$pid" -lt 1000 ]
  [ "$(field .run.pid receipt)" = "$pid" ]
}

@test "the task's environment reaches the place, and no value of it stands in a command line" {
  export SECRET_OF_MINE=top-secret-value
  prepared 'echo "got $SECRET_OF_MINE"; tr "\0" " " </proc/*/cmdline | grep -c top-secret-val[u]e' 2>/dev/null >line
  run agent-run line
  log_of | grep -x 'got top-secret-value'
  [ "$(log_of | tail -n 1)" = 0 ]
}

@test "TERM to agent-run ends what runs inside, also what left the session, and not the keeper" {
  prepared 'setsid sleep 4711 & echo begun; sleep 4712' >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 20 printed begun
  in_place 'sleep 4711'
  kill -TERM "$run_pid"
  ended "$run_pid"
  [ "$status" -eq 75 ]
  absent 'sleep 471[12]'
  kill -0 "$keeper"
}

@test "a user's stop ends what runs inside, and not the keeper" {
  pulled 'echo begun; sleep 4713' >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 20 printed begun
  call tasks.stop "{\"task\": \"$(cat task)\"}"
  ended "$run_pid"
  [ "$status" -eq 130 ]
  absent 'sleep 4713'
  kill -0 "$keeper"
  [ "$(status "$(cat task)")" = stopped ]
}

@test "agent-run is killed: the next pipeline takes over what runs inside, and has its status" {
  export AGENT_CLAIM_GRACE=0
  pulled "echo begun; until [ -e '$PWD/go' ]; do sleep 0.05; done; echo over; exit 3" >line
  seen_through_by_the_next "$(cat task)" go
  [ "$(log_of)" = $'begun\nover' ]
  [ "$(status "$(cat task)")" = failed ]
}

@test "the whole place is gone: the task is lost, and said so" {
  export AGENT_CLAIM_GRACE=0
  pulled 'echo begun; sleep 4714' >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 20 printed begun
  kill -KILL "$keeper"
  ended "$run_pid"
  [ "$status" -eq 137 ] || [ "$status" -eq 125 ]
  [ "$(status "$(cat task)")" = failed ]
}

@test "a place that cannot be entered: its task is tried three times, not for ever, then lost and told" {
  prefix='["false"]'
  pulled 'echo never' >line
  run -75 --separate-stderr agent-run line
  [[ "$stderr" = *'its place could not be entered: `false` ended with 1'* ]]
  for _ in 2 3; do
    pulled_again >line
    run -75 --separate-stderr agent-run line
  done
  run -0 --separate-stderr agent-pull default
  [ -z "$output" ]
  agent-task show "$(cat task)" | grep -E '^end +lost.*the place it had made could not be entered'
}
