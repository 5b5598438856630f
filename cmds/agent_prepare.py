"""agent-prepare: decide where a task runs, then fetch its code, apply its changes and build its environment there."""

from agentpipe import command

EXAMPLES = """
  agent-pull gpu | agent-prepare | agent-run
  agent-prepare --dry-run task.json
  agent-pull gpu | agent-prepare --place host | agent-run    # no containers on this machine
  AGENT_PLACE=apptainer agent-supervisor hpc
  agent-prepare --target ./built < receipt.json && ./built/run
  agent-prepare --image team/train:1 --entry-point clone_task < receipt.json
  agent-prepare --stage-only < task.json             # fill the caches where there is a network …
  agent-prepare --offline < task.json | agent-run    # … and use them where there is none
  AGENT_STAGE_ENV='my-env' agent-prepare < task.json > prepared.json
"""


def options():
    """The command's own options."""
    from agentpipe.options import Flag, Option
    return [
        Option("--docker", "IMAGE", "The image of tasks that name none, arguments of `docker run` may follow it.",
               filled=True),
        Option("--podman", "IMAGE", "The same, with Podman.", filled=True),
        Option("--place", "KIND", "Run tasks on the `host` whatever they ask for, or in containers of `docker` "
                                  "(the default), `podman`, `apptainer` or `charliecloud`.", filled=True),
        Option("--gpus", "GPUS", "The GPUs that containers get: numbers (0,1 or 0-3), UUIDs, `all` or `none`."),
        Flag("--force-docker", "Take no notice of the image and arguments that a task names."),
        Option("--target", "DIR", "Put code and environment there, by themselves, on this host: DIR/run starts them.",
               filled=True),
        Option("--image", "NAME", "Save the ready container as an image with code and environment in it; print the "
                                  "manifest as it came.", filled=True),
        Option("--entry-point", "MODE", "What that image does when it is started: `none` (runs the program), "
                                        "`reuse_task` or `clone_task` (the task, or a clone of it, on its server)."),
        Flag("--stage-only", "Fill the caches and the wheelhouse, and print the manifest as it came."),
        Flag("--offline", "Never use the network, as AGENT_OFFLINE=1: caches and wheelhouse have to do."),
        Option("--setup-limit", "SECONDS", "Fail a task (class time_limit) whose set-up takes longer.", float),
        Option("--wheelhouse", "DIR", "Where --stage-only puts files of packages, and --offline finds them."),
    ]


def steps(held):
    """The place, its code, and what happens in it."""
    from agentpipe import place, stages
    from agentpipe.cmds import agent_env, agent_fetch, agent_patch
    from agentpipe.prepare import modes
    came = held.manifest
    modes.begin(held.job)
    stages.hook(held, "pre-prepare")
    wanted = place.wanted(held.job)
    modes.check_place(held.job, wanted)
    stages.renew(held, "place")
    # what runs in a container may write in the checkout: from then on we do not
    code_first = wanted.engine != "host" and not held.dry

    def begin():
        stages.add_before(held, "place", stages.timed(lambda job: place.start(job, wanted), held.job))
    if not code_first:
        begin()
    stages.step(held, "fetch", "fetch", agent_fetch.work)
    stages.step(held, "patch", "patch", agent_patch.work)
    if code_first:
        begin()
    if held.dry and held.manifest["place"]["kind"] != "host":
        held.job.say("which Python and packages, only that container can tell")
    else:
        stages.step(held, "env", "env", agent_env.work)
    stages.hook(held, "post-prepare")
    modes.end(held, came)


def each(line, values):
    """One line; options that cannot be meant are no fault of its task."""
    from agentpipe import stages
    if values["image"]:  # by hand it gets another id here, and the image's is that of its server
        from agentpipe import manifest
        values = {**values, "task_id": (manifest.read(line).get("task") or {}).get("id")}
    return stages.each("prepare", steps, line, values, check=check_options)


def check_options(values):
    """Values that cannot be meant: Failure 64."""
    from agentpipe.place import decide
    from agentpipe.prepare import image
    decide.engine(values.get)
    image.check(values)
    if values["setup_limit"] is not None and not values["setup_limit"] > 0:
        from agentpipe import errors
        raise errors.Failure("--setup-limit wants seconds above 0", errors.USAGE, remedy="agent-prepare --help")
    if values["gpus"] is not None:
        import os

        from agentpipe import gpus
        os.environ.update(gpus.variables(gpus.parsed(values["gpus"])))


def main():
    """The entry point."""
    command.entry("agent-prepare", options, __doc__, EXAMPLES, each)


if __name__ == "__main__":
    main()
