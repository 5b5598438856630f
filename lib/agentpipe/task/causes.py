"""Why a script ended badly, out of its last lines: causes that have a name, each with what mends it.

A cause is a function (task, evidence) → {reason, remedy or advice} or None; the first that knows the answer counts.
`remedy` is a command that can be typed as it is, `advice` is in words. Where a new one belongs:

    causes_python        another version of Python           causes_files         files not there, or not allowed
    causes_imports       what an import finds instead        causes_data          what stands in a file
    causes_modules       a module that is not there          causes_requirements  a line of a list of packages (set-up)
    causes_code          the code; packages that do not fit  causes_gpu           GPUs
    causes_command       arguments: argparse, click          causes_machine       programs, libraries, memory, disks
    causes_clis          arguments: Fire, Hydra              causes_network       hosts, ports, certificates
    causes_shell         lines of shell scripts              causes_signals       signals
    causes_processes     processes that import the script

Before them child_errors and tracebacks find what of a log tells of the end; last_words speaks where none knows.
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
    tracebacks,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.task.remedies import Known

    Cause = Callable[[dict[str, Any], str], Known | None]

# in this order: what names one module, program, file or argument; what a machine lacked; what an exception says of
# data, packages and networks; the line of a shell script. An earlier one is more certain of its words
CAUSES: tuple[Cause, ...] = (
    causes_python.cause, causes_imports.shadowed, causes_imports.relative, causes_modules.missing,
    causes_shell.returns, causes_machine.program, causes_shell.not_executable, causes_shell.no_script,
    causes_files.missing_file, causes_files.missing_folder, causes_files.forbidden, causes_command.argument,
    causes_clis.argument, causes_machine.memory, causes_gpu.cause, causes_machine.shared_memory,
    causes_machine.loader, causes_machine.disk, causes_machine.variable, causes_signals.rank, causes_code.numpy_2,
    causes_machine.library, causes_code.unfit_package, causes_code.encoding, causes_data.broken, causes_data.pointer,
    causes_data.read_above, causes_imports.optional, causes_network.cause, causes_shell.line)
UNCAUGHT = "exit 1"  # how Python ends by an exception that nothing caught
OTHER_END = re.compile(r"\bexit (?!1\b)\d")  # no Python ends so by one
LONGEST, MOST = 2000, 64 << 10  # characters of a line, and of a log, that are looked at


def of_setup(task: dict[str, Any], found: dict[str, Any]) -> Known:
    """What this machine knows of a task that could not be set up elsewhere; {} when it knows nothing more."""
    reason, advice = found.get("reason") or "", found.get("advice") or ""
    return causes_files.missing_entry(task, reason) or causes_requirements.index(task, reason, advice) or {}


def of_script(task: dict[str, Any], found: dict[str, Any]) -> Known:
    """What its evidence tells of a script that failed by itself, or for want of memory; {} when it tells nothing."""
    if found.get("class") not in ("script_failed", "out_of_memory"):
        return {}
    evidence, reason = _bounded(found.get("evidence") or ""), found.get("reason") or ""
    if found["class"] == "out_of_memory":
        return remedies.smaller(task, reason) or causes_machine.limited(task, reason) or {}
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
    end = tracebacks.ending(own, OTHER_END.search(reason) is None)
    for cause in (*CAUSES, *([causes_code.raised] if reason == UNCAUGHT else [])):
        if known := cause(task, end):
            return {**shown, **known, "reason": f"{known['reason']} ({_status(reason)})"}
    known = causes_signals.crash(task, reason, own_lines.crashed_at(task, evidence))
    known = known or last_words.of(task, evidence, end, reason)
    return {**shown, **known} if known else {}


def _bounded(text: str) -> str:
    """The end of a log; of a line of any length, as a server may have it, its begin and its end."""
    lines = (line if len(line) <= LONGEST else f"{line[:LONGEST // 2]} … {line[-LONGEST // 2:]}"
             for line in text.split("\n"))
    return "\n".join(lines)[-MOST:]


def _status(reason: str) -> str:
    """The exit status alone, where the rest is said better by the cause."""
    found = re.search(r"\((exit \d+)\)$|^(exit \d+), as a shell ends ", reason)
    return (found[1] or found[2]) if found else reason
