#!/usr/bin/env bats
# agent-prepare --image: a prepared task as an image, which runs anywhere without us.

# shellcheck disable=SC2154 # contained() sets image
bats_require_minimum_version 1.5.0

setup_file() { load containers; docker_engine; }

setup() {
  load containers
  contained
  # the paths here are those in the image: none of /dev, where a temporary folder may be
  AGENT_HOME=$(mktemp -d /var/tmp/agentpipe-image.XXXXXX)
  saved=agentpipe-test/saved-$BATS_TEST_NUMBER
}

teardown() {
  without_containers
  rm -rf "$AGENT_HOME"
  docker image rm -f "$saved" "$saved:2" >/dev/null 2>&1 || true
}

manifest() {  # ID: a Python task that prints, in the image
  py - "$image" "$1" <<'PY'
import json
import sys
print(json.dumps({"task": {"id": sys.argv[2], "name": "my task", "container": {"image": sys.argv[1],
    "setup_shell_script": "echo it >/made\nexport GREETING='hello you' HUB_TOKEN=s3cret-of-set-up", "arguments": "-e API_TOKEN=s3cret-value -e PLAIN=1"},
    "script": {"binary": "python3", "entry_point": "main.py --epochs 3", "requirements": {"pip": "iniconfig"},
               "diff": "import iniconfig, os, sys\nprint(sys.argv[1:], os.environ['GREETING'], open('/made').read().strip(),"
                       " iniconfig.__name__, os.environ.get('CLEARML_TASK_ID'), flush=True)\n"
                       "sys.exit(int(os.environ.get('CODE', 0)))\n"}}}))
PY
}

@test "the image has code, environment and set-up in it, and runs the program with further arguments" {
  manifest local-1 >task.json
  agent-prepare --image "$saved:2" task.json >line
  [ "$(field .saved.name line)" = "$saved:2" ]
  [ "$(field .place line)" = null ]
  [ -z "$(docker ps -aq --filter "label=agentpipe.home=$AGENT_HOME/state/tasks")" ]
  rm -r "$AGENT_HOME"
  run -0 docker run --rm --network none "$saved:2" --more
  [ "$output" = "['--epochs', '3', '--more'] hello you it iniconfig None" ]
  # secrets of the arguments are not in it, the rest is
  docker image inspect "$saved:2" | grep -q '"PLAIN=1"'
  run ! grep -q s3cret <(docker image inspect "$saved:2")
  run -1 docker run --rm --entrypoint grep "$saved:2" -r s3cret "$AGENT_HOME"
}

@test "an image that is started as another user: it finds its environment, and can write in its code" {
  manifest local-1 | jq -c '.task.container.arguments += " --user 1234 -e DB_PASSWORD=tiny" |
    .task.script.diff = "import iniconfig, os\nopen(\"made\", \"w\")\nprint(os.getuid(), repr(os.environ[\"DB_PASSWORD\"]))\n"' >task.json
  agent-prepare --image "$saved" task.json >line
  run -0 docker run --rm --network none "$saved"
  [ "$output" = "1234 ''" ]  # a secret by its name, however short
  agent-prepare --image "$saved:2" <(jq -c '.task.container.arguments |= sub(" --user 1234"; "")' task.json) >line
  run -0 docker run --rm --network none --user 4321 "$saved:2"
  [ "$output" = "4321 ''" ]
}

@test "what runs in a saved image, or in one of a task's container that somebody has committed, is none of the agent's" {
  manifest local-1 | jq -c '.task.script = {binary: "bash", entry_point: "main.sh", diff: "sleep 60\n"}' >task.json
  agent-prepare --image "$saved" task.json >line
  docker image inspect "$saved" | jq -e '.[0].Config.Labels | [."agentpipe.home", ."agentpipe.owner"] == ["", ""]'
  agent-prepare task.json >line
  docker commit "$(field .place.container line)" "$saved:2" >/dev/null
  users=("$(docker run -d "$saved")" "$(docker run -d --entrypoint sleep "$saved:2" 60)")
  rm "$AGENT_HOME/state/tasks/$(field .task.id line).1/place.json"  # so that its own container goes
  agent-prepare task.json >line
  [ "$(docker inspect -f '{{.State.Running}}' "${users[@]}")" = $'true\ntrue' ]
  docker rm -f "${users[@]}" >/dev/null
}

@test "what the image's entrypoint sets is set in the saved image too, but for secrets" {
  mkdir context
  printf '#!/bin/sh\nexport FROM_ENTRY="a b" MY_TOKEN=s3cret-value PATH=/opt/tools:$PATH\nexec "$@"\n' >context/enter
  chmod 755 context/enter
  printf 'FROM agentpipe-test/python:bookworm\nCOPY enter /enter\nENTRYPOINT ["/enter"]\n' >context/Dockerfile
  image=agentpipe-test/entry-saved
  docker build -q -t "$image" context >/dev/null 2>&1
  manifest local-1 | jq -c '.task.script.diff = "import os; print(os.environ[\"FROM_ENTRY\"], os.environ.get(\"MY_TOKEN\"), os.environ[\"PATH\"])\n"' >task.json
  agent-prepare --image "$saved" task.json >line
  run -0 docker run --rm --network none "$saved"
  [[ $output == "a b None "*"/opt/tools:/usr/"* ]]
}

@test "--entry-point reuse_task: the image runs the task, whose server gets log and end; clone_task: a clone of it" {
  serve ours
  task=$(call tasks.create "$(manifest x | py '
import json, sys
task = json.load(sys.stdin)["task"]
del task["id"]
print(json.dumps({**task, "type": "training"}))')" | field .id)
  manifest "$task" >task.json
  agent-prepare --image "$saved" --entry-point reuse_task task.json >line
  keys=(-e CLEARML_API_HOST -e CLEARML_API_ACCESS_KEY -e CLEARML_API_SECRET_KEY)
  run -3 --separate-stderr docker run --rm --network host "${keys[@]}" -e CODE=3 "$saved"
  [ "$output" = "['--epochs', '3'] hello you it iniconfig $task" ]
  [ "$(status "$task")" = failed ]
  call events.get_task_log "{\"task\": \"$task\"}" | grep -q "hello you it iniconfig $task"
  agent-prepare --image "$saved:2" --entry-point clone_task task.json >line
  # keys by a file, as people have it
  printf 'api {\n  api_server: "%s"\n  credentials { access_key: "%s", secret_key: "%s" }\n}\n' \
    "$CLEARML_API_HOST" "$CLEARML_API_ACCESS_KEY" "$CLEARML_API_SECRET_KEY" >clearml.conf
  run -0 --separate-stderr docker run --rm --network host -v "$PWD/clearml.conf:/root/clearml.conf" "$saved:2"
  clone=${stderr##*task }
  [ "$clone" != "$task" ]
  [ "$(status "$clone")" = completed ]
  # without a server it runs all the same
  run -0 docker run --rm --network none "$saved:2"
  [[ $output == *"hello you it"* ]]
}

@test "a task on the host cannot be saved; options that cannot be meant are 64" {
  run -65 --separate-stderr agent-prepare --place host --image "$saved" <(manifest local-1)
  [[ $stderr == *"--image wants a container"* ]]
  run -65 --separate-stderr agent-prepare --image "$saved" --entry-point clone_task <(manifest local-1)
  [[ $stderr == *"wants a task of a server"* ]]
  run -64 agent-prepare --entry-point clone_task <(manifest local-1)
  run -64 agent-prepare --image x --entry-point sometimes <(manifest local-1)
  run -64 agent-prepare --image x --target y <(manifest local-1)
  for name in "$image" "docker.io/$image"; do
    run -64 --separate-stderr agent-prepare --image "$name" <(manifest local-1)
    [[ $stderr == *"would take the place of the image that the task runs in"* ]]
  done
  for name in team/Train 'a b' a@sha256:1 '' a:; do
    run -64 --separate-stderr agent-prepare --image "$name" <(manifest local-1)
  done
}
