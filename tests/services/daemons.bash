# Daemons that the …-up.sh scripts here start and the …-down.sh scripts stop, by their pid files.
# shellcheck shell=bash

# runs PID NAME: the number in an old pid file may be another process's by now; a zombie is as good as gone
runs() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# alive PIDFILE NAME
alive() {
  local pid; pid=$(cat "$1" 2>/dev/null) || return 1
  runs "$pid" "$2"
}

# stop PIDFILE NAME SECONDS: TERM, and KILL after these; a daemon may remove its file before it is gone
stop() {
  local pid; pid=$(cat "$1" 2>/dev/null) || return 0
  if runs "$pid" "$2"; then
    kill "$pid"
    for _ in $(seq $((4 * $3))); do runs "$pid" "$2" || break; sleep 0.25; done
    if runs "$pid" "$2"; then kill -9 "$pid"; fi
  fi
  rm -f "$1"
}
