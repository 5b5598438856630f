"""Settings with a form of their own, which is looked at before a task is taken: a version of CUDA, a port."""

from __future__ import annotations

from agentpipe.settings import config

CUDA, SSH_PORT = "agent.cuda_version", "agent.force_git_ssh_port"
# "12.1", as NVIDIA's images and modules of clusters have it ("12.1.1", "cuda-12.1"), or without a point ("121")
VERSION = r"(?i:cu(?:da)?[-_/]?)?(\d{1,3})(?:\.(\d+)(?:[._+-].*)?)?"
MAJOR = 20  # a number below it is a version that has no point (12), and not one that is written without it


def cuda() -> int | None:
    """CUDA's version as configured, 121 for 12.1, 0 for none; None where nothing says it. Failure 78 for what is none.
    """
    told = config.get(CUDA)
    if told is None:
        return None
    import re
    found = re.fullmatch(VERSION, told.strip())
    if not found:
        raise _wrong(CUDA, "no version of CUDA", told, "as 12.1, or 0 for none")
    number = int(found[1])
    return number * 10 + int(found[2] or 0) if found[2] or number < MAJOR else number


def ssh_port() -> str:
    """The port in the place of ssh's own; "" for that. Failure 78 for what is none."""
    told = (config.get(SSH_PORT) or "").strip()
    if told and not (told.isdecimal() and 0 < int(told) < 1 << 16):
        raise _wrong(SSH_PORT, "no port", told, "a number from 1 to 65535")
    return told


def _wrong(key: str, what: str, told: str, right: str) -> Exception:
    from agentpipe import errors
    name = config.named(key)
    return errors.Failure(f"{name} is {what}: {told}", errors.BAD_CONFIG, remedy=f"correct {name}: {right}")
