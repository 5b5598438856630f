"""What rattler says when it fails, as a Failure of the task, of a channel or of the machine."""

from __future__ import annotations

import re

from agentpipe import errors
from agentpipe.environment import conda_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.conda_files import Wanted


def explained(error: Exception, wanted: Wanted, other: str = "") -> errors.Failure:
    """What rattler says, as a Failure; `other` is what the channels have of a package that is missing."""
    said = conda_files.shown(str(error))
    first = re.sub(r"^Cannot solve the request because of: ", "", said.strip()).splitlines()[0] if said else "no words"
    missing = re.match(r"No candidates were found for (.+?)\.?$", first)
    if missing:
        return _missing(missing[1].strip(), said, wanted, other)
    from agentpipe.environment.installers.conda import cuda
    of_cuda = re.search(r"would require \W*__cuda ([^,]+), for which no candidates", " ".join(said.split()))
    if of_cuda:
        return errors.Failure(f"the conda packages need CUDA {of_cuda[1]}, and this machine has {cuda() or 'none'}",
                              errors.NOT_FOUND, said[-4000:], "use a queue whose machines have it, or say what this "
                              "one has (agent.cuda_version, CONDA_OVERRIDE_CUDA)")
    if replaced := re.search(r"hash mismatch when extracting (\S*/(\S+?)-[^-]+-[^-]+) to ", said):
        return errors.Failure(f"{replaced[2]}: {replaced[1]} is not the file whose hash the channel lists",
                              errors.BAD_DATA, said[-4000:], "find out who replaced it, or index the channel anew")
    if "incompatible" in said or "Cannot solve" in said:
        return errors.Failure(f"the conda packages contradict each other: {_told(said)}", errors.BAD_DATA,
                              said[-4000:], f"relax a version in {wanted.origin}", wanted.change())
    if re.search(r"No space left", said):
        return errors.Failure("the disk of the environment cache is full", errors.CANNOT_CREATE, said[-4000:],
                              "make room there, or set AGENT_HOME to a larger disk")
    if re.search(r"match ?spec|(?:range|version) spec|invalid", said, re.I):
        return errors.Failure(f"a conda package is not understood: {first[:200]}", errors.BAD_DATA, said[-4000:],
                              f"write it as name=1.2 in {wanted.origin}", wanted.change())
    return _of_channel(first, said, wanted)


def _missing(spec: str, said: str, wanted: Wanted, other: str) -> errors.Failure:
    """No channel has what is asked for; Python may be asked for by the task's interpreter, and not by a list."""
    there = f"; there is {other}" if other else ""
    reason, name = f"no conda package {spec} in {wanted.places()}{there}", spec.split(" ")[0]
    if name == "python" and not wanted.exact and not any(map(conda_files.PYTHON.match, wanted.specs)):
        minor = re.match(r"python=(\d+\.\d+)", other)
        return errors.Failure(reason, errors.NOT_FOUND, said[-4000:], "give the task another one (--python), or "
                              "name the channel that has it", ("--python", minor[1]) if minor else ())
    return errors.Failure(reason, errors.NOT_FOUND, said[-4000:],
                          f"correct it in {wanted.origin}, or name the channel that has it", wanted.change())


def _told(said: str) -> str:
    """The tree that conda's solver draws, as one line."""
    whole = " ".join(re.sub(r"[│├└─]+", " ", said.removeprefix("Cannot solve the request because of: ")).split())
    return whole if len(whole) <= 300 else whole[:300].rpartition(" ")[0] + " …"


def _of_channel(first: str, said: str, wanted: Wanted) -> errors.Failure:
    where = (f"the channels in {wanted.origin}, or " if wanted.folders else "") + "agent.package_manager.conda_channels"
    if "no usable repodata cache" in said:
        return errors.Failure("a conda channel is not in this machine's cache, and AGENT_OFFLINE is set: "
                              f"{first[:200]}", errors.UNAVAILABLE, said[-4000:], "run it once without AGENT_OFFLINE")
    if re.search(r"\(40[13] ", first):
        return errors.Failure(f"a conda channel refuses access: {first[:200]}", errors.NO_PERMISSION, said[-4000:],
                              f"give the login with its address in {where}")
    if "could not find subdir" in said:
        return errors.Failure(f"there is no such conda channel: {first[:200]}", errors.NOT_FOUND, said[-4000:],
                              f"correct {where}")
    return errors.Failure(f"a conda channel cannot be used: {first[:200]}", errors.UNAVAILABLE, said[-4000:],
                          f"check the network and {where}")
