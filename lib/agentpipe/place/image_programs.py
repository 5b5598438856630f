"""Whether an image has the few programs that stand around a task's script; asked once of an image."""

from __future__ import annotations

import os

from agentpipe import errors, paths
from agentpipe.files import publish
from agentpipe.place import deciding, inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job

NEEDED = ("cat", "ln", "mv", "setsid")  # by run/shim.py
ASK = 'for each; do command -v "$each" >/dev/null || echo "$each"; done; echo asked'


def check(job: Job, place: dict[str, Any]) -> bool:
    """Failure 65 for a container of this `place` that lacks one, its set-up done: else its script would not start.
    False for one that cannot be entered."""
    name = deciding.name(place["image_id"], place)
    memory = paths.cache("interpreters", f"programs-{deciding.short([name])}")
    if name and os.path.exists(memory):
        return True
    said = inside.answer(job, [*place["prefix"], "sh", "-c", ASK, "sh", *NEEDED]).split()
    if said[-1:] != ["asked"]:
        return False
    missing = [name for name in NEEDED if name in said]  # its `sh` may be anybody's
    if missing:
        raise errors.Failure(f"image {place['image']} lacks {', '.join(missing)}, without which no script can be run",
                             errors.BAD_DATA, remedy="let the set-up script install coreutils and util-linux, or use "
                                                     "another image")
    if name and not place.get("setup"):  # what a set-up has brought, another container of the image lacks
        os.makedirs(os.path.dirname(memory), 0o700, exist_ok=True)
        publish(memory, b"")
    return True
