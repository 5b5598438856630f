"""The wheelhouse: the files of packages, fetched while there is a network, for machines and times without one."""

from __future__ import annotations

import os

from agentpipe import paths
from agentpipe.files import file_digest
from agentpipe.settings.offline import offline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.environment.pins import Pin
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job


def home() -> str:
    """AGENT_WHEELHOUSE, else in our cache."""
    told = os.environ.get("AGENT_WHEELHOUSE")
    return os.path.abspath(os.path.expanduser(told)) if told else paths.cache("wheels")


def lines() -> list[str]:
    """The line of a requirements list that finds it: only without a network."""
    return [f"--find-links {home()}"] if offline() and os.path.isdir(home()) else []


def missing() -> str:
    """The folder that was named for it, where an installer without a network finds none; else ""."""
    return home() if offline() and os.environ.get("AGENT_WHEELHOUSE") and not os.path.isdir(home()) else ""


def fitting(interpreter: dict[str, Any]) -> Callable[[str], bool]:
    """Whether a wheel at a path is for this interpreter and this platform, and whole: pip is killed like any other."""
    import re
    import zipfile

    from packaging import tags, utils
    version = [int(part) for part in re.findall(r"\d+", interpreter["version"])[:2]]
    own = f"cp{version[0]}{version[1]}" if interpreter["implementation"] == "CPython" else None
    platforms = list(tags.platform_tags())
    known = {*tags.compatible_tags(version, own, platforms)}
    known |= set(tags.cpython_tags(version, platforms=platforms) if own else tags.sys_tags())

    def fits(path: str) -> bool:
        try:
            return bool(known & utils.parse_wheel_filename(os.path.basename(path))[3]) and zipfile.is_zipfile(path)
        except utils.InvalidWheelFilename:
            return False
    return fits


def fill(job: Job, base: str, pins: list[Pin | str], asked: Requirements, interpreter: dict[str, Any]) -> int:
    """Fetch what `pins` name into it, by the pip of the environment `base`; how many files are there for them.

    Wheels as they are, by their hashes; conda's packages stay in its own cache. What is built from a source or a
    repository becomes a wheel: its own files would want a network again.
    """
    from agentpipe.environment import wheelhouse_repositories as repositories
    from agentpipe.place import apart
    wheels: list[Pin] = []
    rest: list[Pin] = []
    pins = [pin for pin in pins if isinstance(pin, str) or not pin.get("conda")]
    fits = fitting(interpreter)
    missing = [pin for pin in pins if isinstance(pin, dict) and not _is_there(pin, fits)]
    for pin in missing:
        is_wheel = str(pin.get("source", "")).split("#")[0].endswith(".whl")
        (wheels if is_wheel else rest).append(pin)
    paths.made(home(), "set AGENT_WHEELHOUSE to a folder that you can write")
    if wheels:
        _pip(job, base, asked, ["download", "--only-binary", ":all:"], wheels)
    for pin in rest:
        folder = repositories.folder(pin)
        if folder:
            _pip(job, base, asked, ["wheel"], [pin], folder)
    rest = [{name: value for name, value in pin.items() if name != "sha256"}
            for pin in rest if not repositories.folder(pin)]
    if rest:
        _pip(job, base, asked, ["wheel"], rest)
    if not apart.folder(job):  # which says what it likes
        repositories.remember(asked, pins)
    job.say(f"wheelhouse {home()}: {len(missing)} of {len(pins)} packages fetched, the others were there")
    return len(missing)


def _is_there(pin: Pin, fits: Callable[[str], bool]) -> bool:
    from agentpipe.environment import requirements
    from agentpipe.environment import wheelhouse_repositories as repositories
    if repositories.folder(pin):
        return bool(repositories.wheel(pin, fits))
    path = os.path.join(home(), os.path.basename(str(pin.get("source")).split("#")[0]))
    if path.endswith(".whl"):
        return os.path.isfile(path) and file_digest(path) == pin.get("sha256")
    built = f"{requirements.normalised(pin['name']).replace('-', '_')}-{pin['version']}-"
    names = os.listdir(home()) if os.path.isdir(home()) else []
    return any(name.lower().startswith(built) and fits(os.path.join(home(), name)) for name in names)


def _pip(job: Job, base: str, asked: Requirements, words: list[str], pins: list[Pin], folder: str = "") -> None:
    """pip download or wheel of these, into `folder` (default: the wheelhouse)."""
    from agentpipe.environment import pins as pinned
    from agentpipe.environment.installers import pip, uv
    listed = job.path("wheelhouse.txt")
    bare = asked.only(lambda name: False, projects=False)
    uv.write_list(listed, "".join(line + "\n" for line in pinned.lines(list(pins))), bare, "")
    flag = "--dest" if words[0] == "download" else "--wheel-dir"
    pip.run(job, base, asked, [*words, "--no-deps", flag, folder or home(), "-r", listed])
