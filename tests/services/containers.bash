# What the bats files of containers share: the engine, a task in an image, and how to look at it.
#   setup_file() { load containers; docker_engine; }
#   setup() { load containers; contained; }
# shellcheck shell=bash

docker_engine() {
  "$BATS_TEST_DIRNAME/docker-up.sh"
  "$BATS_TEST_DIRNAME/docker-base-image.sh"
}

# shellcheck disable=SC2034 # for the tests
contained() {
  load ../helpers
  fresh
  image=agentpipe-test/python:bookworm
}

# enqueue_in IMAGE SCRIPT: a bash task that asks for this image; prints its id
enqueue_in() {
  py - "$@" <<'PY'
import sys

from agentpipe.pull import queues
from agentpipe.transport import api

store = api.connect()
queue = queues.Queues(store, ["default"], create=True).ids[0]
task = store.call("tasks.create", {"name": "in a container", "type": "training", "container": {"image": sys.argv[1]},
    "script": {"binary": "bash", "entry_point": "main.sh", "working_dir": ".", "diff": sys.argv[2] + "\n"}})["id"]
store.call("tasks.enqueue", {"task": task, "queue": queue})
print(task)
PY
}

containers() { docker ps -aq --filter "label=agentpipe.home=$AGENT_HOME/state/tasks"; }
without_containers() { containers | xargs -r docker rm -f >/dev/null 2>&1 || true; }
# of a container (Docker, Podman) in its box
log_of() { cat "$AGENT_HOME"/state/tasks/*/box/log 2>/dev/null || cat "$AGENT_HOME"/state/tasks/*/log; }
set_up_of() { cat "$AGENT_HOME"/state/tasks/*/setup.log; }
printed() { log_of 2>/dev/null | grep -q "$1"; }

# ended_from_outside COMMAND…: by `COMMAND agent-run`, `line` is in its container, which is killed once its script has
# printed `begun`; what that has written, a/b/c, is there
ended_from_outside() {
  "$@" agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 30 printed begun
  docker kill "$(containers)" >/dev/null
  ended "$run_pid"
  # shellcheck disable=SC2154 # ended() sets it
  [ "$status" -eq 125 ] || return
  [ -e "$(field .fetch.code receipt)/a/b/c" ]
}

# seen_through_by_the_next TASK FILE: agent-run of `line` is killed once its script has printed `begun`; the next
# pipeline takes the script over, which ends with 3 when FILE is there
seen_through_by_the_next() {
  local runner second
  agent-run line >/dev/null 3>&- &
  runner=$!
  wait_for 20 printed begun
  kill -KILL "$runner"
  wait "$runner" || true
  bash -c 'agent-pull default | agent-prepare | agent-run >receipt' 3>&- &
  second=$!
  wait_for 20 grep -q 'taking over' "$(attempt "$1")/setup.log"
  touch "$2"
  ended "$second"
  # shellcheck disable=SC2154 # ended() sets it
  [ "$status" -eq 3 ]
}

# bash_task SCRIPT [CONTAINER]: a manifest of a bash task in $image, with more fields of its container
bash_task() {
  py - "$image" "$1" "${2:-}" <<'PY'
import json
import sys
container = {"image": sys.argv[1], **json.loads(sys.argv[3] or "{}")}
print(json.dumps({"task": {"container": container, "script": {"binary": "bash", "entry_point": "main.sh",
                                                              "diff": sys.argv[2] + "\n"}}}))
PY
}

# set_up_of_its_own: in a place without a daemon a set-up changes what is the task's own, and exports to its script
set_up_of_its_own() {
  # shellcheck disable=SC2016 # for the task's shell
  bash_task 'echo "$GREETING from $(cat /made)"; ls -d "$AGENT_TASK_DIR/root"' \
    '{"setup_shell_script": "if true; then\n  echo it >/made\nfi\nexport GREETING=hello\nfalse\n"}' >task.json
  agent-prepare task.json 2>said >line
  run -0 --separate-stderr agent-run line
  log_of | grep -x 'hello from it'
  grep -q "the task's set-up script ended with 1: passed over" said
  [ ! -e "$(echo "$AGENT_HOME"/state/tasks/local-*)/root" ]
}

# as_in_the_image_alone: what this machine says of its own programs, and the packages in a home that is mounted, change
# nothing in an image; what its set-up installs for its user is the task's own
as_in_the_image_alone() {
  local packages=$HOME/.local/lib/python3.11/site-packages each
  mkdir -p "$packages" "$HOME/bin"
  printf '#!/bin/sh\necho ours\n' | tee "$HOME/bin/python3" >"$HOME/bin/seq"
  chmod +x "$HOME/bin/python3" "$HOME/bin/seq"
  echo 'print("ours")' >"$packages/usercustomize.py"
  echo 'echo ours' >"$HOME/rc"
  # shellcheck disable=SC2016 # for the task's shells
  bash_task 'python3 -c "import mine; print(mine.__file__)"; seq 7 7; bash -c env' "$(jq -cn --arg home "$HOME" '{
    arguments: "-v \($home):\($home)",
    setup_shell_script: "at=$(python3 -m site --user-site); mkdir -p $at; touch $at/mine.py; bash -c \"seq 8 8\""}')" \
    >task.json
  (
    export PATH=$HOME/bin:$PATH PYTHONUSERBASE=$HOME/.local CONDA_PREFIX=$HOME BASH_ENV=$HOME/rc LD_LIBRARY_PATH=$HOME/lib
    agent-prepare task.json | agent-run >receipt
  )
  log_of | grep "^$(echo "$AGENT_HOME"/state/tasks/local-*)/user-packages/.*/mine\.py$"
  log_of | grep -x 7
  set_up_of | grep -x 8
  for each in ours "$HOME/bin" "$HOME/lib" "$HOME/rc" '^CONDA_'; do
    if { log_of; set_up_of; } | grep -v '^USER_PATH=' | grep "$each"; then return 1; fi  # as Apptainer keeps ours
  done
  [ ! -e "$packages/mine.py" ]
}

# told_to_end SECONDS: TERM to agent-run ends a script that sleeps (SECONDS and a digit), and what left its session
told_to_end() {
  bash_task "setsid sleep ${1}1 & echo begun; sleep ${1}2" >task.json
  agent-prepare task.json >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 20 printed begun
  sleeps "${1}1"
  kill -TERM "$run_pid"
  ended "$run_pid"
  # shellcheck disable=SC2154 # ended() sets it
  [ "$status" -eq 75 ]
  wait_for 5 does_not_sleep "$1"
}

# kept_for_a_while VERSION SECONDS: the place of a script that has failed stays, for who walks in, who has to leave with
# it. Both sleep SECONDS and a digit: other files' processes are seen here too.
kept_for_a_while() {
  local version=$1
  bash_task "echo made >here; (setsid sleep ${2}1 &); exit 3" '{"arguments": "-e WORD=hello"}' >task.json
  agent-prepare task.json >line
  agent-run --hold-on-failure 2h line >receipt 2>said 3>&- &
  run_pid=$!
  wait_for 30 grep -q 'is kept for 2h: agent-task shell local-' said
  wait_for 5 does_not_sleep "${2}1"
  # shellcheck disable=SC2016 # for the task's shell
  [ "$(agent-task shell "$(field .task.id line)" -- sh -c 'echo "$WORD $(cat here) $(cat /etc/debian_version)"')" = \
    "hello made $version" ]
  agent-task shell "$(field .task.id line)" -- sleep "${2}2" 3>&- &
  wait_for 10 sleeps "${2}2"
  kill -TERM "$run_pid"
  ended "$run_pid"
  # shellcheck disable=SC2154 # ended() sets it
  [ "$status" -eq 3 ]
  wait_for 5 does_not_sleep "${2}2"
  run -66 agent-task shell "$(field .task.id line)"
  # shellcheck disable=SC2154 # run sets it
  [[ $output == *"is gone (agent-run --hold-on-failure"* ]]
}

# kept_by_a_killed_one: what agent-run was killed over is removed by the next set-up
kept_by_a_killed_one() {
  bash_task 'exit 3' '{"setup_shell_script": "echo it >/made"}' >task.json
  agent-prepare task.json >line
  agent-run --hold-on-failure 2h line >receipt 2>said 3>&- &
  run_pid=$!
  wait_for 30 grep -q 'is kept for 2h' said
  kill -KILL "$run_pid"
  wait "$run_pid" || true
  local kept
  kept=$(attempt "$(field .task.id line)")
  [ -d "$kept/root" ]
  bash_task true >other.json
  agent-prepare other.json >line
  [ ! -e "$kept/root" ]
  [ ! -e "$kept/place.env" ]
}

# sleeps SECONDS: whether a process is just that, or that and one more digit; not a command that will become one
sleeps() { pgrep -xf "sleep $1[0-9]?" >/dev/null; }
does_not_sleep() { ! sleeps "$1"; }
