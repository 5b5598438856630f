"""Byte-code that cannot be loaded is removed, and written again by the next import: run by an environment's own Python.

    python -I -S -c SOURCE FOLDER

prints the paths below FOLDER of what it has removed. A full disk leaves such files: see compile_ahead.py.
"""

import importlib.util
import marshal
import os
import sys

HEADER = 16 if sys.version_info >= (3, 7) else 12  # bytes before the code itself


def is_broken(path):
    """Whether this Python would stumble over it; what another version has written is not looked into."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return False
    if data[:4] != importlib.util.MAGIC_NUMBER:
        return len(data) < HEADER
    try:
        marshal.loads(data[HEADER:])
    except Exception:  # EOFError, ValueError, TypeError: whatever the last bytes look like
        return True
    return False


def main(folder):
    """Look through it; what stands without a source beside it is all that there is, and stays."""
    for here, _, names in os.walk(folder):
        if os.path.basename(here) != "__pycache__":
            continue
        for path in (os.path.join(here, name) for name in names if name.endswith(".pyc")):
            if is_broken(path):
                os.unlink(path)
                os.write(1, os.fsencode(os.path.relpath(path, folder)) + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
