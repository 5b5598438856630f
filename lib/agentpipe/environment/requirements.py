"""What a task asks to be installed: its recorded list, or the repository's files.

The lines are sorted into what the base environment holds (index packages, URLs, wheels) and what is the task's own
(folders, `-e .`), and are spelled in one way for the cache's key: order, comments, blanks and case do not matter there.
"""

from __future__ import annotations

import os

from agentpipe.files import file_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from agentpipe.environment.conda_files import Wanted
    from agentpipe.environment.local_packages import Archive, Project
    from agentpipe.job import Job

# what installers look at in a folder of packages
LINKED = (".whl", ".zip", ".egg", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".xz", ".txz", ".lzma", ".tlz", ".html")
# (of blanks each run has one place in a pattern here and in requirement_syntax.py: with two a long one takes for ever)
NAME = r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:\s*\[([^\]]*)\])?\s*"


class Requirements:
    """A list that was read.

    `origin` says for people where it comes from ("" when there is none). `packages` and `archives` go into the base,
    `projects` into the overlay; `options` are (name, value) in pip's long spelling, `constraints` limit versions
    (`build_constraints` those of what builds packages), `overrides` count whatever packages need; `notes` are what its
    owner should hear; `places` says of a line of a file where it stands ("line 3 of more.txt"), `option_places` of an
    option's value; `exact` lists are complete. `found` are the folders (path, editable) that the installer was led to
    by the projects.
    """

    def __init__(self, code: str, origin: str = "") -> None:
        self.code = code
        self.origin = origin
        self.packages: list[str] = []
        self.archives: list[Archive] = []
        self.projects: list[Project] = []
        self.found: list[tuple[str, bool]] = []
        self.options: list[tuple[str, str]] = []
        # of projects, indexes with a login that are asked for nothing but what names them: uv knows them by the project
        # itself, not by its lock
        self.explicit: list[tuple[str, str]] = []
        self.constraints: list[str] = []
        self.build_constraints: list[str] = []
        self.overrides: list[str] = []
        self.notes: list[str] = []
        self.places: dict[str, str] = {}
        self.option_places: dict[str, str] = {}
        # a receipt's list: complete, and to be installed as it is
        self.exact = False
        self.pins: list[Any] = []
        self.torch_index = ""
        # where it is mended, when that is a file of a project or of conda and no list: no record may take its place
        self.project = ""
        # the versions of Python that the list's project is for (">=3.10"), where it says so
        self.python = ""
        # what is asked of conda beside it (conda_files.py)
        self.conda: Wanted | None = None
        # for the installers, of the machine's owner: how indexes are reached
        self.variables: dict[str, str] = {}
        # lines of repositories with the passwords that the others are without
        self.secrets: list[str] = []

    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.packages or self.archives or self.projects or self.conda)

    def canonical(self) -> list[str]:
        """One spelling of everything that decides what is installed: equal lists give equal environments."""
        lines = sorted({spelled(line) for line in self.packages})
        for kind, listed in (("-c", self.constraints), ("build", self.build_constraints), ("over", self.overrides)):
            lines += sorted({f"{kind} {spelled(line)}" for line in listed})
        lines += [f"{name} {filled(value.removeprefix(self.code + '/'))}".strip() for name, value in self.options]
        lines += [f"link {os.path.basename(path)} {file_digest(path)}" for path in self.linked_files()]
        lines += sorted(f"archive {os.path.basename(each.path)}[{each.extras}] {each.digest}"
                        for each in self.archives)
        lines += self.conda.canonical() if self.conda else []
        return lines + sorted(f"project [{project.extras}] {project.digest}" for project in self.projects)

    def file_text(self) -> str:
        """What goes into the base, as a requirements file; projects stand for what they depend on."""
        lines = list(self.packages)
        lines += [each.path + (f"[{each.extras}]" if each.extras else "") for each in self.archives]
        lines += [("-e " if project.editable else "") + project.path
                  + (f"[{project.extras}]" if project.extras else "") for project in self.projects]
        return "".join(line + "\n" for line in lines)

    def local_lines(self) -> list[str]:
        """The lines about the task's own files, as it wrote them (for the manifest)."""
        return [each.line for each in self.archives] + [each.line for each in self.projects]

    def local_pins(self) -> list[str]:
        """The same for a receipt: of a package's file with its hash (a folder is pinned by the task's commit)."""
        return [each.pin() for each in self.archives] + [each.line for each in self.projects]

    def option_lines(self) -> list[str]:
        """The task's own options (indexes), without passwords; what lies in the checkout by its path from the top."""
        from agentpipe.urls import without_credentials
        own = ((name, f"./{os.path.relpath(value, self.code)}" if value.startswith("/") and inside(value, self.code)
                else value) for name, value in self.options)
        return [without_credentials(f"{name} {value}".strip()) for name, value in own]

    def linked_files(self) -> list[str]:
        """What lies in the checkout where the list says `--find-links`: other files have the same names elsewhere."""
        own = [value for name, value in self.options if name == "--find-links" and inside(value, self.code)]
        each = (os.path.join(place, name) for place in own if os.path.isdir(place)
                for name in sorted(os.listdir(place)) if name.endswith(LINKED))
        return [path for path in [*each, *own] if os.path.isfile(path)]

    def has_hashes(self) -> bool:
        """Whether it says itself which files are meant."""
        return any("--hash" in line for line in self.packages) or ("--require-hashes", "") in self.options

    def has_passwords(self) -> bool:
        """Whether a line of it brings a login for an index or an address (those of repositories: code/proofs.py)."""
        from agentpipe.urls import without_credentials
        lines = [*self.packages, *(value for _, value in self.options)]
        return any(without_credentials(line) != line for line in lines)

    def only(self, wanted: Callable[[str], bool], projects: bool = True) -> Requirements:
        """The same with those packages alone whose normalised names are `wanted`; archives go with the projects."""
        import copy
        import re
        found = copy.copy(self)
        matches = ((re.match(NAME, line), line) for line in self.packages)
        found.packages = [line for match, line in matches if wanted(normalised(match[1]) if match else "")]
        found.constraints, found.conda = list(self.constraints), None
        if not projects:
            found.projects, found.archives = [], []
        return found

    def names(self) -> set[str]:
        """The normalised names of the packages that are asked for."""
        import re
        found = (re.match(NAME, line) for line in self.packages)
        return {normalised(match[1]) for match in found if match}

    def also(self, names: list[str] | None) -> None:
        """Ask for these packages too (a notebook's ipython), where nothing of that name is asked for."""
        known = self.names()
        self.packages += [name for name in names or () if normalised(name) not in known]


def of_task(job: Job) -> Requirements:
    """What this task asks for.

    Its record (`pins` of a receipt, `script.requirements.pip` or `org_pip`), else every requirements.txt from the
    repository's root down to the script's folder (as ClearML Agent does), else the nearest project (uv.lock,
    poetry.lock, pyproject.toml). Failure 65 for a line that nobody
    understands, 66 for a file or folder that is not there.
    """
    from agentpipe.environment.requirement_lines import Reader
    code, folder = folders(job)
    pinned = (job.manifest.get("pins") or {}).get("packages")
    from agentpipe.environment import requirement_sources, uv_indexes
    if isinstance(pinned, list):
        return uv_indexes.with_logins(requirement_sources.pinned(job, pinned, code, folder), code, folder)
    from agentpipe.environment import lock_files
    there = os.path.isdir(code)
    conda = requirement_sources.of_conda(job, code, folder)
    if conda:
        return conda
    project = lock_files.asked_for(job, code, folder) if there else None
    if project:
        return uv_indexes.with_logins(requirement_sources.of_project(project, code, folder), code, project.folder)
    origin, lines = record(job)
    found = Requirements(code, origin)
    if origin:
        Reader(found, [folder, code]).read(lines, origin)
        return found
    found.notes += requirement_sources.of_another_manager(job)
    if not there:
        found.notes.append(f"{code} is not there yet, so a requirements.txt in it is not looked at")
    start = script_folder(job.task.get("script") or {}, code, folder)
    for path in _files(code, start):
        found.origin = "the repository's requirements.txt"
        Reader(found, [folder, code]).file(path)
    if not there or found.origin:
        return found
    project = lock_files.nearest(job, code, start)
    if project:
        return uv_indexes.with_logins(requirement_sources.of_project(project, code, folder), code, start)
    from agentpipe.environment import conda_files
    path = conda_files.in_repository(code, start)
    return requirement_sources.with_conda(conda_files.of_file(path, code), code, folder) if path else found


def frozen(asked: Requirements, packages: list[str]) -> Requirements:
    """What a task asks for whose record is that of this one: all of `packages`, at their versions."""
    from agentpipe.environment.requirement_lines import Reader
    found = Requirements(asked.code, "the recorded packages")
    Reader(found, [asked.code]).read([*asked.option_lines(), *packages], found.origin)
    return found


def normalised(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    import re
    return re.sub(r"[-_.]+", "-", name).lower()


def filled(text: str) -> str:
    """With the values of `${NAME}`, as pip reads its files; what is not set stays. Only for what the installer gets.
    uv's logins, which it puts into no URL, are quoted."""
    import re
    from urllib.parse import quote

    def value(found: re.Match[str]) -> str:
        told = os.environ.get(found[1]) or found[0]
        return quote(told, safe="") if found[1].startswith("UV_INDEX_") and told != found[0] else told
    return re.sub(r"\$\{([A-Z0-9_]+)\}", value, text)


def unset(text: str) -> list[str]:
    """The names that filled() finds no value for."""
    import re
    return [name for name in re.findall(r"\$\{([A-Z0-9_]+)\}", text) if not os.environ.get(name)]


def inside(path: str, folder: str) -> bool:
    """Whether a path lies in a folder, or is it; in no folder ("") lies nothing."""
    return bool(folder) and (path + "/").startswith(folder.rstrip("/") + "/")


def sorted_extras(extras: str | None) -> str:
    """Extras in one spelling."""
    return ",".join(sorted(normalised(extra.strip()) for extra in (extras or "").split(",") if extra.strip()))


def spelled(line: str) -> str:
    """A requirement in one spelling: name and extras normalised, versions sorted, no needless blanks."""
    import re
    body, *flags = map(str.strip, re.split(r"\s(?=--)", line))
    match = re.match(NAME + r"([^;]*)(;.*)?$", body, re.DOTALL)
    if not match or "://" in body.split("@")[0]:
        return line
    name, extras, rest, marker = match.groups()
    if rest.startswith("@"):
        rest = " @ " + rest[1:].strip()
    else:
        rest = ",".join(sorted(re.sub(r"[\s()]", "", rest).strip(",").split(",")))
    marker = re.sub(r"\s+", " ", (marker or "").replace("'", '"').strip("; ")).strip()
    known = normalised(name) + (f"[{sorted_extras(extras)}]" if extras else "") + rest
    return " ".join([known + (f"; {marker}" if marker else ""), *sorted(flags)])


def record(job: Job) -> tuple[str, list[str]]:
    """(where it stands, its lines) of what the task itself records; ("", []) when it records nothing."""
    from agentpipe.settings import config
    if config.flag("agent.package_manager.force_repo_requirements_txt"):
        return "", []
    told = recorded(job)
    original = config.flag("agent.package_manager.force_original_requirements") and told.get("org_pip")
    lines = lines_of(told, "org_pip" if original else "pip")
    return ("the task's requirements", lines) if any(line.strip() for line in lines) else ("", [])


def option_lines(job: Job) -> list[str]:
    """Indexes that the task names, or that its repository did where it ran: pinned packages come from there too."""
    import re

    from agentpipe.urls import without_credentials
    names = ("--extra-index-url", "--index-url", "--find-links", "-i ", "-f ", "--trusted-host", "--pre", "--no-index")

    def value(line: str) -> str:
        return without_credentials(re.split(r"[\s=]+", line.strip(), maxsplit=1)[-1])
    lines = lines_of(recorded(job), "org_pip") + lines_of(recorded(job), "pip")
    found = [line for line in lines if line.strip().startswith(names)]
    told = {value(line) for line in found}  # with their logins, which a receipt is without
    ran = (job.manifest.get("pins") or {}).get("options") or []
    return [line for line in map(str, ran) if line.startswith(names) and value(line) not in told] + found


def recorded(job: Job) -> dict[str, Any]:
    """`script.requirements`, passwords included: they go to the installer only."""
    from agentpipe import secrets
    return secrets.script(job).get("requirements") or {}


def lines_of(told: Mapping[str, Any], name: str) -> list[str]:
    """The lines of `script.requirements.NAME`; Failure 65 for anything else, which servers keep as it was sent."""
    text = told.get(name) or ""
    lines = text.splitlines() if isinstance(text, str) else text
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        from agentpipe import errors
        raise errors.Failure(f"script.requirements.{name} is neither a text nor a list of lines", errors.BAD_DATA,
                             remedy="write one requirement a line, as in requirements.txt")
    return lines


def folders(job: Job) -> tuple[str, str]:
    """The checkout and the working directory inside it; a task without code has its own directory for both."""
    code = os.path.normpath((job.manifest.get("fetch") or {}).get("code") or job.directory)
    script: dict[str, Any] = job.task.get("script") or {}
    inside = (job.manifest.get("patch") or {}).get("working_dir") or script.get("working_dir") or "."
    folder = os.path.normpath(os.path.join(code, inside))
    return code, folder if folder.startswith(code.rstrip("/") + "/") else code


def script_folder(script: dict[str, Any], code: str, folder: str) -> str:
    """Where the script stands in the checkout; the working directory `folder` for a module, and what is outside."""
    import shlex
    entry = str(script.get("entry_point") or "")
    if not os.path.isfile(os.path.join(folder, entry)):
        try:
            entry = next(iter(shlex.split(entry)), "")
        except ValueError:
            pass
    path = os.path.normpath(os.path.join(folder, os.path.dirname(entry)))
    return path if not entry.startswith("-") and inside(path, code) else folder


def _files(code: str, folder: str) -> list[str]:
    steps = os.path.relpath(folder, code).split(os.sep)
    if os.pardir in steps:
        steps = []
    folders = [code] + [os.path.join(code, *steps[:n + 1]) for n in range(len(steps)) if steps != [os.curdir]]
    paths = (os.path.join(each, "requirements.txt") for each in folders)
    return [path for path in paths if os.path.isfile(path)]
