"""agent-task why, time, diff and script: why a task is as it is, and how to see it again."""

from __future__ import annotations

from agentpipe.options import Argument
from agentpipe.task.options import JSON, TASKS
from agentpipe.verbs import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def why(values: dict[str, Any]) -> int:
    """Cause, evidence and remedy."""
    from agentpipe.task import look
    return look.why(values["task"], values["json"])


def time(values: dict[str, Any]) -> int:
    """Where the seconds went."""
    from agentpipe.task import times
    return times.times(values["task"], values["json"])


def diff(values: dict[str, Any]) -> int:
    """What differs between two tasks."""
    from agentpipe.task import compare
    return compare.diff(values["a"], values["b"], values["json"])


def script(values: dict[str, Any]) -> None:
    """The task as a shell script."""
    from agentpipe.task import sh_script
    sh_script.script(values["task"])


def completion(values: dict[str, Any]) -> None:
    """Completion for a shell."""
    from agentpipe import completion, stdio
    stdio.put(completion.text(values["shell"]).encode())


VERBS = {
    "why": Verb("Say why tasks failed, wait, or are not done yet, and what to do.", [TASKS, JSON], why, """
  agent-task why 1f3c
  sh -c "$(agent-task why --json 1f3c | jq -r '.remedy // empty')"
  agent-task list --status failed --json | agent-task why -"""),
    "time": Verb("Show where a task's seconds went, stage by stage.", [TASKS, JSON], time, """
  agent-task time 1f3c
  agent-task time --json 1f3c | jq '.stages[] | {stage, seconds, cached}'"""),
    "diff": Verb("Say what differs between two tasks, likely causes first. Exits 1 when something does.",
                 [Argument("A", "A task, or a file with its manifest or receipt.", required=True),
                  Argument("B", "Another.", required=True), JSON], diff, """
  agent-task diff 1f3c 77ab
  agent-task diff good-receipt.json 77ab"""),
    "script": Verb("Print a task as a plain sh script that needs git, uv and sh only.",
                   [Argument("TASK", "A task, or a file with its manifest or receipt.", required=True)], script, """
  agent-task script 1f3c > task-1f3c.sh && sh task-1f3c.sh
  agent-task script receipt.json | ssh elsewhere sh"""),
    "completion": Verb("Print the completion of all commands for bash, zsh or fish.",
                       [Argument("SHELL", "bash, zsh or fish.", required=True)], completion, """
  eval "$(agent-task completion bash)"                  # in ~/.bashrc
  agent-task completion fish > ~/.config/fish/completions/agent-task.fish"""),
}
