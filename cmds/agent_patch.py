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
    from agentpipe.code import changes, diff, entry, start_file
    from agentpipe.place import apart
    apart.check(job, "patch")
    started = time.monotonic()
    script, code = job.task.get("script") or {}, fetched(job)
    kind, text = ("none", "") if os.environ.get("CLEARML_AGENT_FORCE_CODE_DIR") else diff.of(script)
    if job.option("dry_run"):
        foretell(job, kind, text)
        return finished(started, kind, text, [], entry.Entry([], ".", "", False))
    said = (job.manifest.get("pins") or {}).get("diff")
    if said and said != (changes.sha256(text) if kind != "none" else None):
        job.warn("task.script.diff is not the one that the receipt's pins name: it is used as it is now")
    record = changes.Record(code)
    files = (changes.changed(job, code, text, record) if kind == "patch" else
             changes.restored(job, code, kind, record))
    found = entry.of(script, code)
    start_file.place(job, code, found, create=kind == "script")
    if kind == "script":
        files = start_file.written(job, code, text, found, record)
    packages = start_file.prepare(job, code, found)
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


def finished(started, kind, text, files, found, packages=()):
    """The value of the manifest's `patch`."""
    from agentpipe.code import changes
    # a name that is no UTF-8 is no JSON either
    names = [os.fsencode(name).decode("utf-8", "replace") for name in files]
    return {"diff": changes.sha256(text) if kind != "none" else None, "files": names, "entry_point": found.text,
            "working_dir": found.working_dir, **({"packages": list(packages)} if packages else {}),
            "seconds": round(time.monotonic() - started, 3)}


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
