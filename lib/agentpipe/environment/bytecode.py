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
    from agentpipe.environment import compile_ahead, installed
    from agentpipe.place import processors
    count = min(MOST, processors.count() - 1)
    if count < 1 or job.prefix or base["size"] < SMALL or os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return []
    with open(compile_ahead.__file__, encoding="utf-8") as file:
        source = file.read()
    directory = base["directory"]
    words = [os.path.join(directory, "bin", "python"), "-I", "-c", source, os.path.join(directory, base["site"])]
    modules = installed.modules(directory, asked.names())
    found = []
    for number in range(count):
        try:
            found.append(subprocess.Popen([*words, str(number), script_of(job), *modules], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                                          start_new_session=True))
        except OSError:  # no more processes may be started: it is only help
            break
    return found


def script_of(job: Job) -> str:
    """The path of the task's script; "" when it has none that is Python's."""
    code, patch = (job.manifest.get("fetch") or {}).get("code"), job.manifest.get("patch") or {}
    name = str(patch.get("entry_point") or "")
    return os.path.join(code, patch.get("working_dir") or ".", name) if code and name.endswith(".py") else ""
