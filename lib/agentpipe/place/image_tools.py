"""The programs that pull, copy and unpack images for places without a daemon; what they say of a refusal."""

from __future__ import annotations

import os

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.job import Job

ROOM = "make room in the cache of images (AGENT_HOME) and in the program's own (TMPDIR): df -h"
# addresses of what is on this machine
HERE = ("docker-archive://", "docker-daemon://", "oci://", "oci-archive://")
# a copy of a folder, whose devices a plain user cannot make: they stay out, wherever they are
COPY = """cd "$1" && find . \\( -path './dev/*' -o -path './proc/*' -o -path './sys/*' \\) -prune -o \\
    ! -type b ! -type c -print0 |
  tar --null --no-recursion --ignore-failed-read -T - -cf - |
  tar -C "$2" --no-same-owner -xf -"""
# what these programs say that they would not say on another machine, or of another user; and what to do about it
OF_MACHINE = {
    "/dev/fuse": "let the user of the agent open /dev/fuse, or name the image as a folder (apptainer build --sandbox)",
    "unknown userid": "give the user of the agent an entry in this machine's /etc/passwd",
}


def pull(job: Job, argv: list[str], name: str, login: str) -> None:
    """Have an engine's own program pull the image `name`; its refusal as that of Docker's. `login`: its command."""
    from agentpipe import tools
    from agentpipe.place import engine
    if not argv[-1].startswith(HERE):
        engine.check_network(name)
    try:
        job.run(argv, loud=True)
    except tools.ToolFailed as failed:
        raise engine.no_image(name, failed.output.strip(), login, room=ROOM) from None


def work(job: Job, argv: list[str], name: str, loud: bool = False) -> None:
    """Run a program that unpacks or copies the image `name`; Failure 73 where the disk is full, else 65."""
    from agentpipe import tools
    try:
        # its own words, which are read here, in whatever locale it reads the names of files
        job.run(argv, loud=loud, env={**os.environ, "LANGUAGE": "en"})
    except tools.ToolFailed as failed:
        if "no space left on device" in failed.output.lower():
            raise errors.Failure(f"image {name} cannot be unpacked: the disk is full", errors.CANNOT_CREATE,
                                 failed.evidence, ROOM) from None
        raise refused(f"image {name} cannot be unpacked: {failed.reason}", failed.evidence,
                      "mend what it says, or name another image") from None


def refused(reason: str, said: str, remedy: str) -> errors.Failure:
    """What to raise for a program that `said` this of an image: 65 with this remedy, 69 where the machine lacks it."""
    for sign, other in OF_MACHINE.items():
        if sign in said:
            return errors.OfMachine(reason, evidence=said, remedy=other)
    return errors.Failure(reason, errors.BAD_DATA, said, remedy)


def copy_folder(job: Job, source: str, target: str) -> None:
    """A copy of a root file system in the folder `target`, which is made, as far as we may read it and without
    devices."""
    os.makedirs(target, 0o755)
    work(job, ["sh", "-c", COPY, "sh", source, target], source)
