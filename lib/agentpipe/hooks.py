"""Hooks: the operator's executables before and after each stage, and when a task has ended (agent-hooks(5))."""

from __future__ import annotations

import os
import stat

from agentpipe import errors, paths, stdio
from agentpipe.settings import config
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# seconds; AGENT_HOOK_TIMEOUT sets both
TIMEOUT = 600.0
END_TIMEOUT = 60.0
# bytes that a hook may print, beside twice what it was given
MOST = 64 << 20
SAID_ONLY = ("post-run", "on-end")  # whose failures change nothing
# what a hook cannot change: who the task is and who reports it, and how it ended
FIXED = ("manifest", "pull", "origin", "run", "failed")


def find(name: str) -> list[str]:
    """The executables for `name` ("pre-fetch", "on-end"): NAME and NAME.d/*, directory by directory, in order.

    Failure 78 when a directory that AGENT_HOOKS names is not there, or one cannot be looked into: its hooks may have a
    veto. After the work that veto would come too late, and the end of a task is worth more.
    """
    for directory in paths.named_hook_directories() if name.startswith("pre-") else ():
        if not os.path.isdir(directory):
            raise errors.Failure(f"AGENT_HOOKS names {directory}, which is no directory", errors.BAD_CONFIG,
                                 remedy="correct it, or unset it")
    found = []
    for path in (os.path.join(directory, name) for directory in paths.hook_directories()):
        try:
            if _is(path, stat.S_ISREG):
                found.append(path)
            if _is(path + ".d", stat.S_ISDIR):
                within = sorted(os.listdir(path + ".d"))
                found += [entry for entry in (os.path.join(path + ".d", each) for each in within)
                          if _is(entry, stat.S_ISREG)]
        except OSError as error:
            unseen = errors.Failure(f"cannot see which hooks there are: {error.filename}: {error.strerror}",
                                    errors.BAD_CONFIG, remedy=f"namei -l {path}")
            if name in SAID_ONLY:
                stdio.say(str(unseen))
                continue
            raise unseen from None
    hooks = []
    for path in found:
        if os.access(path, os.X_OK):
            hooks.append(path)
        else:
            stdio.say(f"{path} is not executable, so it is no hook (chmod +x {path})")
    return hooks


def _is(path: str, kind: Callable[[int], bool]) -> bool:
    """Whether something of that kind stands there; OSError where that cannot be seen."""
    try:
        return kind(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def run(name: str, manifest: dict[str, Any], job: Any = None) -> dict[str, Any]:
    """Run every hook of `name` on the manifest; the manifest as they leave it.

    A JSON object on a hook's stdout replaces the manifest, nothing leaves it, anything else or a non-zero status is
    a veto: Failure 77 with the hook's name. What was changed is listed under the key `hooks`.
    """
    for path in find(name):
        if job:
            from agentpipe import hook_files
            way = hook_files.opened(path)
            job.say(f"{name}: {path}" + (f" ({way}: others can write it)" if way else ""))
        manifest = _run_one(path, name, manifest, job)
    return manifest


def _run_one(path: str, name: str, manifest: dict[str, Any], job: Any) -> dict[str, Any]:
    from agentpipe import manifest as manifests
    status, answer, told = _answer(path, name, manifests.write(manifest))
    if told and job:
        job.say(f"{name} {path}: {told}")
    if status:
        raise _veto(path, name, f"ended with {status}" + (f": {told.splitlines()[-1]}" if told else ""), told)
    if not answer.strip():
        return manifest
    try:
        found = manifests.read(answer)
    except errors.Failure as failure:
        raise _veto(path, name, f"its answer is {failure.reason}", told) from None
    return _merged(manifest, found, path, name)


def _answer(path: str, name: str, line: bytes) -> tuple[int, bytes, str]:
    """(status, stdout, stderr) of a hook; one that takes too long, or whose stage is told to stop, is ended whole."""
    import signal
    import subprocess
    import time

    from agentpipe import tools
    limit = config.variable("AGENT_HOOK_TIMEOUT", END_TIMEOUT if name == "on-end" else TIMEOUT)
    process = None
    try:
        with SIGNALS.closed():
            process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       env={**os.environ, "AGENT_HOOK": name}, start_new_session=True)
        in_time, out, err = tools.communicate(process, line, time.monotonic() + limit, MOST + 2 * len(line))
    except OSError as error:
        raise _veto(path, name, f"cannot be run: {error.strerror}") from None
    except BaseException as error:
        if process:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        if isinstance(error, tools.TooMuch):
            raise _veto(path, name, f"{error}, which is no manifest") from None
        raise
    if not in_time:
        raise _veto(path, name, f"it took longer than {limit:g} s")
    return process.returncode, out, err.decode("utf-8", "replace").strip()


def _merged(manifest: dict[str, Any], answer: dict[str, Any], path: str, name: str) -> dict[str, Any]:
    for key in FIXED:
        if answer.get(key) != manifest.get(key):
            raise _veto(path, name, f"it changed {key}")
    if (answer.get("task") or {}).get("id") != manifest["task"].get("id"):
        raise _veto(path, name, "it changed task.id")
    changed = sorted(key for key in {*answer, *manifest} - {"hooks"} if answer.get(key) != manifest.get(key))
    if changed:
        answer["hooks"] = {**(manifest.get("hooks") or {}), f"{name} {path}": changed}
    return answer


def _veto(path: str, name: str, why: str, evidence: str = "") -> errors.Failure:
    return errors.Failure(f"hook {name} ({path}) refused the task: {why}", errors.NO_PERMISSION, evidence,
                          remedy=f"ask the operator of this machine, or see what {path} wants")
