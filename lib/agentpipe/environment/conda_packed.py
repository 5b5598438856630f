"""A conda environment that somebody has made: a folder, or an archive of conda-pack. It is used, and nothing installed.

Named by CLEARML_CONDA_ENV_PACKAGE; or, with agent.package_manager.conda_env_as_base_docker, where the task names its
image. Also conda's base in an image (agent.package_manager.use_conda_base_env), into which what is missing goes.
"""

from __future__ import annotations

import os

from agentpipe import errors, paths, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.python_env import Base
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

MANAGER = "agent.package_manager."
VARIABLE = "CLEARML_CONDA_ENV_PACKAGE"
FIND_BASE = ('for each in "$CONDA_PREFIX" "$(conda info --base 2>/dev/null)" /opt/conda /root/miniconda3 '
             '/root/miniforge3 /root/anaconda3; do [ -x "$each/bin/python" ] && echo "$each/bin/python" && exit; done')


def named(job: Job) -> str:
    """The folder or archive that this task is to run in; "" for none."""
    from agentpipe.settings import config
    told = os.environ.get(VARIABLE, "")
    if not told and config.flag(MANAGER + "conda_env_as_base_docker"):
        container = job.task.get("container") or {}
        told = str(container.get("image") or (job.task.get("execution") or {}).get("docker_cmd") or "").split(" ")[0]
    return os.path.expanduser(told)


def base_in_place(job: Job) -> str:
    """The Python of conda's base environment in this task's place, where that is to be used; "" otherwise."""
    from agentpipe.settings import config
    if not config.flag(MANAGER + "use_conda_base_env"):
        return ""
    if not job.prefix:
        job.say("agent.package_manager.use_conda_base_env is for containers: not on this host")
        return ""
    found = job.run([*job.prefix, "sh", "-c", FIND_BASE], check=False, timeout=60).strip()
    if not found:
        raise errors.Failure("there is no conda in this task's place", errors.NOT_FOUND,
                             remedy="use an image that has it, or take agent.package_manager.use_conda_base_env out")
    return found


def base(job: Job, path: str, asked: Requirements) -> Base:
    """That environment as a base for overlays; an archive is unpacked once."""
    from agentpipe.environment import installed, interpreters
    from agentpipe.environment.installers import conda
    folder = path if os.path.isdir(path) else _unpacked(job, path)
    python = os.path.join(folder, "bin", "python")
    interpreter = interpreters.described(job, python) if os.path.lexists(python) else None
    if interpreter is None:
        raise _unusable(f"{path} is no environment with a Python that starts here", errors.NOT_FOUND)
    packages = installed.packages(folder, asked.names())
    lacks = asked.names() - {line.partition("==")[0].partition(" @ ")[0].lower() for line in packages}
    words = f"as it is: {path}"
    if lacks:
        job.say(f"{path} is used as it is, though it lacks {', '.join(sorted(lacks)[:5])}")
    site = os.path.relpath(installed.site_packages(folder), folder)
    return {"key": None, "directory": folder, "interpreter": interpreter, "system": False, "site": site, "scripts": [],
            "folders": [], "links": [], "packages": packages, "pins": packages, "below": packages, "installer": "none",
            "variables": conda.variables(folder), "reason": words}


def _unusable(reason: str, code: int, evidence: str = "") -> errors.Failure:
    """The machine's fault (78) where its own variable names what does not do, and else the task's."""
    right = "the folder of a conda environment, or an archive of conda-pack"
    if os.environ.get(VARIABLE):
        return errors.Failure(f"{VARIABLE}: {reason}", errors.BAD_CONFIG, evidence, f"correct {VARIABLE}: {right}")
    return errors.Failure(f"{reason}, and the task names it as its image ({MANAGER}conda_env_as_base_docker)", code,
                          evidence, f"give the task another: agent-task edit --docker PATH, {right}")


def _unpacked(job: Job, path: str) -> str:
    """The folder of an archive in our cache, unpacked by one of those who want it."""
    import hashlib

    import filelock
    try:
        found = os.stat(path)
    except OSError as error:
        raise _unusable(f"{path}: {error.strerror}", errors.NOT_FOUND) from None
    # it may have gigabytes: known by what a copy would change
    about = f"{os.path.realpath(path)}\0{found.st_size}\0{found.st_mtime_ns}"
    folder = paths.cache("conda-packed", hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()[:24])
    os.makedirs(os.path.dirname(folder), 0o700, exist_ok=True)
    with filelock.FileLock(folder + ".lock", fallback_to_soft=False):
        if not os.path.lexists(folder):
            _unpack(job, path, folder)
    return os.path.realpath(folder)


def _unpack(job: Job, path: str, folder: str) -> None:
    """At its final path (conda-unpack writes that into files), published by a link; what a killed one left goes."""
    from agentpipe import files, tools
    left = files.numbers(os.path.dirname(folder), os.path.basename(folder))
    place = files.new_directory(os.path.dirname(folder), os.path.basename(folder))
    for number in left:  # not into the place of one whose tar may live on
        trees.discard(f"{folder}.{number}")
    job.say(f"unpacking {path}")
    try:
        words = ["unzip", "-q", path, "-d", place] if path.endswith(".zip") else ["tar", "-xf", path, "-C", place]
        job.run(words, cwd=place)
        unpack = os.path.join(place, "bin", "conda-unpack")
        if os.path.exists(unpack):
            job.run([os.path.join(place, "bin", "python"), unpack], cwd=place)
    except tools.ToolFailed as failed:
        trees.discard(place)
        raise _unusable(f"{path} cannot be unpacked: {failed.reason}", errors.BAD_DATA, failed.output[-4000:]) from None
    except BaseException:
        trees.discard(place)
        raise
    os.symlink(os.path.basename(place), folder)
