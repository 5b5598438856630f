"""agent-task create, enqueue, clone and edit: what makes a task, or changes what it says."""

from __future__ import annotations

from agentpipe.options import Argument, Flag, Option
from agentpipe.task.options import JSON, TASK
from agentpipe.verbs import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ARGS = Argument("[-- ARGS]", "Arguments of the script.", many=True, dest="args")
QUEUE = Option("--queue", "QUEUE", "Its name or id. Default: the default queue.", filled=True)
CREATE_QUEUE = Flag("--create-queue", "Create the queue when it is missing.")
CONTAINER = [
    Option("--docker", "IMAGE", "The image of the container that it runs in; '': none.",
           short="--image"),
    Option("--docker-args", "WORDS", "Arguments of `docker run` for that container."),
    Option("--setup-script", "TEXT", "A shell script that is run in the container first; @FILE reads it from a file."),
]
# out of a script
CAPTURED = [
    Flag("--module", "SCRIPT is a module, as for python -m.", "-m"),
    Option("--repo", "DIR|URL", "The checkout or repository with the script.", filled=True),
    Option("--working-dir", "DIR", "Where the script is to run.", filled=True),
    Option("--branch", "NAME", "Take this branch, and no uncommitted changes.", filled=True),
    Option("--commit", "SHA", "Take this commit, and no uncommitted changes.", filled=True),
    Option("--name", "TEXT", "The task's name. Default: the script's."),
    Option("--project", "TEXT", "The project. Default: the repository's name."),
    Option("--tag", "TAG", "A tag; may stand several times.", many=True, filled=True),
    Option("--python", "VERSION", "Python's version (3.11). Default: yours.", filled=True),
    Option("--binary", "PROGRAM", "What runs the script (bash).", filled=True),
    Option("--requirements", "FILE", "Packages to install; `none` for none. "
                                     "Default: the repository's requirements.txt files.", filled=True),
    *CONTAINER,
    Flag("--bundle", "Take along what git would not: commits that were not pushed, files that git does not know, "
                     "local packages."),
    Option("--include", "FILE", "Take this file or folder along too, ignored or not (--bundle).", many=True,
           filled=True),
    Flag("--check", "First try here whether commit, changes and requirements can be had; if not, queue nothing."),
    Flag("--dry-run", "Print the task as JSON; change nothing."),
    JSON,
]
# of a task that is there
CHANGES = [
    Option("--set", "SECTION/NAME=VALUE", "A hyperparameter; where the script's arguments have --NAME, there too.",
           many=True),
    Option("--package", "REQUIREMENT", "Ask for this (numpy<2) in the place of what was asked for that package, or "
                                       "as well.", many=True, filled=True),
    Option("--drop-package", "NAME", "Take this package (or this whole line) out.", many=True, filled=True),
    Option("--requirements", "FILE", "The whole list; `none` for none.", filled=True),
    *CONTAINER,
    Option("--repo", "URL", "The repository.", filled=True),
    Option("--branch", "NAME", "The branch, at its newest commit.", filled=True),
    Option("--commit", "SHA", "The commit; '': the branch's newest."),
    Flag("--drop-diff", "Without the changes that were not committed."),
    Option("--checkout", "DIR", "Commit and uncommitted changes anew, as they stand in this checkout.", filled=True),
    Option("--entry-point", "TEXT", "Script and arguments."),
    Option("--working-dir", "DIR", "Where it is to run.", filled=True),
    Option("--python", "VERSION", "Python's version.", filled=True),
    Option("--binary", "PROGRAM", "What runs the script."),
]


def enqueue(values: dict[str, Any]) -> int | None:
    """A new task in a queue, or tasks for a new run."""
    from agentpipe.task import make
    return make.enqueue(_wish(values), values)


def create(values: dict[str, Any]) -> int | None:
    """A new task that stands in no queue."""
    from agentpipe.task import make
    return make.create(_wish(values), values)


def clone(values: dict[str, Any]) -> int | None:
    """A new task like another."""
    from agentpipe.task import make
    return make.clone(_changes(values), values)


def edit(values: dict[str, Any]) -> int | None:
    """Change a task."""
    from agentpipe.task import make
    return make.edit(_changes(values), values)


def _wish(values: dict[str, Any]) -> Any:
    from agentpipe.capture import capture
    from agentpipe.task import typed
    text = {name: values[name] or "" for name in ("repo", "working_dir", "branch", "commit", "requirements")}
    binary = typed.binary(values["python"] or "", values["binary"] or "") or ""
    for name in ("branch", "commit"):
        typed.ref(f"--{name}", text[name])
    if values["name"]:
        typed.name(values["name"])
    return capture.Wish(values["script"], values["args"], values["module"], binary=binary, bundle=values["bundle"],
                        include=values["include"], **text)


def _changes(values: dict[str, Any]) -> dict[str, Any]:
    from agentpipe.task import typed
    return {**values, "binary": typed.binary(values["python"] or "", values["binary"])}


VERBS = {
    "enqueue": Verb(
        "Queue a script, or a task for a new run; print the task's id.\n\n"
        "Out of a git checkout go remote, commit, what is not committed, and the requirements.",
        [Argument("SCRIPT|TASK", "A script, or a task that is to run again; - reads tasks from standard input.",
                  required=True, dest="script"), ARGS, QUEUE, CREATE_QUEUE, *CAPTURED],
        enqueue, """
  agent-task enqueue --queue gpu train.py -- --epochs 3
  agent-task enqueue -m package.train -- --lr 0.1
  agent-task enqueue --docker pytorch/pytorch --setup-script 'apt-get install -y ffmpeg' train.py
  agent-task enqueue --bundle --include data/small.csv --check train.py
  agent-task enqueue 1f3c9a"""),
    "create": Verb(
        "Make a task out of a script as enqueue does, in no queue; print its id.",
        [Argument("SCRIPT", "The script.", required=True), ARGS, *CAPTURED], create, """
  agent-task create train.py -- --epochs 3
  agent-task clone --set Args/epochs=5 --queue gpu $(agent-task create train.py)"""),
    "clone": Verb(
        "Make a new task like another, with changes; print its id.\n\n"
        "It is a draft unless --queue puts it into a queue.",
        [TASK, Argument("[-- ARGS]", "The script's arguments, in the place of all that it had.", many=True,
                        dest="args"),
         *CHANGES, Option("--name", "TEXT", "Its name. Default: Clone of …"),
         Option("--project", "TEXT", "Its project. Default: the other's."),
         Option("--queue", "QUEUE", "Put it into this queue.", filled=True), CREATE_QUEUE, JSON], clone, """
  agent-task clone 1f3c --set Args/epochs=5 --queue gpu
  agent-task clone 1f3c --package 'numpy<2' --branch fix --name 'with the fix'
  agent-task clone 1f3c --queue gpu -- --epochs 5 --lr 0.1"""),
    "edit": Verb(
        "Change what a task says.\n\nOne that has ended becomes a draft again: then agent-task enqueue TASK.",
        [TASK, *CHANGES, Option("--name", "TEXT", "The name, which may be changed at any time."),
         Option("--tag", "TAG", "Add a tag, at any time.", many=True, filled=True),
         Option("--drop-tag", "TAG", "Take a tag away, at any time.", many=True, filled=True), JSON], edit, """
  agent-task edit 1f3c --package 'numpy<2' --drop-package nosuch
  agent-task edit 1f3c --set Args/epochs=5 --python 3.11
  agent-task edit 1f3c --checkout . && agent-task enqueue 1f3c
  agent-task edit 1f3c --tag keep"""),
}
