"""The cgroups that this process is in, as files: version 2's, and version 1's by controller."""

from __future__ import annotations

MOUNT = "/sys/fs/cgroup"
OWN = "/proc/self/cgroup"


def of(controller: str) -> list[tuple[int, str, str]]:
    """(version, mount point, directory) of each that may limit what `controller` ("memory", "cpu") is about."""
    found = []
    try:
        with open(OWN, encoding="utf-8") as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                if controllers == "":
                    found.append((2, MOUNT, MOUNT + path.rstrip("/")))
                elif controller in controllers.split(","):
                    mount = f"{MOUNT}/{controller}"
                    found.append((1, mount, mount + path.rstrip("/")))
    except OSError:
        pass
    return found
