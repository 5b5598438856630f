#!/usr/bin/env bats
# A container's set-up as a user sees it: what runs before the script, in which order, and what it leaves behind.

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
  [ -z "${supervisor:-}" ] || kill -KILL "$supervisor" 2>/dev/null || true
  docker ps -aq --filter "label=agentpipe.home=$AGENT_HOME/state/tasks" | xargs -r docker rm -f >/dev/null 2>&1 || true
}

# by_hand SCRIPT SETUP [ARGUMENTS]: a manifest of a bash task in the image
by_hand() {
  python3 - "$image" "$@" <<'PY'
import json
import sys
image, script, setup, arguments = [*sys.argv[1:], ""][:4]
print(json.dumps({"task": {"container": {"image": image, "setup_shell_script": setup, "arguments": arguments},
                           "script": {"binary": "bash", "entry_point": "main.sh", "diff": script + "\n"}}}))
PY
}

log_of() { cat "$AGENT_HOME"/state/tasks/*/log; }
set_up_of() { cat "$AGENT_HOME"/state/tasks/*/setup.log; }
network() { "$BATS_TEST_DIRNAME/docker-host-args.sh" | paste -sd ' '; }

@test "the operator's scripts and the task's run in order, and what they export reaches the script" {
  cat >"$HOME/clearml.conf" <<'CONF'
agent {
  docker_preprocess_bash_script: ["export A=1", "echo first"]
  extra_docker_shell_script: ["export B=\"$A\"2", "false"]
}
CONF
  by_hand 'echo "got $C; $CLEARML_DOCKER_IMAGE"' $'# several lines\nif [ "$B" = 12 ]; then\n  export C="$B 3"\nfi' >task.json
  agent-prepare task.json 2>said >line
  agent-run line
  log_of | grep -x "got 12 3; $image"
  [ "$(set_up_of | grep '^set-up: .*script$' | paste -sd ,)" = "set-up: agent.docker_preprocess_bash_script,set-up: agent.extra_docker_shell_script,set-up: the task's set-up script" ]
  grep -q 'agent.extra_docker_shell_script ended with 1: passed over' said
  [ "$(field '.place.setup[2].exit' line)" = 1 ]
}

@test "AGENT_SETUP_ERRORS=stop: a script that fails ends the task, and its container" {
  by_hand 'echo no' $'echo one\nnosuchprogram\necho two' >task.json
  AGENT_SETUP_ERRORS=stop run --separate-stderr agent-prepare task.json
  [ "$status" -eq 65 ]
  # shellcheck disable=SC2154
  [[ $stderr == *"the task's set-up script ended with 127"* ]]
  [ "$(field .failed.stage <<<"$output")" = prepare ]
  [[ $(field .failed.evidence <<<"$output") == *one*nosuchprogram* ]]
  [ -z "$(docker ps -aq --filter "label=agentpipe.home=$AGENT_HOME/state/tasks")" ]
}

@test "system packages come from the network once; the next container has them from the cache, without it" {
  export CLEARML_AGENT__AGENT__DOCKER_ALLOW_HOST_ENVIRON=1
  by_hand 'hello; echo "[$CLEARML_APT_INSTALL]"' '' "$(network) -e CLEARML_APT_INSTALL=hello" >task.json
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = $'Hello, world!\n[]' ]
  rm -r "$AGENT_HOME"/state/tasks
  by_hand 'hello' 'hello >/dev/null' '--network none -e CLEARML_APT_INSTALL=hello' >task.json
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = 'Hello, world!' ]
}

@test "an image of another user: packages as root, the task's script as that user" {
  export CLEARML_AGENT__AGENT__DOCKER_ALLOW_HOST_ENVIRON=1
  by_hand 'id -u; hello; echo "$WHO"' 'export WHO=$(id -u)' "$(network) --user 1000 -e CLEARML_APT_INSTALL=hello" >task.json
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = $'1000\nHello, world!\n1000' ]
}

@test "LOCAL_PYTHON, that a set-up script exports, is the Python of a task that names none" {
  python3 - "$image" >task.json <<'PY'
import json
import sys
print(json.dumps({"task": {"container": {"image": sys.argv[1],
    "setup_shell_script": "mkdir /opt/own && cp /usr/bin/python3.11 /opt/own/python3\nexport LOCAL_PYTHON=/opt/own/python3"},
    "script": {"binary": "python3", "entry_point": "main.py", "diff": "import sys\nprint(sys._base_executable)\n"}}}))
PY
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = /opt/own/python3 ]
}

@test "the agent in a container itself: what it mounts is where the engine's machine has it" {
  mkdir there here
  unset UV_CACHE_DIR
  export AGENT_HOME=$PWD/here/agent CLEARML_AGENT_DOCKER_HOST_MOUNT=$PWD/there:$PWD/here
  # a mount that the engine does not see, as in a container of our own: here is empty for it
  python3 - "$image" >task.json <<'PY'
import json
import sys
print(json.dumps({"task": {"container": {"image": sys.argv[1]}, "script": {"binary": "python3", "entry_point": "main.py",
    "diff": "import sys\nprint(sys.prefix != sys.base_prefix)\n"}}}))
PY
  unshare -m sh -ec 'mount --bind there here; agent-prepare task.json >line; agent-run line >receipt'
  [ "$(field .run.end receipt)" = completed ]
  [ "$(cat there/agent/state/tasks/*/log)" = True ]
  [ -z "$(ls -A here)" ]
}

@test "a service in a container knows that it is one, by its variables and its labels; a restart takes it over" {
  export PATH=$ROOT/cmds:$PATH AGENT_CLAIM_GRACE=0
  id=$(python3 - "$image" <<'PY'
import sys

from agentpipe import api, queues

store = api.connect()
queue = queues.Queues(store, ["services"], create=True).ids[0]
script = 'echo "$CLEARML_AGENT_SERVICE_TASK $CLEARML_WORKER_ID"; until [ -e "$AGENT_TASK_DIR/go" ]; do sleep 0.1; done\n'
task = store.call("tasks.create", {"name": "a service", "type": "service", "container": {"image": sys.argv[1]},
    "script": {"binary": "bash", "entry_point": "main.sh", "working_dir": ".", "diff": script}})["id"]
store.call("tasks.enqueue", {"task": task, "queue": queue})
print(task)
PY
)
  agent-supervisor --services --worker w services 2>said 3>&- &
  supervisor=$!
  wait_for 30 grep -qsx "1 w:service:$id" "$AGENT_HOME/state/tasks/$id.1/log"
  container=$(docker ps -q --filter "label=clearml-worker-id=w:service:$id")
  [ -n "$container" ]
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$(docker inspect -f '{{.State.Running}}' "$container")" = true ]
  agent-supervisor --services --worker w services 2>said 3>&- &
  supervisor=$!
  wait_for 20 grep -q 'taking over' "$AGENT_HOME/state/tasks/$id.1/setup.log"
  docker exec "$container" touch "$AGENT_HOME/state/tasks/$id.1/go"
  wait_for 20 sh -c "! docker inspect $container"
  [ "$(status "$id")" = completed ]
  kill -TERM "$supervisor"
  ended "$supervisor"
}
