"""Which Python a task gets (a dict as in discovery.py), remembered so that a warm run does not search."""

from __future__ import annotations

import os

from agentpipe import errors, files, paths
from agentpipe.environment import discovery

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.environment.discovery import Interpreter
    from agentpipe.job import Job

PARTS = ("executable", "version", "implementation", "platform")
ASK = ("import json, os, platform, sys, sysconfig; print(json.dumps({"
       "'executable': os.path.realpath(getattr(sys, '_base_executable', None) or sys.executable),"
       " 'version': platform.python_version(), 'implementation': platform.python_implementation(),"
       " 'platform': sysconfig.get_platform()}))")


def find(job: Job, project: str = "") -> Interpreter:
    """The interpreter for this task, in the place where it runs.

    What the task asks for (its `script.binary`, the version it recorded), else `agent.python_binary`,
    `agent.default_python`, else the agent's own; the last two only where they are what its `project` is for (a range:
    ">=3.10,<4"). Another version of the same major one is taken with a warning when the asked one is not there; Failure
    66 lists what is there when none fits.
    """
    wish = wanted(job, project)
    known = _in_place(job, wish) if job.prefix else _on_host(job, wish)
    if project and wish != project and not discovery.in_range(known["version"], project):
        job.warn(f"the project is for Python {project}, and gets {known['version']} ({known['executable']})")
    return known


def _on_host(job: Job, wish: str) -> Interpreter:
    memory = paths.cache("interpreters", _memory_name(wish) + ".json")
    known = _remembered(memory)
    if known is None:
        from agentpipe import live
        try:
            with live.Line(job, lambda: "asking the Pythons of this machine for their versions"):
                known = discovery.search(wish, not job.option("dry_run"))
        except errors.Failure as failure:
            raise _of_setting(job, wish, failure) or failure from None
        if not job.option("dry_run"):
            _remember(memory, known)
    if not known["warning"] and (gone := _gone(job)):
        job.warn(f"{gone} is not on this machine, Python {known['version']} ({known['executable']}) is taken instead")
    return _said(job, known)


def _said(job: Job, known: Interpreter) -> Interpreter:
    """An interpreter as it was remembered, without the `warning` that goes with it, which is said each time."""
    if known.get("warning"):
        job.warn(known["warning"])
    return {name: known[name] for name in PARTS}


def wanted(job: Job, project: str = "") -> str:
    """What is asked for: an absolute path, a version ("3.11", "3"), the range that the `project` is for, or "" for the
    agent's own interpreter."""
    from agentpipe.settings import config
    asked = _of_task(job)
    if asked:
        return asked
    told = (config.get("agent.python_binary") or config.get("agent.default_python") or "").removeprefix("python")
    return project if project and not os.path.isabs(told) and not discovery.in_range(told, project) else told


def _pinned(job: Job) -> str:
    """The version of a receipt, which counts for all that its task asks for; ""."""
    import re

    from agentpipe.settings import config
    pinned = (job.manifest.get("pins") or {}).get("python")
    if not isinstance(pinned, str) or not re.fullmatch(r"\d+(\.\d+){0,2}", pinned):
        return ""
    return "" if config.flag("agent.ignore_requested_python_version") else pinned


def _path_of(job: Job) -> str:
    """The path of a Python that the task names, there or not; "" where it names none, or another program
    (/usr/bin/julia), which runs beside a Python of ours."""
    from agentpipe.code import entry
    script = job.task.get("script") or {}
    binary = str(script.get("binary") or "").split(" ", 1)[0]
    return binary if os.path.isabs(binary) and entry.is_python(binary) and not entry.is_shell(script) else ""


def _of_task(job: Job) -> str:
    """What the task itself asks for, in the same words; "" where it says nothing."""
    import re

    from agentpipe.settings import config
    script = job.task.get("script") or {}
    binary = str(script.get("binary") or "").split(" ", 1)[0]
    if not config.flag("agent.ignore_requested_python_version"):
        if pinned := _pinned(job):
            return pinned
        path = _path_of(job)
        if path and (job.prefix or os.access(path, os.X_OK)):
            return path
        if os.path.basename(binary).startswith("pypy"):
            return os.path.basename(binary)
        version = re.fullmatch(r"python(\d+\.\d+(?:\.\d+)?t?|[124-9])", os.path.basename(binary))
        recorded = version or _recorded_version(script)
        if recorded:
            return str(recorded[1])
    return ""


def _gone(job: Job) -> str:
    """The path of the Python that the task names (without a version that it could be found by), where none is."""
    from agentpipe.settings import config
    path = _path_of(job)
    unheard = _of_task(job) or config.flag("agent.ignore_requested_python_version") or os.access(path, os.X_OK)
    return "" if unheard else path


def _of_setting(job: Job, wish: str, failure: errors.Failure) -> errors.Failure | None:
    """The same Failure as one of this machine's, where its own setting names what is not there; else None."""
    from agentpipe.settings import config
    key = next((key for key in ("agent.python_binary", "agent.default_python") if config.get(key)), "")
    if not key or failure.exit != errors.NOT_FOUND or _of_task(job) or wish != wanted(job):
        return None
    return errors.Failure(f"{key} is {wish}, and there is no such Python on this machine", errors.BAD_CONFIG,
                          failure.evidence, f"correct {key}")


def own_path(job: Job, interpreter: Interpreter) -> str:
    """The Python as it was asked for, whose virtual environment (or conda environment) may have packages of its own."""
    wish = wanted(job)
    if os.path.isabs(wish):
        return wish
    if not job.prefix:
        return str(interpreter["executable"])
    # an image may have an environment activated
    names = [*_called(job, wish), "python3", "python"]
    from agentpipe.environment import image_packages
    words = '[ -z "$0" ] || PATH=$0; for each; do command -v "$each" && exit; done'
    argv = [*job.prefix, "sh", "-c", words, _path_in_place(job), *names]
    found = image_packages.remembered(job, f"which {' '.join(names)}", "",
                                      lambda: job.run(argv, check=False, timeout=60).strip())
    return found or str(interpreter["executable"])


def _recorded_version(script: dict[str, Any]) -> Any:
    """ClearML's SDK writes `# Python 3.8.10 (default, …)` over the packages that it found."""
    import re
    record = (script.get("requirements") or {}).get("pip") or ""
    text = record if isinstance(record, str) else "\n".join(map(str, record))
    return re.match(r"\s*# Python (\d+\.\d+)", text)


# ---- the memory: one small file per wish

def _memory_name(wish: str) -> str:
    import hashlib
    import sys
    # ours by the file that it is in the end: bin/python and bin/python3.11 are one
    about = "\0".join((wish, os.path.realpath(sys.executable), os.environ.get("PATH", ""), os.environ.get("HOME", ""),
                       os.environ.get("PYENV_ROOT", "")))
    return hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _remembered(path: str) -> Interpreter | None:
    """What was found before, if the executable is still the same file and, after a near miss, nothing was installed."""
    import json
    try:
        with open(path, encoding="utf-8") as file:
            known: Interpreter = json.load(file)
        if known["file"] != discovery.identity(known["executable"]):
            return None
        return known if all(discovery.mtime(folder) == when for folder, when in known["folders"].items()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(path: str, known: Interpreter) -> None:
    import json
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    files.publish(path, json.dumps(known).encode())


# ---- another place than the host

def _in_place(job: Job, wish: str) -> Interpreter:
    """Ask inside the place; an image that nothing has changed is asked once, but for a Python that is mounted: another
    folder may be there the next time."""
    from agentpipe.environment import image_packages
    from agentpipe.place import gear
    memory, local = "", gear.local_python(job.directory, job.manifest.get("place") or {})
    image, names = image_packages.remembered_as(job), _called(job, wish)
    if image and not any(image_packages.is_mounted(job, path) for path in (*names, local)):
        about = " ".join(filter(None, (image, wish, *names, local)))
        memory = paths.cache("interpreters", _memory_name(about) + ".json")
        known = _remembered_in_place(memory)
        if known:
            return _said(job, known)
    by_name = _first_answer(job, names)
    found = by_name
    if found is None:
        found = _first_answer(job, [*([local] if local else []), "python3", "python"])
        if found is None:
            raise errors.Failure("there is no Python in this task's place", errors.NOT_FOUND,
                                 remedy=_remedy_without_python(job))
    is_meant = _is_meant(found["version"], wish, by_name is not None)
    found["warning"] = "" if is_meant else (
        f"Python {wish} is not in this place, {found['version']} ({found['executable']}) is taken instead")
    if memory and not job.option("dry_run") and not image_packages.is_mounted(job, found["executable"]):
        _remember(memory, found)
    return _said(job, found)


def _called(job: Job, wish: str) -> list[str]:
    """What a Python that is wished for may be called in a place: images seldom have one with a third number. That of a
    receipt's task may be on nobody's PATH."""
    if not wish[:1].isdigit():
        return [wish] if os.path.isabs(wish) else []
    import re
    minor = re.sub(r"^(\d+\.\d+)\.\d+", r"\1", wish)
    path = _path_of(job) if _pinned(job) == wish else ""
    return [*dict.fromkeys((f"python{wish}", f"python{minor}")), *([path] if path else [])]


def _is_meant(version: str, wish: str, by_name: bool) -> bool:
    """Whether a Python is the one that is wished for; `by_name`: it has answered to that."""
    if wish[:1].isdigit():
        return f"{version}.".startswith(f"{wish.rstrip('t')}.")
    return by_name or not wish or discovery.in_range(version, wish)


def _remedy_without_python(job: Job) -> str:
    from agentpipe.code import entry
    binary = str((job.task.get("script") or {}).get("binary") or "")
    if not binary or entry.is_python(binary):
        return "use an image that has python3"
    return (f"{binary} needs none, but the task's requirements do: take them out (agent-task edit --requirements none),"
            " or use an image that has python3")


def _path_in_place(job: Job) -> str:
    """PATH as a set-up script has exported it, where one has (`. /opt/conda/bin/activate x`); else ""."""
    from agentpipe.place import setup_script
    return setup_script.environment(job.directory).get("PATH") or ""


def _remembered_in_place(path: str) -> Interpreter | None:
    import json
    try:
        with open(path, encoding="utf-8") as file:
            known: Interpreter = json.load(file)
        return known
    except (OSError, ValueError):
        return None


def described(job: Job, python: str) -> Interpreter | None:
    """The interpreter at this path, by its own words; None when it does not start."""
    return _first_answer(job, [python])


def _first_answer(job: Job, names: list[str]) -> Interpreter | None:
    from agentpipe.environment import image_packages
    for name in names:
        words = '[ -z "$2" ] || PATH=$2; exec "$0" -I -B -c "$1" 2>/dev/null'
        answer = image_packages.answer_in(
            job.run([*job.prefix, "sh", "-c", words, name, ASK, _path_in_place(job)], check=False, timeout=60), "{")
        if known := _understood(answer):
            return known
    return None


def _understood(answer: str) -> Interpreter | None:
    """What an interpreter has said of itself; None for nonsense: the version becomes part of names of files here."""
    import json
    import re
    try:
        told = json.loads(answer or "{}")
        known = {name: told[name] for name in PARTS}
    except (ValueError, KeyError, RecursionError):
        return None
    is_one = all(isinstance(value, str) for value in known.values()) and re.fullmatch(r"\d+\.\d+[0-9A-Za-z.+_-]*",
                                                                                     known["version"])
    return known if is_one else None
