"""agent-prepare: decide where a task runs, then fetch its code, apply its changes and build its environment there."""

from agentpipe import command

EXAMPLES = """
  agent-pull gpu | agent-prepare | agent-run
  agent-prepare --dry-run task.json
  AGENT_STAGE_ENV='my-env' agent-prepare < task.json > prepared.json
"""


def options():
    """The command's own options: those that all stages have."""
    return []


def steps(held):
    """The place, then what happens in it."""
    from agentpipe import stages
    from agentpipe.cmds import agent_env, agent_fetch, agent_patch
    stages.hook(held, "pre-prepare")
    stages.add(held, "place", place(held.job))
    stages.step(held, "fetch", "fetch", agent_fetch.work)
    stages.step(held, "patch", "patch", agent_patch.work)
    stages.step(held, "env", "env", agent_env.work)
    stages.hook(held, "post-prepare")


def place(job):
    """Where the task runs: this version knows the host."""
    container = job.task.get("container") or {}
    reason = "no container was asked for"
    if container.get("image"):
        reason = f"image {container['image']} was asked for, but this version runs on the host"
        job.say(f"agent-prepare: {reason}")
    return {"kind": "host", "reason": reason, "prefix": []}


def main():
    """The entry point."""
    command.composed("prepare", steps, options, __doc__, EXAMPLES)


if __name__ == "__main__":
    main()
