"""Why a script ended badly, out of its last lines: causes that have a name, each with what mends it.

A cause is a function (task, evidence) → {reason, remedy or advice} or None; the first that knows the answer counts.
`remedy` is a command that can be typed as it is, `advice` is in words.
"""

from __future__ import annotations

from agentpipe.report import own_end
from agentpipe.task import (
    causes_code,
    causes_command,
    causes_files,
    causes_gpu,
    causes_machine,
    causes_modules,
    causes_python,
    last_words,
    own_lines,
    package_lines,
    remedies,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.task.remedies import Known

    Cause = Callable[[dict[str, Any], str], Known | None]

CAUSES: tuple[Cause, ...] = (
    causes_python.cause, causes_modules.missing, causes_machine.program, causes_files.missing_file,
    causes_files.missing_folder, causes_files.forbidden,
    causes_command.argument, causes_machine.memory, causes_gpu.cause, causes_machine.disk, causes_machine.variable,
    causes_code.numpy_2, causes_machine.library, causes_code.unfit_package, causes_code.encoding)
UNCAUGHT = "exit 1"  # how Python ends by an exception that nothing caught


def of_setup(task: dict[str, Any], found: dict[str, Any]) -> Known:
    """What this machine knows of a task that could not be set up elsewhere; {} when it knows nothing more."""
    return causes_files.missing_entry(task, found.get("reason") or "") or {}


def of_script(task: dict[str, Any], found: dict[str, Any]) -> Known:
    """What its evidence tells of a script that failed by itself, or for want of memory; {} when it tells nothing."""
    if found.get("class") not in ("script_failed", "out_of_memory"):
        return {}
    evidence, reason = found.get("evidence") or "", found.get("reason") or ""
    if found["class"] == "out_of_memory":
        return remedies.smaller(task, reason) or {}
    if own_end.FULL in reason:
        return causes_machine.full(task)
    own = package_lines.without(evidence)
    for cause in (*CAUSES, *([causes_code.raised] if reason == UNCAUGHT else [])):
        known = cause(task, own)
        if known:
            return {"remedy": None, "advice": None, **known, "reason": f"{known['reason']} ({reason})"}
    known = causes_machine.signal(task, reason, own_lines.crashed_at(task, evidence))
    known = known or last_words.of(task, evidence, reason)
    return {"remedy": None, "advice": None, **known} if known else {}
