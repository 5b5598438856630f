"""agent-env: give a task its own Python environment, from a shared cache."""

import sys

from agentpipe import command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.requirements import Requirements

EXAMPLES = """
  agent-pull gpu | agent-fetch | agent-patch | agent-env | agent-run
  agent-env --dry-run after-patch.json > /dev/null    # which Python, from which cache, what would be installed
  agent-env < after-patch.json | jq .env.packages
  agent-env --list                                    # what the cache holds, and which tasks use it
  agent-env --prune --keep 0                          # all of it that no task uses goes
"""
# these look after the cache, and read no manifests
CACHE = ("--list", "--prune", "--verify")


def options():
    """The command's own options."""
    from agentpipe.options import Flag, Option
    return [
        Flag("--list", "Show the environments in the cache: JSON lines, at a terminal a table."),
        Flag("--prune", "Remove environments that no limit keeps, and what killed stages left; none in use."),
        Option("--keep", "N", "With --prune: keep only the N used last.", int),
        Flag("--verify", "Compare every file of the cache's environments with its hash; exit 65 if one differs."),
    ]


def work(job: "Job") -> "dict[str, Any]":
    """The value of `env`: the task's interpreter in an environment of its own, and what is installed there."""
    import os
    import time

    from agentpipe import entry, git_pins, installers, interpreters, overlay, python_env, requirements
    from agentpipe.crash import crash_point
    from agentpipe.installers import policy as policies
    began = time.monotonic()
    asked = requirements.of_task(job)
    asked.also((job.manifest.get("patch") or {}).get("packages"))
    binary = str((job.task.get("script") or {}).get("binary") or "")
    if asked.empty() and not requirements.is_python(binary):
        kind = "shell" if entry.is_shell(job.task.get("script") or {}) else os.path.basename(binary.split(" ")[0])
        return nothing(f"a {kind} task without requirements needs none", began)
    git_pins.settle(job, asked)
    policy = policies.of(job, asked)
    for note in asked.notes + policy.notes:
        job.say(note)
    interpreter = interpreters.find(job)
    installer = installers.choose(job)
    key = python_env.key(job, interpreter, asked, policy)
    if job.option("dry_run"):
        return told(job, interpreter, key, asked)
    base = python_env.use(job, key)
    cached = base is not None
    if base is None:
        job.say(f"building an environment: Python {interpreter['version']} ({interpreter['executable']}), "
                f"{asked.origin or 'no requirements'}")
        base = python_env.build(job, key, interpreter, asked, policy, installer)
        if not asked.local_lines():
            # a clone asks for what is recorded of this run
            recorded = requirements.frozen(asked, base["packages"])
            python_env.also(python_env.key(job, interpreter, recorded, policies.of(job, recorded)), base)
    directory = overlay.create(job, base)
    if asked.projects:
        installer.projects(job, directory, asked.projects, asked)
    crash_point("env:overlaid")
    seconds = time.monotonic() - began
    count, of_image = len(base["packages"]) - len(base["below"]), len(base["below"])
    reason = (f"Python {interpreter['version']}, {count} package{'' if count == 1 else 's'} "
              + ("from the cache" if cached else f"installed in {seconds:.1f} s")
              + (f", {of_image} of the image" if of_image else "")
              + (f", asked for by {asked.origin}" if asked.origin else ", no requirements"))
    job.say(f"environment ready: {reason}")
    record(job, asked, base["packages"])
    bin_directory = os.path.join(directory, "bin")
    return {"python": os.path.join(bin_directory, "python"), "version": interpreter["version"], "base": key,
            "overlay": directory, "cached": cached, "installer": base["installer"], "reason": reason,
            "packages": base["packages"] + asked.local_lines(), "pins": base["pins"] + asked.local_lines(),
            "options": asked.option_lines(), "path": [bin_directory],
            "seconds": round(seconds, 3)}


def record(job: "Job", asked: "Requirements", packages: "list[str]") -> None:
    """Write back to the task what is installed, and once what was asked for (as ClearML Agent does)."""
    from agentpipe import errors, secrets
    before = (job.task.get("script") or {}).get("requirements") or {}
    whole = secrets.script(job).get("requirements") or {}
    lines = [*asked.option_lines(), *packages, *asked.local_lines()]
    text = before.get("pip") or ""
    known = text if isinstance(text, list) else text.splitlines()
    # what holds a password stays as its owner wrote it: our lines are without, and could not be installed again
    if not job.tell or not packages or known == lines or whole != before:
        return
    asked_for = before.get("org_pip") or text or asked.file_text()
    try:
        job.tell("tasks.set_requirements", {"requirements": {**before, "org_pip": asked_for, "pip": lines}})
    except (errors.ApiError, errors.Failure) as error:
        job.say(f"the packages could not be recorded on the task: {error}")


def nothing(reason: str, began: float) -> "dict[str, Any]":
    """The value of `env` for a task that runs without an environment."""
    import time
    return {"python": None, "version": None, "base": None, "overlay": None, "cached": True, "installer": "none",
            "reason": reason, "packages": [], "path": [], "seconds": round(time.monotonic() - began, 3)}


def told(job: "Job", interpreter: "dict[str, Any]", key: str, asked: "Any") -> "dict[str, Any]":
    """--dry-run: say what would be done, do nothing."""
    from agentpipe import python_env
    from agentpipe.git import without_credentials
    base = python_env.cached(key)
    job.say(f"Python {interpreter['version']} ({interpreter['executable']})")
    job.say(f"base environment {key}: " + ("in the cache" if base else "would be built"))
    verb = "has" if base else "would install"
    for line in asked.canonical() or ["nothing but pip"]:
        job.say(f"{verb} {without_credentials(line)}")
    return {}


def cache() -> int:
    """--list, --prune and --verify."""
    from agentpipe import env_cache_view
    from agentpipe import options as parser
    values = parser.read("agent-env", [*options(), *command.common_options()], sys.argv[1:], __doc__ or "", EXAMPLES)
    return env_cache_view.work(values)


def main() -> None:
    """The entry point."""
    if any(word in CACHE for word in sys.argv[1:]):
        command.plain("agent-env", cache)
    command.stage("env", work, options, __doc__ or "", EXAMPLES)


if __name__ == "__main__":
    main()
