# agent-config, as its users type it: a file that works from pasted credentials, where values come from, and the doctor.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; shared_pythons; }

BLOCK='api {
  # Notice: host is the api server (default port 8008), not the web server.
  api_server: "URL"
  web_server: "https://app.example.org"
  files_server: "https://files.example.org"
  # Credentials are generated in the web page
  credentials {
    "access_key" = "TESTKEY"
    "secret_key" = "a-secret-of-tests"
  }
}'

# a server, told to nobody by the environment
server() {
  serve ours
  URL=$CLEARML_API_HOST
  unset CLEARML_API_HOST CLEARML_API_ACCESS_KEY CLEARML_API_SECRET_KEY
}

@test "without words it shows its commands, and that this was a mistake" {
  run -64 agent-config
  [[ $output == *init*show*check* ]]
  run -64 agent-config init --api-servr x
  [ "${#lines[@]}" -eq 1 ]
}

@test "the block that the web page shows becomes a file that works, for nobody else's eyes" {
  server
  run -0 agent-config init <<<"${BLOCK//URL/$URL}"
  [ "$(stat -c %a "$HOME/clearml.conf")" = 600 ]
  run -0 agent-config check configuration server
  run -0 agent-task list
  run -0 agent-config show
  [[ $output != *a-secret-of-tests* ]]
  [[ $output == *"api.web_server = https://app.example.org  ($HOME/clearml.conf)"* ]]
}

@test "the secret alone may come on standard input or in the environment, never as an option" {
  server
  run -0 agent-config init --api-server "$URL" --access-key TESTKEY <<<a-secret-of-tests
  run -0 agent-config check configuration server
  CLEARML_API_SECRET_KEY=a-secret-of-tests run -0 agent-config init --api-server "$URL" --access-key TESTKEY \
    --file other.conf </dev/null
  CLEARML_CONFIG_FILE=other.conf run -0 agent-config check configuration server
  run -64 agent-config init --secret-key a-secret-of-tests
}

@test "a file that is there is not touched: 73" {
  echo 'agent.worker_name: box' >"$HOME/clearml.conf"
  run -73 agent-config init --yes --no-check --api-server http://a:8008 --access-key K <<<secret
  [[ $output == *"mv $HOME/clearml.conf"* ]]
  [ "$(cat "$HOME/clearml.conf")" = 'agent.worker_name: box' ]
  mkfifo pipe
  run -73 agent-config init --yes --no-check --file pipe --api-server http://a:8008 --access-key K <<<secret
  [ -p pipe ]
}

@test "CLEARML_CONFIG_FILE=/dev/null is no configuration, whatever stands in the home" {
  echo 'agent.worker_name: box' >"$HOME/clearml.conf"
  CLEARML_CONFIG_FILE=/dev/null run -0 agent-config show
  [[ $output != *box* ]]
  CLEARML_CONFIG_FILE=/dev/null run -0 agent-config check configuration
  [[ $output == "ok "*"the store of this machine needs none"* ]]
}

@test "keys that the server does not take are not written: 77" {
  server
  run -77 agent-config init --api-server "$URL" --access-key WRONG <<<wrong-secret
  [ ! -e "$HOME/clearml.conf" ]
  [[ $output != *wrong-secret* ]]
}

@test "what is missing is named, with how to give it: 64; what was pasted and is none: 65" {
  run -64 agent-config init --yes --access-key K <<<secret
  [[ $output == *--api-server* ]]
  run -64 agent-config init --yes --api-server http://a:8008 --access-key K </dev/null
  [[ $output == *CLEARML_API_SECRET_KEY* ]]
  run -65 agent-config init <<<'something: else'
}

@test "from the address of the web page the others follow" {
  run -0 agent-config init --no-check --web-server http://example.org:8080 --access-key K <<<secret
  run -0 agent-config show api
  [[ $output == *"api.api_server = http://example.org:8008"* ]]
  [[ $output == *"api.files_server = http://example.org:8081"* ]]
}

@test "show tells where a value came from, a variable first" {
  echo 'agent { worker_name: box, git_user: ann }' >"$HOME/clearml.conf"
  run -0 agent-config show agent.worker_name
  [ "$output" = "agent.worker_name = box  ($HOME/clearml.conf)" ]
  CLEARML_WORKER_NAME=other run -0 agent-config show --json agent.worker_name
  [ "$output" = '{"key": "agent.worker_name", "value": "other", "origin": "CLEARML_WORKER_NAME"}' ]
  CLEARML_AGENT__AGENT__GIT_PASS=hush run -0 agent-config show agent.git_pass
  [ "$output" = "agent.git_pass = ********  (CLEARML_AGENT__AGENT__GIT_PASS)" ]
  run -1 agent-config show agent.nothing
}

@test "what clearml-agent init wrote as its default is said to be no choice" {
  echo 'agent.package_manager { type: pip, force_upgrade: false }' >"$HOME/clearml.conf"
  run -1 agent-config show agent.package_manager.type
  [[ $output == *"clearml-agent's default"*--all* ]]
  run -0 agent-config show --all agent.package_manager
  [[ $output == *"type = pip  (clearml-agent's default: counts as not set)"* ]]
}

@test "check without any configuration: the embedded store, all well" {
  AGENT_PLACE=host run -0 agent-config check
  [[ $output == *"embedded store"*git*uv*python*host*gpu* ]]
  run ! grep -v '^ok ' <<<"$output"
  run -64 agent-config check servr
  [[ $output == *servr*"configuration | hooks | server | disk"* ]]
}

@test "check of a server: it, the credentials with where they come from, the clock" {
  server
  run -0 agent-config init <<<"${BLOCK//URL/$URL}"
  run -0 agent-config check configuration server
  [[ $output == *"ok      server: $URL answers in "*agent-server*API* ]]
  [[ $output == *"ok      credentials: the key TESTKEY ($HOME/clearml.conf) is accepted, as user ann"* ]]
  [[ $output == *"ok      clock: within "*"ok      queues: default"* ]]
  [[ $output != *a-secret-of-tests* ]]
  CLEARML_FILES_HOST=$URL/files run -0 agent-config check server
  [[ $output == *"ok      files: $URL/files answers"* ]]
  CLEARML_FILES_HOST=$URL/ run -0 agent-config check server
  [[ $output == *"warning files: $URL is the API server, which keeps no files (set api.files_server "* ]]
  CLEARML_FILES_HOST=http://127.0.0.1:9 run -0 agent-config check server
  [[ $output == *"files: the files server at http://127.0.0.1:9 cannot be reached (start it, or correct api.files_server"* ]]
  # the token that is kept would still do, but is not what is asked about
  CLEARML_API_SECRET_KEY=wrong run -77 agent-config check server
  [[ $output == *"ok      server: $URL answers"* ]]
  [[ $output == *"wrong   credentials: "*TESTKEY*"agent-config init"* ]]
}

@test "check says what is wrong with the exit code of the first: no server 69, no API 78, broken file 78" {
  CLEARML_API_HOST=http://127.0.0.1:9 CLEARML_API_ACCESS_KEY=K CLEARML_API_SECRET_KEY=S run -69 agent-config check server
  [[ $output == *"wrong   server: http://127.0.0.1:9: Connection refused (start it, or correct its address: "* ]]
  printf 'api {\n  api_server: "http://a\n}\n' >"$HOME/clearml.conf"
  run -78 agent-config check configuration --json
  [[ ${lines[0]} == *'"wrong"'*clearml.conf:2* ]]
  # every command says the same, in one line
  run -78 agent-task list
  [ "${#lines[@]}" -eq 1 ]
  [[ $output == "agent-task: $HOME/clearml.conf:2: "* ]]
}

@test "whatever is not well has a remedy" {
  printf 'api.credentials { access_key: K, secret_key: S }\nagent { git_user: ann, python_binary: /no/python }\n' \
    >"$HOME/clearml.conf"
  echo 'include "more.conf"' >>"$HOME/clearml.conf"
  chmod 644 "$HOME/clearml.conf"
  CLEARML_API_HOST=http://127.0.0.1:9 DOCKER_HOST=unix:///no/socket run -69 agent-config check --json
  [[ $output == *"agent.git_user is set and agent.git_pass is not"*"there is no /no/python"*"no Docker answers"* ]]
  py 'import json, sys
for each in map(json.loads, sys.stdin):
    assert bool(each["remedy"]) == (each["level"] != "ok"), each' <<<"$output"
  AGENT_PLACE=dokcer run -78 agent-config check containers
  [[ $output == *"wrong   containers: AGENT_PLACE=dokcer is none of host, docker"* ]]
}

@test "keys that others can read, and an include that is not there, are warnings" {
  printf 'api.credentials { access_key: K, secret_key: S }\ninclude "more.conf"\n' >"$HOME/clearml.conf"
  chmod 644 "$HOME/clearml.conf"
  run -0 agent-config check configuration server
  [[ $output == *"warning"*"chmod 600"* ]]
  [[ $output == *"more.conf is included and not there"* ]]
}

@test "a pipeline on a file of clearml-agent init takes no notice of its defaults" {
  server
  {
    printf '%s\n' "${BLOCK//URL/$URL}"
    py - <<'PY'
import json, os
import agentpipe
path = os.path.join(os.path.dirname(agentpipe.__file__), "settings", "peer_defaults.json")
for key, values in json.load(open(path)).items():
    if key.startswith("agent."):
        print(f"{key}: {json.dumps(values[-1])}")
PY
  } >"$HOME/clearml.conf"
  chmod 600 "$HOME/clearml.conf"
  id=$(enqueue_shell 'echo it ran')
  agent-pull default | agent-prepare --quiet | agent-run --quiet >receipt.json
  [ "$(field .run.end receipt.json)" = completed ]
  [ "$(agent-task log --stream log "$id")" = "it ran" ]
}

@test "variables with their old names count, after the new ones" {
  server
  TRAINS_API_HOST=$URL TRAINS_API_ACCESS_KEY=TESTKEY TRAINS_API_SECRET_KEY=a-secret-of-tests run -0 agent-task list
  TRAINS_API_HOST=$URL CLEARML_API_HOST=http://127.0.0.1:9 run -0 agent-config show api.api_server
  [ "$output" = "api.api_server = http://127.0.0.1:9  (CLEARML_API_HOST)" ]
  TRAINS_API_HOST=$URL run -0 agent-config show api.api_server
  [ "$output" = "api.api_server = $URL  (TRAINS_API_HOST)" ]
}

@test "every command tells its version" {
  for each in pull prepare fetch patch env run report task config server; do
    run -0 "agent-$each" --version
    [[ $output == "agent-$each "[0-9]* ]]
  done
}

@test "at a terminal --yes asks nothing" {
  server
  # the terminal's other end never writes a word
  CLEARML_API_SECRET_KEY=a-secret-of-tests run -0 timeout 20 python3 -c '
import os, pty, sys
pid, end = pty.fork()
if pid == 0:
    os.execvp("agent-config", ["agent-config", *sys.argv[1:]])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))' init --yes --api-server "$URL" --access-key TESTKEY
  run -0 agent-config show api.api_server
  [[ $output == *"$URL"* ]]
}
