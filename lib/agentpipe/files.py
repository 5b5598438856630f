"""Files that other processes read, published whole by a temporary beside them and a rename; their numbers and locks."""

import _thread
import os

from agentpipe import errors, untrusted

_where: str | None = None  # what sets our names apart from those of other pid namespaces


def temporary(path: str) -> str:
    """A name beside a path, for what is then renamed there: no other thread has it, here or in another container or
    machine that shares the folder, and the next one of this number takes it again."""
    global _where
    if _where is None:
        import zlib

        from agentpipe import processes
        _where = f"-{zlib.crc32(processes.namespace().encode()) & 0xffff:04x}"
    return f"{path}.new-{_thread.get_native_id()}{_where}"  # of the main thread the number is the process's own


def publish(path: str, data: bytes, mode: int = 0o600, keep_mode: bool = False, durable: bool = False) -> None:
    """Readers see the old file or the new, never a part; Failure 73 when it cannot be written.

    `mode` is cut by the umask; with `keep_mode` a file that is there keeps its own. A `durable` one is on the disk when
    this returns; any other may be empty after a power failure. The temporary is always a new file: a link that stands
    in its place (a repository may hold any name) is removed, not followed.
    """
    new = temporary(path)
    try:
        try:
            os.unlink(new)
        except FileNotFoundError:
            pass
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            if keep_mode and os.path.exists(path):
                os.fchmod(fd, os.stat(path).st_mode & 0o777)
            while data:
                data = data[os.write(fd, data):]
            if durable:
                os.fsync(fd)
        except BaseException:
            os.unlink(new)
            raise
        finally:
            os.close(fd)
        os.rename(new, path)
        if durable:
            sync_directory(os.path.dirname(path))
    except OSError as error:
        raise unwritable(f"write {path}", error) from None


def link(target: str, path: str) -> None:
    """Let `path` be a symbolic link to `target`, in the place of what is there. Raises OSError."""
    new = temporary(path)
    try:
        os.symlink(target, new)
    except FileExistsError:  # of a process that was killed just then
        os.unlink(new)
        os.symlink(target, new)
    os.rename(new, path)


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
    return [int(number) for stem, _, number in parts if stem == name and number.isdecimal()]


def new_directory(folder: str, name: str, least: int = 1) -> str:
    """NAME.N, made by us alone (0700), with an N above all that are there; its path. Raises OSError."""
    number = max(least, max(numbers(folder, name), default=0) + 1)
    while True:
        path = os.path.join(folder, f"{name}.{number}")
        try:
            os.mkdir(path, 0o700)
            return path
        except FileExistsError:
            number += 1


def unwritable(what: str, error: OSError) -> errors.Failure:
    """73 for a file of ours that cannot be written; `what` is "write PATH"."""
    import errno
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "set AGENT_HOME to a folder that you can write"
    elif _in_the_way(error):
        remedy = "move away what stands there, or set AGENT_HOME"
    elif error.errno == errno.EBUSY:
        remedy = "unmount what is mounted there (findmnt), or set AGENT_HOME"
    else:
        remedy = "free some space, or set AGENT_HOME"
    failure = errors.Failure(f"cannot {what}: {error.strerror}", errors.CANNOT_CREATE, remedy=remedy)
    failure.of_machine = _is_machines(error)
    return failure


def _in_the_way(error: OSError) -> bool:
    """Whether something else stands at that path, such as a file where a folder is wanted."""
    return isinstance(error, (FileExistsError, IsADirectoryError, NotADirectoryError))


def _is_machines(error: OSError) -> bool:
    """Whether a path that could not be written is the machine's fault: a task chooses names, and what lies in its code
    (a name that is too long, links in a circle), but nothing of the cache."""
    import errno

    from agentpipe import paths
    if _in_the_way(error) or error.errno == errno.ELOOP:
        return paths.in_cache(str(error.filename2 or error.filename or ""))
    return error.errno not in (errno.ENAMETOOLONG, errno.ENOENT)


def of_disk(error: OSError) -> errors.Failure | None:
    """The Failure of a disk that takes nothing, or of a cache in which something is in the way, noticed by whoever
    wrote; None for another error."""
    import errno

    from agentpipe import paths
    path = str(error.filename2 or error.filename or "")  # of a link or a rename the new name
    if error.errno == errno.EBUSY:  # what cannot be renamed
        path = str(error.filename or "")
    ours = error.errno in (errno.EACCES, errno.EPERM) and path.startswith((paths.cache() + "/", paths.state() + "/"))
    ours = ours or (_in_the_way(error) and paths.in_cache(path))
    if ours or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EBUSY):
        return unwritable(f"write {path}" if path else "write", error)
    return None


def of_task(path: str, limit: float = untrusted.LARGE) -> int:
    """A descriptor to read a file that a task brings, as untrusted.of_task() gives it; Failure 65 where it refuses."""
    try:
        return untrusted.of_task(path, limit=limit)
    except untrusted.NotRegular as error:
        raise errors.Failure(f"{path} cannot be used: {error.strerror}", errors.BAD_DATA) from None


def list_of_task(path: str) -> bytes:
    """All of a list, a lock or a table that a task brings: up to untrusted.LISTS bytes, else Failure 65."""
    with os.fdopen(of_task(path, untrusted.LISTS), "rb") as file:
        return file.read(untrusted.LISTS) or b""


def file_digest(path: str, a_tasks: bool = False) -> str:
    """The SHA-256 of a file, in hexadecimal; of a task's as of_task() opens it."""
    import hashlib
    digest = hashlib.sha256()
    with os.fdopen(of_task(path, float("inf")), "rb") if a_tasks else open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def try_lock(fd: int, shared: bool = False) -> bool:
    """Lock an open file (flock(2)) without waiting; False when another has it. It lasts until the file is closed."""
    import fcntl
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def lock_within(fd: int, seconds: float) -> bool:
    """The same, waiting up to so many seconds."""
    import time
    until = time.monotonic() + seconds
    while not try_lock(fd):
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)
    return True
