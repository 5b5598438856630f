#!/usr/bin/env bats
# Tasks in containers of a real Docker Engine (root, Debian).

bats_require_minimum_version 1.5.0

setup_file() {
  "$BATS_TEST_DIRNAME/docker-up.sh"
  "$BATS_TEST_DIRNAME/docker-base-image.sh"
}

setup() {
  load ../helpers
  fresh
  image=agentpipe-test/python:bookworm
}

teardown() {
  docker ps -aq --filter "label=agentpipe.home=$AGENT_HOME/state/tasks" | xargs -r docker rm -f >/dev/null 2>&1 || true
}

# enqueue_in IMAGE SCRIPT: a bash task that asks for this image; prints its id
enqueue_in() {
  python3 - "$@" <<'PY'
import sys

from agentpipe import api, queues

store = api.connect()
queue = queues.Queues(store, ["default"], create=True).ids[0]
task = store.call("tasks.create", {"name": "in a container", "type": "training", "container": {"image": sys.argv[1]},
    "script": {"binary": "bash", "entry_point": "main.sh", "working_dir": ".", "diff": sys.argv[2] + "\n"}})["id"]
store.call("tasks.enqueue", {"task": task, "queue": queue})
print(task)
PY
}

# by_hand FIELDS: a manifest of a task in the image, with these fields of its script
by_hand() { tr -d '\n' <<<"{\"task\": {\"container\": {\"image\": \"$image\"}, \"script\": {$1}}}"; }

containers() { docker ps -aq --filter "label=agentpipe.home=$AGENT_HOME/state/tasks"; }
log_of() { cat "$AGENT_HOME"/state/tasks/*/log; }
printed() { log_of 2>/dev/null | grep -q "$1"; }

# running SCRIPT: start a task that prints `begun`; $task, $run_pid and $container are set
running() {
  task=$(enqueue_in "$image" "$1")
  agent-pull default | agent-prepare >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 30 printed begun
  container=$(containers)
}

@test "a task that names an image runs inside it, and nothing is left but its result" {
  task=$(enqueue_in "$image" 'hostname; id -u; echo written >"$AGENT_TASK_DIR/code/made"; exit 7')
  agent-pull default | agent-prepare >line
  container=$(field .place.container line)
  [ "$(field .place.kind line)" = docker ]
  [ "$(docker inspect -f '{{index .Config.Labels "agentpipe.task"}}' "$container")" = "$task" ]
  # in the image's own file system: only the folders over our mounts
  mounts=$(docker inspect -f '{{range .Mounts}}{{println .Destination}}{{end}}' "$container")
  docker diff "$container" | while read -r how path; do
    [ "$how" = A ] || [ "$how" = C ]
    grep -q "^$path" <<<"$mounts"
  done
  run --separate-stderr bash -c 'agent-run <line >receipt'
  [ "$status" -eq 7 ]
  [ "$(log_of)" = "${container:0:12}"$'\n0' ]
  [ "$(cat "$(attempt "$task")/code/made")" = written ]
  [ -z "$(containers)" ]
  [ "$(status "$task")" = failed ]
}

@test "an image that has what a task requires gets nothing installed, and its environment is warm the next time" {
  by_hand '"entry_point": "main.py", "diff": "import sys, wheel\nprint(wheel.__file__, sys.prefix)\n",
           "requirements": {"pip": "wheel\n"}' >task.json
  agent-prepare task.json >line
  [ "$(field .env.cached line)" = false ]
  [[ $(field .env.reason line) == *", 0 packages installed in "*", 1 of the image, asked for by"* ]]
  agent-run line >receipt
  [ "$(log_of)" = "/usr/lib/python3/dist-packages/wheel/__init__.py $(field .env.overlay line)" ]
  agent-prepare task.json >line
  [ "$(field .env.cached line)" = true ]
  agent-run line >receipt
  [ "$(field .run.exit receipt)" = 0 ]
}

@test "what the image lacks, or has in another version, is installed beside it and hides it" {
  by_hand '"entry_point": "main.py", "diff": "import iniconfig, wheel\nprint(wheel.__version__, iniconfig.__file__)\n",
           "requirements": {"pip": "wheel>0.38.4\niniconfig\n"}' >task.json
  agent-prepare task.json >line
  agent-run line >receipt
  [[ $(log_of) != 0.38.4* ]]
  log_of | grep -F "$AGENT_HOME/cache/envs/"
}

@test "a user's stop ends the script in its container, and the container" {
  running 'trap "echo told; exit 0" TERM; setsid sleep 4711 & echo begun; sleep 4712 & wait $!'
  call tasks.stop "{\"task\": \"$task\"}"
  ended "$run_pid"
  [ "$status" -eq 130 ]
  printed told
  [ -z "$(containers)" ]
  [ "$(status "$task")" = stopped ]
}

@test "agent-run is killed: the next pipeline takes over, and has the script's status" {
  export AGENT_CLAIM_GRACE=0
  running 'echo begun; until [ -e "$AGENT_TASK_DIR/go" ]; do sleep 0.1; done; echo over; exit 3'
  kill -KILL "$run_pid"
  wait "$run_pid" || true
  bash -c 'agent-pull default | agent-prepare | exec agent-run >receipt' 3>&- &
  second=$!
  wait_for 20 grep -q 'taking over' "$(attempt "$task")/setup.log"
  [ "$(containers)" = "$container" ]
  touch "$(attempt "$task")/go"
  ended "$second"
  [ "$status" -eq 3 ]
  [ "$(log_of)" = $'begun\nover' ]
  [ -z "$(containers)" ]
}

@test "Docker's client is killed: the script goes on, and its status comes" {
  running 'echo begun; until [ -e "$AGENT_TASK_DIR/go" ]; do sleep 0.1; done; exit 4'
  client=$(pgrep -f "docker exec ${container:0:12}")
  kill -KILL "$client"
  wait_for 10 gone "$client"
  touch "$(attempt "$task")/go"
  ended "$run_pid"
  [ "$status" -eq 4 ]
}

@test "the container is killed from outside: the task is lost, and what is known is said" {
  running 'echo begun; sleep 4714'
  docker kill "$container" >/dev/null
  ended "$run_pid"
  [ "$status" -eq 125 ]
  [ "$(field .run.end receipt)" = lost ]
  [[ $(field .run.reason receipt) == "its container ended while the script ran: exit 137 at "* ]]
  [ -z "$(containers)" ]
}

@test "agent-prepare dies while it makes the container: recovery removes that and gives the task back" {
  export AGENT_CLAIM_GRACE=0
  for point in place:journalled place:created place:started; do
    task=$(enqueue_in "$image" 'echo again')
    run bash -c "agent-pull default | AGENT_CRASH_AT=$point agent-prepare"
    agent-pull --id "$task" >line
    [ "$(field .task.id line)" = "$task" ]
    [ -z "$(containers)" ]
    [ ! -e "$AGENT_HOME/state/tasks/$task.1/place.json" ]
  done
}

@test "no engine answers: the task fails in set-up, and is told what to do" {
  export DOCKER_HOST=unix://$PWD/none.sock
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 69 ]
  [[ $stderr == *"no Docker answers at unix://$PWD/none.sock"*"agent-prepare --place host"* ]]
}

@test "an image that is nowhere: the task fails in set-up and names it" {
  image=registry.invalid/none:1 by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 69 ]
  [[ $stderr == *"image registry.invalid/none:1"* ]]
}

@test "--dry-run says which image it would be and makes nothing; --place host keeps the task out of it" {
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "readlink /proc/self/ns/mnt\n"' >task.json
  run --separate-stderr agent-prepare --dry-run task.json
  [ "$status" -eq 0 ]
  [[ $stderr == *"would run in a container of $image (docker): the task asks for image $image"* ]]
  [ -z "$(containers)" ]
  agent-prepare --place host task.json | agent-run >receipt
  [ "$(log_of)" = "$(readlink /proc/self/ns/mnt)" ]
  [ "$(field .place.kind receipt)" = host ]
}
