"""agent-task stop, dequeue, move, continue, reset, archive, unarchive and delete: what changes how a task stands."""

from __future__ import annotations

from agentpipe.options import Flag, Option
from agentpipe.task.options import JSON, TASKS
from agentpipe.verbs import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def doing(name: str) -> Callable[[dict[str, Any]], int]:
    """run() of a verb that does the same to each task: states.NAME(api, task, values)."""
    def run(values: dict[str, Any]) -> int:
        from agentpipe.task import states
        return states.each(name, values)
    return run


VERBS = {
    "stop": Verb("Stop tasks, running or waiting.", [TASKS, JSON], doing("stop"), """
  agent-task stop 1f3c
  agent-task list --queue gpu --status queued --json | agent-task stop -"""),
    "dequeue": Verb("Take waiting tasks out of their queue: drafts again, or what they were before.",
                    [TASKS, JSON], doing("dequeue"), """
  agent-task dequeue 1f3c"""),
    "move": Verb("Move a waiting task within its queue, or to another queue. Without an option: to the front.",
                 [TASKS, Flag("--front", "It is the next one."), Flag("--back", "It is the last one."),
                  Option("--up", "N", "N places nearer to the front.", int),
                  Option("--down", "N", "N places nearer to the back.", int),
                  Option("--queue", "QUEUE", "To this queue.", filled=True), JSON], doing("move"), """
  agent-task move 1f3c
  agent-task move --down 3 1f3c
  agent-task move --queue gpu --front 1f3c"""),
    "continue": Verb("Queue ended tasks again with all that they have: log, scalars, iterations.",
                     [TASKS, Option("--queue", "QUEUE", "Its name or id. Default: the one that it had.", filled=True),
                      JSON],
                     doing("continue"), """
  agent-task continue 1f3c"""),
    "reset": Verb("Make ended tasks drafts again: their log and results go from the server.",
                  [TASKS, JSON], doing("reset"), """
  agent-task reset 1f3c"""),
    "archive": Verb("Put tasks away: list leaves them out.", [TASKS, JSON], doing("archive"), """
  agent-task list --status completed --json --limit 0 | agent-task archive -"""),
    "unarchive": Verb("Bring archived tasks back.", [TASKS, JSON], doing("unarchive"), """
  agent-task unarchive 1f3c"""),
    "delete": Verb("Delete drafts and archived tasks for good; with --force any that has ended.",
                   [TASKS, Flag("--force", "Also one that has ended and is not archived."), JSON], doing("delete"), """
  agent-task delete 1f3c
  agent-task list --archived --json --limit 0 | agent-task delete -"""),
}
