"""Times, durations and sizes as people read them."""

from __future__ import annotations

import re
import time

from agentpipe.task import timing


def seconds_since(moment: str | None) -> float | None:
    """Seconds since an ISO 8601 time of the API; None when there is none."""
    at = timing.moment(moment)
    return None if at is None else time.time() - at


def ago(moment: str | None) -> str:
    """ "3 min ago"; "" when there is no such time."""
    seconds = seconds_since(moment)
    return "" if seconds is None else duration(max(0.0, seconds)) + " ago"


def clock(moment: str | None) -> str:
    """An ISO 8601 time of the API to the second, in UTC: 2026-11-29T19:35:56Z."""
    return re.sub(r"(\.\d+)?(\+00:00|Z)?$", "Z", moment, count=1) if moment else ""


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: "4 s", "12 min", "3 h", "2 days"."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def measured(value: float) -> str:
    """ "0.21 s", "3.4 s", "12 min 05 s", "3 h 20 min"."""
    if value < 1:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:02.0f} s"
    return f"{value // 3600:.0f} h {value % 3600 // 60:02.0f} min"


def size(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return ""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
