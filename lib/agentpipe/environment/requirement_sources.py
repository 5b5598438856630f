"""Lists that do not stand in the task as pip's: a receipt's pins, projects with a lock, conda's sections and files."""

from __future__ import annotations

import os
import re

from agentpipe.environment import requirements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.environment.conda_files import Wanted
    from agentpipe.environment.local_packages import Archive, Project
    from agentpipe.environment.lock_files import Found
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job


LOCKING = {"uv.lock": ", and run `uv lock`", "poetry.lock": ", and run `poetry lock`"}


def of_project(project: Found, code: str, folder: str) -> Requirements:
    """The list of a project (lock_files.py); its own folders are named as a record of the task has to name them."""
    from agentpipe.environment.requirement_lines import Reader
    where = os.path.relpath(os.path.join(project.folder, project.kind), code)
    found = requirements.Requirements(code, where)
    found.notes += project.notes
    found.python = project.python
    found.project = os.path.join(os.path.dirname(where), "pyproject.toml") + LOCKING.get(project.kind, "")
    Reader(found, [project.folder, code]).read(project.lines, where)
    for each in found.projects:
        each.line = ("-e " if each.editable else "") + _line(each, folder)
    for archive in found.archives:
        archive.line = _line(archive, folder)
    return found


def _line(each: Project | Archive, folder: str) -> str:
    from agentpipe.environment import local_packages
    extras, marker = f"[{each.extras}]" if each.extras else "", f" ; {each.marker}" if each.marker else ""
    return local_packages.named(each.path, folder) + extras + marker


def of_conda(job: Job, code: str, folder: str) -> Requirements | None:
    """What is asked of conda, where that is the manager: its own record, a file of the repository, a pip list."""
    from agentpipe.environment import conda_files
    from agentpipe.settings import config
    if not conda_files.is_manager():
        return None
    record = requirements.recorded(job)
    if not config.flag("agent.package_manager.force_repo_requirements_txt"):
        wanted = conda_files.recorded(record, config.flag("agent.package_manager.force_original_requirements"))
        if wanted:
            return with_conda(wanted, code, folder)
        # an empty section says: pip alone
        origin, lines = requirements.record(job) if record.get("conda") != "" else ("", [])
        if origin:
            return with_conda(conda_files.of_pip(lines, origin), code, folder)
    start = requirements.script_folder(job.task.get("script") or {}, code, folder)
    path = conda_files.in_repository(code, start) if record.get("conda") != "" else ""
    return with_conda(conda_files.of_file(path, code), code, folder) if path else None


def of_another_manager(job: Job) -> list[str]:
    """The note that a task asks for its packages by conda alone, which is not the manager here."""
    from agentpipe.environment import conda_files
    record = requirements.recorded(job)
    if conda_files.is_manager() or not (record.get("conda") or record.get("conda_env_json")):
        return []
    return ["the task's conda requirements are passed over: they count where agent.package_manager.type is conda"]


def _section(job: Job, code: str, folder: str) -> Wanted | None:
    """What the task or its repository says of conda; None when neither does."""
    from agentpipe.environment import conda_files
    found = conda_files.recorded(requirements.recorded(job), False)
    if found is None:
        start = requirements.script_folder(job.task.get("script") or {}, code, folder)
        path = conda_files.in_repository(code, start)
        found = conda_files.of_file(path, code) if path else None
    return found


def with_conda(wanted: Wanted, code: str, folder: str) -> Requirements:
    """What is asked of conda, and what of pip beside it."""
    from agentpipe.environment.requirement_lines import Reader
    found = requirements.Requirements(code, wanted.origin)
    found.conda = wanted
    found.project = wanted.origin if wanted.folders else ""
    Reader(found, [*wanted.folders, folder, code]).read(wanted.pip, wanted.origin)
    return found


def _with_secrets(job: Job, pins: list[Any]) -> list[Any]:
    """Pins of addresses with the logins, and secret values of queries, that the task's own lines have for them (also by
    ${NAME}): no receipt holds one. Failure 77 for one that is then without."""
    from agentpipe import errors, redact
    from agentpipe.environment.pins import is_direct
    known = _secret_addresses(job)
    found = []
    for pin in pins:
        if isinstance(pin, dict) and is_direct(pin):
            address, rest = _address(str(pin["source"]))
            pin = {**pin, "source": known.get(address, address) + rest}
            if redact.MASK.decode() in pin["source"]:
                raise errors.Failure(
                    f"the receipt's address of {pin['name']} lacks a secret, which no receipt holds: {pin['source']}",
                    errors.NO_PERMISSION, remedy="run a task that asks for it in its own list, where a variable may "
                                                 f"stand for the secret: {pin['name']} @ https://…=${{NAME}}")
        found.append(pin)
    return found


def _secret_addresses(job: Job) -> dict[str, str]:
    """The addresses of the task's own lines that hold a secret, by how they are shown."""
    from agentpipe.urls import without_credentials
    told = requirements.recorded(job)
    lines = [line for name in ("org_pip", "pip") for line in requirements.lines_of(told, name)]
    addresses = (_address(requirements.filled(url))[0] for line in lines
                 for url in re.findall(r"(?:git\+)?https?://[^\s;]+", line))
    return {shown: address for address in addresses if (shown := without_credentials(address)) != address}


def _address(source: str) -> tuple[str, str]:
    """(a file's or a repository's address, what stands behind it: a commit, a folder)."""
    from agentpipe.environment import git_pins
    match = git_pins.LINE.match(source)
    if match:
        return match["head"] + match["url"], (f"@{match['ref']}" if match["ref"] else "") + match["tail"]
    address, mark, rest = source.partition("#")
    return address, mark + rest


def pinned(job: Job, pinned: list[Any], code: str, folder: str) -> Requirements:
    """The list of a receipt: these files and no others."""
    from agentpipe import errors
    from agentpipe.environment import pins
    from agentpipe.environment.requirement_lines import Reader
    odd = [pin for pin in pinned if not pins.is_pin(pin)]
    if odd:
        raise errors.Failure(f"pins.packages holds what is no package: {str(odd[0])[:100]}", errors.BAD_DATA,
                             remedy="use a receipt as agent-run printed it")
    wrong = next((pin for pin in pinned if isinstance(pin, dict) and not pins.has_hash(pin)), None)
    if wrong is not None:
        raise errors.Failure(f"pins.packages: the sha256 of {wrong['name']} is none: {str(wrong['sha256'])[:100]!r}",
                             errors.BAD_DATA, remedy="use a receipt as agent-run printed it")
    found = requirements.Requirements(code, "the receipt's pins")
    theirs = [pin for pin in pinned if isinstance(pin, dict) and pin.get("conda")]
    if theirs:
        from agentpipe.environment import conda_files
        channels = [conda_files.with_login(re.sub(r"/[^/]+/[^/]+$", "", str(pin.get("source")))) for pin in theirs]
        found.conda = conda_files.Wanted(found.origin, [], [], list(dict.fromkeys(channels)))
        found.conda.exact = theirs
        asked = _section(job, code, folder)  # what else it says is no package, and not pinned
        found.conda.variables = asked.variables if asked else {}
    rest = _with_secrets(job, [pin for pin in pinned if pin not in theirs])
    Reader(found, [folder, code]).read([*requirements.option_lines(job), *pins.lines(rest)], found.origin)
    own = {*found.local_lines(), *found.local_pins()}
    found.exact, found.pins = True, [pin for pin in pinned if not isinstance(pin, str) or pin not in own]
    sources = (str(pin.get("source")) for pin in pinned if isinstance(pin, dict))
    indexes = (re.search(r"download\.pytorch\.org/whl/(\w+)/", source) for source in sources)
    found.torch_index = next((match[1] for match in indexes if match), "")
    return found
