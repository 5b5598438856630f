"""agent-task: put tasks into queues, look at them, follow their log, stop them, and ask why."""

import os
import sys
from typing import Annotated, Any

import typer

from agentpipe import command, errors

app = typer.Typer(help=__doc__, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]})
Task = Annotated[str, typer.Argument(metavar="TASK", show_default=False, help="An id, its beginning, or a name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
EPILOG = "\b\nExamples:\n"


def text(*names: str, help: str, metavar: str = "TEXT") -> Any:
    """An option with a value."""
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


@app.command(epilog=EPILOG + """  agent-task enqueue --queue gpu train.py -- --epochs 3
  agent-task enqueue -m package.train -- --lr 0.1
  agent-task enqueue 1f3c9a""")
def enqueue(
    script: Annotated[str, typer.Argument(metavar="SCRIPT|TASK", show_default=False,
                                          help="A script, or a task that is to run again.")],
    args: Annotated[list[str] | None, typer.Argument(metavar="[-- ARGS…]", show_default=False,
                                                     help="Arguments of the script.")] = None,
    queue: Annotated[str, text("--queue", metavar="QUEUE", help="Its name or id. Default: the default queue.")] = "",
    create_queue: Annotated[bool, typer.Option("--create-queue", help="Create the queue when it is missing.")] = False,
    module: Annotated[bool, typer.Option("--module", "-m", help="SCRIPT is a module, as for python -m.")] = False,
    repo: Annotated[str, text("--repo", metavar="DIR|URL", help="The checkout or repository with the script.")] = "",
    working_dir: Annotated[str, text("--working-dir", metavar="DIR", help="Where the script is to run.")] = "",
    branch: Annotated[str, text("--branch", metavar="NAME", help="Take this branch, and no uncommitted changes.")] = "",
    commit: Annotated[str, text("--commit", metavar="SHA", help="Take this commit, and no uncommitted changes.")] = "",
    name: Annotated[str, text("--name", help="The task's name. Default: the script's.")] = "",
    project: Annotated[str | None, text("--project", help="The project. Default: the repository's name.")] = None,
    python: Annotated[str, text("--python", metavar="VERSION", help="Python's version (3.11). Default: yours.")] = "",
    binary: Annotated[str, text("--binary", metavar="PROGRAM", help="What runs the script (bash).")] = "",
    requirements: Annotated[str, text("--requirements", metavar="FILE", help="Packages to install; `none` for none. "
                                      "Default: the repository's requirements.txt files.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the task as JSON; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Queue a script, or a task for a new run; print the task's id.

    Out of a git checkout go remote, commit, what is not committed, and the requirements.
    """
    from agentpipe import api, capture, task_check, task_commands
    wish = capture.Wish(script, args or [], module, repo, working_dir, branch, commit,
                        task_check.binary(python, binary) or "", requirements)
    task_commands.enqueue(api.connect(), wish, queue, create_queue, name, project, dry_run, as_json)


@app.command(epilog=EPILOG + """  agent-task edit 1f3c --package 'numpy<2' --drop-package nosuch
  agent-task edit 1f3c --python 3.11""")
def edit(
    task: Task,
    package: Annotated[list[str] | None, text("--package", metavar="REQUIREMENT", help="Ask for this (numpy<2) in the "
                                              "place of what was asked for that package, or as well.")] = None,
    drop_package: Annotated[list[str] | None, text("--drop-package", metavar="NAME",
                                                   help="Take this package (or this whole line) out.")] = None,
    requirements: Annotated[str, text("--requirements", metavar="FILE", help="The whole list; `none` for none.")] = "",
    repo: Annotated[str | None, text("--repo", metavar="URL", help="The repository.")] = None,
    branch: Annotated[str | None, text("--branch", metavar="NAME", help="The branch.")] = None,
    commit: Annotated[str | None, text("--commit", metavar="SHA", help="The commit; '': the branch's newest.")] = None,
    entry_point: Annotated[str | None, text("--entry-point", help="Script and arguments.")] = None,
    working_dir: Annotated[str | None, text("--working-dir", metavar="DIR", help="Where it is to run.")] = None,
    python: Annotated[str, text("--python", metavar="VERSION", help="Python's version.")] = "",
    binary: Annotated[str | None, text("--binary", metavar="PROGRAM", help="What runs the script.")] = None,
    name: Annotated[str | None, text("--name", help="The name, which may be changed at any time.")] = None,
    as_json: Json = False,
) -> None:
    """Change what a task says.

    One that has ended becomes a draft again: then agent-task enqueue TASK.
    """
    from agentpipe import api, task_check, task_commands
    task_commands.edit(api.connect(), task, {
        "package": package, "drop_package": drop_package, "requirements": requirements, "repo": repo, "branch": branch,
        "commit": commit, "entry_point": entry_point, "working_dir": working_dir, "name": name,
        "binary": task_check.binary(python, binary)}, as_json)


@app.command("list", epilog=EPILOG + """  agent-task list --status queued --queue gpu
  agent-task list --status setup_failed
  agent-task list --json | jq -r .id""")
def list_(
    status: Annotated[list[str] | None, text("--status", metavar="STATUS", help="ClearML's word (queued, in_progress, "
                                             "failed …), or an end (setup_failed, out_of_memory …).")] = None,
    queue: Annotated[str, text("--queue", metavar="QUEUE", help="Only tasks of this queue.")] = "",
    name: Annotated[str, text("--name", metavar="PATTERN", help="Only names that fit this regular expression.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=500, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List tasks, the newest first."""
    from agentpipe import api, task_commands
    task_commands.listing(api.connect(), status or [], queue, name, limit, as_json)


@app.command(epilog=EPILOG + """  agent-task log -f 1f3c
  agent-task log --stream log 1f3c > printed""")
def log(
    task: Task,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Read on until the task has ended.")] = False,
    stream: Annotated[str, text("--stream", metavar="NAME", help="`setup`: what the agent did; `log`: what the script "
                                "printed, secrets masked.")] = "",
    as_json: Json = False,
) -> None:
    """Print a task's log."""
    from agentpipe import api, task_commands
    task_commands.log(api.connect(), task, follow, stream, as_json)


@app.command()
def show(task: Task, as_json: Json = False) -> None:
    """Show one task; with --json as the ClearML API has it."""
    from agentpipe import api, task_commands
    task_commands.show(api.connect(), task, as_json)


@app.command()
def stop(tasks: Annotated[list[str], typer.Argument(metavar="TASK…", show_default=False, help="Ids, names.")]) -> None:
    """Stop tasks, running or waiting."""
    from agentpipe import api, task_commands
    task_commands.stop(api.connect(), tasks)


@app.command(epilog=EPILOG + "  agent-task why 1f3c")
def why(task: Task, as_json: Json = False) -> None:
    """Say why a task failed or waits, and what to do."""
    from agentpipe import api, task_commands
    task_commands.why(api.connect(), task, as_json)


@app.callback()
def common(version: Annotated[bool, typer.Option("--version", is_eager=True, callback=lambda asked: _version(asked),
                                                 help="Print the version and exit.")] = False) -> None:
    """Put tasks into queues, look at them, follow their log, stop them, and ask why."""


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version
        command.put(f"agent-task {version('agentpipe')}\n".encode())
        raise typer.Exit()


def main() -> None:
    """The entry point."""
    import signal
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left half done: every change is one request
    _standard_streams()
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """The exit code; every error is one line."""
    try:
        done = app(argv or ["--help"], prog_name="agent-task", standalone_mode=False)
        return done or (0 if argv else errors.USAGE)
    except SystemExit:
        return 141  # how click ends where the reader of our output is gone
    except Exception as error:
        if os.environ.get("AGENT_DEBUG") and not isinstance(error, (errors.Failure, errors.ApiError)):
            raise
        return command.tell("agent-task", _as_failure(error), line=False)


def _as_failure(error: Exception) -> errors.Failure:
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "agent-task"
        return errors.Failure(error.format_message(), errors.USAGE, remedy=f"{where} --help")
    if isinstance(error, OSError) and not error.filename:
        return errors.Failure(f"cannot write: {error.strerror}", errors.CANNOT_CREATE)
    return command.as_failure("agent-task", error)


def _standard_streams() -> None:
    """Where one of them is closed (`>&-`), a file that we open must not take its place."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # for reading only: what is written there is told as an error
            os.open(os.devnull, os.O_RDONLY)


if __name__ == "__main__":
    main()
