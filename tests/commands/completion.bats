# What bash offers at the cursor: verbs, options, what values there are, and names from the server.

# shellcheck disable=SC2030,SC2031 # each test is a subshell
bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

# offered WORD…: what bash offers for the last of these words, a line each
offered() {
  bash --norc -c '
    eval "$(agent-task completion bash)"
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    $(complete -p "$1" | sed "s/.*-F \([^ ]*\) .*/\1/")
    printf "%s\n" "${COMPREPLY[@]}"' bash "$@"
}

@test "verbs, options and known values" {
  [ "$(offered agent-task mo)" = move ]
  [[ $(offered agent-task list --st) == --status ]]
  [ "$(offered agent-task list --status setup)" = setup_failed ]
  [ "$(offered agent-task log --json --er)" = --errors ]
  [[ $(offered agent-pull --wa) == --wait ]]
  [ "$(offered agent-run --on-drain re)" = requeue ]
  [ "$(offered agent-config sh)" = show ]
  [ -z "$(offered agent-task list --limit '')" ]
  [ "$(offered agent-task list --columns ent)" = entry_point ]
  [ "$(offered agent-task list --columns id,na)" = id,name ]
}

@test "queues, tasks, tags, projects and images come from the server, quoted for a shell; files from here" {
  call queues.create '{"name": "two words"}' >/dev/null
  id=$(enqueue_shell 'true')
  agent-task edit --tag keep "$id"
  other=$(agent-task create --project deep/lower "$(echo true >job.sh; echo job.sh)" 2>/dev/null)
  agent-task edit --image registry/image:3 "$other"
  [ "$(offered agent-task move --queue tw)" = 'two\ words' ]
  [ "$(offered agent-pull tw)" = 'two\ words' ]
  [ "$(offered agent-task why "${id:0:5}")" = "$id" ]
  [ "$(offered agent-task why -- "${id:0:5}")" = "$id" ]
  [ "$(offered agent-task list --tag '')" = keep ]
  [ "$(offered agent-pull --on-lost '')" = $'fail\nrequeue' ]
  [ "$(offered agent-task list --project deep)" = $'deep\ndeep/lower' ]
  [ "$(offered agent-task clone "$id" --image reg)" = registry/image:3 ]
  [ "$(offered agent-task enqueue jo | sort -u)" = job.sh ] # a file and a task's name
  # as bash breaks the words, and leaves what was typed
  [ "$(offered agent-task move --queue = tw)" = 'two\ words' ]
  [ "$(offered agent-task move --queue '=')" = $'default\ntwo\\ words' ]
  [ "$(offered agent-pull '"tw')" = 'two words' ]
  [ "$(offered agent-pull 'two\ w')" = 'two\ words' ]
  [ "$(offered agent-task clone "$id" --image registry/image :)" = 3 ]
  [ "$(offered agent-task clone "$id" --image = registry/image : 3)" = 3 ]
  [ "$(offered agent-task why 'a sh')" = 'a\ shell\ script' ]
  agent-task complete tasks "$id" | grep -q "	queued, a shell script"
}

@test "a server that is away keeps nobody waiting, and says nothing" {
  export CLEARML_API_HOST=http://127.0.0.1:9
  run -0 agent-task complete tasks
  [ -z "$output" ]
  run -0 agent-task complete nosuch
  run -0 agent-task complete
  [ -z "$output" ]
}

@test "a server's answers are kept for a while, and renewed behind the reader's back" {
  if [ -z "${CLEARML_API_HOST:-}" ]; then serve clearml; fi
  [ "$(agent-task complete queues)" = default ]
  call queues.create '{"name": "another"}' >/dev/null
  [ "$(agent-task complete queues)" = default ]
  find "$AGENT_HOME/cache/completion" -type f -exec touch -d '2 minutes ago' {} +
  [ "$(agent-task complete queues)" = default ]
  wait_for 20 sh -c 'agent-task complete queues | grep -q another'
}

@test "every command says its version" {
  for command in $(python3 -c 'from agentpipe import completion; print(*completion.commands(completion.places()))'); do
    run -0 "$command" --version
    [[ $output =~ ^$command\ [0-9]+\.[0-9]+ ]]
  done
  run -64 agent-task completion tcsh
}
