#!/usr/bin/env bats
# Tasks in a real Apptainer: as a plain user, as clusters have them, and as root (Debian).

bats_require_minimum_version 1.5.0

setup_file() {
  load containers
  docker_engine
  APPTAINER=$("$BATS_TEST_DIRNAME/apptainer-up.sh")
  export APPTAINER
  # an image as a user has it: a sandbox of their own files
  id -u agent-apptainer >/dev/null 2>&1 || useradd --no-create-home agent-apptainer
  local id
  id=$(docker create agentpipe-test/python:bookworm true)
  local folder=$BATS_FILE_TMPDIR
  while [ "$folder" != / ] && [ "$folder" != /tmp ]; do chmod o+x "$folder"; folder=$(dirname "$folder"); done
  install -d -o agent-apptainer "$BATS_FILE_TMPDIR/sandbox"
  docker export "$id" | setpriv --reuid agent-apptainer --regid agent-apptainer --clear-groups \
    tar -C "$BATS_FILE_TMPDIR/sandbox" --exclude='dev/*' -xf -
  docker rm "$id" >/dev/null
}

setup() {
  load containers
  contained
  export PATH=$PATH:$APPTAINER
  image=$BATS_FILE_TMPDIR/sandbox
  export AGENT_PLACE=apptainer
  # where root itself lacks a capability, all of them cannot be had
  export APPTAINER_DROP_CAPS=CAP_SYS_RESOURCE
}

# python_task SCRIPT REQUIREMENTS: a manifest of a Python task in $image
python_task() {
  py - "$image" "$@" <<'PY'
import json
import sys
print(json.dumps({"task": {"container": {"image": sys.argv[1]}, "script": {
    "entry_point": "main.py", "diff": sys.argv[2] + "\n", "requirements": {"pip": sys.argv[3]}}}}))
PY
}

teardown() {
  [ -z "${run_pid:-}" ] || kill -TERM "$run_pid" 2>/dev/null || true
  [ -z "${started_in:-}" ] || rm -r "$started_in"
}

@test "a task runs in its image, which it cannot change, with its variables and mounts" {
  mkdir data
  bash_task "cat /etc/debian_version; echo \"secret \$WORD\"; tr '\\0' ' ' </proc/*/cmdline | grep -c a-[w]ord; echo made >/data/made; cat /ro/made; : >/ro/more; : >/x; exit 7" \
    "{\"arguments\": \"-e 'WORD=a-word, it is \$5' -v $PWD/data:/data -v $PWD/data:/ro:ro --ipc=host --sysctl a=b\"}" >task.json
  agent-prepare task.json >line
  run --separate-stderr agent-run line
  [ "$status" -eq 7 ]
  log_of | grep -x '12\..*'
  log_of | grep -x 'secret a-word, it is $5'
  log_of | grep -x 0
  log_of | grep -q 'Read-only file system'
  [ "$(log_of | grep -c '^made$')" = 1 ]
  [ "$(cat data/made)" = made ]
  [ ! -e "$image/x" ]
  [ "$(field .place.kind line)" = apptainer ]
  # what has no meaning here is said
  set_up_of | grep -q 'apptainer has no such thing: --sysctl$'
}

@test "nothing of the folder that it was started in is seen, which may be a home with packages of its own" {
  started_in=$(mktemp -d /srv/agentpipe-test.XXXXXX) # /tmp is seen anyway
  touch "$started_in/seen"
  bash_task "ls $started_in; echo over" >task.json
  task=$PWD/task.json
  cd "$started_in"
  agent-prepare "$task" | agent-run >/dev/null
  [[ $(log_of) == *"No such file or directory"*over ]]
}

@test "a script of set-up changes an overlay, which goes with the task; what it exports is there" {
  export AGENT_HOME="$BATS_TEST_TMPDIR/agent, its home" # a comma parts the values of many options
  set_up_of_its_own
  [ ! -e "$image/made" ]
}

@test "what this machine says of its programs, and packages in a home that is mounted, change nothing in an image" {
  as_in_the_image_alone
}

@test "a SIF: a Python task gets an environment of its Python, and the second one the same" {
  mksquashfs "$image" small.squashfs -quiet -no-progress -noappend -comp gzip -Xcompression-level 1 >/dev/null
  apptainer -q sif new small.sif
  apptainer -q sif add --datatype 4 --parttype 2 --partfs 1 --partarch 2 --groupid 1 small.sif small.squashfs
  image=$PWD/small.sif
  python_task 'import six, sys; print(six.__name__, sys.version_info[:2])' six >task.json
  agent-prepare task.json >line
  agent-run line
  log_of | grep -x 'six (3, 11)'
  agent-prepare task.json >line
  [ "$(field .env.cached line)" = true ]
}

@test "a plain user runs it all the same, packages of the system included" {
  as_user() { setpriv --reuid agent-apptainer --regid agent-apptainer --clear-groups "$@"; }
  grep -q ^agent-apptainer: /etc/subuid
  local folder=$BATS_TEST_TMPDIR
  while [ "$folder" != / ] && [ "$folder" != /tmp ]; do chmod o+x "$folder"; folder=$(dirname "$folder"); done
  mkdir "$HOME/tmp"
  export TMPDIR=$HOME/tmp UV_CACHE_DIR=$HOME/uv CLEARML_AGENT__AGENT__DOCKER_ALLOW_HOST_ENVIRON=1
  local net
  net=$("$BATS_TEST_DIRNAME/docker-host-args.sh" | paste -sd ' ' | sed 's# *-v /root/[^ ]*##g')
  bash_task 'id -u; hello' "{\"arguments\": \"$net -e CLEARML_APT_INSTALL=hello --memory 1g\"}" >task.json
  mkdir -p "$AGENT_HOME"
  chown -R agent-apptainer: "$AGENT_HOME" "$HOME"
  as_user agent-prepare task.json >line
  as_user agent-run line >receipt
  [ "$(log_of)" = "$(id -u agent-apptainer)"$'\nHello, world!' ]
  # a machine that gives a plain user no cgroup: said, and run without
  set_up_of | grep -q 'apptainer cannot limit a task on this machine, left out: --memory' ||
    jq -e '.place.prefix | index("--memory")' line
}

@test "TERM to agent-run ends what runs inside, also what left its session" {
  told_to_end 473
}

@test "a failed script's place is kept for a while: agent-task shell walks in" {
  kept_for_a_while "$(cat "$image/etc/debian_version")" 476
}

@test "agent-run is killed while it keeps a place: the next set-up removes it" {
  kept_by_a_killed_one
}

@test "agent-run is killed: the next pipeline takes over what runs inside, and has its status" {
  export AGENT_CLAIM_GRACE=0
  task=$(enqueue_shell "echo begun; until [ -e \"\$AGENT_TASK_DIR/go\" ]; do sleep 0.05; done; echo over; exit 3")
  export CLEARML_DOCKER_IMAGE=$image
  agent-pull default | agent-prepare >line
  [ "$(field .place.kind line)" = apptainer ]
  seen_through_by_the_next "$task" "$(attempt "$task")/go"
  [ "$(log_of)" = $'begun\nover' ]
  [ "$(status "$task")" = failed ]
}

@test "agent-task shell walks into a running one" {
  bash_task 'export IT=1; echo begun; sleep 4733' '{"arguments": "-e WORD=hello"}' >task.json
  agent-prepare task.json >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 20 printed begun
  [ "$(agent-task shell "$(field .task.id line)" -- sh -c 'echo "$WORD $PWD"; cat /etc/debian_version' | paste -sd ' ')" = \
    "hello $(echo "$AGENT_HOME"/state/tasks/local-*)/code $(cat "$image/etc/debian_version")" ]
  kill -INT "$run_pid"
  ended "$run_pid"
  [ "$status" -eq 130 ]
  wait_for 5 does_not_sleep 4733
}

@test "a name is pulled from its registry, once for all tasks, with the variables of the image" {
  local registry=127.0.0.1:5062 name
  mkdir -p root/bin
  cp /bin/busybox root/bin/
  for name in sh cat echo sleep mv ln mkfifo setsid; do ln -s busybox "root/bin/$name"; done
  tar -C root -cf - . | docker import -c 'ENV OF_THE_IMAGE=yes' - "$registry/small:1" >/dev/null
  printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: %s}\n' \
    "$PWD" "$registry" >config.yml
  docker-registry serve config.yml >log 2>&1 3>&- 4>&- &
  run_pid=$!
  wait_for 10 curl -s "http://$registry/v2/"
  docker push -q "$registry/small:1"
  docker rmi "$registry/small:1" >/dev/null
  export APPTAINER_NOHTTPS=1
  image=$registry/small:1
  bash_task 'echo "$OF_THE_IMAGE"' | sed 's/"bash"/"sh"/' >task.json
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = yes ]
  image=$registry/none:1
  bash_task true >other.json
  run -66 --separate-stderr agent-prepare other.json
  [[ $stderr == *"there is no image $registry/none:1"* ]]
  kill "$run_pid"
  agent-prepare task.json >line
  [ "$(field .place.kind line)" = apptainer ]
}

@test "an image that is not there, cannot be pulled, or has no shell, is said" {
  image=/no/such.sif
  bash_task 'true' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 66 ]
  # shellcheck disable=SC2154
  [[ $stderr == *"there is no image /no/such.sif"* ]]
  image=127.0.0.1:9/no/such:1
  bash_task 'true' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 69 ]
  [[ $stderr == *"image 127.0.0.1:9/no/such:1 is not here and cannot be pulled"*"connection refused"* ]]
  image=library://lolcow
  bash_task 'true' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 69 ]
  [[ $stderr == *"image library://lolcow: "*"apptainer knows no library on this machine (that of Sylabs: "*" remote add "* ]]
  mkdir -p empty/etc
  image=$PWD/empty
  bash_task 'true' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 65 ]
  [[ $stderr == *"cannot be entered by apptainer"* ]]
}
