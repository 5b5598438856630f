"""Finds the package in this checkout, in place of what setuptools writes into .venv for an editable installation.

That one imports `re`, `pathlib` and a dozen more into every Python that starts: 31 ms of CPU instead of 14, for tens of
thousands of processes. tests/run copies this file over it.
"""

import sys
from _frozen_importlib_external import PathFinder

ROOT = __file__.rpartition("/.venv/")[0]


class Commands:
    """The package agentpipe.cmds, whose folder is not below agentpipe's."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """What `cmds` is there, under the name by which it is installed."""
        return PathFinder.find_spec(name, [ROOT]) if name == "agentpipe.cmds" else None


def install():
    """What the .pth file beside it calls."""
    sys.path.append(f"{ROOT}/lib")
    sys.meta_path.append(Commands)
