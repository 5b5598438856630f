"""What is started for a task: its command line, its working directory and its environment."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from agentpipe import errors, place, secrets
from agentpipe.code.entry import SHELLS
from agentpipe.files import publish
from agentpipe.run import script_env
from agentpipe.run.shim import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PYTHONS = ("python", "pypy")
# what bash keeps for itself: also where it is the sh of an image, which then ended at an export of one of them
BASHS_OWN = ("UID", "EUID", "PPID", "BASHOPTS", "SHELLOPTS", "BASH_VERSINFO")


class Launch:
    """A command to start: `argv` in `cwd` with the environment `env`; `piped` as script.start() wants it."""

    def __init__(self, argv: list[str], cwd: str, env: dict[str, str], piped: bool) -> None:
        self.argv, self.cwd, self.env, self.piped = argv, cwd, env, piped


def of(manifest: Mapping[str, Any], directory: str, options: Mapping[str, Any]) -> Launch:
    """The launch of a prepared manifest; a Failure (65) says which stage is missing, or what the task lacks.

    `options` are agent-run's: log_level, optimize.
    """
    for key, stage in (("fetch", "agent-fetch"), ("patch", "agent-patch"), ("env", "agent-env")):
        if key not in manifest:
            raise errors.Failure(f"the manifest has no `{key}`: {stage} has not run", errors.BAD_DATA,
                                 remedy=f"run {stage} (or agent-prepare) before agent-run; a command in "
                                        f"AGENT_STAGE_{key.upper()} must print the manifest with that key")
    patch, env = manifest["patch"], manifest["env"]
    script = manifest["task"].get("script") or {}
    cwd = working_directory(manifest)
    words = [env["entry_point"]] if env.get("entry_point") else _split(
        patch.get("entry_point") or script.get("entry_point") or "")
    if not words:
        raise errors.Failure("the task has no entry_point: nothing to run", errors.BAD_DATA,
                             remedy=f"agent-task edit {manifest['task'].get('id')} --entry-point SCRIPT")
    where = place.of(manifest, directory)
    program, shell = _program(env.get("binary") or script.get("binary") or "", words, env, cwd, where.prefix)
    found = script_env.of(manifest, directory, cwd, words, options, where.isolated)
    if not shell and words[0] == "-m":
        words = [words[0], *(script_env.filled(word, found) for word in words[1:])]
    if options.get("optimize") and program[0] == env.get("python"):
        program.append("-" + "O" * options["optimize"])
    argv = [*program, *words]
    if nul := [word for word in argv if "\0" in word]:
        raise errors.Failure(f"the argument {nul[0]!r} has a NUL byte, which no program can be given", errors.BAD_DATA,
                             remedy="agent-task edit --entry-point")
    # of a command in the place of agent-env: our own make none of these
    if odd := [name for name, value in found.items() if not name or "=" in name or "\0" in name + value]:
        raise errors.Failure(f"the variable {odd[0]!r} is none that a program can be given", errors.BAD_DATA,
                             remedy="correct `env.variables`")
    return Launch(argv, cwd, found, shell)


def working_directory(manifest: Mapping[str, Any]) -> str:
    """Where the script of a manifest that has `fetch` runs: a custom build, or the patch, may have put it elsewhere."""
    asked = [(manifest.get(key) or {}).get("working_dir") for key in ("env", "patch")]
    script = manifest["task"].get("script") or {}
    found = next(filter(None, [*asked, script.get("working_dir")]), ".")
    return os.path.normpath(os.path.join(manifest["fetch"]["code"], found))


def own() -> dict[str, str]:
    """Our own environment: what a place's prefix (nsenter, docker exec) itself needs."""
    return dict(os.environ)


def write_spec(directory: str, env: Mapping[str, str], isolated: bool) -> list[str]:
    """For a place: `spec`, a 0600 file of exports that the shim reads there; the names that sh cannot export.

    Where our environment gets in (not `isolated`) only what differs from it goes in, and what is for the `clearml`
    package.
    """
    from agentpipe.place import setup_script
    base = {"PATH": os.environ.get("PATH", "")} if isolated else os.environ
    lines, dropped = [], []
    for name, value in setup_script.environment(directory).items():
        if NAME.fullmatch(name):
            lines.append(_said(name, value))
    for name, value in env.items():
        if base.get(name) == value and not name.startswith(("CLEARML_", "TRAINS_")):
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
            lines.append(_said(name, value))
    publish(os.path.join(directory, secrets.SPEC), ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    return dropped


def _said(name: str, value: str | None) -> str:
    """A variable's line in `spec`; None takes it away."""
    line = f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"
    return f"command {line}" if name in BASHS_OWN else line


def _split(text: str, what: str = "entry_point") -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise errors.Failure(f"{what} cannot be split into words: {error}: {text}",
                             errors.BAD_DATA) from None


def _program(binary: str, words: list[str], env: Mapping[str, Any], cwd: str,
             prefix: list[str]) -> tuple[list[str], bool]:
    """(the program that gets the entry point, whether it is a shell): the environment's Python, or any other program,
    on PATH or by its path, which may begin in the working directory.

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
    program = os.path.join(cwd, asked[0]) if "/" in asked[0] else asked[0]
    if not prefix and not shutil.which(program, path=script_env.path(env)):
        outside = program == asked[0]
        where, mend = ("on PATH here", f"install {name} on this machine") if outside else (
            f"in {cwd}, or not executable", f"git add --chmod=+x {name}")
        raise errors.Failure(f"the task's program {asked[0]} is not {where}", errors.NOT_FOUND,
                             remedy=f"{mend}, or name another in the task's binary (agent-task edit --binary)",
                             change=() if outside else errors.CODE_ANEW)
    return asked, name in SHELLS
