# agent-env as a user types it.

bats_require_minimum_version 1.5.0

setup() {
  load ../helpers; fresh
  # packages of our own, found without a network
  unset PIP_EXTRA_INDEX_URL PIP_INDEX_URL PIP_CONSTRAINT
  export PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS=$BATS_FILE_TMPDIR/index
  [ -d "$PIP_FIND_LINKS" ] || PYTHONPATH=$ROOT/tests/unit python3 -c '
import sys, wheelhouse
for version in "1.0", "2.0":
    wheelhouse.wheel(sys.argv[1], "tea", version, scripts=["tea"])
wheelhouse.wheel(sys.argv[1], "milk", "1.0", requires=["tea<2"])' "$PIP_FIND_LINKS"
}

# manifest REQUIREMENTS [NAME=VALUE…]: a task by hand with these lines, and fields of `script`
manifest() {
  py '
import json, sys
script = dict(word.split("=", 1) for word in sys.argv[2:])
print(json.dumps({"task": {"script": {"requirements": {"pip": sys.argv[1]}, **script}}}))' "$@"
}

@test "nothing on standard input is no work: silent, exit 0" {
  run -0 --separate-stderr agent-env </dev/null
  [ -z "$output$stderr" ]
}

@test "a task by hand gets its packages, and its manifest tells which Python has them" {
  manifest milk | agent-env >ready.json
  [ "$("$(field .env.python ready.json)" -c 'import tea; print(tea.version)')" = 1.0 ]
  [ "$(field .env.packages ready.json)" = '["milk==1.0", "tea==1.0"]' ]
  [ "$(field .env.cached ready.json)" = false ]
}

@test "the second task with the same list takes it from the cache" {
  manifest milk | agent-env >one.json
  manifest $'# the same\n\nMILK' | agent-env >two.json
  [ "$(field .env.cached two.json)" = true ]
  [ "$(field .env.base one.json)" = "$(field .env.base two.json)" ]
  [ "$(field .env.python one.json)" != "$(field .env.python two.json)" ]
}

@test "what a task installs while it runs is not seen by the next one" {
  manifest milk | agent-env >one.json
  "$(field .env.python one.json)" -m pip install -q tea==2.0
  [ "$("$(field .env.path[0] one.json)/tea")" = "tea 2.0" ]
  manifest milk | agent-env >two.json
  [ "$("$(field .env.path[0] two.json)/tea")" = "tea 1.0" ]
}

@test "without a list, the repository's requirements.txt counts" {
  make_repo repo train.py 'import milk' requirements.txt milk
  manifest '' repository="$PWD/repo" entry_point=train.py | agent-fetch | agent-patch | agent-env >ready.json
  [ "$(field .env.packages ready.json)" = '["milk==1.0", "tea==1.0"]' ]
}

@test "a bash task starts at once, without Python" {
  manifest '' binary=bash | agent-env >ready.json
  [ "$(field .env.python ready.json)" = null ]
  [ "$(field .env.installer ready.json)" = none ]
  [ ! -e "$AGENT_HOME/cache/envs" ]
}

@test "a package that does not exist: one line that names it and a remedy, exit 66; the remedy works" {
  run -66 --separate-stderr agent-env <<<"$(manifest $'milk\ntea==1.5')"
  [ "${#stderr_lines[@]}" -eq 1 ]
  [[ $stderr == *"tea==1.5"* ]]
  [ "$(field .failed.remedy <<<"$output")" = "replace 'tea==1.5' by 'tea==1.0' in the requirements" ]
  [[ $(field .failed.evidence <<<"$output") == *"no version of tea==1.5"* ]]
  manifest $'milk\ntea==1.0' | agent-env >ready.json
  [ "$(field .env.packages ready.json)" = '["milk==1.0", "tea==1.0"]' ]
}

@test "requirements that contradict each other: exit 65, both are named" {
  run -65 --separate-stderr agent-env <<<"$(manifest $'milk\ntea==2.0')"
  [[ $stderr == *"tea==2.0"* && $stderr == *milk* ]]
}

@test "an index that is not there: exit 69" {
  unset PIP_NO_INDEX
  export PIP_INDEX_URL=http://127.0.0.1:9/simple UV_HTTP_RETRIES=0
  run -69 --separate-stderr agent-env <<<"$(manifest six)"
  [[ $stderr == *"cannot reach http://127.0.0.1:9/simple"* ]]
}

@test "a Python that is not there is replaced by the nearest, with a warning in the log" {
  manifest tea binary=python3.99 | agent-env --verbose >ready.json 2>log
  grep -q 'Python 3.99 is not on this machine' log
  [ "$("$(field .env.python ready.json)" -c 'import platform; print(platform.python_version())')" = "$(field .env.version ready.json)" ]
}

@test "no Python of that kind at all: exit 66, with a list of what is there" {
  run -66 --separate-stderr agent-env <<<"$(manifest tea binary=python2.0)"
  [[ $stderr == *"no Python 2.0"* ]]
  [[ $(field .failed.evidence <<<"$output") == *"there are: "*3.* ]]
}

@test "--dry-run says which Python, which cache and which packages, and builds nothing" {
  manifest milk >task.json
  run -0 --separate-stderr agent-env --dry-run --verbose task.json
  [[ $stderr == *"Python 3."* && $stderr == *"would be built"* && $stderr == *"would install milk"* ]]
  [ ! -e "$AGENT_HOME/cache/envs" ]
}

@test "killed while it installs, the next run builds it whole" {
  manifest milk >task.json
  run env AGENT_CRASH_AT=env:installed agent-env task.json
  [ "$status" -ne 0 ]
  agent-env task.json >ready.json
  [ "$(field .env.cached ready.json)" = false ]
  "$(field .env.python ready.json)" -c 'import milk, tea'
}

@test "progress of the installer is seen as it comes" {
  run -0 --separate-stderr agent-env --verbose <<<"$(manifest milk)"
  [[ $stderr == *"+ milk==1.0"* ]]
  manifest milk | agent-env --quiet >ready.json 2>quiet
  [ ! -s quiet ]
}

@test "a real package of the index" {
  unset PIP_NO_INDEX PIP_FIND_LINKS
  export PIP_CONFIG_FILE=
  manifest six==1.16.0 | agent-env >ready.json
  [ "$("$(field .env.python ready.json)" -c 'import six; print(six.__version__)')" = 1.16.0 ]
}

@test "--help shows examples, and the man page is right" {
  agent-env --help | grep -q 'agent-env --dry-run'
  mandoc -T lint -W warning "$ROOT/man/agent-env.1"
}

@test "what was installed is recorded on the task, and a clone of it finds the environment built" {
  make_repo repo train.py 'print("ran")' requirements.txt 'Tea<2'
  call tasks.create "{\"name\":\"frozen\",\"type\":\"training\",\"script\":{\"repository\":\"$PWD/repo\",\"entry_point\":\"train.py\"}}" >created
  id=$(field .id created)
  call tasks.enqueue "{\"task\": \"$id\"}" >enqueued
  sh -c 'agent-pull default | agent-prepare | agent-run' >first.json
  [[ $(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.script.requirements.pip) == '["tea==1.0"]' ]]
  [ "$(call tasks.get_by_id "{\"task\": \"$id\"}" | field .task.script.requirements.org_pip)" = 'Tea<2' ]
  call tasks.clone "{\"task\": \"$id\"}" >cloned
  call tasks.enqueue "{\"task\": \"$(field .id cloned)\"}" >enqueued
  sh -c 'agent-pull default | agent-prepare | agent-run' >second.json
  [ "$(field .env.cached first.json)" = false ]
  [ "$(field .env.cached second.json)" = true ]
}

@test "--list, --verify and --prune look after the cache, and leave what a task uses" {
  [ -z "$(agent-env --list)" ]
  manifest milk | agent-env >ready.json
  [ "$(agent-env --list | field .packages)" = '["milk==1.0", "tea==1.0"]' ]
  run -0 --separate-stderr agent-env --verify
  [[ $stderr == *"1 environment looked over, 0 damaged"* ]]
  for words in "--keep 0" "--keep=0" "--list --keep 0"; do
    read -ra given <<<"$words"
    run -64 agent-env "${given[@]}" </dev/null
    [[ $output == *"--keep N goes with --prune"* ]]
  done
  run -0 --separate-stderr agent-env --prune --keep 0
  [[ $stderr == *"0 environments removed; 1 are left"* ]]
  ln -s completed "$(dirname "$(field .env.overlay ready.json)")/outcome"
  echo 'evil = 1' >>"$(find "$AGENT_HOME/cache/envs/" -path '*/milk/__init__.py')"
  run -65 --separate-stderr agent-env --verify
  [[ $stderr == *"1 files are not as installed"*"milk/__init__.py"*"taken out of the cache"* ]]
  [ -z "$(agent-env --list)" ]
  run -64 agent-env --list --prune
  run -64 agent-env --list ready.json
}

@test "a receipt on another machine brings the same packages though newer ones came, and refuses a replaced file" {
  cp -r "$PIP_FIND_LINKS" index
  export PIP_FIND_LINKS=$PWD/index
  echo '{"task":{"script":{"entry_point":"main.py","diff":"import milk, tea","requirements":{"pip":"milk"}}}}' >task.json
  agent-prepare task.json | agent-run >receipt.json
  [ "$(field .pins.packages[1].name receipt.json)" = tea ]
  [ "$(field .pins.packages[1].sha256 receipt.json)" = "$(sha256sum index/tea-1.0-py3-none-any.whl | cut -d' ' -f1)" ]
  PYTHONPATH=$ROOT/tests/unit python3 -c 'import wheelhouse; wheelhouse.wheel("index", "milk", "1.1")'
  AGENT_HOME=$PWD/other agent-prepare receipt.json >again.json
  [ "$(field .env.packages again.json)" = '["milk==1.0", "tea==1.0"]' ]
  [ "$(field .env.cached again.json)" = false ]
  [ "$(field .env.pins again.json)" = "$(field .pins.packages receipt.json)" ]
  PYTHONPATH=$ROOT/tests/unit python3 -c 'import wheelhouse; wheelhouse.wheel("index", "tea", "1.0", files={"evil.py": ""})'
  # what was downloaded before would do: a machine that has nothing yet
  AGENT_HOME=$PWD/third UV_CACHE_DIR=$PWD/third/uv run -65 --separate-stderr agent-prepare receipt.json
  [[ $stderr == *"tea: the file in the index is not the one whose hash was recorded"* ]]
}

@test "a list that is no file is refused; the lines behind it on standard input are the next tasks'" {
  mkfifo fifo
  { manifest '-r /dev/stdin'; manifest "-c $PWD/fifo"; manifest '# nothing'; } >three
  run -123 --separate-stderr timeout 60 sh -c 'cat three | agent-env'
  [ "${#lines[@]}" -eq 3 ]
  [[ $stderr == *"/dev/stdin cannot be used: it is no regular file"*"fifo cannot be used: it is no regular file"* ]]
  [ "$(field .env.packages <<<"${lines[2]}")" = '[]' ]
}
