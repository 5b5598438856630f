"""A file or folder of a checkout that git does not know, so that no worker got it: how it comes along with its task.

What git ignores is ignored on purpose: a command for it stands in words, and none for what looks like a secret, since a
task can be read by everybody who may read its server.
"""

from __future__ import annotations

import os
import shlex

from agentpipe.capture.secret_files import looks_secret
from agentpipe.task import whereabouts
from agentpipe.task.remedies import anew, fresh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

NO_SECRET = "let the script take it from the worker's environment, or from a file there by its absolute path"


def along(task: dict[str, Any], path: str, is_large: bool = False) -> Known:
    """{remedy or advice} for a path of the task's checkout; what is large is for no diff."""
    from agentpipe.capture import capture_git
    top = whereabouts.checkout(task)
    name = os.path.relpath(path, top)
    if capture_git.text(top, "check-ignore", "--", path):
        if looks_secret(name):
            return {"advice": f"git ignores it, and it looks like a secret, which is not for a task: {NO_SECRET}"}
        return {"advice": f"git ignores it; if everybody who can read the task may have it, in {top}: "
                          f"{fresh(task, '--bundle', '--include', name)}"}
    new = capture_git.text(top, "ls-files", "--others", "--exclude-standard", "--", path).splitlines()
    if any(map(looks_secret, new)):
        return {"advice": f"it looks like a secret, which is not for a task: {NO_SECRET}"}
    if is_large:
        return {"advice": f"in {top}: {fresh(task, '--bundle', '--include', name)}"}
    return {"remedy": f"{shlex.join(['git', '-C', top, 'add', '-N', '--', path])} && {anew(task, top)}"}
