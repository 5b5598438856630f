"""Why a script ended badly, out of its last lines: causes that have a name, each with what mends it.

A cause is a function (task, evidence) → {reason, remedy or advice} or None; the first that knows the answer counts.
`remedy` is a command that can be typed as it is, `advice` is in words.
"""

from __future__ import annotations

import re

from agentpipe.report import own_end
from agentpipe.task import (
    causes_clis,
    causes_code,
    causes_command,
    causes_data,
    causes_files,
    causes_gpu,
    causes_imports,
    causes_machine,
    causes_modules,
    causes_network,
    causes_processes,
    causes_python,
    causes_requirements,
    causes_shell,
    causes_signals,
    child_errors,
    last_words,
    own_lines,
    package_lines,
    remedies,
    rich_boxes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.task.remedies import Known

    Cause = Callable[[dict[str, Any], str], Known | None]

CAUSES: tuple[Cause, ...] = (
    causes_python.cause, causes_imports.shadowed, causes_imports.relative, causes_modules.missing, causes_shell.returns,
    causes_machine.program, causes_shell.not_executable, causes_shell.no_script, causes_files.missing_file,
    causes_files.missing_folder, causes_files.forbidden, causes_command.argument, causes_clis.argument,
    causes_machine.memory, causes_gpu.cause, causes_machine.shared_memory, causes_machine.loader, causes_machine.disk,
    causes_machine.variable, causes_signals.rank, causes_code.numpy_2, causes_machine.library,
    causes_code.unfit_package, causes_code.encoding, causes_data.broken, causes_data.pointer, causes_imports.optional,
    causes_network.cause, causes_shell.line)
UNCAUGHT = "exit 1"  # how Python ends by an exception that nothing caught


def of_setup(task: dict[str, Any], found: dict[str, Any]) -> Known:
    """What this machine knows of a task that could not be set up elsewhere; {} when it knows nothing more."""
    reason, advice = found.get("reason") or "", found.get("advice") or ""
    return causes_files.missing_entry(task, reason) or causes_requirements.index(task, reason, advice) or {}


def of_script(task: dict[str, Any], found: dict[str, Any]) -> Known:
    """What its evidence tells of a script that failed by itself, or for want of memory; {} when it tells nothing."""
    if found.get("class") not in ("script_failed", "out_of_memory"):
        return {}
    evidence, reason = found.get("evidence") or "", found.get("reason") or ""
    if found["class"] == "out_of_memory":
        return remedies.smaller(task, reason) or {}
    if own_end.FULL in reason:
        return causes_machine.full(task)
    printed = rich_boxes.plain(package_lines.without(evidence))
    own = child_errors.last(printed)
    shown = {"remedy": None, "advice": None, **({"evidence": own} if own != printed else {})}
    known = causes_signals.from_outside(task, reason)
    if known:
        return {**shown, **known}
    if known := causes_processes.unguarded(task, printed):
        return {**shown, **known, "reason": f"{known['reason']} ({_status(reason)})"}
    for cause in (*CAUSES, *([causes_code.raised] if reason == UNCAUGHT else [])):
        if known := cause(task, own):
            return {**shown, **known, "reason": f"{known['reason']} ({_status(reason)})"}
    known = causes_signals.crash(task, reason, own_lines.crashed_at(task, evidence))
    known = known or last_words.of(task, evidence, own, reason)
    return {**shown, **known} if known else {}


def _status(reason: str) -> str:
    """The exit status alone, where the rest is said better by the cause."""
    found = re.search(r"\((exit \d+)\)$|^(exit \d+), as a shell ends ", reason)
    return (found[1] or found[2]) if found else reason
