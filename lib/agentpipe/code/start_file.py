"""The file that a task starts: written when it came as text, and made runnable."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.code.changes import Record
    from agentpipe.code.entry import Entry
    from agentpipe.job import Job


def place(job: Job, code: str, found: Entry, create: bool) -> None:
    """Settle the working directory, inside the checkout."""
    from agentpipe.code import entry
    lost = found.working_dir != "." and not os.path.isdir(os.path.join(code, found.working_dir))
    if not job.manifest["fetch"].get("repository") and lost:
        job.say(f"working_dir {found.working_dir} is ignored: the task has no repository")
        found.working_dir = "."
    found.working_dir = entry.directory(code, found.working_dir, create)


def written(job: Job, code: str, text: str, found: Entry, record: Record) -> list[str]:
    """Write the diff that is itself the script; the paths written."""
    from agentpipe.code import entry
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


def _bare(job: Job) -> bool:
    """Whether the task brings no code at all: the SDK records so what it finds in a checkout without a remote."""
    script = job.task.get("script") or {}
    return not script.get("repository") and not script.get("diff")


def prepare(job: Job, code: str, found: Entry) -> list[str]:
    """Make the entry point's file runnable: it is there, a notebook is a script, and __future__ imports come first.

    The packages that this needs beside the task's own.
    """
    from agentpipe.code import entry
    from agentpipe.settings import config
    packages, path = [], entry.check_there(code, found, _bare(job))
    if path and path.endswith(".ipynb"):
        from agentpipe.code import notebook
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
