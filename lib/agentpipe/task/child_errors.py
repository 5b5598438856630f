"""What a child process of a script said when it failed, where its parent's traceback is the last of the log."""

from __future__ import annotations

import re

from agentpipe.task import error_lines

TRACEBACK = re.compile(r"^Traceback \(most recent call last\):$", re.MULTILINE)
CAUSED = "The above exception was the direct cause of the following exception:"
CHAINED = (CAUSED, "During handling of the above exception, another exception occurred:")
# the worker's traceback within that of multiprocessing, concurrent.futures or joblib: it begins and ends with quotes
QUOTED = re.compile(r'^[\w.]*RemoteTraceback: ?\n"""\n', re.MULTILINE)
UNQUOTED = f'\n"""\n\n{CAUSED}\n\n'
# a parent's words for a child that has ended badly, and printed by itself why
FAILED = re.compile(r"^(?:subprocess\.CalledProcessError: Command |torch\.distributed\.elastic\.\S*ChildFailedError: "
                    r"|torch\.multiprocessing\.spawn\.ProcessExitedException: "
                    r"|concurrent\.futures\.process\.BrokenProcessPool: )", re.MULTILINE)
# what torch.distributed puts before each line of a traceback, and what torchrun logs beside its children
RANK = re.compile(r"^\[rank\d+\]: ?", re.MULTILINE)
ELASTIC = re.compile(r"^\[?[EWI]\d{4} [^\n]*torch/distributed/[^\n]*\n", re.MULTILINE)
NEAR = 8  # lines before the parent's traceback in which a child's last words are looked for


def last(text: str) -> str:
    """A log in which the child's words stand last, behind what its parent said of it; any other as it is."""
    text = RANK.sub("", text)
    return _quoted(text) or _printed(text) or text


def _quoted(text: str) -> str:
    """Where the parent's traceback brings along the worker's, whose beginning may be cut off."""
    child, there, parent = text.rpartition(UNQUOTED)
    begin = [*QUOTED.finditer(child)][-1:]
    before, child = (child[:begin[0].start()], child[begin[0].end():]) if begin else ("", child)
    # else the script has made another exception of it
    same = child.rpartition("\n")[2] in parent.splitlines() and len(TRACEBACK.findall(parent)) == 1
    return f"{before}{parent.rstrip()}\n{child}\n" if there and same else ""


def _printed(text: str) -> str:
    """Where the child printed by itself, before its parent told that it has failed."""
    said = [*FAILED.finditer(text)][-1:]
    begins = [match.start() for match in TRACEBACK.finditer(text) if said and match.start() < said[0].start()]
    if not begins or TRACEBACK.search(text, said[0].end()):
        return ""
    at = begins.pop()
    while begins and text[:at].rstrip().endswith(CHAINED):
        at = begins.pop()
    child = ELASTIC.sub("", text[:at]).rstrip()
    words = [line for line in child.splitlines() if line.strip()][-NEAR:]
    if not any(error_lines.tells(line.encode("utf-8", "replace")) for line in words):
        return ""
    return f"{text[at:].rstrip()}\n{child}\n"
