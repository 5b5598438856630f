"""A command in the place of a stage: $AGENT_STAGE_FETCH and its like get the line on stdin and answer with it."""

from __future__ import annotations

import os

from agentpipe import errors, hooks, manifest
from agentpipe.claim import attempt, claims
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agentpipe.held import Held


class StageFailed(errors.Failure):
    """A swapped stage failed: `failed` as it stands in its answer."""

    def __init__(self, failed: dict[str, Any]) -> None:
        super().__init__(failed["reason"], failed["exit"], failed.get("evidence", ""), failed.get("remedy", ""))
        self.failed = failed


class GivenBack(errors.Failure):
    """The command in the place of a stage is one of ours that could not begin: it has given the task back."""


def unusable() -> Iterator[errors.Failure]:
    """The commands in the place of a stage that a shell would not find, or of what is no stage, as Failures 78."""
    import re
    import subprocess

    from agentpipe.hook_files import STAGES
    known = [f"AGENT_STAGE_{stage.upper()}" for stage in STAGES]
    for name in sorted(name for name in os.environ if name.startswith("AGENT_STAGE_")):
        if name not in known:
            yield errors.Failure(f"{name} stands in the place of no stage", errors.BAD_CONFIG,
                                 remedy=f"it is one of {', '.join(known)}")
            continue
        program = os.environ[name].split(" ")[0]
        if re.fullmatch(r"[\w./+-]+", program) and subprocess.run(
                ["sh", "-c", 'command -v -- "$1"', "sh", program], stdout=subprocess.DEVNULL, check=False).returncode:
            yield errors.Failure(f"{name}: there is no {program}", errors.BAD_CONFIG,
                                 remedy="correct it, install it, or unset it")


def through(held: Held, stage: str, key: str, shell_command: str) -> None:
    """The line through `shell_command`, which is to add `key`; what it answers is the line now.

    It holds the claim meanwhile. StageFailed, GivenBack; Failure 78 where a shell found no such program, 65 for what is
    no manifest of this task, and its own exit code.
    """
    from agentpipe import processes, tools
    line = manifest.write(held.manifest)
    with SIGNALS.closed():
        attempt.store_manifest(held.claim.directory, line)
        held.quiet()
        held.claim.hand(stage, {"process": processes.identity(os.getpid()), "owner": True})
        held.claim.release()
    held.job.say(f"{stage}: {shell_command}")
    variable, problem, answer = f"AGENT_STAGE_{stage.upper()}", None, b""
    command = f"{variable} ({shell_command})"

    def wrong(what: str, code: int = errors.BAD_DATA) -> errors.Failure:
        return errors.Failure(f"{command}{what}", code, remedy=f"unset {variable}, or mend the command")

    try:
        answer = tools.run(["sh", "-c", shell_command], stdin=line, stderr=held.job.log,
                           most=hooks.MOST + 2 * len(line)).encode("utf-8", "surrogateescape")
    except tools.TooMuch as much:
        raise wrong(f": {much}, which is no manifest") from None
    except tools.ToolFailed as failed:
        answer = failed.output.encode()
        status = failed.status or 1
        missing = status in (126, 127)
        problem = wrong(f" {tools.ended(status)}",
                        errors.BAD_CONFIG if missing else status if status > 0 else 128 - status)
        problem.of_machine = missing  # other codes are the program's own
    finally:
        with SIGNALS.closed():
            held.claim = _taken_again(held, command, answer)
    held.begin()
    try:
        found = manifest.read(answer.strip().rpartition(b"\n")[2])
    except errors.Failure as failure:
        said = f"answered {failure.reason}" if answer.strip() else "printed nothing"
        raise problem or wrong(f" {said}") from None
    if "failed" in found:
        raise StageFailed(found["failed"])
    if found["task"].get("id") != held.id or found.get("pull") != held.manifest.get("pull"):
        raise wrong(" answered with another task")
    if key not in found:
        raise wrong(f" added no `{key}`")
    held.use(found)


def _taken_again(held: Held, command: str, answer: bytes) -> claims.Claim:
    """Our claim, which a swapped stage had meanwhile; GivenBack where it said that it could not begin."""
    try:
        return claims.take(held.manifest, held.stage)
    except claims.NotOurs:
        try:
            found = manifest.read(answer.strip())
        except errors.Failure:
            found = {}
        if "failed" not in found or "task" in found:
            raise
        code = found["failed"]["exit"]
        raise GivenBack(f"{command}: {found['failed']['reason']}", errors.BAD_CONFIG if code == errors.USAGE else code,
                        remedy=found["failed"].get("remedy", "")) from None
