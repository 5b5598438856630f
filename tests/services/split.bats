# A pipeline whose first stage runs on one machine and the others on another, as a Slurm job's do: two homes, two /tmp,
# two host names, one agent-server. Namespaces stand for the machines: needs root.

# shellcheck disable=SC2016 # what stands in single quotes is for other shells
bats_require_minimum_version 1.5.0

setup() {
  load ../helpers; fresh
  shared=$(mktemp -d /var/tmp/agentpipe-split.XXXXXX) # what both machines see
  cd "$shared" || return
}

teardown() {
  local pid
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
  cd / && rm -rf --one-file-system "$shared"
}

# the real server, and a clearml.conf that both machines read
start_server() {
  AGENT_HOME=$BATS_TEST_TMPDIR/server agent-server --json --port 0 --files-port 0 >server.json 2>server.log 3>&- &
  wait_for 20 test -s server.json
  python3 -c '
import json
said = json.load(open("server.json"))
keys = {"access_key": said["access_key"], "secret_key": said["secret_key"]}
print(json.dumps({"api": {"api_server": said["api_server"], "files_server": said["files_server"], "credentials": keys}}))
' >clearml.conf
  export CLEARML_CONFIG_FILE=$shared/clearml.conf
}

# on_node COMMAND: in a machine of its own: another host name, an empty /tmp, and its home in there; with what is
# tested, which may stand below the old one
on_node() {
  mkdir -p "$shared/root"
  unshare --uts --mount sh -c 'hostname job-17 && mount --bind "$2" "$3" && mount -t tmpfs tmpfs /tmp &&
    mkdir -p "$2" /tmp/home && mount --bind "$3" "$2" &&
    export HOME=/tmp/home AGENT_HOME=/tmp/agent TMPDIR=/tmp && eval "$1"' sh "$1" "$ROOT" "$shared/root"
}

login() { AGENT_HOME=$BATS_TEST_TMPDIR/login "$@"; }

@test "what one machine pulled another one runs, and the first one's recovery does not start it again" {
  start_server
  make_repo repo train.py 'import os, time
print("on", os.uname().nodename, flush=True)
while not os.path.exists("'"$shared"'/go"):
    time.sleep(0.05)
print("done", flush=True)'
  id=$(login agent-task enqueue --repo repo train.py)
  login sh -c 'agent-pull default >task.json; :' # a shell that is gone: a submitted job has no parent here
  on_node 'agent-prepare --quiet <task.json | agent-run --quiet >receipt.json' 3>&- &
  pid=$!
  wait_for 60 sh -c "AGENT_HOME=$BATS_TEST_TMPDIR/reader agent-task log --stream log $id | grep -q '^on job-17'"
  AGENT_CLAIM_GRACE=0 login run -0 --separate-stderr agent-pull default
  [ -z "$output" ]
  [ "$(status "$id")" = in_progress ]
  touch go
  ended $pid
  [ "$status" -eq 0 ]
  [ "$(status "$id")" = completed ]
  [ "$(login agent-task log --stream log "$id")" = $'on job-17\ndone' ]
  [ "$(field .run.end receipt.json)" = completed ]
  # the line is used up, on both
  login run -75 --separate-stderr agent-prepare task.json
  AGENT_CLAIM_GRACE=0 login run -0 --separate-stderr agent-pull default
  [ -z "$output" ]
}
