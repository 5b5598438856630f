"""Lines that the clearml package prints by itself, also where a script has said why it ends."""

import re

# an error that the package tells of may be the script's end
PRINTED = re.compile(r"ClearML [A-Za-z ]{1,30}: |ClearML (?:running in offline mode|initializing|Terminating)\b"
                  r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d+ - clearml(?:\.[\w.]+)? - (?:DEBUG|INFO|WARNING) - ")


def without(text: str) -> str:
    """The lines that are the script's own, or of an error."""
    return "\n".join(line for line in text.splitlines() if not PRINTED.match(line.lstrip()))
