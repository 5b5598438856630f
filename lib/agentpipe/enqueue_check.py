"""`agent-task enqueue --check`: whether a worker could set the task up, tried here before it is queued.

The code is fetched and patched as agent-fetch and agent-patch would, in a temporary directory and through this
machine's own cache; the requirements are resolved for the task's Python, and nothing is installed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

from agentpipe import errors
from agentpipe.job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.capture_bundle import Bundle


def check(script: dict[str, Any], bundle: Bundle | None, say: Callable[[str], None],
          artifacts: list[dict[str, Any]] | None = None, unreachable: tuple[str, str] | None = None) -> None:
    """Say of commit, changes, entry point and requirements that they hold; the first that does not is a Failure.

    `unreachable` (what is wrong, remedy): the remote does not have the commit, though this machine's cache may.
    """
    with tempfile.TemporaryDirectory(prefix="agent-task-") as folder:
        task: dict[str, Any] = {"script": script, "execution": {"artifacts": artifacts or []}}
        job = Job({"task": task}, folder)
        try:
            if bundle:
                _placed(job, bundle)
            code = _code(job, say, unreachable)
            _changes(job, code, say)
            _requirements(job, say)
        except errors.Failure as failure:
            failure.reason = f"check: {failure.reason}"
            raise
        finally:
            job.close()


def _placed(job: Job, found: Bundle) -> None:
    """The bundle's files where a worker would have brought them."""
    from agentpipe import bundle, capture_bundle
    items: list[dict[str, Any]] = job.task["execution"]["artifacts"]
    for key, wanted, write in ((bundle.COMMITS, found.commit, capture_bundle.write_commits),
                               (bundle.FILES, found.files, capture_bundle.write_files)):
        if wanted:
            write(found, job.path(bundle.NAMES[key]))
            items.append({"key": key, "mode": "input"})


def _code(job: Job, say: Callable[[str], None], unreachable: tuple[str, str] | None) -> str:
    from agentpipe import bundle, checkout, git
    code = job.path("code")
    source = git.source_of(job.task["script"])
    if source is None:
        os.mkdir(code)
    else:
        bundle.bring_commits(job, source)
        commit, _ = checkout.make(job, source, code)
        if unreachable:
            raise errors.Failure(unreachable[0], errors.NOT_FOUND, remedy=unreachable[1])
        say(f"check: {source} can be fetched: {commit[:10]}")
        job.manifest["fetch"] = {"code": code, "commit": commit, "repository": source.url}
    bundle.bring_files(job, code)
    job.manifest.setdefault("fetch", {"code": code, "commit": None, "repository": None})
    return code


def _changes(job: Job, code: str, say: Callable[[str], None]) -> None:
    from agentpipe import diff, entry, git, submodule_changes
    script = job.task["script"]
    text = script.get("diff") or ""
    kind = diff.kind(text)
    if kind == "patch":
        applied = diff.apply(code, diff.encoded(text))
        source = git.source_of({**script, "version_num": job.manifest["fetch"]["commit"]})
        moves = submodule_changes.named(text)
        if source and moves:
            submodule_changes.make(job, source, code, moves)
        say(f"check: the changes apply: {len(applied.files)} file(s)")
    found = entry.of(script, code)
    if source_less(job):
        found.working_dir = "."
    found.working_dir = entry.directory(code, found.working_dir, create=kind == "script")
    if kind == "script":
        entry.write_script(code, found, text, keep=False)
        if not found.module:
            found.words = [found.target, *found.words[1:]]
    entry.check_there(code, found)
    job.manifest["patch"] = {"working_dir": found.working_dir}


def source_less(job: Job) -> bool:
    """Whether the task has no repository."""
    return not job.manifest["fetch"]["repository"]


def _requirements(job: Job, say: Callable[[str], None]) -> None:
    from agentpipe import git_pins, requirements
    from agentpipe.installers import policy, uv, uv_failures
    from agentpipe.tools import ToolFailed
    binary = str(job.task["script"].get("binary") or "")
    asked = requirements.of_task(job)
    if not requirements.is_python(binary) or asked.empty():
        say("check: nothing is to be installed")
        return
    git_pins.settle(job, asked)
    listed = job.path("requirements.txt")
    uv.write_list(listed, asked.file_text(), asked, job.path("constraints.txt"))
    version = _version(binary)
    own = [*(["--python-version", version] if version else []),
           *(["--no-deps"] if policy.of(job, asked).no_deps else [])]
    try:
        answer = uv.run(job, ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-emit-index-url",
                              "--no-emit-find-links", "--index-strategy", "unsafe-best-match", *own, listed],
                        loud=False, env=git_pins.access(asked.secrets))
    except ToolFailed as failed:
        raise uv_failures.explained(job, failed, job.directory, asked) from None
    count = sum(1 for line in answer.splitlines() if line and not line.startswith((" ", "#", "-")))
    say(f"check: the requirements resolve to {count} packages" + (f" for Python {version}" if version else ""))


def _version(binary: str) -> str:
    import re
    found = re.fullmatch(r"python(\d+\.\d+(?:\.\d+)?)", os.path.basename(binary.split(" ")[0]))
    return found[1] if found else ""
