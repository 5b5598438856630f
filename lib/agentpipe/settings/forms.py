"""Settings with a form of their own, looked at before a task is taken: a version of CUDA, a port, options of git."""

from __future__ import annotations

from agentpipe.settings import config

CUDA, SSH_PORT = "agent.cuda_version", "agent.force_git_ssh_port"
FETCH_ARGS, SCHEME = "agent.git_fetch_args", "agent.translate_ssl_replacement_scheme"
SCHEME_VARIABLE = "CLEARML_AGENT_SSH_URL_REPLACEMENT_SCHEME"
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


def fetch_args() -> list[str]:
    """The options of git fetch. Failure 78 for what is none, as a list is that cannot be read."""
    told = config.get_list(FETCH_ARGS)
    if told and not told[0].startswith("-"):
        raise _wrong(FETCH_ARGS, "no options of git fetch", told[0], "as --tags --jobs=4, in one text")
    return told


def web_scheme() -> str:
    """What an address with ssh becomes where a login fits its host: https or http. Failure 78 for what is neither."""
    told = (config.get(SCHEME, None, SCHEME_VARIABLE) or "https").strip()
    if told.lower() not in ("http", "https"):
        raise _wrong(SCHEME, "neither http nor https", told, "https or http", SCHEME_VARIABLE)
    return told.lower()


def _wrong(key: str, what: str, told: str, right: str, *variables: str) -> Exception:
    from agentpipe import errors
    name = config.named(key, *variables)
    return errors.Failure(f"{name} is {what}: {told}", errors.BAD_CONFIG, remedy=f"correct {name}: {right}")
