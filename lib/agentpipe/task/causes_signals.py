"""Causes in a signal that has ended a script, a program of a shell script, or a process of torchrun."""

from __future__ import annotations

import re
import signal

from agentpipe.task.remedies import again, edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE")
FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
# as report/own_end.py says it: of the script, and of a program that a shell has called
ENDED = re.compile(r"ended by (SIG\w+)$|^(exit \d+), as a shell ends when (SIG\w+) ")
# of torchrun: the first of its processes that failed
RANK = re.compile(r"^Root Cause \(first observed failure\):\n(?:.*\n){1,5}?\s*rank\s*: (\d+).*\n"
                   r"\s*exitcode\s*: -(\d+) ", re.MULTILINE)


def from_outside(task: dict[str, Any], reason: str) -> Known | None:
    """A signal that somebody has sent: whatever the script had printed before, that was not its end."""
    said = ENDED.search(reason)
    name = said and (said[1] or said[3])
    if not said or name not in FROM_OUTSIDE:
        return None
    what = f"a program of it, which no agent has sent ({said[2]})" if said[2] else "it, which no agent has sent"
    return {"reason": f"{name} ended {what}", "remedy": again(task), "advice":
            "if it comes again: look for who sends it on the worker (the script itself, a limit of memory, an "
            "administrator)"}


def crash(task: dict[str, Any], reason: str, where: object = None) -> Known | None:
    """A program that has crashed: `reason` is "ended by SIGNAL", `where` the line of it, if it is known."""
    name = reason.rpartition("ended by ")[2]
    if name == "SIGILL":
        return {"reason": "its program is not built for this worker's processor", "advice":
                f"another worker, or other versions of its packages: agent-task enqueue --queue QUEUE {task['id']}"}
    if name not in CRASHES:
        return None
    return {"reason": f"a compiled part of it crashed: {name}" + (f", at {where}" if where else ""),
            "remedy": _traced(task), "advice": "other versions of its compiled packages, or other data"}


def rank(task: dict[str, Any], evidence: str) -> Known | None:
    """A process of torchrun that a signal has ended."""
    said = RANK.findall(evidence)
    if not said or "Traceback (most recent call last):" in evidence[evidence.rfind("Root Cause (first"):]:
        return None
    try:
        ended = f"ended by {signal.Signals(int(said[-1][1])).name}"
    except ValueError:
        return None
    known = from_outside(task, ended) or crash(task, ended)
    return {**known, "reason": f"rank {said[-1][0]}: {known['reason']}"} if known else None


def _traced(task: dict[str, Any]) -> str | None:
    """The same in a Python that says where it crashes; None when it did."""
    from agentpipe.code import entry
    binary = (task.get("script") or {}).get("binary") or "python3"
    if "faulthandler" in binary or not entry.is_python(binary):
        return None
    return edit(task, "--binary", f"{binary} -X faulthandler")
