"""Where things stand on this node's disk (the environment variables that move them are in agentpipe(7))."""

import os

from agentpipe import errors

# WAL and flock do not hold over these: https://www.sqlite.org/wal.html, flock(2)
NETWORK_FILE_SYSTEMS = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "fhgfs", "glusterfs",
    "pvfs2", "orangefs", "panfs", "wekafs", "dvs", *(f"fuse.{name}" for name in (
        "glusterfs", "sshfs", "s3fs", "ceph", "ceph-fuse", "juicefs", "dfuse", "quobyte", "mfs", "seaweedfs", "rclone",
        "gcsfuse", "blobfuse2", "mountpoint-s3"))}
_checked: dict[str, bool] = {}  # state directories, and whether they are on a network file system


def state(*parts: str) -> str:
    """A path under the state directory: the embedded store, claims and tasks. Made (0700) when it is missing."""
    return os.path.join(made(_state_home()), *parts)


def cache(*parts: str) -> str:
    """A path under the cache directory: mirrors, environments, downloads. It may be deleted at any time."""
    return os.path.join(made(_cache_home()), *parts)


def in_cache(path: str) -> bool:
    """Whether it lies below the cache directory, which need not be there."""
    return path.startswith(_cache_home().rstrip("/") + "/")


BOX = "box"


def box(directory: str) -> str:
    """Where whoever runs a task's script may write what we read: the folder `box` of its directory where a container
    runs it, which can write neither beside it nor in the place of it; else the directory itself."""
    found = os.path.join(directory, BOX)
    return found if os.path.isdir(found) and not os.path.islink(found) else directory


def hook_directories() -> list[str]:
    """Where hooks are looked for, in the order in which they run."""
    try:
        own = [os.path.join(_xdg("XDG_CONFIG_HOME", ".config"), "agentpipe", "hooks")]
    except errors.Failure:
        if not _agent_home():
            raise
        own = []  # no home, no hooks of its own
    return ["/etc/agentpipe/hooks", *own, *named_hook_directories()]


def named_hook_directories() -> list[str]:
    """Those that AGENT_HOOKS names."""
    return [path for path in os.environ.get("AGENT_HOOKS", "").split(":") if path]


def file_system(path: str) -> str:
    """The type of the file system that holds `path` ("ext4", "nfs4"), by the longest mount point above it."""
    path = os.path.realpath(path)
    best, kind = "", ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            left, _, right = line.partition(" - ")
            point = left.split(" ")[4]
            for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                point = point.replace(octal, character)
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, right.split(" ", 1)[0]
    return kind


def _agent_home() -> str | None:
    home = os.environ.get("AGENT_HOME")
    return os.path.normpath(_absolute("AGENT_HOME", home)) if home else None


def _cache_home() -> str:
    home = _agent_home()
    return os.path.join(home, "cache") if home else os.path.join(_xdg("XDG_CACHE_HOME", ".cache"), "agentpipe")


def _xdg(variable: str, default: str) -> str:
    value = os.environ.get(variable, "")
    if value.startswith("/"):  # others are to be ignored: XDG Base Directory Specification
        return _absolute(variable, value)
    if "HOME" in os.environ:
        _absolute("HOME", os.environ["HOME"], "export HOME=/…, or set AGENT_HOME")
    return os.path.join(os.path.expanduser("~"), default)


def _absolute(variable: str, path: str, remedy: str = "") -> str:
    """The path; Failure 78 for one that is another place in each directory: what it holds would not be found again.

    And for one that is no UTF-8, which could stand in no manifest.
    """
    if path.startswith("/"):
        try:
            path.encode()
        except UnicodeEncodeError:
            raise errors.Failure(f"{variable} is not UTF-8: {path!r}", errors.BAD_CONFIG,
                                 remedy=remedy or f"{variable}=/…") from None
        return path
    raise errors.Failure(f"{variable} wants an absolute path, and is {path!r}", errors.BAD_CONFIG,
                         remedy=remedy or f"{variable}={os.path.abspath(os.path.expanduser(path))}")


def _state_home() -> str:
    home, base, on_network = _intended_state()
    if not on_network:
        return base
    if home:
        raise errors.Failure(f"AGENT_HOME={home} is on a network file system, where locks do not hold",
                             errors.BAD_CONFIG, remedy=f"AGENT_HOME=/var/tmp/agentpipe-{os.getuid()}")
    return _owned(f"/var/tmp/agentpipe-{os.getuid()}")


def _intended_state() -> tuple[str | None, str, bool]:
    """($AGENT_HOME, where the state belongs, whether that is on a network file system)."""
    home = _agent_home()
    base = os.path.join(home, "state") if home else os.path.join(
        _xdg("XDG_STATE_HOME", os.path.join(".local", "state")), "agentpipe")
    if base not in _checked:  # once a process: reading all mounts is not free
        _checked[base] = file_system(base) in NETWORK_FILE_SYSTEMS
    return home, base, _checked[base]


def of_one_machine() -> bool:
    """Whether the state is this machine's alone though others share the home: that is on a network file system."""
    return _intended_state()[2]


def of_this_machine(*parts: str) -> str:
    """A directory (0700) that all homes of this user on this machine share. Failure 77, or 73, where there is none."""
    given = os.environ.get("AGENT_MACHINE_DIR")
    home = _absolute("AGENT_MACHINE_DIR", given) if given else f"/var/tmp/agentpipe-{os.getuid()}"
    return made(os.path.join(_owned(home), *parts))


def _owned(path: str) -> str:
    """A directory of a world-writable place that is ours: another user's, or a link, is refused."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if found.st_uid != os.getuid() or os.path.islink(path):
            raise errors.Failure(f"{path} belongs to somebody else", errors.NO_PERMISSION,
                                 remedy="set AGENT_HOME to a directory of yours on a local disk") from None
    return path


def made(path: str, remedy: str = "set AGENT_HOME to a directory that you can write") -> str:
    """The directory, made (0700) when it is missing; Failure 73 with this remedy when that cannot be."""
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise errors.Failure(f"cannot create {path}: {error.strerror}", errors.CANNOT_CREATE,
                             remedy=remedy) from None
    return path


def owner() -> str:
    """Who works here: USER, or the user that we are where that is not set (cron, containers)."""
    return os.environ.get("USER") or user()


def user() -> str:
    """The name of the user that we are; the number of one without a name."""
    import pwd
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
