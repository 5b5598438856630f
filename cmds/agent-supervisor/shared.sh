# shellcheck shell=sh
# What the loops of agent-supervisor share: its children, its signals, its pauses.
# shellcheck disable=SC2034 # what is set here is read there
strict='' signals=0 left='' resting='' new='' child='' keep='' status=0 idle=1 pause=1 code=0
drain=TERM halt=TERM # what tells a child to end; a slot of --jobs has a task of its own, to end before or to stop
pull=${AGENT_STAGE_PULL:-'exec agent-pull "$@"'}
# shellcheck disable=SC2016 # they expand in the shells that these are for
work='told=""; trap told=1 TERM HUP
sh -c "${AGENT_STAGE_PREPARE:-exec agent-prepare}" agent-prepare <"$1.pulled" |
sh -c "${AGENT_STAGE_RUN:-exec agent-run \"\$@\"}" agent-run --supervised >"$1.receipt"
status=$?
# a task has a receipt, however it ended
if [ "$status$told${3:-}" = 0 ] && [ ! -s "$1.receipt" ]; then
  echo "agent-supervisor: no receipt: ${AGENT_STAGE_RUN:-agent-prepare} printed nothing" >&2; status=65
fi'
away=76 # agent-run's word that what the set-up needs was away: it may be for the next task too

say() { printf 'agent-supervisor: %s\n' "$*" >&2; }
# every child in a session of its own, so that a terminal's Ctrl-C reaches nobody but us; beside those of $keep
start() {
  setsid "$@" 9>&- & new=$!; child="$keep $new"; pass_on "$new"; insist "$new"
}
# PID is a child of ours, and not another process that got its number since sh has reaped it
is_ours() { # its parent stands behind its name, which may hold blanks
  # shellcheck disable=SC2086 # to be split
  read -r stat 2>/dev/null <"/proc/$1/stat" && set -- ${stat##*) } && [ "$2" = $$ ]
}
tell() { for pid in $2; do if is_ours "$pid"; then kill -s "$1" -- "-$pid" 2>/dev/null || kill -s "$1" "$pid" 2>/dev/null; fi; done; }
# a child between fork and exec still has our traps, and loses what comes then
again() { ( (trap '' USR2; sleep 1; tell "$1" "$2") >/dev/null 2>&1 9>&- & ); }
insist() { # pass_on() once more, where that means the same twice
  if [ -z "$idle" ]; then :
  elif [ "$signals" -ge 2 ]; then again "$halt" "$1"
  elif [ "$signals" -eq 1 ]; then again "$drain" "$1"; fi
}
# sh runs its traps between commands only, and then wait has no status yet
await() { while :; do wait "$1"; status=$?; is_ours "$1" || return "$status"; done; }
# a pause; what a signal ends by itself sh would name on the terminal
# shellcheck disable=SC2016 # for the shell that pauses
rest() { start sh -c 'trap "exit 0" TERM USR2 PWR HUP; sleep "$1" & wait' sh "$1"; resting=$new; await "$new"; resting=''; }
# said to the children that run, and to one that was started just when the signal came
pass_on() {
  if [ "$signals" -ge 2 ]; then tell "$halt" "$1"
  elif [ "$signals$idle" = 11 ]; then tell "$drain" "$1"
  elif [ -n "$left" ]; then tell HUP "$1"; fi
}
hear() { # the first signal lets a task end, the second stops it
  signals=$((signals + 1)); [ "$signals$idle" != 1 ] || say 'leaving after this task; again to stop it'
  pass_on "$child"; insist "$child"
}
trap hear TERM INT
# --drain and --stop: they may come twice, and mean the same; none that a stage or our front handles
trap '[ "$signals" -gt 0 ] || hear' USR2
trap '[ "$signals" -gt 1 ] || { signals=1; hear; }' PWR
trap 'left=1; pass_on "$child"; again HUP "$child"' HUP
go_on() { [ "$signals" -eq 0 ] && [ -z "$left" ]; }
back_off() { pause=$((pause * 2)); [ "$pause" -le 60 ] || pause=60; }
failed() { # STATUS: whether to try again
  if [ "$1" -eq "$away" ]; then say "what that task needs is away; the next one in $pause s"; return; fi
  if [ -n "$strict" ]; then say "something failed (exit $1)"; return 1; fi
  say "something failed (exit $1); trying again in $pause s"
}
