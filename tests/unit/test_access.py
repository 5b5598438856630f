"""Who else can read or write a file: everybody, a group, whom an access control list names."""

import grp
import os
import pwd
import struct
from pathlib import Path

import pytest

from agentpipe import access

USER = pwd.getpwuid(os.getuid())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.touch()
    return found


def private_group() -> grp.struct_group:
    """The group of this user that has its name and nobody else in it."""
    found = grp.getgrgid(USER.pw_gid)
    if found.gr_name != USER.pw_name or any(user.pw_gid == found.gr_gid for user in pwd.getpwall()
                                            if user.pw_name != USER.pw_name):
        pytest.skip("this user has no group of its own")
    return found


@pytest.mark.parametrize(("mode", "reads", "writes"), [
    (0o600, False, False), (0o644, True, False), (0o602, False, True), (0o666, True, True)])
def test_everybody(path: Path, mode: int, reads: bool, writes: bool) -> None:
    path.chmod(mode)
    assert access.others_can(access.READ, str(path)) is reads
    assert access.others_can(access.WRITE, str(path)) is writes


def test_a_group_of_ones_own_is_nobody_else(path: Path) -> None:
    os.chown(path, -1, private_group().gr_gid)
    path.chmod(0o660)
    assert not access.others_can(access.READ, str(path)) and not access.others_can(access.WRITE, str(path))


@pytest.mark.skipif(os.getuid() != 0, reason="root alone gives a file to any group")
@pytest.mark.parametrize("which", ["another's", "no name"])
def test_another_group_is_somebody_else(path: Path, which: str) -> None:
    known = {group.gr_gid for group in grp.getgrall()}
    theirs = next(gid for gid in range(1, 65536) if (gid in known) == (which == "another's"))
    os.chown(path, -1, theirs)
    path.chmod(0o660)
    assert access.others_can(access.READ, str(path)) and access.others_can(access.WRITE, str(path))


def test_whom_a_list_names_is_somebody_else(path: Path) -> None:
    os.chown(path, -1, private_group().gr_gid)
    nobody = 0xffffffff
    # acl(5): the owner, a user by its number, the group, the mask, all others
    entries = [(1, 6, nobody), (2, 6, 65534), (4, 0, nobody), (0x10, 6, nobody), (0x20, 0, nobody)]
    try:
        os.setxattr(path, access.ACL, struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries))
    except OSError as error:
        pytest.skip(f"no lists here: {error}")
    assert access.others_can(access.WRITE, str(path))
