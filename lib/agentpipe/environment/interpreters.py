"""Which Python a task gets: found by virtualenv's discovery, and remembered so that a warm run does not search.

An interpreter is a dict: `executable` (the system's own, never a virtual environment's), `version` ("3.11.7"),
`implementation` ("CPython"), `platform` ("linux-x86_64").
"""

from __future__ import annotations

import os

from agentpipe import errors, files, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job

    Interpreter = dict[str, Any]

# where installers put Pythons that are on nobody's PATH
PLACES = ("/usr/local/bin", "/usr/bin", "/opt/*/bin", "/opt/conda/envs/*/bin", "~/.pyenv/versions/*/bin",
          "~/.asdf/installs/python/*/bin", "~/.local/share/mise/installs/python/*/bin", "~/miniconda3/bin",
          "~/miniforge3/bin", "~/mambaforge/bin", "~/anaconda3/bin", "~/.local/share/uv/python/*/bin", "~/.local/bin")
OLDEST = (3, 6)  # what uv and virtualenv can still fill
PATIENCE_S = "120"  # for a Python to say what it is: one that is late is not there, for as long as that is remembered
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
    if project and wish != project and not in_range(known["version"], project):
        job.warn(f"the project is for Python {project}, and gets {known['version']} ({known['executable']})")
    return known


def _on_host(job: Job, wish: str) -> Interpreter:
    memory = paths.cache("interpreters", _memory_name(wish) + ".json")
    known = _remembered(memory)
    if known is None:
        try:
            known = _search(job, wish)
        except errors.Failure as failure:
            raise _of_setting(job, wish, failure) or failure from None
        if not job.option("dry_run"):
            _remember(memory, known)
    if known["warning"]:
        job.warn(known["warning"])
    elif gone := _gone(job):
        job.warn(f"{gone} is not on this machine, Python {known['version']} ({known['executable']}) is taken instead")
    return {name: known[name] for name in ("executable", "version", "implementation", "platform")}


def every() -> list[Interpreter]:
    """All CPythons of this machine that a task can get."""
    folders = _search_folders()
    return [_described(info) for info in _all(_memory_of_discovery(), folders, _environment(folders))]


def _files(folders: list[str]) -> list[str]:
    """The files in these folders that are called as a Python is, each by one of its names.

    Each has to be started to be known, which takes seconds for all of their names; and those in pyenv's `shims` are
    started anew each time, only to become one of its versions, which stand in PLACES.
    """
    import glob
    import re
    names = (path for folder in folders if not folder.rstrip("/").endswith("/.pyenv/shims")
             for path in sorted(glob.glob(os.path.join(glob.escape(folder), "python*")))
             if re.fullmatch(r"python[0-9.]*", os.path.basename(path)))
    return list({os.path.realpath(path): path for path in names}.values())


def wanted(job: Job, project: str = "") -> str:
    """What is asked for: an absolute path, a version ("3.11", "3"), the range that the `project` is for, or "" for the
    agent's own interpreter."""
    from agentpipe.settings import config
    asked = _of_task(job)
    if asked:
        return asked
    told = (config.get("agent.python_binary") or config.get("agent.default_python") or "").removeprefix("python")
    return project if project and not os.path.isabs(told) and not in_range(told, project) else told


def _of_task(job: Job) -> str:
    """What the task itself asks for, in the same words; "" where it says nothing."""
    import re

    from agentpipe.code import entry
    from agentpipe.settings import config
    script = job.task.get("script") or {}
    binary = str(script.get("binary") or "").split(" ", 1)[0]
    if not config.flag("agent.ignore_requested_python_version"):
        pinned = (job.manifest.get("pins") or {}).get("python")
        if isinstance(pinned, str) and re.fullmatch(r"\d+(\.\d+){0,2}", pinned):
            return pinned
        # another program (/usr/bin/julia) runs beside a Python of ours
        if (os.path.isabs(binary) and entry.is_python(binary) and not entry.is_shell(script)
                and (job.prefix or os.access(binary, os.X_OK))):
            return binary
        if os.path.basename(binary).startswith("pypy"):
            return os.path.basename(binary)
        version = re.fullmatch(r"python(\d+\.\d+(?:\.\d+)?t?|[124-9])", os.path.basename(binary))
        recorded = version or _recorded_version(script)
        if recorded:
            return str(recorded[1])
    return ""


def _gone(job: Job) -> str:
    """The path of the Python that the task names (without a version that it could be found by), where none is."""
    from agentpipe.code import entry
    from agentpipe.settings import config
    script = job.task.get("script") or {}
    binary = str(script.get("binary") or "").split(" ", 1)[0]
    is_one = os.path.isabs(binary) and entry.is_python(binary) and not entry.is_shell(script)
    unheard = _of_task(job) or config.flag("agent.ignore_requested_python_version") or os.access(binary, os.X_OK)
    return binary if is_one and not unheard else ""


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
    names = [*([f"python{wish}"] if wish else []), "python3", "python"]
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
        if known["file"] != _identity(known["executable"]):
            return None
        return known if all(_mtime(folder) == when for folder, when in known["folders"].items()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(path: str, known: Interpreter) -> None:
    import json
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    files.publish(path, json.dumps(known).encode())


def _identity(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_dev, found.st_ino, found.st_mtime_ns]


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


# ---- the search

def _other(every: list[Any]) -> tuple[str, ...]:
    """The options of `agent-task edit` that take the newest Python of this machine."""
    versions = sorted((tuple(info.version_info)[:2] for info in every), reverse=True)
    return ("--python", f"{versions[0][0]}.{versions[0][1]}") if versions else ()


def _search(job: Job, wish: str) -> Interpreter:
    """Find it; the answer also has `warning`, and `file` and `folders` by which the memory is checked later."""
    folders = _search_folders()
    environment = _environment(folders)
    cache = None if job.option("dry_run") else _memory_of_discovery()
    exact = _exact(wish, cache, environment)
    if exact is not None:
        return {**_described(exact), "warning": "", "folders": {}}
    every = _all(cache, folders, environment)
    near = _nearest(wish, every)
    if near is None:
        there = sorted({f"{info.version_str} ({info.system_executable})" for info in every})
        asked = _minor(wish)
        where, install = "on this machine", f"install Python {wish}, or use a queue whose machines have it"
        if asked and asked < OLDEST:  # to install it would not help
            where, install = "can be used: {}.{} is the oldest".format(*OLDEST), "give the task a newer one (--python)"
        raise errors.Failure(f"no Python {wish} {where}", errors.NOT_FOUND, evidence="there are: " + ", ".join(there),
                             remedy=install, change=_other(every))
    warning = f"Python {wish} is not on this machine, {near.version_str} ({near.system_executable}) is taken instead"
    return {**_described(near), "warning": warning, "folders": {folder: _mtime(folder) for folder in folders}}


def _exact(wish: str, cache: Any, environment: dict[str, str]) -> Any:
    import sys

    from python_discovery import PythonInfo, get_interpreter
    _hush()
    try:
        own = PythonInfo.from_exe(sys.executable, cache, env=environment)
        if own and (not wish or in_range(own.version_str, wish)):
            return own
        return get_interpreter(wish, cache=cache, env=environment)
    except RuntimeError as error:  # a path that is no working Python
        which = wish or sys.executable
        raise errors.Failure(f"{which} is not a Python that can be used", errors.NOT_FOUND, evidence=str(error),
                             remedy=f"name another interpreter than {which} in the task's binary") from None


def in_range(version: str, wish: str) -> bool:
    """Whether `wish` is a range (">=3.10,<4") that has this version."""
    from python_discovery import PythonSpec
    if not version or not wish.startswith(("<", ">", "=", "!", "~")):
        return False
    found = PythonSpec.from_string_spec(wish).version_specifier
    return bool(found and found.contains(version.split("+")[0]))


def _all(cache: Any, folders: list[str], environment: dict[str, str]) -> list[Any]:
    """All CPythons that uv and virtualenv can fill: the agent's own, and those in these folders; each once."""
    import sys

    from python_discovery import PythonInfo
    _hush()
    found: dict[str, Any] = {}
    there = (PythonInfo.from_exe(path, cache, raise_on_error=False, env=environment)
             for path in (sys.executable, *_files(folders)))
    for info in there:
        if info and info.implementation == "CPython" and tuple(info.version_info[:2]) >= OLDEST:
            found.setdefault(os.path.realpath(info.system_executable or info.executable), info)
    return list(found.values())


def _hush() -> None:
    """An old or broken Python on PATH is passed over, and nobody's affair."""
    import logging
    logging.getLogger("python_discovery").setLevel(logging.CRITICAL)


def _memory_of_discovery() -> Any:
    """What the discovery has learnt of each file."""
    from pathlib import Path

    from python_discovery import DiskCache
    return DiskCache(Path(paths.cache("interpreters")))


def patient() -> dict[str, str]:
    """Our environment, in which the discovery waits for a Python as long as that takes on a machine at work."""
    return {"PY_DISCOVERY_TIMEOUT": PATIENCE_S, **os.environ}


def _environment(folders: list[str]) -> dict[str, str]:
    return {**patient(), "PATH": os.pathsep.join(folders)}


def _nearest(wish: str, every: list[Any]) -> Any:
    """The same minor version, else the next newer one, else the next older one; never another major one."""
    version = _minor(wish)
    if version is None:
        return None
    major, minor = version
    fitting = [info for info in every if info.version_info[0] == major]

    def distance(info: Any) -> tuple[bool, int, int]:
        away = info.version_info[1] - minor
        return away < 0, abs(away), -info.version_info[2]

    return min(fitting, key=distance, default=None)


def _minor(wish: str) -> tuple[int, int] | None:
    """The major and minor version that is asked for; None for a path, a range and other implementations."""
    try:
        major, minor = (*(int(part) for part in wish.split(".")), 0)[:2]
    except ValueError:
        return None
    return major, minor


def _described(info: Any) -> Interpreter:
    executable = info.system_executable or info.executable
    return {"executable": executable, "version": info.version_str.split("+")[0], "file": _identity(executable),
            "implementation": info.implementation, "platform": info.sysconfig_platform or info.platform}


def _search_folders() -> list[str]:
    """PATH, then where Pythons are otherwise kept; each once, only those that exist."""
    import glob
    told = (("PYENV_ROOT", "versions/*/bin"), ("UV_PYTHON_INSTALL_DIR", "*/bin"))
    patterns = [os.path.join(os.environ[name], below) for name, below in told if os.environ.get(name)] + list(PLACES)
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for pattern in patterns:
        folders += sorted(glob.glob(os.path.expanduser(pattern)), reverse=True)
    return [folder for folder in dict.fromkeys(folders) if os.path.isabs(folder) and os.path.isdir(folder)]


# ---- another place than the host

def _in_place(job: Job, wish: str) -> Interpreter:
    """Ask inside the place; an image that nothing has changed is asked once, but for a Python that is mounted: another
    folder may be there the next time."""
    from agentpipe.environment import image_packages
    from agentpipe.place import gear
    memory, local = "", gear.local_python(job.directory, job.manifest.get("place") or {})
    image = image_packages.remembered_as(job)
    if image and not any(image_packages.is_mounted(job, path) for path in (wish, local)):
        memory = paths.cache("interpreters", _memory_name(f"{image} {wish} {local}".rstrip()) + ".json")
        known = _remembered_in_place(memory)
        if known:
            return known
    names = [wish] if os.path.isabs(wish) else [f"python{wish}"] if wish[:1].isdigit() else []
    found = _first_answer(job, names)
    if found is None:
        found = _first_answer(job, [*([local] if local else []), "python3", "python"])
        if found is None:
            raise errors.Failure("there is no Python in this task's place", errors.NOT_FOUND,
                                 remedy=_remedy_without_python(job))
        if wish and not found["version"].startswith(wish) and not in_range(found["version"], wish):
            job.warn(f"Python {wish} is not in this place, {found['version']} ({found['executable']}) is taken instead")
    if memory and not job.option("dry_run") and not image_packages.is_mounted(job, found["executable"]):
        _remember(memory, found)
    return found


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
        known = {name: told[name] for name in ("executable", "version", "implementation", "platform")}
    except (ValueError, KeyError, RecursionError):
        return None
    is_one = all(isinstance(value, str) for value in known.values()) and re.fullmatch(r"\d+\.\d+[0-9A-Za-z.+_-]*",
                                                                                     known["version"])
    return known if is_one else None
