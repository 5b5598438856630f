"""What is started for a task: its command line, its working directory and its environment."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping

from agentpipe import attempt, errors, place
from agentpipe.entry import SHELLS
from agentpipe.script import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PYTHONS = ("python", "pypy")
# ours, not the script's: what our own Python and this pipeline were told
NOT_PASSED_ON = re.compile(r"PYTHON(HOME|PATH|UNBUFFERED|DONTWRITEBYTECODE|STARTUP|USERBASE|PYCACHEPREFIX|SAFEPATH"
                           r"|NOUSERSITE)$"
                           r"|AGENT_(CRASH_AT|CRASH_WITH|STAGE_\w+|HOOK|DEBUG)$|VIRTUAL_ENV(_PROMPT)?$|__PYVENV_LAUNCHER__$")


class Launch:
    """A command to start: `argv` in `cwd` with the environment `env`; `piped` as script.start() wants it."""

    def __init__(self, argv: list[str], cwd: str, env: dict[str, str], piped: bool) -> None:
        self.argv, self.cwd, self.env, self.piped = argv, cwd, env, piped


def of(manifest: Mapping[str, Any], directory: str) -> Launch:
    """The launch of a prepared manifest; a Failure (65) says which stage is missing, or what the task lacks."""
    for key, stage in (("fetch", "agent-fetch"), ("patch", "agent-patch"), ("env", "agent-env")):
        if key not in manifest:
            raise errors.Failure(f"the manifest has no `{key}`: {stage} has not run", errors.BAD_DATA,
                                 remedy=f"run {stage} (or agent-prepare) before agent-run; a command in "
                                        f"AGENT_STAGE_{key.upper()} must print the manifest with that key")
    patch, env = manifest["patch"], manifest["env"]
    script = manifest["task"].get("script") or {}
    working_dir = patch.get("working_dir") or script.get("working_dir") or "."
    cwd = os.path.normpath(os.path.join(manifest["fetch"]["code"], working_dir))
    words = _split(patch.get("entry_point") or script.get("entry_point") or "")
    if not words:
        raise errors.Failure("the task has no entry_point: nothing to run", errors.BAD_DATA,
                             remedy="agent-task enqueue SCRIPT")
    where = place.of(manifest, directory)
    program, shell = _program(script.get("binary") or "", words, env, where.prefix)
    inherited = {} if where.isolated else {name: value for name, value in os.environ.items()
                                           if not NOT_PASSED_ON.match(name)}
    found = {**inherited, **_environment(manifest, directory, cwd, words)}
    return Launch([*program, *words], cwd, found, shell)


def own() -> dict[str, str]:
    """Our own environment: what a place's prefix (nsenter, docker exec) itself needs."""
    return dict(os.environ)


def write_spec(directory: str, env: Mapping[str, str], isolated: bool) -> list[str]:
    """For a place: `spec`, a 0600 file of exports that the shim reads there; the names that sh cannot export.

    Where our environment gets in (not `isolated`) only what differs from it goes in.
    """
    base = {"PATH": os.environ.get("PATH", "")} if isolated else os.environ
    lines, dropped = [], []
    for name, value in env.items():
        if base.get(name) == value:
            continue
        if not NAME.fullmatch(name):
            dropped.append(name)
        elif name == "PATH":
            ours = os.pathsep.join(part for part in value.split(os.pathsep)
                                   if part not in base.get("PATH", "").split(os.pathsep))
            if ours:
                lines.append(f"PATH={shlex.quote(ours)}:$PATH; export PATH")
        elif name == "PYTHONPATH" and isolated:  # an image's own stays behind
            lines.append(f"PYTHONPATH={shlex.quote(value)}${{PYTHONPATH:+:$PYTHONPATH}}; export PYTHONPATH")
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    attempt.publish(os.path.join(directory, "spec"), ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    return dropped


def _split(text: str, what: str = "entry_point") -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise errors.Failure(f"{what} cannot be split into words: {error}: {text}",
                             errors.BAD_DATA) from None


def _program(binary: str, words: list[str], env: Mapping[str, Any], prefix: list[str]) -> tuple[list[str], bool]:
    """(the program that gets the entry point, whether it is a shell): the environment's Python, or any other program.

    Failure 66 for one that is not there; within a place only that can tell.
    """
    asked = _split(binary, "binary") or ["python3"]
    name = os.path.basename(asked[0])
    if words[0].endswith((".sh", ".bash")) and not binary:
        asked, name = ["bash"], "bash"
    if name.startswith(PYTHONS):
        if not env.get("python"):
            raise errors.Failure(f"the task wants {name}, but its environment has no Python", errors.BAD_DATA,
                                 remedy="let agent-env make one: it was told that the task needs none")
        return [env["python"], *asked[1:]], False
    import shutil
    if not prefix and not shutil.which(asked[0], path=_path(env)):
        raise errors.Failure(f"the task's program {asked[0]} is not on PATH here", errors.NOT_FOUND,
                             remedy=f"install {name} on this machine, or name another in the task's binary "
                                    "(agent-task edit --binary)")
    return asked, name in SHELLS


def _path(env: Mapping[str, Any]) -> str:
    return os.pathsep.join([*(env.get("path") or []), os.environ.get("PATH") or os.defpath])


def _environment(manifest: Mapping[str, Any], directory: str, cwd: str, words: list[str]) -> dict[str, str]:
    env = manifest["env"]
    found = {"PATH": _path(env), "AGENT_TASK_DIR": directory}
    if env.get("overlay"):
        found["VIRTUAL_ENV"] = env["overlay"]
        found["AGENT_LINE_BUFFERED"] = "1"
    else:
        found["PYTHONUNBUFFERED"] = "1"
    script_folder = os.path.dirname(os.path.join(cwd, words[0])) if not words[0].startswith("-") else cwd
    folders = [cwd, script_folder, *os.environ.get("CLEARML_AGENT_EXTRA_PYTHON_PATH", "").split(os.pathsep)]
    found["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, folders)))
    if "pull" in manifest:
        found |= _for_the_sdk(manifest)
    return found


def _for_the_sdk(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What the `clearml` package expects of an agent (clearml-agent's worker.py; also under the older names)."""
    task, worker = manifest["task"]["id"], manifest["pull"].get("worker") or ""
    named = {"TASK_ID": task, "LOG_TASK_TO_BACKEND": "0", "WORKER_ID": worker}
    return {f"{prefix}_{name}": value for name, value in named.items() for prefix in ("CLEARML", "TRAINS")}
