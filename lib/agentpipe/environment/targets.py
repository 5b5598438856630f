"""agent-prepare --target DIR: code and environment of a task, whole and by themselves, to be used without us."""

from __future__ import annotations

import os

from agentpipe import errors, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from agentpipe.environment.discovery import Interpreter
    from agentpipe.environment.installers.policy import Policy
    from agentpipe.environment.python_env import Base
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job


def folder(job: Job, *parts: str) -> str:
    """A path below --target; "" without one."""
    target = job.option("target")
    return os.path.join(os.path.abspath(target), *parts) if target else ""


MARK = ".agentpipe-target"  # says that what is in the folder is ours
_made: set[str] = set()  # by this process, each for one task


def make(target: str) -> None:
    """The directory, which must be new, empty, or one that we have made: else Failure 73; 64 for a second task."""
    if target in _made:
        raise errors.Failure(f"{target} has got another task just now", errors.USAGE,
                             remedy="--target takes one task: give each a directory of its own")
    try:
        os.makedirs(target, exist_ok=True)
        others = set(os.listdir(target))
        if MARK in others:
            others -= {MARK, "code", "env", "run"}
        if not others:
            open(os.path.join(target, MARK), "w").close()
            _made.add(target)
    except OSError as error:
        gone = os.path.islink(target) and not os.path.exists(target)
        why = f"it is a link to {os.readlink(target)}, which is not there" if gone else error.strerror
        raise errors.Failure(f"cannot create {target}: {why}", errors.CANNOT_CREATE,
                             remedy="name another --target") from None
    if others:
        raise errors.Failure(f"{target} holds other things: {', '.join(sorted(others)[:3])}", errors.CANNOT_CREATE,
                             remedy="name a new --target")


def build(job: Job, interpreter: Interpreter, asked: Requirements, policy: Policy, installer: ModuleType) -> Base:
    """An environment with everything in it at TARGET/env, of no cache; as a base that needs no overlay."""
    from agentpipe.environment import installed, installers, local_packages, pins, requirements
    from agentpipe.environment.installers import conda, ways
    directory = folder(job, "env")
    trees.discard(directory)
    if asked.conda:
        interpreter, found = conda.build(job, directory, interpreter, asked, policy)
    else:
        seeded = installer.create(job, interpreter, directory, policy.system)
        pip = "" if seeded else installers.pip_requirement(interpreter["version"])
        found = ways.install(job, directory, asked, policy, installer, pip)
    local_packages.add(asked, asked.found, requirements.folders(job)[1])
    if asked.projects:
        installer.projects(job, directory, asked.projects, asked)
    packages = installed.packages(directory, asked.names())
    of_these = found if asked.conda else pins.matching(found, packages)
    return {"packages": packages, "pins": asked.pins if asked.exact else of_these, "directory": directory,
            "interpreter": interpreter, "installer": "conda" if asked.conda else policy.tool,
            "variables": {**conda.variables(directory), **asked.conda.variables} if asked.conda else {}}
