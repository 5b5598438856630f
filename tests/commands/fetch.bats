# agent-fetch as a user types it.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; make_repo repo; head=$(git -C repo rev-parse HEAD); }

# manifest NAME=VALUE…: a task by hand with these fields of `script`
manifest() {
  py '
import json, sys
print(json.dumps({"task": {"script": dict(word.split("=", 1) for word in sys.argv[1:])}}))' "$@"
}

@test "nothing on standard input is no work: silent, exit 0" {
  run -0 --separate-stderr agent-fetch </dev/null
  [ -z "$output$stderr" ]
}

@test "a task by hand is checked out, and its manifest tells where" {
  manifest repository="$PWD/repo" entry_point=train.py | agent-fetch >fetched.json
  code=$(field .fetch.code fetched.json)
  [ "$(field .fetch.commit fetched.json)" = "$head" ]
  [ "$(git -C "$code" rev-parse HEAD)" = "$head" ]
  [ "$(python3 "$code/train.py")" = "hello from train.py" ]
  [[ $(field .task.id fetched.json) = local-* ]]
}

@test "the second task of a commit needs no remote, and says cached" {
  manifest repository="$PWD/repo" version_num="$head" >task.json
  agent-fetch task.json >one.json
  mv repo away
  agent-fetch task.json >two.json
  [ "$(field .fetch.cached one.json)" = false ]
  [ "$(field .fetch.cached two.json)" = true ]
  [ "$(field .fetch.code one.json)" != "$(field .fetch.code two.json)" ]
}

@test "a commit that was not pushed: one line with a remedy, the failure as data, exit 66" {
  run -66 --separate-stderr agent-fetch <<<"$(manifest repository="$PWD/repo" version_num=1234567890123456789012345678901234567890)"
  [ "${#stderr_lines[@]}" -eq 1 ]
  [[ $stderr == *1234567890* && $stderr == *"git push"* ]]
  [ "$(field .failed.stage <<<"$output")" = fetch ]
  [ "$(field .failed.exit <<<"$output")" = 66 ]
}

@test "a later stage passes the failure through untouched" {
  manifest repository="$PWD/none" | agent-fetch >failed.json || true
  run -66 agent-patch failed.json
  [ "$output" = "$(cat failed.json)" ]
}

@test "what is no manifest is refused in one line, and only a failed line comes out" {
  run -65 --separate-stderr agent-fetch <<<'{"task": 1}'
  [ "${#stderr_lines[@]}" -eq 1 ]
  [ "$(field .failed.exit <<<"$output")" = 65 ]
  [ "$(field .task <<<"$output")" = null ]
}

@test "of several lines each is done, and exit 123 tells that one failed" {
  { manifest repository="$PWD/none"; manifest repository="$PWD/repo"; } >two.json
  run -123 --separate-stderr agent-fetch two.json
  [ "${#lines[@]}" -eq 2 ]
  [ "$(field .fetch.commit <<<"${lines[1]}")" = "$head" ]
}

@test "a password in the URL is in no output" {
  manifest repository=https://anna:s3cret@127.0.0.1:9/r.git >task.json
  run -69 --separate-stderr agent-fetch --verbose task.json
  [[ $stderr != *s3cret* ]]
  [ "$(field .failed.reason <<<"$output" | grep -c s3cret)" -eq 0 ]
  run -1 grep -r s3cret "$AGENT_HOME/cache" "$AGENT_HOME"/state/tasks/*/setup.log
}

@test "a dry run says what would be fetched and clones nothing" {
  manifest repository="$PWD/repo" version_num="$head" >task.json
  run -0 --separate-stderr agent-fetch --dry-run --verbose task.json
  [[ $stderr == *"would fetch commit $head"* ]]
  [ ! -e "$AGENT_HOME/cache/git" ] || [ -z "$(ls "$AGENT_HOME/cache/git")" ]
}

@test "AGENT_OFFLINE uses what is cached and refuses the rest" {
  manifest repository=https://127.0.0.1:9/r.git >task.json
  AGENT_OFFLINE=1 run -69 --separate-stderr agent-fetch task.json
  [[ $stderr == *AGENT_OFFLINE* ]]
}

@test "killed before the checkout stands, the same task is fetched by the next run" {
  manifest repository="$PWD/repo" >task.json
  AGENT_CRASH_AT=fetch:built run -137 agent-fetch task.json
  agent-fetch task.json >fetched.json
  [ "$(git -C "$(field .fetch.code fetched.json)" status --porcelain)" = "" ]
}

@test "a stage of three lines of shell can take its place" {
  cat >mine <<'SH'
#!/bin/sh
git clone -q "$PWD/repo" "$PWD/mine.d"
exec python3 -c 'import json, os, sys; m = json.load(sys.stdin); m["fetch"] = {"code": os.path.abspath("mine.d")}; print(json.dumps(m))'
SH
  chmod +x mine
  manifest repository="$PWD/repo" entry_point=train.py | ./mine | agent-patch >patched.json
  [ "$(field .patch.working_dir patched.json)" = . ]
}

# what agent-task why says of it: the reason, and what to do
why_of() { agent-task why "$1" | sed -n 's/^  \(.*\)/\1/p'; }
pipeline() { agent-pull default | agent-prepare --quiet | agent-run --quiet >receipt.json; }

@test "a commit that was not pushed: why says so, and after the push that it prints the task completes" {
  git clone -q --bare repo remote.git
  git -C repo remote add origin "$PWD/remote.git"
  git -C repo commit -q --allow-empty -m second
  id=$(agent-task enqueue --repo repo train.py)
  run -66 pipeline
  why=$(why_of "$id")
  [[ $why == *"is not there"* && $why == *"to do: push it"*"git push"* ]]
  # a rebase: no branch has it any more
  git -C repo reset -q --hard HEAD^
  push=$(sed -nE 's/.*any more: (git push [^)]*)\).*/\1/p' <<<"$why")
  (cd repo && eval "$push")
  agent-task enqueue "$id"
  run -0 pipeline
}

@test "a repository that wants a login: why says what to set, and with that the task completes" {
  git clone -q --bare repo www.git
  mkdir www
  mv www.git www/r.git
  python3 "$ROOT/tests/unit/git_servers.py" www anna s3cret-of-anna >url 3>&- &
  server=$!
  wait_for 20 test -s url
  id=$(agent-task enqueue --repo "$(cat url)/r.git" --branch main train.py)
  run -77 pipeline
  why=$(why_of "$id")
  [[ $why == *"none is configured for 127.0.0.1"* ]]
  sets=$(grep -o 'export CLEARML_AGENT_GIT_USER=USER CLEARML_AGENT_GIT_PASS=TOKEN' <<<"$why")
  sets=${sets/USER=USER/USER=anna}
  eval "${sets/TOKEN/wrong}"
  agent-task enqueue "$id"
  run -77 pipeline
  [[ $(why_of "$id") == *"does not accept the user and password"*"the user there is 'anna'"* ]]
  eval "${sets/TOKEN/s3cret-of-anna}"
  agent-task enqueue "$id"
  run -0 pipeline
  kill "$server"
  run -1 grep -rq s3cret-of-anna "$AGENT_HOME" receipt.json
}

@test "a machine on which git is killed keeps its task ten times, and then those behind it have their turn" {
  head -c 3000000 /dev/urandom >repo/big
  git -C repo add big
  git -C repo commit -qm big
  task=$(agent-task enqueue --repo "$PWD/repo" --branch main --requirements none train.py)
  mkdir small
  printf '#!/bin/sh\nulimit -f 100\nexec "%s" "$@"\n' "$(command -v git)" >small/git
  chmod +x small/git
  for _ in 1 2 3 4 5 6 7 8 9; do
    PATH=$PWD/small:$PATH run -75 sh -c 'agent-pull default | agent-prepare | agent-run'
    [ "$(status "$task")" = queued ]
  done
  PATH=$PWD/small:$PATH run -75 sh -c 'agent-pull default | agent-prepare | agent-run --supervised'
  [ "$(status "$task")" = failed ]
  [[ $(agent-task why "$task") == *"one of git's processes was killed"* ]]
}

@test "a closed stdout is no full disk" {
  run -73 --separate-stderr sh -c 'echo "{\"task\":{}}" | agent-fetch >&-'
  [ "$stderr" = "agent-fetch: cannot write the manifest to stdout: Bad file descriptor" ]
}
