#!/usr/bin/env bats
# A file system that fills up while a script runs (a tmpfs of its own; root).

bats_require_minimum_version 1.5.0

setup() {
  load ../helpers
  fresh
  mkdir -p "$AGENT_HOME/state"
}

teardown() { umount "$BATS_TEST_TMPDIR"/agent/state/tasks "$BATS_TEST_TMPDIR"/agent/cache "$BATS_TEST_TMPDIR"/agent "$BATS_TEST_TMPDIR"/m 2>/dev/null || true; }

small() {  # DIR [SIZE]: a file system of 8 MB there
  mkdir -p "$1"
  mount -t tmpfs -o "size=${2:-8m},mode=700" agentpipe-test "$1"
}

@test "the disk of the tasks is full at the script's end: its exit status is right, and the store has it" {
  small "$AGENT_HOME/state/tasks"
  task=$(enqueue_shell 'echo begun; head -c 20000000 /dev/zero >"$AGENT_TASK_DIR/filler"; exit 5')
  run --separate-stderr bash -c 'agent-pull default | agent-prepare | agent-run >/dev/null'
  [ "$(df --output=avail "$AGENT_HOME/state/tasks" | tail -n 1)" -eq 0 ]
  [ "$status" -eq 5 ]
  [ "$(status "$task")" = failed ]
  [ -e "$(attempt "$task")/exit.5" ]
  [ "$(readlink "$(attempt "$task")/outcome")" = script_failed ]
  [[ $(agent-task why "$task") == *"exit 5; its log could not be written: the disk was full"*--need-disk* ]]
  [ -z "$(ls -A "$AGENT_HOME/state/active")" ]
}

@test "the store's own disk is full at the script's end: the status is right, and reported once there is room" {
  small "$AGENT_HOME"
  task=$(enqueue_shell 'echo begun; head -c 20000000 /dev/zero >"$AGENT_TASK_DIR/filler"; exit 0')
  # agent-run waits a minute for the store: it is killed instead, as an impatient operator would
  setsid bash -c 'agent-pull default | agent-prepare | agent-run >/dev/null' &
  pipeline=$!
  wait_for 30 test_exit "$task"
  kill -KILL -- "-$pipeline"
  wait "$pipeline" || true
  rm "$(attempt "$task")/filler"
  agent-pull default
  [ "$(status "$task")" = completed ]
  [ -z "$(ls -A "$AGENT_HOME/state/active")" ]
}

test_exit() { [ -e "$(attempt "$1")/exit.0" ]; }

@test "no room at all: the stage says so in one line, and the task stays in its queue" {
  small "$AGENT_HOME/state/tasks"
  task=$(enqueue_shell 'echo hello')
  head -c 20000000 /dev/zero >"$AGENT_HOME/state/tasks/filler" 2>/dev/null || true
  run --separate-stderr bash -c 'agent-pull default | agent-prepare | agent-run >/dev/null'
  [ "$status" -ne 0 ]
  [[ "$stderr" == *"No space left"* ]]
  [[ "$stderr" != *Traceback* ]]
  rm "$AGENT_HOME/state/tasks/filler"
  agent-pull default | agent-prepare | agent-run >/dev/null
  [ "$(status "$task")" = completed ]
}

@test "no room for a checkout, then none for a diff: said as what it is, and nothing of it stays" {
  small "$AGENT_HOME/state/tasks"
  make_repo work train.py 'print("ran")'
  python3 -c "print(\"12345678\\n\" * 2500000)" >work/large
  cp -r work whole
  git -C whole add -A && git -C whole commit -qm large
  manifest() { printf '{"task":{"script":{"repository":"%s","entry_point":"train.py"}}}' "$PWD/$1"; }
  run --separate-stderr agent-fetch --quiet < <(manifest whole)
  [ "$status" -eq 73 ]
  [[ $stderr == *"large"*"the disk is full"* && $stderr != *damaged* ]]
  room=$(df --output=used "$AGENT_HOME/state/tasks" | tail -n 1)
  [ "$room" -lt 500 ]
  agent-fetch --quiet < <(manifest work) >fetched
  git -C work add -N large
  git -C work diff >changes.txt
  py - fetched changes.txt >with <<'PY'
import json, sys
manifest = json.load(open(sys.argv[1]))
manifest["task"]["script"]["diff"] = open(sys.argv[2]).read()
json.dump(manifest, sys.stdout)
PY
  run --separate-stderr agent-patch --quiet <with
  [ "$status" -eq 73 ]
  [[ $stderr == *"cannot write the diff"* ]]
  code=$(field .fetch.code fetched)
  [ -z "$(git -C "$code" status --porcelain)" ]
  run -0 agent-patch --quiet <fetched
}

@test "a disk without room for another file: 73 (of agent-run 125, 75) whichever file that is, and with room again the task runs, once" {
  mkdir m
  task=$(enqueue_shell 'echo ran >>"$SIDE"')
  export SIDE=$PWD/side AGENT_CLAIM_GRACE=0
  queued=$AGENT_HOME files=$(find "$AGENT_HOME" | wc -l)
  export AGENT_HOME=$PWD/m
  for more in 2 4 7 9 11 12 14 16 18 19 20; do
    mount -t tmpfs -o "nr_inodes=$((files + more)),mode=700" agentpipe-test m
    cp -a "$queued/." m
    code=0
    { agent-pull default >line && agent-prepare <line >prepared && agent-run <prepared; } >said 2>&1 || code=$?
    cat said
    [[ $code =~ ^(73|125|75)$ ]]
    [[ "$(cat said)" != *"a bug of ours"* ]]
    mount -o remount,nr_inodes=10000 m
    agent-pull default | agent-prepare | agent-run >receipt
    [ "$(status "$task")" = completed ]
    [ "$(cat "$SIDE")" = ran ]
    [ -z "$(ls -A "$AGENT_HOME/state/active")" ]
    rm side
    umount m
  done
}

@test "a store on a full or a read-only disk is read; what would change it is refused with what to do" {
  small "$AGENT_HOME"
  task=$(enqueue_shell 'echo hello')
  looks() {
    run -0 agent-task list
    [[ $output == *"${task:0:8}"*queued* ]]
    run -0 agent-task show "$task"
    run -0 agent-task why "$task"
    run -0 agent-task log "$task"
    run -0 agent-status
    [[ $output == *'"queued": 1'* ]]
    local change
    for change in "agent-task stop $task" "agent-config check server" "agent-supervisor default"; do
      run -73 timeout 10 bash -c "$change"
      [[ $output == *"$1"* ]]
    done
  }
  head -c 20000000 /dev/zero >"$AGENT_HOME/filler" 2>/dev/null || true
  looks "the disk is full"
  agent-task log -f "$task" >followed 3>&- &
  rm "$AGENT_HOME/filler"
  agent-pull default | agent-prepare | agent-run >/dev/null
  wait $! # who followed meanwhile sees it run
  grep -q hello followed
  task=$(enqueue_shell 'echo hello')
  rm -f "$AGENT_HOME"/state/agent.db-{wal,shm}
  mount -o remount,ro "$AGENT_HOME"
  looks "cannot write the store"
}

@test "a read-only disk on which the store's last changes stand in its log: said so, with what reads them" {
  small "$AGENT_HOME"
  task=$(enqueue_shell 'echo hello')
  "$ROOT/.venv/bin/python" - <<'PY' # dies with the store open
import os
from agentpipe.transport import api
api.connect().call("tasks.create", {"name": "the last one", "type": "training"})
os._exit(0)
PY
  rm "$AGENT_HOME/state/agent.db-shm"
  mount -o remount,ro "$AGENT_HOME"
  run -73 agent-task list
  [[ $output == *"its last changes stand in $AGENT_HOME/state/agent.db-wal, "*"read a copy: "* ]]
  command=${output#*read a copy: }
  run -0 bash -c "${command%)}"
  [[ $output == *"the last one"* ]]
}

@test "the cache is full, then read-only: the tasks stay in their queue, the supervisor pauses, and with room they run" {
  mkdir -p s/agentpipe
  unset AGENT_HOME
  export XDG_STATE_HOME=$PWD/s XDG_CACHE_HOME=$PWD/m
  small m 60m
  make_repo repo
  enqueue() { agent-task enqueue --repo "$PWD/repo" --branch main --requirements none train.py; }
  mkdir hooks
  printf '#!/bin/sh\necho >>%s/pulls; [ "$(wc -l <%s/pulls)" -le 2 ]\n' "$PWD" "$PWD" >hooks/pre-pull
  chmod +x hooks/pre-pull
  supervised() { # WORDS: until it has paused twice for 73; the third time would fail a task
    rm -f pulls
    AGENT_HOOKS=$PWD/hooks agent-supervisor default 2>said 3>&- & pid=$!
    wait_for 30 sh -c '[ "$(grep -c "something failed (exit 73); trying again in" said)" -ge 2 ]'
    kill -TERM $pid
    ended $pid
    grep -q "$1" said || { cat said; return 1; }
    [ "$(status "$first") $(status "$second")" = 'queued queued' ]
  }
  first=$(enqueue) second=$(enqueue)
  head -c 80000000 /dev/zero >m/filler 2>/dev/null || true
  supervised 'No space left'
  rm m/filler
  agent-pull default | agent-prepare | agent-run >/dev/null
  agent-pull default | agent-prepare | agent-run >/dev/null
  [ "$(status "$first") $(status "$second")" = 'completed completed' ]
  first=$(enqueue) second=$(enqueue)
  mount -o remount,ro m
  supervised 'Read-only file system'
}

@test "the disk gets full during a build: the environments that no task uses go, and it is built once more" {
  unset UV_CACHE_DIR
  export PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/index PIP_CONFIG_FILE=/dev/null
  export CLEARML_AGENT__AGENT__VENVS_CACHE__FREE_SPACE_THRESHOLD_GB=0
  py - "$ROOT/tests/unit" "$PWD/index" <<'PY'
import os, sys
sys.path.insert(0, sys.argv[1])
import wheelhouse
for name in ("one", "two", "three"):
    wheelhouse.wheel(sys.argv[2], name, "1.0", files={f"{name}/data": os.urandom(10 << 20).hex()})
PY
  env_of() { printf '{"task":{"script":{"requirements":{"pip":"%s"}}}}' "$1" | agent-env --quiet; }
  small "$AGENT_HOME/cache" 1g
  env_of one >first
  env_of two >second
  ln -s completed "$(dirname "$(field .env.overlay first)")/outcome" # its task is over
  used=$(df --output=used "$AGENT_HOME/cache" | tail -n 1)
  mount -o remount,size=$((used + 45000))k "$AGENT_HOME/cache"
  env_of three >third
  [ "$(field .env.packages third)" = '["three==1.0"]' ]
  [ "$(agent-env --list | wc -l)" -eq 2 ]
  grep -q 'the disk is full: 1 environment that no task uses had to go' "$(dirname "$(field .env.overlay third)")/setup.log"
  [[ $(agent-env --list) == *two==1.0* ]] # a task uses it
}
