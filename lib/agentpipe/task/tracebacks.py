"""Which of several tracebacks of a log is the end of its script: not one that was caught, printed, and outlived.

And what of the log then tells of that end.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    Chain = list[re.Match[str]]

CAUSED = "The above exception was the direct cause of the following exception:"
CHAINED = (CAUSED, "During handling of the above exception, another exception occurred:")
BEGIN = "Traceback (most recent call last):"
WHOLE = re.compile(rf"^{re.escape(BEGIN)}\n(?:[ \t].*\n|\n(?=[ \t]))*(?:\S.*\n?)?", re.MULTILINE)
# what Python prints of exceptions that end nothing, before their traceback
IGNORED = ("Exception ignored ", "--- Logging error ---", "Error in atexit._run_exitfuncs")
CALL_STACK = re.compile(r"Call stack:\n(?:[ \t].*\n)*")  # of a logging error, behind it
ASKED = "KeyboardInterrupt"  # how workers end that their parent takes down
# an exception that only says that something else has failed, which has told why before
OF_ANOTHER = re.compile(r"^(?![\w.]+: Caught \w).*(?:device-side assert|Numpy is not available|BrokenProcessPool"
                        r"|\b(?:\w*[Pp]rocess(?:es|ed)?|\w*ProcessError|exit(?:ed)?|command|workers?|Child\w+Error"
                        r"|return(?:ed)? (?:code|non-zero))\b)")
OUTLIVED = 5  # lines behind an exception that did not end its script; what runs at an exit, or in a trap, prints fewer


def last(text: str) -> str:
    """The text without the tracebacks that did not end the script; those that are chained are one."""
    chains = chained(text)
    candidates = [chain for chain in chains if not _is_ignored(text, chain)] or chains
    found, at = "", 0
    for chain in chains:
        if chain is candidates[-1]:
            continue
        for each in chain:
            found, at = found + text[at:each.start()], each.end()
            stack = CALL_STACK.match(text, at)
            at = stack.end() if stack else at
    return found + text[at:]


def ending(text: str, uncaught: bool) -> str:
    """What of the text of last() tells of the end of its script: the exception, with its chain, and what follows.

    What was printed before is not its cause, unless the exception speaks of another process. `uncaught`: whether the
    script may have ended by an exception; else one that it has printed long before its end is left out.
    """
    chains = chained(text)
    if not chains or _is_ignored(text, chains[-1]):
        return text
    behind = text[chains[-1][-1].end():]
    if not uncaught and len([line for line in behind.splitlines() if line.strip()]) > OUTLIVED:
        return behind
    at = len(chains) - 1
    while at and of_another(chains[at - 1]):
        at -= 1
    return text if of_another(chains[at]) else text[chains[at][0].start():]


def of_another(chain: Chain) -> bool:
    """Whether its exception only says that something else has failed."""
    return OF_ANOTHER.match(chain[-1][0].rstrip().rpartition("\n")[2]) is not None


def chained(text: str) -> list[Chain]:
    """The tracebacks of a text, each with those of the exceptions that it came from."""
    chains: list[Chain] = []
    for each in WHOLE.finditer(text):
        # the quotes are those around a worker's (child_errors.py)
        between = text[chains[-1][-1].end():each.start()].rstrip(' \n"') if chains else ""
        if between.endswith(CHAINED):
            chains[-1].append(each)
        else:
            chains.append([each])
    return chains


def _is_ignored(text: str, chain: Chain) -> bool:
    before = text[:chain[0].start()].rstrip().rpartition("\n")[2]
    return before.startswith(IGNORED) or chain[-1][0].rstrip().endswith(f"\n{ASKED}")
