"""`agent-task edit --checkout DIR`: a task's code taken anew, as it stands in a checkout now."""

from __future__ import annotations

import os

from agentpipe import errors
from agentpipe.task import entry_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

TAKEN = ("repository", "branch", "version_num", "diff", "working_dir", "entry_point")


def fields(task: Mapping[str, Any], directory: str, say: Callable[[str], None]) -> dict[str, str]:
    """The fields of the script that differ from the task's: commit, branch and what is not committed.

    Script, arguments, packages and interpreter stay as the task has them. Failure 66 when the script is not there, 64
    for a task that brings files along, which only `enqueue --bundle` can take.
    """
    from agentpipe.capture import capture
    from agentpipe.code import bundle
    if bundle.of(dict(task)):
        raise errors.Failure(f"task {task['id']} brings files along, which --checkout does not take", errors.USAGE,
                             remedy="enqueue the script anew with --bundle")
    before = dict(task.get("script") or {})
    found = capture.capture(_wish({**task, "script": before}, directory))
    for what, remedy in found.warnings:
        say(f"warning: {what} ({remedy})")
    for note in found.login_notes:
        say(note)
    was, branch = before.get("branch"), found.script.get("branch")
    if was and branch and was != branch:
        say(f"warning: the code of branch {branch} takes the place of that of {was} (git switch {was})")
    now = {field: found.script.get(field) or "" for field in TAKEN}
    if before.get("tag"):
        now["tag"] = ""  # else it would still be that tag's commit
    return {field: value for field, value in now.items() if value != (before.get(field) or "")}


def _wish(task: dict[str, Any], directory: str) -> Any:
    """The same script and arguments, to be looked for below `directory`."""
    from agentpipe.capture import capture, capture_git
    script, words = task["script"], entry_words.needed(task)
    module = words[:1] == ["-m"] and len(words) > 1
    name, args = words[module], words[1 + module:]
    # the packages stay: nothing is to be said of them
    same: dict[str, Any] = {"binary": script.get("binary") or "python3", "requirements": "none"}
    if not script.get("repository"):
        path = os.path.join(directory, name)
        # whoever made the task has chosen the name, and its text goes to where everybody can read it
        if os.path.isabs(name) or ".." in name.split("/"):
            raise errors.Failure(f"the task's script {name} is not in {directory}", errors.BAD_DATA,
                                 remedy=f"give it the file that is meant: agent-task edit {task['id']} --entry-point "
                                        f"{os.path.basename(name) or 'SCRIPT'} --checkout {directory}")
        if not os.path.isfile(path):
            raise errors.Failure(f"no file {path}", errors.NOT_FOUND)
        return capture.Wish(path, args, working_dir=os.path.abspath(directory), **same)
    top = capture_git.root(directory)
    if not top:
        raise errors.Failure(f"{directory} is no git checkout", errors.NOT_FOUND)
    folder = script.get("working_dir") or "."
    path = name if module else os.path.join(top, "" if folder == "." else folder, name)
    return capture.Wish(path, args, module, repo=top, working_dir=folder, **same)
