# agent-supervisor: the loop, its signals, its names.

# shellcheck disable=SC2016 # what stands in single quotes is for the scripts of tasks
bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

teardown() {
  local pid
  touch "$HOME/go" "$HOME/mended"
  for pid in $(jobs -p); do
    kill -TERM "$pid" 2>/dev/null || true
    kill -TERM "$pid" 2>/dev/null || true
  done
}

supervise() { agent-supervisor "$@" 2>"${said:-said}" 3>&- & supervisor=$!; }
idle() { call workers.get_all | py '
import json, sys
sys.exit(not any(not worker.get("task") for worker in json.load(sys.stdin)["workers"]))'; }
waits() { wait_for 10 idle; }
is() { [ "$(status "$1")" = "$2" ]; }
has_started() { wait_for 20 grep -qs started "$AGENT_HOME/state/tasks/$1.${2:-1}/log"; }

# bats test_tags=local
@test "an option may stand behind the queue; one that is none is no queue" {
  run -64 --separate-stderr agent-supervisor default --exit-on-eror
  [[ $stderr == *"No such option: --exit-on-eror"* ]]
  AGENT_STAGE_PULL='exit 9' run -9 timeout 20 agent-supervisor default --exit-on-error
}

# bats test_tags=local
@test "--help, and mistakes: one line and 64" {
  run -0 agent-supervisor --help
  [[ $output == Usage:*--jobs* ]]
  run -64 agent-supervisor
  [ "$output" = "agent-supervisor: which queue? (agent-supervisor --help)" ]
  run -64 agent-supervisor --jobs many default
  run -64 agent-supervisor --jobs 0 default
  run -64 agent-supervisor --qeueu default
  run -64 timeout 20 agent-supervisor --json default # that is of --status
  run -64 timeout 20 agent-supervisor --uptime 99 default # or it would be refused again and again
  run -66 timeout 20 agent-supervisor default nosuch
  [ "$output" = "agent-supervisor: no queue \`nosuch\`; there are: default (the same with --create-queue)" ]
  AGENT_ON_LOST=requeu run -78 timeout 20 agent-supervisor --jobs 2 default
  [[ $output == "agent-supervisor: AGENT_ON_LOST is fail or requeue, not 'requeu'"* ]]
  CLEARML_AGENT_SERVICES_DOCKER_RESTART='rubbish;;;' run -78 timeout 20 agent-supervisor --services default
  [[ $output == "agent-supervisor: CLEARML_AGENT_SERVICES_DOCKER_RESTART=rubbish;;; is no policy (always, "* ]]
  for each in AGENT_NEED_DISK AGENT_HOOK_TIMEOUT AGENT_CLAIM_GRACE AGENT_ENVS_MAX_GB AGENT_PLACE; do
    run -78 env "$each=x" timeout 20 agent-supervisor default
    [[ $output == "agent-supervisor: $each is "* ]]
  done
  export CLEARML_AGENT__AGENT__EXTRA_DOCKER_ARGUMENTS='["--memory", "lots"]'
  run -78 timeout 20 agent-supervisor default
  [[ $output == "agent-supervisor: --memory lots: it is no size (mend the arguments of the container "* ]]
  AGENT_PLACE=host run -66 timeout 20 agent-supervisor nosuch # which has no containers
  unset CLEARML_AGENT__AGENT__EXTRA_DOCKER_ARGUMENTS
  run -64 timeout 20 agent-supervisor --create-queue qa
  [ "$output" = 'agent-supervisor: no queue can be called `qa`: a name has 3 characters or more' ]
  run -64 timeout 20 agent-supervisor "" # of a variable that is not set
  [ "$output" = "agent-supervisor: a QUEUE is empty (is the variable set that it comes from?)" ]
}

# bats test_tags=local
@test "with an empty PATH it finds what it needs" {
  id=$(enqueue_shell 'echo ran')
  there=$(command -v agent-supervisor)
  PATH='' "$there" --jobs 2 --worker box default 2>said 3>&- &
  supervisor=$!
  wait_for 20 is "$id" completed
  agent-supervisor --stop
  run -1 grep 'not found' said
}

# bats test_tags=polls
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

# bats test_tags=polls
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
  [ "$(call workers.get_all | field .workers)" = "[]" ]
}

# bats test_tags=polls
@test "HUP leaves the script running; the next supervisor takes it over, and it runs once" {
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo over')
  supervise default
  has_started "$id"
  kill -HUP "$supervisor"
  ended "$supervisor"
  is "$id" in_progress
  supervise default
  runs_it() { [[ $(agent-supervisor --status) == *"	runs $id" ]]; } # though under the name of the first
  wait_for 30 runs_it
  touch "$HOME/go"
  wait_for 30 is "$id" completed
  [ "$(agent-task log --stream log "$id")" = "started
over" ]
  [ ! -e "$AGENT_HOME/state/tasks/$id.2" ]
}

# bats test_tags=polls
@test "a killed supervisor: its task goes on, a second one starts under another name beside it" {
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  said=first supervise default
  has_started "$id"
  kill -KILL "$supervisor"
  said=second supervise default
  wait_for 10 grep -q serves second
  first=$(sed -n 's/^agent-supervisor: \(.*\) serves.*/\1/p' first)
  second=$(sed -n 's/^agent-supervisor: \(.*\) serves.*/\1/p' second)
  [[ $first && $second && $first != "$second" ]]
  touch "$HOME/go"
  wait_for 30 is "$id" completed
}

# bats test_tags=polls
@test "a waiting pull ends with a supervisor that was killed" {
  supervise default
  waits
  pull=$(pgrep -P "$supervisor")
  kill -KILL "$supervisor"
  wait_for 5 gone "$pull"
}

# bats test_tags=local
@test "one worker name, one supervisor" {
  said=first supervise --worker box default
  wait_for 10 grep -q 'box serves' first
  run -75 agent-supervisor --worker box default
  [[ $output == *"another process serves as box"* ]]
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
  run -1 grep -v '^agent-supervisor: ' first # nor does sh tell how its pauses end
}

# bats test_tags=local
@test "the name is locked whatever descriptors it was started with" {
  # the loops' number for the lock is the first free one then
  agent-supervisor --worker box default 2>first 3<&0 4<&0 5<&0 6<&0 7<&0 8<&0 </dev/null & supervisor=$!
  wait_for 10 grep -q 'box serves' first
  run -75 agent-supervisor --worker box default
  [[ $(agent-supervisor --status) == box$'\t'* ]]
}

# bats test_tags=local
@test "one that is told to leave before it serves says nothing to a pipe" {
  agent-supervisor default >out 2>said 3>&- & supervisor=$!
  wait_for 5 test -d "$AGENT_HOME"
  kill -TERM "$supervisor"
  wait "$supervisor" || true
  [ ! -s out ]
}

# bats test_tags=local
@test "a process that has got the number of a child that ended is left alone" {
  sleep 60 3>&- & other=$!
  run -127 timeout 10 sh -c '. "$1"; tell TERM "$2"; await "$2"' sh "$ROOT/cmds/agent-supervisor/shared.sh" "$other"
  kill -0 "$other"
}

# bats test_tags=local
@test "a child is ours also when its program's name has blanks" {
  cp "$(command -v sleep)" 'a name'
  run -0 timeout 10 sh -c '. "$1"; ./"a name" 9 & until grep -q name "/proc/$!/comm"; do :; done; is_ours "$!"; code=$?
    kill "$!"; exit "$code"' sh "$ROOT/cmds/agent-supervisor/shared.sh"
}

# bats test_tags=local
@test "one worker name with --jobs, one supervisor" {
  said=first supervise --jobs 2 --worker box default
  wait_for 10 grep -q 'box:1 serves' first
  run -75 timeout 20 agent-supervisor --jobs 2 --worker box default
  [[ $output == *"another process serves as box"* ]]
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
  run -1 grep -v '^agent-supervisor: ' first # nor does sh tell how its pauses end
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

# bats test_tags=local
@test "--jobs 2 whose supervisor is killed outright: each slot leaves, with its task done" {
  id=$(enqueue_shell 'until [ -e "$HOME/go" ]; do sleep 0.05; done')
  supervise --jobs 2 --worker box default
  wait_for 20 is "$id" in_progress
  kill -KILL "$supervisor"
  ended "$supervisor"
  wait_for 20 sh -c '[ "$(agent-supervisor --status | wc -l)" -eq 1 ]' # the other one waits for no task
  touch "$HOME/go"
  wait_for 20 is "$id" completed
  wait_for 20 sh -c '[ -z "$(agent-supervisor --status)" ]'
}

# bats test_tags=local
@test "--jobs 2 leaves when it is told to, also when it was started by what ignores the signals that it uses" {
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  env --ignore-signal=USR2,PWR agent-supervisor --jobs 2 default 3>&- & supervisor=$!
  has_started "$id"
  kill -TERM "$supervisor"
  touch "$HOME/go"
  wait_for 20 gone "$supervisor"
  is "$id" completed
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

# bats test_tags=local
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

# bats test_tags=local
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
  [ "$(agent-supervisor --status)" = "box	--fair default	runs $id" ]
  [ "$(agent-supervisor --status --json box | python3 -c 'import json, sys; print(json.load(sys.stdin)["task"])')" = "$id" ]
  run -66 agent-supervisor --drain other
  run -66 agent-supervisor --status other
  run -64 agent-supervisor --drain --stop
  agent-supervisor --drain box
  wait_for 5 grep -q "leaving after this task" said
  agent-supervisor --drain box # said twice it means the same
  sleep 1
  is "$id" in_progress
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

@test "--drain NAME:N lets one slot of --jobs leave, and it is not started again; with the last the others' starter" {
  supervise --jobs 2 --worker box default
  wait_for 10 grep -q 'box:0 serves' said
  wait_for 10 grep -q 'box:1 serves' said
  only() { [ "$(agent-supervisor --status)" = "box:1	default	" ]; }
  agent-supervisor --drain box:0
  wait_for 10 only
  id=$(enqueue_shell 'echo "$CLEARML_WORKER_ID"')
  wait_for 20 is "$id" completed
  [ "$(agent-task log --stream log "$id")" = box:1 ]
  run -0 only
  agent-supervisor --stop box:1
  ended "$supervisor"
  [ "$status" -eq 0 ]
}

# bats test_tags=local
# bats test_tags=local
@test "a file for the manifest that cannot be written is a failure like others (73)" {
  mkdir -p "$AGENT_HOME/state/workers"
  ln -s /no/such/folder/pulled "$AGENT_HOME/state/workers/w.pulled"
  run -73 timeout 20 agent-supervisor --exit-on-error --worker w default
}

# bats test_tags=local
@test "a task that a post-pull hook refuses has failed for that, and is no failure of the supervisor" {
  mkdir hooks
  printf '#!/bin/sh\necho too large >&2\nexit 1\n' >hooks/post-pull
  chmod +x hooks/post-pull
  id=$(enqueue_shell 'echo never')
  AGENT_HOOKS=$PWD/hooks supervise --exit-on-error default
  wait_for 20 is "$id" failed
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
  [[ $(agent-task why "$id") == *setup_failed*"too large"* ]]
}

@test "--exit-on-error leaves with the stage's status, instead of trying again" {
  export AGENT_STAGE_PULL='exit 9'
  run -9 timeout 20 agent-supervisor --exit-on-error default
  [[ $output == *"something failed (exit 9)"* ]]
  CLEARML_AGENT_CRASH_ON_EXCEPTION=1 run -9 timeout 20 agent-supervisor default
  run -9 timeout 20 agent-supervisor --exit-on-error --jobs 2 default
}

@test "a task that somebody else ends, in its set-up or in its script, is no failure of the supervisor" {
  mkdir hooks
  printf '#!/bin/sh\ngrep -q slow-set-up && { touch "$HOME/in-set-up"; sleep 60; }\nexit 0\n' >hooks/pre-fetch
  chmod +x hooks/pre-fetch
  first=$(enqueue_shell 'echo slow-set-up') second=$(enqueue_shell 'echo started; sleep 60') third=$(enqueue_shell 'echo third')
  AGENT_HOOKS=$PWD/hooks supervise --exit-on-error default
  wait_for 20 test -e "$HOME/in-set-up"
  call tasks.stopped "{\"task\": \"$first\", \"force\": true}"
  has_started "$second"
  call tasks.failed "{\"task\": \"$second\", \"force\": true}"
  wait_for 20 is "$third" completed
  is "$first" stopped
  is "$second" failed
  run -1 grep 'something failed' said
  grep -q "task $second: the task's status was changed to failed" said
}

# bats test_tags=local
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
workers_of() { call workers.get_all | py '
import json, sys
print(" ".join(sorted(each["id"] for each in json.load(sys.stdin)["workers"])))'; }
serves_as() { [ "$(workers_of)" = "$1" ]; }

# bats test_tags=polls
@test "--services: tasks run side by side, each a worker of its own, up to --jobs" {
  one=$(enqueue_shell 'echo started; until [ -e "$HOME/one" ]; do sleep 0.05; done')
  two=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  three=$(enqueue_shell 'echo started')
  services --jobs 2 --worker w default
  has_started "$one"
  has_started "$two"
  wait_for 10 serves_as "w $(printf 'w:service:%s\n' "$one" "$two" | sort | paste -sd ' ')"
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

# bats test_tags=polls
@test "--services: TERM leaves tasks running, the next supervisor takes them over; --stop stops them" {
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
  [ "$(agent-supervisor --status w)" = "w	default	runs $id" ]
  agent-supervisor --stop w
  run -0 gone "$supervisor"
  is "$id" queued
}

@test "--services: started by nohup it hears --drain, --stop and TERM, and takes no task after them" {
  for word in drain stop TERM; do
    nohup agent-supervisor --services --worker w default >said 2>&1 3>&- &
    supervisor=$!
    wait_for 20 serves_as w
    case $word in
      TERM) kill -TERM "$supervisor" ;;
      *) agent-supervisor "--$word" ;;
    esac
    wait_for 20 eval '! kill -0 $supervisor 2>/dev/null'
    wait_for 20 serves_as ''
  done
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  nohup agent-supervisor --services --worker w default >said 2>&1 3>&- &
  supervisor=$!
  has_started "$id"
  next=$(enqueue_shell 'true')
  wait_for 20 is "$next" completed
  wait_for 20 test -s "$AGENT_HOME/state/workers/w.receipt"
  [ "$(field .task.id "$AGENT_HOME/state/workers/w.receipt")" = "$next" ]
  agent-supervisor --stop
  wait_for 20 is "$id" queued
  # the pipeline that waited had no task, and leaves the last one's receipt
  grep -q '"task"' "$AGENT_HOME/state/workers/w.receipt"
}

# bats test_tags=polls
@test "--services: with one that was killed its waiting pull ends, and it is no obstacle to the next" {
  services --worker w default
  waits
  children=$(pgrep -P "$supervisor")
  kill -KILL "$supervisor"
  for child in $children; do wait_for 10 gone "$child"; done
  services --worker w default
  id=$(enqueue_shell 'echo ran')
  wait_for 20 is "$id" completed
}

@test "--services: a wrong setting of this machine is met with pauses, as without" {
  id=$(enqueue_shell 'true')
  AGENT_STAGE_ENV='sh -c "exit 127"' services --worker w default
  wait_for 30 is "$id" failed # the third time
  # said when the supervisor looks at its pipelines: two that have ended meanwhile are one
  grep -q 'something failed (exit 78); trying again in' said
  kill -TERM "$supervisor"
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

# bats test_tags=local
@test "a slot that is told to leave while its front reads the options shows no traceback" {
  for signal in USR2 PWR; do
    for delay in 0.02 0.05 0.08 0.11; do
      agent-supervisor --worker "w$signal$delay" default 2>>said 3>&- &
      sleep "$delay"
      kill -s "$signal" $! 2>/dev/null || true
      ended $!
    done
  done
  run -1 grep Traceback said
}

@test "a command in the place of a stage that is not there is refused as it starts" {
  for stage in PULL PREPARE ENV RUN; do
    export "AGENT_STAGE_$stage=nosuchcommand --here"
    run agent-supervisor default
    [ "$status" -eq 78 ]
    [[ $output == *"AGENT_STAGE_$stage: there is no nosuchcommand"* ]]
    unset "AGENT_STAGE_$stage"
  done
  AGENT_STAGE_FTECH='exec cat' run -78 agent-supervisor default
  [[ $output == *"AGENT_STAGE_FTECH stands in the place of no stage (it is one of AGENT_STAGE_PULL, "* ]]
}

@test "a stage that prints nothing is tried again with pauses, and so is a pull" {
  id=$(enqueue_shell 'true')
  for stage in PREPARE=false 'PREPARE=kill -9 $$' PULL=true 'PULL=echo garbage' 'PULL=echo {}'; do
    AGENT_CLAIM_GRACE=0 env "AGENT_STAGE_$stage" agent-supervisor default 2>said 3>&- &
    supervisor=$!
    case $stage in
      PULL=true) sleep 2; kill -0 "$supervisor" ;;
      *) wait_for 30 grep -q 'something failed (exit 65); trying again in 2 s' said ;;
    esac
    kill -TERM "$supervisor"
    ended "$supervisor"
    [ "$(find "$AGENT_HOME/state/tasks" -maxdepth 1 -name "$id.*" | wc -l)" -le 12 ]
  done
  export AGENT_CLAIM_GRACE=0
  agent-pull default | agent-prepare | agent-run >/dev/null
  is "$id" completed
  enqueue_shell 'true'
  AGENT_STAGE_RUN='cat >/dev/null' agent-supervisor default 2>said 3>&- & supervisor=$!
  wait_for 30 grep -q 'no receipt: cat >/dev/null printed nothing' said
  wait_for 30 grep -q 'something failed (exit 65); trying again in 2 s' said
  kill -TERM "$supervisor"
  ended "$supervisor"
}

@test "a machine whose settings fail one task after another pauses longer and longer" {
  first=$(enqueue_shell 'true'); second=$(enqueue_shell 'true')
  AGENT_STAGE_ENV='sh -c "exit 127"' agent-supervisor default 2>said 3>&- &
  supervisor=$!
  wait_for 30 is "$first" failed
  wait_for 30 grep -q 'trying again in 4 s' said
  kill -TERM "$supervisor"
  ended "$supervisor"
  is "$second" queued
}

# bats test_tags=local
@test "--status is a line for each, whatever its queues are called" {
  red=$'\e[31mred\nb'
  agent-supervisor --worker w --create-queue "$red" 2>said 3>&- & supervisor=$!
  wait_for 20 grep -q 'w serves' said
  run -0 agent-supervisor --status
  [ "$output" = $'w\t\\x1b[31mred\\nb\t' ]
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
}

@test "--services: a stage that prints nothing is tried again with pauses, as without" {
  for stage in 'PREPARE=cat >/dev/null' 'PREPARE=kill -9 $$'; do
    enqueue_shell 'true'
    AGENT_CLAIM_GRACE=0 env "AGENT_STAGE_$stage" agent-supervisor --services --jobs 2 default 2>said 3>&- &
    supervisor=$!
    wait_for 30 grep -q 'agent-supervisor: no receipt: agent-prepare printed nothing' said
    wait_for 30 grep -q 'something failed (exit [0-9]*); trying again in 1 s' said
    kill -TERM "$supervisor"
    ended "$supervisor"
    [ "$(grep -c 'printed nothing' said)" -le 4 ]
  done
}

@test "a command in the place of agent-pull that does nothing is started once a second, with --services too" {
  for words in '' --services '--services --jobs 2'; do
    rm -f calls
    # shellcheck disable=SC2086 # to be split
    AGENT_STAGE_PULL='echo >>calls' agent-supervisor $words default 2>said 3>&- & supervisor=$!
    wait_for 20 test -s calls
    SECONDS=0
    wait_for 20 sh -c '[ "$(wc -l <calls)" -ge 4 ]'
    [ "$SECONDS" -ge 2 ]
    kill -TERM "$supervisor"
    ended "$supervisor"
    [ "$status" -eq 0 ]
  done
}

@test "a supervisor that waits looks after what was left behind beside it" {
  id=$(enqueue_shell 'echo started; until [ -e "$HOME/go" ]; do sleep 0.05; done' night)
  setsid sh -c 'agent-pull night | agent-prepare | agent-run' >/dev/null 2>&1 3>&- & pipeline=$!
  has_started "$id"
  agent-supervisor default 2>said 3>&- & supervisor=$!
  kill -KILL -- "-$pipeline"
  touch "$HOME/go"
  wait_for 60 is "$id" completed
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
}

@test "a supervisor pauses after a task whose repository is away, and goes on, also with --exit-on-error" {
  url=http://127.0.0.1:9/r.git
  first=$(agent-task enqueue --repo $url --branch main --requirements none a.py)
  second=$(agent-task enqueue --repo $url --branch main --requirements none a.py)
  agent-supervisor --exit-on-error default 2>said 3>&- & supervisor=$!
  wait_for 60 grep -q 'what that task needs is away; the next one in 2 s' said
  [ "$(status "$first") $(status "$second")" = 'failed failed' ]
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$status" -eq 0 ]
}
