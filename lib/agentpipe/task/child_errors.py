"""What a child process of a script said when it failed, where its parent's traceback is the last of the log."""

from __future__ import annotations

import re

from agentpipe.task import error_lines, tracebacks

TRACEBACK = re.compile(rf"^{re.escape(tracebacks.BEGIN)}$", re.MULTILINE)
# the worker's traceback within that of multiprocessing, concurrent.futures or joblib: it begins and ends with quotes
QUOTED = re.compile(r'^[\w.]*RemoteTraceback: ?\n"""\n', re.MULTILINE)
UNQUOTED = f'\n"""\n\n{tracebacks.CAUSED}\n\n'
# a parent's words for a child that has ended badly, and printed by itself why
FAILED = re.compile(r"^(?:subprocess\.CalledProcessError: Command |torch\.distributed\.elastic\.\S*ChildFailedError: "
                    r"|torch\.multiprocessing\.spawn\.ProcessExitedException: "
                    r"|concurrent\.futures\.process\.BrokenProcessPool: )", re.MULTILINE)
# what torch.distributed puts before each line of a traceback, and what torchrun logs beside its children
RANK = re.compile(r"^\[rank(\d+)\]: ?(.*\n?)", re.MULTILINE)
FIRST = re.compile(r"^Root Cause \(first observed failure\):\n(?:.*\n){1,5}?\s*rank\s*: (\d+)", re.MULTILINE)
# a child of multiprocessing, which prints its own, and a parent that has looked how the child ended
STARTED = re.compile(r'^  File "[^"\n]*multiprocessing/process\.py", line \d+, in _bootstrap$', re.MULTILINE)
LOOKED = re.compile(r"\bexitcode\b")
ELASTIC = re.compile(r"^\[?[EWI]\d{4} [^\n]*torch/distributed/[^\n]*\n", re.MULTILINE)
NEAR = 8  # lines before the parent's traceback in which a child's last words are looked for


def last(text: str) -> str:
    """A log in which what ended it stands last, the child's words behind what its parent said of it."""
    text = _of_a_rank(text)
    return _quoted(text) or _printed(text) or _started(text) or tracebacks.last(text)


def _of_a_rank(text: str) -> str:
    """Of the ranks that fail one after the other only the first, where torchrun names it."""
    first = FIRST.findall(text)[-1:]
    there = first and first[0] in (number for number, _ in RANK.findall(text))
    return RANK.sub(lambda match: match[2] if not there or match[1] == first[0] else "", text)


def _quoted(text: str) -> str:
    """Where the parent's traceback brings along the worker's, whose beginning may be cut off."""
    child, there, parent = text.rpartition(UNQUOTED)
    begin = [*QUOTED.finditer(child)][-1:]
    before, child = (child[:begin[0].start()], child[begin[0].end():]) if begin else ("", child)
    # else the script has made another exception of it
    same = child.rpartition("\n")[2] in parent.splitlines() and len(TRACEBACK.findall(parent)) == 1
    return f"{tracebacks.last(before)}{parent.rstrip()}\n{child}\n" if there and same else ""


def _printed(text: str) -> str:
    """Where the child printed by itself, before its parent told that it has failed."""
    said = [*FAILED.finditer(text)][-1:]
    begins = [match.start() for match in TRACEBACK.finditer(text) if said and match.start() < said[0].start()]
    if not begins or TRACEBACK.search(text, said[0].end()):
        return ""
    at = begins.pop()
    while begins and text[:at].rstrip().endswith(tracebacks.CHAINED):
        at = begins.pop()
    child = ELASTIC.sub("", text[:at]).rstrip()
    words = [line for line in child.splitlines() if line.strip()][-NEAR:]
    if not any(error_lines.tells(line.encode("utf-8", "replace")) for line in words):
        return ""
    return f"{text[at:].rstrip()}\n{tracebacks.last(child)}\n"


def _started(text: str) -> str:
    """Where a process of multiprocessing failed, and its parent right after it, of which it says so."""
    *before, parent = tracebacks.chained(text) or [[]]
    if not before or not parent or not STARTED.search(before[-1][-1][0]) or STARTED.search(parent[-1][0]):
        return ""
    child = text[:before[-1][-1].end()]
    lines = [line for line in parent[-1][0].rstrip().splitlines() if line.strip(" ~^")]
    looked = len(lines) > 1 and LOOKED.search(lines[-2])
    outlived = any(_many(part) for part in (text[len(child):parent[0].start()], text[parent[-1].end():]))
    if outlived or not (looked or tracebacks.of_another(parent)):
        return ""
    return f"{text[parent[0].start():].rstrip()}\n{tracebacks.last(child)}\n"


def _many(text: str) -> bool:
    return len([line for line in text.splitlines() if line.strip()]) > tracebacks.OUTLIVED
