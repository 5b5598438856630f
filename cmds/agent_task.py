"""agent-task: put tasks into queues, look at them, follow their log, stop them, and ask why."""

from agentpipe import verbs

EXAMPLES = """
  task=$(agent-task enqueue train.py -- --epochs 3)
  agent-task log -f $task
  agent-task why $task
  agent-task list --status failed --since 1d --json | agent-task continue -
"""

# what is done to a task stands in one module for each kind of verb, imported when it is asked for
MODULES = {
    "Make": ("task_make", ("enqueue", "create", "clone", "edit")),
    "Look": ("task_look", ("list", "show", "log", "plot", "artifacts", "shell")),
    "Explain": ("task_explain", ("why", "time", "diff", "script", "completion")),
    "Change": ("task_change", ("stop", "dequeue", "move", "continue", "reset", "archive", "unarchive", "delete")),
}
# hidden: what completions ask for while somebody types
COMPLETE = "complete"
GROUP = verbs.Group("agent-task", __doc__ or "", MODULES, EXAMPLES)


def main() -> None:
    """The entry point."""
    import sys
    if sys.argv[1:2] == [COMPLETE]:
        from agentpipe import complete
        sys.exit(complete.main(sys.argv[2:]))
    verbs.main(GROUP)


if __name__ == "__main__":
    main()
