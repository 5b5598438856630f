"""What decides which programs and which Python a task finds in a container of an image, beside the image itself.

What was found once of an image is remembered for its next containers: by its id, and by what their arguments (mounts,
variables, user) and the image's entrypoint have changed of that. Of secrets only a hash is kept.
"""

from __future__ import annotations

import os
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
# where programs, Pythons and their packages are without anybody's word, and below: a mount elsewhere is data
SYSTEM = ("/bin", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/opt", "/root", "/sbin", "/snap",
          "/usr", "/var/lib")


def of(asked: Create, image: Mapping[str, Any]) -> str | None:
    """A short name for what arguments change of an image, as the engine describes it; "" when that is nothing, None
    when nobody can say (what another container has mounted, --volumes-from)."""
    body, host = asked.config, asked.config["HostConfig"]
    if host.get("VolumesFrom"):
        return None
    named = _folders(body, image.get("Config") or {})
    parts = [f"{name} {each}" for name in MOUNTS for each in _mounts(host, name)
             if _is_of_programs(_target(each), named)]
    parts += [f"Volumes {each}" for each in body.get("Volumes") or {} if _is_of_programs(each, named)]
    parts += [f"{name} {of[name]}" for of, name in ((host, "Runtime"), (body, "User"), (body, "WorkingDir"))
              if of.get(name)]
    return short([*parts, *([f"platform {asked.platform}"] if asked.platform else []), *variables(body["Env"])])


def _mounts(host: Mapping[str, Any], name: str) -> list[Any]:
    found = host.get(name) or []
    return [f"{path}:{options}" for path, options in found.items()] if isinstance(found, dict) else list(found)


def _target(mount: Any) -> str:
    """Where it is to be seen: of SOURCE:TARGET[:OPTIONS], a tmpfs' TARGET:OPTIONS, or a mount by its fields."""
    if isinstance(mount, dict):
        return str(mount.get("Target") or "/")
    first, _, rest = str(mount).partition(":")
    second = rest.partition(":")[0]
    return second if second.startswith("/") else first


def _folders(body: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
    """Where programs and packages are looked for: by the system, by variables, and in the folder that they start in."""
    lines = [*(image.get("Env") or []), *body["Env"]]
    named = [path for line in variables(lines) for path in line.partition("=")[2].split(":")]
    return [folder(each) for each in (*SYSTEM, *named, image.get("WorkingDir"), body.get("WorkingDir"))
            if each and each.startswith("/") and folder(each) != "/"]


def _is_of_programs(target: str, folders: list[str]) -> bool:
    """Whether what is mounted there lies in one of these folders, or hides it."""
    target = folder(target)
    return any(target.startswith(each) or each.startswith(target) for each in folders)


def folder(path: str) -> str:
    """An absolute path as engines take it (//usr/local is /usr/local), and as all begin that are in it."""
    return f"/{os.path.normpath(path).strip('/')}/".replace("//", "/")


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
