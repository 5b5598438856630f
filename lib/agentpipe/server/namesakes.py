"""Two workers of one name, as our agent and clearml-agent take it on one machine: the queues of both are served.

They are told from one worker that changes its queues by this: what has been replaced is reported again.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# both report each 30 s: who has not for so long is gone (s)
SILENT = 120
KEYS = ("reported", "shared")  # of a worker's document, for nobody else


def note(worker: dict[str, Any], queues: list[str]) -> None:
    """Take a report's queues as the worker's, and with them those of a namesake that lives."""
    now = time.time()
    reported = [each for each in worker.get("reported", []) if now - each["at"] < SILENT]
    known = [each for each in reported if each["queues"] == queues]
    if known and reported[-1]["queues"] != queues:
        worker["shared"] = now
    worker["reported"] = [*(each for each in reported if each not in known), {"queues": queues, "at": now}]
    both = now - worker.get("shared", 0) < SILENT
    others = [queue for each in worker["reported"] for queue in each["queues"]] if both else []
    worker["queues"] = list(dict.fromkeys([*queues, *others]))
