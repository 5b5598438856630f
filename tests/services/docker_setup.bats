#!/usr/bin/env bats
# A container's set-up as a user sees it: what runs before the script, in which order, and what it leaves behind.

# shellcheck disable=SC2154 # contained() sets image
bats_require_minimum_version 1.5.0

setup_file() { load containers; docker_engine; }

setup() { load containers; contained; }

teardown() {
  [ -z "${supervisor:-}" ] || kill -KILL "$supervisor" 2>/dev/null || true
  without_containers
}

# by_hand SCRIPT SETUP [ARGUMENTS]: a manifest of a bash task in the image
by_hand() {
  py - "$image" "$@" <<'PY'
import json
import sys
image, script, setup, arguments = [*sys.argv[1:], ""][:4]
print(json.dumps({"task": {"container": {"image": image, "setup_shell_script": setup, "arguments": arguments},
                           "script": {"binary": "bash", "entry_point": "main.sh", "diff": script + "\n"}}}))
PY
}

network() { "$BATS_TEST_DIRNAME/docker-host-args.sh" | paste -sd ' '; }

@test "the operator's scripts and the task's run in order, and what they export reaches the script" {
  cat >"$HOME/clearml.conf" <<'CONF'
agent {
  docker_preprocess_bash_script: ["export A=1", "echo first"]
  extra_docker_shell_script: ["export B=\"$A\"2", "false"]
}
CONF
  by_hand 'echo "got $C; $CLEARML_DOCKER_IMAGE"' $'# several lines\nif [ "$B" = 12 ]; then\n  export C="$B 3"\nfi' >task.json
  agent-prepare task.json 2>said >line
  agent-run line
  log_of | grep -x "got 12 3; $image"
  [ "$(set_up_of | grep '^set-up: .*script$' | paste -sd ,)" = "set-up: agent.docker_preprocess_bash_script,set-up: agent.extra_docker_shell_script,set-up: the task's set-up script" ]
  grep -q 'agent.extra_docker_shell_script ended with 1: passed over' said
  [ "$(field '.place.setup[2].exit' line)" = 1 ]
}

@test "AGENT_SETUP_ERRORS=stop: a script that fails ends the task, and its container" {
  by_hand 'echo no' $'echo one\nnosuchprogram\necho two' >task.json
  AGENT_SETUP_ERRORS=stop run --separate-stderr agent-prepare task.json
  [ "$status" -eq 65 ]
  # shellcheck disable=SC2154
  [[ $stderr == *"the task's set-up script ended with 127"* ]]
  [ "$(field .failed.stage <<<"$output")" = prepare ]
  [[ $(field .failed.evidence <<<"$output") == *one*nosuchprogram* ]]
  [ -z "$(containers)" ]
}

@test "system packages come from the network once; the next container has them from the cache, without it" {
  export CLEARML_AGENT__AGENT__DOCKER_ALLOW_HOST_ENVIRON=1
  by_hand 'hello; echo "[$CLEARML_APT_INSTALL]"' '' "$(network) -e CLEARML_APT_INSTALL=hello" >task.json
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = $'Hello, world!\n[]' ]
  rm -r "$AGENT_HOME"/state/tasks
  by_hand 'hello' 'hello >/dev/null' '--network none -e CLEARML_APT_INSTALL=hello' >task.json
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = 'Hello, world!' ]
}

# an image whose packages are Fedora's: Debian's own dnf and zypper, a repository with one package, and no apt-get;
# made once
with_rpm() {
  docker image inspect "$1" >/dev/null 2>&1 && return
  mkdir rpm
  cat >rpm/spec <<'SPEC'
Name: greeting
Version: 1
Release: 1
Summary: Greets
License: Apache-2.0
BuildArch: noarch
AutoReqProv: no
%description
Greets.
%install
mkdir -p %{buildroot}/usr/bin
printf '#!/bin/sh\necho hello from rpm\n' >%{buildroot}/usr/bin/greeting
chmod 755 %{buildroot}/usr/bin/greeting
%files
/usr/bin/greeting
SPEC
  cat >rpm/make <<'SH'
set -e
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends dnf zypper rpm createrepo-c
mkdir /repo
rpmbuild -bb --quiet --define '_rpmdir /repo' /rpm/spec
createrepo_c -q /repo
for folder in /etc/yum.repos.d /etc/zypp/repos.d; do
  mkdir -p $folder
  printf '[local]\nname=local\nbaseurl=file:///repo\ngpgcheck=0\n' >$folder/local.repo
done
rm /usr/bin/apt-get
SH
  local words maker
  readarray -t words < <("$BATS_TEST_DIRNAME/docker-host-args.sh")
  maker=$(docker create "${words[@]}" -v "$PWD/rpm:/rpm" "$image" sh /rpm/make)
  docker start -a "$maker" >made 2>&1
  docker commit "$maker" "$1" >/dev/null
  docker rm "$maker" >/dev/null
}

@test "an image with dnf, or yum or zypper alone, gets its packages by it; one that does not exist costs only itself" {
  with_rpm agentpipe-test/rpm
  docker build -q -t agentpipe-test/yum - >/dev/null 2>&1 <<<'FROM agentpipe-test/rpm
RUN mv /usr/bin/dnf /usr/bin/yum'
  docker build -q -t agentpipe-test/zypper - >/dev/null 2>&1 <<<'FROM agentpipe-test/rpm
RUN rm /usr/bin/dnf'
  for image in agentpipe-test/rpm agentpipe-test/yum agentpipe-test/zypper; do
    by_hand greeting '' '-e CLEARML_APT_INSTALL="greeting nosuch"' >task.json
    agent-prepare task.json >line
    agent-run line
    [ "$(log_of)" = 'hello from rpm' ]
    set_up_of | grep -x 'these could not be installed: nosuch'
    rm -rf "$AGENT_HOME"/state/tasks/*
  done
}

@test "Alpine, with musl, busybox and apk: its packages, its shell, and the end of its script by a signal" {
  "$BATS_TEST_DIRNAME/alpine-image.sh"
  image=agentpipe-test/alpine
  by_hand "greeting; echo \"\$EXPORTED\"; sleep 600 & echo begun; wait" 'export EXPORTED="by set-up"' \
    '-e CLEARML_APT_INSTALL="greeting nosuch"' | sed 's/"binary": "bash"/"binary": "sh"/' >task.json
  agent-prepare task.json >line
  set_up_of | grep -x 'these could not be installed: nosuch'
  agent-run line >receipt 3>&- &
  runner=$!
  wait_for 20 printed begun
  [ "$(log_of)" = $'hello from apk\nby set-up\nbegun' ]
  [ "$(echo 'echo "$EXPORTED" of $PWD' | agent-task shell "$(field .task.id line)")" = "by set-up of $(field .fetch.code line)" ]
  kill -INT "$runner"
  wait "$runner" || status=$?
  [ "$status" -eq 130 ]
  [ -z "$(containers)" ]
  # what is no script of Python, but requires a package of it
  jq -c '.task.script.requirements = {"pip": "six"}' task.json | { run -66 --separate-stderr agent-prepare
    [[ "$stderr" = *"take them out (agent-task edit --requirements none), or use an image that has python3"* ]]; }
}

@test "an image without Python gets its distribution's, for set-up scripts too; the second time from the cache" {
  if ! docker image inspect agentpipe-test/no-python >/dev/null 2>&1; then
    maker=$(docker create "$image" sh -c 'apt-get purge -y -qq --autoremove python3-minimal python3.11-minimal
      rm -rf /usr/lib/python3* /usr/local/lib/python3*')
    docker start -a "$maker" >made 2>&1
    docker commit "$maker" agentpipe-test/no-python >/dev/null
    docker rm "$maker" >/dev/null
  fi
  image=agentpipe-test/no-python
  [ -z "$(docker run --rm "$image" sh -c 'command -v python3; command -v python; command -v pip')" ]
  # the second has no network
  for arguments in "$(network)" "$(network) --network none"; do
    by_hand '' 'pip --version' "$arguments" | jq -c '.task.script = {"entry_point": "main.py", "diff": "import sys; print(sys.version_info[0])\n"}' >task.json
    AGENT_SETUP_ERRORS=stop agent-prepare task.json >line
    agent-run line
    [ "$(log_of)" = 3 ]
    set_up_of | grep -q '^set-up: Python, which the image lacks: done in'
    rm -rf "$AGENT_HOME"/state/tasks/*
  done
}

@test "an image of another user: packages as root, the task's script as that user" {
  export CLEARML_AGENT__AGENT__DOCKER_ALLOW_HOST_ENVIRON=1
  by_hand 'id -u; hello; echo "$WHO"' 'export WHO=$(id -u)' "$(network) --user 1000 -e CLEARML_APT_INSTALL=hello" >task.json
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = $'1000\nHello, world!\n1000' ]
}

# python_task SCRIPT REQUIREMENTS [SETUP]: the same of a Python task
python_task() {
  py - "$image" "$@" <<'PY'
import json
import sys
container = {"image": sys.argv[1], "setup_shell_script": (sys.argv[4:] or [""])[0]}
print(json.dumps({"task": {"container": container, "script": {
    "entry_point": "main.py", "diff": sys.argv[2] + "\n", "requirements": {"pip": sys.argv[3]}}}}))
PY
}

@test "what one task's set-up brings into its container is not taken for the image's by the next" {
  python_task 'import iniconfig; print(iniconfig.__file__)' iniconfig \
    'folder=$(python3 -c "import sysconfig; print(sysconfig.get_path(\"purelib\"))"); mkdir -p "$folder/iniconfig-2.0.0.dist-info"
     printf "Metadata-Version: 2.1\nName: iniconfig\nVersion: 2.0.0\n" >"$folder/iniconfig-2.0.0.dist-info/METADATA"
     : >"$folder/iniconfig.py"' >with.json
  python_task 'import iniconfig; print(iniconfig.__file__)' iniconfig >without.json
  for task in with without with; do
    agent-prepare "$task.json" >line
    agent-run line
    case $task in with) log_of | grep '^/usr/' ;; *) log_of | grep "^$AGENT_HOME/cache/envs/" ;; esac
    rm -rf "$AGENT_HOME"/state/tasks/*
  done
}

@test "an environment that a set-up script activates is the task's Python" {
  python_task 'import marked; print(marked.__file__)' '' \
    'python3 -m venv --without-pip /opt/own; . /opt/own/bin/activate; : >/opt/own/lib/python3.11/site-packages/marked.py' >task.json
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = /opt/own/lib/python3.11/site-packages/marked.py ]
}

@test "LOCAL_PYTHON, that a set-up script exports, is the Python of a task that names none" {
  py - "$image" >task.json <<'PY'
import json
import sys
print(json.dumps({"task": {"container": {"image": sys.argv[1],
    "setup_shell_script": "mkdir /opt/own && cp /usr/bin/python3.11 /opt/own/python3\nexport LOCAL_PYTHON=/opt/own/python3"},
    "script": {"binary": "python3", "entry_point": "main.py", "diff": "import sys\nprint(sys._base_executable)\n"}}}))
PY
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = /opt/own/python3 ]
}

@test "the agent in a container itself: what it mounts is where the engine's machine has it" {
  mkdir there here
  unset UV_CACHE_DIR
  export AGENT_HOME=$PWD/here/agent CLEARML_AGENT_DOCKER_HOST_MOUNT=$PWD/there:$PWD/here
  # a mount that the engine does not see, as in a container of our own: here is empty for it
  py - "$image" >task.json <<'PY'
import json
import sys
print(json.dumps({"task": {"container": {"image": sys.argv[1]}, "script": {"binary": "python3", "entry_point": "main.py",
    "diff": "import sys\nprint(sys.prefix != sys.base_prefix)\n"}}}))
PY
  unshare -m sh -ec 'mount --bind there here; agent-prepare task.json >line; agent-run line >receipt'
  [ "$(field .run.end receipt)" = completed ]
  [ "$(cat there/agent/state/tasks/*/box/log)" = True ]
  [ -z "$(ls -A here)" ]
}

@test "a service in a container knows that it is one, by its variables and its labels; a restart takes it over" {
  export AGENT_CLAIM_GRACE=0
  id=$(py - "$image" <<'PY'
import sys

from agentpipe.pull import queues
from agentpipe.transport import api

store = api.connect()
queue = queues.Queues(store, ["services"], create=True).ids[0]
script = 'echo "$CLEARML_AGENT_SERVICE_TASK $CLEARML_WORKER_ID"; until [ -e "$AGENT_TASK_DIR/box/go" ]; do sleep 0.1; done\n'
task = store.call("tasks.create", {"name": "a service", "type": "service", "container": {"image": sys.argv[1]},
    "script": {"binary": "bash", "entry_point": "main.sh", "working_dir": ".", "diff": script}})["id"]
store.call("tasks.enqueue", {"task": task, "queue": queue})
print(task)
PY
)
  agent-supervisor --services --worker w services 2>said 3>&- &
  supervisor=$!
  wait_for 30 grep -qsx "1 w:service:$id" "$AGENT_HOME/state/tasks/$id.1/box/log"
  container=$(docker ps -q --filter "label=clearml-worker-id=w:service:$id")
  [ -n "$container" ]
  kill -TERM "$supervisor"
  ended "$supervisor"
  [ "$(docker inspect -f '{{.State.Running}}' "$container")" = true ]
  agent-supervisor --services --worker w services 2>said 3>&- &
  supervisor=$!
  wait_for 20 grep -q 'taking over' "$AGENT_HOME/state/tasks/$id.1/setup.log"
  docker exec "$container" touch "$AGENT_HOME/state/tasks/$id.1/box/go"
  wait_for 20 sh -c "! docker inspect $container"
  completed() { [ "$(status "$id")" = completed ]; }
  wait_for 20 completed # the container goes first
  kill -TERM "$supervisor"
  ended "$supervisor"
}
