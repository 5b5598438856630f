#!/usr/bin/env bats
# Tasks in containers of a real Docker Engine (root, Debian).

# shellcheck disable=SC2154 # contained() sets image
bats_require_minimum_version 1.5.0

setup_file() { load containers; docker_engine; }

setup() { load containers; contained; }

teardown() {
  without_containers
  if [ -n "${network:-}" ]; then engine_down; fi
}

# tiny NAME: an image of a shell and a few programs, without Python; made by this engine's DOCKER_HOST
tiny() {
  local each
  if docker image inspect "$1" >/dev/null 2>&1; then return; fi
  mkdir root
  ln -s usr/bin root/bin
  for each in sh bash sleep mv ln cat id setsid mkfifo; do
    command -v "$each"
    ldd "$(command -v "$each")" | grep -o '/[^ ]*'
  done | sort -u | sed 's#^/bin/#/usr/bin/#' | xargs cp -L --parents -t root
  tar -C root -cf - . | docker import - "$1" >/dev/null
}

# by_hand FIELDS: a manifest of a task in the image, with these fields of its script
by_hand() { tr -d '\n' <<<"{\"task\": {\"container\": {\"image\": \"$image\"}, \"script\": {$1}}}"; }

in_containers() { containers | xargs -n 1 docker top | grep -q "$1"; }

# running SCRIPT: start a task that prints `begun`; $task, $run_pid and $container are set
running() {
  task=$(enqueue_in "$image" "$1")
  agent-pull default | agent-prepare >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 30 printed begun
  container=$(containers)
}

# in the image's own file system: only the folders over our mounts
nothing_is_written_in() {  # CONTAINER
  local mounts; mounts=$(docker inspect -f '{{range .Mounts}}{{println .Destination}}{{end}}' "$1")
  docker diff "$1" | while read -r how path; do
    [ "$how" = A ] || [ "$how" = C ]
    grep -q "^$path" <<<"$mounts" || { echo "$how $path"; return 1; }
  done
}

@test "a task that names an image runs inside it, and nothing is left but its result" {
  task=$(enqueue_in "$image" 'hostname; id -u; echo written >"$AGENT_TASK_DIR/code/made"; exit 7')
  agent-pull default | agent-prepare >line
  container=$(field .place.container line)
  [ "$(field .place.kind line)" = docker ]
  [ "$(docker inspect -f '{{index .Config.Labels "agentpipe.task"}}' "$container")" = "$task" ]
  nothing_is_written_in "$container"
  run --separate-stderr bash -c 'agent-run <line >receipt'
  [ "$status" -eq 7 ]
  [ "$(log_of)" = "${container:0:12}"$'\n0' ]
  [ "$(cat "$(attempt "$task")/code/made")" = written ]
  [ -z "$(containers)" ]
  [ "$(status "$task")" = failed ]
}

@test "whoever looks at an image's Python writes no byte-code there" {
  bare=$(docker create "$image" sh -c 'find /usr/lib/python3* -name __pycache__ -exec rm -rf {} +')
  docker start -a "$bare"
  docker commit "$bare" "agentpipe-tests-bare" >/dev/null
  docker rm "$bare" >/dev/null
  image=agentpipe-tests-bare
  for as_is in auto never; do
    export AGENT_AS_IS=$as_is
    by_hand '"entry_point": "main.py", "diff": "print(1)\n", "requirements": {"pip": "wheel\n"}' >task.json
    agent-prepare task.json >line
    nothing_is_written_in "$(field .place.container line)"
    agent-run line >receipt
  done
  docker rmi "$image" >/dev/null
}

@test "an image that has what a task requires is used as it is, or gets nothing installed" {
  by_hand '"entry_point": "main.py", "diff": "import sys, wheel\nprint(wheel.__file__, sys.prefix)\n",
           "requirements": {"pip": "wheel\n"}' >task.json
  agent-prepare task.json >line
  [[ $(field .env.reason line) == *", as it is: /usr/bin/python3 has all that is asked for"* ]]
  [ "$(field .env.base line)" = null ]
  agent-run line >receipt
  [ "$(log_of)" = "/usr/lib/python3/dist-packages/wheel/__init__.py $(field .env.overlay line)" ]
  export AGENT_AS_IS=never
  agent-prepare task.json >line
  [ "$(field .env.cached line)" = false ]
  [[ $(field .env.reason line) == *", 0 packages installed in "*", 1 of the interpreter's own, asked for by"* ]]
  agent-run line >receipt
  [ "$(field .run.exit receipt)" = 0 ]
  agent-prepare task.json >line
  [ "$(field .env.cached line)" = true ]
  agent-run line >receipt
  [ "$(field .run.exit receipt)" = 0 ]
}

@test "what the image lacks, or has in another version, is installed beside it and hides it" {
  by_hand '"entry_point": "main.py", "diff": "import iniconfig, wheel\nprint(wheel.__version__, iniconfig.__file__)\n",
           "requirements": {"pip": "wheel>0.38.4\niniconfig\n"}' >task.json
  agent-prepare task.json >line
  agent-run line >receipt
  [[ $(log_of) != 0.38.4* ]]
  log_of | grep -F "$AGENT_HOME/cache/envs/"
}

@test "a user's stop ends the script in its container, and the container" {
  running 'trap "echo told; exit 0" TERM; setsid sleep 4711 & echo begun; sleep 4712 & wait $!'
  call tasks.stop "{\"task\": \"$task\"}"
  ended "$run_pid"
  [ "$status" -eq 130 ]
  printed told
  [ -z "$(containers)" ]
  [ "$(status "$task")" = stopped ]
}

@test "a time limit and TERM to agent-run end what runs inside, and give it its grace" {
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "trap \"echo told; exit 0\" TERM; echo begun; sleep 4713 & wait $!\n"' >task.json
  agent-prepare task.json >line
  run --separate-stderr agent-run --time-limit 0.5 line
  [ "$status" -eq 124 ]
  [ "$(log_of)" = $'begun\ntold' ]
  rm -r "$AGENT_HOME"/state/tasks/local-*
  running 'trap "" TERM; echo begun; sleep 4714'
  agent=$run_pid
  kill -TERM "$agent"
  wait_for 20 grep -q 'ending the script, in 10 s by force' "$(attempt "$task")/setup.log"
  kill -TERM "$agent"  # once more: at once
  ended "$agent"
  [ "$status" -eq 75 ]
  [ -z "$(containers)" ]
}

@test "agent-run is killed: the next pipeline takes over, and has the script's status" {
  export AGENT_CLAIM_GRACE=0
  running 'echo begun; until [ -e "$AGENT_TASK_DIR/go" ]; do sleep 0.1; done; echo over; exit 3'
  kill -KILL "$run_pid"
  wait "$run_pid" || true
  bash -c 'agent-pull default | agent-prepare | exec agent-run >receipt' 3>&- &
  second=$!
  wait_for 20 grep -q 'taking over' "$(attempt "$task")/setup.log"
  [ "$(containers)" = "$container" ]
  touch "$(attempt "$task")/go"
  ended "$second"
  [ "$status" -eq 3 ]
  [ "$(log_of)" = $'begun\nover' ]
  [ -z "$(containers)" ]
}

@test "a script that had ended before its container was stopped, which nobody had seen, has ended by itself" {
  export AGENT_CLAIM_GRACE=0
  running 'echo begun; until [ -e "$AGENT_TASK_DIR/go" ]; do sleep 0.1; done'
  kill -KILL "$run_pid"
  wait "$run_pid" || true
  touch "$(attempt "$task")/go"
  wait_for 10 test -e "$(attempt "$task")/box/exit.0"
  docker stop "$container" >/dev/null # as when the machine is shut down
  [ -e "$(attempt "$task")/box/stopped" ]
  agent-pull default
  [ "$(status "$task")" = completed ]
  [ -z "$(containers)" ]
}

@test "a script's copies in a container are told to end after it" {
  cat >main.py <<'PY'
import os, signal, time
def told(*_):
    print("copy told", flush=True)
    os._exit(0)
def save(*_):
    time.sleep(0.5)
    print("saved", flush=True)
    os._exit(3)
copy = os.fork()
signal.signal(signal.SIGTERM, save if copy else told)
print("begun", flush=True)
while True:
    time.sleep(0.05)
PY
  by_hand "\"entry_point\": \"main.py\", \"diff\": $(jq -Rs . main.py)" >task.json
  agent-prepare task.json >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 30 sh -c '[ "$(grep -c begun "$AGENT_HOME"/state/tasks/*/box/log)" = 2 ]'
  kill -TERM "$run_pid"
  ended "$run_pid"
  [ "$status" -eq 75 ]
  [ "$(log_of)" = $'begun\nbegun\nsaved\ncopy told' ]
}

@test "an old container that cannot be removed is said, and keeps no other task" {
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "echo fine\n"' >task.json
  agent-prepare task.json >line
  id=$(field .task.id line)
  stuck=$(docker info -f '{{.DockerRootDir}}')/containers/$(field .place.container line)
  touch "$stuck/stuck"
  chattr +i "$stuck/stuck"
  rm "$AGENT_HOME/state/tasks/$id.1/place.json"
  agent-prepare task.json 2>said >line || true
  chattr -i "$stuck/stuck"
  grep -q "an old container, ${stuck: -64:12}, cannot be removed" "$AGENT_HOME/state/tasks/$(field .task.id line).1/setup.log"
  agent-run line >receipt
  [ "$(field .run.exit receipt)" = 0 ]
}

@test "Docker's client is killed: the script goes on, and its status comes" {
  running 'echo begun; until [ -e "$AGENT_TASK_DIR/go" ]; do sleep 0.1; done; exit 4'
  client=$(pgrep -f "docker exec ${container:0:12}")
  kill -KILL "$client"
  wait_for 10 gone "$client"
  touch "$(attempt "$task")/go"
  ended "$run_pid"
  [ "$status" -eq 4 ]
}

@test "Docker's client is killed where the container's processes cannot be seen: they are asked for inside" {
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "echo begun; until [ -e \"$AGENT_TASK_DIR/go\" ]; do sleep 0.1; done; exit 4\n"' >task.json
  agent-prepare task.json | sed 's/"keeper":"[^"]*"/"keeper":null/' >line
  agent-run line >receipt 3>&- &
  run_pid=$!
  wait_for 30 printed begun
  client=$(pgrep -f "docker exec $(field .place.container line | cut -c1-12) sh -c .cd")
  kill -KILL "$client"
  wait_for 10 gone "$client"
  sleep 0.5  # agent-run asks
  kill -0 "$run_pid"
  touch "$(dirname "$(field .fetch.code line)")/go"
  ended "$run_pid"
  [ "$status" -eq 4 ]
}

@test "the container is killed from outside: the task is lost, and what is known is said" {
  running 'echo begun; sleep 4714'
  docker kill "$container" >/dev/null
  ended "$run_pid"
  [ "$status" -eq 125 ]
  [ "$(field .run.end receipt)" = lost ]
  [[ $(field .run.reason receipt) == "its container ended while the script ran: exit 137 at "* ]]
  [ -z "$(containers)" ]
}

@test "TERM or a user's stop while the container is set up: it goes, and the task is back in its queue, or stopped" {
  echo 'sleep 4718' >setup.sh
  printf 'true\n' >job.sh
  for how in term stop; do
    task=$(agent-task enqueue --create-queue --queue gpu --docker "$image" --setup-script @setup.sh job.sh)
    agent-pull gpu | agent-prepare >line 3>&- &
    prepare=$!
    wait_for 30 in_containers 'sleep 4718'
    if [ "$how" = term ]; then kill -TERM "$prepare"; else call tasks.stop "{\"task\": \"$task\"}"; fi
    ended "$prepare"
    [ -z "$(containers)" ]
    if [ "$how" = term ]; then
      [ "$status" -eq 75 ]
      [ "$(status "$task")" = queued ]
      agent-task dequeue "$task"
    else
      [ "$status" -eq 130 ]
      run -130 bash -c 'agent-run <line >receipt'
      [ "$(status "$task")" = stopped ]
    fi
  done
}

@test "docker stop: the script is told, gets its time, and the task is lost" {
  export CLEARML_AGENT_EXTRA_DOCKER_ARGS="--stop-signal INT" # some images have another one, too
  running 'trap "echo told; exit 0" TERM; echo begun; sleep 4716 & wait $!'
  docker stop "$container" >/dev/null
  ended "$run_pid"
  [ "$status" -eq 125 ]
  [ "$(log_of)" = $'begun\ntold' ]
  [[ $(field .run.reason receipt) == "its container was stopped from outside"*"the script ended with 0" ]]
}

@test "agent-prepare dies while it makes the container: recovery removes that and gives the task back" {
  export AGENT_CLAIM_GRACE=0
  mapfile -t points < <(grep -rhoP 'crash_point\("\Kplace:\w+' "$ROOT/lib/agentpipe/place" | sort -u)
  [ "${#points[@]}" -ge 3 ]
  for point in "${points[@]}"; do
    task=$(enqueue_in "$image" 'echo again')
    run bash -c "agent-pull default | AGENT_CRASH_AT=$point=$PWD/died.$point agent-prepare"
    [ -e "died.$point" ]
    agent-pull --id "$task" >line
    [ "$(field .task.id line)" = "$task" ]
    [ -z "$(containers)" ]
    [ ! -e "$AGENT_HOME/state/tasks/$task.1/place.json" ]
  done
}

@test "what runs in a container, as root and before its script too, changes nothing that the agent or others believe" {
  git init -q repository
  cat >repository/main.py <<'PY'
import os
for name in "manifest.json", "place.json", "spec":
    try:
        open(os.path.join(os.environ["AGENT_TASK_DIR"], name), "a")
        print("BAD wrote", name)
    except OSError:
        pass
print("fine")
PY
  head -c 35000000 /dev/urandom >repository/large # its pack is shown, not copied
  git -C repository add main.py large
  git -C repository -c user.name=x -c user.email=x@x commit -qm 1
  commit=$(git -C repository rev-parse HEAD)
  by_hand "\"entry_point\": \"main.py\", \"repository\": \"$PWD/repository\", \"version_num\": \"$commit\", \"requirements\": {\"pip\": \"iniconfig\\n\"}" >task.json
  cat >hostile.sh <<'SH'
dir=${agent_folder%/*} cache=${agent_folder%/state/tasks/*}/cache
for name in place.json setup/run setup/4-task setup.log; do
  if echo hostile >"$dir/$name"; then echo "BAD wrote $name"; fi
  if rm "$dir/$name"; then echo "BAD removed $name"; fi
done 2>/dev/null
for name in hostile manifest.json outcome secrets.json; do
  if echo hostile >"$dir/$name"; then echo "BAD made $name"; fi
done 2>/dev/null
for name in code env box; do
  if python3 -c "import os; os.rename('$dir/$name', '$dir/box/x')"; then echo "BAD moved $name"; fi
done 2>/dev/null
for each in "$cache"/envs/containers/*/*/pyvenv.cfg "$cache"/envs/containers/x "$cache"/lent/x; do
  if echo hostile >"$each"; then echo "BAD wrote $each"; fi
done 2>/dev/null
for each in "$dir"/code/.git/objects/pack/*.pack; do
  if [ "$(git -c safe.directory='*' -C "$dir/code" show HEAD:large | sha256sum)" != "$(sha256sum <"$dir/code/large")" ]; then
    echo "BAD cannot read $each"
  fi
  for how in 'chmod u+w "$1"' 'echo hostile >>"$1"' 'touch "$1"' 'rm -f "$1"' 'mv "$1" "$1.x"' 'ln "$1" "$1.x"' \
    'mount -o remount,bind,rw "$1"' 'umount "$1"' 'unshare -Urm umount "$1"'; do
    if sh -c "$how" sh "$each"; then echo "BAD $how"; fi
  done
done 2>/dev/null
for each in "$dir"/code/.git/objects/*/*; do chmod u+w "$each"; echo hostile >"$each"; done
printf '[core]\nfsmonitor = touch %s/executed\n' "$dir/box" >>"$dir/code/.git/config"
ln -s /etc "$dir/env/bin"; ln -s /etc/passwd "$dir/env/pyvenv.cfg"
ln -s /etc/passwd "$dir/box/log"
mkdir "$dir/box/there"
python3 - "$dir" <<'END'
import fcntl, os, sys, time
lock = open(sys.argv[1] + "/lock")
fcntl.flock(lock, fcntl.LOCK_EX)
if not os.fork():
    os.setsid()
    for fd in (0, 1, 2):
        os.close(fd)
    time.sleep(600)
END
echo "hostile set-up is over"
SH
  python3 -c 'import json
task = json.load(open("task.json"))
task["task"]["container"]["setup_shell_script"] = open("hostile.sh").read()
print(json.dumps(task))' >hostile.json
  agent-prepare task.json | agent-run >receipt
  [ "$(field .run.exit receipt)" = 0 ]
  [ "$(log_of)" = fine ]
  for mirror in "$AGENT_HOME"/cache/git/*.git; do git -C "$mirror" repack -adq; done
  packs=$(sha256sum "$AGENT_HOME"/cache/git/*.git/objects/pack/*.pack)
  sum=$(sha256sum /etc/passwd)
  timeout 120 agent-prepare hostile.json >line
  id=$(field .task.id line)
  [ -n "$(find "$AGENT_HOME/state/tasks/$id.1/code/.git" -name '*.pack' -links +1)" ]
  grep -qx "hostile set-up is over" "$AGENT_HOME/state/tasks/$id.1/setup.log"
  run -1 grep BAD "$AGENT_HOME/state/tasks/$id.1/setup.log"
  [ "$(sha256sum /etc/passwd)" = "$sum" ]
  timeout 60 agent-run line >receipt || true
  [ "$(sha256sum /etc/passwd)" = "$sum" ]
  [ -z "$(containers)" ]
  [ ! -e "$AGENT_HOME/state/tasks/$id.1/box/executed" ]
  # the mirror and the environment are as they were: the same task again needs nothing anew
  [ "$(sha256sum "$AGENT_HOME"/cache/git/*.git/objects/pack/*.pack)" = "$packs" ]
  for mirror in "$AGENT_HOME"/cache/git/*.git; do git -C "$mirror" fsck --strict; done
  agent-prepare task.json >line
  [ "$(field .fetch.cached line)" = true ]
  [ "$(field .env.cached line)" = true ]
  agent-run line >receipt
  [ "$(field .run.exit receipt)" = 0 ]
}

@test "killed for lack of memory: the end says so, with limit and peak" {
  sed 's/"image"/"arguments": "--memory=64m --memory-swap 64m", "image"/' >task.json < <(
    by_hand '"entry_point": "main.py", "diff": "x = bytearray(200 << 20)\n"')
  agent-prepare task.json >line
  run --separate-stderr agent-run line
  [ "$status" -eq 137 ]
  receipt=$(tail -n 1 <<<"$output")
  [ "$(field .run.end <<<"$receipt")" = out_of_memory ]
  [ "$(field .run.evidence <<<"$receipt")" = "killed for lack of memory: limit 67108864 bytes, peak 67108864 bytes" ]
}

@test "what a script has started is killed for lack of memory: its failure says so, with limit and peak" {
  sed 's/"image"/"arguments": "--memory=64m --memory-swap 64m", "image"/' >task.json < <(
    by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "python3 -c \"bytearray(200 << 20)\"; exit 3\n"')
  agent-prepare task.json >line
  run -3 --separate-stderr agent-run line
  receipt=$(tail -n 1 <<<"$output")
  [ "$(field .run.end <<<"$receipt")" = script_failed ]
  [ "$(field .run.reason <<<"$receipt")" = "exit 3; a process of it was killed for lack of memory: limit 67108864 bytes, peak 67108864 bytes" ]
}

@test "a script that is killed in its container and one that ends with 137 are told apart" {
  for script in 'kill -KILL $$' 'exit 137'; do
    by_hand "\"binary\": \"bash\", \"entry_point\": \"main.sh\", \"diff\": \"$script\\n\"" >task.json
    agent-prepare task.json >line
    run -137 bash -c 'agent-run line >receipt'
    field .run.reason receipt >>reasons
  done
  diff reasons - <<<$'ended by SIGKILL\nexit 137, as a shell ends when SIGKILL has ended a program of it'
}

@test "an image's own user, and an agent that is not root: both can write, and all is the agent's in the end" {
  agent=(setpriv --reuid=12345 --regid=12345 --groups="$(getent group docker | cut -d: -f3)"
    --inh-caps=+dac_read_search --ambient-caps=+dac_read_search)
  unset UV_CACHE_DIR
  chown -R 12345 "$BATS_TEST_TMPDIR"
  # root without its powers is no root in folders of others
  for user in 0 1234 '0 --cap-drop=ALL'; do
    sed "s/\"image\"/\"arguments\": \"--user $user\", \"image\"/" >task.json < <(
      by_hand '"entry_point": "main.py", "requirements": {"pip": "iniconfig\n"},
               "diff": "import iniconfig, os\nos.makedirs(\"a/b\")\nopen(\"a/b/c\", \"w\").write(str(os.getuid()))\nopen(\"/clearml_agent_cache/it\", \"w\")\n"')
    "${agent[@]}" agent-prepare task.json >line
    "${agent[@]}" agent-run line >receipt
    [ "$(cat "$(field .fetch.code receipt)/a/b/c")" = "${user%% *}" ]
    find "$AGENT_HOME" ! -user 12345 ! -path '*/containers/sdk*' -ls >strange; cat strange
    [ ! -s strange ]
  done
  # ssh takes no settings of root's that belong to another
  mkdir -m 700 "$HOME/.ssh"
  printf 'Host short\n  HostName long.example\n' >"$HOME/.ssh/config"
  chown -R 12345 "$HOME/.ssh"
  sed 's/"image"/"setup_shell_script": "ssh -G short", "image"/' >task.json < <(
    by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"')
  (unset SSH_AUTH_SOCK; "${agent[@]}" agent-prepare task.json >line)
  grep -qx 'hostname short' "$AGENT_HOME/state/tasks/$(field .task.id line).1/setup.log"
  "${agent[@]}" agent-run line >receipt
  # also of a container that was ended from outside
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "mkdir -p a/b; : >a/b/c; echo begun; sleep 4719\n"' >task.json
  rm -r "$AGENT_HOME"/state/tasks/*
  "${agent[@]}" agent-prepare task.json >line
  ended_from_outside "${agent[@]}"
  [ "$(find "$AGENT_HOME" ! -user 12345 ! -path '*/containers/sdk*')" = "" ]
}

@test "PID 1 of an image without sleep waits without work, and ends when nobody can reach its engine" {
  image=agentpipe-test/sleepless
  for each in bash dash; do
    docker build -q -t "$image-$each" - >/dev/null 2>&1 <<<"FROM agentpipe-test/python:bookworm
RUN ln -sf $each /bin/sh && rm /bin/sleep"
    image=$image-$each by_hand '"binary": "sh", "entry_point": "main.sh", "diff": "echo fine\n"' >task.json
    agent-prepare task.json >line
    container=$(field .place.container line)
    # pids are counted by the container: each process that is started there makes one
    first=$(docker exec "$container" sh -c 'echo $$')
    sleep 1
    [ $(($(docker exec "$container" sh -c 'echo $$') - first)) -lt 10 ]
    agent-run line >receipt
    [ "$(field .run.exit receipt)" = 0 ]
    [ -z "$(containers)" ]
  done
  agent-prepare <(image=$image-bash by_hand '"binary": "sh", "entry_point": "main.sh", "diff": "true\n"') >line
  rm "$AGENT_HOME"/state/tasks/"$(field .task.id line)".1/place.json
  wait_for 20 sh -c "! docker top $(field .place.container line)"
}

@test "an image without Python runs a shell script; a Python script is refused, and told why" {
  image=agentpipe-test/tiny
  tiny "$image"
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "echo fine\n"' >task.json
  agent-prepare task.json | agent-run >receipt
  [ "$(field .run.exit receipt)" = 0 ]
  by_hand '"entry_point": "main.py", "diff": "print(1)\n"' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 66 ]
  [[ $stderr == *"there is no Python in this task's place (use an image that has python3)"* ]]
  [ -z "$(containers)" ]
}

@test "an image's entrypoint is run first, and what it sets is seen by all that follows" {
  image=agentpipe-test/entry
  mkdir context
  printf '#!/bin/sh\nexport FROM_ENTRY="a b" PATH=/opt/tools:$PATH\n%s\nexec "$@"\n' \
    'export BAD=$(printf "\377") LONG=$(head -c 65530 /dev/zero | tr "\0" x) LONGER=${LONG}x' >context/enter
  chmod 755 context/enter
  printf 'FROM agentpipe-test/python:bookworm\nCOPY enter /enter\nRUN mkdir /opt/tools; ln -s /usr/bin/python3 /opt/tools/python3\nENTRYPOINT ["/enter"]\n' >context/Dockerfile
  docker build -q -t "$image" context >/dev/null 2>&1
  sed 's/"image"/"setup_shell_script": "echo set-up sees $FROM_ENTRY", "image"/' >task.json < <(
    by_hand '"entry_point": "main.py", "diff": "import os\nprint(os.environ[\"FROM_ENTRY\"], os.environ[\"PATH\"], len(os.environ[\"LONG\"]))\n"')
  agent-prepare task.json | agent-run >receipt
  [[ $(log_of) == "a b "*"/opt/tools:/usr/local/sbin:"*" 65530" ]]
  grep -qx 'set-up sees a b' "$AGENT_HOME"/state/tasks/*/setup.log
  [ -z "$(containers)" ]
}

@test "an entrypoint that does not start what it is given is left out" {
  image=agentpipe-test/stubborn
  docker build -q -t "$image" - >/dev/null 2>&1 <<<'FROM agentpipe-test/python:bookworm
ENTRYPOINT ["sleep"]'
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "echo fine\n"' >task.json
  CLEARML_AGENT_EXTRA_DOCKER_ARGS="--log-driver none" agent-prepare task.json | agent-run >receipt # nobody knows its words
  [ "$(log_of)" = fine ]
  grep -q "the entrypoint of $image does not start what it is given, it is left out" "$AGENT_HOME"/state/tasks/*/setup.log
}

@test "an image with another C library gets a static uv, fetched once" {
  image=agentpipe-test/busybox
  mkdir -p root/bin
  cp "$(command -v busybox)" root/bin/
  for each in sh cat mkdir sleep id ln mv setsid; do ln -s busybox "root/bin/$each"; done
  tar -C root -cf - . | docker import - "$image" >/dev/null
  by_hand '"binary": "sh", "entry_point": "main.sh", "diff": "true\n"' >task.json
  agent-prepare task.json >line
  python3 - line >said <<'PY'
import glob, json, os, sys
from agentpipe.environment.installers import uv
from agentpipe.job import Job
job = Job(json.load(open(sys.argv[1])), glob.glob(os.environ["AGENT_HOME"] + "/state/tasks/*")[0])
print(uv.run(job, ["--version"]), uv.run(job, ["--version"]), sep="")
PY
  [ "$(grep -c '^uv [0-9]' said)" -eq 2 ]
  [ "$(grep -c 'fetching uv .* as a static program' "$AGENT_HOME"/state/tasks/*/setup.log)" -eq 1 ]
}

@test "an image without a shell is refused" {
  image=agentpipe-test/bare
  tar -chf - -T /dev/null | docker import - "$image" >/dev/null
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 65 ]
  [[ $stderr == *"image agentpipe-test/bare has no /bin/sh"* ]]
  [ -z "$(containers)" ]
}

@test "an image for another processor is told as that" {
  image=agentpipe-test/foreign
  mkdir -p root/bin
  python3 -c 'import sys
program = bytearray(open(sys.argv[1], "rb").read())
program[18] = 0xF3 if program[18] == 0xB7 else 0xB7  # of its header: RISC-V, or AArch64
open("root/bin/sh", "wb").write(program)' "$(command -v busybox)"
  chmod 755 root/bin/sh
  tar -C root -cf - . | docker import - "$image" >/dev/null
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"' >task.json
  run -65 --separate-stderr agent-prepare task.json
  [[ $stderr == *"the programs of $image are for another processor than this machine's ($(uname -m))"* ]]
}

@test "an image that lacks a program around the script is refused, unless its set-up brings that" {
  image=agentpipe-test/coreless
  docker build -q -t "$image" - >/dev/null 2>&1 <<<"FROM agentpipe-test/python:bookworm
RUN rm /usr/bin/setsid /bin/ln"
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "echo fine\n"' >task.json
  run -65 --separate-stderr agent-prepare task.json
  [[ $stderr == *"image $image lacks ln, setsid, without which no script can be run"* ]]
  [ -z "$(containers)" ]
  bring='cd /bin; for each in ln setsid; do printf "#!/bin/sh\nexec /opt/busybox $each \"\$@\"\n" >$each; chmod 755 $each; done'
  jq -c --arg bring "$bring" --arg box "$(command -v busybox)" \
    '.task.container += {setup_shell_script: $bring, arguments: "-v \($box):/opt/busybox:ro"}' task.json >brought.json
  agent-prepare brought.json | agent-run >receipt
  [ "$(log_of)" = fine ]
  run -65 agent-prepare task.json
}

@test "a failed script's container is kept for a while: agent-task shell walks in" {
  task=$(enqueue_in "$image" 'export MINE=1; touch here; (sleep 4717 &) ; exit 3')
  agent-pull default | agent-prepare >line
  agent-run --hold-on-failure 2h line >receipt 2>said 3>&- &
  run_pid=$!
  wait_for 30 grep -q "is kept for 2h: agent-task shell $task" said
  [ "$(status "$task")" = failed ]
  run -0 agent-task shell "$task" -- sh -c 'pwd; ls; echo "$AGENT_TASK_DIR"; hostname; ps -e -o args='
  [[ $output == "$(field .fetch.code line)"$'\nhere\nmain.sh\n'"$(attempt "$task")"$'\n'"$(containers)"* ]]
  [[ $output != *4717* ]]
  run -0 agent-task why "$task"
  [[ $output == *"  its container is kept: agent-task shell $task"$'\n'* ]]
  [ "$(agent-task why --json "$task" | jq -r .inside)" = "agent-task shell $task" ]
  kill -TERM "$run_pid"
  ended "$run_pid"
  [ "$status" -eq 3 ]
  [ "$(field .run.end receipt)" = script_failed ]
  [ -z "$(containers)" ]
  run -66 agent-task shell "$task"
  [[ $output == *"is gone"*"--hold-on-failure"* ]]
  run -0 agent-task why "$task"
  [[ $output != *"is kept"* ]]
}

@test "agent-run is killed while it keeps a container: the next one removes it" {
  task=$(enqueue_in "$image" 'exit 3')
  agent-pull default | agent-prepare >line
  agent-run --hold-on-failure 2h line >receipt 2>said 3>&- &
  run_pid=$!
  wait_for 30 grep -q "is kept for" said
  kill -KILL "$run_pid"
  wait "$run_pid" || true
  [ -n "$(containers)" ]
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"' >task.json
  agent-prepare task.json | agent-run >receipt
  [ -z "$(containers)" ]
}

@test "GPUs that the engine cannot give are told as that" {
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"' >task.json
  run --separate-stderr agent-prepare --gpus 0 task.json
  [ "$status" -eq 69 ]
  [[ $stderr == *"the engine has no way to give GPUs to containers (install the NVIDIA Container Toolkit"* ]]
  agent-prepare --gpus none task.json | agent-run >receipt
  [ "$(field .run.exit receipt)" = 0 ]
  # a task of a queue goes back there, to a machine that can
  task=$(enqueue_in "$image" true)
  run -69 --separate-stderr bash -o pipefail -c 'agent-pull default | agent-prepare --gpus 0'
  [ "$(agent-task show --json "$task" | field .status)" = queued ]
  [ -z "$(containers)" ]
}

# engine FLAGS: an engine of this test's own, that it may kill, on a network of its own; DOCKER_HOST is its socket
engine() {
  export SERVICES_HOME=/var/lib/agentpipe-services/second DOCKER_SOCK=/run/agentpipe-second.sock DOCKERD_FLAGS=$1
  unshare -n sleep 600 3>&- 4>&- &
  network=$!
  disown
  DOCKER_HOST=$(engine_up)
  export DOCKER_HOST
  image=agentpipe-test/tiny
  tiny "$image"
}
engine_up() { nsenter -t "$network" -n "$ROOT/tests/services/docker-up.sh" 3>&- 4>&-; }
engine_down() {
  "$ROOT/tests/services/docker-down.sh"
  kill "$network"
}
kill_engine() {
  local pid; pid=$(cat "$SERVICES_HOME/docker/dockerd.pid")
  kill -KILL "$pid"
  wait_for 10 gone "$pid"
}

@test "the engine is killed, and ends its containers when it comes back: the task is lost, and told why" {
  engine ""
  running 'echo begun; sleep 4715'
  kill_engine
  engine_up
  ended "$run_pid"
  [ "$status" -eq 125 ]
  [ "$(field .run.end receipt)" = lost ]
  [[ $(field .run.reason receipt) == *"an engine that was shut down without live-restore"* ]]
  [ -z "$(containers)" ]
}

@test "the engine is killed and keeps its containers (live-restore): the script goes on" {
  engine --live-restore
  running 'echo begun; until [ -e "$AGENT_TASK_DIR/go" ]; do sleep 0.1; done; exit 6'
  kill_engine
  sleep 0.5  # agent-run sees Docker's client go
  kill -0 "$run_pid"
  engine_up
  touch "$(attempt "$task")/go"
  ended "$run_pid"
  [ "$status" -eq 6 ]
  [ -z "$(containers)" ]
}

@test "a task whose engine is away is stopped within its grace, and its container ends once the engine is back" {
  engine --live-restore
  running 'trap "echo told; exit 3" TERM; echo begun; sleep 4716 & wait'
  kill_engine
  agent-task stop "$task"
  ended "$run_pid"
  [ "$status" -eq 130 ]
  printed told
  [ "$(status "$task")" = stopped ]
  engine_up
  wait_for 20 no_longer_running
}
no_longer_running() { [ -z "$(docker ps -q --filter "id=$container")" ]; }

@test "the engine is killed while a container is set up: the task fails and is told, nothing is passed over" {
  engine ""
  py - "$image" >task.json <<'PY'
import json
import sys
print(json.dumps({"task": {"container": {"image": sys.argv[1], "setup_shell_script": "echo begun; sleep 30"},
                           "script": {"binary": "bash", "entry_point": "main.sh", "diff": "true\n"}}}))
PY
  agent-prepare task.json >line 2>said 3>&- &
  prepare=$!
  wait_for 30 sh -c 'grep -qx begun "$AGENT_HOME"/state/tasks/*/setup.log 2>/dev/null'
  kill_engine
  ended "$prepare"
  [ "$status" -eq 69 ]
  grep -q "the container is gone, or its engine does not answer, since the task's set-up script ran" said
  [ "$(field .failed.stage line)" = prepare ]
}

@test "an engine that maps users away from this machine's is told as that" {
  engine --userns-remap=default
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"' >task.json
  run -78 --separate-stderr agent-prepare task.json
  [[ $stderr == *"(userns-remap)"*"--userns=host"* ]]
  [ -z "$(containers)" ]
}

@test "no engine answers: the task fails in set-up, and is told what to do" {
  export DOCKER_HOST=unix://$PWD/none.sock
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 69 ]
  [[ $stderr == *"no Docker answers at unix://$PWD/none.sock"*"agent-prepare --place host"* ]]
}

@test "an image that is nowhere: the task fails in set-up and names it" {
  image=registry.invalid/none:1 by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"' >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 69 ]
  [[ $stderr == *"image registry.invalid/none:1"* ]]
}

@test "a limit of processes that is too low for a task is told as that" {
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "true\n"' |
    jq -c '.task.container.arguments = "--pids-limit 1"' >task.json
  run -65 --separate-stderr agent-prepare task.json
  [[ $stderr == *"may have 1 process, too few"*"raise --pids-limit"* ]]
}

@test "--dry-run says which image it would be and makes nothing; --place host keeps the task out of it" {
  by_hand '"binary": "bash", "entry_point": "main.sh", "diff": "readlink /proc/self/ns/mnt\n"' >task.json
  run --separate-stderr agent-prepare --dry-run task.json
  [ "$status" -eq 0 ]
  [[ $stderr == *"would run in a container of $image (docker): the task asks for image $image"* ]]
  [ -z "$(containers)" ]
  agent-prepare --place host task.json | agent-run >receipt
  [ "$(log_of)" = "$(readlink /proc/self/ns/mnt)" ]
  [ "$(field .place.kind receipt)" = host ]
}
