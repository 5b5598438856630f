"""The user's own conda, mamba or micromamba in rattler's place: AGENT_CONDA names it, or its path.

What stands in `conda-meta` afterwards is what was installed. The three share the words that are used here:
https://docs.conda.io/projects/conda/en/stable/commands/create.html
"""

from __future__ import annotations

import json
import os
import re

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agentpipe import tools
    from agentpipe.environment.conda_files import Wanted
    from agentpipe.environment.pins import Pin
    from agentpipe.job import Job

# of the environment that the agent itself was started in
NOT_PASSED_ON = {"CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_SHLVL", "PYTHONPATH", "PYTHONHOME"}


def named() -> str:
    """Its path; "" when AGENT_CONDA says nothing. Failure 78 when it is not there."""
    import shutil
    told = os.environ.get("AGENT_CONDA", "").strip()
    if not told:
        return ""
    found = shutil.which(os.path.expanduser(told))
    if found is None:
        raise errors.Failure(f"AGENT_CONDA={told} is no program here", errors.BAD_CONFIG,
                             remedy="give the path of conda, mamba or micromamba, or unset it: rattler needs none")
    return found


def create(job: Job, program: str, wanted: Wanted, specs: list[str], folder: str) -> list[Pin]:
    """A prefix in the empty `folder`; its packages as pins. Unknown ones says Missing; Failure 65, 66 or 69."""
    from agentpipe import files, live, tools
    from agentpipe.environment import conda_files
    os.rmdir(folder)  # micromamba wants to make it; nobody else does, the key's lock is ours
    words, more = ["create", "--yes", "--quiet", "--prefix", folder], dict[str, str]()
    if wanted.exact:
        listed = job.path("conda-explicit.txt")
        text = "@EXPLICIT\n" + "".join(f"{conda_files.with_login(pin['source'])}\n" for pin in wanted.exact)
        files.publish(listed, text.encode())
        words += ["--file", listed]
    else:
        names, more = _channels(job, wanted)
        words += ["--override-channels", *(word for each in names for word in ("--channel", each)), *specs]
    name = os.path.basename(program)
    job.say(f"installing conda packages with {program} (AGENT_CONDA)")
    try:
        with live.Line(job, lambda: name):
            job.run([program, *words], cwd="/", env=_environment() | more, loud=True)
    except tools.ToolFailed as failed:
        os.makedirs(folder, exist_ok=True)
        raise _explained(failed, wanted, name) from None
    if not os.path.isdir(os.path.join(folder, "conda-meta")):
        os.makedirs(folder, exist_ok=True)
        raise errors.Failure(f"AGENT_CONDA={program} has made no environment, though it ended without an error",
                             errors.BAD_CONFIG, remedy="give the path of conda, mamba or micromamba, or unset it: "
                                                       "rattler needs none")
    return installed(folder)


def _channels(job: Job, wanted: Wanted) -> tuple[list[str], dict[str, str]]:
    """(the channels as words, variables): those with a password have a name, and stand in a file (0600).

    https://docs.conda.io/projects/conda/en/stable/user-guide/configuration/settings.html (custom_multichannels)
    """
    from agentpipe import files
    from agentpipe.environment import conda_files
    secret = {f"agentpipe-{number}": [each] for number, each in enumerate(wanted.channels)
              if conda_files.shown(each) != each}
    if not secret:
        return wanted.channels, {}
    path, settings = job.path("condarc.yml"), {"custom_multichannels": secret}
    if os.environ.get("CONDARC"):
        own = conda_files.read_yaml(os.environ["CONDARC"], "CONDARC")
        own = own if isinstance(own, dict) else {}
        settings = {**own, "custom_multichannels": {**(own.get("custom_multichannels") or {}), **secret}}
    files.publish(path, json.dumps(settings).encode())
    names = {each: name for name, (each,) in secret.items()}
    return [names.get(each, each) for each in wanted.channels], {"CONDARC": path}


class Missing(errors.Failure):
    """`names` are in none of the channels."""

    names: set[str]


def records(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(its path below the prefix, what it says) of each record in `conda-meta`; a package may bring what is none."""
    from agentpipe import untrusted
    for name in sorted(os.listdir(os.path.join(folder, "conda-meta"))):
        path = f"conda-meta/{name}"
        try:
            record = untrusted.value(folder, path, untrusted.LARGE) if name.endswith(".json") else None
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and {"name", "version", "build"} <= set(record):
            yield path, record


def installed(folder: str) -> list[Pin]:
    """What `conda-meta` of a prefix says, as pins; a hash that it does not know is taken from the file."""
    from agentpipe.environment import conda_files
    from agentpipe.files import file_digest
    found = []
    for _, record in records(folder):
        archive = str(record.get("package_tarball_full_path") or "")
        sha256 = record.get("sha256") or (file_digest(archive) if os.path.isfile(archive) else None)
        found.append({"name": record["name"], "version": str(record["version"]), "build": str(record["build"]),
                      "source": conda_files.shown(str(record.get("url") or "")), "conda": True,
                      **({"sha256": sha256} if sha256 else {})})
    return found


def _environment() -> dict[str, str]:
    from agentpipe.environment.installers import conda
    env = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    return {**env, "CONDA_OVERRIDE_CUDA": conda.cuda()}


def _explained(failed: tools.ToolFailed, wanted: Wanted, name: str) -> errors.Failure:
    from agentpipe.environment import conda_files
    from agentpipe.environment.installers import uv_words
    said = uv_words.readable(conda_files.shown(failed.output))
    listed = said.partition("PackagesNotFoundError")[2]
    names = {*re.findall(r"^\s*- (?:\S+::)?([A-Za-z0-9._-]+)", listed, re.M),
             *re.findall(r"nothing provides (?:requested )?([A-Za-z0-9._-]+)", said),
             *re.findall(r"([A-Za-z0-9._-]+)(?: [^\n]{1,60})? does not exist", said)}
    if names:
        failure = Missing(f"no conda package {', '.join(sorted(names))} in {wanted.places()}",
                          errors.NOT_FOUND, said[-4000:],
                          f"correct it in {wanted.origin}, or name the channel that has it")
        failure.names = names
        return failure
    if "No space left" in said:
        return errors.Failure("the disk of the environment cache is full", errors.CANNOT_CREATE, said[-4000:],
                              "make room there, or set AGENT_HOME to a larger disk")
    if re.search(r"Unsatisfiable|incompatible|conflict|Could not solve", said, re.I):
        return errors.Failure(f"the conda packages contradict each other: {name} found no way to install them",
                              errors.BAD_DATA, said[-4000:], f"relax a version in {wanted.origin}")
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), failed.reason)
    return errors.Failure(f"{name} could not install the conda packages: {last[:200]}", errors.UNAVAILABLE,
                          said[-4000:], "see the task's set-up log for its words")
