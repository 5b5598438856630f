#!/usr/bin/env bats
# agent-pull, as a user types it.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

@test "pull from an empty queue prints nothing and exits 0" {
  run agent-pull default
  [ "$status" -eq 0 ]
  [ -z "$output" ]
}

@test "an empty pipeline of three and of five is silent and exits 0" {
  run sh -c 'agent-pull default | agent-prepare | agent-run'
  [ "$status" -eq 0 ]
  [ -z "$output" ]
  run sh -c 'agent-pull default | agent-fetch | agent-patch | agent-env | agent-run'
  [ "$status" -eq 0 ]
  [ -z "$output" ]
}

# bats test_tags=claims
@test "a task comes out with who pulled it, and is gone from its queue" {
  id=$(enqueue_shell 'echo hi')
  agent-pull default >task.json
  [ "$(field .task.id task.json)" = "$id" ]
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.runtime._exec_agent_hostname)" = "$(uname -n)" ]
  [ "$(field .pull.claim task.json | wc -c)" -eq 33 ]
  [ "$(call queues.get_all | field .queues.0.entries)" = "[]" ]
  [ "$(status "$id")" = queued ]
}

@test "an empty queue or task, of a variable that is not set, is 64 and takes nothing" {
  id=$(enqueue_shell 'true')
  for words in "" "default " "--create-queue " "--id " "--owner 0"; do
    # shellcheck disable=SC2086 # to be split
    run -64 --separate-stderr agent-pull ${words% *} "${words##* }"
    [ "${#stderr_lines[@]}" -eq 1 ]
  done
  [ "$(status "$id")" = queued ]
}

@test "an unknown queue is named, with what there is and what to do" {
  run agent-pull gpu </dev/null
  [ "$status" -eq 66 ]
  [[ $output == *'no queue `gpu`'*default*--create-queue* ]]
}

# bats test_tags=local
@test "spaces around a queue's name are none of it, as on the server" {
  [ -z "$(agent-pull --create-queue ' lead')" ]
  [ -z "$(agent-pull --create-queue ' lead')" ]
}

# bats test_tags=local
@test "a mistyped option is one line and 64, under dash too" {
  run dash -c 'agent-pull --qeueu default'
  [ "$status" -eq 64 ]
  [[ $output == *"agent-pull --help"* ]]
}

# bats test_tags=local
@test "--help has examples" {
  run agent-pull --help
  [ "$status" -eq 0 ]
  [[ $output == *"agent-pull gpu | agent-prepare | agent-run"* ]]
}

@test "queues are asked in order of priority" {
  low=$(enqueue_shell 'echo low' low)
  high=$(enqueue_shell 'echo high' high)
  [ "$(agent-pull high low | field .task.id)" = "$high" ]
  [ "$(agent-pull --no-recover high low | field .task.id)" = "$low" ]
}

@test "--id takes that task out of the middle of its queue, once" {
  enqueue_shell 'echo 1'
  id=$(enqueue_shell 'echo 2')
  agent-pull --id "$id" >task.json
  [ "$(field .task.id task.json)" = "$id" ]
  [ "$(field .pull.queue_name task.json)" = default ]
  run agent-pull --no-recover --require-queue --id "$id"
  [ "$status" -eq 75 ]
}

@test "--id takes the beginning of an id" {
  id=$(enqueue_shell 'echo one')
  agent-pull --id "${id:0:8}" >task.json
  [ "$(field .task.id task.json)" = "$id" ]
}

@test "--id with no such task says so" {
  run agent-pull --id 0123456789abcdef
  [ "$status" -eq 66 ]
  [[ $output == *"no task 0123456789abcdef"* ]]
}

# bats test_tags=local
@test "a password in the repository's URL stands in no manifest, and in a file of ours only" {
  call tasks.create '{"name":"secret","type":"training","script":{"repository":"https://me:s3cr3tpw@example.org/r.git","entry_point":"t.py"}}' >created
  call tasks.enqueue "{\"task\": \"$(field .id created)\"}" >enqueued
  agent-pull default >task.json
  [ "$(field .task.script.repository task.json)" = "https://example.org/r.git" ]
  directory=$(attempt "$(field .id created)")
  [ "$(grep -rl s3cr3tpw "$directory")" = "$directory/secrets.json" ]
  [ "$(stat -c %a "$directory/secrets.json")" = 600 ]
  agent-prepare <task.json 2>/dev/null | agent-run >/dev/null 2>&1 || true
  [ "$(status "$(field .id created)")" = failed ]
  run grep -rl s3cr3tpw "$AGENT_HOME/state/tasks"
  [ "$status" -eq 1 ] # its end is acknowledged
}

# bats test_tags=local
@test "a task that its server has and no stage could read fails, and its owner is told why" {
  deep=$(printf '[%.0s' {1..300})$(printf ']%.0s' {1..300})
  call tasks.create "{\"name\": \"odd\", \"type\": \"training\", \"runtime\": {\"x\": $deep}}" >created
  id=$(field .id created)
  call tasks.enqueue "{\"task\": \"$id\"}"
  run -65 sh -c 'agent-pull default | agent-prepare | agent-run'
  [ "$(status "$id")" = failed ]
  run -0 agent-task why "$id"
  [[ $output == *"setup_failed, exit 65, in agent-pull"*"nested too deeply"* ]]
}

# bats test_tags=claims
@test "a waiting pull wakes up for a task" {
  agent-pull --wait default >task.json &
  wait_for 10 sh -c 'ls "$AGENT_HOME"/state/active/* && ls "$AGENT_HOME"/state/workers'
  id=$(enqueue_shell 'echo hi')
  wait $!
  [ "$(field .task.id task.json)" = "$id" ]
}

@test "TERM to a waiting pull ends it with 75 and leaves nothing claimed" {
  agent-pull --wait default >told &
  wait_for 10 sh -c 'ls "$AGENT_HOME"/state/active/*'
  kill -TERM $!
  ended $!
  [ "$status" -eq 75 ]
  [ "$(field .failed.exit told)" = 75 ]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
}

# bats test_tags=claims
@test "a reader that is gone gets no task: it is queued again" {
  id=$(enqueue_shell 'echo hi')
  run bash -c 'set -o pipefail; { sleep 0.1; agent-pull default; } | true'
  [ "$status" -ne 0 ]
  [ "$(status "$id")" = queued ]
  [ "$(call queues.get_all | field .queues.0.entries.0.task)" = "$id" ]
}

# bats test_tags=local
@test "a node whose disk is short leaves the task in its queue" {
  id=$(enqueue_shell 'echo hi')
  run -0 --separate-stderr agent-pull --need-disk 900000T default
  [ -z "$output" ]
  [[ $stderr == "agent-pull: no task is taken: "*" GiB free, --need-disk wants "*" GiB" ]]
  AGENT_NEED_DISK=900000T run -0 --separate-stderr agent-pull --id "$id"
  [[ -z $output && $stderr == *"GiB free, AGENT_NEED_DISK wants "* ]]
  AGENT_NEED_DISK=900000T run -0 agent-config check disk
  [[ $output == *"warning room: no task is taken: "*"AGENT_NEED_DISK wants"* ]]
  [ "$(call queues.get_all | field .queues.0.entries.0.task)" = "$id" ]
  run -64 agent-pull --need-disk much default
  [[ $output == *"--need-disk is no size: much"* ]]
  AGENT_NEED_DISK=much run -78 agent-pull default
  agent-pull --need-disk 1k default >task.json
  [ "$(field .task.id task.json)" = "$id" ]
}

@test "a pull that waits for room takes the task when there is some" {
  id=$(enqueue_shell 'echo hi')
  mkdir -p "$AGENT_HOME/cache"
  cat >statvfs.py <<'PY'
import os, sys
real = os.statvfs
# as on a disk that is full until the file `room` is there
class Full:
    f_bavail, f_frsize = 0, 4096
os.statvfs = lambda path: real(path) if os.path.exists("room") else Full
from agentpipe.pull import waiting
waiting.NOT_NOW = 0.2
from agentpipe.cmds import agent_pull
sys.argv[1:] = ["--wait", "--need-disk", "1k", "default"]
agent_pull.main()
PY
  "$ROOT/.venv/bin/python" statvfs.py >task.json 2>said 3>&- & pid=$!
  wait_for 20 grep -q 'no task is taken' said
  [ "$(call queues.get_all | field .queues.0.entries.0.task)" = "$id" ]
  touch room
  ended $pid
  [ "$status" -eq 0 ]
  [ "$(field .task.id task.json)" = "$id" ]
  [ "$(grep -c 'no task is taken' said)" = 1 ]
}

# bats test_tags=local
@test "a pre-pull hook that fails means no work" {
  id=$(enqueue_shell 'echo hi')
  mkdir -p "$HOME/.config/agentpipe/hooks"
  printf '#!/bin/sh\necho closed today >&2\nexit 1\n' >"$HOME/.config/agentpipe/hooks/pre-pull"
  chmod +x "$HOME/.config/agentpipe/hooks/pre-pull"
  run agent-pull default
  [ "$status" -eq 0 ]
  [[ $output == *"closed today"* ]]
  [[ $output != *'"task"'* ]]
  tasks=$(call tasks.get_all '{"only_fields": ["id"]}')
  run -0 agent-pull --id "$id" --clone
  [ "$(call tasks.get_all '{"only_fields": ["id"]}')" = "$tasks" ]  # not even a copy was made
}

@test "--id --clone takes a copy, and leaves the task as it is" {
  id=$(enqueue_shell 'echo hi')
  run -0 --separate-stderr agent-pull --id "$id" --clone
  copy=$(field .task.id <<<"$output")
  [ "$copy" != "$id" ]
  [ "$(field .task.name <<<"$output")" = "Clone of a shell script" ]
  [ "$(status "$id")" = queued ]
  run -64 agent-pull --clone
  run -66 agent-pull --id nope --clone
}

# bats test_tags=claims
@test "outside of its hours a worker takes nothing, and a queue's tag force_workers beats them" {
  id=$(enqueue_shell 'echo hi')
  always='0-24 SUN-SAT'
  queue=$(call queues.get_all '{"name": "^default$"}' | field '.queues[0].id')
  run -0 --separate-stderr agent-pull --downtime "$always" default
  [ -z "$output" ]
  call queues.update "{\"queue\": \"$queue\", \"tags\": [\"force_workers:off\"]}"
  run -0 --separate-stderr agent-pull --uptime "$always" default
  [ -z "$output" ]
  call queues.update "{\"queue\": \"$queue\", \"tags\": [\"force_workers:on\"]}"
  CLEARML_AGENT__AGENT__DOWNTIME=$always agent-pull default >task.json
  [ "$(field .task.id task.json)" = "$id" ]
}

# bats test_tags=local
@test "hours that cannot be meant, or both kinds, are one line" {
  run -64 --separate-stderr agent-pull --uptime '9-17' default
  [[ $stderr == *'"17-20 TUE"'* ]]
  run -78 --separate-stderr agent-pull --uptime '9 MON' --downtime '9 TUE' default
  CLEARML_AGENT__AGENT__UPTIME='9 MON' CLEARML_AGENT__AGENT__DOWNTIME='9 TUE' run -78 --separate-stderr agent-pull default
  [ "${#stderr_lines[@]}" -eq 1 ]
}

# bats test_tags=claims
@test "--require-queue: of two schedulers that start the same task at once, each under its own home, exactly one gets it" {
  for _ in 1 2 3; do
    id=$(enqueue_shell 'echo hi')
    pids=()
    for home in one two three; do # the store of this machine has but one home
      ( [ -z "${CLEARML_API_HOST:-}" ] || export AGENT_HOME=$PWD/$home
        code=0; agent-pull --no-recover --id "$id" --require-queue >$home.json 2>$home.said || code=$?
        echo $code >$home.code ) &
      pids+=($!)
    done
    wait "${pids[@]}"
    cat ./*.said
    [ "$(cat one.code two.code three.code | sort -n | tr '\n' ' ')" = "0 75 75 " ]
    [ "$(cat one.json two.json three.json | grep -c '"claim"')" -eq 1 ]
  done
}

@test "--fair takes turns between the queues, and CLEARML_AGENT_DEBUG_GET_NEXT_TASK shows what is asked" {
  for queue in aaa aaa bbb bbb; do enqueue_shell 'echo hi' $queue >>ids; done
  py - >order <<'PY'
from agentpipe.claim import claims
from agentpipe.pull import queues
from agentpipe.transport import api
server = api.connect()
wanted = queues.Queues(server, ["aaa", "bbb"], fair=True)
for _ in range(4):
    claim, line = queues.next_task(server, "box:0", wanted, wait=False)
    print(line["pull"]["queue_name"])
    claim.end()
PY
  [ "$(tr '\n' ' ' <order)" = "aaa bbb aaa bbb " ]
  CLEARML_AGENT_DEBUG_GET_NEXT_TASK=1 run -0 --separate-stderr agent-pull --fair aaa bbb
  [[ $stderr == *"queues.get_next_task aaa: {}"*"queues.get_next_task bbb: {}"* ]]
}
