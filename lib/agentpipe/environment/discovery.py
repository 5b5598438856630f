"""The Pythons of this machine, by virtualenv's discovery: those of PATH, and where installers put them otherwise.

An interpreter is a dict: `executable` (the system's own, never a virtual environment's), `version` ("3.11.7"),
`implementation` ("CPython"), `platform` ("linux-x86_64").
"""

from __future__ import annotations

import os

from agentpipe import errors, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Interpreter = dict[str, Any]

# where installers put Pythons that are on nobody's PATH
PLACES = ("/usr/local/bin", "/usr/bin", "/opt/*/bin", "/opt/conda/envs/*/bin", "~/.pyenv/versions/*/bin",
          "~/.asdf/installs/python/*/bin", "~/.local/share/mise/installs/python/*/bin", "~/miniconda3/bin",
          "~/miniforge3/bin", "~/mambaforge/bin", "~/anaconda3/bin", "~/.local/share/uv/python/*/bin", "~/.local/bin")
OLDEST = (3, 6)  # what uv and virtualenv can still fill
# for a Python to say what it is, which it is asked twice: one that is late is not there while that is remembered
PATIENCE_S = "60"


def every() -> list[Interpreter]:
    """All CPythons of this machine that a task can get."""
    folders = _search_folders()
    return [_described(info) for info in _all(_memory_of_discovery(), folders, _environment(folders))]


def search(wish: str, remembers: bool = True) -> Interpreter:
    """The Python that is wished for (as interpreters.wanted() says it), or the next best one.

    The answer also has `warning` (of another version than the wished one, else ""), and what shows later whether it
    still holds: `file` (its identity()) and, of a next best one, `folders` ({path: mtime()}). With `remembers` what
    each file has said of itself is kept. Failure 66, with a list of what is there, when none fits.
    """
    folders = _search_folders()
    environment = _environment(folders)
    cache = _memory_of_discovery() if remembers else None
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
    return {**_described(near), "warning": warning, "folders": {folder: mtime(folder) for folder in folders}}


def in_range(version: str, wish: str) -> bool:
    """Whether `wish` is a range (">=3.10,<4") that has this version.

    A warm run asks, and python_discovery alone would be a good part of its time.
    """
    import re
    told = re.match(r"\d+(?:\.\d+)*", version)
    if not told or not wish.startswith(("<", ">", "=", "!", "~")):
        return False
    numbers = _three(told[0])
    limits = re.sub(r"\s", "", wish).strip(",").split(",")
    parts = [re.fullmatch(r"([<>]=?|[=!~]=)(\d+(?:\.\d+)*)(\.\*)?", limit) for limit in limits]
    return all(part and _fits(numbers, part[1], part[2], bool(part[3])) for part in parts)


def _fits(numbers: list[int], operator: str, text: str, every: bool) -> bool:
    """Whether a version is such a limit's, as PEP 440 has it; `every`: with any number behind it (3.11.*)."""
    limit, length = _three(text), text.count(".") + 1
    if operator in ("==", "!="):
        same = numbers[:length] == limit[:length] if every else numbers == limit
        return same == (operator == "==")
    if every:  # of an order there is no such limit
        return False
    if operator == "~=":
        return numbers >= limit and numbers[:length - 1] == limit[:length - 1]
    return {"<": numbers < limit, "<=": numbers <= limit, ">": numbers > limit, ">=": numbers >= limit}[operator]


def _three(version: str) -> list[int]:
    return [*map(int, version.split(".")), 0, 0][:3]


def patient() -> dict[str, str]:
    """Our environment, in which the discovery waits for a Python as long as that takes on a machine at work."""
    return {"PY_DISCOVERY_TIMEOUT": PATIENCE_S, **os.environ}


def identity(path: str) -> list[int]:
    """What tells a file from another one in its place: [device, inode, modified (ns)]; OSError when it is gone."""
    found = os.stat(path)
    return [found.st_dev, found.st_ino, found.st_mtime_ns]


def mtime(path: str) -> int:
    """When it was last modified (ns); 0 where it is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _other(every: list[Any]) -> tuple[str, ...]:
    """The options of `agent-task edit` that take the newest Python of this machine."""
    versions = sorted((tuple(info.version_info)[:2] for info in every), reverse=True)
    return ("--python", f"{versions[0][0]}.{versions[0][1]}") if versions else ()


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
    return {"executable": executable, "version": info.version_str.split("+")[0], "file": identity(executable),
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
