"""agent-env: give a task its own Python environment, from a shared cache."""

import sys

from agentpipe import command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job

EXAMPLES = """
  agent-pull gpu | agent-fetch | agent-patch | agent-env | agent-run
  agent-env --dry-run after-patch.json > /dev/null    # which Python, from which cache, what would be installed
  agent-env < after-patch.json | jq .env.packages
  agent-env --list                                    # what the cache holds, and which tasks use it
  agent-env --prune --keep 0                          # all of it that no task uses goes
"""
# these look after the cache, and read no manifests
CACHE = ("--list", "--prune", "--verify", "--keep")


def options():
    """The command's own options."""
    from agentpipe.options import Flag, Option
    return [
        Option("--as-is", "WHEN", "Use what is there, without packages of ours: auto (where an image or environment "
               "has all that is asked for), never, always. Default: AGENT_AS_IS, or auto.", str),
        Flag("--list", "Show the environments in the cache: JSON lines, at a terminal a table."),
        Flag("--prune", "Remove environments that no limit keeps, and what killed stages left; none in use."),
        Option("--keep", "N", "With --prune: keep only the N used last.", int),
        Flag("--verify", "Compare every file of the cache's environments with its hash; exit 65 if one differs."),
    ]


def work(job: "Job") -> "dict[str, Any]":
    """The value of `env`: the task's interpreter in an environment of its own, and what is installed there."""
    from agentpipe import untrusted
    from agentpipe.environment import requirements
    from agentpipe.place import inside
    if not inside.isolated(job):
        return made(job)
    with untrusted.kept_within(requirements.folders(job)[0]):
        return made(job)


def made(job: "Job") -> "dict[str, Any]":
    """The same; files of the task are read where untrusted.kept_within() says."""
    import os
    import time

    from agentpipe.code import entry
    from agentpipe.environment import conda_packed, given, requirements, task_env, torch_backend
    began = time.monotonic()
    built = given.custom_build(job)
    if built is not None:
        return timed(built, began)
    asked = requirements.of_task(job)
    asked.also((job.manifest.get("patch") or {}).get("packages"))
    binary = str((job.task.get("script") or {}).get("binary") or "")
    if asked.empty() and not entry.is_python(binary):
        kind = "shell" if entry.is_shell(job.task.get("script") or {}) else os.path.basename(binary.split(" ")[0])
        return nothing(f"a {kind} task without requirements needs none", began)
    if given.nothing_installed():
        return timed(task_env.untouched(job), began)
    into = given.installed_into() or conda_packed.base_in_place(job)
    if into:
        return timed(task_env.installed_into(job, asked, into), began)
    try:
        return timed(task_env.own(job, asked, began), began)
    except torch_backend.Away as away:
        torch_backend.note_away(str(away))
        return made(job)


def timed(value: "dict[str, Any]", began: float) -> "dict[str, Any]":
    """With the seconds that it took; nothing for a dry run."""
    import time
    return {**value, "seconds": round(time.monotonic() - began, 3)} if value else value


def nothing(reason: str, began: float) -> "dict[str, Any]":
    """The value of `env` for a task that runs without an environment."""
    import time
    return {"python": None, "version": None, "base": None, "overlay": None, "cached": True, "installer": "none",
            "reason": reason, "packages": [], "path": [], "seconds": round(time.monotonic() - began, 3)}


def cache() -> int:
    """--list, --prune and --verify."""
    from agentpipe import options as parser
    from agentpipe.environment import env_cache_view
    values = parser.read("agent-env", [*options(), *parser.common()], sys.argv[1:], __doc__ or "", EXAMPLES)
    return env_cache_view.work(values)


def main() -> None:
    """The entry point."""
    if any(word.partition("=")[0] in CACHE for word in sys.argv[1:]):
        command.plain("agent-env", cache)
    command.stage("env", work, options, __doc__ or "", EXAMPLES)


if __name__ == "__main__":
    main()
