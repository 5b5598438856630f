# agent-task time, diff, script, plot and artifacts: where the seconds went, what differs, and the task without us.

# shellcheck disable=SC2016 # what stands in single quotes is for the scripts of tasks
bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; shared_environments; }

teardown() { touch "$HOME/go"; }

pipeline() { agent-pull default | agent-prepare --quiet | agent-run --quiet >receipt.json; }

# elsewhere COMMAND…: as on a machine that has git, uv and sh, and nothing of ours
elsewhere() {
  local bin=$BATS_TEST_TMPDIR/bin tool settings=()
  mkdir -p "$bin"
  for tool in git uv sh mkdir cat cp find rm python3 env; do ln -sf "$(command -v "$tool")" "$bin/$tool"; done
  mapfile -t settings < <(env | grep -E '^(UV_|SSL_|[A-Za-z_]+_(proxy|PROXY)=)')  # where this machine's packages come from
  env -i PATH="$bin" HOME="$BATS_TEST_TMPDIR/elsewhere-home" "${settings[@]}" "$@"
}

@test "time: a waterfall of a finished task, cold at first and warm the second time, kept on the server" {
  unset CLEARML_AGENT_VENV_CACHE_PATH # an environment that nobody has built yet
  make_repo work train.py 'import six, time; time.sleep(0.3)' requirements.txt 'six'
  id=$(agent-task enqueue --repo work train.py)
  run -0 pipeline
  rm -r "$AGENT_HOME/state/tasks"
  run -0 agent-task time "$id"
  [[ ${lines[0]} == "$id: completed, "* ]]
  for stage in queue fetch patch env run; do [[ $output == *"  $stage "* ]]; done
  [[ $output == *"env "*" cold "*"#"* || $output == *"env "*" cold "*"█"* ]]
  [[ ${lines[-1]} == *"cold: the next run finds that in the cache; run "* ]]
  again=$(agent-task clone --queue default "$id")
  run -0 pipeline
  run -0 agent-task time --json "$again"
  [ "$(field .cold <<<"$output")" = 0 ] || [ "$(field .cold <<<"$output")" = 0.0 ]
  py '
import json, sys
found = json.loads(sys.argv[1])
stages = {each["stage"]: each for each in found["stages"]}
assert stages["env"]["cached"] and 0.3 < stages["run"]["seconds"] < 20, stages
assert abs(found["seconds"] - sum(each["seconds"] for each in found["stages"] if each["stage"] != "queue")) < 0.01' "$output"
}

@test "time: a stage that failed has its seconds, a running one is shown so far, a draft has none" {
  make_repo work train.py 'print(1)' requirements.txt 'nosuchpkg-of-agentpipe==1.0'
  id=$(agent-task enqueue --repo work train.py)
  run -66 pipeline
  [[ $(agent-task time "$id") == *"  env "*" failed "* ]]
  id=$(enqueue_shell 'touch "$HOME/here"; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  pipeline 3>&- & runner=$!
  wait_for 20 test -e "$HOME/here"
  [[ $(agent-task time "$id") == *"  run "*" so far"* ]]
  touch "$HOME/go"
  wait "$runner"
  run -66 agent-task time "$(agent-task create --repo work train.py)"
  [[ $output == *"it has not run yet"* ]]
}

@test "time: of a task that was pulled just now it has the wait, of one whose set-up goes on that stage so far" {
  id=$(enqueue_shell 'true')
  agent-pull default >line
  run -0 agent-task time "$id"
  [[ ${lines[1]} == "  queue "* && ${lines[2]} == "  set-up "* ]]
  mkdir hooks
  printf '#!/bin/sh\ntouch "$HOME/here"; until [ -e "$HOME/go" ]; do sleep 0.05; done\n' >hooks/pre-fetch
  chmod +x hooks/pre-fetch
  AGENT_HOOKS=$PWD/hooks agent-prepare -q <line >prepared 3>&- & local stage=$!
  wait_for 20 test -e "$HOME/here"
  run -0 agent-task time "$id"
  [[ $output == *"  queue "*"  prepare "*" so far"* ]]
  touch "$HOME/go"
  wait "$stage"
  [[ $(agent-task time "$id") != *prepare* ]]
}

@test "diff: what the failure names comes first; receipts and tasks compare alike; 1 when something differs" {
  make_repo work train.py 'import sys, six
if "--bad" in sys.argv: raise ValueError("six is too new: " + six.__version__)' requirements.txt 'six==1.16.0'
  good=$(agent-task enqueue --repo work train.py -- --lr 0.1)
  run -0 pipeline
  cp receipt.json good.json
  bad=$(agent-task clone --queue default --package six==1.17.0 "$good" -- --lr 0.2 --bad)
  run -1 pipeline
  run -1 agent-task diff "$good" "$bad"
  [[ ${lines[0]} == "A ${good:0:20}  completed, ran "* ]]
  [[ ${lines[1]} == "B ${bad:0:20}  script_failed, exit 1, ran "* ]]
  [ "${lines[2]}" = "packages   (the failure points to this)" ]
  [ "${lines[3]}" = "    six 1.16.0 → 1.17.0" ]
  [[ $output == *"arguments   (the failure points to this)"*"  + --bad"*"    --lr 0.1 → 0.2"* ]]
  run -1 agent-task diff --json good.json <(cat receipt.json)
  [ "$(field '.differences[0].what' <<<"$output")" = packages ]
  [ "$(field .ends.b <<<"$output")" = script_failed ]
  run -0 agent-task diff "$good" "$good"
  [[ $output == *"no difference"* ]]
  # a file that was replaced under its name is no other version, and still another package
  jq -c '(.pins.packages, .env.pins)[0].sha256 |= (explode | reverse | implode)' good.json >replaced.json
  run -1 agent-task diff good.json replaced.json
  [ "${lines[2]}" = packages ]
  [[ ${lines[3]} == "    six 1.16.0: six-1.16.0-"*" is another file, sha256 "* ]]
  jq -c '.task.script.entry_point = "other.py --lr 0.3"' good.json >other.json
  run -1 agent-task diff good.json other.json
  [[ ${lines[*]:2} == "entry point     train.py → other.py arguments     --lr 0.1 → 0.3" ]]
}

@test "diff: commits, uncommitted changes by file, interpreter, image, hyperparameters" {
  make_repo work train.py 'print(1)' other.py 'print(2)'
  one=$(agent-task create --repo work --python 3.11 train.py)
  git -C work commit -q --allow-empty -m second
  echo 'print(3)' >>work/other.py
  two=$(agent-task create --repo work --python 3.12 train.py)
  agent-task edit --set Args/epochs=3 --docker alpine:3 "$two"
  run -1 agent-task diff "$one" "$two"
  [[ $output == *"commit"*" → "*"changes"*"+ other.py: not changed → +1 -0"* ]]
  [[ $output == *"hyperparameters"*"+ Args/epochs 3"* ]]
  [[ $output == *"interpreter"*"python3.11 → python3.12"*"image"*"none → alpine:3"* ]]
  echo 'echo one' >job.sh
  one=$(agent-task create job.sh)
  echo 'echo two' >job.sh
  two=$(agent-task create job.sh)
  run -1 agent-task diff "$one" "$two"
  [[ $output == *"script"*"- echo one"*"+ echo two"* ]]
}

@test "script: a finished task runs from its script alone, package for package, and exits as it did" {
  make_repo work pack/train.py 'import sys, six, helper
print(six.__version__, helper.X, sys.argv[1:]); sys.exit(3)' pack/helper.py 'X = 1' requirements.txt 'six<1.17'
  echo 'X = "changed"' >work/pack/helper.py
  id=$(cd work/pack && agent-task enqueue train.py -- --name 'two words' '$HOME')
  run -3 pipeline
  [[ $(agent-task why "$id") == *"reproduce: agent-task script $id > task-${id:0:8}.sh && sh task-${id:0:8}.sh" ]]
  agent-task script "$id" >run.sh
  shellcheck -s sh -e SC2016 run.sh
  agent-task script receipt.json >of-receipt.sh
  grep -qF "for each in $(readlink -f "$(field .env.python receipt.json)") " run.sh
  rm -rf "$AGENT_HOME"
  run -3 elsewhere sh run.sh there
  [[ $output == *"1.16.0 changed ['--name', 'two words', '\$HOME']" ]]
  grep -q -- '--no-deps' run.sh
  run -3 elsewhere sh of-receipt.sh other
  [[ $output == *"1.16.0 changed"* ]]
}

@test "script: a task that has not run asks for what it asks for, a shell script needs no Python, a notebook is code" {
  make_repo work train.py 'import six; print("six", six.__name__)' requirements.txt 'six'
  agent-task script "$(agent-task create --repo work train.py)" >one.sh
  run -0 elsewhere sh one.sh one
  [[ $output == *"six six" ]]
  printf 'cat <<END\nhere $1\nEND\n' >job.sh
  agent-task script "$(agent-task create job.sh -- there)" >two.sh
  run -0 env PATH="$PATH" sh two.sh two
  [ "$output" = "here there" ]
  run ! grep -q "uv venv" two.sh
  make_repo nb note.ipynb '{"cells": [{"cell_type": "code", "source": ["%matplotlib inline\n", "print(6 * 7)"]}]}'
  agent-task script "$(agent-task create --repo nb note.ipynb)" | elsewhere sh -s -- three >printed
  [ "$(tail -n 1 printed)" = 42 ]
}

@test "plot draws each metric with its newest value; a part of a name chooses; --json has the points" {
  id=$(enqueue_shell 'true')
  py - "$id" <<'PY'
import sys
from agentpipe.transport import api
store = api.connect()
store.call("events.add_batch", [
    {"type": "training_stats_scalar", "task": sys.argv[1], "metric": metric, "variant": variant, "iter": step,
     "value": value(step)} for step in range(50) for metric, variant, value in (
        ("loss", "train", lambda x: 1 / (x + 1)), ("loss", "val", lambda x: 1.2 / (x + 1)),
        ("accuracy", "top1", lambda x: x / 50), (":monitor:machine", "cpu_usage", lambda x: 7.0))])
PY
  run -0 agent-task plot "$id"
  [[ $output == *"accuracy: top1 0.98"*"loss: train 0.02, val 0.024"* ]]
  [[ $output != *cpu_usage* ]]
  run -0 agent-task plot --width 40 --height 5 "$id" train
  [ "${#lines[@]}" -eq 7 ]
  for line in "${lines[@]}"; do [ "${#line}" -le 40 ]; done
  [[ ${lines[1]} == *"        1 "* && ${lines[5]} == *"0.02 "* && ${lines[6]} == *"0"*"49" ]]
  run -0 env LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 agent-task plot "$id" loss
  LC_ALL=C grep -qv '[^ -~]' <<<"$output"
  [ "$(agent-task plot --json "$id" top1 | field '.y[49]')" = 0.98 ]
  run -66 agent-task plot "$id" nosuch
}

@test "artifacts are listed with size and place, and one is copied here" {
  id=$(enqueue_shell 'true')
  echo weights >"w 1.bin"
  agent-pull default >line
  call tasks.add_or_update_artifacts "{\"task\": \"$id\", \"artifacts\": [{\"key\": \"weights\", \"type\": \"custom\",
    \"uri\": \"file://$PWD/w%201.bin\", \"content_size\": 2048, \"mode\": \"output\"}]}" >/dev/null
  run -0 agent-task artifacts "$id"
  [[ ${lines[1]} == "weights  artifact  custom  2.0 KiB  file://"* ]]
  [ "$(agent-task artifacts --get weights -o - "$id")" = weights ]
  mkdir here
  agent-task artifacts --get weights -o here "$id"
  [ "$(cat "here/w 1.bin")" = weights ]
  # a name that came with it is nobody's wish to lose what stands there
  echo mine >"here/w 1.bin"
  run -73 agent-task artifacts --get weights -o here "$id"
  [[ $output == *"here/w 1.bin is there already (--force, or --output PATH)" ]]
  run -73 agent-task artifacts --get weights "$id"
  [ "$(cat "here/w 1.bin")" = mine ]
  agent-task artifacts --get weights --force -o here "$id"
  agent-task artifacts --get weights -o "here/w 1.bin" "$id"
  [ "$(cat "here/w 1.bin")" = weights ]
  mkfifo pipe
  cat pipe >through &
  agent-task artifacts --get weights -o pipe "$id"  # as /dev/null or >(tar x): written to, never replaced
  wait $!
  [ -p pipe ]
  [ "$(cat through)" = weights ]
  ln -s real link
  agent-task artifacts --get weights -o link "$id"
  [ -L link ]
  [ "$(cat real)" = weights ]
  run -66 agent-task artifacts --get nosuch "$id"
  [[ $output == *"there are: weights" ]]
}

# bats test_tags=store
@test "script: what a task brought along, unpushed commits and unknown files, is in its script too" {
  make_repo work train.py 'import helper; print("old", helper.X)'
  git clone -q --bare work remote.git
  git -C work remote add origin "$PWD/remote.git"
  git -C work fetch -q
  echo 'import helper; print("new", helper.X, open("data/raw.bin", "rb").read()[:3])' >work/train.py
  git -C work commit -q -am 'not pushed'
  echo 'X = 7' >work/helper.py
  mkdir work/data
  printf '\000\001\377 binary' >work/data/raw.bin
  id=$(agent-task enqueue --bundle --repo work train.py)
  agent-task script "$id" >run.sh
  shellcheck -s sh -e SC2016 run.sh
  rm -rf work "$AGENT_HOME"
  run -0 elsewhere sh run.sh there
  [ "${lines[-1]}" = "new 7 b'\\x00\\x01\\xff'" ]
}

@test "why of a task that somebody has published while it was to run claims no end of its script" {
  id=$(agent-task create --repo https://example.org/r.git t.py)
  call tasks.publish "{\"task\": \"$id\", \"force\": true}" >published
  run agent-task why "$id"
  [ "$status" -eq 0 ]
  [[ $output == *"the task was published"* && $output != *"ended with 0"* ]]
}
