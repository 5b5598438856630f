"""agent-patch: apply a task's uncommitted changes, or write its stand-alone script."""

import os
import time

from agentpipe import command

EXAMPLES = """
  agent-pull gpu | agent-fetch | agent-patch | tee patched.json | agent-env | agent-run
  agent-patch fetched.json > patched.json
  agent-patch --dry-run fetched.json
"""


def work(job):
    """The checkout with the task's own changes in it; the value of the manifest's `patch`."""
    from agentpipe import diff, entry
    started = time.monotonic()
    script, code = job.task.get("script") or {}, fetched(job)
    text = "" if os.environ.get("CLEARML_AGENT_FORCE_CODE_DIR") else script.get("diff") or ""
    kind = diff.kind(text)
    if job.option("dry_run"):
        foretell(job, kind, text)
        return finished(started, kind, text, [], entry.Entry([], ".", "", False))
    record = Record(code)
    files = changed(job, code, text, record) if kind == "patch" else restored(job, code, kind, record)
    found = entry.of(script, code)
    place(job, code, found, create=kind == "script")
    if kind == "script":
        files = written(job, code, text, found, record)
    packages = prepare_file(job, code, found)
    return finished(started, kind, text, files, found, packages)


def fetched(job):
    """The folder that agent-fetch has filled."""
    from agentpipe import errors
    code = (job.manifest.get("fetch") or {}).get("code")
    if not code:
        raise errors.Failure("the manifest has no `fetch`: agent-fetch has not run", errors.BAD_DATA,
                             remedy="agent-fetch | agent-patch")
    if not os.path.isdir(code) and not job.option("dry_run"):
        raise errors.Failure(f"the checkout {code} is not there", errors.NOT_FOUND, remedy="run agent-fetch again")
    return code


class Record:
    """What has been done to a checkout, kept in it, so that doing it twice is the same as once."""

    def __init__(self, code):
        import json
        self._json = json
        git_dir = os.path.join(code, ".git")
        self.in_git = os.path.isdir(git_dir)
        self.path = os.path.join(git_dir, "agentpipe-patch") if self.in_git else os.path.join(code, ".agentpipe-patch")
        try:
            with open(self.path, encoding="utf-8") as file:
                self.value = json.load(file)
        except FileNotFoundError:
            self.value = None
        except ValueError:
            self.value = {"done": False}

    def write(self, **value):
        """Remember, by a rename."""
        from agentpipe import entry
        entry.publish(self.path, self._json.dumps(value).encode())
        self.value = value

    def forget(self):
        """Nothing has been done."""
        if self.value is not None:
            if os.path.exists(self.path):
                os.unlink(self.path)
            self.value = None


def changed(job, code, text, record):
    """Apply the diff; the paths that it changes. A failure leaves the checkout as agent-fetch made it."""
    from agentpipe import diff, errors
    from agentpipe.crash import crash_point
    digest = sha256(text)
    if record.value and record.value.get("done") and record.value.get("diff") == digest:
        job.say("the diff has been applied already")
        return record.value["files"]
    restored(job, code, "patch", record)
    record.write(diff=digest, done=False)
    crash_point("patch:begun")
    try:
        applied = diff.apply(code, diff.encoded(text))
        moves = moved(job, code, text, record, digest)
    except errors.Failure as failure:
        if moving(record) or diff.began_to_write(failure):
            restored(job, code, "patch", record)
        record.forget()
        raise
    crash_point("patch:applied")
    record.write(diff=digest, done=True, files=applied.files, submodules=moves)
    job.say(f"applied the diff: {len(applied.files)} file(s) changed" + (f" ({applied.how})" if applied.how else ""))
    return applied.files


def moved(job, code, text, record, digest):
    """Bring submodules to the commits that the diff names; which."""
    from agentpipe import submodule_changes
    for path in submodule_changes.dirty(text):
        job.say(f"the diff says that {path} has changes, but not which: they are missing "
                "(git diff --submodule=diff HEAD has them)")
    moves = submodule_changes.named(text)
    if moves:
        record.write(diff=digest, done=False, submodules=moves)
        submodule_changes.make(job, source(job), code, moves)
    return moves


def moving(record):
    """Whether submodules have been moved, or may have been."""
    return bool(record.value and record.value.get("submodules"))


def source(job):
    """The repository at the commit that agent-fetch has checked out."""
    from agentpipe import git, secrets
    return git.source_of({**secrets.script(job), "version_num": job.manifest["fetch"]["commit"]})


def restored(job, code, kind, record):
    """The checkout as agent-fetch made it, when an earlier agent-patch has changed it since; no paths changed."""
    from agentpipe import checkout, errors, git, tools
    before = record.value
    if before is None or (kind == "script" and before.get("script")):
        return []
    if not record.in_git or not (job.manifest["fetch"] or {}).get("commit"):
        raise errors.Failure(f"{code} has another diff in it already", errors.BAD_DATA, remedy="run agent-fetch again")
    job.say("undoing what an earlier agent-patch did")
    if moving(record):
        checkout.make(job, source(job), code)
        return as_fetched(job, code, record)
    env = git.environment()
    clean = "git reset --quiet --hard && git clean -ffdxq"
    tools.run(["sh", "-c", clean], cwd=code, env=env)
    if os.path.exists(os.path.join(code, ".gitmodules")):
        tools.run(["git", "submodule", "--quiet", "foreach", "--recursive", clean], cwd=code, env=env)
    return as_fetched(job, code, record)


def as_fetched(job, code, record):
    """Nothing has been done, and the files that came with the task are there again; no paths changed."""
    from agentpipe import bundle
    bundle.bring_files(job, code)
    record.forget()
    return []


def place(job, code, found, create):
    """Settle the working directory, inside the checkout."""
    from agentpipe import entry
    lost = found.working_dir != "." and not os.path.isdir(os.path.join(code, found.working_dir))
    if not job.manifest["fetch"].get("repository") and lost:
        job.say(f"working_dir {found.working_dir} is ignored: the task has no repository")
        found.working_dir = "."
    found.working_dir = entry.directory(code, found.working_dir, create)


def written(job, code, text, found, record):
    """Write the diff that is itself the script; the paths written."""
    from agentpipe import entry
    from agentpipe.crash import crash_point
    if found.target.endswith(".ipynb") and not text.lstrip().startswith("{"):
        found.target = found.target[:-6] + ".py"  # a notebook's name, but a script's text
    ours = (record.value or {}).get("script") == os.path.normpath(os.path.join(found.working_dir, found.target))
    name = entry.write_script(code, found, text, keep=bool(job.manifest["fetch"].get("repository")) and not ours)
    crash_point("patch:written")
    if name is None:
        job.say(f"{found.target} is in the repository already: kept, the script in the task's diff is not used")
    elif record.in_git:
        record.write(script=name)
    if not found.module:
        found.words, found.changed = [found.target, *found.words[1:]], True
    return [name] if name else []


def bare(job):
    """Whether the task brings no code at all: the SDK records so what it finds in a checkout without a remote."""
    script = job.task.get("script") or {}
    return not script.get("repository") and not script.get("diff")


def prepare_file(job, code, found):
    """Make the entry point's file runnable: it is there, a notebook is a script, and __future__ imports come first.

    The packages that this needs beside the task's own.
    """
    from agentpipe import config, entry
    packages, path = [], entry.check_there(code, found, bare(job))
    if path and path.endswith(".ipynb"):
        from agentpipe import notebook
        path, magic = notebook.convert(path)
        job.say(f"{found.words[0]} has been converted to {os.path.basename(path)}"
                + ("; cells with magics are given to IPython" if magic else ""))
        packages += ["ipython"] if magic else []
        found.words[0], found.changed = os.path.join(os.path.dirname(found.words[0]), os.path.basename(path)), True
    if path and path.endswith(".py"):
        if entry.mend_future_imports(path):
            job.say("the SDK's two lines have been moved below the __future__ imports")
        if config.flag("", False, "CLEARML_AGENT_FORCE_TASK_INIT"):
            packages.append("clearml")
            if entry.insert_task_init(path):
                job.say("Task.init() has been put into the script (CLEARML_AGENT_FORCE_TASK_INIT)")
    return packages


def finished(started, kind, text, files, found, packages=()):
    """The value of the manifest's `patch`."""
    return {"diff": sha256(text) if kind != "none" else None, "files": files, "entry_point": found.text,
            "working_dir": found.working_dir, **({"packages": list(packages)} if packages else {}),
            "seconds": round(time.monotonic() - started, 3)}


def sha256(text):
    """Hex, over the diff's bytes."""
    import hashlib

    from agentpipe import diff
    return hashlib.sha256(diff.encoded(text)).hexdigest()


def foretell(job, kind, text):
    """Say what would be done."""
    if kind == "patch":
        job.say(f"would apply a diff of {len(text)} characters to {text.count('diff --git ')} file(s)")
    else:
        job.say("would write the stand-alone script" if kind == "script" else "no uncommitted changes: nothing to do")


def main():
    """The entry point."""
    command.stage("patch", work, list, __doc__, EXAMPLES)


if __name__ == "__main__":
    main()
