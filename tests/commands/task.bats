# agent-task, as its users type it: capture, queue, look, follow, stop, ask why, and do what it says.

# shellcheck disable=SC2016 # what stands in single quotes is for the scripts of tasks
bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; shared_environments; }

teardown() {
  local pid
  touch "$HOME/go" "$HOME/stop"
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
}

pipeline() { agent-pull default | agent-prepare --quiet | agent-run --quiet >receipt.json; }
script_of() { agent-task show --json "$1" | field ".script.$2"; }

# the age in seconds of a time that log -f prints, when it prints it
follow() { agent-task log -f "$1" | python3 -uc '
import sys, time
for line in sys.stdin:
    if line[:10].isdigit():
        print(time.time() - float(line))'; }

# a checkout `work` of a bare repository `remote.git`, one commit ahead of nothing
checkout() {
  make_repo work "$@"
  git clone -q --bare work remote.git
  git -C work remote add origin "$BATS_TEST_TMPDIR/remote.git"
  git -C work fetch -q
}

# bats test_tags=local
@test "without words it shows its commands, and that this was a mistake" {
  run -64 agent-task
  [[ $output == *enqueue*why* ]]
  run -0 agent-task --help
}

# bats test_tags=local
@test "a mistyped option is one line and 64" {
  run -64 agent-task enqueue --qeueu gpu train.py
  [ "${#lines[@]}" -eq 1 ]
  [[ $output == agent-task:*--qeueu* ]]
}

@test "an empty --queue or the like, of a variable that is not set, is 64: it would mean another thing" {
  id=$(enqueue_shell 'true')
  echo 'print(1)' >a.py
  for words in "enqueue a.py" "enqueue $id" "clone $id" "move $id" "continue $id" list; do
    # shellcheck disable=SC2086 # to be split
    run -64 --separate-stderr agent-task $words --queue ""
    [ "$stderr" = "agent-task: --queue is empty (is the variable set that it comes from?)" ]
    [ -z "$output" ]
  done
  for words in "list --project" "list --since" "list --text" "enqueue a.py --branch" "enqueue a.py --repo" "enqueue a.py --include" \
    "edit $id --repo" "edit $id --checkout" "clone $id --requirements" "edit $id --tag"; do
    # shellcheck disable=SC2086 # to be split
    run -64 --separate-stderr agent-task $words ""
    [[ $stderr == "agent-task: ${words##* } is empty (is the variable set that it comes from?)" && -z $output ]]
  done
  [ "$(agent-task list --json | wc -l)" -eq 1 ]
}

# bats test_tags=local
@test "from a checkout come remote, branch, commit, what is not committed, and arguments as words" {
  checkout
  cd work
  echo 'print("changed")' >>train.py
  run -0 --separate-stderr agent-task enqueue train.py -- --name "two words"
  [ -z "$stderr" ] || [[ $stderr != *warning* ]]
  id=$output
  [ "$(script_of "$id" repository)" = "$BATS_TEST_TMPDIR/remote.git" ]
  [ "$(script_of "$id" branch)" = main ]
  [ "$(script_of "$id" version_num)" = "$(git rev-parse HEAD)" ]
  [ "$(script_of "$id" entry_point)" = "train.py --name 'two words'" ]
  [[ $(script_of "$id" diff) == *'+print("changed")'* ]]
}

@test "the task runs what was captured, far from the checkout" {
  checkout train.py 'import sys; print("got", sys.argv[1:])'
  echo 'print("not committed")' >>work/train.py
  id=$(agent-task enqueue --repo work train.py -- --epochs 3)
  rm -rf work
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = "got ['--epochs', '3']
not committed" ]
}

# bats test_tags=local
@test "a subdirectory is where the script runs, as its user stands there" {
  checkout deep/er/train.py 'import os; print(os.path.basename(os.getcwd()))'
  cd work/deep
  id=$(agent-task enqueue er/train.py)
  [ "$(script_of "$id" working_dir)" = deep ]
  [ "$(script_of "$id" entry_point)" = er/train.py ]
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = deep ]
}

# bats test_tags=local
@test "a module runs as python -m would run it" {
  checkout pack/__init__.py '' pack/train.py 'import sys; print(__package__, sys.argv[1:])'
  cd work
  id=$(agent-task enqueue -m pack.train -- 7)
  [ "$(script_of "$id" entry_point)" = "-m pack.train 7" ]
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = "pack ['7']" ]
}

# bats test_tags=local
@test "the project is called as the repository, whatever the checkout's folder is" {
  checkout
  git -C work worktree add -q "$PWD/other"
  for folder in work other; do
    id=$(cd "$folder" && agent-task enqueue train.py 2>/dev/null)
    [ "$(agent-task list --columns project,id --json | field .project)" = remote ]
  done
}

# bats test_tags=local
@test "a commit that is not pushed is said with the command that pushes it" {
  checkout
  cd work
  git commit -q --allow-empty -m second
  run -0 --separate-stderr agent-task enqueue train.py
  [[ $stderr == *"not on origin"*"(git push origin main)"* ]]
  sh -c "$(sed -n 's/.*not on origin.*(\(git push .*\))$/\1/p' <<<"$stderr")" 2>/dev/null
  run -0 --separate-stderr agent-task enqueue train.py
  [[ $stderr != *"not on origin"* ]]
}

# bats test_tags=local
@test "a branch or a commit that is nowhere is said, and no push is suggested" {
  checkout
  cd work
  git push -q origin HEAD:training
  run -0 --separate-stderr agent-task enqueue --branch trainig train.py
  [[ $stderr == *"no branch trainig here, and not on origin either"*"did you mean training?"* && $stderr != *push* ]]
  run -0 --separate-stderr agent-task enqueue --commit deadbeef train.py
  [[ $stderr == *"no commit deadbeef here"* && $stderr != *push* ]]
  run -0 --separate-stderr agent-task enqueue --commit deadbeefdeadbeefdeadbeefdeadbeefdeadbeef train.py
  [[ $stderr == *"no commit deadbeefde here, and not on origin either"* && $stderr != *push* ]]
  # one that only the remote has is fine
  git branch -q -r -d origin/training 2>/dev/null || true
  run -0 --separate-stderr agent-task enqueue --branch training train.py
  [[ $stderr != *warning* ]]
}

@test "the commit that a branch was when it ran is on its task, and a clone of that gets the same code" {
  checkout
  cd work
  id=$(agent-task enqueue --branch main --repo "$BATS_TEST_TMPDIR/remote.git" train.py)
  [ "$(script_of "$id" version_num)" = null ]
  run -0 pipeline
  [ "$(script_of "$id" version_num)" = "$(git rev-parse main)" ]
}

# bats test_tags=local
@test "files that git does not know are said with the command that takes them along" {
  checkout
  cd work
  echo 'x = 1' >helper.py
  run -0 --separate-stderr agent-task enqueue train.py
  [[ $stderr == *helper.py*"(git add -N -- helper.py)"* ]]
  git add -N -- helper.py
  run -0 --separate-stderr agent-task enqueue train.py
  [[ $stderr != *helper.py* ]]
  [[ $(script_of "$output" diff) == *'+x = 1'* ]]
}

# bats test_tags=local
@test "a script that git does not know is refused: it would not come along" {
  checkout
  echo 'print(1)' >work/new.py
  run -66 agent-task enqueue --repo work new.py
  [[ $output == *"(git -C $PWD/work add -N -- new.py)" ]]
}

# bats test_tags=local
@test "what git is told to do is typed where one stands: in a folder of the checkout, or in another one" {
  checkout src/train.py 'print(1)'
  echo 'print(1)' >work/src/new.py
  cd work/src
  run -66 agent-task enqueue new.py
  [[ $output == *"(git add -N -- new.py)" ]]
  git add -N -- new.py
  touch a b c d ../top
  run -0 --separate-stderr agent-task enqueue new.py
  [[ $stderr == *"not known to git, stays here (git add -N -- ..)"* ]]
  git add -N -- ..
  git commit -q --allow-empty -m second
  make_repo "$BATS_TEST_TMPDIR/other"
  cd ../../other
  run -0 --separate-stderr agent-task enqueue --repo ../work src/train.py
  sh -c "$(sed -n 's/.*not on origin.*(\(git .*\))$/\1/p' <<<"$stderr")" 2>/dev/null
  run -0 --separate-stderr agent-task enqueue --repo ../work src/train.py
  [[ $stderr != *warning* ]]
}

# bats test_tags=local
@test "a password in a remote's address is neither stored nor printed" {
  make_repo work
  git -C work remote add origin https://me:s3cret@127.0.0.1:1/team/repo.git
  run -0 --separate-stderr agent-task enqueue --repo work train.py
  [[ $stderr != *s3cret* ]]
  [ "$(script_of "$output" repository)" = https://127.0.0.1:1/team/repo.git ]
  run ! grep -r s3cret "$AGENT_HOME"
}

@test "a queue's name with a line's end or an escape makes no second line and moves no terminal" {
  local red=$'\e[31mred\nagent-task: all is well'
  id=$(enqueue_shell "printf '\\033[32mgreen\\033[0m\\n'" "$red")
  for words in "agent-task clone $id --queue nosuch" "agent-pull nosuch" "agent-supervisor nosuch"; do
    # shellcheck disable=SC2086 # to be split
    run -66 --separate-stderr $words
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr == *'there are: '*'\x1b[31mred\nagent-task: all is well'* ]]
  done
  run -0 agent-config check server
  [[ $output == *'queues: '*'\x1b[31mred\nagent-task: all is well'* ]]
  agent-pull "$red" 2>/dev/null | agent-prepare --quiet | agent-run --quiet >receipt.json
  log=$(agent-task log "$id")
  [[ $log == *'pulled from \x1b[31mred\nagent-task: all is well by worker '* ]]
  [[ $log == *$'\e[32mgreen\e[0m'* ]] # what the script printed is its own
  run grep -c '^agent-task' <<<"$log"
  [ "$output" = 0 ]
}

# bats test_tags=local
@test "a login in --repo stays out of the task, with a line that says so: enqueue, clone and edit alike" {
  local verb
  id=$(agent-task create --requirements none --repo https://127.0.0.1:1/r.git --branch main x.py)
  for verb in "create --requirements none --branch main x.py" "clone $id" "edit $id"; do
    # shellcheck disable=SC2086 # words
    run -0 --separate-stderr agent-task $verb --repo https://bob:s3cret@127.0.0.1:1/other.git
    [[ $stderr == *"the login in --repo stays out of the task"*"agent.git_user"* ]]
    [ "$(call tasks.get_by_id "{\"task\": \"${output:-$id}\"}" | field .task.script.repository)" = https://127.0.0.1:1/other.git ]
  done
  run ! grep -r s3cret "$AGENT_HOME"
}

# bats test_tags=local
@test "the login of the checkout's remote stays out of the task, with a line that says so" {
  checkout
  git -C work update-ref refs/remotes/origin/main HEAD
  for remote in https://bob:s3cret@127.0.0.1:1/r.git https://bob:s3/cret@127.0.0.1:1/r.git; do
    git -C work remote set-url origin "$remote"
    run -0 --separate-stderr agent-task create --requirements none work/train.py
    [ "$stderr" = "agent-task: the login of remote origin stays out of the task: a worker takes its own (agent.git_user and\
 agent.git_pass, or what its user's git has: agent-fetch(1))" ]
    id=$output
    [ "$(script_of "$id" repository)" = https://127.0.0.1:1/r.git ]
    git -C work commit -q --allow-empty -m 'more'
    git -C work update-ref refs/remotes/origin/main HEAD
    run -0 --separate-stderr agent-task edit "$id" --checkout work
    [ "${stderr_lines[0]}" = "agent-task: the login of remote origin stays out of the task: a worker takes its own\
 (agent.git_user and agent.git_pass, or what its user's git has: agent-fetch(1))" ]
  done
  git -C work remote set-url origin https://127.0.0.1:1/r.git
  run -0 --separate-stderr agent-task create --requirements none work/train.py
  [ -z "$stderr" ]
  run ! grep -r s3cret "$AGENT_HOME"
}

# bats test_tags=local
@test "logins and secret query values that somebody wrote into a task's addresses are shown by nothing" {
  local kind=tasks.create words
  script() { printf '{"name": "a task", "type": "training", "script": {"repository": "https://bob:s3cret@127.0.0.1:1/r.git?private_token=s3cret%s",
    "branch": "main", "entry_point": "x.py --from https://bob:s3cretarg@h/data", "requirements":
    {"pip": "six\\n--extra-index-url https://bob:s3cret@127.0.0.1:1/simple?api-key=s3cret\\n"}},
    "hyperparams": {"Args": {"url": {"section": "Args", "name": "url", "value": "https://bob:s3cret@h/%s"}}}}' "$1" "$1"; }
  id=$(call $kind "$(script 1)" | field .id)
  other=$(call $kind "$(script 2)" | field .id)
  for words in "show $id" "show --json $id" "list --columns id,entry_point" "list --json" "time $id" "why $id"; do
    # shellcheck disable=SC2086 # words
    run agent-task $words
    [[ $output != *s3cret* ]] || { echo "$words: $output"; false; }
  done
  # a script stays one that can be run, and says what it lacks
  run -0 agent-task script "$id"
  [[ $output != *s3cret* ]]
  [[ $output == *"# left out are the logins"*$'\n#   https://h/data\n'*" x.py --from https://h/data </dev/null" ]]
  sh -n <<<"$output"
  run -1 agent-task diff "$id" "$other"
  [[ $output != *s3cret* ]]
  [[ $output == *"https://127.0.0.1:1/r.git?private_token=[REDACTED], with another login"* ]]
  [ "$(script_of "$id" repository)" = 'https://127.0.0.1:1/r.git?private_token=[REDACTED]' ]
}

# bats test_tags=local
@test "logins and tokens of addresses in arguments: why shows none, and its remedy, run as printed, keeps them" {
  make_repo work train.py 'import argparse
parser = argparse.ArgumentParser()
for name in ("--db", "--at", "--lr"):
    parser.add_argument(name)
print(vars(parser.parse_args())["lr"], flush=True)'
  arguments=(--db postgres://user:s3cretpw@host/db --at 'https://h/x?token=s3crettoken&y=1')
  run -0 agent-task enqueue --repo work --dry-run --requirements none --docker-args '-e A=redis://:s3cretpw@h' train.py -- "${arguments[@]}"
  [[ $output != *s3cret* ]]
  id=$(agent-task enqueue --repo work --requirements none train.py -- "${arguments[@]}" --lrr 3)
  pipeline || true
  run -0 agent-task why "$id"
  [[ $output != *s3cret* && $output == *"--lr may be meant"* ]]
  run -0 agent-task why --json "$id"
  [[ $output != *s3cret* ]]
  run -0 sh -c "$(field .remedy <<<"$output")"
  [[ $output != *s3cret* && $output == *"postgres://user@host/db stays as the task has it"* ]]
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.script.entry_point)" = "train.py --db postgres://user:s3cretpw@host/db --at 'https://h/x?token=s3crettoken&y=1' --lr 3" ]
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = 3 ]
  run -0 agent-task edit "$id" --set Args/zz=1
  [[ $output != *s3cret* && $output == *"--entry-point 'train.py"* ]]
  agent-task edit "$id" --docker-args '-e A=redis://:s3cretpw@h'
  run -0 agent-task edit "$id" --docker-args '-e A=redis://@h --cpus 1'
  [[ $output != *s3cret* ]]
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.container.arguments)" = '-e A=redis://:s3cretpw@h --cpus 1' ]
  run -64 agent-task enqueue "$id" -- "${arguments[@]}"
  [[ $output != *s3cret* ]]
}

# bats test_tags=local
@test "a token in the query of an address: git gets it whole, and it stands in nothing that the agent prints or keeps" {
  id=$(agent-task enqueue --requirements none --repo 'http://127.0.0.1:1/r.git?private_token=s3cretquery' --branch main x.py)
  [[ $(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.script.repository) == *=s3cretquery ]]
  agent-pull default | agent-prepare --verbose 2>said | agent-run >receipt.json 2>>said || true
  [ "$(field .failed.exit <receipt.json)" = 69 ]
  run ! grep -r s3cretquery said receipt.json "$AGENT_HOME/state/tasks/$id.1" --exclude=secrets.json
  run grep -c 's3cretquery' "$AGENT_HOME/state/tasks/$id.1/secrets.json"
  for words in "show $id" "why $id" "log $id"; do
    # shellcheck disable=SC2086 # words
    run agent-task $words
    [[ $output != *s3cretquery* ]] || { echo "$words: $output"; false; }
  done
}

@test "a name in the comments of agent-task script cannot play with the terminal" {
  id=$(call tasks.create '{"name": "a\u001b[2J\rtask", "type": "training", "script": {"diff": "print(1)", "entry_point": "x.py"}}' | field .id)
  run -0 agent-task script "$id"
  [[ $output == *'(a\x1b[2J\rtask)'* ]]
}

@test "a change that is not UTF-8, or binary, arrives byte for byte" {
  checkout train.py 'import hashlib
for name in ("latin.txt", "picture.bin"): print(hashlib.md5(open(name, "rb").read()).hexdigest())' \
    latin.txt 'plain' picture.bin 'plain'
  printf 'na\xefve\r\ncaf\xe9\n' >work/latin.txt
  head -c 3000 /dev/urandom >work/picture.bin
  sums=$(cd work && md5sum latin.txt picture.bin | cut -d' ' -f1)
  id=$(agent-task enqueue --repo work train.py)
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = "$sums" ]
}

# bats test_tags=local
@test "a script outside any repository goes as text, a shell script runs under bash" {
  printf 'echo "$0 got $*"; echo ${BASH_VERSION:+bash}\n' >job.sh
  id=$(agent-task enqueue job.sh -- a b)
  run -0 pipeline
  [[ $(agent-task log --stream log "$id") == *"job.sh got a b
bash" ]]
}

# bats test_tags=local
@test "--dry-run prints the task and changes nothing" {
  checkout
  run -0 --separate-stderr agent-task enqueue --dry-run --name mine --repo work train.py
  [ "$(printf %s "$output" | tr -d '\n' | field .name)" = mine ]
  [ -z "$(agent-task list)" ]
}

@test "an unknown queue names those that there are; --create-queue makes it" {
  checkout
  run -66 agent-task enqueue --queue gpu --repo work train.py
  [[ $output == *'no queue `gpu`; there are: default'* ]]
  run -64 agent-task enqueue --queue qa --create-queue --repo work train.py
  [[ $output == *"no queue can be called \`qa\`: a name has 3 characters or more"* ]]
  id=$(agent-task enqueue --queue gpu --create-queue --repo work train.py)
  [[ $(agent-task list --queue gpu) == *"${id:0:8}"*gpu* ]]
}

# bats test_tags=local
@test "what would change a task that is there is refused by enqueue, not passed over" {
  id=$(enqueue_shell 'true')
  agent-task dequeue "$id"
  for option in "--docker alpine" "--name other" "--tag x" "--project p" "--python 3.11" "--setup-script x" --bundle; do
    # shellcheck disable=SC2086  # an option and its value
    run -64 agent-task enqueue "$id" $option
    [[ $output == *"is a task already, and enqueue does not change it: ${option%% *} (agent-task edit $id ${option%% *} …"* ]]
  done
  run -64 agent-task enqueue "$id" -- --epochs 3
  [[ $output == *"(agent-task clone $id --queue default -- --epochs 3)" ]]
  [ "$(status "$id")" = created ]
}

# bats test_tags=local
@test "what is neither a file nor a task is said, and nothing is made" {
  run -66 agent-task enqueue trian.py
  [[ $output == "agent-task: \`trian.py\` is neither a file nor a task (agent-task list)" ]]
  mkdir folder
  run -66 agent-task enqueue folder
  [[ $output == "agent-task: folder is a folder, not a script (agent-task list)" ]]
}

@test "a script that is not here does not wipe the task of that name" {
  checkout
  id=$(agent-task enqueue --repo work train.py)
  pipeline
  for word in train.py ./train.py; do
    run -66 --separate-stderr agent-task enqueue "$word"
    [ "$output" = "" ]
    [[ $stderr == *"\`$word\`"* ]]
  done
  run -66 agent-task enqueue train.py
  [ "$output" = "agent-task: no file \`train.py\` here (a task of that name: agent-task enqueue $id)" ]
  run -66 agent-task enqueue - <<<train.py
  [[ $output == *"(a task of that name: agent-task enqueue $id)" ]]
  [ "$(status "$id")" = completed ]
  agent-task clone --name train.py "$id"
  run -66 agent-task enqueue train.py
  [[ $output == "agent-task: no file \`train.py\` here (\`train.py\` fits 2 tasks"*"agent-task enqueue ID)" ]]
  agent-task edit --name 'my run' "$id"
  [ "$(agent-task enqueue 'my run')" = "$id" ]
}

# bats test_tags=local
@test "enqueue takes one task, and says how it takes several" {
  first=$(enqueue_shell 'true')
  second=$(enqueue_shell 'true')
  run -64 agent-task enqueue "$first" "${second:0:8}"
  [[ $output == "agent-task: enqueue takes one task"*"(printf '%s\n' $first ${second:0:8} | agent-task enqueue -)" ]]
}

@test "list, show, log, why and stop take the beginning of an id, and a name" {
  id=$(enqueue_shell 'echo hi')
  run -0 agent-task show "${id:0:6}"
  [[ $output == *"$id"* ]]
  run -0 agent-task why 'a shell script'
  [[ $output == *"it is next; nobody serves this queue"*"try: agent-pull default | agent-prepare | agent-run"* ]]
  run -0 agent-task stop "${id:0:6}"
  [ "$(status "$id")" = stopped ]
  run -66 agent-task show ffffff
}

# bats test_tags=local
@test "show: a task without a repository says whether its script goes with it" {
  id=$(enqueue_shell 'echo hi')
  [[ $(agent-task show "$id") == *"repository    none: the script goes with the task"* ]]
  id=$(call tasks.create '{"name": "bare", "type": "training", "script": {"entry_point": "train.py"}}' | field .id)
  [[ $(agent-task show "$id") == *"repository    none"$'\n'* ]]
}

# bats test_tags=local
@test "show: image, docker arguments, set-up script, hyperparameters and tags, in short and without secrets" {
  echo 'echo hi' >x.sh
  id=$(agent-task enqueue --docker alpine:3 --docker-args '--cpus 2 -e API_TOKEN=s3cret -e A=redis://u:s3cret@h' \
    --setup-script $'export TOKEN=s3cret && true\nsecond line' --tag one --tag two --requirements none --binary bash x.sh)
  for number in 1 2 3 4 5 6 7 8 9; do set -- "$@" --set "Args/p$number=$number"; done
  agent-task dequeue "$id"
  agent-task edit "$id" "$@" --set Net/url=https://u:s3cret@h/
  run -0 agent-task show "$id"
  [[ $output != *s3cret* ]]
  [[ $output == *"image         alpine:3"* ]]
  [[ $output == *"docker args   --cpus 2 --env 'API_TOKEN=********' --env A=redis://u@h"* ]]
  [[ $output == *"set-up script export TOKEN=[REDACTED] && true and 1 more line"* ]]
  [[ $output == *"parameters    Args/p1=1, Args/p2=2, "*", Args/p8=8 and 2 more"* ]]
  [[ $output == *"tags          one, two"* ]]
  clone=$(agent-task clone "$id")
  [[ $(agent-task show "$clone") == *"parent        $id"* ]]
}

# bats test_tags=local
@test "show says when another Python ran it than the one that was asked for" {
  echo 'print()' >x.py
  id=$(agent-task enqueue --python 3.99 --requirements none x.py)
  pipeline
  [[ $(agent-task show "$id") =~ binary\ +python3\.99,\ ran\ with\ Python\ 3\.[0-9]+\.[0-9]+ ]]
  id=$(agent-task enqueue --requirements none x.py)
  pipeline
  [[ $(agent-task show "$id") != *"ran with"* ]]
}

@test "a name that two tasks have is refused, not guessed" {
  enqueue_shell 'echo one'
  enqueue_shell 'echo two'
  run -65 agent-task why 'a shell script'
  [[ $output == *"fits 2 tasks, the newest first: "*"beginning of an id, 4 digits or more"* ]]
}

# bats test_tags=local
@test "list --json is one object a line" {
  enqueue_shell 'echo one'
  enqueue_shell 'echo two'
  run -0 agent-task list --json --status queued
  [ "${#lines[@]}" -eq 2 ]
  [ "$(field .status <<<"${lines[0]}")" = queued ]
}

@test "a printed line is in log -f within a second, and log -f ends with the task" {
  id=$(enqueue_shell 'until [ -e "$HOME/go" ]; do sleep 0.05; done; date +%s.%N; until [ -e "$HOME/stop" ]; do sleep 0.05; done')
  pipeline 3>&- & runner=$!
  follow "$id" >ages 2>said 3>&- & follower=$!
  wait_for 20 test -L "$AGENT_HOME/state/tasks/$id.1/pid"
  touch "$HOME/go"
  wait_for 10 test -s ages
  python3 -c 'import sys; sys.exit(float(open("ages").read()) > 1.0)'
  touch "$HOME/stop"
  wait "$runner"
  wait "$follower"
  grep -q "$id: completed" said
}

@test "log --stream log is what the script printed, byte for byte" {
  id=$(enqueue_shell 'seq 20000; printf "\\tumlaut: \\303\\244\\n\\nlast line without its end"')
  run -0 pipeline
  agent-task log --stream log "$id" | cmp - "$(attempt "$id")/log"
}

@test "stop ends a running task: aborted, 130" {
  id=$(enqueue_shell 'echo started; sleep 100')
  pipeline 3>&- & runner=$!
  wait_for 20 test -s "$AGENT_HOME/state/tasks/$id.1/log"
  wait_for 10 has_worker "$id"
  run -0 agent-task why "$id"
  [[ $output == *running*"in agent-run"* ]]
  agent-task stop "$id"
  ended "$runner"
  [ "$status" -eq 130 ]
  [ "$(status "$id")" = stopped ]
  [[ $(agent-task why "$id") == *"aborted, exit 130"*"try: agent-task enqueue $id"* ]]
}

@test "an ended task runs again by its id" {
  id=$(enqueue_shell 'echo again')
  pipeline
  run -0 --separate-stderr agent-task enqueue "${id:0:8}"
  [ "$output" = "$id" ]
  pipeline
  [ "$(status "$id")" = completed ]
  [ "$(agent-task log --stream log "$id")" = again ]
}

# bats test_tags=local
@test "a package that does not exist: why names it, and its remedy, run as printed, completes the task" {
  make_repo work train.py 'print("ran")' requirements.txt 'nosuchpkg-of-agentpipe==1.0'
  id=$(agent-task enqueue --repo work train.py)
  run -66 pipeline
  run -0 agent-task why "$id"
  [[ $output == *"setup_failed, exit 66, in agent-env"*nosuchpkg-of-agentpipe* ]]
  remedy=$(agent-task why --json "$id" | field .remedy)
  [[ $output == *"try: $remedy"* ]]
  sh -c "$remedy"
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = ran ]
}

# bats test_tags=local
@test "the same when the line stands in a list that the repository's list names: file and line are said" {
  make_repo work train.py 'import six; print("ran")' requirements.txt '-r lists/more.txt
six' lists/more.txt '# more
-r base.txt' lists/base.txt 'nosuchpkg-of-agentpipe==1.0'
  id=$(agent-task enqueue --repo work train.py)
  run -66 pipeline
  run -0 agent-task why "$id"
  [[ $output == *"(line 1 of lists/base.txt)"* ]]
  sh -c "$(agent-task why --json "$id" | field .remedy)"
  [ "$(script_of "$id" requirements.pip)" = "# more
six" ]
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = ran ]
}

# bats test_tags=local
@test "the first package of a draft, where its repository has no list, and where the commit had one" {
  checkout
  id=$(agent-task create --repo work train.py)
  agent-task edit "$id" --package six==1.16.0
  [ "$(script_of "$id" requirements.pip)" = six==1.16.0 ]
  id=$(agent-task create --repo work train.py)
  echo attrs >work/requirements.txt # which the task's commit does not have
  agent-task edit "$id" --package six
  [ "$(script_of "$id" requirements.pip)" = six ]
}

# bats test_tags=local
@test "a single package is not changed in a list that nobody here has seen" {
  make_repo work train.py 'print("ran")' requirements.txt '-r more.txt' more.txt 'six'
  id=$(agent-task enqueue --repo work train.py)
  agent-task stop "$id"
  mv work away
  run -66 agent-task edit "$id" --package attrs
  [[ $output == *"cannot be looked at: "*"--requirements FILE)" ]]
  mv away work
  agent-task edit "$id" --package attrs
  [ "$(script_of "$id" requirements.pip)" = $'six\nattrs' ]
  agent-task edit "$id" --requirements none
  [ "$(status "$id")" = created ]
}

# bats test_tags=local
@test "a name that people get wrong: why gives the package that is meant" {
  make_repo work train.py 'print("ran")' requirements.txt 'PIL'
  id=$(agent-task enqueue --repo work train.py)
  run -66 pipeline
  run -0 agent-task why "$id"
  [[ $output == *"no package "*"Pillow may be meant"*"try: agent-task edit $id --drop-package PIL --package Pillow && agent-task enqueue $id"* ]]
}

# bats test_tags=local
@test "edit puts one requirement in the place of another, and leaves a running task alone" {
  make_repo work
  printf 'six==1.16.0\nattrs\n' >list
  id=$(agent-task enqueue --requirements list --repo work train.py)
  run -75 agent-task edit "$id" --package six==1.17.0
  [[ $output == *"waits in a queue: take it out first (agent-task dequeue $id)" ]]
  agent-task dequeue "$id"
  agent-task edit "$id" --package six==1.17.0 --drop-package attrs
  [ "$(script_of "$id" requirements.pip)" = "six==1.17.0" ]
}

@test "a failed script: why shows its last lines and where to read on" {
  id=$(enqueue_shell 'echo before; echo "boom: no such thing" >&2; exit 4')
  run -4 pipeline
  run -0 agent-task why "$id"
  [[ $output == *"script_failed, exit 4"*"at main.sh:1 (exit 4)"*"| boom: no such thing"*"to do: mend main.sh:1"*"agent-task log $id"* ]]
}

@test "edit looks before it wipes: a bad value changes nothing of a finished task" {
  id=$(enqueue_shell 'echo precious')
  pipeline
  # shellcheck disable=SC2089  # these quotes are meant literally
  for bad in '--name ab' '--package numpy<' '--repo -x' '--entry-point "a' '--python abc' '--binary "a' \
      '--working-dir ../x' '--branch -f' "--name ab --python 3.11"; do
    # shellcheck disable=SC2086,SC2090
    run -64 agent-task edit $bad "$id"
    [ "${#lines[@]}" -eq 1 ]
  done
  [ "$(status "$id")" = completed ]
  [ "$(agent-task log --stream log "$id")" = precious ]
}

@test "edits at the same time: none is lost" {
  checkout train.py 'print()' requirements.txt six
  id=$(agent-task create --repo work train.py -- --a 0 --b 0)
  for round in 1 2 3; do
    edits=()
    for number in 1 2 3 4; do
      agent-task edit --tag "t$round$number" "$id" 2>/dev/null & edits+=($!)
    done
    agent-task edit --set "Args/a=$round" --set "Args/x$round=1" "$id" 2>/dev/null & edits+=($!)
    agent-task edit --set "Args/b=$round" --package "six==1.$round" "$id" 2>/dev/null & edits+=($!)
    agent-task edit --docker "image$round" "$id" & edits+=($!)
    agent-task edit --docker-args "--cpus $round" "$id" & edits+=($!)
    for each in "${edits[@]}"; do wait "$each"; done
    agent-task show --json "$id" >shown.json
    [ "$(field .script.entry_point shown.json)" = "train.py --a $round --b $round" ]
    [ "$(field ".hyperparams.Args.x$round.value" shown.json)" = 1 ]
    [ "$(field .hyperparams.Args.b.value shown.json)" = "$round" ]
    [ "$(field .container.image shown.json) $(field .container.arguments shown.json)" = "image$round --cpus $round" ]
  done
  [ "$(field .tags shown.json)" = '["t11", "t12", "t13", "t14", "t21", "t22", "t23", "t24", "t31", "t32", "t33", "t34"]' ]
}

@test "what no worker could run is refused: a program, and a notebook that is none, alone or in a checkout" {
  mkdir -p work
  cp /bin/true work/tool
  echo 'not json' >work/text.ipynb
  echo '{"nbformat": 3, "worksheets": []}' >work/old.ipynb
  echo '{"cells": [{"cell_type": "code", "source": "print(1)"}]}' >work/good.ipynb
  for round in alone checkout; do
    run -65 agent-task enqueue work/tool
    [ "$output" = "agent-task: work/tool is a program, not a script (a shell script (.sh) that starts it, where the workers have it)" ]
    for name in text old; do
      run -65 agent-task enqueue "work/$name.ipynb"
      [[ $output == "agent-task: $name.ipynb is not a notebook (format 4)"* ]]
    done
    agent-task create work/good.ipynb
    [ "$round" = checkout ] || { git init -q work; git -C work add .; git -C work commit -qm all; }
  done
  [ "$(agent-task list --status queued --json | wc -l)" -eq 0 ]
}

@test "edit --name keeps what a finished task has done" {
  id=$(enqueue_shell 'echo precious')
  pipeline
  run -0 agent-task edit --name 'another name' "$id"
  [ -z "$output" ]
  [ "$(status "$id")" = completed ]
  [ "$(agent-task log --stream log 'another name')" = precious ]
}

@test "edit && enqueue prints the id once, and puts the task back where it was" {
  id=$(enqueue_shell 'echo one' night)
  agent-pull night | agent-prepare | agent-run
  run -0 --separate-stderr sh -c "agent-task edit $id --python 3.11 && agent-task enqueue $id"
  [ "$output" = "$id" ]
  [ "$(agent-task list --queue night --json | field .id)" = "$id" ]
  agent-task stop "$id"
  [ "$(agent-task edit --json "$id" --python 3.12 | field .changed)" = '["binary"]' ]
  # and so on a terminal, where what changed is said
  agent-task stop "$id"
  py 'import os, pty, sys; os._exit(pty.spawn(sys.argv[1:]) >> 8)' \
    sh -c "agent-task edit $id --python 3.11 && agent-task enqueue $id" </dev/null | tr -d '\r' >shown
  [ "$(grep -cx "$id" shown)" = 1 ]
  grep -qx "agent-task: changed binary; a draft until agent-task enqueue $id" shown
}

# bats test_tags=local
@test "enqueue takes no version that Python cannot have" {
  checkout
  run -64 agent-task enqueue --repo work --python abc train.py
  [[ $output == *'`abc` is no version of Python'* ]]
}

@test "a word that no task has names none, whatever a query would make of it" {
  id=$(enqueue_shell 'echo one')
  for word in -foo '__$not' '.*' 'a shell scrip.' '' '^a' '[' "-$id"; do
    run -66 agent-task stop -- "$word"
    [[ $output == *"no task"* ]]
    run -66 agent-task list --queue="$word"x
  done
  [ "$(status "$id")" = queued ]
}

@test "a task of any age is found by the beginning of its id" {
  id=$(enqueue_shell 'echo the first')
  py '
from agentpipe.transport import api
store = api.connect()
for number in range(600):
    store.call("tasks.create", {"name": f"task {number}", "type": "training"})'
  run -0 agent-task show "${id:0:12}"
  [[ $output == *"$id"* ]]
}

@test "an unknown queue to look at is no queue to be made" {
  run -66 agent-task list --queue bogus
  [[ $output == *'no queue `bogus`; there are: default' ]]
}

# bats test_tags=local
@test "an output that takes nothing is one line and 73, a reader that is gone nothing and 141" {
  id=$(enqueue_shell 'seq 1000')
  pipeline
  for words in list "show $id" "log $id" "log -f $id" "why $id"; do
    run -73 --separate-stderr sh -c "agent-task $words >&-"
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr == "agent-task: cannot write: "* ]]
    run -73 --separate-stderr sh -c "agent-task $words >/dev/full"
    [[ $stderr == "agent-task: cannot write: No space left on device" ]]
  done
  mkfifo gone
  # shellcheck disable=SC2094  # a pipe whose reader is gone
  exec 7<>gone 8>gone 7<&-
  run -141 sh -c "agent-task log $id >&8"
  [ -z "$output" ]
  [ "$(agent-task log --stream log "$id" | tail -n 1)" = 1000 ]
}

# bats test_tags=local
@test "a missing word points to the help of its command" {
  run -64 agent-task stop
  [[ $output == *"(agent-task stop --help)" ]]
  run -64 agent-task show
  [[ $output == *"(agent-task show --help)" ]]
}

# bats test_tags=local
@test "--version says which" {
  run -0 agent-task --version
  [[ $output =~ ^agent-task\ [0-9.]+ ]]
}

# what `why` says is to be done, after its task has failed in the pipeline with this status: "try: …", or "to do: …"
said() { run "-$1" pipeline; agent-task why "$2" | sed -n 's/^  \(try\|to do\): /\1: /p'; }
field_of() { agent-task why --json "$1" | field ".$2"; }

# bats test_tags=local
@test "what needs eyes or another machine stands in words, and no command is made of it" {
  checkout
  cd work
  id=$(agent-task enqueue --branch nosuch train.py)
  [[ $(said 66 "$id") == "to do: push it"* ]]
  id=$(agent-task enqueue --commit deadbeef train.py)
  [[ $(said 66 "$id") == "to do: push it"*"agent-task edit $id --commit SHA" ]]
  [ "$(field_of "$id" remedy)" = null ]
  [[ $(field_of "$id" advice) == push* ]]
  [[ $(agent-task why "$id") == *"then, once it is pushed: agent-task enqueue $id"* ]]
  echo '-r nosuch.txt' >list
  id=$(agent-task enqueue --requirements list train.py)
  [[ $(said 66 "$id") == "to do: commit nosuch.txt"* ]]
  echo 'tea' >list
  id=$(agent-task enqueue --requirements list train.py)
  PIP_INDEX_URL=http://127.0.0.1:9/simple UV_HTTP_RETRIES=0
  export PIP_INDEX_URL UV_HTTP_RETRIES
  [[ $(said 69 "$id") == "to do: check the network"* ]]
}

# bats test_tags=local
@test "where a command mends it, that is what stands there, and JSON has it as remedy" {
  id=$(enqueue_shell 'echo "np.float_ was removed in the NumPy 2.0 release"; exit 1')
  [ "$(said 1 "$id")" = "try: agent-task edit $id --package 'numpy<2' && agent-task enqueue $id" ]
  [ "$(field_of "$id" advice)" = null ]
  sh -c "$(field_of "$id" remedy)"
}

# bats test_tags=local
@test "a stage that answers without its key: words that name it, nothing to type that waits for input" {
  id=$(enqueue_shell 'true')
  export AGENT_STAGE_ENV=cat
  run -65 pipeline
  run -0 agent-task why "$id"
  [[ $output == *"to do: "*AGENT_STAGE_ENV* ]]
  [ "$(field_of "$id" remedy)" = null ]
}

# bats test_tags=local
@test "a stage that is no command: why does not send its reader to why" {
  id=$(enqueue_shell 'true')
  export AGENT_STAGE_ENV=nosuchcommand-of-agentpipe
  pipeline || true
  run -0 agent-task why "$id"
  [[ $output != *"try: agent-task why"* ]]
}

# bats test_tags=local
@test "a stage that a signal ended: its number and its name" {
  id=$(enqueue_shell 'true')
  AGENT_STAGE_ENV='kill -9 $$' pipeline || true
  run -0 agent-task why "$id"
  [[ $output == *"was killed by signal 9 (KILL)"* ]]
}

# bats test_tags=local
@test "a stage that gets no manifest names its own --schema" {
  for stage in run env fetch; do
    run -65 --separate-stderr "agent-$stage" <<<'{"task": 1}'
    [[ $stderr == *"(agent-$stage --schema)" ]]
  done
}

# bats test_tags=local
@test "a script that dies without a word: no lines of the set-up are its evidence" {
  id=$(enqueue_shell 'exit 5')
  run -5 pipeline
  [ "$(field_of "$id" evidence)" = null ]
  agent-task log "$id" | grep -q pulled
}

@test "a task that its user stopped is said so once" {
  id=$(enqueue_shell 'true')
  agent-task stop "$id"
  run -0 agent-task why "$id"
  [[ ${lines[1]} == "  stopped with agent-task" ]]
}

# bats test_tags=local
@test "a script that lacks a module: why gives the package, and its remedy, run as printed, completes the task" {
  checkout train.py 'import six; print("six", six.__name__)'
  id=$(agent-task enqueue --repo work train.py)
  run -1 pipeline
  run -0 agent-task why "$id"
  [[ $output == *"the module six is not installed"*"try: agent-task edit $id --package six && agent-task enqueue $id"* ]]
  sh -c "$(field_of "$id" remedy)"
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = "six six" ]
}

# bats test_tags=local
@test "a module that no known package brings may be a file that was not taken along" {
  checkout train.py 'import my_helper'
  id=$(agent-task enqueue --repo work train.py)
  run -1 pipeline
  run -0 agent-task why "$id"
  [[ $output == *"to do: where my_helper is a file of yours: git add -N it in your checkout, and there: "* ]]
  [[ $output == *"look up first that it is called so"*": agent-task edit $id --package my_helper && "* ]]
  # which takes what is not committed anew, and nothing else
  echo 'print("mine")' >work/my_helper.py
  git -C work add -N my_helper.py
  agent-task edit "$id" --set a=1 --package six
  (cd work && sh -c "$(sed -n 's/.* and there: \([^;]*\);.*/\1/p' <<<"$output")")
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = mine ]
  [[ $(agent-task show "$id") == *six* ]]
}

# bats test_tags=local
@test "edit --checkout: the code as it stands in a checkout now, a script in none too; what does not fit is refused" {
  checkout train.py 'print(1)' lib/mod.py 'print(2)'
  id=$(cd work && agent-task create --python 3.11 train.py -- --lr 0.1)
  run -64 agent-task edit "$id" --checkout work
  [[ $output == *"nothing to change: the code in work is what the task has (change it there first; "* ]]
  echo 'print(3)' >work/train.py
  run -64 agent-task edit "$id" --checkout work --branch main
  [[ $output == *"--checkout or --branch?"* ]]
  run -66 agent-task edit "$id" --checkout .
  [[ $output == *". is no git checkout"* ]]
  agent-task edit "$id" --checkout work
  [[ $(agent-task show "$id") == *"train.py --lr 0.1"*"python3.11"*"+1 -1 lines not committed"* ]]
  git -C work commit -qam 'not pushed'
  run -0 agent-task clone --checkout work "$id"
  [[ $output == *"warning: commit "*" is not on origin"* ]]
  git -C work rm -q --cached train.py
  run -66 agent-task edit "$id" --checkout work
  [[ $output == *"git does not know train.py"* ]]
  git clone -q --no-checkout work other
  run -66 agent-task edit "$id" --checkout other
  [[ $output == *"no file $(realpath other)/train.py" ]]
  module=$(cd work && agent-task create -m lib.mod 2>/dev/null)
  echo 'print(4)' >work/lib/mod.py
  agent-task edit "$module" --checkout work
  [[ $(agent-task show "$module") == *"-m lib.mod"*"lines not committed"* ]]
  mkdir alone
  echo 'print(5)' >alone/job.py
  cp alone/job.py alone/-job.py
  run -0 --separate-stderr agent-task create ./alone/-job.py
  [[ $stderr == *"-job.py is in no git repository: its text alone goes with the task, as untitled.py"* ]]
  run -0 --separate-stderr agent-task create alone/job.py
  [[ $stderr == *"its text alone goes with the task"$'\n'* ]]
  alone=$output
  echo 'print(6)' >alone/job.py
  agent-task edit "$alone" --checkout alone
  [ "$(agent-task show --json "$alone" | field .script.diff)" = 'print(6)' ]
  run -66 agent-task edit "$alone" --checkout work
  [[ $output == *"no file work/job.py"* ]]
  bundled=$(cd work && echo x >data && git add -A && agent-task create --include data train.py 2>/dev/null)
  run -64 agent-task edit "$bundled" --checkout work
  [[ $output == *"brings files along"*"--bundle"* ]]
}

# bats test_tags=store
@test "a worker that is gone serves no queue" {
  enqueue_shell 'true'
  pipeline
  id=$(enqueue_shell 'true')
  py '
import os
from agentpipe.pull import queues
from agentpipe.transport import api
store = api.connect()
store.call("workers.register", {"worker": os.uname().nodename + ":0", "queues": queues.Queues(store, ["default"]).ids})'
  run -0 agent-task why "$id"
  [[ $output == *"nobody serves this queue any more ($(uname -n):0 reported "* ]]
  agent-task stop "$id"
  agent-pull --wait default 3>&- >pulled & puller=$!
  wait_for 20 py '
import sys
from agentpipe.pull import queues
from agentpipe.task import at_work
from agentpipe.transport import api
store = api.connect()
sys.exit(not at_work.serving(store, queues.Queues(store, ["default"]).ids[0])[0])'
  kill "$puller"
  wait "$puller" || true
  run -0 py '
import os
from agentpipe.claim import workers
print(workers.lives(os.uname().nodename + ":0"), workers.lives("given"))'
  [ "$output" = "False None" ]
}

@test "stop says when nobody watches the script, and what makes it end does" {
  id=$(enqueue_shell 'until [ -e "$HOME/stop" ]; do sleep 0.05; done')
  left_unwatched "$id"
  run -0 agent-task why "$id"
  [[ $output == *"nobody watches it"*"try: agent-pull --id $id | agent-run"* ]]
  run -0 agent-task stop "$id"
  [[ $output == *"nobody watches its script here"*"(agent-pull --id $id | agent-run)" ]]
  run -130 sh -c "agent-pull --id $id | agent-run -q >/dev/null"
  [ "$(status "$id")" = stopped ]
}

# bats test_tags=local
@test "list takes the words that it shows, and says which there are" {
  run -64 agent-task list --status bogus
  [[ $output == *'no status `bogus` (one of created, queued,'*setup_failed* ]]
  id=$(enqueue_shell 'exit 3')
  run -3 pipeline
  other=$(enqueue_shell 'true')
  agent-task stop "$other"
  [[ $(agent-task list --status script_failed) == *"${id:0:8}  script_failed"* ]]
  [ -z "$(agent-task list --status setup_failed)" ]
  [ "$(agent-task list --json --status failed | field .id)" = "$id" ]
  [ "$(agent-task list --json --status script_failed --status stopped | wc -l)" -eq 2 ]
  run -64 agent-task list --name '['
  [[ $output == *"no regular expression"* ]]
}

@test "what was drained, queued again and stopped by its user is stopped, not drained" {
  id=$(enqueue_shell 'touch "$HOME/here"; exec sleep 100')
  agent-pull default | agent-prepare -q >line
  agent-run -q <line 3>&- >receipt.json & runner=$!
  wait_for 20 test -e "$HOME/here"
  kill -TERM "$runner"
  ended "$runner"
  [ "$status" -eq 75 ]
  [ "$(status "$id")" = queued ]
  agent-task stop "$id"
  [[ $(agent-task list) == *"${id:0:8}  stopped "* ]]
  [[ $(agent-task why "$id") == *"stopped with agent-task"* ]]
}

# bats test_tags=local
@test "a name cannot play with the terminal, and a table keeps to its width" {
  call tasks.create '{"name": "two\nlines \u001b[31mred", "type": "training"}' >made
  run -0 agent-task list
  [ "${#lines[@]}" -eq 2 ]
  [[ $output == *'two\nlines \x1b[31mred'* ]]
  [[ $(agent-task show "$(field .id made)") == *'two\nlines \x1b[31mred'* ]]
  call tasks.create "{\"name\": \"$(printf 'long%.0s' {1..50})\", \"type\": \"training\"}" >made
  python3 -c '
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if not pid:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
    os.execvp("agent-task", ["agent-task", "list"])
text = b""
try:
    while piece := os.read(fd, 4096):
        text += piece
except OSError:
    pass
os.waitpid(pid, 0)
lines = text.decode().split("\r\n")
assert len(lines) == 4 and max(map(len, lines)) <= 70 and "…" in text.decode(), lines'
}

# bats test_tags=local
@test "any program runs its script, and what is not there is said: exit 66" {
  checkout job.pl 'print "perl got @ARGV\n"' tool '#!/usr/bin/env -S bash -e
echo ${BASH_VERSION:+bash} "$@"' old '#!/usr/bin/env python3.9
print(1)' any '#!/usr/bin/python3
print(1)'
  cd work
  [ "$(agent-task create --dry-run old | jq -r .script.binary)" = python3.9 ]
  [[ $(agent-task create --dry-run any | jq -r .script.binary) == python3.* ]]
  id=$(agent-task enqueue --binary perl job.pl -- a b)
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = "perl got a b" ]
  id=$(agent-task enqueue tool -- c)
  [ "$(script_of "$id" binary)" = "bash -e" ]
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = "bash c" ]
  id=$(agent-task enqueue --binary nosuchprogram-of-agentpipe job.pl)
  run -66 pipeline
  [[ $(agent-task why "$id") == *"nosuchprogram-of-agentpipe is not on PATH here"*"to do: install"* ]]
}

# bats test_tags=local
@test "a script above its user: it runs where its user stands" {
  checkout train.py 'import os; print(os.path.basename(os.getcwd()))' sub/keep ''
  cd work/sub
  id=$(agent-task enqueue ../train.py)
  [ "$(script_of "$id" working_dir)" = sub ]
  [ "$(script_of "$id" entry_point)" = ../train.py ]
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = sub ]
}

# bats test_tags=local
@test "a bare repository by its path is an address, whatever checkout its user stands in" {
  checkout
  cd work
  echo 'print("changed")' >>train.py
  id=$(agent-task enqueue --repo ../remote.git train.py)
  [ "$(script_of "$id" repository)" = "$BATS_TEST_TMPDIR/remote.git" ]
  [ "$(script_of "$id" diff)" = null ] || [ -z "$(script_of "$id" diff)" ]
  run -0 pipeline
  [ "$(agent-task log --stream log "$id")" = "hello from train.py" ]
  mkdir ../empty
  run -66 agent-task enqueue --repo ../empty train.py
  [[ $output == *"../empty is no git repository"* ]]
}

# bats test_tags=local
@test "a password in an address that a script prints is in no log, and in no evidence" {
  id=$(enqueue_shell 'echo "clone https://user:longpassword1@host/x.git"; exit 1')
  run -1 pipeline
  [ "$(agent-task log --stream log "$id")" = "clone https://user:[REDACTED]@host/x.git" ]
  [[ $(agent-task why "$id") == *"user:[REDACTED]@host"* ]]
}
