"""`agent-task enqueue --check`: whether a worker could set the task up, tried here before it is queued.

The code is fetched and patched as agent-fetch and agent-patch would, in a temporary directory and through this
machine's own cache; the requirements are resolved for the task's Python, and nothing is installed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from agentpipe import errors, trees
from agentpipe.job import Job
from agentpipe.task import check_packages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.capture.capture_bundle import Bundle


def check(script: dict[str, Any], bundle: Bundle | None, say: Callable[[str], None],
          artifacts: list[dict[str, Any]] | None = None, unreachable: tuple[str, str] | None = None) -> None:
    """Say of commit, changes, entry point and requirements that they hold; the first that does not is a Failure.

    `unreachable` (what is wrong, remedy): the remote does not have the commit, though this machine's cache may.
    """
    with trees.temporary("agent-task-") as folder:
        task: dict[str, Any] = {"script": script, "execution": {"artifacts": artifacts or []}}
        job = Job({"task": task}, folder)
        try:
            if bundle:
                _placed(job, bundle)
            code = _code(job, say, unreachable)
            _changes(job, code, say)
            check_packages.check(job, say)
        except errors.Failure as failure:
            failure.reason = f"check: {failure.reason}"
            raise
        finally:
            job.close()


@contextlib.contextmanager
def fetched(task: dict[str, Any]) -> Iterator[str]:
    """A temporary directory with the code of a task of a repository, its changes applied; a Failure says why not."""
    with trees.temporary("agent-task-") as folder:
        job = Job({"task": task}, folder)
        try:
            code = _code(job, lambda text: None, None)
            _changes(job, code, lambda text: None)
            yield code
        finally:
            job.close()


def _placed(job: Job, found: Bundle) -> None:
    """The bundle's files where a worker would have brought them."""
    job.task["execution"]["artifacts"] += [{"key": key, "mode": "input"} for key, _, _ in found.written(job.path)]


def _code(job: Job, say: Callable[[str], None], unreachable: tuple[str, str] | None) -> str:
    from agentpipe.code import bundle, checkout, git
    from agentpipe.urls import without_credentials
    code = job.path("code")
    source = git.source_of(job.task["script"])
    if source is None:
        os.mkdir(code)
        bundle.bring_files(job, code)
    else:
        commit, _ = checkout.make(job, source, code)
        if unreachable:
            raise errors.Failure(unreachable[0], errors.NOT_FOUND, remedy=unreachable[1])
        say(f"check: {source} can be fetched: {commit[:10]}")
        job.manifest["fetch"] = {"code": code, "commit": commit, "repository": without_credentials(source.url)}
    job.manifest.setdefault("fetch", {"code": code, "commit": None, "repository": None})
    return code


def _changes(job: Job, code: str, say: Callable[[str], None]) -> None:
    from agentpipe.code import diff, entry, git, submodule_changes
    script = job.task["script"]
    kind, text = diff.of(script)
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
    path = entry.check_there(code, found)
    packages = []
    if path and path.endswith(".ipynb"):
        from agentpipe.code import notebook
        packages = ["ipython"] if notebook.convert(path)[1] else []
    job.manifest["patch"] = {"working_dir": found.working_dir, "packages": packages}


def source_less(job: Job) -> bool:
    """Whether the task has no repository."""
    return not job.manifest["fetch"]["repository"]
