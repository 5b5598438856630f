"""What rattler does, which waits for a server as long as it is let: given up when nothing comes, and begun again.

Its own limit is for a whole request, and would cut a slow one short. So its threads are looked at: as long as data come
they are woken, and as long as they compute or write they take time.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading

from agentpipe import errors, live, paths
from agentpipe.files import file_digest
from agentpipe.streamed import Quiet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from agentpipe.job import Job

SILENCE = 120.0  # seconds for which nothing may come
LOOK = 1.0  # how often that is looked at (s)
TIMES = 3
SIGNS = 10  # of life, below which something else has woken a thread
SETTLES_S = 0.2  # what rattler does to end work that was given up


class _Stalled(Exception):
    """Nothing has come for too long."""


def solve(job: Job, channels: list[Any], specs: list[Any], **more: Any) -> list[Any]:
    """rattler.solve(): the records of what the specs come to; where offline() says so by what is here."""
    import rattler
    what = "solving the conda packages"
    with live.Line(job, lambda: what):
        return list(_done(job, what, lambda: rattler.solve(channels, specs, gateway=_gateway(), **more)))


def _gateway() -> Any:
    """What asks the channels. It keeps their lists by addresses that may hold a login, so in a folder of our own."""
    from pathlib import Path

    from rattler.repo_data.gateway import Gateway, SourceConfig

    from agentpipe.settings.offline import offline
    folder = paths.cache("conda-channels")
    os.makedirs(folder, 0o700, exist_ok=True)
    config = SourceConfig(cache_action="force-cache-only" if offline() else "cache-or-fetch")
    return Gateway(cache_dir=Path(folder), default_config=config)


def install(job: Job, records: list[Any], folder: str, again: set[str]) -> None:
    """Link these packages into a prefix, those called `again` also where they stand there. Failure 69 for what is not
    here where offline() forbids the network."""
    from pathlib import Path

    import rattler

    from agentpipe.settings.offline import offline
    missing = [record.file_name for record in records if offline() and not _is_here(record)]
    if missing:
        raise errors.Failure(f"not in this machine's cache, and AGENT_OFFLINE is set: {', '.join(missing)}",
                             errors.UNAVAILABLE, remedy="run it once without AGENT_OFFLINE")
    for record in records:
        _compare(record)
    what, downloads = f"installing {len(records)} conda packages", _downloads()

    def begin() -> Coroutine[Any, Any, None]:
        downloads.open.clear()
        return rattler.install(records, target_prefix=folder, cache_dir=Path(paths.cache("conda")), reporter=downloads,
                               reinstall_packages=again)
    with live.Line(job, lambda: what):
        # one that another process is fetching is waited for
        _done(job, what, begin, lambda: bool(downloads.open))


def _is_here(record: Any) -> bool:
    """Whether a package needs no network: it stands in a channel of this machine, or in the cache."""
    return record.url.startswith("file:") or _is_cached(record)


def _is_cached(record: Any) -> bool:
    return os.path.isdir(paths.cache("conda", re.sub(r"\.(conda|tar\.bz2)$", "", record.file_name)))


def _compare(record: Any) -> None:
    """Of a file in a channel of this machine, whose hash rattler does not look at, whether it is the one that the
    channel lists. Failure 65."""
    if not record.url.startswith("file:") or not record.sha256 or _is_cached(record):
        return
    from urllib.parse import unquote, urlsplit
    path = unquote(urlsplit(record.url).path)
    if os.path.isfile(path) and file_digest(path) != record.sha256.hex():
        raise errors.Failure(f"{record.name.normalized}: {path} is not the file whose hash the channel lists",
                             errors.BAD_DATA, remedy="find out who replaced it, or index the channel anew")


def _downloads() -> Any:
    """For rattler to tell which downloads are under way: `open`."""
    from rattler.install import InstallerReporter

    class Downloads(InstallerReporter):
        def __init__(self) -> None:
            self.open: set[int] = set()
            self._count = 0

        def on_download_start(self, cache_entry: int) -> int:
            self._count += 1
            self.open.add(self._count)
            return self._count

        def on_download_completed(self, download_idx: int) -> None:
            self.open.discard(download_idx)
    return Downloads()  # type: ignore[abstract]  # which all have a body


def _done(job: Job, what: str, begin: Callable[[], Coroutine[Any, Any, Any]],
         asks: Callable[[], bool] = lambda: True) -> Any:
    """The outcome of begin(), which is `what` to people; Failure 69 when a server has stopped sending.

    asks() is false where none is asked.
    """
    for left in reversed(range(TIMES)):
        try:
            return asyncio.run(_watched(begin(), asks))
        except _Stalled:
            if left:
                job.say(f"{what}: nothing has come for {SILENCE:g} s, asking again")
    raise errors.Failure(f"{what}: a channel has stopped sending, nothing came for {SILENCE:g} s", errors.UNAVAILABLE,
                         remedy="check the network and agent.package_manager.conda_channels, then run the task again")


async def _watched(work: Coroutine[Any, Any, Any], asks: Callable[[], bool]) -> Any:
    task = asyncio.ensure_future(work)
    before, signs, quiet = _threads(), 0, Quiet()
    while not (await asyncio.wait({task}, timeout=LOOK))[0]:
        now = _threads()
        signs += sum(max(0, count - before.get(thread, 0)) for thread, count in now.items())
        before = now
        if signs >= SIGNS or not asks():
            signs = 0
            quiet.begin()
        elif quiet.seconds() >= SILENCE:
            task.cancel()
            await asyncio.sleep(SETTLES_S)
            raise _Stalled
    return task.result()


def _threads() -> dict[str, int]:
    """Of each thread that is none of Python's, how often it was woken, and for how long (ticks) it has worked."""
    own = {str(thread.native_id) for thread in threading.enumerate()}
    found = {}
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/status", encoding="ascii", errors="replace") as file:
                woken = next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches:"))
            with open(f"/proc/self/task/{thread}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except (OSError, StopIteration):  # it has ended
            continue
        if thread not in own:
            found[thread] = woken + int(fields[11]) + int(fields[12])
    return found
