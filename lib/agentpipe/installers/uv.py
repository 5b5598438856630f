"""pip requirement lists, installed by uv."""

from __future__ import annotations

import os

from agentpipe import errors, indexes, installers, paths
from agentpipe.offline import offline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.requirements import Project, Requirements

NAME = "uv"
# pip looks at all indexes and takes the best version; uv by itself would stop at the first that has the name
POLICY = "uv unsafe-best-match"
# a variable of ours, or of the agent's own environment, that would turn uv to another environment
NOT_PASSED_ON = ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX",
                 "UV_PROJECT_ENVIRONMENT", "UV_LINK_MODE", "UV_COMPILE_BYTECODE", "UV_REQUIRE_VIRTUALENV")


def create(job: Job, interpreter: dict[str, Any], folder: str) -> bool:
    """An environment with pip in `folder`; false when pip is still to be installed."""
    if not job.prefix:
        return installers.create_on_host(interpreter, folder)
    _run(job, ["venv", "--relocatable", "--no-project", "--allow-existing", "--python", interpreter["executable"],
               folder], loud=False)
    return False


def install(job: Job, folder: str, requirements: Requirements, pip: str = "") -> None:
    """Fill the environment in `folder`: the list, and what the task's own projects need, but not they themselves.

    `pip` is the requirement for a pip that is still missing. Failure 65, 66, 69, 73 or 77 names the package and what
    to change.
    """
    text = requirements.file_text() + (pip + "\n" if pip else "")
    if not text:
        return
    pip_install(job, folder, text, requirements)
    if requirements.projects:
        from agentpipe import installed
        _run(job, ["pip", "uninstall", *_target(folder), "--", *installed.projects(folder)], loud=False)


def projects(job: Job, overlay: str, found: list[Project], requirements: Requirements) -> None:
    """Install the task's own folders into its overlay; their dependencies are in the base."""
    text = "".join(f"{'-e ' if each.editable else ''}{each.path}\n" for each in found)
    pip_install(job, overlay, text, requirements, "--no-deps")


def pip_install(job: Job, folder: str, text: str, requirements: Requirements, *flags: str) -> None:
    """`uv pip install -r` of `text` under the task's and the user's indexes."""
    from agentpipe.tools import ToolFailed
    listed = job.path("requirements.txt")
    write_list(listed, text, requirements, job.path("constraints.txt"))
    try:
        _run(job, ["pip", "install", "--link-mode", "copy", *_target(folder), *_indexes(requirements), *flags,
                   "-r", listed])
    except ToolFailed as error:
        from agentpipe.installers import uv_failures
        raise uv_failures.explained(job, error, folder, requirements) from None


def newest(job: Job, folder: str, wish: str, requirements: Requirements) -> str:
    """The newest version that the indexes have for `wish` ("six<2"), as "six==1.17.0"; "" when there is none."""
    listed = job.path("asked.txt")
    write_list(listed, wish + "\n", requirements, "")
    try:
        answer = _run(job, ["pip", "compile", "--quiet", "--no-deps", "--no-header", "--no-annotate",
                            "--no-emit-index-url", "--no-emit-find-links", *_target(folder), *_indexes(requirements),
                            listed], loud=False, timeout=30)
    except errors.Failure:
        return ""
    finally:
        os.unlink(listed)
    return next((line.split(";")[0].strip() for line in answer.splitlines() if "==" in line), "")


def write_list(path: str, text: str, requirements: Requirements, constraints: str) -> None:
    """A requirements file (0600) with the user's indexes, the task's own options and `text`."""
    own = [f"{name} {value}".strip() for name, value in requirements.options if name != "--trusted-host"]
    own_index = [line for line in own if line.startswith("--index-url ")][-1:]
    head = [line for line in indexes.lines() if not (own_index and line.startswith("--index-url "))]
    head += [line for line in own if line in own_index or not line.startswith("--index-url ")]
    if constraints and requirements.constraints:
        _write(constraints, "".join(line + "\n" for line in requirements.constraints))
        head.append(f"-c {constraints}")
    _write(path, "".join(line + "\n" for line in head) + text)


def binary() -> str:
    """The uv of our own environment, else the one on PATH."""
    import shutil
    import sysconfig
    own = os.path.join(sysconfig.get_path("scripts"), "uv")
    if os.access(own, os.X_OK):
        return own
    found = shutil.which("uv")
    if found is None:
        raise errors.Failure("uv is not installed", errors.UNAVAILABLE,
                             remedy="install it beside agentpipe: pip install uv")
    return found


def _run(job: Job, arguments: list[str], loud: bool = True, timeout: float | None = None) -> str:
    from agentpipe.place import inside as place_inside
    from agentpipe.tools import ToolFailed
    uv = binary()
    no_network = ["--offline"] if offline() else []
    cache = os.environ.get("UV_CACHE_DIR") or paths.cache("uv")
    argv = [uv, *no_network, "--no-python-downloads", "--cache-dir", cache, *arguments]
    try:
        inside = place_inside.argv(job, argv, environment()) if job.prefix else argv
        return job.run(inside, cwd=paths.cache(), env=environment(), loud=loud, timeout=timeout)
    except ToolFailed as error:
        if job.prefix and error.status in (126, 127):
            raise errors.Failure(f"uv is not reachable in this task's place as {uv}", errors.UNAVAILABLE,
                                 evidence=error.output, remedy="make its directory visible there") from None
        raise


def environment() -> dict[str, str]:
    """Our variables for uv, without those that would turn it, or the Pythons it starts, to something else."""
    kept = {name: value for name, value in os.environ.items()
            if name not in NOT_PASSED_ON and not name.startswith("PYTHON")}
    return {"UV_HTTP_TIMEOUT": "60", **indexes.variables(), **kept, "NO_COLOR": "1"}


def _target(folder: str) -> list[str]:
    return ["--python", os.path.join(folder, "bin", "python")]


def _indexes(requirements: Requirements) -> list[str]:
    strategy = os.environ.get("UV_INDEX_STRATEGY") or "unsafe-best-match"
    hosts = indexes.insecure_hosts() + [host for name, host in requirements.options if name == "--trusted-host"]
    return ["--index-strategy", strategy, *(word for host in hosts for word in ("--allow-insecure-host", host))]


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
