"""What of this machine's settings of containers would be refused with a task in hand, seen before one is taken."""

from __future__ import annotations

from functools import partial

from agentpipe import errors
from agentpipe.place import container_args, decide, gear, ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def wrong() -> Iterator[errors.Failure]:
    """The Failure 78 for each of them."""
    looks: tuple[Callable[[], object], ...] = (
        decide.rules, container_args.check_operators, container_args.filters, ports.allowed_range, gear.ssh_folder,
        *(partial(gear.folder_inside, name) for name in gear.CACHES))
    for look in looks:
        try:
            look()
        except errors.Failure as failure:
            yield failure
