"""Whether an image has a Python: one for a task that wants it is installed by the set-up, as clearml-agent does."""

from __future__ import annotations

import os

from agentpipe import paths
from agentpipe.files import publish
from agentpipe.place import inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.job import Job
    from agentpipe.place.decide import Container


def wanted_by(job: Job) -> bool:
    """Whether the task's script, or what it requires, needs a Python."""
    from agentpipe.code import entry
    script = job.task.get("script") or {}
    packages = (script.get("requirements") or {}).get("pip") or ""
    lines = packages if isinstance(packages, list) else str(packages).splitlines()
    # a list that asks for nothing says so in a comment (agent-task enqueue --requirements none)
    return entry.is_python(str(script.get("binary") or "")) or any(str(one).partition("#")[0].strip() for one in lines)


def known_to_lack(image: str) -> bool | None:
    """Whether an image has no Python, by its name for memories (deciding.py); None when nobody has looked."""
    try:
        with open(_memory(image), encoding="ascii") as file:
            return file.read() == "lacks"
    except OSError:
        return None


def look(job: Job, container: Container, image: str, prefix: list[str]) -> None:
    """Settle `lacks_python` of a container that runs, and remember it for the next one; `image` as known_to_lack()."""
    binary = str((job.task.get("script") or {}).get("binary") or "").split(" ")[0]
    words = '[ -z "$LOCAL_PYTHON" ] && ! [ -x "$1" ] || exit 0; command -v python3 || command -v python || echo none'
    said = inside.answer(job, [*prefix, "sh", "-c", words, "sh", binary]).strip()
    container.lacks_python = said == "none"
    if not said or not image:
        return  # this task has one of its own
    os.makedirs(paths.cache("interpreters"), 0o700, exist_ok=True)
    publish(_memory(image), b"lacks" if container.lacks_python else b"has")


def _memory(image: str) -> str:
    import hashlib
    return paths.cache("interpreters", f"python-{hashlib.sha256(image.encode()).hexdigest()[:20]}")
