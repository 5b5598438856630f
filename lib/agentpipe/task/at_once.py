"""Edits of one task at the same time: each is worked out from what the other has written, and none is lost."""

from __future__ import annotations

import contextlib
import os

from agentpipe import errors, find, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SUBCODE = 121  # a server's word for "somebody has changed it before you"
SCRIPT = ("entry_point", "requirements")
FIELDS = ("tags", "hyperparams", "container")
PATIENCE_S = 60.0


class Changed(Exception):
    """The task is not any more what the change was worked out from."""


@contextlib.contextmanager
def alone(api: Any) -> Iterator[None]:
    """No other edit of this machine meanwhile, where the server cannot tell them apart."""
    if api.ours:
        yield
        return
    from agentpipe import files
    fd = os.open(paths.state("edit.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not files.lock_within(fd, PATIENCE_S):
            raise errors.Failure("another agent-task edit of this machine does not end", errors.TRY_AGAIN)
        yield
    finally:
        os.close(fd)


def write(api: Any, task: dict[str, Any], changes: dict[str, Any], force: bool = False) -> None:
    """tasks.edit with changes that were worked out from `task`; Changed when these fields have changed since.

    agent-server and the embedded store look by themselves, in the edit's own transaction. A ClearML server knows no
    such edit: there the look is right before it.
    """
    body = {"task": task["id"], **changes, **({"force": True} if force else {})}
    was = before(task, changes)
    if was and api.ours:
        body["was"] = was
    elif was and before(find.task(api, task["id"]), changes) != was:
        raise Changed
    try:
        api.call("tasks.edit", body)
    except errors.ApiError as error:
        if was and error.subcode == SUBCODE:
            raise Changed from None
        raise


def before(task: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """What the task has in the fields whose new values are made out of the old ones."""
    found = {field: task.get(field) for field in FIELDS if field in changes}
    script = {field: (task.get("script") or {}).get(field) for field in SCRIPT if field in changes.get("script", {})}
    return {**found, **({"script": script} if script else {})}
