# agent-task enqueue --bundle and --check: what git would not bring to a worker, and trying first.
# shellcheck disable=SC2030,SC2031  # each test is a subshell

bats_require_minimum_version 1.5.0

setup() {
  load ../helpers; fresh
  make_repo work train.py 'import mine, tool; print(mine.word, tool.word, open("data.txt").read().strip(), flush=True)' \
    tool.py 'word = "old"' .gitignore 'data.txt'
  git clone -q --bare work remote.git
  git -C work remote add origin "$BATS_TEST_TMPDIR/remote.git"
  git -C work fetch -q
}

teardown() { if [ -n "${SERVER:-}" ]; then kill "$SERVER" 2>/dev/null || true; fi; }

# a commit that nobody pushed, a file that git does not know, and one that it ignores
unpushed() {
  echo 'word = "new"' >work/tool.py
  git -C work commit -qam second
  echo 'word = "mine"' >work/mine.py
  echo data >work/data.txt
}

pipeline() { agent-pull default | agent-prepare --quiet | agent-run --quiet >receipt.json; }

# what the script printed, of the newest attempt
printed() { cat "$(dirname "$(field .fetch.code receipt.json)")/log"; }

@test "commits that were not pushed and files that git does not know run far from the checkout" {
  unpushed
  run -0 --separate-stderr agent-task enqueue --bundle --include work/data.txt --repo work train.py
  id=$output
  [[ $stderr == *"1 commit that was not pushed goes along"* ]]
  [[ $stderr == *"2 files go along"*"data.txt, mine.py"* && $stderr != *warning* ]]
  head=$(git -C work rev-parse HEAD)
  rm -rf work
  run -0 pipeline
  [ "$(printed)" = "mine new data" ]
  [ "$(field .fetch.commit receipt.json)" = "$head" ]
  # the remote was not touched
  run -1 git -C remote.git cat-file -e "$head"
  # it runs again, and so does a clone
  agent-task enqueue "$id" 2>/dev/null
  run -0 pipeline
  clone=$(agent-task clone --queue default "$id")
  run -0 pipeline
  [ "$(printed)" = "mine new data" ]
  # its files stay as long as one of the two is there
  agent-task delete --force "$id"
  [ -n "$(ls "$AGENT_HOME"/state/files/agentpipe/*/artifacts)" ]
  agent-task delete --force "$clone"
  [ ! -e "$AGENT_HOME/state/files/agentpipe" ]
}

@test "without a remote all of it goes along" {
  git -C work remote remove origin
  unpushed
  agent-task enqueue --bundle --include work/data.txt --repo work train.py
  rm -rf work remote.git
  run -0 pipeline
  [ "$(printed)" = "mine new data" ]
}

@test "over HTTP the files go through the files server" {
  agent-server --port 0 --files-port 0 --json >ready 2>said 3>&- &
  SERVER=$!
  wait_for 20 test -s ready
  unpushed
  export AGENT_HOME=$BATS_TEST_TMPDIR/elsewhere
  CLEARML_API_HOST=$(field .api_server ready) CLEARML_FILES_HOST=$(field .files_server ready)
  CLEARML_API_ACCESS_KEY=$(field .access_key ready) CLEARML_API_SECRET_KEY=$(field .secret_key ready)
  export CLEARML_API_HOST CLEARML_FILES_HOST CLEARML_API_ACCESS_KEY CLEARML_API_SECRET_KEY
  id=$(agent-task enqueue --bundle --include work/data.txt --repo work train.py)
  rm -rf work
  run -0 pipeline
  [ "$(printed)" = "mine new data" ]
  agent-task show --json "$id" | grep -q "\"uri\": *\"$CLEARML_FILES_HOST/agentpipe/$id"
}

@test "a local package outside the checkout goes along, and its line names its new place" {
  mkdir -p lib/word
  echo 'word = "packaged"' >lib/word/__init__.py
  printf '[project]\nname = "word"\nversion = "1"\n[tool.setuptools]\npackages = ["word"]\n' >lib/pyproject.toml
  printf 'import word\nprint(word.word, flush=True)\n' >work/use.py
  printf -- '-e ../lib\n' >work/requirements.txt
  git -C work add -A
  git -C work commit -qm uses
  id=$(agent-task enqueue --bundle --repo work use.py)
  agent-task show --json "$id" | grep -q -e '-e ./.agentpipe/packages/lib'
  rm -rf work lib
  run -0 pipeline
  [ "$(printed)" = packaged ]
}

@test "a script that git does not know goes along; one that is ignored takes --include" {
  echo 'print("new", flush=True)' >work/new.py
  agent-task enqueue --bundle --repo work new.py
  run -0 pipeline
  [ "$(printed)" = new ]
  run -66 agent-task enqueue --bundle --include nosuch.txt --repo work train.py
  run -66 agent-task enqueue --bundle --include "$HOME" --repo work train.py
  [[ $output == *"keep their place there"* ]]
}

@test "an artefact that was changed is refused" {
  unpushed
  agent-task enqueue --bundle --include work/data.txt --repo work train.py
  for file in "$AGENT_HOME"/state/files/agentpipe/*/artifacts/files.tar.gz; do echo >>"$file"; done
  run -65 pipeline
  [[ $output == *"SHA-256 differs"* || $(field .failed.reason receipt.json) == *"SHA-256 differs"* ]]
}

@test "--check says that it would work, and queues it" {
  unpushed
  run -0 --separate-stderr agent-task enqueue --check --bundle --include work/data.txt --repo work train.py
  [[ $stderr == *"check: commit "*"can be fetched"* && $stderr == *"check: nothing is to be installed"* ]]
  agent-task show "$output" >/dev/null
  echo six >work/requirements.txt
  echo 'x = 1' >>work/tool.py
  git -C work push -q origin main
  git -C work add -N mine.py requirements.txt
  run -0 --separate-stderr agent-task enqueue --check --repo work train.py
  [[ $stderr == *"check: the changes apply: 3 file(s)"* && $stderr == *"resolve to 1 package"* ]]
}

# refused EXIT WORDS OPTION…: --check says so, and there is no task
refused() {
  local exit=$1 words=$2; shift 2
  run "-$exit" --separate-stderr agent-task enqueue --check --repo work "$@"
  [[ $stderr == *"check: "*$words* ]]
  [ -z "$(agent-task list --json)" ]
}

@test "--check queues nothing that could not be set up" {
  git -C work commit -q --allow-empty -m second
  refused 66 "is not there" train.py
  git -C work push -q origin main
  echo 'nosuch-package-of-nobody' >list
  refused 66 nosuch-package-of-nobody --requirements list train.py
  printf 'six==1.16.0\nsix==1.15.0\n' >list
  refused 65 six --requirements list train.py
  refused 66 "branch nosuch of" --branch nosuch train.py
}

@test "--check is not misled by commits that a bundle has left in this machine's cache" {
  unpushed
  agent-task enqueue --bundle --include work/data.txt --repo work train.py
  run -0 pipeline
  run -66 --separate-stderr agent-task enqueue --check --repo work train.py
  [[ $stderr == *"check: commit "*"is not on origin"*"(git -C $PWD/work push origin main)"* ]]
}
