"""Reads requirement lists line by line, as pip reads its requirements files."""

from __future__ import annotations

import os
import re

from agentpipe import errors
from agentpipe.environment.local_packages import Archive, Project
from agentpipe.environment.requirement_syntax import (
    by_ssh,
    check_scheme,
    marker_of,
    pinned_by_hash,
    understood,
    unquoted,
    url_path,
    without_hashes,
)
from agentpipe.environment.requirements import NAME, filled, sorted_extras
from agentpipe.files import list_of_task
from agentpipe.urls import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.requirements import Requirements

DEEPEST = 100  # lists in each other
ARCHIVES = (".whl", ".tar.gz", ".tgz", ".zip", ".tar.bz2")
OPTIONS_WITH_VALUE = {"-i": "--index-url", "--index-url": "--index-url", "--pypi-url": "--index-url",
                      "--extra-index-url": "--extra-index-url", "-f": "--find-links", "--find-links": "--find-links",
                      "--no-binary": "--no-binary", "--only-binary": "--only-binary",
                      "--trusted-host": "--trusted-host"}
ADDRESSES = ("--index-url", "--extra-index-url", "--find-links")
LISTS = ("-r", "--requirement", "-c", "--constraint")
EDITABLE = ("-e", "--editable")
OPTIONS_ALONE = {"--no-index", "--pre", "--require-hashes"}
OPTIONS_PASSED_OVER = {"--prefer-binary", "--use-feature", "--process-dependency-links", "--use-pep517",
                       "--no-use-wheel", "--use-wheel", "--global-option", "--install-option", "--config-settings"}
# behind a requirement (a run of blanks is looked at from its begin alone)
OF_BUILDS = re.compile(r"""(?<!\s)\s+(--(?:global|install)-option)(?:=|\s+)(?:"[^"]*"|'[^']*'|\S+)""")


class Reader:
    """Reads lists into one Requirements; relative paths are looked for in `folders`, then beside the file."""

    def __init__(self, into: Requirements, folders: list[str]) -> None:
        self.into, self.folders = into, folders
        self.reading: list[str] = []
        self.known: set[tuple[str, bool]] = set()

    def file(self, path: str, constraints: bool = False) -> None:
        """Read one file, once, however often it is named."""
        real = os.path.realpath(path)
        if self._is_new(real, constraints):
            self.read(decoded(list_of_task(path)).splitlines(), self._name(path), constraints)
            self.reading.pop()

    def remote(self, url: str, constraints: bool = False) -> None:
        """Read the list at a URL, whose variables have their values."""
        from agentpipe.environment import remote_lists
        if self._is_new(url, constraints):
            self.read(decoded(remote_lists.read(url, self.into.notes)).splitlines(), without_credentials(url),
                      constraints)
            self.reading.pop()

    def _is_new(self, name: str, constraints: bool) -> bool:
        """Whether a list has not been read yet; then it is the one that is read now."""
        if (name, constraints) in self.known:
            return False
        if len(self.reading) == DEEPEST:
            raise errors.Failure(f"{without_credentials(self.reading[0])} names a list that names a list, and so on, "
                                 f"more than {DEEPEST} of them", errors.BAD_DATA,
                                 remedy="put them into one list", change=errors.CODE_ANEW)
        self.known.add((name, constraints))
        self.reading.append(name)
        return True

    def _list(self, value: str, where: str, constraints: bool) -> None:
        """`-r` and `-c`: a file, a URL, or what is beside the list at a URL that names it."""
        if self.reading and "://" in self.reading[-1]:
            from urllib.parse import urljoin
            value = urljoin(self.reading[-1], filled(value))
        if value.startswith("file:"):
            value = url_path(value)
        if "://" in value:
            self.remote(filled(value), constraints)
        else:
            self.file(self._there(value, where), constraints)

    def _name(self, path: str) -> str:
        within = os.path.relpath(path, self.into.code)
        return path if within.startswith("../") else within

    def read(self, lines: list[str], origin: str, constraints: bool = False) -> None:
        """Sort the lines of one list; `origin` names it in messages."""
        for number, line in _logical_lines(lines):
            where = f"line {number} of {origin}"
            if "\0" in line:
                raise errors.Failure(f"{where} has a NUL byte: the list is no text in UTF-8", errors.BAD_DATA,
                                     remedy="write the list in UTF-8", change=errors.CODE_ANEW)
            if line.startswith("-"):
                self._option(line, where, constraints)
            elif constraints:
                self.into.constraints.append(line if "://" in line else understood(line, where))
            else:
                before = len(self.into.packages)
                self._package(line, where)
                if self.reading:
                    self.into.places.update((each, where) for each in self.into.packages[before:])

    def _option(self, line: str, where: str, constraints: bool) -> None:
        if line.startswith("--"):
            name, value = re.match(r"(--[\w-]*)[\s=]*(.*)$", line, re.DOTALL).groups()  # type: ignore[union-attr]
        else:
            name, value = line[:2], line[2:].lstrip(" =")
        value = by_ssh(unquoted(value.strip()))
        if not value and (name in OPTIONS_WITH_VALUE or name in LISTS or name in EDITABLE):
            raise errors.Failure(f"{where}: {name} names nothing", errors.BAD_DATA, evidence=line,
                                 remedy=f"take '{line}' out of the requirements", change=("--drop-package", line))
        if name in LISTS:
            self._list(value, where, constraints or name in ("-c", "--constraint"))
        elif constraints and name in EDITABLE:  # as `pip freeze` writes them
            self.into.notes.append(f"{where}: '{without_credentials(line)}' is passed over, it says no version")
        elif name in EDITABLE:
            self._editable(value, line, where)
        elif name in OPTIONS_WITH_VALUE:
            if OPTIONS_WITH_VALUE[name] in ADDRESSES:
                check_scheme(value, line, where)
            if OPTIONS_WITH_VALUE[name] == "--find-links" and "://" not in value:
                value = self._there(value, where)
            self.into.options.append((OPTIONS_WITH_VALUE[name], value))
            self.into.option_places[value] = where
        elif name in OPTIONS_ALONE:
            self.into.options.append((name, ""))
        elif name in OPTIONS_PASSED_OVER:
            self.into.notes.append(f"{where}: {name} is passed over")
        else:
            raise errors.Failure(f"{where}: option {name} is not known", errors.BAD_DATA,
                                 evidence=without_credentials(line), change=("--drop-package", line),
                                 remedy=f"take '{without_credentials(line)}' out of the requirements")

    def _editable(self, value: str, line: str, where: str) -> None:
        """`-e`: a folder of the task, or a repository, which is installed as it is since nobody edits it there."""
        if "://" in value and not value.startswith("file:"):
            check_scheme(value, line, where)
            egg = re.search(r"[#&]egg=([A-Za-z0-9._-]+)", value)
            self.into.packages.append(f"{egg[1]} @ {value}" if egg and " @ " not in value else value)
        else:
            self._local(value, line, where, editable=True)

    def _package(self, line: str, where: str) -> None:
        line = by_ssh(line)
        direct = re.match(NAME + r"@\s*(\S+)(.*)$", line)
        target = direct[3] if direct else line
        if direct and target.startswith("file:/") and not os.path.exists(url_path(target)):
            self._elsewhere(direct[1], direct[2], url_path(target), direct[4], where)
        elif target.startswith("file:"):
            path = url_path(target)
            value = f"{path}[{direct[2]}]" if direct and direct[2] else path
            self._local(value + (direct[4] if direct else ""), line, where)
        elif "://" in target:
            check_scheme(target, line, where)
            self.into.packages.append(line)
        elif self._is_path(line):
            self._local(line, line, where)
        elif re.fullmatch(r"(?i:python)(?:[^A-Za-z0-9._-].*)?", line):
            self.into.notes.append(f"{where}: {line} is passed over, the interpreter is no package (see script.binary)")
        elif re.fullmatch(r"(?i:pkg[-_.]resources)\s*==\s*0\.0\.0", line):
            self.into.notes.append(f"{where}: {line} is passed over, a part of setuptools that Debian's pip lists so")
        else:
            line = understood(self._for_uv(line, where), where)
            self.into.packages.append(pinned_by_hash(line, where))

    def _for_uv(self, line: str, where: str) -> str:
        """A requirement without the options of its own that builds have no use for any more."""
        kept, count = OF_BUILDS.subn("", line)
        if count:
            self.into.notes.append(f"{where}: {OF_BUILDS.search(line)[1]} is passed over")  # type: ignore[index]
        return kept

    def _local(self, value: str, line: str, where: str, editable: bool = False) -> None:
        value = url_path(value) if value.startswith("file:") else value
        body, hashes = without_hashes(value)
        place, _, marker = body.partition(";")
        path, bracket, extras = place.strip().removesuffix("]").rpartition("[")
        path, extras = (path.rstrip(), extras) if bracket and place.rstrip().endswith("]") else (place.strip(), "")
        marker = marker_of(marker, line, where)
        there = self._there(path, where)
        if os.path.isdir(there):
            if not any(os.path.isfile(os.path.join(there, name)) for name in ("pyproject.toml", "setup.py")):
                raise errors.Failure(f"{where}: {path} has neither pyproject.toml nor setup.py", errors.NOT_FOUND,
                                     evidence=line, remedy=f"take '{line}' out of the requirements",
                                     change=("--drop-package", line))
            self.into.projects.append(Project(there, sorted_extras(extras), editable, line, marker, self.into.code))
        elif not path.endswith(ARCHIVES):
            raise errors.Failure(f"{where}: {path} is neither a folder nor a package's file ({', '.join(ARCHIVES)})",
                                 errors.BAD_DATA, evidence=line, remedy=f"take '{line}' out of the requirements",
                                 change=("--drop-package", line))
        else:
            archive = Archive(there, sorted_extras(extras), without_hashes(line)[0], marker, True)
            if hashes and f"sha256:{archive.digest}" not in hashes:
                raise errors.Failure(f"{where}: {path} has another SHA-256 than was recorded", errors.BAD_DATA,
                                     evidence=f"it is {archive.digest}",
                                     remedy=f"find out who replaced {path}, or record its new hash")
            self.into.archives.append(archive)

    def _elsewhere(self, name: str, extras: str | None, path: str, marker: str, where: str) -> None:
        """A path of the machine that recorded the list: its name is kept, and its version where the path has one."""
        spelling = re.sub(r"[-_.]+", "[-_.]+", name)
        stem = re.sub(r"\.(whl|zip|tgz|tar\.\w+)$", "", os.path.basename(path))
        found = re.match(rf"{spelling}-(\d[^-]*)(?:-|$)", stem, re.I)
        kept = name + (f"[{extras}]" if extras else "") + (f"=={found[1]}" if found else "")
        self.into.notes.append(f"{where}: {path} is not on this machine, {kept} is taken instead")
        self.into.packages.append(kept + marker)

    def _there(self, value: str, where: str) -> str:
        beside = [os.path.dirname(path) for path in self.reading[-1:]]
        for folder in [*self.folders, *beside]:
            path = os.path.normpath(os.path.join(folder, os.path.expanduser(value)))
            if os.path.exists(path):
                return path
        raise errors.Failure(f"{where}: {value} is not there", errors.NOT_FOUND,
                             remedy=f"commit {value} to the repository, or take it out of the requirements",
                             change=errors.CODE_ANEW)

    def _is_path(self, line: str) -> bool:
        path = re.split(r"[\[;]", line, maxsplit=1)[0].strip()
        if path.startswith((".", "/", "~")) or path.endswith(ARCHIVES):
            return True
        return "/" in path and any(os.path.exists(os.path.join(folder, path)) for folder in self.folders)


def decoded(data: bytes) -> str:
    """A list's text, in the encoding that its first bytes tell: `pip freeze > FILE` of a PowerShell writes UTF-16."""
    import codecs
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
                           (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return data[len(mark):].decode(encoding, "replace")
    return data.decode("utf-8", "surrogateescape")


def _logical_lines(lines: list[str]) -> list[tuple[int, str]]:
    """(number, text) without comments and blanks, lines that end in a backslash joined, as pip does."""
    found: list[tuple[int, str]] = []
    pending, start = "", 0
    for number, raw in enumerate([*lines, ""], 1):
        line = raw.lstrip("\ufeff").rstrip()
        start = start if pending else number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            pending += line[:-1].strip() + " "
            continue
        text = re.sub(r"(?:^|(?<=\s))#.*$", "", pending + line.strip()).strip()
        pending = ""
        if text:
            found.append((start, text))
    return found
