"""A task's environment: an overlay over a base of the cache, or over what is there; and its record on the server."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType
    from typing import Any

    from agentpipe.environment.discovery import Interpreter
    from agentpipe.environment.installers.policy import Policy
    from agentpipe.environment.python_env import Base
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

    Value = dict[str, Any]


def own(job: Job, asked: Requirements, began: float) -> Value:
    """An overlay over a base of the cache, or over what is there already. torch_backend.Away: begin anew."""
    from agentpipe.environment import env_cache, git_pins, installers, local_packages, python_env, requirements
    from agentpipe.environment.installers import policy as policies
    policy = policies.of(job, asked)
    git_pins.settle(job, asked)
    for note in asked.notes + policy.notes:
        job.say(note)
    interpreter, base, behind = _found(job, asked, policy)
    key, cached = "", True
    if base is None:
        key = python_env.key(job, interpreter, asked, policy)
        if job.option("dry_run"):
            return told(job, interpreter, key, asked, policy)
        if job.option("target"):
            return beside(job, interpreter, asked, policy, installers.choose(job))
        base = python_env.use(job, key)
        cached = base is not None
    elif job.option("dry_run"):
        return {}
    if base is None:
        policy.anew = True
        base = _built(job, key, interpreter, asked, policy)
        key = base["key"] if env_cache.PRIVATE in base["key"] else key
    local_packages.add(asked, base.get("local") or (), requirements.folders(job)[1])
    if "variables" in base:
        behind = [os.path.join(base["directory"], "bin")]
        interpreter = base["interpreter"]
    if job.option("stage_only"):
        return staged(job, base, asked)
    directory = _overlay(job, base, asked)
    reason = _reason(base, asked, interpreter, time.monotonic() - began, cached)
    job.say(f"environment ready: {reason}")
    record(job, asked, base["packages"], base["pins"])
    binaries = os.path.join(directory, "bin")
    return {"python": os.path.join(binaries, "python"), "version": interpreter["version"], "base": key or None,
            "overlay": directory, "cached": cached, "installer": base["installer"], "reason": reason,
            "packages": base["packages"] + asked.local_lines(), "pins": base["pins"] + asked.local_pins(),
            "options": asked.option_lines(), "path": [binaries, *behind],
            **({"variables": base["variables"]} if "variables" in base else {})}


def _found(job: Job, asked: Requirements, policy: Policy) -> tuple[Interpreter, Base | None, list[str]]:
    """(the interpreter, what of it does as it is, the folders that this adds to PATH); None: a base of the cache."""
    from agentpipe import errors
    from agentpipe.environment import conda_packed, interpreters, local_packages
    packed = conda_packed.named(job)
    if packed and job.option("target"):
        raise errors.Failure(f"--target builds an environment, but this task is to run in {packed}", errors.BAD_CONFIG,
                             remedy="unset CLEARML_CONDA_ENV_PACKAGE, or copy that environment by hand")
    if packed:
        base = conda_packed.base(job, packed, asked)
        local_packages.settle(asked, base["interpreter"])
        return base["interpreter"], base, []
    if asked.conda:
        from agentpipe.environment.installers import conda
        interpreter = conda.interpreter(job, asked)
        local_packages.settle(asked, interpreter)
        return interpreter, None, []
    interpreter = interpreters.find(job, asked.python)
    local_packages.settle(asked, interpreter)
    there = None if job.option("target") else ready(job, interpreter, asked, policy)
    return interpreter, there, [os.path.dirname(interpreters.own_path(job, interpreter))] if there else []


def _built(job: Job, key: str, interpreter: Interpreter, asked: Requirements, policy: Policy) -> Base:
    """The base of this key, or one for this task alone, built now."""
    import copy

    from agentpipe.environment import env_cache, git_pins, installers, python_env, requirements
    from agentpipe.environment.installers import policy as policies
    job.say(f"building an environment: Python {interpreter['version']} ({interpreter['executable']}), "
            f"{asked.origin or 'no requirements'}")
    before, as_asked = copy.copy(asked), copy.copy(policy)  # a build may change both, to what does
    before.options = list(asked.options)
    base = python_env.build(job, key, interpreter, asked, policy, installers.choose(job))
    lines = git_pins.learn(job, before, base["packages"])
    if lines != before.packages and env_cache.PRIVATE not in base["key"]:
        before.packages = lines
        python_env.also(python_env.key(job, interpreter, before, as_asked), base)
    shared = env_cache.PRIVATE not in base["key"] and not asked.linked_files() and not asked.has_passwords()
    if shared and not asked.local_lines() and not asked.conda:
        # a clone asks for what is recorded of this run
        recorded = requirements.frozen(asked, base["packages"])
        python_env.also(python_env.key(job, interpreter, recorded, policies.of(job, recorded)), base)
    return base


def _overlay(job: Job, base: Base, asked: Requirements) -> str:
    """The task's own folder over the base, with its own packages in it."""
    from agentpipe.crash import crash_point
    from agentpipe.environment import installers, overlay
    directory = overlay.create(job, base)
    if asked.projects:
        installers.choose(job).projects(job, directory, asked.projects, asked)
    crash_point("env:overlaid")
    return directory


def _reason(base: Base, asked: Requirements, interpreter: Interpreter, seconds: float, cached: bool) -> str:
    """What it is and where it comes from, for people."""
    count, of_image = len(base["packages"]) - len(base["below"]), len(base["below"])
    how = base.get("reason") or f"{count} package{'' if count == 1 else 's'} " + (
        "from the cache" if cached else f"installed in {seconds:.1f} s") + (
        f", {of_image} of the interpreter's own" if of_image else "")
    whose = "" if base.get("reason") else f", asked for by {asked.origin}" if asked.origin else ", no requirements"
    return f"Python {interpreter['version']}, {how}{whose}"


def ready(job: Job, interpreter: Interpreter, asked: Requirements, policy: Policy) -> Base | None:
    """A base without packages of its own, when what is there already does (--as-is); else None."""
    from agentpipe.environment import given, image_packages, interpreters
    wish = given.as_is(job)
    # elsewhere nobody expects a list to be looked for in the machine's own Python
    looked_at = wish == "always" or (wish == "auto" and not asked.exact and not policy.upgrade and (
        job.prefix or policy.system or os.path.isabs(interpreters.wanted(job))))
    if not looked_at or (wish == "auto" and asked.empty() and not job.prefix):
        return None
    python = interpreters.own_path(job, interpreter)
    packages = image_packages.known(job, {"executable": python})
    fits, lacks = _satisfied(job, python, packages, asked)
    if asked.archives:
        fits, lacks = False, asked.archives[0].line
    if not fits and wish == "auto":
        job.say(f"{python} is not used as it is: it lacks {lacks}")
        return None
    words = f"as it is: {python} has all that is asked for"
    if not fits:
        words = f"as it is (--as-is=always), though {python} lacks {lacks}"
    job.say(words)
    return {**given.base_of(interpreter, given.folders(job, python), packages, asked), "reason": words}


def _satisfied(job: Job, python: str, packages: list[dict[str, Any]], asked: Requirements) -> tuple[bool, str]:
    """uv_questions.satisfied(); an image that has all of a list is asked once."""
    from agentpipe.environment import image_packages
    from agentpipe.environment.installers import uv_questions
    if not asked.packages:
        return True, ""
    lacks = ""

    def ask() -> str:
        nonlocal lacks
        fits, lacks = uv_questions.satisfied(job, python, packages, asked)
        return "yes" if fits else ""
    question = "\n".join(("all of this has", *asked.canonical()))
    return bool(image_packages.remembered(job, question, python, ask)), lacks


def untouched(job: Job) -> Value:
    """The interpreter, with whatever it has (CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL)."""
    from agentpipe.environment import given, interpreters
    interpreter = interpreters.find(job)
    python = interpreters.own_path(job, interpreter)
    reason = f"nothing is installed (CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL): {python} as it is"
    job.say(reason)
    # what there was nobody has looked at: a receipt promises nothing
    return {**given.value(python, [], interpreter["version"], reason), "pins": None}


def installed_into(job: Job, asked: Requirements, python: str) -> Value:
    """What is missing goes into an environment that is somebody's own (CLEARML_AGENT_SKIP_PIP_VENV_INSTALL)."""
    import filelock

    from agentpipe import errors, paths
    from agentpipe.environment import git_pins, given, image_packages, interpreters, local_packages, requirements
    from agentpipe.environment.installers import policy as policies
    from agentpipe.environment.installers import uv
    policy = policies.of(job, asked)
    git_pins.settle(job, asked)
    interpreter = interpreters.find(job, asked.python)
    local_packages.settle(asked, interpreter)
    if python == "python":
        python = interpreters.own_path(job, interpreter)
    elif not job.prefix:
        import shutil
        there = shutil.which(python)
        if there is None:
            raise errors.Failure(f"CLEARML_AGENT_SKIP_PIP_VENV_INSTALL names {python}, which is not there",
                                 errors.BAD_CONFIG, remedy="correct CLEARML_AGENT_SKIP_PIP_VENV_INSTALL")
        python = there
    given.folders(job, python)  # it must be there
    if job.option("dry_run"):
        job.say(f"would install what is missing into {python}")
        return {}
    name = requirements.normalised(python.replace("/", "-")).strip("-")
    try:
        with filelock.FileLock(paths.cache(f"into-{name}.lock"), fallback_to_soft=False, timeout=600):
            uv.into(job, python, asked, policy)
    except filelock.Timeout:
        raise errors.Failure(f"other tasks install into {python} since 10 minutes", errors.TRY_AGAIN,
                             remedy="run the task again later") from None
    reason = f"what was missing is installed into {python} (CLEARML_AGENT_SKIP_PIP_VENV_INSTALL)"
    job.say(reason)
    packages = image_packages.asked(job, python)
    value = given.value(python, packages, interpreter["version"], reason, asked)
    record(job, asked, value["packages"])
    return {**value, "packages": value["packages"] + asked.local_lines(), "cached": False, "installer": "uv"}


def record(job: Job, asked: Requirements, packages: list[str], pins: Sequence[Any] = ()) -> None:
    """Write back to the task what is installed, and once what was asked for (as ClearML Agent does)."""
    from agentpipe import errors, secrets
    from agentpipe.settings import config
    if asked.conda and not config.flag("agent.package_manager.conda_full_env_update"):
        return
    before = (job.task.get("script") or {}).get("requirements") or {}
    whole = secrets.script(job).get("requirements") or {}
    lines = [*asked.option_lines(), *packages, *asked.local_lines()]
    text = before.get("pip") or ""
    known = text if isinstance(text, list) else text.splitlines()
    # clearml-agent is no part of the task, though somebody may have frozen it
    lines = [line for line in lines if not line.startswith("clearml-agent=")]
    # what holds a password stays as its owner wrote it, and what a variable stands in: our lines are without, and could
    # not be installed again
    if not job.tell or not packages or known == lines or whole != before or _has_variable(before):
        return
    told = {**before, "org_pip": before.get("org_pip") or text or _asked_for(asked), "pip": lines}
    if asked.conda:
        told["org_conda"] = before.get("org_conda") or before.get("conda") or ""
        of_conda = [pin for pin in pins if isinstance(pin, dict) and pin.get("conda")]
        told["conda"] = "\n".join(f"{pin['name']}={pin['version']}={pin['build']}" for pin in of_conda)
        theirs = {f"{pin['name']}=={pin['version']}" for pin in of_conda}
        told["pip"] = [line for line in lines if line not in theirs]
    try:
        job.tell("tasks.set_requirements", {"requirements": told})
    except (errors.ApiError, errors.Failure) as error:
        job.say(f"the packages could not be recorded on the task: {error}")


def _has_variable(told: Mapping[str, Any]) -> bool:
    """Whether an address among the task's requirements has one (`${TOKEN}`)."""
    import re
    addresses = (word.partition("://")[2] for text in told.values() for word in str(text).split())
    return any(re.search(r"\$\{\w+\}", address) for address in addresses)


def _asked_for(asked: Requirements) -> str:
    """What a repository's files ask for, as they are written there: no path of this machine, no password."""
    from agentpipe.urls import without_credentials
    return "".join(without_credentials(line) + "\n" for line in [*asked.packages, *asked.local_lines()])


def staged(job: Job, base: Base, asked: Requirements) -> Value:
    """--stage-only: the base is in the cache, and its files are in the wheelhouse; nothing of the task's own."""
    from agentpipe.environment import wheelhouse
    fetched = wheelhouse.fill(job, base["directory"], base["pins"], asked, base["interpreter"]) if base[
        "directory"] else 0
    return {"python": None, "overlay": None, "base": base["key"], "packages": base["packages"], "pins": base["pins"],
            "path": [], "fetched": fetched, "reason": "staged"}


def beside(job: Job, interpreter: Interpreter, asked: Requirements, policy: Policy, installer: ModuleType) -> Value:
    """--target: an environment of its own, outside of our caches."""
    from agentpipe.environment import targets
    base = targets.build(job, interpreter, asked, policy, installer)
    reason = f"Python {base['interpreter']['version']}, {len(base['packages'])} packages in {base['directory']}"
    job.say(f"environment ready: {reason}")
    binaries = os.path.join(base["directory"], "bin")
    more = {"variables": base["variables"]} if base["variables"] else {}
    return {"python": os.path.join(binaries, "python"), "version": base["interpreter"]["version"], "base": None, **more,
            "overlay": base["directory"], "cached": False, "installer": base["installer"], "reason": reason,
            "packages": base["packages"] + asked.local_lines(), "pins": base["pins"] + asked.local_pins(),
            "options": asked.option_lines(), "path": [binaries]}


def told(job: Job, interpreter: Interpreter, key: str, asked: Requirements, policy: Policy) -> Value:
    """--dry-run: say what would be done, do nothing; Failure when the list cannot be installed."""
    from agentpipe import units
    from agentpipe.environment import env_cache, python_env
    from agentpipe.environment.installers import uv_questions, ways
    from agentpipe.settings import indexes
    from agentpipe.urls import without_credentials
    base = python_env.cached(key)
    job.say(f"Python {interpreter['version']} ({interpreter['executable']})")
    built = f"would be built, with downloads kept in {indexes.download_cache()}"
    job.say(f"base environment {key}: " + (f"in the cache ({env_cache.home()})" if base else built))
    for spec in asked.conda.specs if asked.conda and not base else ():
        job.say(f"would install {spec} by conda")
    if base:
        for line in base["packages"]:
            job.say(f"has {line}")
    elif asked.conda:
        for line in asked.packages:
            job.say(f"would install {line}")
    elif asked.has_hashes() or policy.tool == "pip":
        for line in asked.canonical():
            job.say(f"would install {without_credentials(line)}")
    else:
        packages = ways.tried(job, asked, policy,
                              lambda: uv_questions.resolved(job, interpreter["executable"], asked, policy),
                              lambda first: [(line, 0) for line in asked.canonical()])
        for line, size in packages:
            job.say(f"would install {line}{units.told(size, ' (')}{')' if size else ''}")
        if not packages:
            job.say("would install nothing but pip")
    for project in asked.projects:
        job.say(f"would add {project.line}, the task's own")
    return {}
