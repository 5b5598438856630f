#!/usr/bin/env bats
# Tasks in Charliecloud, which needs neither a daemon nor privileges: as root, and as a plain user (Debian).

bats_require_minimum_version 1.5.0

setup_file() {
  load containers
  docker_engine
  # an image as sites have them: what `docker export` wrote
  local id
  id=$(docker create agentpipe-test/python:bookworm true)
  docker export "$id" >"$BATS_FILE_TMPDIR/image.tar"
  docker rm "$id" >/dev/null
  mkdir -m 700 "$BATS_FILE_TMPDIR/images"
}

setup() {
  load containers
  contained
  unset USER  # as under cron
  image=$BATS_FILE_TMPDIR/image.tar
  export AGENT_PLACE=charliecloud
  mkdir -p "$AGENT_HOME/cache"
  ln -s "$BATS_FILE_TMPDIR/images" "$AGENT_HOME/cache/images"  # unpacked once for all tests
}

@test "a task runs in its image, which it cannot change, with its variables and mounts" {
  mkdir data
  bash_task "cat /etc/debian_version; echo \"secret \$WORD\"; tr '\\0' ' ' </proc/*/cmdline | grep -c a-[w]ord; touch /x; echo made >/data/made; exit 7" \
    "{\"arguments\": \"-e WORD=a-word -v $PWD/data:/data --ipc=host --memory 1g\"}" >task.json
  agent-prepare task.json >line
  run --separate-stderr agent-run line
  [ "$status" -eq 7 ]
  log_of | grep -x '12\..*'
  log_of | grep -x 'secret a-word'
  log_of | grep -x 0
  log_of | grep -q 'Read-only file system'
  [ "$(cat data/made)" = made ]
  [ "$(field .place.kind line)" = charliecloud ]
  [ ! -e "$(field .place.root line)$(attempt "$(field .task.id line)")" ]
  # what has no meaning here is said
  set_up_of | grep -q 'charliecloud has no such thing: --memory$'
}

@test "a receipt whose image is another by now says so, and one whose image is the same does not" {
  bash_task 'echo hello' >task.json
  agent-prepare task.json | agent-run >receipt
  agent-prepare receipt 2>said | agent-run >/dev/null
  run -1 grep 'that of the receipt' said
  jq -c '.pins.image = "another"' receipt | agent-prepare 2>/dev/null | agent-run >/dev/null
  set_up_of | grep -qF "the image may not be that of the receipt, which pins another: what $image is here is $(field .pins.image receipt)"
}

@test "a user may be named, as the image knows it" {
  for user in root games:games; do
    bash_task 'id -un' "{\"arguments\": \"--user $user\"}" >task.json
    agent-prepare task.json >line
    agent-run line >receipt
    [ "$(log_of)" = "${user%:*}" ]
    rm -r "$AGENT_HOME"/state/tasks/local-*
  done
  bash_task 'id -un' '{"arguments": "--user nosuch"}' >task.json
  run -65 --separate-stderr agent-prepare task.json
  [[ $stderr == *"--user: the image's /etc/passwd has no nosuch (name one that it has, or a number)"* ]]
}

@test "a script of set-up changes a copy of the image, which goes with the task; what it exports is there" {
  set_up_of_its_own
  [ ! -e "$(echo "$BATS_FILE_TMPDIR"/images/charliecloud/*/)made" ]
}

@test "what this machine says of its programs, and packages in a home that is mounted, change nothing in an image" {
  as_in_the_image_alone
}

@test "a Python task gets an environment of the image's Python, and the second one the same" {
  local line='{"task": {"container": {"image": "%s"}, "script": {"binary": "python3", "entry_point": "main.py",
    "diff": "import six, sys; print(six.__name__, sys.version_info[:2])\\n", "requirements": {"pip": "six"}}}}'
  # shellcheck disable=SC2059
  printf "$line" "$image" | tr -d '\n' >task.json
  agent-prepare task.json >line
  agent-run line
  log_of | grep -x "six (3, 11)"
  agent-prepare task.json >line
  [ "$(field .env.cached line)" = true ]
}

# may read everything, since the tests' Python may stand in root's home; nothing else
as_user() {
  setpriv --reuid 4711 --regid 4711 --clear-groups --inh-caps=-all,+dac_read_search \
    --ambient-caps=+dac_read_search --bounding-set=-all,+dac_read_search "$@"
}

# the homes of this test are that user's
homes_of_user() {
  rm "$AGENT_HOME/cache/images"
  local folder=$BATS_TEST_TMPDIR
  while [ "$folder" != / ] && [ "$folder" != /tmp ]; do chmod o+x "$folder"; folder=$(dirname "$folder"); done
  mkdir "$HOME/tmp"
  chown -R 4711:4711 "$AGENT_HOME" "$HOME"
  export TMPDIR=$HOME/tmp UV_CACHE_DIR=$HOME/uv
}

@test "a plain user: an image whose own folder is closed, as Fedora's, gets the folders of its mounts" {
  homes_of_user
  mkdir -p root/bin root/etc
  cp "$(command -v busybox)" root/bin/
  for name in sh cat echo mv ln mkfifo setsid ls sleep; do ln -s busybox "root/bin/$name"; done
  chmod 555 root/etc root
  chown -R 4711:4711 root
  image=$PWD/root
  bash_task 'ls -d /newly/made; cat /etc/hosts' '{"arguments": "-v /usr/share:/newly/made"}' | sed 's/"bash"/"sh"/' >task.json
  as_user agent-prepare task.json >line
  as_user agent-run line >receipt
  [ "$(log_of)" = "/newly/made"$'\n'"$(cat /etc/hosts)" ]
}

@test "a plain user: devices of an archive stay out, wherever they are; one that breaks off is refused all the same" {
  homes_of_user
  mkdir -p root/bin root/etc root/var/jail
  cp "$(command -v busybox)" root/bin/
  for name in sh cat echo mv ln mkfifo setsid ls sleep; do ln -s busybox "root/bin/$name"; done
  mknod root/var/jail/null c 1 3
  echo last >root/var/last
  tar -cf image.tar -C root var etc bin
  image=$PWD/image.tar
  bash_task 'ls /var/jail; cat /var/last' | sed 's/"bash"/"sh"/' >task.json
  as_user agent-prepare task.json >line
  as_user agent-run line >receipt
  [ "$(log_of)" = last ]
  set_up_of | grep -q "image.tar: its devices outside of /dev are left out, a plain user cannot make them"
  truncate -s 1000K image.tar
  run -65 --separate-stderr as_user agent-prepare task.json
  [[ $stderr == *"image.tar cannot be unpacked: "*tar* ]]
}

@test "a plain user: what a task mounts keeps its groups when the copy that its set-up has changed is removed" {
  homes_of_user
  mkdir -p root/bin root/etc data
  cp "$(command -v busybox)" root/bin/
  for name in sh cat chown echo mkdir mv ln mkfifo setsid ls sleep; do ln -s busybox "root/bin/$name"; done
  touch data/file
  chown 4711:games data/file
  chmod 2770 data/file
  image=$PWD/root
  bash_task 'ls -d /made' "{\"arguments\": \"-v $PWD/data:/data\", \"setup_shell_script\": \"mkdir -m 0 /made\"}" |
    sed 's/"bash"/"sh"/' >task.json
  as_user agent-prepare task.json >line
  as_user agent-run line >receipt
  [ "$(log_of)" = /made ]
  [ "$(stat -c '%G %a' data/file)" = 'games 2770' ]
  [ ! -e "$(field .place.root line)" ]
}

@test "a plain user runs it all the same, packages of the system included" {
  homes_of_user
  export CLEARML_AGENT__AGENT__DOCKER_ALLOW_HOST_ENVIRON=1
  local net
  net=$("$BATS_TEST_DIRNAME/docker-host-args.sh" | paste -sd ' ' | sed 's# *-v /root/[^ ]*##g')
  bash_task 'id -u; hello' "{\"arguments\": \"$net -e CLEARML_APT_INSTALL=hello\"}" >task.json
  as_user agent-prepare task.json >line
  as_user agent-run line >receipt
  [ "$(log_of)" = $'4711\nHello, world!' ]
}

@test "TERM to agent-run ends what runs inside, also what left its session" {
  told_to_end 472
}

@test "a failed script's place is kept for a while: agent-task shell walks in" {
  kept_for_a_while "$(tar -xOf "$image" etc/debian_version)" 475
}

@test "agent-run is killed while it keeps a place: the next set-up removes it" {
  kept_by_a_killed_one
}

@test "check tells its version, also where nobody has set USER" {
  run -0 agent-config check containers
  [[ $output =~ "ok      charliecloud: 0."[0-9]+" (" ]]
}

@test "an image that no engine has exported finds its names: hosts and resolv.conf are this machine's" {
  mkdir root
  tar -C root -xf "$image" --exclude='dev/*'
  rm -f root/etc/hosts
  ln -sfn ../run/systemd/resolve/stub-resolv.conf root/etc/resolv.conf
  image=$PWD/root
  bash_task 'cat /etc/hosts /etc/resolv.conf' >task.json
  agent-prepare task.json >line
  agent-run line
  [ "$(log_of)" = "$(cat /etc/hosts /etc/resolv.conf)" ]
  [ -L root/etc/resolv.conf ]
}

@test "agent-run is killed: the next pipeline takes over what runs inside, and has its status" {
  export AGENT_CLAIM_GRACE=0
  task=$(enqueue_in "$image" "echo begun; until [ -e \"\$AGENT_TASK_DIR/go\" ]; do sleep 0.05; done; echo over; exit 3")
  agent-pull default | agent-prepare >line
  seen_through_by_the_next "$task" "$(attempt "$task")/go"
  [ "$(log_of)" = $'begun\nover' ]
  [ "$(status "$task")" = failed ]
}

@test "a user's stop ends what runs inside" {
  task=$(enqueue_in "$image" 'echo begun; sleep 4723')
  agent-pull default | agent-prepare >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 20 printed begun
  call tasks.stop "{\"task\": \"$task\"}"
  ended "$run_pid"
  [ "$status" -eq 130 ]
  wait_for 5 does_not_sleep 4723
  [ "$(status "$task")" = stopped ]
}

@test "a mount of what is not there is said by its option" {
  bash_task 'true' '{"arguments": "-v /no/such:/x"}' >task.json
  for option in '' --dry-run; do
    run -65 --separate-stderr agent-prepare $option task.json
    [[ $stderr == *"--volume /no/such:/x: there is no /no/such on this machine (make it, or mend the arguments of the"* ]]
  done
}

@test "an image that is not there, or has no shell, is said" {
  image=/no/such.tar
  bash_task 'true' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 66 ]
  # shellcheck disable=SC2154
  [[ $stderr == *"there is no image /no/such.tar"* ]]
  mkdir -p empty/etc
  image=$PWD/empty
  bash_task 'true' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 65 ]
  [[ $stderr == *"cannot be entered by charliecloud"* ]]
}
