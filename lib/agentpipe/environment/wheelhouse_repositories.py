"""The wheelhouse's part for `git+…` requirements: the wheel that each commit came to, and which commit a ref meant.

    repositories/URL-COMMIT[-SUBDIRECTORY]/*.whl
    repositories/URL-REF.commit

URL, REF and SUBDIRECTORY are hashes. They stand apart from the wheels that are found by name: two commits may have one
version.
"""

from __future__ import annotations

import glob
import os
import re

from agentpipe import files, untrusted
from agentpipe.environment import git_pins, wheelhouse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.environment.pins import Pin
    from agentpipe.environment.requirements import Requirements


# what a package takes from a repository itself, in a wheel's metadata or in the files of a folder
NEEDED = re.compile(r"(?<![A-Za-z0-9._-])([A-Za-z0-9][A-Za-z0-9._-]*\s{0,9}(?:\[[^\]]{0,200}\])?)\s{0,9}@\s*(git\+\w+://[^\s;\"',]+)")


def folder(pin: Pin) -> str:
    """Where the wheel of a repository's pin stands; "" for another kind of pin."""
    match = git_pins.LINE.match(str(pin.get("source")))
    return _folder(match) if match and _is_commit(match["ref"]) else ""


def wheel(pin: Pin, fits: Callable[[str], bool] = bool) -> str:
    """That wheel's path, of one that `fits` (wheelhouse.fitting); "" when there is none."""
    place = folder(pin)
    found = sorted(glob.glob(os.path.join(glob.escape(place), "*.whl"))) if place else []
    return next(filter(fits, found), "")


def remember(asked: Requirements, pins: list[Pin | str]) -> None:
    """Which commits the refs meant, of the list's lines and of what its packages need."""
    commits = {}
    for pin in pins:
        match = git_pins.LINE.match(str(pin.get("source"))) if isinstance(pin, dict) else None
        if match:
            commits[_bare(match["url"])] = match["ref"]
    wheels = filter(None, (wheel(pin) for pin in pins if isinstance(pin, dict)))
    texts = [_project_text(each.path) for each in asked.projects] + [_metadata(path) for path in wheels]
    for line in [*asked.secrets, *(source for text in texts for _, source in NEEDED.findall(text))]:
        match = git_pins.LINE.match(line)
        if match and not _is_commit(match["ref"]) and _bare(match["url"]) in commits:
            path = _memory(match["url"], match["ref"] or "HEAD")
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            files.publish(path, str(commits[_bare(match["url"])]).encode())


def commit_of(url: str, ref: str) -> str:
    """The commit that `ref` meant when the wheelhouse was filled; "" when it does not know."""
    try:
        with open(_memory(url, ref), encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def taken(asked: Requirements, interpreter: dict[str, Any]) -> tuple[Requirements, list[Pin], list[str]]:
    """(the list with wheels in the place of the repositories that are here, what these stand for as pins, overrides
    by which what the list's packages need from repositories is a wheel as well)."""
    import copy

    from agentpipe.environment.local_packages import Archive
    from agentpipe.environment.requirements import NAME, normalised, sorted_extras
    found, pins, fits = copy.copy(asked), [], wheelhouse.fitting(interpreter)
    found.packages, found.archives = [], list(asked.archives)
    for line in asked.packages:
        match, name = git_pins.LINE.match(line), re.match(NAME, line)
        path = _wheel_of(match, match["ref"], fits) if match else ""
        if not path or not match or not name:
            found.packages.append(line)
            continue
        pins.append(_pin(name[1], match, match["ref"], path))
        found.archives.append(Archive(path, sorted_extras(name[2]), line))
    more, overrides = _needed(asked, [each.path for each in found.archives], {normalised(pin["name"]) for pin in pins},
                              fits)
    return found, pins + more, overrides


def _needed(asked: Requirements, wheels: list[str], known: set[str],
            fits: Callable[[str], bool]) -> tuple[list[Pin], list[str]]:
    """(pins, overrides) of what these wheels and the list's folders need from repositories, and those in turn."""
    from urllib.parse import quote

    from agentpipe.environment.requirements import NAME, normalised
    pins, overrides = [], []
    texts = [_project_text(each.path) for each in asked.projects] + [_metadata(path) for path in wheels]
    while texts:
        for wish, source in NEEDED.findall(texts.pop()):
            match, name = git_pins.LINE.match(source), re.match(NAME, wish)
            commit = match and (match["ref"] if _is_commit(match["ref"]) else
                                commit_of(match["url"], match["ref"] or "HEAD"))
            path = _wheel_of(match, commit, fits) if match and commit else ""
            if path and match and commit and name and normalised(name[1]) not in known:
                known.add(normalised(name[1]))
                pins.append(_pin(name[1], match, commit, path))
                overrides.append(f"{wish.strip()} @ file://{quote(path)}")
                texts.append(_metadata(path))
    return pins, overrides


def _wheel_of(match: re.Match[str], commit: str, fits: Callable[[str], bool]) -> str:
    return wheel({"source": f"git+{match['url']}@{commit}{match['tail']}"}, fits)


def _pin(name: str, match: re.Match[str], commit: str, path: str) -> Pin:
    """What a repository's wheel stands for."""
    from agentpipe.urls import without_credentials
    inside = f"#subdirectory={_subdirectory(match)}" if _subdirectory(match) else ""
    return {"name": name, "version": os.path.basename(path).split("-")[1],
            "source": without_credentials(f"git+{match['url']}@{commit}{inside}")}


def _metadata(path: str) -> str:
    """The METADATA of a wheel; "" where it has none that can be read: it may be one of the task's."""
    import zipfile
    import zlib
    try:
        with zipfile.ZipFile(path) as archive:
            inside = next(each for each in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", each))
            with archive.open(inside) as file:
                return file.read(untrusted.LISTS).decode("utf-8", "replace")
    except (OSError, zipfile.BadZipFile, StopIteration, RuntimeError, ValueError, EOFError, zlib.error):
        return ""


def _project_text(folder: str) -> str:
    """The files of a package's folder that may say what it depends on."""
    from agentpipe.environment import local_packages
    return "\n".join(files.list_of_task(path).decode("utf-8", "replace") for path in local_packages.files(folder))


def _folder(match: re.Match[str]) -> str:
    inside = _subdirectory(match)
    name = f"{_hash(_bare(match['url']))}-{match['ref']}" + (f"-{_hash(inside)}" if inside else "")
    return os.path.join(wheelhouse.home(), "repositories", name)


def _memory(url: str, ref: str) -> str:
    return os.path.join(wheelhouse.home(), "repositories", f"{_hash(_bare(url))}-{_hash(ref)}.commit")


def _subdirectory(match: re.Match[str]) -> str:
    found = re.search(r"[#&]subdirectory=([^&\s;]+)", match["tail"])
    return found[1].strip("/") if found else ""


def _bare(url: str) -> str:
    from agentpipe.urls import without_credentials
    return without_credentials(url).rstrip("/").removesuffix(".git")


def _hash(text: str) -> str:
    import hashlib
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _is_commit(ref: str | None) -> bool:
    return bool(re.fullmatch(r"[0-9a-f]{40}", ref or ""))
