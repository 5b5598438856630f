"""The cache of base environments: one per key, built once, shared by all tasks that ask for the same.

    cache/envs/KEY        a link to the published build, made by rename; what it does not point to is not there
    cache/envs/KEY.N/     one build, at its final path (environments carry their path); N, the millisecond of its begin,
                          is new for each attempt, also when those before are gone: installers of a killed stage, and
                          what compiles byte-code, may still write into theirs
    cache/envs/KEY.lock   held while somebody builds

What a container builds stands where it can write (place/apart.py), and of it here only what follows.

In a build, `agentpipe.json` says what stands in it, so that a warm run reads one file, and `users/NAME` links to each
task's directory that uses it; the task's end renames the link. A build is in use while such a directory is there
without an `outcome`, and was not given back (one of another machine, which cannot be seen from here, until the link
says so, or for AGENT_KEEP_DAYS); the newest link's age is when it was last used. Whoever evicts a build takes its lock
and removes KEY before it looks at `users`; whoever uses one writes its link before it looks at KEY again: so one of the
two sees the other.
"""

from __future__ import annotations

import os

from agentpipe import errors, files, trees, units
from agentpipe.crash import crash_point

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from agentpipe.environment.discovery import Interpreter
    from agentpipe.environment.installers.policy import Policy
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

    Base = dict[str, Any]

FORMAT = "6"  # of a build and its record; another one is another key


def key(job: Job, interpreter: Interpreter, requirements: Requirements, policy: Policy) -> str:
    """The name of the base environment for these requirements: whatever decides what would be installed is in it.

    Where nobody knows that (a branch whose server does not answer) it is for this task alone.
    """
    import hashlib

    from agentpipe.environment import build_variables, env_cache, git_pins, image_packages
    from agentpipe.place import apart
    from agentpipe.settings import indexes
    where = image_packages.identity(job, interpreter) if job.prefix else ""
    if apart.folder(job):
        where += " apart"
    machine = build_variables.deciding(job)
    if requirements.conda:
        from agentpipe.environment.installers import conda
        machine += conda.deciding()
    parts = [FORMAT, where, *machine, indexes.strategy(), *policy.parts(),
             *(interpreter[name] for name in sorted(interpreter)), *indexes.fingerprint(), *requirements.canonical()]
    digest = hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{interpreter['version']}-{digest[:24]}" + (
        env_cache.private(job) if env_cache.is_off() or git_pins.unsettled(requirements) else "")


def cached(name: str) -> Base | None:
    """The published build of this key, or None. It has `directory`, `key`, `packages`, `site` and what to copy, and
    `about`, the folder of what we believe of it (of what this machine has built that is the same)."""
    import json

    from agentpipe.environment import env_cache
    link = os.path.join(env_cache.home(), name)
    try:
        about = os.path.join(os.path.dirname(link), os.readlink(link))
        with open(os.path.join(about, env_cache.RECORD), encoding="utf-8") as file:
            base: Base = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(base, dict) or "site" not in base:  # somebody has spoilt it
        return None
    base["about"] = about
    base["directory"] = base.get("built") or about
    # of one that was removed in part a task would find no package
    return base if os.path.isdir(os.path.join(base["directory"], base["site"])) else None


def use(job: Job, name: str) -> Base | None:
    """The published build, kept from eviction while this task has no outcome; None when it must be built."""
    from agentpipe.claim import attempt
    from agentpipe.environment import env_cache
    while (base := cached(name)) is not None:
        if not _outlived(job, base):
            return None
        link = os.path.join(base["about"], "users", env_cache.user(job.directory))
        try:
            os.symlink(job.directory, link)
        except FileExistsError:
            pass
        except FileNotFoundError:  # it is being removed, or half of it was by hand
            return None
        except OSError as error:
            raise _cannot_write(link, error) from None
        again = cached(name)
        if again and again["about"] == base["about"]:
            attempt.hold(job.directory, link)
            return base
    return None


def _outlived(job: Job, base: Base) -> bool:
    """Whether it is whole although the machine went down after it was built, perhaps before all was on disk."""
    from agentpipe import processes
    mark = os.path.join(base["about"], "outlived")
    if base["boot"] == processes.boot_id() or os.path.exists(mark) or base.get("altered"):
        return True
    from agentpipe.environment import installed
    if not installed.whole(base["directory"]):
        job.say("the environment in the cache was damaged when the machine went down, it is built again")
        return False
    if not job.option("dry_run"):
        open(mark, "w", encoding="ascii").close()
    return True


def build(job: Job, name: str, interpreter: Interpreter, requirements: Requirements, policy: Policy,
          installer: ModuleType) -> Base:
    """The build of this key: by us, or by another task that we wait for. It is in use by this task."""
    from agentpipe.environment import bytecode, env_cache
    envs = env_cache.home()
    try:
        os.makedirs(envs, 0o700, exist_ok=True)
        env_cache.evict(env_cache.limits(), room=True)
    except OSError as error:
        raise _cannot_write(envs, error) from None
    lock = _locked(job, os.path.join(envs, name + ".lock"))
    if lock is None:
        return build(job, name + env_cache.private(job), interpreter, requirements, policy, installer)
    with lock:
        crash_point("env:locked")
        base = use(job, name)
        if base is None:
            name = _made(job, envs, name, interpreter, requirements, policy, installer)
            base = use(job, name)
            if base is None:
                raise errors.Failure(f"{envs}/{name} was removed as soon as it was built", errors.TRY_AGAIN,
                                     remedy="leave it to `agent-env --prune` to make room there")
            bytecode.ahead(job, base, requirements)
    env_cache.sweep(envs, env_cache.LEFT_BEHIND)
    for gone in env_cache.evict(env_cache.limits()):
        job.say(f"removed an environment that was last used {units.age(gone['used'])} ago: {gone['key']}")
    return base


def also(name: str, base: Base) -> None:
    """Publish a build under a second key, for which the same would be installed."""
    from agentpipe.environment import env_cache
    link = os.path.join(env_cache.home(), name)
    if not os.path.lexists(link):
        files.link(os.path.basename(base["about"]), link)


def _made(job: Job, envs: str, name: str, interpreter: Interpreter, requirements: Requirements, policy: Policy,
          installer: ModuleType) -> str:
    """The key under which it has been built and published; where the disk got full, without what no task uses."""
    import time

    from agentpipe.environment import env_cache

    def attempted() -> str:
        try:
            about = files.new_directory(envs, name, time.time_ns() // 1_000_000)
            return _make(job, about, name, interpreter, requirements, policy, installer)
        except OSError as error:
            raise _cannot_write(envs, error) from None
    try:
        return attempted()
    except errors.Failure as failure:
        # what conda's solver did not find has been taken out of its list: a second try would not find it again
        again = _is_full(failure, envs) and not requirements.conda
        gone = env_cache.evict(env_cache.Limits(entries=0)) if again else []
        if not gone:
            raise
    job.say(f"the disk is full: {len(gone)} environment{'s' * (len(gone) != 1)} that no task uses had to go, "
            "building once more")
    return attempted()


def _is_full(failure: errors.Failure, envs: str) -> bool:
    """Whether it was for want of room, on the disk of the environments as far as that is known."""
    from agentpipe import tools
    from agentpipe.settings import indexes
    if failure.exit != errors.CANNOT_CREATE or not any(
            word in f"{failure.reason}\n{failure.evidence}" for word in tools.FULL):
        return False
    downloads = indexes.download_cache()
    return not os.path.exists(downloads) or os.stat(downloads).st_dev == os.stat(envs).st_dev


def _make(job: Job, about: str, name: str, interpreter: Interpreter, requirements: Requirements, policy: Policy,
          installer: ModuleType) -> str:
    """Build in `about`, or where its container does, and publish it, a makeshift for this task alone; under which key.
    What failed is removed."""
    from agentpipe.environment import env_cache, given, image_packages, installed, installers, wheelhouse_repositories
    from agentpipe.environment.installers import conda, ways
    from agentpipe.place import apart
    from agentpipe.settings.offline import offline
    directory = os.path.join(apart.folder(job), os.path.basename(about)) if apart.folder(job) else about
    wanted, taken = requirements, []  # type: ignore[var-annotated]
    if offline():
        wanted, taken, overrides = wheelhouse_repositories.taken(requirements, interpreter)
        policy.overrides += [line for line in overrides if line not in policy.overrides]
    try:
        if job.prefix and directory == about:
            os.chmod(directory, 0o755)  # the place may run the script as another user
        if requirements.conda:
            interpreter, found = conda.build(job, directory, interpreter, requirements, policy)
            _record(job, about, directory, name, interpreter, requirements, policy, found, [])
            _publish(about, name)
            return name
        seeded = installer.create(job, interpreter, directory, policy.system)
        crash_point("env:created")
        # an image may have an environment activated: the overlay lies on that as well
        python, behind = given.activated(job, interpreter) if job.prefix and policy.system else (
            interpreter["executable"], [])
        below = image_packages.known(job, {"executable": python}) if policy.system else []
        if image_packages.named(below, {"pip"}):
            seeded = True
            if directory == about:
                installers.write_pip(directory)
            else:
                apart.write_pip(job, directory, installers.PIP)
        pip = "" if seeded else installers.pip_requirement(interpreter["version"])
        with image_packages.stubs(job, directory, below):
            found = ways.install(job, directory, wanted, policy, installer, pip)
        for unfit in installed.unfit(directory, interpreter["version"]):
            job.say(f"{unfit}, and gets {interpreter['version']}")
        crash_point("env:installed")
        if policy.makeshift and env_cache.PRIVATE not in name:
            job.say("this environment is for this task alone: the next one tries again to have all that is asked for")
            name += env_cache.private(job)
        _record(job, about, directory, name, interpreter, requirements, policy, found, below, behind, taken)
    except BaseException:
        trees.discard(directory)
        trees.discard(about)
        raise
    _publish(about, name)
    return name


def _publish(about: str, name: str) -> None:
    files.link(os.path.basename(about), os.path.join(os.path.dirname(about), name))
    crash_point("env:published")


def _record(job: Job, about: str, directory: str, name: str, interpreter: Interpreter, requirements: Requirements,
            policy: Policy, found: list[Any], below: list[dict[str, Any]], behind: list[str] | None = None,
            taken: list[Any] | None = None) -> None:
    """Write down what a warm run needs to know, so that it need not look at the packages; of those that stand below
    (in the image, in the system) the ones that were asked for, and those that others need; and repositories whose
    wheels were `taken` in their place."""
    import json
    import time

    from agentpipe import processes
    from agentpipe.environment import env_cache, image_packages, installed, installers, local_packages, overlay, pins
    from agentpipe.environment.installers import conda
    from agentpipe.place import apart
    of_conda = requirements.conda is not None
    if not of_conda:
        if directory == about:
            installers.make_relocatable(directory)
        else:
            apart.make_relocatable(job, directory, installers.PIP)
    site = installed.site_packages(directory)
    packages = installed.packages(directory, requirements.names())
    packages += [f"{pin['name']} @ {pin['source']}" for pin in taken or ()]
    own = set(installed.names(directory))
    needed = image_packages.needed(below, requirements.names() | installed.required(directory), own)
    seen = image_packages.named(below, needed)
    base = {"key": name, "interpreter": interpreter, "created": time.time(), "boot": processes.boot_id(),
            "packages": sorted(packages + seen), "below": seen, "installer": policy.tool, "system": policy.system,
            "size": installed.size(directory), "behind": behind or [], "local": local_packages.recorded(requirements),
            "pins": requirements.pins if requirements.exact else
            found if of_conda else pins.matching([*found, *(taken or ())], packages),
            "site": os.path.relpath(site, directory),
            **({"scripts": [], "folders": [], "links": [], "installer": "conda", "system": False,
                # by a package's own script, which a conda of the user's runs
                "altered": not installed.whole(directory),
                "variables": {**conda.variables(directory, job.prefix if directory != about else []),
                              **requirements.conda.variables}} if requirements.conda is not None
               else overlay.parts(directory, site, about))}
    if directory != about:
        base["built"] = directory
    os.mkdir(os.path.join(about, "users"), 0o700)
    # from its first moment on: the lock that we hold is not that of a makeshift's key
    os.symlink(job.directory, os.path.join(about, "users", env_cache.user(job.directory)))
    with open(os.path.join(about, env_cache.RECORD), "w", encoding="utf-8") as file:
        json.dump(base, file)


def _locked(job: Job, path: str) -> Any:
    """The lock, taken; says so when another task has it, since that may take minutes.

    None when it was waited for as long as agent.venvs_cache.lock_timeout allows.
    """
    import filelock

    from agentpipe import live
    from agentpipe.environment import env_cache
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        job.say("another task builds the same environment, waiting for it")
        try:
            with live.Line(job, lambda: "waiting for another task's build"):
                return lock.acquire(timeout=env_cache.lock_timeout(), poll_interval=0.1)
        except filelock.Timeout:
            job.say("not waiting any longer (agent.venvs_cache.lock_timeout): this task builds one of its own")
            return None
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: str, error: OSError) -> errors.Failure:
    from agentpipe.environment import env_cache
    failure = files.unwritable(f"write in {path}", error)
    failure.remedy = failure.remedy.replace("AGENT_HOME", env_cache.setting())
    return failure
