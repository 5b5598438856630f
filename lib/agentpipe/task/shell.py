"""agent-task shell: a shell, or any command, where a task runs: the same place, environment and directory."""

from __future__ import annotations

import os

from agentpipe import errors, find, place, tools
from agentpipe.claim import attempt
from agentpipe.run import launch
from agentpipe.transport import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from agentpipe.place import Place

# $1 the attempt's directory, $2 the script's; then a command. As the script's shim enters it.
ENTER = r"""cd "$1" || exit 125
[ ! -r spec ] || . ./spec || exit 125
cd "$2" || exit 125
shift 2
[ $# -gt 0 ] || set -- "$(command -v bash || echo sh)"
exec "$@" """


def shell(word: str, words: list[str]) -> None:
    """Become that shell. Failure 66 when the task has not run on this machine, or its place is gone."""
    id = word if word.startswith("local-") else find.task(api.connect(), word)["id"]
    directory = attempt.latest(id)
    line = attempt.read_manifest(directory) if directory else None
    if line is not None and "env" not in line:
        raise errors.Failure(f"task {id} has no place to walk into: its set-up here came to no end", errors.NOT_FOUND,
                             remedy=f"agent-task why {id}")
    if directory is None or line is None:
        raise errors.Failure(f"task {id} has not run on this machine", errors.NOT_FOUND, remedy=""
                             if word.startswith("local-") else f"agent-task show {id} names its worker: ask there")
    where = place.of(line, directory)
    if where.goes and not os.path.exists(os.path.join(directory, place.JOURNAL)):
        raise errors.Failure(f"the container of task {id} is gone", errors.NOT_FOUND,
                             remedy="agent-run --hold-on-failure 2h keeps that of a script that fails")
    begin = launch.of(line, directory, {})
    if where.prefix:
        argv = [*where.entered(os.isatty(0) and os.isatty(1)), "sh", "-c", ENTER, "sh", directory, begin.cwd, *words]
        _become(argv, dict(os.environ))
    try:
        os.chdir(begin.cwd)
    except OSError as error:
        raise errors.Failure(f"{begin.cwd}: {error.strerror}", errors.NOT_FOUND) from None
    _become(words or [os.environ.get("SHELL") or "sh"], _of_running(where, directory) or begin.env)


def _become(argv: list[str], env: dict[str, str]) -> NoReturn:
    """Failure 127 or 126 where that cannot be, as a shell has it."""
    tools.default_signals()  # a shell keeps what it finds ignored: of `yes | head` the first would never end
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        raise errors.Failure(f"{argv[0]}: {error.strerror}", 127 if error.errno == 2 else 126) from None


def _of_running(where: Place, directory: str) -> dict[str, str] | None:
    """The environment with which the script was started, while it runs."""
    record: Any = attempt.pid_record(directory)
    pid = where.pid(record) if record and not attempt.was_returned(directory) else None
    if not pid:
        return None
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().decode("utf-8", "surrogateescape").split("\0")
    except OSError:
        return None
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
