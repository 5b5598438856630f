"""Arguments that have us read a file of this machine: with our rights, so of a task's only what the operator allows.

The operator's own may name any (--docker ARGS, agent.default_docker, its rules, agent.extra_docker_arguments). A task's
may name those that the operator's do, which are written back to tasks, and what lies in a folder of AGENT_TASK_FILES.
"""

from __future__ import annotations

import os

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentpipe.job import Job
    from agentpipe.place.args_words import Option

FOLDERS = "AGENT_TASK_FILES"


def check(job: Job, own: list[Option], operators: list[Option]) -> None:
    """Failure 65 for an option of the task's `own` that names a file which the operator does not allow."""
    asked = [option for option in own if named(option)]
    if not asked:
        return
    from agentpipe.place import args_words, decide
    known = [*operators]
    for words in decide.operators_words(job):
        try:
            known += args_words.parse(words)
        except errors.Failure:  # said where they are used
            continue
    files = {_real(named(option)) for option in known}
    folders = [os.path.join(_real(folder), "") for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]
    for option in asked:
        path = _real(named(option))
        if path not in files and not any(path.startswith(folder) for folder in folders):
            raise errors.Failure(f"--{option.name} {option.value}: a task's arguments may not name this file of the "
                                 "agent's machine", errors.BAD_DATA, remedy=_remedy(option))


def named(option: Option) -> str:
    """The file that is read for this option; ""."""
    from agentpipe.place import args_special
    if option.name in ("env-file", "label-file"):
        return option.value
    return args_special.profile(option.value) if option.name == "security-opt" else ""


def taking_over(options: Iterable[Option], allowed: bool) -> list[Option]:
    """The same; whether lines NAME of their files of variables get the values that this process has."""
    found = list(options)
    for option in found:
        if option.name == "env-file":
            option.environ = None if allowed else {}
    return found


def _remedy(option: Option) -> str:
    instead = "give the variables themselves (--env NAME=VALUE); or " if option.name == "env-file" else ""
    return f"{instead}the operator allows its folder: {FOLDERS}={os.path.dirname(_real(named(option)))}"


def _real(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))
