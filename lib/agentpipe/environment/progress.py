"""What an installer does, as its task's owner reads it: which package of how many, how much, how long."""

from __future__ import annotations

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.job import Job

DONE = re.compile(r"\s*(Downloaded|Built|Updated) (.+)$")
BEGUN = re.compile(r"\s*(Downloading|Building|Updating) (\S+(?: @ \S+)?)(?: \(([\d.]+ ?\w+)\))?\s*$")


def amount(lock: str) -> tuple[int, int]:
    """(packages, bytes) that a pylock.toml names; bytes as far as the indexes told them."""
    from agentpipe.environment import pins
    packages = pins.read_lock(lock)
    files = [(each.get("wheels") or [each.get("sdist") or each.get("archive") or {}])[0] for each in packages]
    return len(packages), sum(int(file.get("size") or 0) for file in files)


class Lines:
    """A sink for uv's output: its lines as they come, those of downloads and builds counted and timed.

    uv names only what takes a while; the rest is in its closing lines. `total` 0: not known.
    """

    def __init__(self, job: Job, total: int) -> None:
        self._job, self._total, self._done = job, total, 0
        self._began = time.monotonic()
        self._sizes: dict[str, str] = {}
        self._rest = ""
        self._now: dict[str, str] = {}  # what is under way, in its order, and what the line that moves says of it

    def __call__(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            said = self._said(line.rstrip("\r"))
            if said:
                self._job.write(said + "\n")

    def now(self) -> str:
        """What is under way, for a line that moves."""
        of = f"{self._done} of {self._total} packages" if self._total else f"{self._done} packages"
        names = list(self._now.values())
        return f"installing: {of}" + (f", {names[0]}" if names else "") + (
            f" and {len(names) - 1} more" if len(names) > 1 else "")

    def _said(self, line: str) -> str:
        begun, done = BEGUN.match(line), DONE.match(line)
        if begun:
            self._sizes[begun[2]] = begun[3] or ""
            name = f"{begun[2]} ({begun[3]})" if begun[3] else begun[2]
            self._now[name] = f"building {name}" if begun[1] == "Building" else name
            return f"{line.strip()} …"
        if not done:
            return line
        self._done += 1
        size = self._sizes.get(done[2], "")
        self._now.pop(f"{done[2]} ({size})" if size else done[2], None)
        of = f" of {self._total} packages" if self._total else ""
        return (f"{done[1].lower()} {done[2]}{f' ({size})' if size else ''}: {self._done}{of}, "
                f"{time.monotonic() - self._began:.1f} s")
