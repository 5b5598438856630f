"""Projects as lists: uv.lock, poetry.lock and pyproject.toml become requirement lines, and all the rest is the same.
Which of them counts, and uv's locks; the others' lines are poetry_lock.py's and project_file.py's.

A lock counts for the machine that installs, by its markers; its hashes are compared with the files.
"""

from __future__ import annotations

import os

from agentpipe import errors, files
from agentpipe.environment.pins import load_toml, read_toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from agentpipe.job import Job

MANAGER = "agent.package_manager."
FILES = {"uv": "uv.lock", "poetry": "poetry.lock"}
# of `uv sync`, what says which part of a lock is meant
UV_ALONE = {"--all-extras", "--all-groups", "--no-default-groups", "--no-dev", "--only-dev", "--dev", "--all-packages",
            "--no-editable"}
INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")
UV_WITH_VALUE = {"--extra", "--no-extra", "--group", "--no-group", "--only-group", "--package"}
OF_A_LOCK = {"--only-group", "--only-dev", "--package", "--all-packages", "--no-editable"}


class Found:
    """A project: `kind` ("uv.lock", "poetry.lock", "pyproject.toml"), its `folder`, what it asks for as `lines`, and
    the versions of `python` that it is for (">=3.10,<4"; "" for any)."""

    def __init__(self, kind: str, folder: str, lines: list[str], notes: list[str], python: str) -> None:
        self.kind, self.folder, self.lines, self.notes, self.python = kind, folder, lines, notes, python


def asked_for(job: Job, code: str, folder: str) -> Found | None:
    """The project that agent.package_manager.type (uv, poetry) says is to be used whatever the task records."""
    from agentpipe.settings import config
    kind = (config.get(MANAGER + "type") or "").lower()
    for name, variable in (("poetry", "CLEARML_AGENT_FORCE_POETRY"), ("uv", "CLEARML_AGENT_FORCE_UV")):
        kind = name if config.flag("", False, variable) else kind
    if kind not in FILES:
        return None
    in_folder = config.flag(MANAGER + f"{kind}_files_from_repo_working_dir")
    for place in (folder, code) if in_folder else (code, folder):
        if os.path.isfile(os.path.join(place, FILES[kind])):
            return _read(job, FILES[kind], place)
        if os.path.isfile(os.path.join(place, "pyproject.toml")):
            return _read(job, "pyproject.toml", place)
    return None


def nearest(job: Job, code: str, folder: str) -> Found | None:
    """The project whose files stand nearest above the script: for a task that records nothing."""
    place = folder
    while True:
        for name in ("uv.lock", "poetry.lock", "pyproject.toml"):
            if os.path.isfile(os.path.join(place, name)) and os.path.isfile(os.path.join(place, "pyproject.toml")):
                of = _workspace(code, place, read_toml) if name == "pyproject.toml" else None
                found = _of_member(job, place, *of) if of else _read(job, name, place)
                if found is not None:
                    return found
        if place in (code, "/"):
            return None
        place = os.path.dirname(place)


def named(code: str, folder: str) -> str:
    """The file of the project, or of conda, that a task without a record in `folder` takes its packages from; or ""."""
    from agentpipe.environment import conda_files
    place = os.path.normpath(folder)
    while True:
        for name in ("uv.lock", "poetry.lock", "pyproject.toml"):
            path = os.path.join(place, name)
            if os.path.isfile(path) and os.path.isfile(os.path.join(place, "pyproject.toml")) and (
                    name != "pyproject.toml" or _asks(load_toml(path))):
                of = _workspace(code, place) if name == "pyproject.toml" else None
                path = os.path.join(of[0], "uv.lock") if of else path
                return os.path.relpath(path, code)
        if place in (code, "/"):
            found = conda_files.in_repository(code, os.path.normpath(folder))
            return os.path.relpath(found, code) if found else ""
        place = os.path.dirname(place)


def _workspace(code: str, folder: str, read: Callable[[str], dict[str, Any]] = load_toml) -> tuple[str, str] | None:
    """(the folder above whose uv.lock has this project as a member of its workspace, the project's name in it). `read`
    may refuse a lock that is no TOML: of a workspace it is not to be passed over, with other versions than it names."""
    above = folder
    while above not in (code, "/"):
        above = os.path.dirname(above)
        lock = os.path.join(above, "uv.lock")
        if os.path.isfile(lock):
            try:
                for package in (read if folder in _members(above) else load_toml)(lock).get("package") or []:
                    source = package.get("source") or {}
                    path = source.get("editable") or source.get("virtual")
                    if path and os.path.normpath(os.path.join(above, path)) == folder:
                        return above, package["name"]
            except (AttributeError, LookupError, TypeError):  # no lock of uv
                pass
            return None
    return None


def _members(folder: str) -> set[str]:
    """The folders that the workspace of a project takes in, by the patterns of its pyproject.toml."""
    tool = load_toml(os.path.join(folder, "pyproject.toml")).get("tool", {}).get("uv", {})
    told = tool.get("workspace", {})
    taken, left_out = (_matching(folder, told.get(name)) for name in ("members", "exclude"))
    return taken - left_out


def _matching(folder: str, patterns: Any) -> set[str]:
    """What is there below a folder under names of these patterns; a ** goes behind no link."""
    from pathlib import Path  # glob's own follows links, also in circles
    found = set()
    for pattern in patterns if isinstance(patterns, list) else ():
        try:
            found |= {os.path.normpath(each) for each in Path(folder).glob(str(pattern))}
        except (ValueError, NotImplementedError, IndexError, OSError):  # what no pattern can be
            continue
    return found


def _of_member(job: Job, folder: str, workspace: str, name: str) -> Found:
    from agentpipe.environment import project_file
    python = project_file.python(read_toml(os.path.join(folder, "pyproject.toml")))
    return Found("uv.lock", workspace, *_of_uv(job, workspace, python, ["--package", name]), python)


def _asks(project: dict[str, Any]) -> bool:
    """Whether a pyproject.toml is more than the settings of tools."""
    return "project" in project or "poetry" in project.get("tool", {})


def _read(job: Job, kind: str, folder: str) -> Found | None:
    from agentpipe.environment import project_file
    path = os.path.join(folder, "pyproject.toml")
    python = project_file.python(read_toml(path)) if os.path.isfile(path) else ""
    if kind == "uv.lock":
        return Found(kind, folder, *_of_uv(job, folder, python), python)
    if kind == "poetry.lock":
        from agentpipe.environment import poetry_lock
        from agentpipe.settings import config
        lines, notes = poetry_lock.lines(folder, config.get_list(MANAGER + "poetry_install_extra_args"))
        return Found(kind, folder, lines, notes, python)
    from agentpipe.settings import config
    words, notes = _uv_words(config.get_list(MANAGER + "uv_sync_extra_args"))
    notes += [f"agent.package_manager.uv_sync_extra_args: {word} is passed over, there is no uv.lock"
              for word in words if word in OF_A_LOCK]
    found = project_file.lines(folder, words)
    return None if found is None else Found(kind, folder, found[0], notes + found[1], python)


# ---- uv

def _of_uv(job: Job, folder: str, python: str, more: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """(lines, notes) of a uv.lock, by `uv export`; kept for the next task that has the same."""
    from agentpipe.environment import interpreters
    from agentpipe.settings import config
    told = config.get_list(MANAGER + "uv_sync_extra_args")
    words, notes = _uv_words(told if "--all-packages" in told else [*more, *told])
    locked = config.flag(MANAGER + "uv_sync_locked_if_lock_file", True)
    memory = _memory(job, folder, [*words, str(locked)])
    known = _kept(memory)
    if known is not None:
        return known, notes
    lock = os.path.join(folder, "uv.lock")
    before = files.list_of_task(lock)
    try:
        # uv looks for a Python that fits in fewer places than we do
        here = ["--python", interpreters.find(job, python)["executable"]] if python else []
        text, fits = _exported(job, folder, [*words, *here], locked)
    finally:
        if files.list_of_task(lock) != before:
            _put_back(job, lock, before)
    if not fits:
        notes = [*notes, "uv.lock does not fit pyproject.toml any more: it is resolved anew for this task"]
    lines = [line for line in text.splitlines() if line.strip() != "--index-url https://pypi.org/simple"]
    if fits and not job.option("dry_run"):
        _keep(memory, lines)
    return lines, notes


def _put_back(job: Job, lock: str, before: bytes) -> None:
    """The task's checkout stays as it was; where its container may write there, by that."""
    from agentpipe.place import apart
    if apart.folder(job):
        files.publish(job.path("uv.lock"), before)
        apart.write(job, job.path("uv.lock"), lock)
        return
    with open(lock, "wb") as out:
        out.write(before)


def _exported(job: Job, folder: str, words: list[str], locked: bool) -> tuple[str, bool]:
    """(the list, whether the lock fits the project)."""
    # a lock holds the indexes that it was made with: the project's, or those of whoever made it
    for own in (False, True) if locked else ():
        try:
            return _export(job, folder, [*words, "--locked"], own), True
        except errors.Failure as failure:
            # elsewhere than with its own indexes it may not even be resolved
            if own and "--locked" not in getattr(failure, "output", ""):
                raise _no_lock(job, failure) from None
    try:
        return _export(job, folder, words, True), not locked
    except errors.Failure as failure:
        raise _no_lock(job, failure) from None


def _export(job: Job, folder: str, words: list[str], own_indexes: bool) -> str:
    from agentpipe.environment import git_pins
    from agentpipe.environment.installers import uv
    from agentpipe.settings import indexes
    lock = files.list_of_task(os.path.join(folder, "uv.lock")).decode("utf-8", "replace")
    repositories = [f"git+{line}" for line in _git_urls(lock)]
    # a lock was made with or without pre-releases: told otherwise, uv calls it outdated
    lines = [line for line in indexes.lines() if line != "--pre"]
    env = {**(indexes.as_variables(lines) if own_indexes else dict.fromkeys(INDEXES, "")),
           **git_pins.access(job, repositories)}
    return uv.run(job, ["export", "--quiet", "--no-header", "--no-annotate", "--emit-index-url", "--format",
                        "requirements.txt", *words], loud=False, cwd=folder, env=env)


def _git_urls(text: str) -> list[str]:
    import re
    return sorted(set(re.findall(r'git = "([^"?#]+)', text)))


def _no_lock(job: Job, failure: errors.Failure) -> errors.Failure:
    import re

    from agentpipe.environment.installers import uv_failures
    said = getattr(failure, "output", failure.evidence) or failure.reason
    wrong = re.search(r"resolved to Python ([\d.]+), which is incompatible with [^:]*: `([^`]+)`",
                      " ".join(said.split()))
    if wrong:
        return errors.Failure(f"the project needs Python{wrong[2]}, this is {wrong[1]}", errors.NOT_FOUND, said[-4000:],
                              "use an image that has it: agent-task edit --docker IMAGE" if job.prefix else
                              "give the task another Python: agent-task edit --python VERSION")
    unknown = re.search(r"(Extra|Group) `([^`]+)` is not defined", said)
    if unknown:  # a lock made anew would not have it either
        return errors.Failure(f"pyproject.toml has no {unknown[1].lower()} {unknown[2]}", errors.NOT_FOUND,
                              said[-4000:], "correct agent.package_manager.uv_sync_extra_args")
    remedy = "run `uv lock` in the project, and commit uv.lock"
    if "No solution found" in said:
        remedy = f"correct what pyproject.toml asks for, {remedy}"
    return errors.Failure(f"uv.lock cannot be used: {uv_failures.first_words(said) or failure.reason}", errors.BAD_DATA,
                          said[-4000:], remedy, errors.CODE_ANEW)


def _uv_words(words: list[str]) -> tuple[list[str], list[str]]:
    found, notes = [], []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in UV_WITH_VALUE:
            found += [name, value if equals else next(rest, "")]
        elif word in UV_ALONE:
            found.append(word)
        elif word not in ("--locked", "--frozen", "--inexact", "--quiet", "-q"):
            notes.append(f"agent.package_manager.uv_sync_extra_args: {word} is passed over")
    return found, notes


def _memory(job: Job, folder: str, words: list[str]) -> str:
    """Where the lines are kept; what a container has printed counts in containers of its image alone."""
    import hashlib

    from agentpipe import paths
    from agentpipe.environment import requirements
    from agentpipe.files import file_digest
    from agentpipe.place import apart
    from agentpipe.settings import indexes
    place = job.manifest.get("place") or {}
    where = ["apart", str(place.get("image_id") or place.get("container"))] if apart.folder(job) else []
    parts = [*where, *words, *indexes.fingerprint()]
    for each in _locked(folder, requirements.folders(job)[0]):
        for leaf in ("pyproject.toml", "uv.lock", "uv.toml"):
            path = os.path.join(each, leaf)
            if os.path.isfile(path):
                parts.append(f"{os.path.relpath(path, folder)} {file_digest(path, True)}")
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape"))
    return paths.cache("locks", digest.hexdigest()[:32])


def _locked(folder: str, code: str) -> list[str]:
    """The folders of the checkout on whose files a uv.lock depends: its own, those that it names, and the members of
    its workspace."""
    import re

    from agentpipe.environment.requirements import inside
    text = files.list_of_task(os.path.join(folder, "uv.lock")).decode("utf-8", "surrogateescape")
    found = [".", *re.findall(r'\b(?:editable|virtual|directory) = "([^"]*)"', text)]
    places = {os.path.normpath(os.path.join(folder, each)) for each in found} | _members(folder)
    return sorted(each for each in places if inside(each, code))


def _kept(path: str) -> list[str] | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return None


def _keep(path: str, lines: list[str]) -> None:
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    files.publish(path, "\n".join(lines).encode())
