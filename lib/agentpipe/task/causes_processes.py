"""A cause in the processes that a script starts: it is imported by each of them, and starts them once more."""

from __future__ import annotations

import re

from agentpipe.task import own_lines, tracebacks
from agentpipe.task.remedies import again, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

# what multiprocessing raises in such a child, from its first word on (spawn._check_not_importing_main); where the
# beginning of a log is cut off, what its words end with
STARTED = re.compile(r"\n +_check_not_importing_main\(\)\n(?: .*\n)*RuntimeError: *\n"
                     r" +An attempt has been made to start a new process before the\n"
                     r"(?:[ \t]+\S.*\n|[ \t]*\n(?=[ \t]))*")
# the same in a script that says first how they are to be started: as its own file, and no module, is run again
CHOSEN = re.compile(r"\n +_fixup_main_from_path\(.*\n(?: .*\n)*?  File .*, in _run_code\n(?: {4}.*\n)*"
                    r"  File .*, in <module>\n {4}.*\bset_start_method\(.*\n(?: {4}.*\n)*"
                    r"  File .*, in set_start_method\n(?: {4}.*\n)*RuntimeError: context has already been set\b")
REST = re.compile(r"\A(?:[ \t].*\n|\n)*"
                  r" +The \"freeze_support\(\)\" line can be omitted if the program\n(?:[ \t]+\S.*\n)*")
GUARD = 'if __name__ == "__main__":'
MODULE = re.compile(r', in <module>$')


def unguarded(task: dict[str, Any], printed: str) -> Known | None:
    """A script that starts processes as it is imported; `printed` is all of the log's end, its children's included."""
    said = [*STARTED.finditer(printed)][-1:] or [*CHOSEN.finditer(printed)][-1:] or [*REST.finditer(printed)]
    if not said:
        return None
    at = printed.rfind(tracebacks.BEGIN, 0, said[0].start())
    child = printed[max(at, 0):said[0].end()]
    line = _imported(task, child)
    if not line and at >= 0 and (STARTED.search(child) or CHOSEN.search(child)):
        return None  # of another script, or a log that it prints
    reason = f"the processes that it starts import it anew, and what starts them is not below {GUARD.rstrip(':')}"
    script = own_lines.named(task, next(iter(words(task)), ""))
    if not line and not script.endswith(".py"):
        return {"reason": reason, "evidence": child, "advice": f"{_guarded('what starts them')}; then {again(task)}"}
    mend = own_lines.mended(task, line or own_lines.Line(script, 0))
    told = _guarded(f"line {line.number}, and what is to run once", line.text) if line else _guarded("what starts them")
    return {"reason": reason + (f", at {line}" if line else ""), "evidence": child, **mend,
            "advice": told if mend.get("remedy") else f"{told}: {mend['advice']}"}


def _imported(task: dict[str, Any], text: str) -> own_lines.Line | None:
    """The first line of the task's own code that runs as its file is imported: all below it is called from there."""
    lines = text.splitlines()
    return next((line for at, each in enumerate(lines) if MODULE.search(each)
                 and (line := own_lines.last(task, "\n".join(lines[at:at + 2])))), None)


def _guarded(what: str, text: str = "") -> str:
    return f"write {GUARD} above {what}, indented below it" + (f" ({text})" if text else "")
