"""Containers that an earlier life of ours left on an engine: found by their labels, and removed."""

from __future__ import annotations

import os

from agentpipe import errors, paths, place
from agentpipe.claim import attempt, claims
from agentpipe.place import engine, owner
from agentpipe.place.docker import LABEL, remove, shows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def sweep(api: Any, say: Callable[[str], object]) -> None:
    """Remove them; `say` gets what could not be: a mount that is busy, or a
    process that the kernel does not let go of, is no fault of the task that is about to start."""
    import docker
    import requests
    for found in api.containers(all=True, filters={"label": f"{LABEL}home={paths.state('tasks')}"}):
        try:
            _sweep(api, found)
        except docker.errors.APIError as error:
            say(f"an old container, {found['Id'][:12]}, cannot be removed: {error.explanation or error}")
        except requests.Timeout:  # each of them may take as long
            say(f"an old container, {found['Id'][:12]}, cannot be removed: the engine is not done within "
                f"{engine.TIMEOUT_S} s")
            return


def _sweep(api: Any, found: dict[str, Any]) -> None:
    """Remove that container, as the engine lists it, where its task's directory has no journal any more, or its attempt
    is over and nobody holds it. One that does not say whose it is may be another agent's, whose state directory has the
    path of ours inside of its own container: it stays where we have no journal of it. So does what somebody has made of
    an image of a task's container, which has its labels."""
    ours = owner.of(found["Labels"])
    if ours is False:
        return
    directory = found["Labels"].get(LABEL + "directory", "")
    if not os.path.lexists(os.path.join(directory, place.JOURNAL)):
        if ours and shows(api, found["Id"], directory):
            remove(api, found["Id"])
    elif attempt.is_over(directory) and shows(api, found["Id"], directory):
        try:
            lock = claims.lock(directory, 0)
        except errors.Failure:  # the task's own doing: no other task's set-up fails for that
            return
        if lock is not None:
            try:
                remove(api, found["Id"])
                place.forget(directory)
            finally:
                os.close(lock)
