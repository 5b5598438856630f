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


def of_project(project: Found, code: str, folder: str) -> Requirements:
    """The list of a project (lock_files.py); its own folders are named as a record of the task has to name them."""
    from agentpipe.environment.requirement_lines import Reader
    where = os.path.relpath(os.path.join(project.folder, project.kind), code)
    found = requirements.Requirements(code, where)
    found.notes += project.notes
    found.python = project.python
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


def with_conda(wanted: Wanted, code: str, folder: str) -> Requirements:
    """What is asked of conda, and what of pip beside it."""
    from agentpipe.environment.requirement_lines import Reader
    found = requirements.Requirements(code, wanted.origin)
    found.conda = wanted
    Reader(found, [*wanted.folders, folder, code]).read(wanted.pip, wanted.origin)
    return found


def pinned(job: Job, pinned: list[Any], code: str, folder: str) -> Requirements:
    """The list of a receipt: these files and no others."""
    from agentpipe import errors
    from agentpipe.environment import pins
    from agentpipe.environment.requirement_lines import Reader
    wrong = next((pin for pin in pinned if not pins.is_pin(pin)), None)
    if wrong is not None:
        raise errors.Failure(f"pins.packages holds what is no package: {str(wrong)[:100]}", errors.BAD_DATA,
                             remedy="use a receipt as agent-run printed it")
    found = requirements.Requirements(code, "the receipt's pins")
    of_conda = [pin for pin in pinned if isinstance(pin, dict) and pin.get("conda")]
    if of_conda:
        from agentpipe.environment import conda_files
        channels = [conda_files.with_login(re.sub(r"/[^/]+/[^/]+$", "", str(pin.get("source")))) for pin in of_conda]
        found.conda = conda_files.Wanted(found.origin, [], [], list(dict.fromkeys(channels)))
        found.conda.exact = of_conda
    rest = [pin for pin in pinned if pin not in of_conda]
    Reader(found, [folder, code]).read([*requirements.option_lines(job), *pins.lines(rest)], found.origin)
    found.exact, found.pins = True, [pin for pin in pinned if pin not in found.local_lines()]
    sources = (str(pin.get("source")) for pin in pinned if isinstance(pin, dict))
    indexes = (re.search(r"download\.pytorch\.org/whl/(\w+)/", source) for source in sources)
    found.torch_index = next((match[1] for match in indexes if match), "")
    return found
