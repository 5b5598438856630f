"""agent-fetch: check out a task's code."""

import os
import time

from agentpipe import command

EXAMPLES = """
  agent-pull gpu | agent-fetch | agent-patch | agent-env | agent-run
  echo '{"task":{"script":{"repository":"https://example.com/r.git","branch":"main"}}}' | agent-fetch
  agent-fetch --dry-run task.json
"""


def work(job):
    """The task's code at the commit it names, in the task's directory; the value of the manifest's `fetch`."""
    from agentpipe import pinned, secrets
    from agentpipe.code import checkout, git
    from agentpipe.crash import crash_point
    from agentpipe.environment import targets
    from agentpipe.place import apart
    from agentpipe.urls import without_credentials
    apart.check(job, "fetch")
    started = time.monotonic()
    if passed_over := pinned.passed_over(job.manifest):
        job.warn(passed_over)
    commit_of_pins = (job.manifest.get("pins") or {}).get("commit")
    script = secrets.script(job)
    source = git.source_of({**script, "version_num": commit_of_pins} if commit_of_pins else script)
    code, commit, cached = targets.folder(job, "code") or job.path("code"), None, True
    forced = os.environ.get("CLEARML_AGENT_FORCE_CODE_DIR")
    if forced:
        code = forced_code(job, forced)
    elif job.option("dry_run"):
        commit = foretell(job, source)
    elif source is None:
        bare(job, code)
    else:
        commit, cached = checkout.make(job, source, code)
        job.say(f"checked out {commit} of {source.url}" + (" (cached)" if cached else ""))
        record(job, commit)
    crash_point("fetch:cloned")
    return {"code": code, "repository": source and without_credentials(source.url), "commit": commit,
            "branch": (source and source.branch) or None, "cached": cached,
            "seconds": round(time.monotonic() - started, 3)}


def record(job, commit):
    """Write the commit back to a task that named none, as ClearML Agent does: a clone of it gets the same code."""
    from agentpipe import errors
    if not job.tell or (job.task.get("script") or {}).get("version_num"):
        return
    try:
        job.tell("tasks.edit", {"script": {"version_num": commit}, "force": True})
    except (errors.ApiError, errors.Failure) as error:
        job.say(f"the commit could not be recorded on the task: {error}")


def forced_code(job, folder):
    """The folder that an operator put in the place of the task's repository."""
    from agentpipe import errors
    if not os.path.isdir(folder):
        raise errors.Failure(f"CLEARML_AGENT_FORCE_CODE_DIR is not a folder: {folder}", errors.NOT_FOUND,
                             remedy="unset CLEARML_AGENT_FORCE_CODE_DIR, or create it")
    job.say(f"using the code in {folder} (CLEARML_AGENT_FORCE_CODE_DIR)")
    return os.path.realpath(folder)


def foretell(job, source):
    """Say what would be done; the commit, when that is known without asking the remote."""
    from agentpipe.code import bundle, mirror
    if source is None:
        job.say("no repository: would make an empty folder")
        return None
    known = source.commit and mirror.has(source, source.commit)
    if not known and source.commit and bundle.COMMITS in bundle.of(job.task):
        job.say(f"would take {source} from the task's bundle")
        return source.commit
    job.say(f"would check out {source} from the cache" if known else
            f"would fetch {source}, which {mirror.path_of(source)} does not have" if source.commit else
            f"would ask {source.url} for its {source.tag or source.branch or 'default branch'}")
    return source.commit or None


def bare(job, code):
    """A folder for a task without a repository: empty, but for the task's own files."""
    from agentpipe import trees
    from agentpipe.code import bundle
    new = trees.beside(code)
    os.mkdir(new)
    bundle.bring_files(job, new)
    trees.replace(new, code)


def main():
    """The entry point."""
    command.stage("fetch", work, list, __doc__, EXAMPLES)


if __name__ == "__main__":
    main()
