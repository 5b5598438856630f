"""The embedded store: one SQLite file, who opens it, in which transaction, and what its errors mean.

Any number of processes and threads use one file: each thread of each process has a connection of its own, and
writers wait for each other in BEGIN IMMEDIATE. `transaction` is the only place that writes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# of the tables (schema.py), raised with each change of them; a newer one is refused
VERSION = 6
# how long a writer waits for the others before it gives up (s)
BUSY_SECONDS = 30
# an upgrade of the tables that takes longer says so (s)
UPGRADE_S = 1.0
# a commit takes well under 1 ms; this much page cache is plenty for one task's rows (KiB)
CACHE_KIB = 512
# connections that a fork copied: closing one here would undo the parent's locks, so they are kept to the end
_inherited: list[sqlite3.Connection] = []
_opened: weakref.WeakSet[_Connection] = weakref.WeakSet()


class _Connection(sqlite3.Connection):
    """One that close_all() finds: by itself it is closed as late as the garbage collector comes by."""

    __slots__ = ("__weakref__", "pid")
    pid: int


def close_all() -> None:
    """Close what this process opened, so that the last of all processes leaves one whole file. No thread may use it."""
    for each in list(_opened):
        if each.pid == os.getpid():
            each.close()


class Store:
    """The store in the file `path`, which is made (0600) when it is missing.

    `wake_path` is a file beside it whose time changes when a waiting pull should look again. Failures of the
    file (full disk, no permission, damage, a lock that does not go away) are raised as errors.Failure.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.wake_path = os.path.join(os.path.dirname(self.path), "wake")
        self._local = threading.local()
        self._server_id = ""
        # what modules keep in memory beside the file: its tokens, positions of scrolls
        self.kept: dict[str, Any] = {}
        self.connection()

    @property
    def server_id(self) -> str:
        """The server's identity: a uuid4 in hex, made with the file."""
        if not self._server_id:
            row = self.read(lambda db: db.execute("SELECT value FROM meta WHERE key='server_id'").fetchone())
            self._server_id = row[0]
        return self._server_id

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, opened when it has none, or has one that came through a fork."""
        pid = os.getpid()
        db = getattr(self._local, "db", None)
        if db is not None and self._local.pid == pid:
            return db
        if db is not None:
            _inherited.append(db)
        self._local.unwritable = None
        try:
            db = self._open()
        except sqlite3.Error as error:
            db = self._open_to_read(error)
        self._local.db, self._local.pid, self._local.synchronous = db, pid, "FULL"
        return db

    def read(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """What `work` reads, from one state of the store."""
        return self._run("BEGIN", work)

    def transaction(self, work: Callable[[sqlite3.Connection], Any], durable: bool = True) -> Any:
        """Do `work` as one atomic change; it is undone when `work` raises.

        A `durable` one is on the disk when this returns. The others are written in order, before any later
        durable one, but may be lost together when the power fails.
        """
        wanted = "FULL" if durable else "NORMAL"
        db = self.connection()
        if self._local.synchronous != wanted and not db.in_transaction:
            db.execute(f"PRAGMA synchronous={wanted}")
            self._local.synchronous = wanted
        return self._run("BEGIN IMMEDIATE", work)

    def data_version(self) -> int:
        """A number that changes when another connection has committed something (one cheap look, no lock)."""
        try:
            found = self.connection().execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise self.failure(error) from error
        return time.monotonic_ns() if self._local.unwritable else found

    def wake(self) -> None:
        """Tell waiting pulls to look again; that they might sleep on is no reason to fail."""
        try:
            try:
                now = time.time_ns()  # the kernel's own is the same for some milliseconds
                os.utime(self.wake_path, ns=(now, now))
            except FileNotFoundError:
                os.close(os.open(self.wake_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            pass

    def close(self) -> None:
        """Close this thread's connection; the next use opens another."""
        db = getattr(self._local, "db", None)
        self._local.db = None
        if db is not None and self._local.pid == os.getpid():
            db.close()

    def failure(self, error: sqlite3.Error) -> errors.Failure:
        """What is wrong with the file, with its exit code and what to do."""
        return _failure(self.path, error)

    def _run(self, begin: str, work: Callable[[sqlite3.Connection], Any]) -> Any:
        db = self.connection()
        if self._local.unwritable:
            return self._look(begin, work)
        if db.in_transaction:
            # an exception hit us while we undid the last one
            self._undo(db)
        try:
            # everything in one try: a signal's exception may come between any two of these
            db.execute(begin)
            result = work(db)
            db.execute("COMMIT")
            return result
        except BaseException as error:
            self._undo(db)
            if isinstance(error, sqlite3.Error):
                raise self.failure(error) from error
            raise

    def _look(self, begin: str, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """What `work` reads of a store that cannot be written, each time from a connection of its own."""
        from agentpipe.server import unwritable
        db, failure = self.connection(), self._local.unwritable
        if begin != "BEGIN":
            raise failure
        try:
            before = os.stat(self.path)
            found = work(db)
        except sqlite3.Error as error:
            raise self.failure(error) from error
        finally:
            self.close()
        if not unwritable.is_as_it_was(self.path, before):
            raise failure
        return found

    def _open_to_read(self, error: sqlite3.Error) -> sqlite3.Connection:
        from agentpipe.server import unwritable
        failure = self.failure(error)
        why, way = unwritable.unread(self.path, error)
        if why:
            failure.reason, failure.remedy = failure.reason + why, way
        try:
            db = unwritable.opened(self.path, error)
            if _version(db) == VERSION:
                self._local.unwritable = failure
                return db
            db.close()
        except sqlite3.Error:
            pass
        raise failure from error

    def _undo(self, db: sqlite3.Connection) -> None:
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
        except sqlite3.Error:
            # no state to go back to: the file's own recovery does it at the next opening
            self.close()

    def _open(self) -> sqlite3.Connection:
        try:
            # never open a file by hand that SQLite has open: closing it would drop this process's locks on it
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise errors.Failure(
                f"cannot create the store {self.path}: {error.strerror}", errors.CANNOT_CREATE,
                remedy="set AGENT_HOME to a directory that you can write") from error
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False,
                             factory=_Connection)
        db.pid = os.getpid()
        _opened.add(db)
        try:
            db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            db.execute("PRAGMA synchronous=FULL")
            db.execute(f"PRAGMA journal_size_limit={64 << 20}")
            # where SQLite is built to write zeros over what is removed (Debian), the log of a task that goes is written
            # once more: on a full disk nothing could be deleted
            db.execute("PRAGMA secure_delete=FAST")
            if _version(db) != VERSION:
                self._create(db)
        except BaseException:
            db.close()
            raise
        return db

    def _create(self, db: sqlite3.Connection) -> None:
        from agentpipe.server import schema
        _use_wal(db)
        db.execute("BEGIN IMMEDIATE")
        found = _version(db)
        if found > VERSION:
            raise errors.Failure(
                f"the store {self.path} is of a newer agentpipe (version {found}, known is {VERSION})",
                errors.BAD_CONFIG, remedy="upgrade agentpipe, or set AGENT_HOME to another directory")
        if found == 0:
            schema.create(db)
        elif found < VERSION:
            with _said_when_slow(f"upgrading the store {self.path}: one that holds much takes a while; others wait"):
                schema.upgrade(db, found)
        db.execute("COMMIT")


@contextlib.contextmanager
def _said_when_slow(text: str) -> Iterator[None]:
    """One line for people, once what is done within has taken UPGRADE_S."""
    from agentpipe import stdio
    timer = threading.Timer(UPGRADE_S, stdio.say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; SQLite does not wait here for others that open the same new file."""
    limit = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > limit:
                raise
            time.sleep(0.01)


def _failure(path: str, error: sqlite3.Error) -> errors.Failure:
    text = str(error)
    directory = os.path.dirname(path)
    if "locked" in text or "busy" in text:
        return errors.Failure(f"the store {path} has been locked by another process for {BUSY_SECONDS} s",
                              errors.UNAVAILABLE, text, f"fuser -v {path}")
    if "full" in text or (("I/O" in text or "open" in text) and _disk_is_full(directory)):
        return errors.Failure(f"the disk is full: cannot write the store {path}", errors.CANNOT_CREATE, text,
                              f"free some space: df -h {directory}")
    if "readonly" in text or "unable to open" in text:
        return errors.Failure(f"cannot write the store {path}", errors.CANNOT_CREATE, text,
                              f"make {directory} and the files in it yours and writable, or set AGENT_HOME")
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        return errors.Damaged(
            f"the store {path} is damaged", text,
            f"mv {path} {path}.damaged; rm -f {path}-wal {path}-shm; "
            f"sqlite3 {path}.damaged .recover | sqlite3 {path}")
    if "I/O" in text:
        return errors.Damaged(f"cannot read or write the store {path}: {text}", text,
                              "look for errors of the disk: dmesg | tail")
    return errors.Failure(f"the store {path}: {text}", errors.BUG, f"{type(error).__name__}: {text}")


def _disk_is_full(directory: str) -> bool:
    try:
        left = os.statvfs(directory)
    except OSError:
        return False
    return left.f_bavail * left.f_frsize < 1 << 20
