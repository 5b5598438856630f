"""What agent-prepare does otherwise than for a run here and now: --target, --image, --stage-only, --offline,
--wheelhouse."""

from __future__ import annotations

import os

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.held import Held
    from agentpipe.job import Job
    from agentpipe.place.decide import Container


def begin(job: Job) -> None:
    """Settle what the options ask for, before anything is done; 64 for those that contradict each other."""
    if job.option("target") == "":
        raise errors.Failure("--target is empty", errors.USAGE, remedy="name a directory")
    if job.option("target") and job.option("stage_only"):
        raise errors.Failure("--target and --stage-only are two different things", errors.USAGE,
                             remedy="agent-prepare --help")
    if job.option("offline"):
        if job.option("stage_only"):
            raise errors.Failure("--stage-only needs the network, --offline forbids it", errors.USAGE,
                                 remedy="agent-prepare --help")
        os.environ["AGENT_OFFLINE"] = "1"
    if job.option("wheelhouse"):
        os.environ["AGENT_WHEELHOUSE"] = os.path.abspath(job.options["wheelhouse"])
    if job.option("target"):
        from agentpipe.environment import targets
        if not job.option("dry_run"):
            targets.make(targets.folder(job))
        job.options["place"] = "host"  # what it leaves must work without an engine


def check_place(job: Job, wanted: Container) -> None:
    """A place that the options do not go with: Failure 64."""
    if job.option("image") and wanted.engine in ("docker", "podman"):
        from agentpipe.prepare import image
        image.check_base(job.options["image"], wanted.image)


def end(held: Held, came: dict[str, Any]) -> None:
    """Leave what the options ask for: a script to start with, or filled caches alone."""
    job = held.job
    if job.option("dry_run"):
        return
    if job.option("target"):
        write_start(job)
    if job.option("image"):
        from agentpipe.prepare import image
        saved = image.save(job)
        job.say(f"saved as image {saved['name']} ({saved['id'][:19]})")
        came = {**came, "saved": saved}
    if job.option("stage_only") or job.option("image"):
        from agentpipe import place, trees
        place.leave(job.directory, job.say)
        trees.discard(job.path("code"))
        held.use({**came, "manifest": held.manifest["manifest"], "task": held.manifest["task"]})


def write_start(job: Job) -> None:
    """TARGET/run: a script that starts the task's program, with further arguments if there are any."""
    import re
    import shlex

    from agentpipe import files
    from agentpipe.environment import targets
    from agentpipe.run import launch
    begin = launch.of(job.manifest, job.directory, {})
    env: dict[str, Any] = job.manifest["env"]
    variables: dict[str, str] = env.get("variables") or {}
    plain = {name: value for name, value in variables.items() if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)}
    # what is no name to a shell (my.var) env(1) takes all the same
    others = [f"{name}={value}" for name, value in variables.items() if name not in plain]
    argv = ["env", "--", *others, *begin.argv] if others else begin.argv
    name = " ".join(str(job.task.get("name") or job.task.get("id")).split())  # of one line
    lines = ["#!/bin/sh", f"# {name}, prepared by agent-prepare --target",
             f"cd {shlex.quote(begin.cwd)} || exit",
             f"PATH={shlex.quote(os.pathsep.join(env.get('path') or []))}${{PATH:+:$PATH}}; export PATH",
             f"PYTHONPATH={shlex.quote(begin.env['PYTHONPATH'])}; export PYTHONPATH",
             *(f"{name}={shlex.quote(value)}; export {name}" for name, value in plain.items()),
             f'exec {shlex.join(argv)} "$@"']
    files.publish(targets.folder(job, "run"), ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"), 0o755)
