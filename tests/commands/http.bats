# The commands over HTTP: the same tests again, against a server that knows our claims and one that does not.

# shellcheck disable=SC2016 # what stands in single quotes is for other shells
bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

teardown() { local pid; for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done; }

# a pull of one home, whose shell is gone; task.json
pulled_elsewhere() {
  AGENT_HOME=$BATS_TEST_TMPDIR/login sh -c 'agent-pull default >task.json; :'
}

@test "the pipeline split over two homes, as in a Slurm job: the first home's recovery does not start the task again" {
  for kind in ours clearml; do
    serve "$kind"
    id=$(enqueue_shell 'echo ran; until [ -e go ]; do sleep 0.1; done')
    pulled_elsewhere
    export AGENT_HOME=$BATS_TEST_TMPDIR/node-$kind
    sh -c 'agent-prepare --quiet <task.json | agent-run --quiet >receipt.json' &
    pid=$!
    wait_for 20 sh -c 'grep -qs ran "$AGENT_HOME"/state/tasks/*/log'
    AGENT_CLAIM_GRACE=0 AGENT_HOME=$BATS_TEST_TMPDIR/login run -0 --separate-stderr agent-pull default
    [ -z "$output" ]
    [ "$(status "$id")" = in_progress ]
    touch "$(attempt "$id")/code/go"
    ended $pid
    [ "$(status "$id")" = completed ]
    [ "$(agent-task log --stream log "$id")" = ran ]
    # the line has been used up, for both
    run -75 agent-prepare task.json
    AGENT_HOME=$BATS_TEST_TMPDIR/login run -75 agent-prepare task.json
  done
}

@test "a line of another home whose task was given back meanwhile is refused: 75" {
  for kind in ours clearml; do
    serve "$kind"
    id=$(enqueue_shell 'echo ran')
    pulled_elsewhere
    AGENT_CLAIM_GRACE=0 AGENT_HOME=$BATS_TEST_TMPDIR/login agent-pull >again.json
    AGENT_HOME=$BATS_TEST_TMPDIR/node run -75 agent-prepare task.json
    agent-task stop "$id" >/dev/null
  done
}

@test "a stage that dies in the midst of taking a task over from another home: the task still runs, once" {
  for kind in ours clearml; do
    serve "$kind"
    id=$(enqueue_shell "echo run >>$PWD/runs-$kind")
    pulled_elsewhere
    AGENT_HOME=$PWD/node-$kind AGENT_CRASH_AT=adopt:written run agent-prepare --quiet task.json
    [ "$status" -eq 137 ]
    for home in login node-$kind; do
      AGENT_CLAIM_GRACE=0 AGENT_HOME=$PWD/$home sh -c 'agent-pull default | agent-prepare --quiet | agent-run --quiet >>receipts'
    done
    [ "$(cat "runs-$kind")" = run ]
    [ "$(status "$id")" = completed ]
  done
}
