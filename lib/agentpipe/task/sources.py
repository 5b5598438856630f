"""A task as it ran, out of the server's word or out of a receipt: what `agent-task diff` and `script` look at."""

from __future__ import annotations

import os
import re

from agentpipe import errors, find, task_fields
from agentpipe.claim import attempt
from agentpipe.report import timing
from agentpipe.task import view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# what a list names places for packages with, as uv spells it
INDEXES = {"-i": "--index-url", "--index-url": "--index-url", "--extra-index-url": "--extra-index-url",
           "-f": "--find-links", "--find-links": "--find-links", "--trusted-host": "--allow-insecure-host"}


class Source:
    """`task` as the ClearML API spells it, `pins` what it ran with, `end` how it ended ({} when it has not).

    `packages` are lines of requirements: all that was installed when `installed`, else what was asked for; `of_conda`
    those of them that conda has installed. `python` is the interpreter that it ran with, where this machine has it.
    """

    def __init__(self, task: dict[str, Any], pins: dict[str, Any], end: dict[str, Any], worker: str,
                 python: str = "") -> None:
        self.task, self.pins, self.end, self.worker, self.python = task, pins, end, worker, python
        self.script: dict[str, Any] = task.get("script") or {}
        self.installed = bool(pins.get("packages"))
        pinned = [each for each in pins.get("packages") or [] if not isinstance(each, dict) or each.get("name")]
        self.packages = [spelled(each) for each in pinned]
        self.of_conda = [spelled(each) for each in pinned if isinstance(each, dict) and each.get("conda")]
        self.stages: list[dict[str, Any]] = end.get("stages") or []
        if not self.packages:
            self.packages = recorded(self.script)
            self.installed = bool((self.script.get("requirements") or {}).get("org_pip"))


def is_file(word: str) -> bool:
    """Whether a word means a file, or a pipe as a shell names one: <(agent-pull …)."""
    return os.path.exists(word) and not os.path.isdir(word)


def of(api: Any, word: str) -> Source:
    """The source that a word means: a file with a manifest or a receipt, else a task."""
    if is_file(word):
        return of_file(word)
    task = find.task(api, word)
    end = view.end_of(task)
    pins = {**end.get("pins", {})}
    directory = attempt.latest(task["id"])
    line = attempt.read_manifest(directory) if directory else None
    python = ""
    if line and task["status"] in find.ENDED and _same_claim(task, line):
        from agentpipe import manifest
        pins = {**manifest.pins(line), **pins}
        python = interpreter(line)
    return Source(task, pins, end, task.get("last_worker") or "", python)


def of_file(path: str) -> Source:
    """The first line of a file; what is no manifest is a Failure (65)."""
    from agentpipe import manifest
    from agentpipe.plain_lines import Lines
    lines = Lines("a manifest or a receipt is one JSON object a line", path)
    try:
        first = next(lines, b"")
        try:
            line = manifest.read(first)
        except errors.Failure as failure:
            raise errors.Failure(f"{path}: {failure.reason}", failure.exit) from None
    finally:
        lines.close()
    run, failed = line.get("run") or {}, line.get("failed") or {}
    end = {"class": failed.get("class") or run.get("end"), "exit": failed.get("exit", run.get("exit")),
           "stage": failed.get("stage", "run"), "reason": failed.get("reason") or run.get("reason") or "",
           "evidence": failed.get("evidence") or run.get("evidence") or "", "stages": timing.stages(line)}
    origin = line.get("origin") or line.get("pull") or {}
    return Source(task_fields.sound(line["task"]), manifest.pins(line), end if end["class"] else {},
                  origin.get("worker") or "", interpreter(line))


def interpreter(line: dict[str, Any]) -> str:
    """The Python of this machine behind a manifest's environment; "" where there is none, or it is an image's."""
    python = (line.get("env") or {}).get("python") or ""
    found = os.path.realpath(python) if os.path.isabs(python) else ""
    inside = (line["task"].get("container") or {}).get("image")
    return found if found and not inside and os.access(found, os.X_OK) else ""


def _same_claim(task: dict[str, Any], line: dict[str, Any]) -> bool:
    from agentpipe.claim import on_server
    pull = line.get("pull") or line.get("origin") or {}
    return pull.get("claim") == (task.get("runtime") or {}).get(on_server.RUNTIME_KEY)


def recorded(script: dict[str, Any]) -> list[str]:
    """The requirements of a task's script, without blank lines and comments."""
    return [line for line in _lines(script) if not line.startswith("#")]


def records_any(script: dict[str, Any]) -> bool:
    """Whether it says anything of requirements, be it a comment: else an agent reads the repository's lists."""
    return bool(_lines(script))


def _lines(script: dict[str, Any]) -> list[str]:
    text = (script.get("requirements") or {}).get("pip") or ""
    lines = text.splitlines() if isinstance(text, str) else map(str, text)
    return [line.strip() for line in lines if line.strip()]


def indexes(source: Source) -> list[tuple[str, str]]:
    """(option, address) of the places for packages that a task names, first as it was asked and then as it ran."""
    told = [(source.script.get("requirements") or {}).get(name) for name in ("org_pip", "pip")]
    lines = (line for text in (*told, source.pins.get("options")) for line in _lines({"requirements": {"pip": text}}))
    matches = (re.match(r"(--?[a-z-]+)[\s=]*(\S+)(?:\s+#.*)?$", line) for line in lines)
    found = [(INDEXES[match[1]], match[2]) for match in matches if match and match[1] in INDEXES]
    return list(dict.fromkeys(found))


def spelled(package: Any) -> str:
    """A pinned package (pins.py) as a line of requirements, for any platform: without its file's hash."""
    if not isinstance(package, dict):
        return str(package).partition(" --hash")[0]
    source = str(package.get("source") or "")
    if "+" in source.split("://")[0] or package.get("direct"):
        return f"{package['name']} @ {source}"
    return f"{package['name']}=={package['version']}" if package.get("version") else str(package["name"])
