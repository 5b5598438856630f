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
# what people type who know other tools
ALSO_CALLED = {
    "submit": "enqueue", "run": "enqueue", "rerun": "enqueue", "retry": "enqueue", "copy": "clone", "set": "edit",
    "ls": "list", "ps": "list", "status": "list", "info": "show", "get": "show", "tail": "log", "explain": "why",
    "compare": "diff", "cancel": "stop", "abort": "stop", "kill": "stop", "resume": "continue", "rm": "delete",
    "remove": "delete", "exec": "shell", "download": "artifacts", "describe": "show", "rename": "edit",
    "update": "edit", "duplicate": "clone", "start": "enqueue", "restart": "enqueue", "queue": "enqueue",
    "top": "list", "history": "list", "attach": "log", "follow": "log", "wait": "log", "watch": "log"}
# hidden: what completions ask for while somebody types
COMPLETE = "complete"
GROUP = verbs.Group("agent-task", __doc__ or "", MODULES, EXAMPLES, ALSO_CALLED)


def main() -> None:
    """The entry point."""
    import sys
    if sys.argv[1:2] == [COMPLETE]:
        from agentpipe import complete
        sys.exit(complete.main(sys.argv[2:]))
    verbs.main(GROUP)


if __name__ == "__main__":
    main()
