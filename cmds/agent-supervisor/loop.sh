#!/bin/sh
# The polling loop of agent-supervisor(1), which starts it: pull a task, prepare it, run it, and again.
#     loop.sh NAME FILES STRICT [OPTION of agent-pull]... -- QUEUE...
# NAME is the worker's, whose lock is descriptor 9; FILES.pulled and FILES.receipt are the manifest before and after;
# STRICT, when not empty, ends the loop when something fails.
# shellcheck source=cmds/agent-supervisor/shared.sh
. "${0%/*}/shared.sh"
name=$1 files=$2 strict=$3; shift 3
# what agent-pull says without one is for pipelines, which cannot see its status
has_task() { grep -qs '"task"' "$files.pulled"; }

ran=''
while go_on; do
  idle=1 status=73 # where the file cannot be written, nothing is started
  if start sh -c "$pull" agent-pull --wait --owner $$ --worker "$name" "$@" >"$files.pulled"; then
    await "$new"
    # whatever its status: a task that a hook has refused fails there
    if has_task; then
      idle='' ran=1; start sh -c "$work; exit \$status" sh "$files"; await "$new"
    elif [ "$status" -eq 0 ] && [ -s "$files.pulled" ]; then say "\$AGENT_STAGE_PULL printed no manifest"; status=65
    elif [ "$status" -eq 0 ] && go_on; then rest 1; status=0; fi
  fi
  if [ "$status" -eq 0 ]; then
    pause=1
  elif idle=1 && go_on; then
    failed "$status" || exit "$status"
    rest "$pause"; back_off
  fi
done
# a pull that waits says so itself when it leaves; after a task nobody does, unless it was left running. In a session of
# its own, since a slot's signals come to its whole group
if [ -z "$left" ] && [ -n "$ran" ]; then setsid agent-report worker "$name" --gone 9>&- & await $!; fi
exit 0
