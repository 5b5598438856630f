"""pip, for what uv cannot do: flags, repositories and lists that only pip knows."""

from __future__ import annotations

import os
import re

from agentpipe import errors, live, paths
from agentpipe.environment.installers import pip_indexes, uv
from agentpipe.settings import indexes
from agentpipe.settings.offline import offline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.installers.policy import Policy
    from agentpipe.environment.pins import Pin
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job


def install(job: Job, folder: str, asked: Requirements, policy: Policy, pip: str = "") -> list[Pin]:
    """Fill the environment; what was installed has the pins that uv finds for it. Failure as pip's last words say."""
    from agentpipe.environment import local_packages
    wanted = [f"pip{each}" for each in policy.pip_version]
    if pip or wanted:
        bare = asked.only(lambda name: False, projects=False)
        try:
            uv.direct(job, folder, "".join(line + "\n" for line in wanted) or pip + "\n", bare, [])
        except errors.Failure as failure:
            if not wanted or failure.exit not in (errors.NOT_FOUND, errors.BAD_DATA):
                raise
            raise errors.Failure(f"agent.package_manager.pip_version asks for {' and '.join(wanted)}: "
                                 f"{failure.reason}", errors.BAD_CONFIG, failure.evidence,
                                 "correct agent.package_manager.pip_version") from None
    listed = job.path("requirements.txt")
    for text in _texts(asked):
        uv.write_list(listed, text, asked, job.path("constraints.txt"))
        flags = [*policy.pip_flags, *(["--upgrade"] if policy.upgrade else []),
                 *(["--no-deps"] if policy.no_deps else [])]
        run(job, folder, asked, ["install", *flags, "-r", listed])
    names = local_packages.taken_out(folder, asked)
    if names:
        run(job, folder, asked, ["uninstall", "-y", *names])
    return [] if asked.exact else uv.pins_of(job, folder, asked, policy)


def _texts(asked: Requirements) -> list[str]:
    """The lists to install, one after another: pip takes no folder beside hashes, and a project's lock has both."""
    text = asked.file_text()
    if "--hash" in text and (asked.projects or asked.archives):
        apart = asked.only(lambda name: True, projects=False), asked.only(lambda name: False)
        return [each.file_text() for each in apart]
    return [text] if text else []


def run(job: Job, folder: str, asked: Requirements, arguments: list[str]) -> None:
    """The pip of the environment in `folder`, with what it needs to reach indexes and repositories."""
    from agentpipe.environment import git_pins
    from agentpipe.place import inside
    from agentpipe.tools import ToolFailed
    python = os.path.join(folder, "bin", "python")
    argv = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    env = {**uv.environment(), **pip_indexes.variables(),
           "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR") or paths.cache("pip"),
           **git_pins.access(job, asked.secrets), **asked.variables, **({"PIP_NO_INDEX": "1"} if offline() else {})}
    if asked.build_constraints:
        env["PIP_BUILD_CONSTRAINT"] = uv.written(job, "build-constraints.txt", asked.build_constraints)
    if asked.constraints and os.environ.get("PIP_CONSTRAINT"):
        env["PIP_CONSTRAINT"] = uv.written(job, "constraints.txt", asked.constraints)  # pip's builds obey it too
    for host in indexes.insecure_hosts():
        env.setdefault("PIP_TRUSTED_HOST", host)
    try:
        with live.Line(job, lambda: f"pip {arguments[0]}"):
            inside.run(job, argv, env, outside=paths.cache(), loud=True)
    except ToolFailed as error:
        from agentpipe.environment import env_cache
        from agentpipe.urls import without_credentials
        said = without_credentials(error.output)
        words = [line for line in said.splitlines() if line.startswith("ERROR: ")]
        last = (words or said.splitlines() or ["no word of its own"])[-1].removeprefix("ERROR: ")
        if "No space left on device" in said or "Disk quota exceeded" in said:
            raise errors.Failure(f"the disk of the environment cache is full: {last[:300]}", errors.CANNOT_CREATE,
                                 said[-4000:],
                                 f"make room there, or set {env_cache.setting()} to a larger disk") from None
        unknown = re.search(r"no such option: (\S+)", said)
        if unknown:  # those of lists have been read already
            raise errors.Failure(f"pip has no option {unknown[1]}", errors.BAD_CONFIG, said[-4000:],
                                 f"take {unknown[1]} out of agent.package_manager.extra_pip_install_flags "
                                 "(CLEARML_EXTRA_PIP_INSTALL_FLAGS)") from None
        raise errors.Failure(f"pip could not install the requirements: {last[:300]}", errors.BAD_DATA, said[-4000:],
                             "see the task's set-up log for pip's words") from None
