"""Which containers of an engine are ours: by the id of our state directory, since another agent's may have its path."""

from __future__ import annotations

import os
import re
import secrets

from agentpipe import files, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL = "agentpipe.owner"
NAME = "agent-id"
ID = re.compile(r"[0-9a-f]{32}\n")


def id() -> str:
    """The id of the state directory: random, made once. Failure 73 when it cannot be written."""
    path = paths.state(NAME)
    found = _read(path)
    if not ID.fullmatch(found):
        new = f"{path}.{secrets.token_hex(8)}"
        files.publish(new, secrets.token_hex(16).encode() + b"\n", durable=True)
        try:
            if found:  # no id: by somebody's hand
                os.rename(new, path)
            else:
                os.link(new, path)  # of several who find none the first one's counts
                os.unlink(new)
        except FileExistsError:
            os.unlink(new)
        except OSError as error:
            raise files.unwritable(f"write {path}", error) from None
        found = _read(path)
    return found.strip()


def of(labels: Mapping[str, str]) -> bool | None:
    """Whether a container is ours; None of one that an older version made, which does not say whose it is."""
    whose = labels.get(LABEL)
    return None if whose is None else whose == id()


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(100)
    except FileNotFoundError:
        return ""
