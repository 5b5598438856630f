"""Whether this node's disk has the room that its operator wants before a task is taken (agent-pull --need-disk)."""

from __future__ import annotations

import os

from agentpipe import errors, paths, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Room:
    """`wanted` bytes, on each file system that a task's set-up fills."""

    def __init__(self, wanted: int, name: str, say: Callable[[str], None]) -> None:
        self.wanted, self._name, self._say = wanted, name, say
        self._short = False  # whether it was, when it was looked at last

    def enough(self) -> bool:
        """Whether there is as much; environments that no task uses make room first, where they can. What is short is
        said once."""
        path, free = _least()
        if free < self.wanted:
            self._make_room(path, free)
            path, free = _least()
        short = free < self.wanted
        if short and not self._short:
            self._say(self._told(path, free))
        self._short = short
        return not short

    def lacks(self) -> str:
        """That there is not as much, in words; "" where there is. Nothing is removed."""
        path, free = _least()
        return self._told(path, free) if free < self.wanted else ""

    def _told(self, path: str, free: int) -> str:
        return (f"no task is taken: {path} has {free / units.GIB:.1f} GiB free, {self._name} wants "
                f"{self.wanted / units.GIB:.1f} GiB")

    def _make_room(self, path: str, free: int) -> None:
        """Remove environments that no task uses, if without them there is enough: each costs a later task its time."""
        from agentpipe.environment import env_cache
        # no limit but that of free space
        endless = env_cache.Limits(float("inf"), 0, float("inf"), self.wanted / units.GIB)
        unused = env_cache.evict(endless, room=True, dry=True)
        if not unused or os.stat(env_cache.home()).st_dev != os.stat(path).st_dev \
                or free + sum(each["size"] for each in unused) < self.wanted:
            return
        for gone in env_cache.evict(endless, room=True):
            self._say(f"removed an environment that was last used {units.age(gone['used'])} ago, "
                      f"to make room: {gone['key']}")


def gate(told: str | None, may_work: Callable[[], bool] | None,
         say: Callable[[str], None]) -> Callable[[], bool] | None:
    """What has to hold before a task is taken: room as --need-disk, or AGENT_NEED_DISK, says, and `may_work`."""
    room = wanted(told, say)
    if not room:
        return may_work
    return lambda: room.enough() and (may_work is None or may_work())


def wanted(told: str | None, say: Callable[[str], None]) -> Room | None:
    """The room that --need-disk, or AGENT_NEED_DISK, asks for; None where neither does."""
    text = told or os.environ.get("AGENT_NEED_DISK")
    name = "--need-disk" if told else "AGENT_NEED_DISK"
    return Room(_bytes(text, name), name, say) if text else None


def _bytes(text: str, name: str) -> int:
    try:
        return units.read_size(text)
    except ValueError:
        raise errors.Failure(f"{name} is no size: {text}", errors.USAGE if name.startswith("-") else errors.BAD_CONFIG,
                             remedy=f"write it as 50G or 800M: {name}{'=' if name.isupper() else ' '}50G") from None


def _least() -> tuple[str, int]:
    """(the folder with the least room, its free bytes) of those that a set-up fills."""
    from agentpipe.environment import env_cache
    from agentpipe.settings import indexes
    found = []
    for path in (paths.state(), paths.cache(), env_cache.home(), indexes.download_cache()):
        there = path.rstrip("/")
        while not os.path.isdir(there):  # made by the first task
            there = os.path.dirname(there)
        stat = os.statvfs(there)
        found.append((stat.f_bavail * stat.f_frsize, there))
    free, path = min(found)
    return path, free
