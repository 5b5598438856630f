#!/usr/bin/env bats
# The unit of examples/ in a real systemd (a container whose PID 1 it is; root, Docker), serving a queue.

bats_require_minimum_version 1.5.0
container=agentpipe-test-systemd

setup_file() {
  local services net
  services=$BATS_TEST_DIRNAME
  "$services/docker-up.sh" >/dev/null
  readarray -t net < <("$services/docker-host-args.sh")
  "$services/systemd-container.sh" "$container" "${net[@]}" >/dev/null
  git -C "$BATS_TEST_DIRNAME/../.." ls-files -z -co --exclude-standard | (cd "$BATS_TEST_DIRNAME/../.." &&
    tar --null --ignore-failed-read -T - -cf - 2>/dev/null) | docker exec -i "$container" sh -c 'mkdir /src && tar -C /src -xf -'
  local words=() name
  for name in "${!PIP_@}" "${!SSL_CERT_@}"; do words+=(-e "$name"); done
  docker exec ${words[@]+"${words[@]}"} "$container" sh -c 'python3 -m venv /opt/agentpipe && /opt/agentpipe/bin/pip install -q /src'
  docker exec "$container" cp /src/examples/systemd/agent-supervisor@.service /etc/systemd/system/
  docker exec -i "$container" sh -c 'mkdir "$0" && cat >"$0/here.conf"' /etc/systemd/system/agent-supervisor@.service.d <<'UNIT'
[Service]
ExecStart=
ExecStart=/opt/agentpipe/bin/agent-supervisor %i
Environment=PATH=/opt/agentpipe/bin:/usr/bin:/bin AGENT_HOME=/var/lib/agentpipe AGENT_CLAIM_GRACE=0
RestartSec=1
UNIT
  docker exec "$container" systemctl daemon-reload
}

teardown_file() { docker rm -f "$container" >/dev/null 2>&1 || true; }

setup() {
  load ../helpers
}

teardown() { inside systemctl stop agent-supervisor@default || true; }

inside() { docker exec -e PATH=/opt/agentpipe/bin:/usr/bin:/bin -e AGENT_HOME=/var/lib/agentpipe "$container" "$@"; }

enqueue() {  # SHELL SCRIPT: prints the task's id
  docker exec -i -e AGENT_HOME=/var/lib/agentpipe "$container" /opt/agentpipe/bin/python - "$1" <<'PY'
import sys

from agentpipe.pull import queues
from agentpipe.transport import api

store = api.connect()
queue = queues.Queues(store, ["default"], create=True).ids[0]
task = store.call("tasks.create", {"name": "a unit's task", "type": "training", "script": {
    "binary": "bash", "entry_point": "main.sh", "diff": sys.argv[1] + "\n"}})["id"]
store.call("tasks.enqueue", {"task": task, "queue": queue})
print(task)
PY
}

state() { inside /opt/agentpipe/bin/agent-task show "$1" --json | field .status; }
is() { [ "$(state "$1")" = "$2" ]; }
unit_is() { inside systemctl is-active agent-supervisor@default | grep -x "$1"; }
printed() { inside sh -c 'grep -qs "$1" /var/lib/agentpipe/state/tasks/*/log' sh "$1"; }

@test "the unit serves the queue, and is idle and healthy afterwards" {
  task=$(enqueue 'echo "hello from a unit"')
  inside systemctl start agent-supervisor@default
  wait_for 60 is "$task" completed
  printed 'hello from a unit'
  [ "$(inside systemctl is-active agent-supervisor@default)" = active ]
  inside systemctl stop agent-supervisor@default
  [ "$(inside systemctl is-failed agent-supervisor@default || true)" = inactive ]
}

@test "a drain lets the running task end, and the unit stays down" {
  task=$(enqueue 'echo begun; until [ -e /tmp/go ]; do sleep 0.1; done; echo over')
  inside systemctl start agent-supervisor@default
  wait_for 60 printed begun
  inside agent-supervisor --drain
  wait_for 30 inside sh -c 'journalctl -u agent-supervisor@default | grep "leaving after this task"'
  inside touch /tmp/go
  wait_for 60 is "$task" completed
  wait_for 30 unit_is inactive
}

@test "stopping the unit gives the running task back to its queue, where the next one finds it" {
  task=$(enqueue '[ ! -e /tmp/once ] || exit 0; touch /tmp/once; echo handed; sleep 600')
  inside systemctl start agent-supervisor@default
  wait_for 60 printed handed
  inside systemctl stop agent-supervisor@default
  is "$task" queued
  [ "$(inside systemctl is-failed agent-supervisor@default || true)" = inactive ]
  inside systemctl start agent-supervisor@default
  wait_for 60 is "$task" completed
}

@test "the supervisor is killed: systemd starts it again, and it serves on" {
  inside systemctl start agent-supervisor@default
  first=$(enqueue 'echo one')
  wait_for 60 is "$first" completed
  inside systemctl kill --kill-who=main --signal=KILL agent-supervisor@default
  second=$(enqueue 'echo two')
  wait_for 60 is "$second" completed
  [ "$(inside systemctl show -P NRestarts agent-supervisor@default)" -ge 1 ]
}
