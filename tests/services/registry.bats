#!/usr/bin/env bats
# Images from a registry with a password: Debian's docker-registry on 127.0.0.1 (root, Debian).

bats_require_minimum_version 1.5.0

REGISTRY=127.0.0.1:5061

setup_file() {
  load ../helpers
  load containers
  docker_engine
  cd "$BATS_FILE_TMPDIR" || return
  htpasswd -nbB mona lisa >users
  cat >config.yml <<CONF
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $PWD/data}}
http: {addr: $REGISTRY}
auth: {htpasswd: {realm: test, path: $PWD/users}}
CONF
  docker-registry serve config.yml >log 2>&1 3>&- 4>&- &
  echo $! >pid
  wait_for 10 curl -s "http://$REGISTRY/v2/"
  mkdir home
  HOME=$PWD/home docker login -u mona --password-stdin "$REGISTRY" <<<lisa 2>/dev/null
  published one
}

teardown_file() { kill "$(cat "$BATS_FILE_TMPDIR/pid")"; }

setup() {
  load containers
  contained
  image=$REGISTRY/team/small:1
}

# published TEXT: an image whose /said has this text becomes small:1 in the registry, and is nowhere else
published() {
  docker build -q -t "$REGISTRY/team/small:1" - >/dev/null 2>&1 <<<"FROM agentpipe-test/python:bookworm
RUN echo $1 >/said"
  HOME=$BATS_FILE_TMPDIR/home docker push -q "$REGISTRY/team/small:1" >/dev/null
  docker rmi -f "$REGISTRY/team/small:1" >/dev/null
}

by_hand() {
  cat <<<'{"task": {"container": {"image": "'"$image"'"}, "script": {"binary": "bash", "entry_point": "main.sh", "diff": "cat /said\n"}}}'
}
said() { cat "$(find "$AGENT_HOME/state/tasks" -name log -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)"; }
log_in() { cp -r "$BATS_FILE_TMPDIR/home/.docker" "$HOME/"; }

@test "without a login the registry's image is refused, and the command that helps is named" {
  by_hand >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 77 ]
  [[ $stderr == *"image $image: the registry refuses access"*"docker login $REGISTRY"* ]]
}

@test "a program for logins that is not here is passed over, as docker itself does, and named" {
  mkdir "$HOME/.docker"
  echo '{"credsStore": "nosuch"}' >"$HOME/.docker/config.json"
  by_hand >task.json
  run -77 --separate-stderr agent-prepare task.json
  [[ $stderr == *"the registry refuses access"* ]]
  set_up_of | grep -q '^pulling without a login: .*docker-credential-nosuch not installed'
}

@test "with a login it is pulled, its digest is recorded, and a receipt brings that very image again" {
  log_in
  by_hand >task.json
  agent-prepare task.json | agent-run >receipt
  [ "$(said)" = one ]
  grep -q "^pulled image $image in" "$AGENT_HOME"/state/tasks/*/setup.log
  digest=$(field .place.digest receipt)
  [[ $digest == $REGISTRY/team/small@sha256:* ]]
  [ "$(field .pins.image receipt)" = "$digest" ]

  docker rmi -f "$image" >/dev/null
  published two
  agent-prepare task.json | agent-run >other
  [ "$(said)" = two ]
  agent-prepare receipt | agent-run >again
  [ "$(said)" = one ]
  [ "$(field .place.digest again)" = "$digest" ]
}

@test "agent.docker_force_pull asks the registry each time" {
  log_in
  by_hand >task.json
  agent-prepare task.json | agent-run >receipt
  docker tag "$image" kept
  published three
  docker tag kept "$image"
  agent-prepare task.json | agent-run >receipt
  [ "$(said)" != three ]
  CLEARML_AGENT__AGENT__DOCKER_FORCE_PULL=1 agent-prepare task.json | agent-run >receipt
  [ "$(said)" = three ]
}

@test "an image that is here, which the registry refuses: that is said, and which option asks for it" {
  log_in
  by_hand >task.json
  agent-prepare task.json | agent-run >receipt
  rm -r "$HOME/.docker"
  jq -c '.task.container.arguments = "--pull=always"' task.json >always.json
  run -77 --separate-stderr agent-prepare always.json
  [[ $stderr == *"image $image is here, and --pull=always wants it from its registry"*"docker login $REGISTRY"* ]]
  export CLEARML_AGENT__AGENT__DOCKER_FORCE_PULL=1
  run -77 --separate-stderr agent-prepare task.json
  [[ $stderr == *"without agent.docker_force_pull the one that is here is taken"* ]]
}

@test "an image that the registry does not have is told as that" {
  log_in
  image=$REGISTRY/team/none:1
  by_hand >task.json
  run --separate-stderr agent-prepare task.json
  [ "$status" -eq 66 ]
  [[ $stderr == *"there is no image $image (correct the image's name: agent-task edit --docker)"* ]]
}
