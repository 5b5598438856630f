"""Which lines of a log tell of errors: for `agent-task log --errors` and the evidence of `agent-task why`."""

import re

# words, also as part of a name (ValueError:, CUDA_ERROR), but no counts or losses ("0 errors", "error: 0.31")
TELLS = re.compile(
    rb"(?i)\w*(error|exception)\b|\b(traceback|fatal|critical|panic|failed|failure|failing|killed|aborted"
    rb"|segmentation fault|core dumped|out of memory|oom|no space left|permission denied|command not found"
    rb"|no such file|cannot|could not|unable to|refused|timed out)\b")
NO_ERROR = re.compile(rb"(?i)\b(0|no) (errors?|failures?|failed)\b|\b\w*error\w*\s*[:=]\s*[-+]?[\d.]")
# the last line of a traceback, as far as exceptions are called so
RAISED = re.compile(r"(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Iteration|Group|Warning|Fault|Timeout)"
                    r"|\w+\.\w*error)(?:: .*)?$")
# what some programs begin an error with; a script may go on without what they should have brought
SAID = re.compile(r"(?:curl|wget|fatal): ")
NEAR = 3  # lines before the end
TRACEBACK = re.compile(rb"\s*(\+ |\| )*(Exception Group )?Traceback \(most recent call last\):")


class Finder:
    """Gives the lines that tell of errors; of a Python traceback all of it."""

    def __init__(self) -> None:
        self._inside = False  # a traceback, until its line that is not indented

    def feed(self, line: bytes) -> list[bytes]:
        """The lines to show, now that this one is known too."""
        if self._inside:
            self._inside = line[:1] in (b" ", b"\t") or not line.strip()
            return [line]
        if TRACEBACK.match(line):
            self._inside = True
            return [line]
        return [line] if tells(line) else []


def tells(line: bytes) -> bool:
    """Whether a line alone tells of an error."""
    return TELLS.search(line) is not None and NO_ERROR.search(line) is None


def last(text: str) -> str:
    """The last error with all of its lines, and what was printed behind it; the last line where none is."""
    lines = text.rstrip().splitlines()
    at = [number for number, line in enumerate(lines)
          if RAISED.match(line) or (SAID.match(line) and number >= len(lines) - NEAR)] or [len(lines) - 1]
    return "\n".join(lines[max(at[-1], 0):])
