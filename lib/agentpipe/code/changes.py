"""A task's uncommitted changes in its checkout: applied once, undone when others are to take their place."""

from __future__ import annotations

import os

from agentpipe import untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.code.git import Source
    from agentpipe.job import Job


class Record:
    """What has been done to a checkout, kept in it, so that doing it twice is the same as once."""

    def __init__(self, code: str) -> None:
        git_dir = os.path.join(code, ".git")
        self.in_git = os.path.isdir(git_dir)
        self.path = os.path.join(git_dir, "agentpipe-patch") if self.in_git else os.path.join(code, ".agentpipe-patch")
        self.value: dict[str, Any] | None = {"done": False}
        try:
            # a task without a repository may bring anything along under that name
            found = untrusted.value(*os.path.split(self.path), untrusted.LARGE)
            self.value = found if isinstance(found, dict) else self.value
        except FileNotFoundError:
            self.value = None
        except (ValueError, untrusted.NotRegular):
            pass

    def write(self, **value: Any) -> None:
        """Remember, by a rename."""
        import json

        from agentpipe.code import entry
        entry.publish(self.path, json.dumps(value).encode())
        self.value = value

    def forget(self) -> None:
        """Nothing has been done."""
        if self.value is not None:
            if os.path.exists(self.path):
                os.unlink(self.path)
            self.value = None


def changed(job: Job, code: str, text: str, record: Record) -> list[str]:
    """Apply the diff; the paths that it changes. A failure leaves the checkout as agent-fetch made it."""
    from agentpipe import errors
    from agentpipe.code import diff, submodule_changes
    from agentpipe.crash import crash_point
    digest = sha256(text)
    moves, dirty = submodule_changes.named(text), submodule_changes.dirty(text)
    if record.value and record.value.get("done") and record.value.get("diff") == digest:
        job.say("the diff has been applied already")
        return record.value.get("files") or []
    restored(job, code, "patch", record)
    record.write(diff=digest, done=False)
    crash_point("patch:begun")
    try:
        applied = diff.apply(code, diff.encoded(text))
        for path in dirty:
            job.say(f"the diff says that {path} has changes, but not which: they are missing "
                    "(git diff --submodule=diff HEAD has them)")
        if moves:
            record.write(diff=digest, done=False, submodules=moves)
            submodule_changes.make(job, _source(job), code, moves)
    except errors.Failure as failure:
        if _moving(record) or isinstance(failure, diff.HalfWritten):
            restored(job, code, "patch", record)
        record.forget()
        raise
    crash_point("patch:applied")
    record.write(diff=digest, done=True, files=applied.files, submodules=moves)
    job.say(f"applied the diff: {len(applied.files)} file(s) changed" + (f" ({applied.how})" if applied.how else ""))
    return applied.files


def _moving(record: Record) -> bool:
    """Whether submodules have been moved, or may have been."""
    return bool(record.value and record.value.get("submodules"))


def _source(job: Job) -> Source:
    """The repository at the commit that agent-fetch has checked out."""
    from agentpipe import errors, secrets
    from agentpipe.code import git
    found = git.source_of({**secrets.script(job), "version_num": job.manifest["fetch"]["commit"]})
    if found is None:
        raise errors.Failure("the diff moves submodules, but the task has no repository", errors.BAD_DATA,
                             remedy="enqueue it again from its checkout")
    return found


def restored(job: Job, code: str, kind: str, record: Record) -> list[str]:
    """The checkout as agent-fetch made it, when an earlier agent-patch has changed it since; no paths changed."""
    from agentpipe import errors, tools
    from agentpipe.code import bundle, checkout, git
    before = record.value
    if before is None or (kind == "script" and before.get("script")):
        return []
    if not record.in_git or not (job.manifest["fetch"] or {}).get("commit"):
        raise errors.Failure(f"{code} has another diff in it already", errors.BAD_DATA, remedy="run agent-fetch again")
    job.say("undoing what an earlier agent-patch did")
    if _moving(record):
        checkout.make(job, _source(job), code)
        record.forget()
        return []
    # where this .git is broken, none of the folders above is meant: it would be reset in its place
    env = git.environment({"GIT_CEILING_DIRECTORIES": os.path.dirname(os.path.realpath(code))})
    # what was added goes first: it may have filled the disk, and a reset needs some of that
    clean = "git clean -ffdxq && git reset --quiet --hard"
    try:
        tools.run(["sh", "-c", clean], cwd=code, env=env)
        if os.path.exists(os.path.join(code, ".gitmodules")):
            tools.run(["git", "submodule", "--quiet", "foreach", "--recursive", clean], cwd=code, env=env)
    except tools.ToolFailed as failed:
        raise errors.Failure(f"cannot undo an earlier agent-patch in {code}: {failed.reason}", errors.CANNOT_CREATE,
                             failed.evidence, "df -h; then run agent-fetch again") from None
    bundle.bring_files(job, code)
    record.forget()
    return []


def sha256(text: str) -> str:
    """Hex, over the diff's bytes."""
    import hashlib

    from agentpipe.code import diff
    return hashlib.sha256(diff.encoded(text)).hexdigest()
