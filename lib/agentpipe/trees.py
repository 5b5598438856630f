"""Directory trees that are replaced and removed whole."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT_FDCWD, RENAME_EXCHANGE = -100, 2
MOST_AGAIN = 1000  # folders that something was written into while they were emptied
DEEPEST = 400  # folders in each other that open_to_all() goes into: each keeps a descriptor open


def beside(path: str) -> str:
    """A path next to `path` in which its replacement is built; what earlier, killed builds left there is removed."""
    put_back(path)
    for left in _left_behind(path, "new") + _left_behind(path, "old"):
        remove(left)
    return f"{path}.new-{os.getpid()}"


def put_back(path: str) -> None:
    """Where a replace() was killed before anything stood at `path` again, what stood there before does."""
    if not os.path.lexists(path):
        for left in _left_behind(path, "old")[:1]:
            os.rename(left, path)


def _left_behind(path: str, kind: str) -> list[str]:
    parent, name = os.path.split(path)
    return [os.path.join(parent, entry) for entry in os.listdir(parent) if entry.startswith(f"{name}.{kind}-")]


def replace(new: str, path: str) -> None:
    """Put the finished tree `new` in the place of `path`: nobody sees a half of either, nor neither.

    Where the file system cannot exchange two there is a moment without: put_back() is for those who were killed then.
    """
    if not os.path.lexists(path):
        os.rename(new, path)
    elif _exchange(new, path):
        remove(new)
    else:
        old = f"{path}.old-{os.getpid()}"
        os.rename(path, old)
        os.rename(new, path)
        remove(old)


def open_to_all(path: str, mode: int) -> None:
    """Add `mode` (0o666) to the files of a tree that are ours, and what its folders need for that.

    Whoever changes the tree meanwhile leads us nowhere: what is opened is looked at, no link is followed.
    """
    above, name = os.path.split(path)
    folder = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _open_to_all(folder, name, mode, DEEPEST)
    finally:
        os.close(folder)


def _open_to_all(folder: int, name: str, mode: int, levels: int) -> None:
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except (FileNotFoundError, PermissionError):
        return
    try:
        found = os.fstat(fd)
        is_folder = stat.S_ISDIR(found.st_mode)
        if found.st_uid == os.getuid() and (is_folder or stat.S_ISREG(found.st_mode)):
            more = mode | (mode >> 2 & 0o111 if is_folder else 0)
            # chmod(2) of a descriptor that was not opened to read: by its link in /proc
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(found.st_mode) | more)
        try:
            names = os.listdir(f"/proc/self/fd/{fd}") if is_folder and levels else []
        except PermissionError:  # another user's, who keeps it closed
            names = []
        for each in names:
            _open_to_all(fd, each, mode, levels - 1)
    finally:
        os.close(fd)


def unlink_shared(path: str, stays: Callable[[str, int], bool] = lambda file, size: False) -> list[str]:
    """Give every file of a tree an inode of its own: a hard link of a checkout is the mirror's file as well, one of a
    conda environment its cache's.

    For trees that nobody else changes; file systems that can share the bytes until one is written do. Those of which
    `stays` says so, by path and size in bytes, are left as they are; which these are.
    """
    left = []
    for here, _, names in walk(path):
        for name in names:
            file = os.path.join(here, name)
            found = os.lstat(file)
            if found.st_nlink > 1 and stat.S_ISREG(found.st_mode):
                if stays(file, found.st_size):
                    left.append(file)
                else:
                    _copy_in_place(file, found)
    return left


def _copy_in_place(path: str, found: os.stat_result) -> None:
    temporary = f"{path}.own-{os.getpid()}"
    with open(path, "rb") as source, open(temporary, "xb") as target:
        left = found.st_size
        try:
            while left and (done := os.copy_file_range(source.fileno(), target.fileno(), left)):
                left -= done
        except OSError:  # an old kernel, or a file system without it
            import shutil
            shutil.copyfileobj(source, target, 1 << 20)
        os.fchmod(target.fileno(), stat.S_IMODE(found.st_mode))
        os.utime(target.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
    os.rename(temporary, path)


def fill(new: str, path: str) -> None:
    """Put what is in the tree `new` into the folder `path` itself, in the place of what is there. Raises OSError.

    For a folder that stays the same because it is shown elsewhere, where others write in it: only names are moved.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in os.listdir(folder):
            remove(f"/proc/self/fd/{folder}/{name}")
        for name in os.listdir(new):
            os.rename(os.path.join(new, name), name, dst_dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(new)


def remove(path: str) -> None:
    """Remove a tree (or a file, or a link), also one with read-only directories; nothing there is fine.

    A script, or a container's root, may have made it: it may be of any depth, so that neither a path nor a call for
    each level would do, and no link is followed, nor a folder that is moved away meanwhile. What is written meanwhile
    (by a git whose stage was killed) goes too. What cannot be removed does not keep the rest; then the first of its
    errors is raised, an OSError.
    """
    above, name = os.path.split(path.rstrip("/"))
    try:
        here = os.open(above or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    first: OSError | None = None
    again = 0
    # the folders that we are in, by name and identity, and what is left in each
    way, left = [(above, _identity(here))], [[name]]
    try:
        while left[-1] or len(way) > 1:
            is_empty = not left[-1]
            if is_empty:
                left.pop()
                name = way.pop()[0]
                here = _up(here, way[-1][1])
            else:
                name = left[-1].pop()
            try:
                if is_empty:
                    os.rmdir(name, dir_fd=here)
                elif (below := _unlinked_or_entered(here, name)) is not None:
                    os.close(here)
                    here = below
                    way.append((name, _identity(here)))
                    left.append([])
                    left[-1] = os.listdir(here)
            except FileNotFoundError:  # another process is at it too
                pass
            except OSError as error:
                if is_empty and error.errno == errno.ENOTEMPTY and first is None and again < MOST_AGAIN:
                    again += 1
                    left[-1].append(name)
                elif first is None:
                    first = error
                    first.filename = os.path.join(*(each for each, _ in way), name)
    finally:
        os.close(here)
    if first is not None:
        raise first


def discard(path: str) -> None:
    """remove() for what nobody needs to be told about: what cannot be removed stays."""
    try:
        remove(path)
    except OSError:
        pass


def _unlinked_or_entered(folder: int, name: str) -> int | None:
    """None when it was a file or a link, which is gone; else a descriptor of that folder, which is opened to us."""
    try:
        os.unlink(name, dir_fd=folder)
        return None
    except IsADirectoryError:
        pass
    except PermissionError:  # which is also said of another's folder
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(fd)
        # some programs (Go's module cache) make their directories read-only
        if found.st_mode & stat.S_IRWXU != stat.S_IRWXU and found.st_uid == os.getuid():
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(found.st_mode) | stat.S_IRWXU)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def _up(folder: int, expected: tuple[int, int]) -> int:
    """The folder above, in the place of this descriptor; ESTALE when that is not the one that we came from."""
    above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    if _identity(above) != expected:
        os.close(above)
        raise OSError(errno.ESTALE, "a folder was moved while it was removed")
    os.close(folder)
    return above


def _identity(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino


@contextmanager
def temporary(prefix: str) -> Iterator[str]:
    """A folder for a while, for what others have made: that may be deeper than tempfile's own can remove."""
    import tempfile
    path = tempfile.mkdtemp(prefix=prefix)
    try:
        yield path
    finally:
        discard(path)


def walk(top: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk() of what others have made, which may be so deep that Python's own (before 3.12) cannot call itself."""
    todo = [top]
    while todo:
        here = todo.pop()
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else names).append(entry.name)
        except OSError:  # gone, closed to us, or longer than a path can be
            continue
        yield here, folders, names
        todo += [below for name in reversed(folders) if not os.path.islink(below := os.path.join(here, name))]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, below a file, or into what is closed to us
        return False


def _exchange(one: str, other: str) -> bool:
    """Let two names change places in one step, renameat2(2); False where that cannot be done."""
    import ctypes
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except AttributeError:  # an old C library
        return False
    return renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0
