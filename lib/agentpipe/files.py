"""Files that other processes read: published whole, by a temporary beside them and a rename."""

import _thread
import os

from agentpipe import errors


def publish(path: str, data: bytes, mode: int = 0o600, keep_mode: bool = False, durable: bool = False) -> None:
    """Readers see the old file or the new, never a part; Failure 73 when it cannot be written.

    `mode` is cut by the umask; with `keep_mode` a file that is there keeps its own. A `durable` one is on the disk when
    this returns; any other may be empty after a power failure. The temporary is always a new file: a link that stands
    in its place (a repository may hold any name) is removed, not followed.
    """
    temporary = f"{path}.new-{_thread.get_native_id()}"  # of the main thread this is the process's own
    try:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            if keep_mode and os.path.exists(path):
                os.fchmod(fd, os.stat(path).st_mode & 0o777)
            while data:
                data = data[os.write(fd, data):]
            if durable:
                os.fsync(fd)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)
        os.rename(temporary, path)
        if durable:
            sync_directory(os.path.dirname(path))
    except OSError as error:
        raise errors.unwritable(f"write {path}", error) from None


def sync_directory(path: str) -> None:
    """What was made and renamed there is on the disk when this returns. Raises OSError."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directories(path: str, mode: int = 0o700) -> None:
    """As os.makedirs(): each that was made is on the disk when this returns. Raises OSError."""
    above, made = path, []
    while not os.path.isdir(above):
        made.append(above)
        above = os.path.dirname(above)
    os.makedirs(path, mode, exist_ok=True)
    for each in made:
        sync_directory(os.path.dirname(each))


def numbers(folder: str, name: str) -> list[int]:
    """The N of every NAME.N in a folder; [] when that is not there."""
    try:
        entries = os.listdir(folder)
    except FileNotFoundError:
        return []
    parts = (entry.rpartition(".") for entry in entries)
    return [int(number) for stem, _, number in parts if stem == name and number.isdigit()]


def new_directory(folder: str, name: str) -> str:
    """NAME.N, made by us alone (0700), with an N above all that are there; its path. Raises OSError."""
    number = max(numbers(folder, name), default=0) + 1
    while True:
        path = os.path.join(folder, f"{name}.{number}")
        try:
            os.mkdir(path, 0o700)
            return path
        except FileExistsError:
            number += 1
