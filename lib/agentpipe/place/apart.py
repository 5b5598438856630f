"""The environments that containers build: each container in a folder of its own, which all others are only shown.

    cache/envs/containers/box.N         made with a container, which alone can write there
    cache/envs/containers/box.N/KEY.N   what it has built

So a container can change what it has built itself, and nothing that was there before it. Whoever else uses that runs it
in a container too; what the host believes of it stands in cache/envs/KEY.N, where no container can write.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from agentpipe import files, paths, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from agentpipe.job import Job

# as uv and our own environments have it: the Python that stands beside a script runs it, wherever it is copied to
WRITE = 'for each in "$2"/bin/pip "$2"/bin/pip[0-9]*; do [ ! -f "$each" ] || printf %s "$1" >"$each"; done'
LENT = "lent"  # the folder of our cache that every place is shown: a wheel of pip, a static uv
# how long an empty folder may wait for what its container is to build (s)
EMPTY_S = 7 * 86400.0
NEW = 'printf %s "$1" >"$2/bin/pip" && chmod 755 "$2/bin/pip"'


def cache() -> str:
    """The folder of all environments: agent.venvs_cache.path, else in our own cache."""
    from agentpipe.settings import config
    told = config.get("agent.venvs_cache.path", None, "CLEARML_AGENT_VENV_CACHE_PATH")
    return os.path.abspath(os.path.expanduser(told)) if told else paths.cache("envs")


def home() -> str:
    """The folder of those that containers build: an image's user has to read there, to which only our own folders
    lead."""
    found = _home()
    os.makedirs(found, 0o700, exist_ok=True)
    os.chmod(found, 0o755)
    return found


def make() -> str:
    """A folder for the environments of a container that is about to be made."""
    found = files.new_directory(home(), "box")
    os.chmod(found, 0o755)
    return found


def write_pip(job: Job, directory: str, text: str) -> None:
    """The command `pip` of an environment whose pip stands in the image."""
    _inside(job, NEW, text, directory)


def make_relocatable(job: Job, directory: str, text: str) -> None:
    """Let pip's commands there be `text`; uv has made all others relocatable itself."""
    _inside(job, WRITE, text, directory)


def write(job: Job, source: str, target: str) -> None:
    """Write what is in a file of the task's directory into another."""
    _inside(job, 'cat "$1" >"$2"', source, target)


def put(job: Job, source: str, target: str) -> None:
    """Copy what is in a folder of the task's directory into another, from inside, where we could be led elsewhere."""
    _inside(job, 'cp -R "$1/." "$2/"', source, target)


def take(job: Job, paths: list[str], mark: str) -> None:
    """Remove those of these folders that still have a file of that name."""
    _inside(job, 'for each; do [ ! -e "$each/$0" ] || rm -rf "$each"; done', *paths, name=mark)


def _inside(job: Job, script: str, *arguments: str, name: str = "sh") -> None:
    """Run a script as this user of ours in the task's container."""
    from agentpipe.place import inside
    inside.run(job, ["sh", "-c", script, name, *arguments], {}, outside=job.directory)


def drop(place: Mapping[str, Any]) -> None:
    """The container is gone: nothing stays of one that has built nothing."""
    if place.get("environments"):
        try:
            os.rmdir(place["environments"])
        except OSError:  # it holds an environment, which others may use
            pass


@contextmanager
def still(job: Job) -> Iterator[None]:
    """While this lasts nothing runs in the task's container: for what only we can make where it can write too.

    Failure 69 for an engine that cannot do that.
    """
    if not folder(job):
        yield
        return
    from agentpipe import errors
    from agentpipe.place import engine
    place = job.manifest["place"]
    with engine.spoken_to(place["kind"], place["engine"]):
        api = engine.connect(place["kind"], place["engine"])
        api.pause(place["container"])
    try:
        yield
    finally:
        try:
            with engine.spoken_to(place["kind"], place["engine"]):
                api.unpause(place["container"])
        except errors.Failure as failure:  # what is run there next fails, and says so
            job.say(f"the task's container stands still: {failure.reason}")


def check(job: Job, stage: str) -> None:
    """Failure 65 for a stage that would write in the checkout of a container that is there already."""
    if folder(job):
        from agentpipe import errors
        raise errors.Failure(f"agent-{stage} writes in the checkout, in which the task's container can write by now",
                             errors.BAD_DATA, remedy="agent-prepare does all of it anew, in the right order")


def sweep(envs: str, left_behind: float) -> None:
    """Remove what nobody has a record of in `envs`, and that was not touched for `left_behind` s."""
    import time
    above = _home()
    for box in os.listdir(above) if os.path.isdir(above) else []:
        try:
            for name in os.listdir(os.path.join(above, box)):
                path = os.path.join(above, box, name)
                known = os.path.lexists(os.path.join(envs, name))
                if not known and abs(time.time() - os.lstat(path).st_mtime) > left_behind:  # containers set times
                    trees.discard(path)
            if time.time() - os.stat(os.path.join(above, box)).st_mtime > EMPTY_S:
                drop({"environments": os.path.join(above, box)})
        except OSError:  # another process is at it too, or the container has closed it to us
            pass


def within(path: str) -> str:
    """The environment of a container in which this path is, which may not lead out of it; "" for all others."""
    above = _home() + os.sep
    if not path.startswith(above):
        return ""
    return os.path.join(os.path.realpath(above), *path[len(above):].split(os.sep)[:2])


def _home() -> str:
    return os.path.join(cache(), "containers")


def folder(job: Job) -> str:
    """Where this job's container builds; "" on the host, and where nobody but us builds."""
    return str((job.manifest.get("place") or {}).get("environments") or "")
