#!/bin/sh
# agent-supervisor --services, which starts it: pipelines side by side, each behind a fifo; the newest waits for a task.
#     services.sh NAME FILES STRICT N [OPTION of agent-pull]... -- QUEUE...
# As loop.sh; N is how many tasks may run. Signals leave tasks running for the next supervisor; --stop stops them.
# shellcheck source=cmds/agent-supervisor/shared.sh
. "${0%/*}/shared.sh"
name=$1 files=$2 strict=$3 jobs=$4; shift 4
leave() { # $child is the newest, which may not have been written down yet
  signals=$((signals + 1)); tell TERM "$resting"; tell HUP "$child"; again HUP "$child" # nohup's children rest without HUP
  if [ "$signals" -gt 1 ]; then tell TERM "$slots"; else tell HUP "$slots"; fi
}
# who opened the fifo to read would wait for ever for a pull that was ended before it opened it
let_go() { if [ -p "$fifo" ]; then rm -f "$fifo" <>"$fifo"; fi; }
# shellcheck disable=SC2016 # they expand in the shell that it is for
work=$work'
if grep -qs "\"task\"" "$1.receipt"; then mv -f "$1.receipt" "$2.receipt"; else rm -f "$1.receipt"; fi; exit "$status"'
slots='' number=0 failing='' unfed='' fifo='' mine=$files.$$ # no name twice: a claim may still name the pipe of a supervisor before us
for old in "$files".*[0-9].*[0-9].pulled; do if [ -p "$old" ]; then rm -f "$old"; fi; done # one that was killed left it
trap leave TERM INT HUP USR2
trap '[ "$signals" -gt 1 ] || { signals=1; leave; }' PWR

while go_on; do
  running='' count=0 bad=0 number=$((number + 1)) fifo=$mine.$number.pulled
  for slot in $slots; do
    if is_ours "$slot"; then running="$running $slot" count=$((count + 1)); continue; fi
    if wait "$slot"; then failing=''; elif status=$? && [ "$slot" != "$unfed" ]; then bad=$status failing=1; fi
  done
  slots=$running
  if [ "$bad" -ne 0 ]; then # its task may be back: at once it would fail again
    failed "$bad" || { code=$bad; leave; break; }
    rest "$pause"; back_off
    continue
  fi
  if [ "$count" -ge "$jobs" ]; then rest 1; continue; fi
  mkfifo "$fifo" || { code=73; leave; break; }
  start sh -c "$work" sh "$mine.$number" "$files" "${AGENT_STAGE_PULL:-}"; slots="$slots $new" newest=$new
  start sh -c "exec >\"\$0\"; $pull" "$fifo" --wait --services --owner $$ --worker "$name" "$@"
  if await "$new"; then [ -n "$failing" ] || pause=1; elif go_on; then
    unfed=$newest # it ends with what failed here
    failed "$status" || { code=$status; leave; break; }
    rest "$pause"; back_off
  fi
  let_go
  # of a command in the place of agent-pull nobody knows whether it had a task: no more than one a second
  if [ -n "${AGENT_STAGE_PULL:-}" ] && go_on; then rest 1; fi
done
let_go
for slot in $slots; do await "$slot" || :; done
exit "$code"
