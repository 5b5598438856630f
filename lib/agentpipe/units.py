"""Times, durations and sizes: as people read them, as they write them, and as the API does."""

from __future__ import annotations

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MIB, GIB = 1 << 20, 1 << 30


def iso(seconds: float) -> str:
    """Seconds since the epoch as the API writes times."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}+00:00"


def moment(text: Any) -> float | None:
    """Seconds since the epoch of an ISO 8601 time; None when it is none."""
    from datetime import datetime
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def seconds_since(when: str | None) -> float | None:
    """Seconds since an ISO 8601 time of the API; None when there is none."""
    at = moment(when)
    return None if at is None else time.time() - at


def ago(when: str | None) -> str:
    """ "3 min ago"; "" when there is no such time."""
    seconds = seconds_since(when)
    return "" if seconds is None else duration(max(0.0, seconds)) + " ago"


def age(at: float) -> str:
    """How long ago a time of the clock is: "3 h"."""
    return duration(max(0.0, time.time() - at))


def clock(when: str | None) -> str:
    """An ISO 8601 time of the API to the second, in UTC: 2026-11-29T19:35:56Z."""
    return re.sub(r"(\.\d+)?(\+00:00|Z)?$", "Z", when, count=1) if when else ""


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
    if value < 59.95:
        return f"{value:.1f} s"
    value = round(value)  # else 719.7 s were 11 min 60 s
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


def told(count: int, before: str = "") -> str:
    """`before` and a size; nothing for one that is 0, since nobody knows it."""
    return before + size(count) if count else ""


def read_size(text: str) -> int:
    """Bytes of 64m, 1.5g, 512 kb, 1GiB: all of them powers of 1024. ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?|\.\d{1,20}) ?([kmgtp]?)(i?b)?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError("it is no size")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def read_seconds(text: str) -> float:
    """Seconds of 2h, 30m, 45s, 1d, or of a number alone. ValueError for anything else, and for none."""
    match = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?)\s*([smhd]?)", text.strip())
    if not match or not float(match[1]):
        raise ValueError("no time")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
