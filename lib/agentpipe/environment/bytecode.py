"""Byte-code of a new environment, written while its first task starts, on processors that the task leaves idle.

A first import of numpy, scipy, pandas and scikit-learn takes ten seconds, nine of which go into compiling them.
"""

from __future__ import annotations

import os
import subprocess

from agentpipe import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

# the script compiles fewer bytes by itself before anybody could help
SMALL = 16 * units.MIB
# each goes over what the others have done: more help little
MOST = 4


def ahead(job: Job, base: dict[str, Any], asked: Requirements) -> list[subprocess.Popen[bytes]]:
    """Start compiling what the task's script will import, else what was asked for; nobody waits for it.

    One process less than it may keep processors busy, at the lowest priority; it ends by itself, and whoever imports
    a module that is not compiled yet does what it would have done anyway. Not in a place of another file system.
    """
    from agentpipe.environment import installed
    from agentpipe.place import processors
    count = min(MOST, processors.count() - 1)
    if count < 1 or job.prefix or base["size"] < SMALL:
        return []
    directory = base["directory"]
    words = [*_python(directory, "compile_ahead"), os.path.join(directory, base["site"])]
    modules = installed.modules(directory, asked.names())
    found = []
    for number in range(count):
        try:
            found.append(subprocess.Popen([*words, str(number), script_of(job), *modules], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                                          env=_variables(), start_new_session=True))
        except OSError:  # no more processes may be started: it is only help
            break
    return found


def unloadable(directory: str) -> list[str]:
    """Remove what cannot be loaded of the byte-code in an environment that was built here; the paths in it."""
    try:
        done = subprocess.run([*_python(directory, "check_bytecode"), directory], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, cwd="/",
                              env=_variables())
    except OSError:  # its Python is gone
        return []
    return [os.fsdecode(line) for line in done.stdout.splitlines()]


def _python(directory: str, module: str) -> list[str]:
    """An environment's Python with the text of this module of ours; of the packages there nothing is executed (-S)."""
    with open(os.path.join(os.path.dirname(__file__), f"{module}.py"), encoding="utf-8") as file:
        return [os.path.join(directory, "bin", "python"), "-I", "-S", "-c", file.read()]


def _variables() -> dict[str, str]:
    """Nothing of ours, but for what an interpreter may need to start."""
    return {"LC_ALL": "C.UTF-8", **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}}


def script_of(job: Job) -> str:
    """The path of the task's script; "" when it has none that is Python's."""
    code, patch = (job.manifest.get("fetch") or {}).get("code"), job.manifest.get("patch") or {}
    name = str(patch.get("entry_point") or "")
    return os.path.join(code, patch.get("working_dir") or ".", name) if code and name.endswith(".py") else ""
