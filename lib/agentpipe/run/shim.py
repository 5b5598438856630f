"""The shell above a script, in a session of its own, whose stdin is the locked file `running`.

It renames that file to `exit.N` when the script is over, so the status needs neither us nor a byte of disk space.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from agentpipe import errors, paths, processes, secrets, tools, untrusted
from agentpipe.files import lock_within, publish
from agentpipe.place import Place

# Arguments: the attempt's directory, the folder of it in which all that follows is made (paths.box), "direct" or
# "piped", the script's working directory, the command. They are arguments, not text: nothing of a task is ever parsed
# by a shell. The script's own process writes `pid` just before it becomes the script: where that name is taken, nothing
# may start any more (exit 125).
# Piped is for shell scripts, whose `>/dev/stderr` would truncate a log that is their stdout; then the status is
# published before the reader has seen the end of what descendants hold.
SHIM = r"""
cd "$1" || exit 125
[ ! -r spec ] || . ./spec || exit 125
cd "$2" || exit 125
how=$3
shift 3
{ true >>shell; } 2>/dev/null && exec 2>>shell
if [ -n "$BASH_VERSION" ] && (set +o posix) 2>/dev/null; then set +o posix; fi  # as sh it says nothing of a signal
trap '' TERM INT HUP QUIT
script() (
  exec 2>&1
  trap - TERM INT HUP QUIT
  exec setsid sh -c '
    started() { shift 19; start=$1; }
    read -r stat </proc/$$/stat && read -r boot </proc/sys/kernel/random/boot_id || exit 125
    started ${stat##*) }
    ln -s "$$ $start $boot" pid || exit 125
    cd "$1" || exit 126
    shift
    exec "$@" </dev/null' sh "$@"
)
if [ "$how" = piped ] && command -p mkfifo pipe; then
  command -p cat <pipe >>log &
  script "$@" >pipe
  command -p mv running "exit.$?"
  wait
else
  script "$@" >>log
  command -p mv running "exit.$?"
fi
"""

# dash drops variables whose names it could not write itself (`my.var`): they go around it, by a 0600 file
ODD_NAMES = """
import json, os, sys
path, *argv = sys.argv[1:]
with open(path) as file: os.environ.update(json.load(file))
os.unlink(path)
try:
    os.execvp(argv[0], argv)
except OSError as error:
    print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
    sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
"""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LOOKS_S = 5.0
LONGEST = 128 << 10  # bytes of one argument or variable: MAX_ARG_STRLEN, execve(2)


def start_shim(directory: str, argv: Sequence[str], cwd: str, env: Mapping[str, str], place: Place,
               piped: bool) -> subprocess.Popen[bytes]:
    """Start `argv` in `cwd` under a shim; the arguments are script.start()'s.

    Failure 65 for more than a program can be given; 69 or 77 for a place that cannot be entered.
    """
    box = paths.box(directory)
    try:
        running = untrusted.opened(box, "running", os.O_RDWR | os.O_CREAT)
    except untrusted.NotRegular as error:
        raise errors.Failure(f"{error.filename} cannot be used: {error.strerror}", errors.BAD_DATA) from None
    try:
        _lock(running)
        processes.become_subreaper()
        if not place.prefix:
            argv = _around_the_shell(directory, argv, env)
        said = _opened(directory, "setup.log")  # why a place could not be entered, its owner reads there
        try:
            return subprocess.Popen([*place.prefix, "sh", "-c", SHIM, "sh", directory, box,
                                     "piped" if piped else "direct", cwd, *argv], env=dict(env), stdin=running,
                                    stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise _too_much(argv, env) from None
            if place.prefix and error.errno != errno.EAGAIN:  # which is the machine's, and passes
                raise tools.cannot_start(place.prefix, error) from None
            raise
        finally:
            if said >= 0:
                os.close(said)
    finally:
        os.close(running)


def _lock(running: int) -> None:
    """Take the lock that the shim inherits. Whoever looks whether it is free has it for an instant; what runs in a
    container already could keep it."""
    if not lock_within(running, LOOKS_S):
        raise errors.Failure("another process holds the file `running`: the script is not started", errors.BAD_DATA)


def _opened(directory: str, name: str) -> int:
    try:
        return untrusted.opened(directory, name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:  # no room for another file, or something else stands there
        return subprocess.DEVNULL


def _around_the_shell(directory: str, argv: Sequence[str], env: Mapping[str, str]) -> Sequence[str]:
    odd = {name: value for name, value in env.items() if not NAME.fullmatch(name)}
    if not odd:
        return argv
    path = os.path.join(directory, secrets.ODD_NAMES)
    publish(path, json.dumps(odd).encode())
    return [sys.executable, "-I", "-S", "-c", ODD_NAMES, path, *argv]


def _too_much(argv: Sequence[str], env: Mapping[str, str]) -> errors.Failure:
    sizes = {**{f"its argument {word[:40]!r}…": len(os.fsencode(word)) for word in argv},
             **{f"the variable {name}": len(os.fsencode(f"{name}={value}")) for name, value in env.items()}}
    largest = max(sizes, key=lambda what: sizes[what])
    if sizes[largest] < LONGEST:
        return errors.Failure(f"the script's arguments and variables are {sum(sizes.values())} bytes, more than a "
                              "program can be given", errors.BAD_DATA, remedy="pass some of them in files")
    return errors.Failure(f"{largest} has {sizes[largest]} bytes; a program can be given {LONGEST - 1} in one",
                          errors.BAD_DATA, remedy="pass it in a file")
