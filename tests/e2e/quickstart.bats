# The one command of the README, from a fresh clone, with an empty HOME; then once more, warm.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; unset AGENT_HOME; }

@test "examples/quickstart: from a clone to a finished training run, and the second time from the caches" {
  git clone -q "$ROOT" clone
  # somebody who has a ClearML server, and has broken this off once
  echo 'api.api_server: "http://127.0.0.1:9"' >"$HOME/clearml.conf"
  git init -q "$HOME/.local/state/agentpipe/quickstart/digits"
  run -0 clone/examples/quickstart
  [[ $output == *"server that you have is not touched"*"completed, exit 0"*"CLEARML_CONFIG_FILE=/dev/null agent-task list"* ]]
  rm "$HOME/clearml.conf"
  [[ $output == *"48 hidden units, 15 epochs"* ]]
  [ -s "$(find "$HOME/.local/state/agentpipe/tasks" -path '*/code/output/curve.svg')" ]
  run -0 clone/examples/quickstart
  [[ $output == *"packages from the cache"* ]]
  [[ $output != *"installing agentpipe"* ]]
}

@test "examples/quickstart names what is missing" {
  PYTHON=/bin/false run -1 "$ROOT/examples/quickstart"
  [ "$output" = "quickstart: /bin/false is older than 3.10: set PYTHON=python3.X" ]
}

@test "examples/day/record without our commands says so at once, and takes those of the quickstart" {
  command -v tmux || skip 'tmux is not here'
  mkdir clone && cp -r "$ROOT/examples" clone
  without=${PATH//"$ROOT/.venv/bin:"/}
  SECONDS=0
  PATH=$without run -69 clone/examples/day/record
  [ "$output" = "record: agent-task is missing: run $PWD/clone/examples/quickstart once, or put it on PATH" ]
  [ "$SECONDS" -lt 10 ]
  ln -s "$ROOT/.venv" clone/.venv
  PATH=$without run -0 clone/examples/day/record
  [[ $output == *'agent-task why $task'*completed* ]]
}
