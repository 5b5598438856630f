"""The part of `agent-task enqueue --check` about packages: do they resolve for the task's Python; nothing is installed.

What only a worker can know (an image's own packages, another manager's section) is said, so that nobody takes it for
looked at.
"""

from __future__ import annotations

import os

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.environment.installers.policy import Policy
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job


def check(job: Job, say: Callable[[str], None]) -> None:
    """Say to how many packages they resolve, and what was not looked at; Failure as agent-env would have it."""
    from agentpipe.environment import git_pins, requirements
    from agentpipe.environment.installers import policy as policies
    binary = str(job.task["script"].get("binary") or "")
    asked = requirements.of_task(job)
    asked.also((job.manifest.get("patch") or {}).get("packages"))
    if not asked.conda:
        _other_manager(job, say)
    if asked.empty():
        say("check: nothing is to be installed")
        return
    policy = policies.of(job, asked)
    git_pins.settle(job, asked)
    for note in asked.notes:
        say(f"check: {note}")
    version = _version(binary)
    _of_this_machine(asked, say)
    if asked.conda:
        version = _conda(job, asked, version, say)
    if asked.file_text():
        _pip(job, asked, policy, version, say)
    image = (job.task.get("container") or {}).get("image")
    if image:
        say(f"check: what {image.split()[0]} has, and which Python, is not known here")


def _other_manager(job: Job, say: Callable[[str], None]) -> None:
    """A conda section counts only for workers that use conda."""
    from agentpipe.environment import requirements
    record = requirements.recorded(job)
    if record.get("conda") or record.get("conda_env_json"):
        say("check: the task's conda section is not looked at: it counts for workers whose "
            "agent.package_manager.type is conda (CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE=conda looks at it)")


def _of_this_machine(asked: Requirements, say: Callable[[str], None]) -> None:
    """Folders and files outside the checkout are here, and maybe nowhere else."""
    from agentpipe.environment import requirements
    for path in [*(each.path for each in asked.projects), *(each.path for each in asked.archives)]:
        if not requirements.inside(path, asked.code):
            say(f"check: {path} is on this machine: a worker elsewhere does not have it (--bundle takes it along)")


def _conda(job: Job, asked: Requirements, version: str, say: Callable[[str], None]) -> str:
    """Solve the conda part; the version of the Python that it brings (`version` where nobody can tell)."""
    from agentpipe.environment.installers import conda
    if not conda.is_installed():
        say(f"check: the conda packages of {asked.origin} are not looked at: that needs the extra agentpipe[conda]")
        return version
    records = conda.solved(job, asked, conda.interpreter(job, asked))
    python = next((str(record.version) for record in records if record.name.normalized == "python"), "")
    if not python:
        raise errors.Failure("the conda environment has no python", errors.BAD_DATA,
                             remedy="add python to its dependencies")
    say(f"check: {asked.origin} resolves to {len(records)} conda packages, Python {python} among them")
    return python


def _pip(job: Job, asked: Requirements, policy: Policy, version: str, say: Callable[[str], None]) -> None:
    """Resolve the list as agent-env would, with the same second tries."""
    import sys

    from agentpipe.environment import pins
    from agentpipe.environment.installers import uv, ways
    target = version or "{}.{}".format(*sys.version_info[:2])

    def compiled() -> list[dict[str, Any]]:
        return pins.read_lock(uv.lock(job, target, asked.file_text(), asked, policy, lambda text: None))

    packages = ways.tried(job, asked, policy, compiled, lambda failure: None)
    if packages is None:
        say(f"check: the requirements are not tried: pip installs them on a worker, since {policy.why}")
        return
    _same_files(asked, packages)
    of = f" of {asked.origin}" if asked.origin not in ("", "the task's requirements") else ""
    counted = f"{len(packages)} package{'s' * (len(packages) != 1)}"
    say(f"check: the requirements{of} resolve to {counted}{f' for Python {version}' if version else ''}")


def _same_files(asked: Requirements, packages: list[dict[str, Any]]) -> None:
    """Failure 65 for a package none of whose files has a hash of the list."""
    import re

    from agentpipe.environment.requirements import NAME, normalised
    there = {normalised(each["name"]): {str((file.get("hashes") or {}).get("sha256")) for file in [
        *(each.get("wheels") or []), each.get("sdist") or {}, each.get("archive") or {}]} for each in packages}
    for line in asked.packages:
        wanted, match = set(re.findall(r"--hash[= ]sha256:([0-9a-f]+)", line)), re.match(NAME, line)
        known = there.get(normalised(match[1])) if match else None
        if match and wanted and known and known - {"None"} and not wanted & known:
            raise errors.Failure(f"{match[1]}: no file in the index has the hash that is recorded", errors.BAD_DATA,
                                 remedy=f"find out who replaced {match[1]}, or record its new hash")


def _version(binary: str) -> str:
    """The Python that `script.binary` names ("python3.11": "3.11"); "" when it leaves that to the worker."""
    import re
    found = re.fullmatch(r"python(\d+\.\d+(?:\.\d+)?)", os.path.basename(binary.split(" ")[0]))
    return found[1] if found else ""
