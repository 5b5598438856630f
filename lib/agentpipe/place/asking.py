"""A script's processes in a place, as a shell there sees them: none of ours looks into it, none of theirs is believed.

Each text is for `sh -c`, with the arguments that it names.
"""

from __future__ import annotations

from agentpipe.processes import Seen

# look PID: what stands in `stat` of it; its name may have any character, line ends too, and ends with the last `)`
_LOOK = r"""
look() {
  stat=
  while read -r line || [ "$line" ]; do stat="$stat $line"; done 2>/dev/null <"/proc/$1/stat"
  [ "$stat" ]
}
"""

# the pids `known`: the script, $1, which is its session's id, those of its session, and their children of any session
_WALK = _LOOK + r"""
known=" $1 "; more=1
while [ "$more" ]; do
  more=
  for path in /proc/[0-9]*; do
    pid=${path#/proc/}
    case "$known" in *" $pid "*) continue ;; esac
    look "$pid" || continue
    set -- "$1" "$2" ${stat##*) }
    [ "$3" != Z ] || continue
    if [ "$6" = "$1" ]; then known="$known$pid "; more=1; continue; fi
    case "$known" in *" $4 "*) known="$known$pid "; more=1 ;; esac
  done
done
"""

# $1 the script's pid; $2 a signal, 0 to count
SIGNAL = _WALK + r"""
count=0
for pid in $known; do [ "$pid" -gt 1 ] && kill -s "$2" "$pid" 2>/dev/null && count=$((count + 1)); done
echo "$count"
"""

# $1 the script's pid; $2 what stands before each process ("PID PARENT START", a line, its words) and behind the last
LIST = _WALK + r"""
for pid in $known; do
  look "$pid" || continue
  set -- "$1" "$2" ${stat##*) }
  [ "$3" != Z ] || continue
  printf '%s%s %s %s\n' "$2" "$pid" "$4" "${22}"
  cat "/proc/$pid/cmdline" 2>/dev/null
done
printf %s "$2"
"""

_STARTED = _LOOK + r"""
started() { shift 19; start=$1; }
"""

# $1 a signal; then PID:START of whom it is for
TELL = _STARTED + r"""
signal=$1; shift
for each; do
  look "${each%:*}" || continue
  started ${stat##*) }
  [ "$start" != "${each#*:}" ] || kill -s "$signal" "${each%:*}" 2>/dev/null
done
"""

# $1 the script's pid, $2 when it started
ALIVE = _STARTED + r"""
look "$1" || exit 3
set -- "$1" "$2" ${stat##*) }
[ "$3" != Z ] || exit 3
started ${stat##*) }
[ "$start" = "$2" ] || exit 3
"""


def listed(said: str, mark: str) -> list[Seen] | None:
    """What LIST has printed with that mark; None where it has not come to its end."""
    parts = said.split(mark)[1:]
    if not parts or parts.pop():
        return None
    found = []
    for part in parts:
        line, _, words = part.partition("\n")
        numbers = line.split(" ")
        if len(numbers) == 3 and all(each.isdecimal() and len(each) < 20 for each in numbers):
            pid, parent, start = map(int, numbers)
            found.append(Seen(pid, start, parent, words.split("\0")[:-1]))
    return found
