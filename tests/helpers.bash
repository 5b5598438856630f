# What every bats file loads: a fresh AGENT_HOME and HOME for each test, our commands on PATH, nothing of the user's.
#   setup() { load ../helpers; fresh; }

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export ROOT

fresh() {
  local root=$ROOT transport=${AGENT_TESTS_TRANSPORT:-store} warnings=${PYTHONWARNINGS:-}
  case :$PATH: in *":$root/.venv/bin:"*) ;; *) export PATH=$root/.venv/bin:$PATH ;; esac
  # uv's downloads are shared by all tests; nothing else is
  export UV_CACHE_DIR=${UV_CACHE_DIR:-$root/.cache/tests/uv}
  # shellcheck disable=SC2086  # names
  unset ${!PYTHON@} ${!CLEARML@} ${!TRAINS@} ${!AGENT_@} ${!XDG_@} VIRTUAL_ENV GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
  if [ -n "$warnings" ]; then export PYTHONWARNINGS=$warnings; fi
  # pip's own settings may stand in the user's HOME: the tests' HOME is empty, and says where they are
  if [ -z "${PIP_CONFIG_FILE:-}" ] && [ -f "${HOME:-}/.config/pip/pip.conf" ]; then
    export PIP_CONFIG_FILE=$HOME/.config/pip/pip.conf
  fi
  export HOME=$BATS_TEST_TMPDIR/home AGENT_HOME=$BATS_TEST_TMPDIR/agent
  export AGENT_MACHINE_DIR=$BATS_TEST_TMPDIR/machine # no other test's homes are seen
  mkdir -p "$HOME"
  export GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 LC_ALL=C.UTF-8
  export GIT_AUTHOR_NAME=tester GIT_AUTHOR_EMAIL=tester@example.org
  export GIT_COMMITTER_NAME=tester GIT_COMMITTER_EMAIL=tester@example.org
  cd "$BATS_TEST_TMPDIR" || return
  if [ "$transport" != store ]; then serve "$transport"; fi
}

# shared_pythons: the tests of this file share what is known of this machine's Pythons: looking for them takes seconds
shared_pythons() {
  mkdir -p "$BATS_FILE_TMPDIR/interpreters" "$AGENT_HOME/cache"
  ln -s "$BATS_FILE_TMPDIR/interpreters" "$AGENT_HOME/cache/interpreters"
}

# shared_environments: and the environments, as tasks of one machine do; for tests of something else
shared_environments() {
  shared_pythons
  export CLEARML_AGENT_VENV_CACHE_PATH=$BATS_FILE_TMPDIR/environments
}

# serve ours|clearml: from now on every command speaks HTTP to a server of this test, which knows our claims or does not
serve() {
  rm -f server.url # of the one before
  companion requests api_server || return
  py 'import api_server; api_server.main()' "$BATS_TEST_TMPDIR/server.db" "$1" $$ >server.url 2>server.log 3>&- &
  wait_for 10 test -s server.url
  export CLEARML_API_HOST CLEARML_API_ACCESS_KEY=TESTKEY CLEARML_API_SECRET_KEY=a-secret-of-tests
  CLEARML_API_HOST=$(cat server.url)
}

# make_repo DIR [FILE CONTENT]… : a git repository with these files (default: a train.py that prints) and one commit
make_repo() {
  local dir=$1; shift
  if [ $# -eq 0 ]; then set -- train.py 'print("hello from train.py", flush=True)'; fi
  git init -q -b main "$dir"
  while [ $# -gt 0 ]; do
    mkdir -p "$(dirname "$dir/$1")"
    printf '%s\n' "$2" >"$dir/$1"
    shift 2
  done
  git -C "$dir" add -A
  git -C "$dir" commit -q -m 'first'
}

# py CODE [ARG]… : what python3 -c CODE [ARG]… would do, without starting an interpreter (companion.py); CODE - is read
# from the standard input
py() {
  # it opens our output itself, and where we are in a file it cannot know
  if [ -f /dev/fd/1 ]; then py "$@" | cat; return "${PIPESTATUS[0]}"; fi
  local code=$1 fd out port secret status; shift
  if [ "$code" = - ]; then IFS= read -r -d '' code || true; fi
  companion || return
  read -r port secret <"$BATS_RUN_TMPDIR/companion.port"
  exec {fd}<>"/dev/tcp/127.0.0.1/$port" {out}>&1 || return
  { printf '%s\0' "$secret" "$BASHPID" "$out" "$(($# + 1))" "$code" "$@"; env -0; printf '\0'; } >&"$fd"
  IFS= read -r -d '' -u "$fd" status || status=1
  exec {fd}>&- {out}>&-
  return "$status"
}

# companion [MODULE]… : whoever comes first starts it, with these imported for all; it ends with bats
companion() {
  local place=$BATS_RUN_TMPDIR/companion
  if [ -s "$place.port" ]; then return; fi
  if mkdir "$place" 2>/dev/null; then
    # no child of this shell, and nothing of its environment: tests wait for the one and look for the other
    (cd / && exec env -i PATH="$PATH" LC_ALL=C.UTF-8 "$ROOT/.venv/bin/python" "$ROOT/tests/companion.py" \
      "$place.port" "$BATS_ROOT_PID" "$@" </dev/null >"$place/log" 2>&1 3>&- 4>&- &)
  fi
  wait_for 20 test -s "$place.port" || { cat "$place/log" >&2; return 1; }
}

# field PATH [FILE]: one field of a JSON line, as jq's -r would print it: `field .run.exit receipt.json`, `… | field .task.id`
field() {
  if [ $# -gt 1 ]; then field "$1" <"$2"; return; fi # opened here, where <(…) means something
  py '
import json, re, sys
value = json.loads(sys.stdin.readline())
for name in re.findall(r"[^.\[\]]+", sys.argv[1]):
    if value is None:
        break
    value = value[int(name)] if isinstance(value, list) else value.get(name)
print(value if isinstance(value, str) else json.dumps(value))' "$1"
}

# wait_for SECONDS COMMAND…: until the command succeeds; fails, showing it, when the bound is over, three times so long
# where all tests run side by side
wait_for() {
  local bound=$(($1 * 3)) pauses=(0.05 0.05 0.1 0.15 0.25) look=0 end; shift
  end=$((SECONDS + bound))
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then echo "not within $bound s: $*" >&2; return 1; fi
    sleep "${pauses[look]}"
    look=$((look + (look < 4)))
  done
}

# call ENDPOINT [BODY]: the API of the store of this AGENT_HOME, as JSON
call() {
  py '
import json, sys
from agentpipe.transport import api
print(json.dumps(api.connect().call(sys.argv[1], json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}"))))' "$@"
}

# enqueue_shell SCRIPT [QUEUE]: a task that is a bash script (no git, no Python environment); prints its id
enqueue_shell() {
  py - "$1" "${2:-default}" <<'PY'
import sys

from agentpipe.pull import queues
from agentpipe.transport import api

store = api.connect()
queue = queues.Queues(store, [sys.argv[2]], create=True).ids[0]
task = store.call("tasks.create", {"name": "a shell script", "type": "training", "script": {
    "binary": "bash", "entry_point": "main.sh", "working_dir": ".", "diff": sys.argv[1] + "\n"}})["id"]
store.call("tasks.enqueue", {"task": task, "queue": queue})
print(task)
PY
}

# ended PID: wait for a child of ours; $status is its exit status, as after `run`
# shellcheck disable=SC2034  # as bats' run sets it
ended() { status=0; wait "$1" || status=$?; }

# status TASK: its ClearML status
status() {
  py '
import sys
from agentpipe.transport import api
print(api.connect().call("tasks.get_by_id", {"task": sys.argv[1]})["task"]["status"])' "$1"
}

# has_worker TASK: whether a worker has said that it has it
has_worker() { [ "$(call tasks.get_by_id "{\"task\": \"$1\"}" | field .task.last_worker)" != null ]; }

# attempt TASK: the directory of its last attempt
attempt() { find "$AGENT_HOME/state/tasks" -maxdepth 1 -name "$1.*" | sort -t. -k2n | tail -n 1; }

# gone PID: whether that process is gone (a zombie counts as gone)
gone() { ! grep -qs '^State:.[^ZX]' "/proc/$1/status"; }

# left_unwatched TASK: the next task, which is TASK, runs; its agent-run was killed, and its grace is over
left_unwatched() {
  local runner
  agent-pull default | agent-prepare -q >line
  agent-run -q <line 3>&- >receipt.json & runner=$!
  wait_for 20 has_worker "$1"
  wait_for 20 test -L "$(attempt "$1")/pid"
  kill -9 "$runner"
  wait "$runner" || true
  export AGENT_CLAIM_GRACE=0
}

# again TRANSPORT TAGS FILE…: those files over that transport, only the tests with TAGS; what failed is shown. Tagged
# store is what only the store of this machine can know; local, what comes out the same whatever server there is;
# claims, what agent-server does about claims and waiting; polls, what a server that cannot do either makes different
again() {
  local transport=$1 tags=$2; shift 2
  AGENT_TESTS_TRANSPORT=$transport bats --filter-tags "$tags" "${@/#/$ROOT/tests/commands/}" >again.log 2>&1 && return
  grep -A 20 '^not ok' again.log
  return 1
}
