"""What mends a task: commands that can be typed as they are."""

from __future__ import annotations

import posixpath
import re
import shlex

from agentpipe import secrets
from agentpipe.task import entry_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Known = dict[str, Any]  # {reason, remedy or advice}: what is known of an end

LONGEST = 200  # characters of a line that is a reason
BATCH = re.compile(r"--?((?:[a-z]+[-_])*batch[-_]?size|bs)$")


def again(task: dict[str, Any]) -> str:
    """Queue it once more."""
    return f"agent-task enqueue {task['id']}"


def edit(task: dict[str, Any], *change: str) -> str:
    """Change it, and queue it once more."""
    return f"agent-task edit {task['id']} {shlex.join(change)} && {again(task)}"


def fresh(task: dict[str, Any], *options: str) -> str:
    """Enqueue its script as a new task that runs as this one did, with these options; to be typed in its checkout.

    Its queue and its project stand there as the task has them: by their ids, or by names (why.py).
    """
    from agentpipe.task import container_options
    given = words(task) or ["SCRIPT"]
    module, given = (["-m"], given[1:]) if given[0] == "-m" and given[1:] else ([], given)
    rest = ["--", *given[1:]] if given[1:] else []
    container = task.get("container") or {}
    name = task.get("name") or ""
    kept = {"--name": "" if name == posixpath.basename(given[0]) else name, "--project": task.get("project"),
            "--queue": (task.get("execution") or {}).get("queue"), "--binary": (task.get("script") or {}).get("binary"),
            "--docker": container.get("image"), "--docker-args": _arguments(task),
            "--setup-script": container_options.shown_script(container.get("setup_shell_script") or "")}
    whole = [container.get(field) or "" for field in ("arguments", "setup_shell_script")]
    before = [word for option, value in kept.items() if value for word in (option, value)]
    before += [word for tag in task.get("tags") or [] for word in ("--tag", tag)]
    command = shlex.join(["agent-task", "enqueue", *before, *options, *module, given[0], *rest])
    shown = secrets.shown(command)
    said = shown == command and whole == [kept["--docker-args"], kept["--setup-script"]]
    return command if said else f"{shown} (with the logins and secrets that are left out here)"


def reproduced(task: dict[str, Any]) -> str:
    """What shows the failure again on any machine that has git, uv and sh, and our agent-task."""
    script = f"task-{task['id'][:8]}.sh"  # no name that a checkout has
    return f"agent-task script {task['id']} > {script} && sh {script}"


def in_container(task: dict[str, Any], more: str) -> str:
    """Start its container with more arguments of `docker run` (as they are typed) than it has."""
    return edit(task, "--docker-args", f"{_arguments(task)} {more}".strip())


def with_arguments(task: dict[str, Any], text: str) -> str:
    """Start its container with these arguments of `docker run`, changed ones of its own."""
    return edit(task, "--docker-args", _arguments({"container": {"arguments": text}}))


def _arguments(task: dict[str, Any]) -> str:
    """Those of its container, without the values of secret variables: edit takes them as the task has them."""
    from agentpipe.task import container_options
    text = (task.get("container") or {}).get("arguments") or ""
    try:
        words = shlex.split(text)
    except ValueError:
        return text
    shown = container_options.shown_words(words)
    return text if shown == words else shlex.join(shown)


def with_python(task: dict[str, Any], version: str) -> str:
    """Run it with another Python, and what its program is told besides."""
    _, _, options = ((task.get("script") or {}).get("binary") or "").partition(" ")
    return edit(task, "--binary", f"python{version} {options}") if options else edit(task, "--python", version)


def anew(task: dict[str, Any], checkout: str = ".") -> str:
    """Take its code anew from a checkout, and queue it once more."""
    return edit(task, "--checkout", checkout)


def retyped(task: dict[str, Any], given: list[str]) -> str:
    """Give it this entry point: the script and all its arguments."""
    return edit(task, "--entry-point", shlex.join(given))


def moved(task: dict[str, Any], folder: str) -> tuple[str, ...]:
    """The options of edit that run the same script in another folder of the checkout.

    A module, which is found from where it runs, by its file: Python looks into the file's folder as well.
    """
    from agentpipe.task import whereabouts
    given = words(task)
    before = (task.get("script") or {}).get("working_dir") or "."
    file, of_package = whereabouts.file_of(task)
    if of_package:
        given[1] = posixpath.relpath(posixpath.join(before, given[1].replace(".", "/")), folder).replace("/", ".")
    elif file:
        given[:2] = [file]
        if posixpath.normpath(posixpath.join(before, posixpath.dirname(file))) == folder:
            return ("--entry-point", shlex.join(given))
    if given and not given[0].startswith("-"):
        given[0] = posixpath.relpath(posixpath.normpath(posixpath.join(before, given[0])), folder)
    return ("--working-dir", folder, "--entry-point", shlex.join(given))


def words(task: dict[str, Any]) -> list[str]:
    """Its entry point: the script and its arguments."""
    return entry_words.known(task.get("script") or {})


def short(line: str) -> str:
    """A line for a reason: of a long one its first words."""
    begin = line[:LONGEST - 2]
    return line if len(line) <= LONGEST else f"{begin.rpartition(' ')[0] or begin} …"


def smaller(task: dict[str, Any], reason: str) -> Known | None:
    """The same with half the batch, when the task names its batch size."""
    given = words(task)
    for index, word in enumerate(given):
        option, equals, value = word.partition("=")
        named = BATCH.match(option)
        value = value if equals else (given[index + 1] if index + 1 < len(given) else "")
        if not named or not value.isdigit() or int(value) < 2:
            continue
        half = str(int(value) // 2)
        if option.startswith("--"):
            return {"reason": reason, "advice": None, "remedy": edit(task, "--set", f"Args/{named[1]}={half}")}
        # no name of an argument
        given[index:index + 1 + (not equals)] = [f"{option}={half}"] if equals else [option, half]
        return {"reason": reason, "advice": None, "remedy": retyped(task, given)}
    for section, items in (task.get("hyperparams") or {}).items():
        for name, item in items.items():
            value = str((item or {}).get("value") or "")
            if BATCH.match("--" + name.rpartition("/")[2]) and value.isdigit() and int(value) > 1:
                return {"reason": reason, "advice": None,
                        "remedy": edit(task, "--set", f"{section}/{name}={int(value) // 2}")}
    return None
