"""The end of a task: decide it once, record it, report it, and print the receipt."""

from __future__ import annotations

import os
import time

from agentpipe import ends, errors, failures, gpus, hooks, manifest, paths, processes, secrets, stdio, units, untrusted
from agentpipe.claim import attempt
from agentpipe.crash import crash_point
from agentpipe.report import own_end
from agentpipe.run import hold, monitor, script, services
from agentpipe.settings import checks, own_secrets
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agentpipe.held import Held
    from agentpipe.run.monitor import Verdict

PATIENCE_S = 60.0  # with a server that is away; then the next agent-pull or agent-report sends the rest
MAX_LOST = 3
ITS_OWN = ("script_failed", "out_of_memory", "time_limit", "stalled", "lost")  # what nobody has asked for
AWAY = 76  # to a supervisor: what the set-up needed (a repository, an index) was away, and may be for the next task too


def of_script(held: Held, verdict: Verdict, values: Mapping[str, Any]) -> int:
    """The end of a script that is over (or was left running); agent-run's exit code."""
    directory, status = held.claim.directory, held.script.status if held.script else None
    SIGNALS.take_aborts(False)  # it is over: a stop that comes now does not keep its end from being told
    if verdict.left:
        held.release()
        return 129
    kind, known = held.place.evidence(status)
    if not verdict.ours:
        held.let_go()
        raise errors.LetGo(f"task {held.id}: {verdict.reason}")
    if attempt.was_returned(directory):
        held.leave_place()
        held.release()
        if held.script and held.script.never_began:
            entering = " ".join(held.place.prefix)
            raise errors.Failure(f"task {held.id}: its place could not be entered: `{entering}` ended with "
                                 f"{held.script.never_began}", errors.TRY_AGAIN,
                                 remedy=f"agent-task log --stream setup {held.id}")
        raise errors.Failure(f"task {held.id} was given back meanwhile", errors.TRY_AGAIN)
    if attempt.never_began(directory):
        held.release()
        said = _of_shell(directory)
        remedy = "install util-linux, or add where it is to PATH" if "setsid" in said else f"df -i {directory}"
        raise errors.Failure(f"task {held.id}: its script could not be started (exit {status} of the shell above it"
                             f"{said and ': '}{said}); the next agent-pull gives it back", errors.TRY_AGAIN,
                             remedy=remedy)
    gone = not os.path.isdir(directory)
    os.makedirs(directory, 0o700, exist_ok=True)  # a script may have deleted it: its end is recorded all the same
    if status:
        own_end.look(directory)
        verdict = monitor.asked_meanwhile(held, verdict)
    end, reason, evidence = _classified(directory, status, verdict, kind, known)
    if gone and end == "lost" and not known:
        reason = f"{directory} was deleted while the script ran, and with it its status and its log"
    if not gone and not _has_log(directory):
        held.job.say(f"agent-run: {paths.box(directory)}/log is no regular file: what the script printed is lost")
    keep = hold.wanted(held, end, values)
    if not keep:
        held.leave_place()
        crash_point("run:left")
    if not attempt.decide(directory, end):
        end = attempt.outcome(directory) or end
    crash_point("run:decided")
    run = run_key(directory, end, status, reason, evidence)
    if not verdict.requeue:
        run["requeue"] = False
    elif end == "lost" and queued_when_lost(held.id, values["on_lost"]):
        run["requeue"] = True
    held.use(manifest.with_key(held.manifest, "run", run))
    try:
        with SIGNALS.open():
            held.use(hooks.run("post-run", held.manifest, held.job))
    except errors.Failure as failure:  # the script has ended: it is only said
        held.job.say(failure.reason)
    except errors.Interrupted:
        held.job.say("agent-run: told to leave before the hooks post-run were over")
    return _report(held, values, keep)


def _of_shell(directory: str) -> str:
    """The last line of the log of a script that never began: the shell's above it."""
    try:
        lines = untrusted.read(paths.box(directory), "log").decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return own_secrets.hidden(lines[-1]) if lines else ""


def _has_log(directory: str) -> bool:
    try:
        os.close(untrusted.opened(paths.box(directory), "log"))
    except OSError:  # the script has deleted it, or put something else in its place
        return False
    return True


def of_failed(held: Held, values: Mapping[str, Any]) -> int:
    """The end of a task whose set-up failed (or was stopped): as its `failed` says; agent-run's exit code."""
    SIGNALS.take_aborts(False)
    end = held.manifest["failed"].get("class") or "setup_failed"
    if not attempt.decide(held.claim.directory, end if end in ends.ENDS else "setup_failed"):
        held.release()
        raise errors.Failure(f"task {held.id} has ended already", errors.TRY_AGAIN)
    secrets.forget_script(held.claim.directory)
    crash_point("run:decided")
    return _report(held, values)


def run_key(directory: str, end: str, status: int | None, reason: str, evidence: str) -> dict[str, Any]:
    """The value of `run`: {exit, end, reason, evidence, started, ended, seconds, pid, status, driver}; times ISO 8601
    UTC."""
    known = ends.ENDS[end].exit
    code = known if known is not None else (status if status is not None else 125)
    ended = attempt.ended_at(directory) or time.time()
    found: dict[str, Any] = {"exit": code, "end": end, "reason": own_secrets.hidden(reason),
                             "evidence": own_secrets.hidden(evidence), "status": status, "ended": units.iso(ended)}
    record = attempt.pid_record(directory)
    started = attempt.began_at(directory)
    if started is not None and record and record.split(" ")[0].isdigit():
        ran = script.running_for(directory) if record.endswith(processes.boot_id()) else None
        # by the clock that never jumps, where that is this boot's
        seconds = ended - started if ran is None else ran - (time.time() - ended)
        found |= {"pid": int(record.split(" ")[0]), "started": units.iso(started),
                  "seconds": round(max(0.0, seconds), 3)}
    version = gpus.driver()
    return found | {"driver": version} if version else found


def queued_when_lost(task: str, policy: str | None) -> bool:
    """Whether a lost task goes back to its queue: by --on-lost or AGENT_ON_LOST, `fail` or `requeue`.

    The third time that this node loses it, it fails: a task may be what takes the node down.
    """
    return checks.lost_policy(policy) == "requeue" and attempt.lost_attempts(task) < MAX_LOST


def _classified(directory: str, status: int | None, verdict: Verdict, kind: str,
                known: str) -> tuple[str, str, str]:
    if verdict.end:
        return verdict.end, verdict.reason, ""
    if kind == "out_of_memory":
        from agentpipe.place import memory
        return "out_of_memory", f"killed by the kernel for lack of memory{memory.said(known)}", known
    if status is None or kind == "lost":
        return "lost", known.split("\n")[0] or ("its shim is gone and left no status: how the script ended is not "
                                                "known; its log says how far it came"), known
    if status == 0:
        return "completed", "", ""
    return "script_failed", own_end.reason(directory, status, known), ""


def _report(held: Held, values: Mapping[str, Any], keep: bool = False) -> int:
    line = held.manifest
    code = line["failed"]["exit"] if "failed" in line else line["run"]["exit"]
    try:
        attempt.store_manifest(held.claim.directory, manifest.write(line))
    except errors.Failure as failure:  # a full disk: outcome and exit.N stand all the same
        stdio.say(f"agent-run: {failure.reason}")
    crash_point("run:recorded")
    told = False
    if held.api:
        told = _tell_server(held)
    else:
        try:
            with SIGNALS.open():
                hooks.run("on-end", line, held.job)
        except errors.Failure as failure:
            held.job.say(failure.reason)
        except errors.Interrupted:
            held.job.say("agent-run: told to leave before the hooks on-end were over")
        secrets.forget(held.claim.directory)
    if keep:
        hold.hold(held, values)
    held.release()
    printed = _print(held, line)
    if told:
        services.again(held)
    failed = line.get("failed", {})
    if not values["supervised"] or failed.get("of_machine"):
        return code
    if failed.get("exit") == errors.UNAVAILABLE and failed.get("class") == "setup_failed":
        return AWAY
    return 0 if printed else errors.CANNOT_CREATE


def _tell_server(held: Held) -> bool:
    """Send the rest; whether all is sent. What cannot be sent now stays for the next agent-pull or agent-report."""
    why = ""
    try:
        with SIGNALS.open():
            held.finish(PATIENCE_S)
    except (errors.Interrupted, errors.Aborted):
        why = "told to leave"
    except (errors.Failure, errors.ApiError) as error:
        why = own_secrets.hidden(failures.as_failure("agent-run", error).reason)
    crash_point("run:reported")
    if why:
        stdio.say(f"agent-run: {why}; the next agent-pull or agent-report sends the rest")
    else:
        held.claim.end()
    return not why


def _print(held: Held, line: dict[str, Any]) -> bool:
    """Print the receipt; whether it could be. Nobody may read it: the end is recorded, and counts."""
    receipt = {("origin" if key == "pull" else key): value for key, value in line.items()}
    receipt["pins"] = manifest.pins(line)
    printed = True
    if not os.isatty(1):
        try:
            stdio.put(manifest.write(receipt))
        except OSError as error:
            printed = False
            stdio.say(f"agent-run: the receipt could not be written: {error.strerror}")
    if "run" in line and (held.job.watched or line["run"]["end"] in ITS_OWN):
        stdio.say(f"agent-run: {_in_a_line(held, line['run'])}")
    return printed


def _in_a_line(held: Held, run: Mapping[str, Any]) -> str:
    """How a script has ended, and where to ask why. Of what failed by itself it is said also where nobody watches: cron
    sends what is printed, and knows no status."""
    said, reason = f"task {held.id}: {run['end']}, exit {run['exit']}", str(run.get("reason") or "").split("\n")[0]
    if run["end"] not in ITS_OWN:
        return said
    more = "" if reason == f"exit {run['exit']}" else f": {reason}"
    ask = f"agent-task why {held.id}" if held.api else f"cat {paths.box(held.claim.directory)}/log"
    return f"{said}{more} ({ask})"
