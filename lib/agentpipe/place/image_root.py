"""The root file system of an image on this disk, made ready for what is mounted there: no link of it leads us out."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

from agentpipe import errors, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_LINKS = 40  # behind each other, as in a kernel
LINKS = "mend that link in the image, or name another image"


def prepare(root: str, binds: Iterable[tuple[str, str, str]]) -> None:
    """Folders and empty files for the mounts: in a read-only root they cannot come by themselves."""
    for source, target, _ in binds:
        inside = within(root, target)
        if os.path.lexists(inside):
            continue
        with fitting(target):
            open_up(os.path.dirname(inside))
            if os.path.isfile(source):
                os.makedirs(os.path.dirname(inside), exist_ok=True)
                open(inside, "ab").close()
            else:
                os.makedirs(inside, exist_ok=True)


@contextmanager
def fitting(target: str) -> Iterator[None]:
    """While something is made in an image: Failure 65 where it has a file in the place of a folder, or where the name
    is none that can be made."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
            raise
        raise errors.Failure(f"the image has no room for a mount at {target}: {error.strerror}", errors.BAD_DATA,
                             remedy="mount it elsewhere, or name another image") from None


def open_up(folder: str) -> None:
    """Let us write in a folder of our copy of an image, or where it is to be: `/` itself is closed in those of Fedora
    and its like (0555), to a plain user who owns it too."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK):
        os.chmod(folder, os.stat(folder).st_mode & 0o7777 | 0o300)


def within(root: str, target: str) -> str:
    """A path of the image on this disk: each part of it is looked at, and each of what a link there says, whose / is
    the image's own. Failure 65 for links that lead out of the image, or in a circle."""
    found, links = root, 0
    left = [part for part in reversed(target.split("/")) if part != ".."]
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if found == root:
                raise errors.Failure(f"the image's {target} leads out of it", errors.BAD_DATA, remedy=LINKS)
            found = os.path.dirname(found)
            continue
        found = os.path.join(found, part)
        if os.path.islink(found):
            links += 1
            if links > MOST_LINKS:
                raise errors.Failure(f"the image's {target} is a circle of links", errors.BAD_DATA, remedy=LINKS)
            link = os.readlink(found)
            found = root if link.startswith("/") else os.path.dirname(found)
            left += reversed(link.split("/"))
    return found


def single_user(root: str) -> None:
    """apt would become another user, of whom there is none, or whose files we could not remove."""
    apt = within(root, "etc/apt/apt.conf.d")
    if os.path.isdir(apt):
        files.publish(os.path.join(apt, "zz-one-user"), b'APT::Sandbox::User "root";\n', 0o644)
