"""agent-prepare --target DIR: code and environment of a task, whole and by themselves, to be used without us."""

from __future__ import annotations

import os

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from agentpipe.installers.policy import Policy
    from agentpipe.interpreters import Interpreter
    from agentpipe.job import Job
    from agentpipe.python_env import Base
    from agentpipe.requirements import Requirements


def folder(job: Job, *parts: str) -> str:
    """A path below --target; "" without one."""
    target = job.option("target")
    return os.path.join(os.path.abspath(target), *parts) if target else ""


def make(target: str) -> None:
    """The directory, which must be new, empty, or one that we have made: else Failure 73."""
    try:
        os.makedirs(target, exist_ok=True)
        others = set(os.listdir(target)) - {"code", "env", "run"}
    except OSError as error:
        raise errors.Failure(f"cannot create {target}: {error.strerror}", errors.CANNOT_CREATE,
                             remedy="name another --target") from None
    if others:
        raise errors.Failure(f"{target} holds other things: {', '.join(sorted(others)[:3])}", errors.CANNOT_CREATE,
                             remedy="name a new --target")


def build(job: Job, interpreter: Interpreter, asked: Requirements, policy: Policy, installer: ModuleType) -> Base:
    """An environment with everything in it at TARGET/env, of no cache; as a base that needs no overlay."""
    import shutil

    from agentpipe import installed, installers, pins
    from agentpipe.installers import conda, ways
    directory = folder(job, "env")
    shutil.rmtree(directory, ignore_errors=True)
    if asked.conda:
        interpreter, found = conda.build(job, directory, interpreter, asked, policy)
        if asked.projects:
            installer.projects(job, directory, asked.projects, asked)
        return {"packages": installed.packages(directory, asked.names()), "pins": asked.pins if asked.exact else found,
                "installer": "conda", "directory": directory, "interpreter": interpreter,
                "variables": conda.variables(directory)}
    seeded = installer.create(job, interpreter, directory, policy.system)
    pip = "" if seeded else installers.pip_requirement(interpreter["version"])
    found = ways.install(job, directory, asked, policy, installer, pip)
    if asked.projects:
        installer.projects(job, directory, asked.projects, asked)
    packages = installed.packages(directory, asked.names())
    return {"packages": packages, "pins": asked.pins if asked.exact else pins.matching(found, packages),
            "installer": policy.tool, "directory": directory, "interpreter": interpreter, "variables": {}}


def write_start(job: Job) -> None:
    """TARGET/run: a script that starts the task's program, with further arguments if there are any."""
    import shlex

    from agentpipe import files, launch
    begin = launch.of(job.manifest, job.directory, {})
    env: dict[str, Any] = job.manifest["env"]
    lines = ["#!/bin/sh", f"# {job.task.get('name') or job.task.get('id')}, prepared by agent-prepare --target",
             f"cd {shlex.quote(begin.cwd)} || exit",
             f"PATH={shlex.quote(os.pathsep.join(env.get('path') or []))}${{PATH:+:$PATH}}; export PATH",
             f"PYTHONPATH={shlex.quote(begin.env['PYTHONPATH'])}; export PYTHONPATH",
             *(f"{name}={shlex.quote(value)}; export {name}" for name, value in (env.get("variables") or {}).items()),
             f'exec {shlex.join(begin.argv)} "$@"']
    files.publish(folder(job, "run"), ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"), 0o755)
