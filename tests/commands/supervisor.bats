# agent-supervisor: the loop, its signals, its names.

# shellcheck disable=SC2016 # what stands in single quotes is for the scripts of tasks
bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; export PATH=$ROOT/cmds:$PATH; }

teardown() {
  local pid
  touch "$HOME/go" "$HOME/mended"
  for pid in $(jobs -p); do
    kill -TERM "$pid" 2>/dev/null || true
    kill -TERM "$pid" 2>/dev/null || true
  done
}

supervise() { agent-supervisor "$@" 2>"${said:-said}" 3>&- & supervisor=$!; }
idle() { call workers.get_all | python3 -c '
import json, sys
sys.exit(not any(not worker.get("task") for worker in json.load(sys.stdin)["workers"]))'; }
waits() { wait_for 10 idle; }
is() { [ "$(status "$1")" = "$2" ]; }
has_started() { wait_for 20 grep -qs started "$AGENT_HOME/state/tasks/$1.${2:-1}/log"; }

@test "an option after the queue is a mistake, no queue" {
  run -64 --separate-stderr agent-supervisor default --jobs 2
  [[ $stderr == *"options stand before the queues: --jobs"* ]]
}

@test "--help, and mistakes: one line and 64" {
  run -0 agent-supervisor --help
  [[ $output == usage:*--jobs* ]]
  run -64 agent-supervisor
  [ "$output" = "agent-supervisor: which queue? (agent-supervisor --help)" ]
  run -64 agent-supervisor --jobs many default
  run -64 agent-supervisor --qeueu default
}

@test "tasks run one after the other, each as it comes, until TERM" {
  one=$(enqueue_shell 'echo one')
  supervise default
  wait_for 20 is "$one" completed
  two=$(enqueue_shell 'exit 3')
  wait_for 20 is "$two" failed
  three=$(enqueue_shell 'echo three')
  wait_for 20 is "$three" completed
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
}

@test "while it waits, exactly one Python process of it runs" {
  supervise default
  waits
  session=$(pgrep -P "$supervisor")
  [ "$(wc -w <<<"$session")" -eq 1 ]
  [ -z "$(pgrep -P "$session")" ]
  [[ $(readlink "/proc/$session/exe") == *python* ]]
  [[ $(readlink "/proc/$supervisor/exe") != *python* ]]
}

@test "the first TERM lets the running task end, the second stops it: it is queued again" {
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  supervise default
  has_started "$id"
  kill -TERM "$supervisor"
  wait_for 5 grep -q "leaving after this task" said
  is "$id" in_progress
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
  is "$id" queued
  [[ $(agent-task why "$id") == *"it is next"* ]]
}

@test "after one TERM the task completes and no other is taken" {
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  next=$(enqueue_shell 'echo never')
  supervise default
  has_started "$id"
  kill -TERM "$supervisor"
  touch "$HOME/go"
  ended "$supervisor"
  is "$id" completed
  is "$next" queued
}

@test "HUP leaves the script running; the next supervisor takes it over, and it runs once" {
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo over')
  supervise default
  has_started "$id"
  kill -HUP "$supervisor"
  ended "$supervisor"
  is "$id" in_progress
  supervise default
  touch "$HOME/go"
  wait_for 30 is "$id" completed
  [ "$(agent-task log --stream log "$id")" = "started
over" ]
  [ ! -e "$AGENT_HOME/state/tasks/$id.2" ]
}

@test "a killed supervisor: its task goes on, a second one starts under another name beside it" {
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  said=first supervise default
  has_started "$id"
  kill -KILL "$supervisor"
  said=second supervise default
  wait_for 10 grep -q serves second
  first=$(sed -n 's/^agent-supervisor: \(.*\) serves.*/\1/p' first)
  second=$(sed -n 's/^agent-supervisor: \(.*\) serves.*/\1/p' second)
  [ -n "$first" ] && [ -n "$second" ] && [ "$first" != "$second" ]
  touch "$HOME/go"
  wait_for 30 is "$id" completed
}

@test "a waiting pull ends with a supervisor that was killed" {
  supervise default
  waits
  pull=$(pgrep -P "$supervisor")
  kill -KILL "$supervisor"
  wait_for 5 gone "$pull"
}

@test "one worker name, one supervisor" {
  said=first supervise --worker box default
  wait_for 10 grep -q 'box serves' first
  run -75 agent-supervisor --worker box default
  [[ $output == *"another process serves as box"* ]]
}

@test "--jobs 2 runs two tasks at the same time, each under its own name" {
  one=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  two=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  supervise --jobs 2 --worker box default
  has_started "$one"
  has_started "$two"
  kill -TERM "$supervisor"
  touch "$HOME/go"
  ended "$supervisor"
  [ "$status" -eq 0 ]
  is "$one" completed
  is "$two" completed
  [ "$(cat "$AGENT_HOME"/state/tasks/*/claim | grep -o 'box:[01]' | sort -u | wc -l)" -eq 2 ]
}

@test "a slot of --jobs that was killed is started again, under its name" {
  supervise --jobs 2 --worker box default
  served() { [ "$(grep -c "box:$1 serves" said)" -eq "$2" ]; }
  wait_for 10 served 0 1
  wait_for 10 served 1 1
  kill -KILL "$(pgrep -P "$supervisor" -f 'box:1')"
  wait_for 20 served 1 2
  served 0 1
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
}

@test "a state directory that cannot be used is said, and its code is the exit status" {
  run -73 env AGENT_HOME=/proc/nowhere agent-supervisor default
  [[ $output == *"cannot create /proc/nowhere"* ]]
  mkdir -p "$AGENT_HOME/state/workers/box.lock" # nothing can be written under that name
  run -73 agent-supervisor --worker box default
  [[ $output == *"cannot write in $AGENT_HOME/state/workers"* ]]
}

@test "it backs off while something fails, and goes on when that is over" {
  id=$(enqueue_shell 'echo ran')
  export AGENT_STAGE_PULL='test -e "$HOME/mended" && exec agent-pull "$@"'
  supervise default
  wait_for 10 grep -q 'trying again in 2 s' said
  touch "$HOME/mended"
  wait_for 20 is "$id" completed
}

@test "a stage that stands in for ours runs in the loop" {
  id=$(enqueue_shell 'echo ran')
  export AGENT_STAGE_RUN='tee -a "$HOME/seen" | agent-run "$@"'
  supervise default
  wait_for 20 is "$id" completed
  [ "$(field .task.id "$HOME/seen")" = "$id" ]
}

@test "--status says what the workers of this machine serve and run; --drain lets the task end" {
  [ -z "$(agent-supervisor --status)" ]
  run -66 agent-supervisor --stop
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  supervise --worker box --fair default
  has_started "$id"
  [ "$(agent-supervisor --status)" = "box	--fair default 	runs $id" ]
  run -66 agent-supervisor --drain other
  agent-supervisor --drain box
  wait_for 5 grep -q "leaving after this task" said
  touch "$HOME/go"
  ended "$supervisor"
  [ "$status" -eq 0 ]
  is "$id" completed
  [ -z "$(agent-supervisor --status)" ]
}

@test "--stop stops the task, which is queued again, and waits until the supervisor is gone, its slots included" {
  id=$(enqueue_shell 'echo started; sleep 60')
  supervise --jobs 2 --worker box default
  has_started "$id"
  wait_for 10 grep -q 'box:1 serves' said
  [ "$(agent-supervisor --status box | wc -l)" -eq 2 ]
  agent-supervisor --stop box
  run -0 gone "$supervisor"
  is "$id" queued
  [ -z "$(agent-supervisor --status)" ]
}

@test "--exit-on-error leaves with the stage's status, instead of trying again" {
  export AGENT_STAGE_PULL='exit 9'
  run -9 timeout 20 agent-supervisor --exit-on-error default
  [[ $output == *"something failed (exit 9)"* ]]
  CLEARML_AGENT_CRASH_ON_EXCEPTION=1 run -9 timeout 20 agent-supervisor default
  run -9 timeout 20 agent-supervisor --exit-on-error --jobs 2 default
}

@test "--gpus and --cpu-only pin what tasks see, and are in the worker's name" {
  id=$(enqueue_shell 'echo "<$CUDA_VISIBLE_DEVICES> $CLEARML_WORKER_ID"')
  CLEARML_WORKER_NAME=box supervise --gpus 0,2-3 default
  wait_for 20 is "$id" completed
  [ "$(agent-task log --stream log "$id")" = "<0,2,3> box:gpu0,2,3" ]
  agent-supervisor --stop
  id=$(enqueue_shell 'echo "<$CUDA_VISIBLE_DEVICES> $CLEARML_WORKER_ID"')
  CLEARML_WORKER_NAME=box supervise --cpu-only default
  wait_for 20 is "$id" completed
  [ "$(agent-task log --stream log "$id")" = "<> box:cpu:0" ]
  for wrong in 0:1 x 3-1 '' 0,,1; do run -64 agent-supervisor --gpus "$wrong" default; done
}

@test "outside of its hours it takes nothing; what agent-pull refuses is said" {
  id=$(enqueue_shell 'echo never')
  supervise --downtime '0-24 SUN-SAT' default
  waits
  is "$id" queued
  agent-supervisor --stop
  run -78 timeout 20 agent-supervisor --exit-on-error --downtime '1 MON' --uptime '2 MON' default
  run -64 agent-supervisor --services-mode 5 default
  [[ $output == *"--services --jobs N"* ]]
  run -78 agent-supervisor --use-owner-token default
  [[ $output == *"paid"* ]]
}

# services DEFAULT…: a supervisor in services mode, which TERM leaves running tasks to the next
services() { agent-supervisor --services "$@" 2>"${said:-said}" 3>&- & supervisor=$!; }
workers_of() { call workers.get_all | python3 -c '
import json, sys
print(" ".join(sorted(each["id"] for each in json.load(sys.stdin)["workers"])))'; }
serves_as() { [ "$(workers_of)" = "$1" ]; }

@test "--services: tasks run side by side, each a worker of its own, up to --jobs" {
  one=$(enqueue_shell 'echo started; until [ -e "$HOME/one" ]; do sleep 0.05; done')
  two=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  three=$(enqueue_shell 'echo started')
  services --jobs 2 --worker w default
  has_started "$one"
  has_started "$two"
  wait_for 10 serves_as "$(printf 'w:service:%s\n' "$one" "$two" | sort | paste -sd ' ')"
  [ "$(status "$three")" = queued ]
  touch "$HOME/one"
  wait_for 20 is "$one" completed
  wait_for 20 is "$three" completed
  [ "$(status "$two")" = in_progress ]
  touch "$HOME/go"
  wait_for 20 is "$two" completed
  wait_for 10 serves_as w
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
  [ -z "$(ls "$AGENT_HOME/state/active")" ]
}

@test "--services: TERM leaves tasks running, the next supervisor takes them over; a second TERM stops them" {
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo over')
  services --worker w default
  has_started "$id"
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
  [ "$(status "$id")" = in_progress ]
  export AGENT_CLAIM_GRACE=0
  services --worker w default
  wait_for 20 grep -q 'taking over' "$(attempt "$id")/setup.log"
  wait_for 10 serves_as "w w:service:$id"
  touch "$HOME/go"
  wait_for 20 is "$id" completed
  [ "$(cat "$(attempt "$id")/log")" = $'started\nover' ]
  rm "$HOME/go"
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  has_started "$id"
  kill -TERM "$supervisor"
  kill -TERM "$supervisor" || true
  ended "$supervisor"
}

@test "--services: one Python process waits, however many may run" {
  services --jobs 50 --worker w default
  waits
  [ "$(pgrep -f 'agent-pull --wait --services' | wc -l)" -le 2 ]
  [ "$(find "$AGENT_HOME/state/workers" -name '*.pulled' | wc -l)" -eq 1 ]
}

@test "--services: one that fails runs again by the policy, with its log, until that is over; a stopped one does not" {
  export CLEARML_AGENT_SERVICES_DOCKER_RESTART='on-failure:2;script.entry_point=main.sh'
  id=$(enqueue_shell 'echo "run $AGENT_TASK_DIR"; exit 3')
  services --worker w default
  wait_for 30 test -s "$AGENT_HOME/state/tasks/$id.3/log"
  wait_for 20 is "$id" failed
  call events.get_task_log "{\"task\": \"$id\"}" | grep -o 'run [^"]*\.[123]' | wc -l | grep -x 3
  export two=$id
  id=$(enqueue_shell 'echo started; sleep 60')
  has_started "$id"
  call tasks.stop "{\"task\": \"$id\"}"
  wait_for 20 is "$id" stopped
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$(status "$two")" = failed ]
  [ "$(status "$id")" = stopped ]
  [ ! -e "$AGENT_HOME/state/tasks/$two.4" ]
}
