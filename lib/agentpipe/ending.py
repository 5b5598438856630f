"""The end of a task: decide it once, record it, report it, and print the receipt."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from agentpipe import attempt, command, ends, errors, hooks, manifest
from agentpipe.crash import crash_point
from agentpipe.script import Script
from agentpipe.watching import Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REPORT_TIMEOUT = 60.0


def of_script(held: Any, script: Script, verdict: Verdict, values: Mapping[str, Any]) -> int:
    """The end of a script that is over (or was left running); agent-run's exit code."""
    if verdict.left:
        held.quiet()
        held.claim.release()
        return 129
    if not verdict.ours:
        _let_go(held)
        return command.tell("agent-run", errors.Failure(f"task {held.id}: {verdict.reason}", errors.TRY_AGAIN))
    if attempt.was_returned(held.claim.directory):
        held.claim.release()
        return command.tell("agent-run", errors.Failure(f"task {held.id} was given back meanwhile",
                                                        errors.TRY_AGAIN))
    end, reason, evidence = _classified(held, script.status, verdict)
    if not attempt.decide(held.claim.directory, end):
        end = attempt.outcome(held.claim.directory) or end
    crash_point("run:decided")
    held.manifest = manifest.with_key(held.manifest, "run", run_key(held.claim.directory, end, script.status, reason,
                                                                    evidence))
    return _report(held, values)


def of_failed(held: Any, values: Mapping[str, Any]) -> int:
    """The end of a task whose set-up failed (or was stopped): as its `failed` says; agent-run's exit code."""
    failed = held.manifest["failed"]
    end = failed.get("class") or "setup_failed"
    if not attempt.decide(held.claim.directory, end if end in ends.ENDS else "setup_failed"):
        held.claim.release()
        return command.tell("agent-run", errors.Failure(f"task {held.id} has ended already", errors.TRY_AGAIN))
    crash_point("run:decided")
    return _report(held, values)


def run_key(directory: str, end: str, status: int | None, reason: str, evidence: str) -> dict[str, Any]:
    """The value of `run`: {exit, end, reason, evidence, started, ended, seconds, pid, status}; times ISO 8601 UTC."""
    known = ends.ENDS[end].exit
    code = known if known is not None else (status if status is not None else 125)
    found: dict[str, Any] = {"exit": code, "end": end, "reason": reason, "evidence": evidence, "status": status,
                             "ended": _iso(time.time())}
    record = attempt.pid_record(directory)
    if record and record.split(" ")[0].isdigit():
        started = os.lstat(os.path.join(directory, "pid")).st_mtime
        found |= {"pid": int(record.split(" ")[0]), "started": _iso(started),
                  "seconds": round(time.time() - started, 3)}
    return found


def pins(line: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run repeatable, out of what the stages found."""
    fetch, patch, env = (line.get(key) or {} for key in ("fetch", "patch", "env"))
    found = {"commit": fetch.get("commit"), "diff": patch.get("diff"), "python": env.get("version"),
             "packages": env.get("packages")}
    return {**(line.get("pins") or {}), **{key: value for key, value in found.items() if value is not None}}


def _classified(held: Any, status: int | None, verdict: Verdict) -> tuple[str, str, str]:
    if verdict.end:
        return verdict.end, verdict.reason, ""
    if status is None:
        return "lost", "its process is gone and left no status: killed together with its shim from outside", ""
    if status == 137:
        from agentpipe import memory
        evidence = memory.evidence_of_kill(held.memory_mark)
        if evidence:
            return "out_of_memory", "killed by the kernel for lack of memory", evidence
    if status == 0:
        return "completed", "", ""
    if status in (126, 127):
        return "script_failed", f"the script could not be started (exit {status})", ""
    if status > 128:
        import signal
        try:
            return "script_failed", f"ended by {signal.Signals(status - 128).name}", ""
        except ValueError:
            pass
    return "script_failed", f"exit {status}", ""


def _report(held: Any, values: Mapping[str, Any]) -> int:
    line = held.manifest
    code = line["failed"]["exit"] if "failed" in line else line["run"]["exit"]
    try:
        attempt.store_manifest(held.claim.directory, manifest.write(line))
    except errors.Failure as failure:  # a full disk: outcome and exit.N stand all the same
        command.say(f"agent-run: {failure.reason}")
    crash_point("run:recorded")
    if held.api:
        try:
            done = held.finish(REPORT_TIMEOUT)
        except (errors.Interrupted, errors.Aborted):  # told to leave: what is missing stays for recovery
            done = False
        crash_point("run:reported")
        if done:
            held.claim.end()
        else:
            command.say("agent-run: the server is away; the next agent-pull or agent-report sends the rest")
    held.claim.release()
    _print(held, line)
    return 0 if values.get("supervised") else code


def _print(held: Any, line: dict[str, Any]) -> None:
    receipt = {("origin" if key == "pull" else key): value for key, value in line.items()}
    receipt["pins"] = pins(line)
    try:
        hooks.run("on-end", line, held.job)
    except errors.Failure as failure:
        held.job.say(failure.reason)
    if not os.isatty(1):
        try:
            command.put(manifest.write(receipt))
        except OSError as error:  # nobody reads it: the end is recorded, and the exit code is the task's
            command.say(f"agent-run: the receipt could not be written: {error.strerror}")
    elif "run" in line:
        command.say(f"agent-run: task {held.id}: {line['run']['end']}, exit {line['run']['exit']}")
    held.job.close()


def _let_go(held: Any) -> None:
    held.quiet()
    held.claim.end()
    held.claim.release()


def _iso(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}+00:00"
