# agent-patch as a user types it.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; make_repo repo; }

# manifest NAME=VALUE…: a task by hand with these fields of `script`; diff=@FILE reads it
manifest() {
  py '
import json, sys
script = dict(word.split("=", 1) for word in sys.argv[1:])
if script.get("diff", "").startswith("@"):
    script["diff"] = open(script["diff"][1:], newline="").read()
print(json.dumps({"task": {"script": script}}))' "$@"
}

@test "nothing on standard input is no work: silent, exit 0" {
  run -0 --separate-stderr agent-patch </dev/null
  [ -z "$output$stderr" ]
}

@test "uncommitted changes arrive in the checkout" {
  echo 'print("changed")' >repo/train.py
  git -C repo diff >change.diff
  manifest repository="$PWD/repo" entry_point=train.py diff=@change.diff | agent-fetch | agent-patch >patched.json
  code=$(field .fetch.code patched.json)
  [ "$(python3 "$code/train.py")" = changed ]
  [ "$(field '.patch.files[0]' patched.json)" = train.py ]
  [ "$(field .patch.diff patched.json)" = "$(sha256sum <change.diff | cut -d' ' -f1)" ]
}

@test "running it twice is the same as once" {
  echo 'print("changed")' >repo/train.py
  git -C repo diff >change.diff
  manifest repository="$PWD/repo" entry_point=train.py diff=@change.diff | agent-fetch >fetched.json
  agent-patch fetched.json >once.json
  agent-patch once.json >twice.json
  [ "$(field .patch.files once.json)" = "$(field .patch.files twice.json)" ]
  cmp repo/train.py "$(field .fetch.code twice.json)/train.py"
}

@test "a diff that does not apply names file and hunk, exit 65, and the checkout is as it was" {
  echo 'print("changed")' >repo/train.py
  git -C repo diff >change.diff
  git -C repo commit -qam second
  manifest repository="$PWD/repo" entry_point=train.py diff=@change.diff | agent-fetch >fetched.json
  run -65 --separate-stderr agent-patch fetched.json
  [[ $stderr == *"train.py: hunk 1 (@@ -1 +1 @@)"* ]]
  [ "$(field .failed.class <<<"$output")" = setup_failed ]
  [ -z "$(git -C "$(field .fetch.code fetched.json)" status --porcelain)" ]
}

@test "a diff that leaves the checkout is refused and writes nothing" {
  printf 'diff --git a/../out b/../out\nnew file mode 100644\n--- /dev/null\n+++ b/../out\n@@ -0,0 +1 @@\n+x\n' >evil.diff
  manifest repository="$PWD/repo" entry_point=train.py diff=@evil.diff | agent-fetch >fetched.json
  run -65 --separate-stderr agent-patch fetched.json
  [[ $stderr == *../out* ]]
  [ ! -e "$(dirname "$(field .fetch.code fetched.json)")/out" ]
}

@test "a stand-alone script is written under its name" {
  manifest diff='print("alone")' entry_point='job.py --epochs 3' | agent-fetch | agent-patch >patched.json
  [ "$(python3 "$(field .fetch.code patched.json)/job.py")" = alone ]
  [ "$(field .patch.entry_point patched.json)" = "job.py --epochs 3" ]
}

@test "an entry point that is not in the checkout is named with what is like it, exit 66" {
  manifest repository="$PWD/repo" entry_point=trian.py | agent-fetch >fetched.json
  run -66 --separate-stderr agent-patch fetched.json
  [[ $stderr == *"no trian.py"*"did you mean train.py?"* ]]
}

@test "a manifest that agent-fetch has not seen: exit 65 and the remedy" {
  run -65 --separate-stderr agent-patch <<<"$(manifest entry_point=train.py)"
  [[ $stderr == *"agent-fetch | agent-patch"* ]]
}

@test "a dry run says what would be applied and changes nothing" {
  echo 'print("changed")' >repo/train.py
  git -C repo diff >change.diff
  manifest repository="$PWD/repo" entry_point=train.py diff=@change.diff | agent-fetch >fetched.json
  run -0 --separate-stderr agent-patch --dry-run --verbose fetched.json
  [[ $stderr == *"would apply a diff"* ]]
  [ -z "$(git -C "$(field .fetch.code fetched.json)" status --porcelain)" ]
}

@test "a diff of 50 MB passes through the pipeline" {
  seq 1 6500000 >repo/big.txt
  git -C repo add big.txt
  git -C repo diff --cached >big.diff
  [ "$(stat -c %s big.diff)" -gt 50000000 ]
  manifest repository="$PWD/repo" entry_point=train.py diff=@big.diff | agent-fetch | agent-patch >patched.json
  cmp repo/big.txt "$(field .fetch.code patched.json)/big.txt"
}

@test "killed in the middle, the next run leaves the right tree" {
  echo 'print("changed")' >repo/train.py
  git -C repo diff >change.diff
  manifest repository="$PWD/repo" entry_point=train.py diff=@change.diff | agent-fetch >fetched.json
  AGENT_CRASH_AT=patch:applied run -137 agent-patch fetched.json
  agent-patch fetched.json >patched.json
  cmp repo/train.py "$(field .fetch.code patched.json)/train.py"
}

@test "a notebook with magics runs, its cells sharing names, and an error in one ends it" {
  make_repo notebooks study.ipynb '{"nbformat": 4, "cells": [
    {"cell_type": "code", "source": ["%matplotlib inline\n", "word = \"six\""]},
    {"cell_type": "code", "source": ["lines = !echo {word}\n", "count = len(lines)"]},
    {"cell_type": "code", "source": ["%%capture out\n", "print(count)"]},
    {"cell_type": "code", "source": ["print(lines[0], out.stdout.strip(), flush=True)"]},
    {"cell_type": "code", "source": ["%time 1 / 0"]},
    {"cell_type": "code", "source": ["print(\"never\")"]}]}'
  manifest repository="$PWD/notebooks" entry_point=study.ipynb | agent-fetch | agent-patch | agent-env >ready.json
  run -1 --separate-stderr agent-run <ready.json
  log=$(dirname "$(field .fetch.code ready.json)")/log
  grep -qx 'six 1' "$log"
  grep -q '^ZeroDivisionError' "$log"
  run ! grep -q never "$log"
}

@test "a diff on another commit: why says what to do, and both of it complete the task" {
  make_repo moving train.py 'print("one", flush=True)'
  first=$(git -C moving rev-parse HEAD)
  git -C moving commit -q --allow-empty -m x
  echo 'print("other", flush=True)' >moving/train.py
  git -C moving commit -qam other
  other=$(git -C moving rev-parse HEAD)
  git -C moving checkout -q "$first"
  echo 'print("mine", flush=True)' >moving/train.py
  id=$(agent-task enqueue --repo moving train.py)
  run_all() { agent-pull default | agent-prepare --quiet | agent-run --quiet >receipt.json; }
  printed() { cat "$(dirname "$(field .fetch.code receipt.json)")/log"; }
  agent-task dequeue "$id" 2>/dev/null
  agent-task edit "$id" --commit "$other" 2>/dev/null
  agent-task enqueue "$id"
  run -65 run_all
  [[ $(agent-task why "$id") == *"does not apply to train.py: hunk 1"*"edit $id --commit"*"edit $id --drop-diff"* ]]
  agent-task edit "$id" --commit "$first" 2>/dev/null
  agent-task enqueue "$id"
  run -0 run_all
  [ "$(printed)" = mine ]
  agent-task edit "$id" --commit "$other" --drop-diff 2>/dev/null
  agent-task enqueue "$id"
  run -0 run_all
  [ "$(printed)" = other ]
}

@test "a script that nothing brings is said so: the SDK's record of a checkout without a remote" {
  manifest repository= version_num=fca8b77af72e210c0600c79779df4503298f3795 entry_point=train.py diff= |
    agent-fetch >fetched.json
  run -66 --separate-stderr agent-patch fetched.json
  [[ $stderr == *"no repository to take train.py from"*"git remote add origin"* ]]
}

@test "a NUL byte in the entry point or the working directory is bad data, not a bug" {
  echo '{"task":{"script":{"entry_point":"a\u0000b.py","diff":"print(1)"}}}' | agent-fetch >fetched.json
  run -65 --separate-stderr agent-patch fetched.json
  [[ $stderr == *"script.entry_point has a NUL byte"* ]]
  echo '{"task":{"script":{"entry_point":"a.py","working_dir":"x\u0000y","diff":"print(1)"}}}' |
    agent-fetch >fetched.json
  run -65 --separate-stderr agent-patch fetched.json
  [[ $stderr == *"script.working_dir has a NUL byte"* ]]
}
