#!/bin/sh
# agent-supervisor --jobs N, which starts it: N supervisors side by side, each started again when it was killed.
#     slots.sh NAME N STRICT [OPTION of agent-pull]... -- QUEUE...
# The workers are NAME:0, NAME:1 …; without a NAME each finds one of its own.
# shellcheck source=cmds/agent-supervisor/shared.sh
. "${0%/*}/shared.sh"
name=$1 jobs=$2 strict=$3 drain=USR2 halt=PWR; shift 3
export AGENT_SUPERVISOR_PARENT=$$

while go_on; do # those that live hear signals meanwhile
  slots='' died=''
  for number in $(seq 0 $((jobs - 1))); do
    eval "new=\${slot$number:-none}"
    [ "$new" != left ] || continue
    if ! is_ours "$new"; then
      if [ "$new" != none ]; then
        wait "$new"; status=$?
        if [ "$status" -eq 0 ]; then eval "slot$number=left"; continue; fi # it alone was told to: --drain NAME:0
        [ -z "$strict" ] || { code=$status signals=1; tell USR2 "$child"; break; }
      fi
      died=$died$new keep=$child
      start agent-supervisor ${name:+--worker "$name:$number"} ${strict:+--exit-on-error} "$@"
      eval "slot$number=$new"
    fi
    slots="$slots $new"
  done
  [ "$code" -eq 0 ] || { slots=$child; break; }
  [ -n "$slots" ] || exit 0
  keep=$slots; rest "$pause"; child=$slots
  if [ -n "$died" ]; then back_off; else pause=5; fi
done
for slot in $slots; do await "$slot" || :; done
exit "$code"
