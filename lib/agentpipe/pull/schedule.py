"""When a worker takes tasks: hours of days in local time, in which it does (uptime) or does not (downtime).

An entry is "HOURS DAYS", as in ClearML Agent: `17-20 TUE` is from 17:00 to 19:59, `17` from 17:00 to midnight; several
with commas (`8-12,14-18 MON-FRI,SUN`). What ClearML Agent takes without a word and never follows is followed here: from
hour 0 (`0-5`), over midnight (`22-6`, into the day after), and days over the week's end (`FRI-MON`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from agentpipe import errors
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
HOUR = 3600


class Schedule:
    """`hours` are pairs (day, hour), day 0 a Sunday; they are those in which tasks are taken, or (`down`) are not."""

    def __init__(self, hours: frozenset[tuple[int, int]], down: bool, text: str) -> None:
        self._hours, self._down, self.text = hours, down, text

    def active(self, now: float | None = None) -> bool:
        """Whether tasks are taken now (seconds since the epoch)."""
        at = time.localtime(now)
        return (((at.tm_wday + 1) % 7, at.tm_hour) in self._hours) != self._down

    def next_change(self, now: float | None = None) -> float | None:
        """When that changes, in seconds from `now`; None when it never does."""
        now = time.time() if now is None else now
        before, begun = self.active(now), now - now % HOUR
        # zones are whole quarters of an hour
        for quarter in range(1, 8 * 24 * 4):
            at = begun + quarter * HOUR / 4
            if at > now and self.active(at) != before:
                return at - now
        return None


def of(uptime: list[str], downtime: list[str]) -> Schedule | None:
    """What the options say (64 when they cannot be meant), else agent.uptime and agent.downtime (78); None: always.

    Both at once are 78.
    """
    if uptime or downtime:
        return _made(uptime, downtime, errors.USAGE, "--uptime", "--downtime")
    return _made(_configured("agent.uptime"), _configured("agent.downtime"), errors.BAD_CONFIG,
                 "agent.uptime", "agent.downtime")


def _made(uptime: list[str], downtime: list[str], exit: int, up_name: str, down_name: str) -> Schedule | None:
    if uptime and downtime:
        raise errors.Failure(f"{up_name} and {down_name} cannot both be followed", errors.BAD_CONFIG,
                             remedy="leave one of them out")
    entries, name = (uptime, up_name) if uptime else (downtime, down_name)
    if not entries:
        return None
    hours: set[tuple[int, int]] = set()
    for entry in entries:
        try:
            hours |= _parsed(entry)
        except ValueError as error:
            raise errors.Failure(f"{name}: {entry!r}: {error}", exit,
                                 remedy='it is "HOURS DAYS", for example "17-20 TUE" or "22-6 MON-FRI,SUN"') from None
    return Schedule(frozenset(hours), not uptime, f"{'up' if uptime else 'down'} {', '.join(entries)}")


def _parsed(entry: str) -> set[tuple[int, int]]:
    words = entry.split()
    if len(words) != 2:
        raise ValueError("hours and days are two words")
    spans = [_span(part) for part in words[0].split(",")]
    days = [day for part in words[1].split(",") for day in _days(part)]
    # an end that is not after its start is one of the next day
    return {((day + hour // 24) % 7, hour % 24) for day in days for start, end in spans
            for hour in range(start, end if end > start else end + 24)}


def _span(text: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    if not start.isdigit() or (dash and not end.isdigit()):
        raise ValueError(f"{text} are no hours")
    found = int(start), int(end) if dash else 24
    if found[0] > 23 or found[1] > 24:
        raise ValueError(f"{text}: a day has the hours 0 to 23")
    return found


def _days(text: str) -> Iterable[int]:
    start, dash, end = text.upper().partition("-")
    end = end if dash else start
    for name in (start, end):
        if name not in DAYS:
            raise ValueError(f"{name} is no day: {' '.join(DAYS)}")
    first, last = DAYS.index(start), DAYS.index(end)
    return (day % 7 for day in range(first, last + 1 if last >= first else last + 8))


def _configured(key: str) -> list[str]:
    found: Any = config.value(key)
    if isinstance(found, str) and found.lstrip().startswith("["):
        found = config.parsed(found)
    if not found:
        return []
    return [str(entry) for entry in found] if isinstance(found, list) else [str(found)]
