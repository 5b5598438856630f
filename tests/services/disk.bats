#!/usr/bin/env bats
# A file system that fills up while a script runs (a tmpfs of its own; root).

bats_require_minimum_version 1.5.0

setup() {
  load ../helpers
  fresh
  mkdir -p "$AGENT_HOME/state"
}

teardown() { umount "$BATS_TEST_TMPDIR"/agent/state/tasks "$BATS_TEST_TMPDIR"/agent 2>/dev/null || true; }

small() {  # DIR: a file system of 8 MB there
  mkdir -p "$1"
  mount -t tmpfs -o size=8m,mode=700 agentpipe-test "$1"
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
