# agent-task, around a queue: drafts, clones, places, second runs, putting away; one task or many, by what names them.

# shellcheck disable=SC2016 # what stands in single quotes is for the scripts of tasks
bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; shared_environments; }

pipeline() { agent-pull default | agent-prepare --quiet | agent-run --quiet >receipt.json; }
script_of() { agent-task show --json "$1" | field ".script.$2"; }
place() { agent-task why "$1" | sed -n '2p'; }

@test "create makes a draft that clone queues with other arguments, and both stay what they are" {
  make_repo work train.py 'import sys; print("got", sys.argv[1:])'
  draft=$(agent-task create --repo work --tag base train.py -- --epochs 3 --lr=0.1)
  [ "$(status "$draft")" = created ]
  run -0 --separate-stderr agent-task clone "$draft" --set Args/epochs=5 --set lr=0.2 --queue default
  clone=$output
  [ -z "$stderr" ]
  [ "$(script_of "$clone" entry_point)" = "train.py --epochs 5 --lr=0.2" ]
  [ "$(agent-task show --json "$clone" | field .hyperparams.Args.epochs.value)" = 5 ]
  [ "$(agent-task show --json "$clone" | field .tags)" = '["base"]' ]
  run -0 pipeline
  [ "$(agent-task log --stream log "$clone")" = "got ['--epochs', '5', '--lr=0.2']" ]
  [ "$(script_of "$draft" entry_point)" = "train.py --epochs 3 --lr=0.1" ]
}

@test "clone: words after -- are all the arguments; packages, branch, image and name are the clone's own" {
  make_repo work
  draft=$(agent-task create --repo work --requirements none train.py -- --epochs 3)
  id=$(agent-task clone "$draft" --package 'six<2' --docker alpine:3 --name mine --project elsewhere/deep -- -v)
  [ "$(script_of "$id" entry_point)" = "train.py -v" ]
  other=$(agent-task clone "$draft" --set epochs=7 -- --epochs 5 -v)
  [ "$(script_of "$other" entry_point)" = "train.py --epochs 7 -v" ]
  [[ $(script_of "$id" requirements.pip) == *"six<2"* ]]
  [ "$(agent-task show --json "$id" | field .container.image)" = alpine:3 ]
  [ "$(agent-task list --json --project elsewhere | field .name)" = mine ]
  [ "$(status "$id")" = created ]
}

@test "clone refuses what cannot be right before anything is made; what nothing would read is said" {
  draft=$(agent-task create --name base "$(echo 'echo hi' >job.sh; echo job.sh)")
  for bad in '--set epochs' '--set /=1' '--package numpy<' '--name ab' '--queue nosuch'; do
    # shellcheck disable=SC2086
    run agent-task clone "$draft" $bad
    [ "$status" -ne 0 ]
    [ "${#lines[@]}" -eq 1 ]
  done
  [ "$(agent-task list --json | wc -l)" -eq 1 ]
  run -0 agent-task clone "$draft" --set Args/epochs=5
  [[ $output == *"only a script that uses the clearml package reads it"* ]]
}

@test "a waiting task moves to the front, back, up and down, and to another queue" {
  a=$(enqueue_shell 'true'); b=$(enqueue_shell 'true'); c=$(enqueue_shell 'true')
  [[ $(place "$c") == *"2 before it"* ]]
  run -0 agent-task move "$c"
  [[ $output == "agent-task: $c: in default, it is next" ]]
  agent-task move --back "$c"
  [[ $(place "$c") == *"2 before it"* ]]
  agent-task move --up 1 "$c"
  [[ $(place "$b") == *"2 before it"* ]]
  agent-task move --down 2 "$a"
  [[ $(place "$a") == *"2 before it"* ]]
  call queues.create '{"name": "other"}'
  [ "$(agent-task move --json --queue other "$a" | field .queue)" = other ]
  [[ $(place "$a") == *"waits in other"*"it is next"* ]]
  run -64 agent-task move --up 1 --down 1 "$b"
  run -64 agent-task move --up 0 "$b"
}

@test "dequeue takes it out, whatever it was before: a draft, or a task that is to continue" {
  id=$(enqueue_shell 'exit 3')
  agent-task dequeue "$id"
  [ "$(status "$id")" = created ]
  run -75 agent-task move "$id"
  [[ $output == *"(agent-task enqueue $id)" ]]
  agent-task enqueue "$id"
  run -3 pipeline
  run -0 agent-task dequeue "$id"
  [[ $output == *"failed, it stands in no queue" ]]
  agent-task continue "$id"
  agent-task dequeue "$id"
  [ "$(status "$id")" = failed ]
}

@test "continue keeps the log of the run before, enqueue begins anew" {
  id=$(enqueue_shell 'echo "run $(ls "$HOME" | wc -l)"; touch "$HOME/$$"; exit 3')
  run -3 pipeline
  agent-task continue "$id"
  run -3 pipeline
  [ "$(agent-task log --stream log "$id")" = "run 0
run 1" ]
  agent-task enqueue "$id"
  run -3 pipeline
  [ "$(agent-task log --stream log "$id")" = "run 2" ]
}

@test "what a script has saved in its directory is found by its next attempt here, and by none after a reset" {
  export AGENT_LAST_ATTEMPT=/elsewhere
  id=$(enqueue_shell 'echo "before: $(cat "$AGENT_LAST_ATTEMPT/ckpt" 2>/dev/null)"; echo "of $AGENT_TASK_DIR" >ckpt; exit 3')
  run -3 pipeline
  first=$(attempt "$id")
  run -0 agent-task continue "$id"
  [[ $output == *"in $first/code, which its script finds as AGENT_LAST_ATTEMPT here"* ]]
  run -3 pipeline
  [ "$(agent-task log --stream log "$id")" = "before: 
before: of $first" ]
  [[ $(agent-task log --stream setup "$id") == *"AGENT_LAST_ATTEMPT is where the attempt before this one ran: $first/code"* ]]
  rm -rf "$(attempt "$id")/code"
  run -0 agent-task continue "$id"
  [[ $output != *AGENT_LAST_ATTEMPT* ]]
  agent-task dequeue "$id"; agent-task enqueue "$id"
  run -3 pipeline
  [ "$(agent-task log --stream log "$id")" = "before: " ]
}

@test "reset makes a draft of an ended task, and touches none that runs" {
  id=$(enqueue_shell 'echo once')
  pipeline
  run -0 agent-task reset "$id"
  [[ $output == *"the log of its former run is gone"* ]]
  [ "$(status "$id")" = created ]
  agent-task enqueue "$id"
  agent-task stop "$id"
  other=$(enqueue_shell 'true')
  agent-task stop "$other"
  run -0 agent-task reset "$other" # which never ran
  [ "$output" = "agent-task: $other: a draft again" ]
  agent-task enqueue "$id"
  agent-pull default >line
  call tasks.started "{\"task\": \"$id\", \"force\": true}"
  for verb in reset dequeue archive delete continue; do
    run -75 agent-task "$verb" "$id"
    [[ $output == *"is running (agent-task stop $id)" ]]
  done
}

@test "archived tasks are out of sight until they are asked for, and can be deleted; others need --force" {
  id=$(enqueue_shell 'true')
  pipeline
  run -75 agent-task delete "$id"
  [[ $output == *"(agent-task archive $id, or agent-task delete --force $id)" ]]
  agent-task archive "$id"
  [ -z "$(agent-task list)" ]
  [[ $(agent-task list --archived) == *"${id:0:8}"* ]]
  run -0 agent-task enqueue "$id"
  [[ $output == *"it is archived, so that list leaves it out (agent-task unarchive $id)"* ]]
  agent-task stop "$id"
  agent-task unarchive "$id"
  agent-task continue "$id"
  run -0 agent-task archive --json "$id"
  [ "$(field .status <<<"$output")" = stopped ]
  agent-task unarchive "$id"
  [[ $(agent-task list) == *"${id:0:8}"* ]]
  agent-task archive "$id"
  agent-task delete "$id"
  run -66 agent-task show "$id"
  id=$(enqueue_shell 'true')
  pipeline
  agent-task delete --force "$id"
  run -66 agent-task show "$id"
}

@test "many tasks come through a pipe: ids, names, and the JSON of list" {
  a=$(enqueue_shell 'exit 1'); b=$(enqueue_shell 'exit 2')
  agent-task edit --name second "$b"
  agent-task list --status queued --json | agent-task stop --json - >stopped
  [ "$(wc -l <stopped)" -eq 2 ]
  [ "$(field .status stopped)" = stopped ]
  printf '%s\n\nsecond\n' "${a:0:10}" | agent-task enqueue - >queued
  [ "$(tr '\n' ' ' <queued)" = "$a $b " ]
  run -123 sh -c "printf '%s\nnosuch\n' $a | agent-task why -"
  [[ $output == *"$a: queued"*"no task \`nosuch\`"* ]]
  run -65 sh -c "echo '{\"x\": 1}' | agent-task stop -"
  run -0 sh -c "agent-task stop - </dev/null"
}

@test "list finds by project, tags, text, and time, and shows the columns that are asked for" {
  make_repo work
  one=$(agent-task create --repo work --project vision/base --tag a --tag b train.py -- --epochs 3)
  two=$(agent-task create --repo work --project vision --tag a --name 'weird [name]' train.py)
  ids() { agent-task list --json "$@" | py 'import json, sys; print(*sorted(json.loads(line)["id"] for line in sys.stdin))'; }
  both=$(printf '%s\n' "$one" "$two" | sort | paste -sd' ')
  [ "$(ids --project vision)" = "$both" ]
  [ "$(ids --project vision/base)" = "$one" ]
  [ "$(ids --tag a --tag b)" = "$one" ]
  [ "$(ids --text 'weird [name')" = "$two" ]
  [ "$(ids --text 'epochs 3')" = "$one" ]
  [ "$(ids --since 1h)" = "$both" ]
  [ -z "$(ids --since 2999-01-01)" ]
  run -0 agent-task list --columns id,project,tags,entry_point --tag b
  [[ ${lines[0]} == "ID        PROJECT      TAGS  ENTRY_POINT" ]]
  [[ ${lines[1]} == "${one:0:8}  vision/base  a, b  train.py --epochs 3" ]]
  run -64 agent-task list --columns bogus
  run -64 agent-task list --since lately
  run -66 agent-task list --project nosuch
}

@test "list --limit 0 gives all of them, page after page" {
  py '
from agentpipe.transport import api
store = api.connect()
for number in range(1003):
    store.call("tasks.create", {"name": f"task {number}", "type": "training"})'
  [ "$(agent-task list --limit 0 --json | sort -u | wc -l)" -eq 1003 ]
  [ "$(agent-task list --limit 700 --json | wc -l)" -eq 700 ]
}

@test "tags are added and taken away at any time" {
  id=$(enqueue_shell 'true')
  agent-task edit --tag keep --tag gold "$id"
  [ "$(agent-task edit --json --drop-tag gold "$id" | field .changed)" = '["tags"]' ]
  [ "$(agent-task show --json "$id" | field .tags)" = '["keep"]' ]
  run -66 agent-task edit --drop-tag gold "$id"
  [ "$(status "$id")" = queued ]
}

@test "edit: a branch is taken at its newest, --drop-diff leaves changes behind" {
  make_repo work
  git -C work branch other
  echo 'print("changed")' >>work/train.py
  id=$(agent-task create --repo work train.py)
  agent-task edit --branch other --drop-diff "$id"
  [ "$(script_of "$id" branch)/$(script_of "$id" version_num)/$(script_of "$id" diff)" = "other//" ]
  alone=$(agent-task create "$(echo true >job.sh; echo job.sh)")
  run -64 agent-task edit --drop-diff "$alone"
}

@test "log --errors gives the lines that tell of errors with their tracebacks, -n the last ones" {
  make_repo work train.py 'print("step 1"); print("error: 0.25, 0 errors"); print("loading failed: x.bin")
for n in range(30): print("line", n)
def f(): raise KeyError("lost")
f()'
  id=$(agent-task enqueue --repo work train.py)
  run -1 pipeline
  run -0 agent-task log --errors --stream log "$id"
  [ "${lines[0]}" = "loading failed: x.bin" ]
  [ "${lines[1]}" = "Traceback (most recent call last):" ]
  [ "${lines[-1]}" = "KeyError: 'lost'" ]
  [[ $output != *"step 1"* && $output != *"0 errors"* ]]
  [ "$(agent-task log --stream log -n 1 "$id")" = "KeyError: 'lost'" ]
  [ "$(agent-task log --errors --json --stream log "$id" | field .line)" = "loading failed: x.bin" ]
  [ -z "$(agent-task log --since 2999-01-01 "$id")" ]
  [ "$(agent-task log --since 1h --stream log "$id" | wc -l)" -eq "$(agent-task log --stream log "$id" | wc -l)" ]
}

@test "a mistyped command names the one that is meant; each --help has examples" {
  run -64 agent-task enqeue train.py
  [[ $output == 'agent-task: no command `enqeue`; `enqueue` may be meant (agent-task --help)' ]]
  for verb in $(python3 -c 'from agentpipe.cmds import agent_task; print(*agent_task.GROUP.words())'); do
    run -0 agent-task "$verb" --help
    [[ $output == *"Examples:"*"agent-task $verb"* || $output == *"Examples:"*"| agent-task $verb"* ]]
  done
}

@test "a container: image, arguments and set-up script are told by enqueue, changed by edit, kept by clone" {
  echo 'echo hi' >job.sh
  printf 'if true; then\n  apt-get install -y ffmpeg\nfi\n' >setup.sh
  id=$(agent-task enqueue --create-queue --queue gpu --docker alpine:3 --docker-args '--ipc=host -e A="b c"' --setup-script @setup.sh job.sh)
  [ "$(agent-task show --json "$id" | field .container.image)" = alpine:3 ]
  [ "$(agent-task show --json "$id" | field .container.arguments)" = '--ipc=host -e A="b c"' ]
  [ "$(agent-task show --json "$id" | field .container.setup_shell_script)" = "$(cat setup.sh; echo)" ]
  copy=$(agent-task clone "$id" --docker-args '')
  run -0 --separate-stderr agent-task create --docker-args --ipc=host job.sh
  [[ $stderr == *"agent-task: --docker-args go with an image: without --docker a worker that has one of its own leaves "* ]]
  run -0 --separate-stderr agent-task create --docker alpine:3 --docker-args --ipc=host job.sh
  [[ $stderr != *"go with an image"* ]]
  [ "$(agent-task show --json "$copy" | field .container.image)" = alpine:3 ]
  [ "$(agent-task show --json "$copy" | field .container.arguments)" = null ]
  run -64 agent-task enqueue --queue gpu --docker 'alpine:3 --ipc=host' job.sh
  [[ $output == *"not the name of an image"*"--docker-args"* ]]
  run -66 agent-task enqueue --queue gpu --docker alpine:3 --setup-script @nosuch.sh job.sh
}

@test "shell: on the host, where a script runs, with what it sees; a task that has not run here is not found" {
  task=$(enqueue_shell "export MINE=1; echo begun; until [ -e '$PWD/go' ]; do sleep 0.05; done")
  agent-pull default | agent-prepare >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 20 grep -q begun "$(attempt "$task")/log"
  run -0 agent-task shell "$task" -- sh -c 'pwd; echo "$AGENT_TASK_DIR"'
  [ "$output" = "$(field .fetch.code line)"$'\n'"$(attempt "$task")" ]
  touch go
  ended "$run_pid"
  other=$(enqueue_shell 'true')
  # SIGPIPE and SIGXFSZ, which Python ignores, and a shell cannot undo
  run -0 agent-task shell "$task" -- grep SigIgn /proc/self/status
  [ $((16#${output##*[[:space:]]} & 0x1001000)) -eq 0 ]
  run -66 agent-task shell "$other"
  [[ $output == *"has not run on this machine"* ]]
  agent-pull default >/dev/null
  run -66 agent-task shell "$other"
  [[ $output == *"its set-up here came to no end (agent-task why $other)"* ]]
}
