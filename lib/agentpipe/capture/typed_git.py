"""A command of git as it can be typed where its user stands: in a folder of the checkout, or outside of it."""

from __future__ import annotations

import os
import shlex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def typed(top: str, *arguments: str, names: Sequence[str] = ()) -> str:
    """The command for the checkout at `top` (its real path), from where `names` are paths."""
    here = os.path.realpath(".")
    inside = (here + "/").startswith(top.rstrip("/") + "/")
    where = [] if inside else ["-C", top]
    paths = [os.path.relpath(os.path.join(top, name), here) for name in names] if inside else names
    return shlex.join(["git", *where, *arguments, *(["--", *paths] if paths else [])])
