# agent-report as a user types it: after an outage, with a receipt, for events of one's own, for a worker by hand.

bats_require_minimum_version 1.5.0
# shellcheck disable=SC2030,SC2031  # $id is set and read in the same test

setup() { load ../helpers; fresh; }

# a task that has run, but whose agent died before it could tell the server; sets $id and $dir
left_behind() {
  id=$(enqueue_shell "${1:-echo one; echo two}")
  agent-pull | agent-prepare | AGENT_CRASH_AT=${2:-report:shipped} agent-run || true
  dir=$(attempt "$id")
  [ -L "$dir/outcome" ]
}

log() { call events.get_task_log "{\"task\": \"$1\", \"after\": 0}" | py '
import json, sys
print("".join(event["msg"] for event in json.load(sys.stdin)["events"] if event.get("stream") == "log"), end="")'; }

# bats test_tags=local
@test "without words it says what it needs, and prints nothing" {
  run -64 --separate-stderr agent-report
  [ -z "$output" ]
  [[ $stderr == *"agent-report --all"* ]]
  run -64 agent-report --all --timeout -1
  run -64 agent-report worker w --queue ""
}

# bats test_tags=local
@test "with nothing left behind --all is silent" {
  run -0 agent-report --all
  [ -z "$output" ]
}

@test "the end of a task whose agent was killed is sent, and then nothing is left" {
  for point in run:decided report:shipped report:recorded report:status; do
    left_behind 'echo one; echo two' "$point"
    [ -n "$(ls "$AGENT_HOME/state/active")" ]
    agent-report "$dir"
    [ "$(status "$id")" = completed ]
    log "$id" | cmp - "$dir/log"
    [ -z "$(ls "$AGENT_HOME/state/active")" ]
  done
}

@test "the hooks on end run once, wherever agent-run was killed, also where the next agent-pull does the rest" {
  mkdir hooks
  printf '#!/bin/sh\necho ended >>"%s/ended"\n' "$PWD" >hooks/on-end
  chmod +x hooks/on-end
  export AGENT_HOOKS=$PWD/hooks
  for point in run:decided report:recorded report:status; do
    rm -f ended
    left_behind 'exit 3' "$point"
    [ ! -e ended ]
    AGENT_CLAIM_GRACE=0 agent-pull
    [ "$(cat ended)" = ended ]
    [ "$(status "$id")" = failed ]
    [ -z "$(ls "$AGENT_HOME/state/active")" ]
  done
}

@test "--all finishes what nobody works on, and says what it did as JSON" {
  left_behind 'echo late; exit 3'
  run -0 --separate-stderr agent-report --all --json
  [ "$(field .task <<<"$output")" = "$id" ]
  [ "$(field .end <<<"$output")" = script_failed ]
  [ "$(field .acknowledged <<<"$output")" = true ]
  [ "$(status "$id")" = failed ]
  run -0 agent-report --all --json
  [ -z "$output" ]
}

# bats test_tags=local
@test "a receipt names its task's directory" {
  id=$(enqueue_shell 'echo hello')
  agent-pull | agent-prepare | agent-run >receipt.json
  run -0 --separate-stderr agent-report --json receipt.json
  [ "$(field .end <<<"$output")" = completed ]
  agent-report - <receipt.json
}

@test "what another process works on is left to it (75)" {
  left_behind
  run -75 --separate-stderr flock "$dir/lock" agent-report "$dir"
  [[ $stderr == *"is being worked on"* ]]
  [ "$(status "$id")" = in_progress ]
}

@test "what stands between two stages of a living pipeline is left to it (75)" {
  id=$(enqueue_shell 'echo hello')
  export AGENT_CLAIM_GRACE=0
  # a file's line is held by the shell that wrote it
  agent-pull | agent-prepare >line.json
  run -75 --separate-stderr agent-report "$(attempt "$id")"
  [[ $stderr == *"is being worked on"* ]]
  run -0 agent-report --all --json
  [ -z "$output" ]
  agent-run <line.json >receipt.json
  [ "$(status "$id")" = completed ]
}

# bats test_tags=local
@test "a directory that is not there is 66, and the others are done all the same" {
  left_behind
  run -123 --separate-stderr agent-report missing "$dir" also-missing
  [[ $stderr == *"no directory missing"* ]]
  [ "$(status "$id")" = completed ]
}

@test "a manifest of another server is refused (78)" {
  left_behind
  sed -i 's/"server":"[^"]*"/"server":"another"/' "$dir/manifest.json"
  run -78 agent-report "$dir"
}

@test "events of one's own are stored" {
  id=$(enqueue_shell 'echo hello')
  for step in 1 2 3; do
    echo "{\"type\": \"training_stats_scalar\", \"metric\": \"loss\", \"variant\": \"val\", \"iter\": $step, \"value\": 0.$step}"
  done | agent-report events --task "$id" --json >sent.json
  [ "$(field .events sent.json)" = 3 ]
  call events.scalar_metrics_iter_histogram "{\"task\": \"$id\"}" >curve.json
  [ "$(field .loss.val.y curve.json)" = "[0.1, 0.2, 0.3]" ]
}

# bats test_tags=local
@test "an event that is none is refused with its line (65), those before it are stored" {
  id=$(enqueue_shell 'echo hello')
  printf '%s\n' "{\"type\": \"log\", \"task\": \"$id\", \"msg\": \"good\"}" '{"type": "log"}' >lines.ndjson
  run -65 --separate-stderr agent-report events <lines.ndjson
  [[ $stderr == *"line 2: task is missing"* ]]
  [ "$(call events.get_task_log "{\"task\": \"$id\"}" | field .events.0.msg)" = good ]
  run -65 --separate-stderr agent-report events <<<'{"type": "log", "task": "nobody", "msg": "x"}'
  [[ $stderr == *"up to line 1: "* ]]
  [[ $stderr == *"Invalid task id nobody"* ]]
}

@test "a worker is registered until it is told to stop" {
  agent-report worker bench:9 --queue default 3>&- &
  worker=$!
  registered() { [ "$(call workers.get_all | field .workers.0.id)" = bench:9 ]; }
  wait_for 10 registered
  kill "$worker"
  wait "$worker"
  [ "$(call workers.get_all | field .workers)" = "[]" ]
}

@test "a worker of a queue that is not there is refused (66)" {
  run -66 agent-report worker bench:9 --queue nowhere
  [ "$output" = "agent-report: no queue \`nowhere\`; there are: default" ]
}
