"""agent-task list, show, log, plot and artifacts: what looks at tasks and changes nothing."""

from __future__ import annotations

from agentpipe.options import Argument, Flag, Option
from agentpipe.task.options import JSON, TASK, TASKS
from agentpipe.verbs import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SINCE = "WHEN"


def list_(values: dict[str, Any]) -> None:
    """Many tasks, a line each."""
    from agentpipe.task import look
    look.listing(values)


def show(values: dict[str, Any]) -> int:
    """One task, a fact a line."""
    from agentpipe.task import look
    return look.show(values["task"], values["json"])


def log(values: dict[str, Any]) -> None:
    """A task's log."""
    from agentpipe.task import look
    look.log(values)


def plot(values: dict[str, Any]) -> None:
    """A task's scalars."""
    from agentpipe.task import plot
    plot.plot(values["task"], values["metric"], values["width"], values["height"], values["json"])


def artifacts(values: dict[str, Any]) -> None:
    """What a task has made."""
    from agentpipe.task import artifacts
    artifacts.artifacts(values["task"], values["get"], values["output"], values["force"],
                             values["json"])


def shell(values: dict[str, Any]) -> None:
    """A shell where the task runs."""
    from agentpipe.task import shell
    shell.shell(values["task"], values["command"])


VERBS = {
    "shell": Verb(
        "Open a shell where a task runs, or was kept by agent-run --hold-on-failure.\n\n"
        "The same place, environment and directory as the script's; on the machine where it runs.",
        [TASK,
         Argument("[-- COMMAND]", "What to run in the place of a shell.", many=True, dest="command")], shell, """
  agent-task shell 1f3c
  agent-task shell 1f3c -- python -c 'import torch; print(torch.cuda.is_available())'"""),

    "list": Verb(
        "List tasks, the newest first; archived ones are left out.",
        [Option("--status", "STATUS", "ClearML's word (queued, in_progress, failed …), or an end (setup_failed, "
                                      "out_of_memory …).", many=True, filled=True),
         Option("--queue", "QUEUE", "Only tasks of this queue.", filled=True),
         Option("--project", "PROJECT", "Only tasks of this project and those below it.", filled=True),
         Option("--tag", "TAG", "Only tasks with this tag; several: with all of them.", many=True, filled=True),
         Option("--name", "PATTERN", "Only names that fit this regular expression.", filled=True),
         Option("--text", "TEXT", "Only tasks with this text in name, id, comment, repository or entry point.",
                filled=True),
         Option("--since", SINCE, "Only tasks whose status has changed since (2h, 3d, 2026-11-25, an ISO time).",
                filled=True),
         Flag("--archived", "Only archived tasks."),
         Option("--columns", "NAMES", "What to show, with commas (id,name,tags,duration).", filled=True),
         Option("--limit", "N", "How many at most; 0: all.", int, 20, short="-n"), JSON], list_, """
  agent-task list --status queued --queue gpu
  agent-task list --status setup_failed --since 2h
  agent-task list --project vision --tag baseline --columns id,name,duration,entry_point
  agent-task list --json --limit 0 | jq -r .id"""),
    "show": Verb(
        "Show tasks; with --json as the ClearML API has them.", [TASKS, JSON], show, """
  agent-task show 1f3c
  agent-task show --json 1f3c | jq .hyperparams"""),
    "log": Verb(
        "Print a task's log.",
        [TASK, Flag("--follow", "Read on until the task has ended.", "-f"),
         Option("--stream", "STREAM", "Only this one: `setup` is what the agent did, `log` what the script printed."),
         Flag("--errors", "Only lines that tell of errors, with the tracebacks they belong to."),
         Option("--since", SINCE, "Only what was printed since (10min, 2h, an ISO time).", filled=True),
         Option("--lines", "N", "Only the last N lines.", int, short="-n"), JSON], log, """
  agent-task log -f 1f3c
  agent-task log --errors 1f3c
  agent-task log --stream log 1f3c > printed"""),
    "plot": Verb(
        "Draw a task's scalars in the terminal.",
        [TASK, Argument("METRIC", "Names, or parts of them (loss, accuracy/val). Default: all but those of the "
                                  "machine.", many=True),
         Option("--width", "N", "Columns. Default: the terminal's.", int),
         Option("--height", "N", "Rows of each curve.", int, 10), JSON], plot, """
  agent-task plot 1f3c
  agent-task plot 1f3c loss
  agent-task plot --json 1f3c accuracy | jq .y"""),
    "artifacts": Verb(
        "List what a task has made: artefacts and models; get one.",
        [TASK, Option("--get", "NAME", "Copy this one here."),
         Option("--output", "PATH", "Where to; - is standard output. Default: its file's name.", short="-o",
                filled=True),
         Flag("--force", "Write over a file of that name, when --output does not name it."), JSON],
        artifacts, """
  agent-task artifacts 1f3c
  agent-task artifacts 1f3c --get weights -o weights.pt"""),
}
