# Failures of every kind, each told by `agent-task why` alone: what it prints is run as it stands, and the task completes.

# shellcheck disable=SC2016,SC2030,SC2031,SC2119,SC2120 # single quotes are for the scripts of tasks; each test is a subshell
bats_require_minimum_version 1.5.0

setup_file() { if [ -n "${WHY_RECORD:-}" ]; then : >"$WHY_RECORD"; fi; }

setup() { load ../helpers; fresh; shared_environments; }

teardown() { touch "$HOME/go"; }

pipeline() { agent-pull default | agent-prepare --quiet | agent-run --quiet "$@" >receipt.json; }

# one task of a repository `work` with these files; the words before `--` are options of enqueue
queued() {
  local options=()
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  agent-task enqueue --repo work "${options[@]}" train.py "$@" 2>/dev/null
}

# told TASK WORDS…: why says all of this, in this order; its report ends with what reproduces the failure
told() {
  local id=$1 word rest; shift
  report=$(agent-task why "$id")
  rest=$report
  for word in "$@"; do
    [[ $rest == *"$word"* ]] || { printf 'no `%s` in:\n%s\n' "$word" "$report" >&2; return 1; }
    rest=${rest#*"$word"}
  done
  if [ -n "${WHY_RECORD:-}" ]; then recorded >>"$WHY_RECORD"; fi
}

# for examples/day: what was said of each, with a user's paths in the place of a test's
recorded() {
  printf '%s\n%s\n\n' "$BATS_TEST_DESCRIPTION" "$report" | sed -E \
    -e "s|$BATS_TEST_TMPDIR|/home/day|g; s|$BATS_FILE_TMPDIR/environments|/home/day/agent/cache/envs|g" \
    -e "s|$(python3 -c 'import sys; print(sys.base_prefix)')|/usr|g; s|$(realpath "$UV_CACHE_DIR")|/home/day/agent/cache/uv|g; s|\(/[^ )]*/bin/python|(/usr/bin/python|g"
}

has_status() { [ "$(status "$1")" = "$2" ]; }

# mended TASK: do what the last report says, as it stands there; then the task completes
mended() {
  local line
  line=$(sed -n 's/^  try: //p' <<<"$report")
  [ -n "$line" ] || line=$(sed -nE 's/^  then(, once it is pushed)?: //p' <<<"$report")
  [ -n "$line" ]
  sh -c "$line" >done.json 2>said || { cat said >&2; return 1; }
  if [ "$(status "$1")" = queued ]; then pipeline; fi
  [ "$(status "$1")" = completed ]
}

# mended_in CHECKOUT TASK: what the last report says to type there, as it stands there; then the task completes
mended_in() {
  (cd "$1" && sh -c "$(sed -n 's/^  then, in its checkout: //p' <<<"$report")" >/dev/null 2>&1)
  pipeline
  [ "$(status "$2")" = completed ]
}

# do what the last report says, as it stands there
# editor COMMAND: an editor that does this, of +LINE and a file, for EDITOR
editor() {
  printf '#!/bin/sh\n%s\n' "$1" >editor
  chmod +x editor
}

tried() { sh -c "$(sed -n 's/^  try: //p' <<<"$report")"; }

reproducible() { [[ ${report##*$'\n'} == "  reproduce: agent-task script $1 > task-${1:0:8}.sh && sh task-${1:0:8}.sh" ]]; }

@test "a package that nobody has" {
  make_repo work train.py 'print(1)' requirements.txt 'nosuchpkg-of-agentpipe==1.0'
  id=$(queued --)
  run -66 pipeline
  told "$id" "setup_failed, exit 66, in agent-env" nosuchpkg-of-agentpipe "try: agent-task edit"
  reproducible "$id"
  mended "$id"
}

@test "a line of the task's own list that is not understood" {
  make_repo work train.py 'import six' requirements.txt 'six>=1.16,<<2'
  id=$(queued --)
  run -65 pipeline
  told "$id" "is not understood" "try: agent-task edit $id --package six && agent-task enqueue $id" \
    "or: write 'six>=1.16,<<2' as NAME" "agent-task edit $id --requirements requirements.txt"
  mended "$id"
}

@test "a package of the checkout whose pyproject.toml is broken" {
  make_repo work train.py 'import mine' requirements.txt '-e ./mine' mine/mine.py '' \
    mine/pyproject.toml $'[project]\nname = "mine"\nversion = 1'
  id=$(queued --)
  run -65 pipeline
  told "$id" "your package mine cannot be built" "at mine/pyproject.toml:3" "to do: mend mine/pyproject.toml:3" \
    "then, in its checkout: agent-task edit $id --checkout . && agent-task enqueue $id"
  sed -i 's/= 1$/= "1"/' work/mine/pyproject.toml
  mended_in work "$id"
}

@test "a version that nobody has: the nearest one" {
  make_repo work train.py 'import six' requirements.txt 'six==1.99.0'
  id=$(queued --)
  run -66 pipeline
  told "$id" "six==1.99.0" "nearest" "try: agent-task edit $id" "six=="
  mended "$id"
}

@test "a module's name in the place of its package's" {
  make_repo work train.py 'import dateutil' requirements.txt 'dateutil'
  id=$(queued --)
  run -66 pipeline
  told "$id" "dateutil" "python-dateutil" "try: agent-task edit"
  mended "$id"
}

@test "a line that is no requirement" {
  make_repo work train.py 'import six' requirements.txt 'six = 1.16.0'
  id=$(queued --)
  run -65 pipeline
  told "$id" "setup_failed, exit 65, in agent-env" "six = 1.16.0" "try: agent-task edit"
  mended "$id" || {  # dropped: then the script says what it lacks
    told "$id" "the module six is not installed" "try: agent-task edit"
    mended "$id"
  }
}

@test "requirements that conflict" {
  make_repo work train.py 'import six' requirements.txt 'six==1.16.0
six==1.17.0'
  id=$(queued --)
  run -65 pipeline
  told "$id" "setup_failed, exit 65, in agent-env" "six==1.1"
  mended "$id"
}

@test "a version that cannot be built here: the one that has a wheel" {
  PYTHONPATH=$ROOT/tests/unit python3 -c 'import wheelhouse
wheelhouse.source("index", "leaf", "1.0", hook="raise RuntimeError(\"no compiler\")")
wheelhouse.wheel("index", "leaf", "2.0")'
  export PIP_FIND_LINKS=$PWD/index
  make_repo work train.py 'import leaf' requirements.txt 'leaf==1.0'
  id=$(queued --)
  run -65 pipeline
  told "$id" "setup_failed, exit 65, in agent-env" "leaf==1.0 cannot be built here" "no compiler" "try: agent-task edit"
  mended "$id"
}

@test "a module that is not installed" {
  make_repo work train.py 'import six'
  id=$(queued --)
  run -1 pipeline
  told "$id" "script_failed, exit 1" "the module six is not installed" "| ModuleNotFoundError" "--package six"
  reproducible "$id"
  mended "$id"
}

@test "a mistyped module: the one that is meant, in the code, and no package of a stranger" {
  make_repo work train.py $'x = 1\nimport jsno'
  id=$(queued --)
  run -1 pipeline
  told "$id" "the module jsno is not installed; json may be meant" "try: \${EDITOR:-vi} +2 $PWD/work/train.py && "
  [[ $report != *"--package jsno"* ]]
  editor 'sed -i "${1#+}s/jsno/json/" "$2"'
  EDITOR=$PWD/editor mended "$id"
}

@test "a module that nobody knows is no package by a command; typed in its checkout, why takes it along" {
  make_repo work train.py 'import mine, pkg.more; print(mine.X)' pkg/__init__.py ''
  git clone -q --bare work remote.git
  git -C work remote add origin "$PWD/remote.git"
  git -C work fetch -q
  git -C work branch -q -u origin/main
  echo 'X = 1' >work/mine.py
  echo >work/pkg/more.py
  id=$(queued --)
  run -1 pipeline
  told "$id" "the module mine is not installed" "to do: where mine is a file of yours: git add -N it in your checkout" \
    "look up first that it is called so"
  # on another branch it is another checkout
  git -C work checkout -q -b other
  cd work
  told "$id" "to do: where mine is a file of yours"
  git checkout -q main
  told "$id" "the module mine is in your checkout, and git does not know it" "try: git -C $PWD add "
  [[ $report != *--package* ]]
  tried
  run -1 pipeline
  told "$id" "the module pkg.more is in your checkout" "add -N -- $PWD/pkg/more.py"
  mended "$id"
}

@test "a mistyped module on the command line" {
  make_repo work package/train.py 'import sys; print(sys.argv[1:])' package/__init__.py ''
  id=$(agent-task enqueue --repo work -m package.trian -- --name 'two words' 2>/dev/null)
  run -1 pipeline
  told "$id" "the module package.trian is not installed; package.train may be meant" \
    "try: agent-task edit $id --entry-point '-m package.train --name "
  mended "$id"
  agent-task log "$id" | grep -qx "\['--name', 'two words'\]"
}

@test "a module of the repository that stands where Python does not look" {
  make_repo work train.py 'import helper; print(helper.X)' lib/helper.py 'X = 1'
  id=$(queued --)
  run -1 pipeline
  told "$id" "helper is in the repository, below lib" "--working-dir lib --entry-point ../train.py"
  mended "$id"
}

@test "a module that setuptools no longer has" {
  make_repo work train.py 'import pkg_resources'
  id=$(queued --)
  run -1 pipeline
  told "$id" "the module pkg_resources is not installed" "'setuptools<81'"
  mended "$id"
}

@test "a mistyped script" {
  make_repo work src/train.py 'print(1)'
  id=$(agent-task enqueue --repo "file://$PWD/work" --branch main --requirements none src/trian.py -- --lr 0.1)
  run -66 pipeline
  told "$id" "setup_failed, exit 66, in agent-patch" "no src/trian.py in the checkout" "src/train.py --lr 0.1"
  mended "$id"
}

@test "a folder that is not there, and none that is meant: the task stands in what is to be typed" {
  make_repo work
  id=$(agent-task enqueue --repo "file://$PWD/work" --branch main --working-dir nosuch --requirements none train.py)
  run -66 pipeline
  told "$id" "no folder nosuch in the checkout" "agent-task edit $id --working-dir DIR" "then, in its checkout: "
  mkdir work/nosuch
  cp work/train.py work/nosuch
  git -C work add .
  git -C work commit -q -m 'It'
  mended_in work "$id"
}

@test "what is wrong in a file of the repository: the task takes the code anew once it is mended" {
  make_repo work train.py 'import six' requirements.txt $'six\n-r more.txt' pyproject.toml ''
  id=$(queued --)
  run -66 pipeline
  told "$id" "more.txt is not there" "to do: commit more.txt to the repository" "then, in its checkout: "
  echo six >work/more.txt
  git -C work add more.txt
  git -C work commit -q -m 'More'
  mended_in work "$id"
  make_repo other train.py 'import six' pyproject.toml '[project'
  id=$(agent-task enqueue --repo other train.py 2>/dev/null)
  run -65 pipeline
  told "$id" "pyproject.toml is not TOML" "to do: correct pyproject.toml" "then, in its checkout: "
  printf '[project]\nname = "p"\nversion = "0"\ndependencies = ["six"]\n' >other/pyproject.toml
  mended_in other "$id"
}

@test "a folder that is not there" {
  make_repo work source/train.py 'print(1)'
  id=$(agent-task enqueue --repo "file://$PWD/work" --branch main --working-dir sorce --requirements none train.py)
  run -66 pipeline
  told "$id" "no folder sorce in the checkout" "--working-dir source"
  mended "$id"
}

@test "a mistyped branch" {
  make_repo work
  id=$(agent-task enqueue --repo "file://$PWD/work" --branch mian --requirements none train.py)
  run -66 pipeline
  told "$id" "setup_failed, exit 66, in agent-fetch" "main may be meant" "--branch main"
  mended "$id"
}

@test "a Python that the machine does not have" {
  make_repo work
  id=$(queued --python 2.7 --)
  run -66 pipeline
  told "$id" "setup_failed, exit 66, in agent-env" "no Python 2.7" "there are: 3." "try: agent-task edit $id --python 3."
  mended "$id"
}

@test "changes that do not fit the commit: the hunk" {
  make_repo work train.py 'print("one")' other.txt 'a'
  echo 'print("two")' >work/train.py
  id=$(queued --)
  git -C work checkout -q -- train.py
  echo 'print("three")' >work/train.py
  git -C work commit -qam 'another first line'
  agent-task stop "$id"
  agent-task edit "$id" --commit "$(git -C work rev-parse HEAD)"
  agent-task enqueue "$id"
  run -65 pipeline
  told "$id" "setup_failed, exit 65, in agent-patch" "the diff does not apply to train.py: hunk 1" "print(\"one\")" \
    "try: agent-task edit $id --drop-diff" "or: give the task the commit" "edit $id --checkout ."
  mended "$id"
}

@test "a file that is elsewhere in the repository" {
  make_repo work sub/train.py 'print(open("data/points.csv").read())' data/points.csv '1,2'
  id=$(cd work/sub && agent-task enqueue train.py 2>/dev/null)
  run -1 pipeline
  told "$id" "data/points.csv is in the top of the repository" "--working-dir . --entry-point sub/train.py"
  mended "$id"
}

parser='import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--optimizer", choices=["adam", "sgd"])
parser.add_argument("--batch-size", type=int, default=1)
given = parser.parse_args()
if given.batch_size > 16: raise MemoryError'

@test "a mistyped option of the script" {
  make_repo work train.py "$parser"
  id=$(queued -- --epohcs 3)
  run -2 pipeline
  told "$id" "script_failed, exit 2" "no option --epohcs; --epochs may be meant" "'train.py --epochs 3'"
  mended "$id"
}

needing='import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
parser.add_argument("--name")
print(vars(parser.parse_args()))'

@test "an option that the script wants: beside all that was given, in the same queue" {
  make_repo work train.py "$needing"
  agent-task enqueue --create-queue --queue gpu train.py --repo work --name other >/dev/null 2>&1
  id=$(queued --queue gpu -- --name 'two words')
  run -2 sh -c "agent-pull --id $id | agent-prepare -q | agent-run -q"
  told "$id" "the script wants --data (exit 2)" "to do: agent-task edit $id --entry-point "
  line=$(sed -n 's/^  to do: //p' <<<"$report")
  sh -c "${line//…/here}" 2>/dev/null
  [[ $(agent-task why "$id") == *"waits in gpu"* ]]
  agent-pull --id "$id" | agent-prepare -q | agent-run -q >receipt.json
  agent-task log "$id" | grep -qx "{'data': 'here', 'name': 'two words'}"
}

@test "a mistyped option in the place of one that the script wants" {
  make_repo work train.py "$needing"
  id=$(queued -- --name n --dta=here)
  run -2 pipeline
  told "$id" "the script wants --data; --dta is no option of it, and --data may be meant" "try: agent-task edit $id"
  mended "$id"
  agent-task log "$id" | grep -qx "{'data': 'here', 'name': 'n'}"
}

@test "a value that the script does not take" {
  make_repo work train.py "$parser"
  id=$(queued -- --optimizer adma)
  run -2 pipeline
  told "$id" "--optimizer takes no adma, but adam, sgd; adam may be meant" "'train.py --optimizer adam'"
  mended "$id"
}

@test "memory that ran out, by a script that says so" {
  make_repo work train.py "$parser"
  id=$(queued -- --batch-size 32)
  run -1 pipeline
  told "$id" "memory ran out" "--set Args/batch-size=16"
  mended "$id"
}

@test "an exception that nothing caught: what it says, and the line of one's own that it came through" {
  make_repo work train.py $'import json\njson.loads("{")'
  id=$(queued --)
  run -1 pipeline
  told "$id" "script_failed, exit 1" "json.decoder.JSONDecodeError: Expecting property name" "at train.py:2 (exit 1)" \
    "try: \${EDITOR:-vi} +2 $PWD/work/train.py && agent-task edit $id --checkout $PWD/work && agent-task enqueue $id" \
    "or: all that it printed"
  editor 'sed -i "${1#+}s/{/{}/" "$2"'
  EDITOR=$PWD/editor mended "$id"
}

@test "a process that the script has started: its own exception, and the line that raised it" {
  make_repo work train.py $'import multiprocessing, subprocess, sys
def f(x):
    return 1 / x
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        pool.map(f, [1, 0])
    subprocess.run([sys.executable, "child.py"], check=True)' child.py $'x = [1]\nx[3]'
  id=$(queued --)
  run -1 pipeline
  told "$id" "ZeroDivisionError: division by zero, at train.py:3 (exit 1)" "| ZeroDivisionError" \
    "try: \${EDITOR:-vi} +3 $PWD/work/train.py && "
  editor 'sed -i "${1#+}s,1 / x,1," "$2"'
  EDITOR=$PWD/editor tried
  run -1 pipeline
  told "$id" "IndexError: list index out of range, at child.py:2 (exit 1)" "| IndexError" \
    "try: \${EDITOR:-vi} +2 $PWD/work/child.py && "
  editor 'sed -i "${1#+}s/3/0/" "$2"'
  EDITOR=$PWD/editor mended "$id"
}

@test "a file of the repository that is no JSON: its line, and not the one that reads it" {
  make_repo work train.py $'import json\nprint(json.load(open("conf/c.json")))' conf/c.json $'{\n "a": 1\n "b": 2\n}'
  id=$(queued --)
  run -1 pipeline
  told "$id" "conf/c.json:3 cannot be read as JSON: Expecting ',' delimiter (exit 1)" \
    "try: \${EDITOR:-vi} +3 $PWD/work/conf/c.json && "
  editor 'sed -i "$((${1#+} - 1))s/$/,/" "$2"'
  EDITOR=$PWD/editor mended "$id"
}

@test "a script of a package, which is run by its path: as a module of it" {
  make_repo work pkg/train.py $'import sys\nfrom .helper import X\nprint(X, sys.argv[1:])' pkg/helper.py 'X = 1'
  id=$(agent-task enqueue --repo work pkg/train.py -- --name 'two words' 2>/dev/null)
  run -1 pipeline
  told "$id" "pkg/train.py is run by its path, and from .helper import X wants a package around it" \
    "try: agent-task edit $id --entry-point '-m pkg.train --name "
  mended "$id"
  agent-task log "$id" | grep -qx "1 \['--name', 'two words'\]"
}

@test "a file of the repository that stands in the place of one of Python's modules" {
  make_repo work train.py $'import shelve\nshelve.open("x")' shelve.py ''
  id=$(queued --)
  run -1 pipeline
  told "$id" "shelve.py of the repository stands in the place of the module shelve" "to do: give it another name"
  sh -c "$(sed -n 's/^  to do: .* is imported: \(.*\); then \(.*\)/\1 \&\& \2/p' <<<"$report")" >/dev/null 2>&1
  pipeline
  [ "$(status "$id")" = completed ]
}

@test "a shell script: its line, the line ends of Windows, and a program of the repository that is none for git" {
  make_repo work run.sh $'set -e\n. settings.sh\n./tool.sh' tool.sh $'#!/bin/sh\necho worked'
  id=$(agent-task enqueue --repo work run.sh 2>/dev/null)
  run -1 pipeline
  told "$id" "settings.sh: No such file or directory, at run.sh:2 (exit 1)" "try: \${EDITOR:-vi} +2 $PWD/work/run.sh && "
  editor 'sed -i "${1#+}d; s/$/\r/" "$2"'
  EDITOR=$PWD/editor tried
  run ! pipeline
  told "$id" "run.sh has the line ends of Windows (CRLF)" "try: sed -i 's/\\r\$//' $PWD/work/run.sh && "
  tried
  run -126 pipeline
  told "$id" "tool.sh is not executable in git (exit 126)" "try: chmod +x $PWD/work/tool.sh && "
  mended "$id"
}

@test "a port that is in use: what the worker is to be asked, and no line to mend" {
  make_repo work train.py 'import os, socket
given, other = socket.socket(), socket.socket()
given.bind(("127.0.0.1", 0)); given.listen()
if not os.path.exists(os.environ["HOME"] + "/go"): other.bind(given.getsockname())'
  id=$(queued --)
  run -1 pipeline
  told "$id" "a port of " " is in use, at train.py:4 (exit 1)" "to do: on " "ss -ltnp" "agent-task enqueue $id"
  touch "$HOME/go"
  sh -c "$(sed -n 's/^  to do: .* free again: //p' <<<"$report")"
  pipeline
  [ "$(status "$id")" = completed ]
}

@test "a checkout on another branch is not the task's: no command that would run the other code" {
  make_repo work train.py 'raise ValueError(1)'
  id=$(queued --)
  run -1 pipeline
  told "$id" "ValueError: 1, at train.py:1" "try: \${EDITOR:-vi} +1 $PWD/work/train.py && "
  git -C work switch -q -c other
  told "$id" "to do: mend train.py:1 in your checkout on branch main, and there: agent-task edit $id --checkout ."
  [[ $report != *"try:"* ]]
  run -0 --separate-stderr agent-task edit "$id" --checkout work
  [[ $stderr == *"warning: the code of branch other takes the place of that of main (git switch main)"* ]]
  git -C work checkout -q --detach
  id=$(queued --)
  run -1 pipeline
  told "$id" "try: \${EDITOR:-vi} +1 $PWD/work/train.py && "
}

@test "a script in a folder with a blank, and one that is not ASCII: its neighbours are known all the same" {
  make_repo work 's c/train.py' 'import hlper' 's c/helper.py' 'X = 1' 'é/train.py' 'import mine' 'é/your.py' ''
  id=$(agent-task enqueue --repo work 's c/train.py' 2>/dev/null)
  run -1 pipeline
  told "$id" "helper may be meant" "try: \${EDITOR:-vi} +1 '$PWD/work/s c/train.py' && "
  editor 'sed -i "${1#+}s/hlper/helper/" "$2"'
  EDITOR=$PWD/editor mended "$id"
  id=$(agent-task enqueue --repo work 'é/train.py' 2>/dev/null)
  run -1 pipeline
  echo >work/é/mine.py
  told "$id" "the module mine is in your checkout" "try: git -C "
  mended "$id"
}

@test "a word of several lines, in what is to be typed" {
  make_repo work train.py 'import argparse, sys
a = argparse.ArgumentParser()
a.add_argument("--lr", type=float)
a.add_argument("--name")
if a.parse_args().name != "a\\b\n\tc": sys.exit("another name")'
  name=$'a\\b\n\tc'
  id=$(queued -- --name "$name" --lrr 3)
  run -2 pipeline
  told "$id" "--lr may be meant" "try: agent-task edit $id --entry-point 'train.py --name '\"'\"\$'a\\\\b\\n\\tc'\"'\"' --lr 3'"
  bash -c "$(sed -n 's/^  try: //p' <<<"$report")" >/dev/null 2>&1
  pipeline
  [ "$(status "$id")" = completed ]
}

@test "a file, or a module of one's own, that git does not know" {
  make_repo work train.py 'import mine; print(mine.X, open("data/points.csv").read())'
  mkdir work/data
  echo 1,2 >work/data/points.csv
  echo 'X = 1' >work/mine.py
  id=$(queued --)
  run -1 pipeline
  told "$id" "the module mine is in your checkout, and git does not know it" "try: git -C $PWD/work add -N -- "
  tried
  run -1 pipeline
  told "$id" "data/points.csv is in your checkout, and git does not know it" "--checkout $PWD/work"
  mended "$id"
}

# bats test_tags=local
@test "a file that git ignores: a new task like this one in words, and nothing of the kind for a secret" {
  make_repo work train.py $'import sys\nprint(open(sys.argv[1]).read())' .gitignore $'data\n.env'
  mkdir work/data
  echo 1,2 >work/data/points.csv
  echo API_KEY=supersecret123 >work/.env
  id=$(queued --project 'My project/xyz' --name 'a name' --tag one --tag 'the other' -- data/points.csv)
  run -1 pipeline
  told "$id" "data/points.csv is in your checkout, and git does not know it" "to do: git ignores it; if everybody"
  command=$(sed -n "s/^  to do: .*, in [^ ]*: \(agent-task enqueue .*\); data that .*/\1/p" <<<"$report")
  again=$(cd work && sh -c "$command" 2>/dev/null)
  pipeline
  [ "$(status "$again")" = completed ]
  [ "$(agent-task show --json "$again" | jq -c '[.name, .tags]')" = '["a name",["one","the other"]]' ]
  same=$(agent-task show --json "$id" | jq .project)
  [ "$(agent-task show --json "$again" | jq .project)" = "$same" ]
  id=$(queued -- .env)
  run -1 pipeline
  told "$id" ".env is in your checkout, and git does not know it" "to do: git ignores it, and it looks like a secret"
  [[ $report != *"git -C"* && $report != *"--include"* && $report != *supersecret* ]]
  [ -z "$(git -C work status --porcelain)" ]
}

@test "a script that git does not know: it is taken along, and no other one is run in its place" {
  make_repo work train.py 'print(1)' pkg/sub/main.py 'print(1)' pkg/util.py ''
  id=$(queued --)
  agent-task dequeue "$id"
  agent-task edit "$id" --entry-point pkg/sub/rel.py
  agent-task enqueue "$id" 2>/dev/null
  run -66 pipeline
  told "$id" "there is no pkg/sub/rel.py in the checkout" \
    "to do: commit and push it, or name another: agent-task edit $id --entry-point"
  [[ $report != *main.py* ]]
  echo 'print(2)' >work/pkg/sub/rel.py
  told "$id" "pkg/sub/rel.py is in your checkout, and git does not know it" \
    "try: git -C $PWD/work add -N -- $PWD/work/pkg/sub/rel.py && agent-task edit $id --checkout $PWD/work" \
    "or: commit and push it"
  mended "$id"
}

@test "a mistyped file: in the code, or on the command line" {
  make_repo work train.py $'import sys\nprint(open(sys.argv[1]).read())\nopen("dat/points.csv")' data/points.csv 1,2
  id=$(queued -- dat/points.csv)
  run -1 pipeline
  told "$id" "there is no dat/points.csv where the script runs; data/points.csv may be meant" \
    "try: agent-task edit $id --entry-point 'train.py data/points.csv'"
  tried
  run -1 pipeline
  told "$id" "data/points.csv may be meant" "try: \${EDITOR:-vi} +3 $PWD/work/train.py && "
  editor 'sed -i "${1#+}s/dat/data/" "$2"'
  EDITOR=$PWD/editor mended "$id"
}

@test "a folder that is not there to write into: the line that goes before" {
  make_repo work train.py $'import os\nopen("out/result.txt", "w").write("1")'
  id=$(queued --)
  run -1 pipeline
  told "$id" "there is no folder out to write result.txt into, at train.py:2" "+2 $PWD/work/train.py" \
    'or: before that line: os.makedirs("out", exist_ok=True)'
  sed -n 's/^  or: before that line: //p' <<<"$report" >before
  editor 'sed -i "$((${1#+} - 1))r before" "$2"'
  EDITOR=$PWD/editor mended "$id"
}

@test "a line of a notebook: its cell, and the line there" {
  make_repo work note.ipynb '{"cells": [{"cell_type": "markdown", "source": "# x"},
    {"cell_type": "code", "source": ["!true \\\n", "  x\n", "1 / 0"]}]}'
  id=$(agent-task enqueue --repo work note.ipynb 2>/dev/null)
  run -1 pipeline
  told "$id" "ZeroDivisionError: division by zero, at note.ipynb, cell 2, line 3 (1 / 0)" \
    "to do: mend note.ipynb, cell 2, line 3 (1 / 0) in $PWD/work and save it, then: agent-task edit $id --checkout"
  [[ ${report##*to do} != *note.py[^n]* ]]
  sed -i 's,1 / 0,1 / 1,' work/note.ipynb
  sh -c "$(sed -n 's/^  to do: .*, then: //p' <<<"$report")"
  pipeline
  [ "$(status "$id")" = completed ]
}

@test "a source that is not UTF-8" {
  make_repo work train.py x
  printf 'x = "caf\351"\n' >work/train.py
  git -C work commit -qam latin
  id=$(queued --)
  run -1 pipeline
  told "$id" "train.py:1 is not UTF-8" "try: \${EDITOR:-vi} +1 $PWD/work/train.py && " "or: save it as UTF-8"
  editor 'iconv -f latin1 -t utf-8 "$2" >new && cat new >"$2"'
  EDITOR=$PWD/editor mended "$id"
}

@test "a script that ended itself: the line where, by what it said or by its status alone" {
  make_repo work train.py $'import sys\nx = 7\nif x > 5: sys.exit(f"x is {x}: too much")\nif x > 3: sys.exit(4)'
  id=$(queued --)
  run -1 pipeline
  told "$id" "x is 7: too much, at train.py:3 (exit 1)" "try: \${EDITOR:-vi} +3 $PWD/work/train.py && "
  editor 'sed -i s/7/4/ "$2"'
  EDITOR=$PWD/editor tried
  run -4 pipeline
  told "$id" "it printed nothing, at train.py:4 (exit 4)" "try: \${EDITOR:-vi} +4 $PWD/work/train.py && "
  printf '#!/bin/sh\nsed -i 2s/4/2/ "$2"\n' >editor
  EDITOR=$PWD/editor mended "$id"
}

@test "a variable of the environment that the worker does not set" {
  make_repo work train.py 'import os; print(os.environ["NOT_SET"])'
  id=$(queued --)
  run -1 pipeline
  told "$id" "the environment variable NOT_SET is not set" "set NOT_SET where the agent is started"
  export NOT_SET=set
  agent-task enqueue "$id"
  pipeline
}

@test "a crash of a compiled part: the line that it came through, once asked for" {
  make_repo work train.py $'import ctypes\nctypes.string_at(0)'
  id=$(queued --)
  run -139 pipeline
  told "$id" "a compiled part of it crashed: SIGSEGV" "-X faulthandler"
  tried
  run -139 pipeline
  told "$id" "a compiled part of it crashed: SIGSEGV, at train.py:2" "to do: other versions"
}

@test "a package that was built for NumPy 1, beside NumPy 2" {
  make_repo work train.py 'import bottleneck; print(bottleneck.nansum([1.0]))'
  printf 'bottleneck==1.3.7\nnumpy>=2\n' >list
  id=$(agent-task enqueue --repo work --requirements list --python 3.11 train.py 2>/dev/null)
  run -1 pipeline
  told "$id" "it was written for NumPy 1, and NumPy 2 is installed" "--package 'numpy<2'"
  mended "$id"
}

@test "a library that the worker lacks, as its loader says it" {
  make_repo work train.py 'import ctypes; ctypes.CDLL("libnosuch.so.3")'
  id=$(queued --)
  run -1 pipeline
  told "$id" "this machine lacks the library libnosuch.so.3" "install the system package with libnosuch.so.3"
}

# bats test_tags=local
@test "a module beside a script that is in no git repository: it is taken along, and nothing is told to git" {
  mkdir plain
  echo 'import my_helper_of_tests' >plain/train.py
  echo 'print("helped")' >plain/my_helper_of_tests.py
  id=$(cd plain && agent-task enqueue --requirements none train.py)
  run -1 pipeline
  told "$id" "the module my_helper_of_tests is not installed" "beside the script: agent-task enqueue"
  [[ $report != *"git add"* ]]
  line=${report#*beside the script: }
  other=$(cd plain && sh -c "${line%%; *}")
  run -0 pipeline
  [[ $(agent-task log --stream log "$other") == *helped* ]]
}

@test "a time limit: twice as long" {
  id=$(enqueue_shell 'until [ -e "$HOME/go" ]; do sleep 0.05; done')
  run -124 pipeline --time-limit 0.3
  told "$id" "time_limit, exit 124" "it ran longer than 0.3 s" "agent-run --time-limit 0.6"
  touch "$HOME/go"
  mended "$id"
}

@test "a time limit where a supervisor serves the queue: the task is not taken with the old limit again" {
  id=$(enqueue_shell 'until [ -e "$HOME/go" ]; do sleep 0.05; done')
  AGENT_STAGE_RUN='agent-run --time-limit 0.5' agent-supervisor default 3>&- 2>said & supervisor=$!
  wait_for 20 has_status "$id" failed
  told "$id" "time_limit, exit 124" "agent-run --time-limit 1 >/dev/null"
  touch "$HOME/go"
  run -0 sh -c "$(agent-task why --json "$id" | field .remedy)"
  [[ $output != *'{'* ]]
  has_status "$id" completed
  kill -TERM "$supervisor"
  wait "$supervisor" || true
}

@test "silence for too long: twice as long" {
  id=$(enqueue_shell 'until [ -e "$HOME/go" ]; do sleep 0.05; done')
  run -124 pipeline --stall-limit 0.3
  told "$id" "stalled, exit 124" "it printed nothing for 0.3 s" "agent-run --stall-limit 0.6"
  touch "$HOME/go"
  mended "$id"
}

@test "a script whose process is gone" {
  id=$(enqueue_shell '[ -e "$HOME/go" ] || { touch "$HOME/here"; exec sleep 100; }')
  agent-pull default | agent-prepare -q >line
  agent-run -q <line 3>&- >receipt.json & runner=$!
  wait_for 20 test -e "$HOME/here"
  pid=$(readlink "$(attempt "$id")/pid" | cut -d' ' -f1)
  shim=$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status")
  kill -9 "$runner" "$shim" "$pid"
  wait "$runner" || true
  export AGENT_CLAIM_GRACE=0
  agent-pull default
  told "$id" "lost, exit 125" "its process is gone" "try: agent-task enqueue $id"
  touch "$HOME/go"
  mended "$id"
}

@test "a task that its user stopped" {
  id=$(enqueue_shell 'true')
  agent-task stop "$id"
  told "$id" aborted "stopped with agent-task" "try: agent-task enqueue $id"
  mended "$id"
}

@test "a commit that was not pushed: words, then the command" {
  make_repo work
  git clone -q --bare work remote.git
  git -C work remote add origin "$PWD/remote.git"
  git -C work fetch -q
  git -C work commit -q --allow-empty -m 'not pushed'
  id=$(queued --)
  run -66 pipeline
  told "$id" "setup_failed, exit 66, in agent-fetch" "is not there" "to do: push it" "then, once it is pushed: agent-task enqueue $id"
  git -C work push -q origin main
  mended "$id"
}

@test "an index that nobody reaches: words, then the command" {
  make_repo work train.py 'print(1)' requirements.txt 'tea'
  id=$(queued --)
  PIP_INDEX_URL=http://127.0.0.1:9/simple UV_HTTP_RETRIES=0 run -69 pipeline
  told "$id" "setup_failed, exit 69, in agent-env" "to do: check the network" "then: agent-task enqueue $id"
  agent-task edit "$id" --requirements none  # in the place of a network that is there again
  mended "$id"
}

@test "an index of the task's own list that nobody reaches: the line" {
  make_repo work train.py 'print(1)' requirements.txt $'six\n--index-url http://127.0.0.1:9/simple'
  id=$(queued --)
  UV_HTTP_RETRIES=0 run -69 pipeline
  told "$id" "cannot reach http://127.0.0.1:9/simple/six/, which requirements.txt:2 names" \
    "try: \${EDITOR:-vi} +2 $PWD/work/requirements.txt && agent-task edit $id --requirements " "or: check the network" \
    "agent-task edit $id --drop-package '--index-url http://127.0.0.1:9/simple'"
  editor 'sed -i "${1#+}d" "$2"'
  EDITOR=$PWD/editor mended "$id"
}

@test "a program that the worker lacks: words, then the command" {
  make_repo work train.py 'print(1)'
  id=$(queued --binary nosuchprogram-of-agentpipe --)
  run -66 pipeline
  told "$id" "nosuchprogram-of-agentpipe is not on PATH here" "to do: install" "then: agent-task enqueue $id"
  mkdir -p bin
  printf '#!/bin/sh\ncat "$@"\n' >bin/nosuchprogram-of-agentpipe
  chmod +x bin/nosuchprogram-of-agentpipe
  export PATH=$PWD/bin:$PATH
  mended "$id"
}

@test "a stage that an operator has swapped for nothing: the task is not to blame, and waits" {
  id=$(enqueue_shell 'true')
  MY_API_TOKEN=s3cr3t-of-mine AGENT_STAGE_ENV='nosuchcommand --key s3cr3t-of-mine' run -78 pipeline
  told "$id" "waits in default" "AGENT_STAGE_ENV (nosuchcommand --key " ") ended with 127 (unset AGENT_STAGE_ENV" \
    "try: agent-pull default | agent-prepare | agent-run"
  [[ $report != *s3cr3t-of-mine* ]]
  mended "$id"
}

@test "a draft, and a task in a queue that nobody serves" {
  id=$(agent-task create "$(echo true >job.sh; echo job.sh)" 2>/dev/null)
  told "$id" "a draft: it stands in no queue" "try: agent-task enqueue $id"
  tried
  told "$id" "it is next; nobody serves this queue" "try: agent-pull default | agent-prepare | agent-run"
  mended "$id"
}

@test "a script that runs on after its agent was killed: taken over" {
  id=$(enqueue_shell 'until [ -e "$HOME/go" ]; do sleep 0.05; done')
  left_unwatched "$id"
  told "$id" "its script runs, but nobody watches it" "try: agent-pull --id $id | agent-run"
  touch "$HOME/go"
  mended "$id"
}

@test "an end that could not be told to the server" {
  id=$(enqueue_shell 'echo over')
  AGENT_CRASH_AT=run:decided pipeline || true
  export AGENT_CLAIM_GRACE=0
  told "$id" "it has ended, which could not be told to its server yet" "try: agent-pull --id $id"
  mended "$id"
}

@test "a set-up that was killed: given back and done again" {
  id=$(enqueue_shell 'true')
  agent-pull default >line
  run -137 sh -c 'AGENT_CRASH_AT=env:done agent-prepare -q <line'
  export AGENT_CLAIM_GRACE=0
  told "$id" running "nobody works on it any more" "try: agent-pull --id $id | agent-prepare | agent-run"
  mended "$id"
}

@test "of a task at work: what it does, for how long, and what it printed last" {
  id=$(enqueue_shell 'echo "epoch 3 of 10"; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  pipeline 3>&- & runner=$!
  wait_for 20 sh -c "agent-task log $id | grep -q 'epoch 3'"
  told "$id" "running, in agent-run" "its script runs for " "the last that was printed, " "| epoch 3 of 10"
  touch "$HOME/go"
  wait "$runner"
}

@test "of a task that waits: its place, who serves the queue, and when that was heard of" {
  first=$(enqueue_shell 'true'); id=$(enqueue_shell 'true')
  queue=$(call tasks.get_by_id "{\"task\": \"$first\"}" | field .task.execution.queue)
  call workers.status_report "{\"worker\": \"node7:0\", \"timestamp\": 1, \"queues\": [\"$queue\"], \"task\": \"$first\"}" >/dev/null
  told "$id" "waits in default for" "1 before it" "served by node7:0 (heard of" " s ago), all busy"
  call queues.update "{\"queue\": \"$queue\", \"tags\": [\"force_workers:off\"]}" >/dev/null
  told "$id" "1 before it; an administrator has closed this queue (its tag force_workers:off)"
}
