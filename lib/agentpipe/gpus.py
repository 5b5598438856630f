"""Which GPUs are ours to use: what --gpus and the visible-devices variables say, in one spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NVIDIA, CUDA = "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"
ALL, NONE = "all", "none"
DRIVER = "/sys/module/nvidia/version"
_RANGE = re.compile(r"(\d+)-(\d+)")
_SLICE = re.compile(r"\d+[:.]\d+")
_NAMED = re.compile(r"\d+|(GPU|MIG)-[\w./-]+")


def driver() -> str | None:
    """The version of NVIDIA's driver, as the kernel tells it; None where none is loaded."""
    try:
        with open(DRIVER, encoding="ascii") as file:
            return file.read().strip() or None
    except OSError:
        return None


def parsed(text: str) -> str:
    """`0,1`, `0-3`, UUIDs, `all` or `none` as a list with commas, `all` or `none`; Failure 64 for anything else.

    A slice by number (`0:1`) is refused: CUDA takes slices by their UUID only.
    """
    words = [word.strip() for word in text.split(",")]
    if len(words) == 1 and words[0].lower() in (ALL, NONE):
        return words[0].lower()
    found: list[str] = []
    for word in words:
        span = _RANGE.fullmatch(word)
        if span and int(span[1]) <= int(span[2]):
            found += map(str, range(int(span[1]), int(span[2]) + 1))
        elif _SLICE.fullmatch(word):
            raise errors.Failure(f"--gpus {text}: a MIG slice is named by its UUID here", errors.USAGE,
                                 remedy="nvidia-smi -L lists them: --gpus MIG-…")
        elif _NAMED.fullmatch(word):
            found.append(word)
        else:
            raise errors.Failure(f"--gpus {text}: {word!r} is no GPU", errors.USAGE,
                                 remedy="numbers (0,1 or 0-3), UUIDs (nvidia-smi -L), all, or none")
    return ",".join(dict.fromkeys(found))


def variables(wanted: str) -> dict[str, str]:
    """The environment that shows a process exactly those GPUs; `wanted` as parsed() gives it.

    Devices are numbered as nvidia-smi does. `all` hides none: an empty list would hide them all from CUDA.
    """
    if wanted == NONE:
        return {NVIDIA: NONE, CUDA: "", "CLEARML_CPU_ONLY": "1"}
    return {NVIDIA: wanted} if wanted == ALL else {NVIDIA: wanted, CUDA: wanted}


def visible(environ: Mapping[str, str]) -> list[str] | None:
    """The indices and UUIDs that the variables leave us, [] for none; None when they say nothing, or all."""
    return told(environ)[1]


def told(environ: Mapping[str, str]) -> tuple[str, list[str] | None]:
    """(the variable that says which GPUs are ours, what visible() gives of it); "" when none does.

    Either may be a folder whose entries are named so (a device plugin's). CUDA's counts where both are set: in a
    container the other one tells what its engine was asked for, by the host's numbers.
    """
    for name in (CUDA, NVIDIA):
        text = environ.get(name)
        if text is None or text.lower() in (ALL, "void") or (name == NVIDIA and not text):
            continue
        if text.startswith("/"):
            return name, _entries(text)
        none = text.lower() in (NONE, "nodevfiles", "-1")
        return name, [] if none else [word.strip() for word in text.split(",") if word]
    return "", None


def named(words: Iterable[str], index: int, uuid: str) -> bool:
    """Whether a card is among these indices and UUIDs; of a UUID the beginning will do, as for CUDA."""
    return any(word == str(index) or (word.startswith("GPU-") and uuid.startswith(word)) for word in words)


def absent(words: Iterable[str], cards: list[dict[str, Any]]) -> list[str]:
    """Those of the indices and UUIDs that no card (index, uuid) of this machine has; slices are not looked for."""
    return [word for word in words
            if not word.startswith("MIG-") and not any(named([word], card["index"], card["uuid"]) for card in cards)]


def _entries(folder: str) -> list[str]:
    import os
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
