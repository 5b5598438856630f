"""What decides which programs and which Python a task finds in a container of an image, beside the image itself.

What was found once of an image is remembered for its next containers: by its id, and by what their arguments (mounts,
variables, user) and the image's entrypoint have changed of that. Of secrets only a hash is kept.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from agentpipe.place.args_body import Create

# the variables that count; those of Python's that only say how it runs do not
VARIABLES = re.compile(r"(PATH|PYTHON(?!UNBUFFERED|HASHSEED|FAULTHANDLER|DONTWRITE|IOENCODING|UTF8|WARNINGS)\w*"
                       r"|VIRTUAL_ENV|CONDA_\w+|MAMBA_\w+|PYENV_\w+|ASDF_\w+|MISE_\w+|LOCAL_PYTHON|LD_\w+|HOME)=")
MOUNTS = ("Binds", "Mounts", "Tmpfs")


def of(asked: Create) -> str | None:
    """A short name for what arguments change of an image; "" when that is nothing, None when nobody can say (what
    another container has mounted, --volumes-from)."""
    body, host = asked.config, asked.config["HostConfig"]
    if host.get("VolumesFrom"):
        return None
    parts = [f"{name} {host[name]}" for name in (*MOUNTS, "Runtime") if host.get(name)]
    parts += [f"{name} {body[name]}" for name in ("User", "WorkingDir", "Volumes") if body.get(name)]
    return short([*parts, *([f"platform {asked.platform}"] if asked.platform else []), *variables(body["Env"])])


def variables(lines: Iterable[str]) -> list[str]:
    """Those of NAME=VALUE that count."""
    return sorted(filter(VARIABLES.match, lines))


def short(parts: list[str]) -> str:
    """A name for these; "" for none."""
    import hashlib
    text = "\n".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:20] if parts else ""


def name(image: str, place: Mapping[str, Any]) -> str:
    """The name under which what a container of this image has may be remembered; "" when it may not be.

    `place` has `decides`, as of() has it, and may have `entered`, the same of what the image's entrypoint has changed.
    """
    if not image or place.get("decides") is None:
        return ""
    return " ".join([image, *(f"{key} {place[key]}" for key in ("decides", "entered") if place.get(key))])
