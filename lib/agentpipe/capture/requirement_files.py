"""Requirements lists that name others (`-r more.txt`) as one list, of which single lines can be changed."""

import os
import re

from agentpipe import errors
from agentpipe.capture import capture
from agentpipe.environment.requirements import inside

MOST = 200  # lists
NAMES_A_LIST = re.compile(r"^\s*(?:-r|--requirement)\b", re.MULTILINE)
_OPTION = re.compile(r"(-r|--requirement|-c|--constraint|-e|--editable|-f|--find-links)(?:\s*=\s*|\s+)?(\S.*)$")


def written_out(text: str, code: str, folder: str, path: str = "", known: set[str] | None = None) -> list[str]:
    """The lines of a list, those of the lists that it names in their places (each once), and paths as they read from
    the top.

    `path` is the list's own file in the checkout `code`. As the agent does, a relative path is looked for in the
    task's working directory `folder`, at the top, and beside the file; what is nowhere, or a list outside of the
    checkout, stays as it stands: whoever reads the lines need not be one who may read that.
    """
    places = [os.path.join(code, folder), code, *([os.path.dirname(path)] if path else [])]
    found: list[str] = []
    known = {path} if known is None else known
    top = os.path.realpath(code)
    for line in text.splitlines():
        option = _OPTION.match(line.strip())
        named = option[2].split(" #")[0].strip().strip("'\"") if option else ""
        there = _there(named, places) if option and "://" not in named else ""
        if not option or not there:
            found.append(_from_the_top(line, places, code) if not option else line)
        elif option[1] in ("-r", "--requirement"):
            if not inside(os.path.realpath(there), top):
                found.append(line)
            elif there not in known:
                if len(known) > MOST:
                    raise errors.Failure(f"{path or 'the list'} names more than {MOST} lists, one the other",
                                         errors.BAD_DATA, remedy="put them into one list")
                known.add(there)
                found += written_out(capture.requirements_text(there, True), code, folder, there, known)
        else:
            found.append(f"{option[1]} {os.path.relpath(there, code)}")
    return found


def _there(name: str, places: list[str]) -> str:
    for place in places:
        path = os.path.normpath(os.path.join(place, name))
        if os.path.exists(path):
            return path
    return ""


def _from_the_top(line: str, places: list[str], code: str) -> str:
    """A folder or an archive (`./lib[extra]`) by its path from the top of the checkout."""
    match = re.match(r"\s*(\.{1,2}(?:/[^\s\[;]*)?)(.*)$", line)
    there = _there(match[1], places) if match else ""
    return f"./{os.path.relpath(there, code)}{match[2]}" if match and there else line
