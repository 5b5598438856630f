#!/usr/bin/env bats
# A broken machine keeps its tasks in their queue: what it lacks is none of their faults.

bats_require_minimum_version 1.5.0

setup() {
  load ../helpers
  fresh
  shared_pythons
  make_repo repo
}

# tasks: `first` and `second`, which run a file of the repository
tasks() {
  first=$(agent-task enqueue --repo "$PWD/repo" --branch main "$@" train.py)
  second=$(agent-task enqueue --repo "$PWD/repo" --branch main "$@" train.py)
}

pipeline() { sh -c 'agent-pull default | agent-prepare | agent-run --supervised'; }

# costs_no_task CODE WORDS: here two runs leave `first` queued, the third ends it; one by hand fails at once
costs_no_task() {
  for _ in 1 2; do
    run "-$1" pipeline
    [[ $output == *"$2"* ]]
    [[ $output != *"a bug of ours"* ]]
    [ "$(status "$first") $(status "$second")" = 'queued queued' ]
  done
  run "-$1" pipeline
  [ "$(status "$first") $(status "$second")" = 'failed queued' ]
  [[ $(agent-task why "$first") == *"setup_failed, exit $1"*"$2"* ]]
  printf '{"task":{"script":{"repository":"%s","entry_point":"train.py"},"container":{"image":"%s"}}}' \
    "$PWD/repo" "${image:-}" >byhand
  run "-$1" agent-prepare byhand
  [[ $output == *'"class":"setup_failed"'* ]]
}

@test "something in the way of the repositories' mirrors: 73, and the task goes back" {
  mkdir -p "$AGENT_HOME/cache"
  touch "$AGENT_HOME/cache/git"
  tasks --requirements none
  costs_no_task 73 " $AGENT_HOME/cache/git"
  [[ $output == *"(move away what stands there, or set AGENT_HOME)"* ]]
}

@test "something in the way of the environments: 73, and the task goes back" {
  touch "$AGENT_HOME/cache/envs"
  tasks
  costs_no_task 73 "cannot write in $AGENT_HOME/cache/envs"
}

@test "no git at all: 69, and the task goes back" {
  companion # it is started by more programs than these
  mkdir bin
  for program in sh bash env cat sleep; do ln -s "$(command -v $program)" bin; done
  tasks --requirements none
  before=$PATH
  PATH=$(dirname "$(command -v agent-pull)"):$PWD/bin
  hash -r
  costs_no_task 69 "git is not installed"
  PATH=$before
}

@test "an engine of containers that does not answer: 69, and the task goes back" {
  export DOCKER_HOST=unix://$PWD/none.sock
  tasks --requirements none --docker some:1
  image=some:1 costs_no_task 69 "no Docker answers at unix://$PWD/none.sock"
}

@test "a configuration of git that it cannot read: 78 with file and line, the task goes back, and check says so" {
  tasks --requirements none
  printf '[core\n' >"$HOME/.gitconfig"
  costs_no_task 78 "git's own configuration here is broken: bad config line 1 in file $HOME/.gitconfig"
  run -78 agent-config check programs
  [[ $output == *"wrong   git: git's own configuration here is broken: bad config line 1 in file $HOME/.gitconfig"* ]]
  [[ $output == *"(mend it: git config --global --list)"* ]]
  printf '[core]\n\tcompression = high\n' >"$HOME/.gitconfig"
  run -78 agent-prepare byhand
  [[ $output == *"git's own configuration here is broken"*"'high' for 'core.compression'"* ]]
  rm "$HOME/.gitconfig"
  GIT_CONFIG_COUNT=many run -78 agent-prepare byhand
  [[ $output == *"GIT_CONFIG_COUNT wants a number, and is 'many'"* ]]
}

@test "a repository's own broken configuration is none of this machine's" {
  tasks --requirements none
  printf '[core\n' >>repo/.git/config
  run pipeline
  [ "$(status "$first") $(status "$second")" = 'failed queued' ]
}
