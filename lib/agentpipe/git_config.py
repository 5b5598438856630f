"""Whether git fails by this machine's own configuration, which no task is to blame for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

from agentpipe import errors

REMEDY = "mend it: git config --global --list"
# what git says (LC_ALL=C) of a file that it cannot parse, of a value, and of a file that it may not read
SIGNS = re.compile(r"bad (?:numeric |boolean )?config |configuration files|unable to access '.*config'")


def broken(output: str, env: Mapping[str, str] | None) -> errors.Failure | None:
    """Failure 78 where a failed git spoke of what it reads outside of any repository; None for another cause, such as
    the configuration of a repository."""
    said = next((line for line in output.splitlines() if SIGNS.search(line)), "")
    if not said:
        return None
    # by itself: tools.py, which runs git for all others, asks here
    looked = subprocess.run(["git", "config", "--list", "--show-origin", "--null"], env=env, cwd="/", timeout=20,
                            stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if looked.returncode:
        told = looked.stderr.decode("utf-8", "replace").splitlines()
        said = next((line for line in told if SIGNS.search(line)), said)
    else:
        words = looked.stdout.decode("utf-8", "replace").split("\0")  # ORIGIN, KEY\nVALUE, and so on
        files = (origin.removeprefix("file:") for origin in words[::2] if origin.startswith("file:"))
        values = ("'{2}' for '{0}'".format(*entry.partition("\n")) for entry in words[1::2])
        if not any(each in said for each in (*files, *values)):
            return None
    said = said.removeprefix("fatal: ").removeprefix("warning: ").removeprefix("error: ")
    return errors.Failure(f"git's own configuration here is broken: {said}", errors.BAD_CONFIG, output[-4000:], REMEDY)
