#!/usr/bin/env bats
# The main path in containers of a real Podman, through its socket that answers Docker's API (root, Debian).

# shellcheck disable=SC2154 # contained() sets image
bats_require_minimum_version 1.5.0

setup_file() {
  local line
  while read -r line; do export "${line?}"; done < <("$BATS_TEST_DIRNAME/podman-up.sh" 3>&- 4>&-)
  "$BATS_TEST_DIRNAME/docker-base-image.sh"
}

setup() { load containers; contained; }

teardown() {
  without_containers
  if [ -n "${plain:-}" ]; then
    plain_user podman --storage-driver vfs system reset --force >/dev/null 2>&1 || true
    pkill -KILL -u "$plain" || true
    userdel -f "$plain" || true
    rm -rf "${folder:?}"
  fi
}

teardown_file() { "$BATS_TEST_DIRNAME/podman-down.sh"; }

by_hand() { tr -d '\n' <<<"{\"task\": {\"container\": {\"image\": \"$image\"}, \"script\": {$1}}}"; }

@test "podman: a task runs in the image, with its packages, and leaves nothing but its result" {
  by_hand '"entry_point": "main.py", "requirements": {"pip": "wheel\niniconfig\n"},
           "diff": "import iniconfig, wheel\nprint(wheel.__file__)\nraise SystemExit(5)\n"' >task.json
  agent-prepare --place podman task.json >line
  [ "$(field .place.kind line)" = podman ]
  [[ $(field .place.digest line) == *agentpipe-test/python@sha256:* ]]
  run --separate-stderr bash -c 'agent-run line >receipt'
  [ "$status" -eq 5 ]
  [ "$(log_of)" = /usr/lib/python3/dist-packages/wheel/__init__.py ]
  [ -z "$(containers)" ]
}

@test "podman: TERM ends what runs inside, after its grace; so does a lack of memory, and is told" {
  sed 's/"image"/"arguments": "--memory=64m --memory-swap 64m", "image"/' >task.json < <(
    by_hand '"entry_point": "main.py", "diff": "x = bytearray(200 << 20)\n"')
  AGENT_PLACE=podman agent-prepare task.json >line
  run -137 bash -c 'agent-run line >receipt'
  [ "$(field .run.end receipt)" = out_of_memory ]
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "trap \"echo told; exit 0\" TERM; echo begun; sleep 4713 & wait $!\n"' >task.json
  AGENT_PLACE=podman agent-prepare task.json >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 30 printed begun
  kill -TERM "$run_pid"
  ended "$run_pid"
  [ "$status" -eq 75 ]
  printed told
  [ -z "$(containers)" ]
}

@test "podman: a container that is killed where its processes cannot be seen is lost, not waited for" {
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "echo begun; sleep 4720\n"' >task.json
  agent-prepare --place podman task.json | sed 's/"keeper":"[^"]*"/"keeper":null/' >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 30 printed begun
  docker kill "$(containers)" >/dev/null
  ended "$run_pid"
  [ "$status" -eq 125 ]
  [ "$(field .run.end receipt)" = lost ]
}

@test "podman: a script whose processes cannot be seen is waited for while its container is stopped" {
  export AGENT_CLAIM_GRACE=0 AGENT_PLACE=podman
  task=$(enqueue_in "$image" 'trap "sleep 8; echo told; exit 0" TERM; echo begun; while :; do sleep 0.1; done')
  agent-pull default | agent-prepare | sed 's/"keeper":"[^"]*"/"keeper":null/' >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 30 printed begun
  kill -KILL "$run_pid" "$(pgrep -f "exec $(field .place.container line | cut -c1-12)")"
  wait "$run_pid" || true
  bash -c 'agent-pull default | agent-prepare | exec agent-run >receipt' 3>&- &
  second=$!
  wait_for 20 grep -q 'taking over' "$(attempt "$task")/setup.log"
  docker stop -t 20 "$(containers)" >/dev/null # until then Podman starts nothing there
  ended "$second"
  [ "$status" -eq 125 ]
  log_of | grep -qx told
  [[ $(field .run.reason receipt) == *"the script ended with 0" ]]
}

# a Podman of a plain user's own: $plain, its files in $folder, DOCKER_HOST its socket
plain_podman() {
  plain=agentpipe-$$
  useradd "$plain" # with numbers for its containers, in /etc/subuid
  folder=$(mktemp -d /var/tmp/agentpipe-podman.XXXXXX)
  printf '[containers]\ndefault_ulimits = []\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' \
    >"$folder/containers.conf"
  export HOME=$folder XDG_RUNTIME_DIR=$folder CONTAINERS_CONF=$folder/containers.conf DOCKER_HOST=unix://$folder/sock
  export AGENT_HOME=$folder/agent
  unset UV_CACHE_DIR
  chown -R "$plain" "$folder"
  cd "$folder" || return
  plain_user podman --storage-driver vfs system service -t 0 "$DOCKER_HOST" >log 2>&1 3>&- 4>&- &
  wait_for 30 docker version >/dev/null
}
# as that user, who may read what is tested wherever it stands
plain_user() {
  setpriv --reuid="$plain" --regid="$plain" --init-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search "$@"
}

@test "podman of a plain user: root inside is that user, and what another user inside has written is its own in the end" {
  plain_podman
  mkdir -p root/bin
  cp "$(command -v busybox)" root/bin/
  for each in sh cat mkdir sleep id mv ln setsid mkfifo find chown; do ln -s busybox "root/bin/$each"; done
  image=localhost/plain:1
  tar -C root -cf - . | docker import - "$image" >/dev/null
  for user in 0 1234; do
    by_hand '"binary": "sh", "entry_point": "main.sh", "diff": "id -u; mkdir -p a/b; cat main.sh >a/b/c\n"' |
      sed "s/\"image\"/\"arguments\": \"--network host --user $user\", \"image\"/" >task.json
    plain_user agent-prepare --place podman task.json >line
    [ "$(field .place.ours line)" = 0:0 ]
    plain_user agent-run line >receipt
    [ "$(field .run.exit receipt)" = 0 ]
    [ "$(log_of)" = "$user" ]
    [ "$(find "$AGENT_HOME" ! -user "$plain")" = "" ]
    rm -r "$AGENT_HOME"/state/tasks
  done
  # also of a container that was ended from outside
  by_hand '"binary": "sh", "entry_point": "main.sh", "diff": "mkdir -p a/b; cat main.sh >a/b/c; echo begun; sleep 4719\n"' |
    sed "s/\"image\"/\"arguments\": \"--network host --user 1234\", \"image\"/" >task.json
  plain_user agent-prepare --place podman task.json >line
  ended_from_outside plain_user
  [ "$(find "$AGENT_HOME" ! -user "$plain")" = "" ]
}
