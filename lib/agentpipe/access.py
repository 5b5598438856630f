"""Who else than its owner can read or write a file or a folder."""

from __future__ import annotations

import os

READ, WRITE = 0o4, 0o2
ACL = "system.posix_acl_access"  # where there is one, the bits of the group are what it allows at most


def others_can(what: int, path: str) -> bool:
    """Whether others can READ or WRITE it: everybody, or a group that is not its owner's own. Raises OSError."""
    found = os.stat(path)
    if found.st_mode & what:
        return True
    return bool(found.st_mode & what << 3) and (_has_acl(path) or not _is_private(found.st_gid, found.st_uid))


def _has_acl(path: str) -> bool:
    try:
        return bool(os.getxattr(path, ACL))
    except OSError:  # none, or a file system without
        return False


def _is_private(gid: int, uid: int) -> bool:
    """Whether it is the group that many systems make for a user: it has the user's name, and nobody else is in it."""
    import grp
    import pwd
    try:
        group, owner = grp.getgrgid(gid), pwd.getpwuid(uid).pw_name
    except KeyError:
        return False
    return group.gr_name == owner and {*group.gr_mem} <= {owner} \
        and all(each.pw_uid == uid for each in pwd.getpwall() if each.pw_gid == gid)
