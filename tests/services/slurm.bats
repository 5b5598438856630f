#!/usr/bin/env bats
# The job script of examples/ in a real Slurm (root, Debian): a job ends as its task does, and gives it back in time.

bats_require_minimum_version 1.5.0

setup_file() {
  # shellcheck disable=SC2155 # its failure is seen by the tests
  export "$("$BATS_TEST_DIRNAME/slurm-up.sh")"
}

teardown_file() { "$BATS_TEST_DIRNAME/slurm-down.sh"; }

setup() {
  load ../helpers
  fresh
  export XDG_STATE_HOME=$PWD/state
}

teardown() { [ -z "${job:-}" ] || scancel "$job" 2>/dev/null || true; }

# submitted TASK: its job, in `job`
submitted() { job=$(sbatch --parsable --time=10 "$ROOT/examples/slurm/task.sbatch" --id "$1"); }
over() { [ -z "$(squeue -h -j "$job" 2>/dev/null)" ]; }
state() { agent-task show "$1" --json | field .status; }
is() { [ "$(state "$1")" = "$2" ]; }
printed() { agent-task log "$1" 2>/dev/null | grep -qx "$2"; }

@test "a job takes the task that it is told, and ends as its script does" {
  echo 'echo hello; exit 7' >main.sh
  task=$(agent-task enqueue main.sh)
  submitted "$task"
  wait_for 30 over
  printed "$task" hello
  is "$task" failed
  scontrol show job "$job" | grep -q 'ExitCode=7:0'
  [ "$(field .run.exit "receipt-$job.json")" = 7 ]
}

@test "where its folder on the node is another user's, a job takes no task" {
  mkdir theirs
  chown nobody theirs
  echo 'echo hello' >main.sh
  task=$(agent-task enqueue main.sh)
  XDG_STATE_HOME=$PWD/theirs submitted "$task"
  wait_for 30 over
  grep -q 'theirs is not ours: set XDG_STATE_HOME' "agentpipe-$job.log"
  is "$task" queued
}

@test "a job whose time is nearly over gives its task back, and the next one runs it to its end" {
  echo 'echo begun; [ -e "$1/over" ] || sleep 100' >main.sh
  task=$(agent-task enqueue main.sh -- "$PWD")
  submitted "$task"
  wait_for 30 printed "$task" begun
  scancel --batch --signal=TERM "$job" # as --signal=B:TERM@120
  wait_for 30 over
  is "$task" queued
  touch over
  submitted "$task"
  wait_for 30 over
  is "$task" completed
}
