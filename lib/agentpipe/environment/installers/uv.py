"""pip requirement lists, installed by uv: resolved first into a lock of exact files, then installed from that."""

from __future__ import annotations

import copy
import os
import re

from agentpipe import errors, paths, tools, units, untrusted
from agentpipe.crash import crash_point
from agentpipe.environment import constraints, installers, local_packages, pins, requirements, wheelhouse
from agentpipe.environment.installers import uv_words
from agentpipe.settings import indexes
from agentpipe.settings.offline import offline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.environment.installers.policy import Policy
    from agentpipe.environment.local_packages import Project
    from agentpipe.environment.pins import Pin
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

NAME = "uv"
# a variable of ours, or of the agent's own environment, that would turn uv to another environment
NOT_PASSED_ON = ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX",
                 "UV_PROJECT_ENVIRONMENT", "UV_LINK_MODE", "UV_COMPILE_BYTECODE", "UV_REQUIRE_VIRTUALENV",
                 "UV_TORCH_BACKEND", *constraints.VARIABLES)
BINARIES = ("--no-binary", "--only-binary")
# how long uv waits for a server that says nothing (s), and how often it asks again: three minutes in all, as git
PATIENCE = {"UV_HTTP_TIMEOUT": "60", "UV_HTTP_RETRIES": "2"}
# how long uv waits for another process that builds the same source: for CUDA that takes hours (s)
LOCK_PATIENCE = "86400"


def create(job: Job, interpreter: dict[str, Any], folder: str, system: bool) -> bool:
    """An environment in `folder`, over the interpreter's packages if `system`; false when pip is still missing."""
    if not job.prefix:
        return installers.create_on_host(interpreter, folder, system)
    run(job, ["venv", "--relocatable", "--no-project", "--allow-existing", "--python", interpreter["executable"],
              *(["--system-site-packages"] if system else []), folder], loud=False)
    return False


def install(job: Job, folder: str, asked: Requirements, policy: Policy, pip: str = "") -> list[Pin]:
    """Fill the environment in `folder`: the list, and what the task's own projects need, but not they themselves.

    `pip` is the requirement for a pip that is still missing. What was installed, as pins. Failure 65, 66, 69, 73 or 77
    names the package and what to change.
    """
    first = asked.only(lambda name: name not in policy.last)
    text = first.file_text() + (pip + "\n" if pip else "")
    found = _install(job, folder, text, first, policy) if text else []
    last = asked.only(lambda name: name in policy.last, projects=False)
    if not last.empty():
        found += _install_last(job, folder, last, policy)
    return found


def projects(job: Job, overlay: str, found: list[Project], asked: Requirements) -> None:
    """Install the task's own folders into its overlay; their dependencies are in the base."""
    text = "".join(f"{'-e ' if each.editable else ''}{each.path}\n" for each in found)
    direct(job, overlay, text, asked, ["--no-deps"])


def into(job: Job, python: str, asked: Requirements, policy: Policy) -> None:
    """Install what is missing into the environment of `python`, which is not ours; folders of the task too."""
    text = asked.file_text()
    if text:
        listed = job.path("requirements.txt")
        write_list(listed, text, asked, job.path("constraints.txt"))
        words = ["pip", "install", "--link-mode", "copy", "--break-system-packages", "--python", python]
        _run(job, os.path.dirname(os.path.dirname(python)), asked,
             [*words, *index_words(asked), *_flags(job, policy), "-r", listed])


def _install(job: Job, folder: str, text: str, asked: Requirements, policy: Policy) -> list[Pin]:
    """Resolve and install; as pins."""
    if policy.system or asked.exact or asked.has_hashes():
        # a lock would neither see what is there already nor compare the list's own hashes
        direct(job, folder, text, asked, _flags(job, policy))
        names = local_packages.taken_out(folder, asked)
        if names:
            run(job, ["pip", "uninstall", *target(folder), "--", *names], loud=False)
        return [] if asked.exact else pins_of(job, folder, asked, policy)
    locked = lock(job, folder, text, asked, policy)
    crash_point("env:resolved")
    from agentpipe.environment import progress
    count, size = progress.amount(locked)
    if not count:
        return []
    job.say(f"installing {count} package{'' if count == 1 else 's'}{units.told(size, ', ')}")
    reached = copy.copy(asked)
    reached.options = asked.options + asked.explicit
    _run(job, folder, reached, ["pip", "install", "--link-mode", "copy", *target(folder), *_binaries(asked),
                              *policy.flags, "--preview-features", "pylock", "-r", locked], progress.Lines(job, count))
    _tell_extras(job, folder, asked)
    return pins.of_lock(locked)


def _tell_extras(job: Job, folder: str, asked: Requirements) -> None:
    """Say which extras of the list its packages do not have: uv passes over them, and says so where it is not quiet."""
    from agentpipe.environment import installed
    found = [re.match(requirements.NAME, line) for line in asked.packages if ";" not in line]
    wanted = [(match[1], match[2].split(",")) for match in found if match and match[2]]
    there = installed.extras(folder) if wanted else {}
    for name, extras in wanted:
        known = there.get(requirements.normalised(name))
        for extra in filter(None, map(str.strip, extras)):
            if known is not None and requirements.normalised(extra) not in known:
                job.warn(f"{name} has no extra {extra}" + (f"; it has {', '.join(sorted(known))}" if known else ""))


def lock(job: Job, folder: str, text: str, asked: Requirements, policy: Policy, sink: Any = None) -> str:
    """The path of a pylock.toml of exactly what `text` means for the environment in `folder` (or a version)."""
    listed, locked = job.path("requirements.txt"), os.path.join(paths.box(job.directory), "pylock.toml")
    write_list(listed, text, asked, job.path("constraints.txt"))
    if os.path.lexists(locked):
        os.unlink(locked)  # uv would prefer what stands there
    _run(job, folder, asked, ["pip", "compile", "--quiet", "--format", "pylock.toml", "--no-header", *target(folder),
                              *index_words(asked), *_flags(job, policy), "-o", locked, listed], sink)
    if asked.projects:
        _without_folders(locked, asked)
    return locked


def _without_folders(locked: str, asked: Requirements) -> None:
    """Take the packages of folders out of a pylock.toml: they are for the overlay."""
    folders = [each["directory"] for each in pins.read_lock(locked) if each.get("directory")]
    local_packages.found(asked, [(os.path.join(os.path.dirname(locked), each["path"]), bool(each.get("editable")))
                                 for each in folders])
    with open(untrusted.opened(*os.path.split(locked)), encoding="utf-8") as file:
        head, *blocks = file.read().split("[[packages]]\n")
    kept = [block for block in blocks if "\ndirectory = " not in block]
    _write(locked, "[[packages]]\n".join([head, *kept]))


def _install_last(job: Job, folder: str, asked: Requirements, policy: Policy) -> list[Pin]:
    """Packages whose builds look at what is installed: after the rest, whose versions stay."""
    from agentpipe.environment import installed
    held = [line for line in installed.packages(folder, set()) if "==" in line]
    asked.constraints += held
    flags, text = _flags(job, policy), asked.file_text()
    job.say("after the rest: " + ", ".join(sorted(asked.names())))
    try:
        direct(job, folder, text, asked, flags)
    except errors.Failure as failure:
        if getattr(failure, "kind", "") != "not_built":
            raise
        job.say(f"{failure.reason}: once more with what is installed in sight")
        direct(job, folder, "setuptools\nwheel\n", asked, flags)
        direct(job, folder, text, asked, [*flags, "--no-build-isolation"])
    return pins_of(job, folder, asked, policy)


def pins_of(job: Job, folder: str, asked: Requirements, policy: Policy) -> list[Pin]:
    """The pins of what was installed without a lock, as far as the indexes tell; conda knows its own."""
    from agentpipe.environment import installed
    found = installed.packages(folder, asked.names(), but_by="conda")
    if not found:
        return []
    bare, complete = asked.only(lambda name: False, projects=False), policy.without_deps()
    bare.constraints = []
    text = "".join(line + "\n" for line in found)
    for complete.backend in dict.fromkeys((policy.backend, "")):  # pip has asked no index of PyTorch
        try:
            return pins.of_lock(lock(job, folder, text, bare, complete, lambda said: None))
        except errors.Failure:  # what came from elsewhere than from an index has no pin
            continue
    return []


def direct(job: Job, folder: str, text: str, asked: Requirements, flags: list[str]) -> None:
    """`uv pip install -r` of `text` under the task's and the user's indexes."""
    from agentpipe.environment import progress
    listed = job.path("requirements.txt")
    write_list(listed, text, asked, job.path("constraints.txt"))
    _run(job, folder, asked, ["pip", "install", "--link-mode", "copy", *target(folder), *index_words(asked), *flags,
                              "-r", listed], progress.Lines(job, 0))


def write_list(path: str, text: str, asked: Requirements, limits: str) -> None:
    """A requirements file (0600) with the user's indexes, the task's own options and `text`; its constraints stand in
    the file `limits`."""
    head, limiting = option_lines(asked), asked.constraints
    if ("--require-hashes", "") in asked.options:  # uv wants a pin and a hash also of what nobody asks for
        names = asked.names()
        limiting = [line for line in limiting if any(uv_words.is_about(name, line) for name in names)]
    if limits and limiting:
        _write(limits, "".join(line + "\n" for line in limiting))
        head.append(f"-c {limits}")
    _write(path, "".join(line + "\n" for line in head) + text)


def option_lines(asked: Requirements) -> list[str]:
    """The user's indexes and the task's own options, as lines of a requirements file (passwords included)."""
    own = [f"{name} {requirements.filled(value)}".strip() for name, value in asked.options if name != "--trusted-host"]
    own_index = [line for line in own if line.startswith("--index-url ")][-1:]
    head = [line for line in indexes.lines() if not (own_index and line.startswith("--index-url "))]
    head += [line for line in own if line in own_index or not line.startswith("--index-url ")]
    return head + wheelhouse.lines()


def run(job: Job, arguments: list[str], loud: bool = True, timeout: float | None = None, sink: Any = None,
        env: dict[str, str] | None = None, cwd: str | None = None) -> str:
    """uv with these arguments, on the host or in the task's place; ToolFailed has what it said."""
    from agentpipe.environment.installers import static_uv
    from agentpipe.place import apart, inside
    from agentpipe.tools import ToolFailed
    uv = static_uv.path(job) if job.prefix and static_uv.wanted(job) else tools.uv()
    no_network = ["--offline"] if offline() else []
    cache = indexes.container_cache() if apart.folder(job) else indexes.download_cache()
    argv = [uv, *no_network, "--no-python-downloads", "--cache-dir", cache, *arguments]
    variables = environment() | (env or {})
    try:
        return inside.run(job, argv, variables, cwd, outside=paths.cache(), loud=loud, sink=sink, timeout=timeout)
    except ToolFailed as error:
        if job.prefix and error.status in (126, 127):
            if (job.manifest.get("place") or {}).get("image_id") and not static_uv.wanted(job):
                static_uv.want(job)
                return run(job, arguments, loud, timeout, sink, env, cwd)
            raise errors.Failure(f"uv is not reachable in this task's place as {uv}", errors.UNAVAILABLE,
                                 evidence=error.output, remedy="make its directory visible there") from None
        raise


def environment() -> dict[str, str]:
    """Our variables for uv, without those that would turn it, or the Pythons it starts, to something else."""
    kept = {name: value for name, value in os.environ.items()
            if name not in NOT_PASSED_ON and not name.startswith("PYTHON")}
    return {**PATIENCE, "UV_LOCK_TIMEOUT": LOCK_PATIENCE, **indexes.variables(), **kept, "NO_COLOR": "1"}


def _run(job: Job, folder: str, asked: Requirements, arguments: list[str], sink: Any = None) -> str:
    """The same with the list's indexes and credentials in the environment; a failure is explained."""
    from agentpipe import live
    from agentpipe.environment import git_pins, progress, torch_backend
    from agentpipe.tools import ToolFailed
    # a lock names files; what they are built with still comes from the indexes
    env = {**indexes.as_variables(option_lines(asked)), "UV_INDEX_STRATEGY": indexes.strategy(),
           **git_pins.access(job, asked.secrets), **asked.variables}
    if asked.build_constraints:
        env["UV_BUILD_CONSTRAINT"] = written(job, "build-constraints.txt", asked.build_constraints)
    if torch_backend.AUTO in arguments and "UV_CUDA_DRIVER_VERSION" not in os.environ:
        # as agent.cuda_version has it, and also in a place where uv sees no driver
        env |= {"UV_CUDA_DRIVER_VERSION": torch_backend.driver()} if torch_backend.driver() else {}
    try:
        with live.Line(job, sink.now if isinstance(sink, progress.Lines) else lambda: "resolving the requirements"):
            return run(job, arguments, sink=sink, env=env)
    except ToolFailed as error:
        from agentpipe.environment.installers import uv_failures
        raise uv_failures.explained(job, error, folder, asked) from None


def written(job: Job, name: str, lines: list[str]) -> str:
    """The path of a file of the task (0600) with these lines."""
    _write(job.path(name), "".join(line + "\n" for line in lines))
    return job.path(name)


def _flags(job: Job, policy: Policy) -> list[str]:
    found = list(policy.flags)
    if policy.no_deps:
        found.append("--no-deps")
    if policy.upgrade:
        found.append("--upgrade")
    if policy.backend:
        found += ["--torch-backend", policy.backend]
    if policy.overrides or policy.forced:
        found += ["--overrides", written(job, "overrides.txt", [*policy.forced, *policy.overrides])]
    return found


def target(folder: str) -> list[str]:
    """The words that name the environment in `folder`, an interpreter, or a version that need not be here ("3.11")."""
    if folder.replace(".", "").isdigit():
        return ["--python-version", folder]
    return ["--python", folder if os.path.isfile(folder) else os.path.join(folder, "bin", "python")]


def index_words(asked: Requirements) -> list[str]:
    """How its indexes are looked at; where they are stands in the list, whose `--pre` uv passes over."""
    hosts = indexes.insecure_hosts() + [host for name, host in asked.options if name == "--trusted-host"]
    return ["--index-strategy", indexes.strategy(),
            *(word for host in hosts for word in ("--allow-insecure-host", host)),
            *(["--prerelease", "allow"] if "--pre" in option_lines(asked) else [])]


def _binaries(asked: Requirements) -> list[str]:
    """What may not be, or must be, built: a lock names both kinds of files."""
    pairs = (line.partition(" ") for line in option_lines(asked))
    return [*(word for name, _, value in pairs if name in BINARIES for word in (name, value)), *index_words(asked)[2:]]


def _write(path: str, text: str) -> None:
    descriptor = untrusted.opened(*os.path.split(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
