"""Lines that packages print by themselves, also where a script has said why it ends."""

import re

COLOURS = re.compile(r"\x1b\[[0-9;:]*m")  # of Python 3.13, IPython, rich, where FORCE_COLOR is set
# clearml's, but for errors, which may be the script's end; Hydra's, after each of its errors
PRINTED = re.compile(r"ClearML [A-Za-z ]{1,30}: |ClearML (?:running in offline mode|initializing|Terminating)\b"
                  r"|Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace\."
                  r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d+ - clearml(?:\.[\w.]+)? - (?:DEBUG|INFO|WARNING) - ")


def without(text: str) -> str:
    """The lines that are the script's own, or of an error, without colours."""
    lines = COLOURS.sub("", text).splitlines()
    return "\n".join(line for line in lines if not PRINTED.match(line.lstrip()))
