"""Where a task's script ran before, on this node: what it has saved in its own directory stands there."""

from __future__ import annotations

import os

from agentpipe import paths
from agentpipe.claim import attempt
from agentpipe.run import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VARIABLE = "AGENT_LAST_ATTEMPT"


def variables(manifest: Mapping[str, Any], directory: str) -> dict[str, str]:
    """{VARIABLE: the working directory of the attempt before the one in `directory`}.

    {} where there is none, or its task was reset since, which begins anew.
    """
    if "pull" not in manifest or not manifest["task"].get("started"):
        return {}
    found = working_directory(manifest["task"]["id"], directory)
    return {VARIABLE: found} if found else {}


def working_directory(task: str, before: str | None = None) -> str | None:
    """Where the script of the task's latest attempt ran (of those earlier than the one in the directory `before`);
    None where none has started here, or its files are gone."""
    own = int(before.rsplit(".", 1)[1]) if before else None
    for number in sorted(attempt.numbers(task), reverse=True):
        directory = paths.state("tasks", f"{task}.{number}")
        if (own is None or number < own) and attempt.began_at(directory) and not attempt.was_returned(directory):
            line = attempt.read_manifest(directory)
            cwd = launch.working_directory(line) if line and "fetch" in line else ""
            return cwd if os.path.isdir(cwd) else None
    return None
