"""The end of an attempt, told to the server: the rest of the log, why it ended, and the final status."""

from __future__ import annotations

import time

from agentpipe import ends, errors, paths, redact, secrets, terminal, untrusted
from agentpipe.claim import attempt, ranks, runtime
from agentpipe.crash import crash_point
from agentpipe.report import own_end, rest
from agentpipe.report.shipping import Shipper, is_outage, note_reported, read_reported
from agentpipe.settings import own_secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RECORD_KEY = "_agentpipe_end"
EVIDENCE = 8 << 10
# what clearml-agent says of them in status_reason
PEERS_WORDS = {"stopped by a user": "task was stopped by tasks.stop", "stopped by hand": "user abort"}
_SUBCODE_GONE = (101, 10)
_SUBCODE_CHANGED = 121
_SUBCODE_STATUS = 110
_SUBCODE_NO_QUEUE = (701, 707, 708)


def finish(api: Any, directory: str, deadline_s: float = 60, shipper: Shipper | None = None) -> None:
    """Ship the rest of an attempt that has an `outcome`, give its task the final status.

    A task that is no longer ours (deleted, reset, claimed by another agent) is left alone. It may be called
    again after a crash at any point. While the server is away it is tried again until `deadline_s` seconds
    are over; then its error is raised, as one is that no other try would change: what is left is for recovery, the
    link in `active/` stays. However long the log is: a server that takes it is not away. `shipper` is the one that this
    process has shipped the log with so far, which need not ask where to go on.
    """
    manifest = rest.known(directory)
    end = attempt.outcome(directory)
    if manifest is None:
        return
    if end is None:
        raise errors.Failure(f"{directory} has not ended", errors.TRY_AGAIN, remedy="wait for agent-run")
    reported = read_reported(directory)
    if reported.get("status") and reported.get("hooks"):
        return
    api = api.once()  # the loop below has the patience
    shipper = shipper or rest.shipper_of(api, manifest, directory)
    until, pause, sent = time.monotonic() + deadline_s, 0.25, shipper.sent
    try:
        while True:
            try:
                if not reported.get("status"):
                    _finish(api, shipper, directory, manifest, end)
                _on_end(shipper, directory, manifest)
                return
            except rest.NotOurs:
                return
            except (errors.Failure, errors.ApiError) as error:
                if shipper.sent > sent:  # it was there meanwhile: another outage
                    sent, until, pause = shipper.sent, time.monotonic() + deadline_s, 0.25
                if not is_outage(error) or time.monotonic() + pause > until:
                    raise
                shipper.doubt()
            time.sleep(pause)
            pause = min(2 * pause, 5.0)
    finally:
        shipper.close()


def _on_end(shipper: Shipper, directory: str, manifest: dict[str, Any]) -> None:
    """The operator's hooks, once and after the status is acknowledged; what they say still goes to the log."""
    from agentpipe import hooks
    from agentpipe.job import Job
    if not read_reported(directory).get("hooks"):
        if not hooks.find("on-end"):
            return
        try:
            # before they run: a webhook that is called twice is worse than one that is missed
            note_reported(directory, {"hooks": True})
        except errors.Failure:
            return
        job = Job(manifest, directory)
        try:
            hooks.run("on-end", manifest, job)
        except errors.Failure as failure:
            job.say(failure.reason)
        job.close()
    shipper.ship(final=True)


def end_record(directory: str, manifest: dict[str, Any], end: str) -> dict[str, Any]:
    """{claim, class, exit, stage, reason, evidence, remedy, advice} of an attempt: what `agent-task why` tells.

    `remedy` is a command that can be typed as it is, or None; `advice` is in words, or None.
    """
    kind = ends.ENDS[end]
    failed, run = manifest.get("failed") or {}, manifest.get("run") or {}
    status = run.get("exit", attempt.exit_status(directory))
    if failed.get("class") == end:
        found = failed
    else:
        reason = run.get("reason") if run.get("end") == end else None
        if end == "script_failed" and not reason and status:
            reason = own_end.reason(directory, status)
        found = {"stage": "run", "exit": status if kind.exit is None else kind.exit,
                 "reason": reason or _reason(end, status) or kind.when}
    evidence = found.get("evidence") or ("" if end == "completed" else _last_lines(directory))
    remedy, advice = _remedy(manifest, found, kind)
    clear = redact.Redactor(own_secrets.known() | secrets.carried(manifest["task"], directory)).text
    return {"claim": manifest["pull"]["claim"], "class": end, "stage": found.get("stage"),
            "exit": found.get("exit", kind.exit), "reason": clear(found["reason"]),
            "evidence": clear(evidence)[-EVIDENCE:],
            "remedy": clear(remedy) or None, "advice": clear(advice) or None, **_measured(manifest)}


def _measured(manifest: dict[str, Any]) -> dict[str, Any]:
    """{stages, pins}: where the seconds went, and what it ran with; what is not known is left out."""
    from agentpipe.report import timing
    found = {"stages": timing.stages(manifest), "pins": timing.pins(manifest)}
    return {key: value for key, value in found.items() if value}


def _finish(api: Any, shipper: Shipper, directory: str, manifest: dict[str, Any], end: str) -> None:
    found = None if ranks.is_follower(manifest) else rest.ours(api, manifest)
    try:
        shipper.ship(final=True)
    except errors.ApiError as error:
        if is_outage(error):
            raise
        # refused for good (published or deleted meanwhile): the status can be right all the same
    if found is None:  # its log is all that it tells
        note_reported(directory, {"status": "the leader's"})
        return
    crash_point("report:shipped")
    record = end_record(directory, manifest, end)
    try:
        _record(api, manifest, record, found)
        crash_point("report:recorded")
        _status(api, manifest, record, found, shipper.server_knows)
    except errors.ApiError as error:
        if error.subcode in _SUBCODE_GONE or error.subcode == _SUBCODE_CHANGED:
            raise rest.NotOurs from None
        # changed by somebody else, who knows why; anything else is for the caller
        if error.subcode != _SUBCODE_STATUS:
            raise
    crash_point("report:status")
    try:
        note_reported(directory, {"status": ends.ENDS[end].status})
    except errors.Failure:
        pass  # a full disk: the server has it all the same


def _record(api: Any, manifest: dict[str, Any], record: dict[str, Any], found: dict[str, Any]) -> None:
    if _is_recorded(found, record):
        return
    values: dict[str, Any] = {RECORD_KEY: record}
    if runtime.OF_THE_SDK not in found["runtime"] and record["stage"] == "run":  # else the script has told it
        from agentpipe.report import metrics
        values |= metrics.machine(manifest)
    try:
        runtime.merge(api, manifest["task"]["id"], record["claim"], values)
    except errors.ApiError as error:
        # a task that somebody stopped takes no more keys; its log says what happened
        if error.subcode != _SUBCODE_STATUS:
            raise


def _is_recorded(found: dict[str, Any], record: dict[str, Any]) -> bool:
    return (found["runtime"].get(RECORD_KEY) or {}).get("claim") == record["claim"]


def _status(api: Any, manifest: dict[str, Any], record: dict[str, Any], found: dict[str, Any],
            server_knows: bool) -> None:
    wanted, now = ends.ENDS[record["class"]].status, found.get("status")
    requeue = (manifest.get("run") or {}).get("requeue")  # by policy: not that which is usual for this end
    if requeue is not None:
        wanted = "queued" if requeue else "stopped"
    if now not in ("in_progress", "queued") or now == wanted:
        return
    if now == "queued" and found.get("enqueue_status") == wanted and _is_recorded(found, record):
        return  # it ended before a crash of ours, and somebody has enqueued it again since
    task, pull = manifest["task"]["id"], manifest["pull"]
    body = {"task": task, "claim": pull["claim"],
            "status_reason": _reason(record["class"], record["exit"])
            or PEERS_WORDS.get(record["reason"]) or record["reason"],
            "status_message": f"Changed by agentpipe {pull.get('worker') or ''}".rstrip()}
    if wanted != "queued":
        # a task that never got as far as `started` cannot fail by the table
        api.call(f"tasks.{wanted}", body | {"force": now == "queued"})
        return
    queue = {"queue": pull["queue"]} if pull.get("queue") else {}
    try:
        api.call("tasks.enqueue", body | queue | {"force": True, "front": True})
    except errors.ApiError as error:
        if error.subcode not in _SUBCODE_NO_QUEUE:
            raise
        api.call("tasks.stopped", body | {"status_reason": f"{body['status_reason']}; its queue is gone"})
        return
    if queue and not server_knows:
        try:
            api.call("queues.move_task_to_front", {"task": task, **queue})
        except errors.ApiError:
            pass  # it waits at the end then


def _remedy(manifest: dict[str, Any], found: dict[str, Any], kind: ends.End) -> tuple[str, str]:
    """(a command, words). A command is the change of the task that mends it, else what the table of ends says.

    What a stage says to do is words: it may name a command, but where and when to type it only its reader knows.
    """
    import re
    id, inside = manifest["task"]["id"], bool((manifest.get("place") or {}).get("prefix"))
    # a stage says which option, and not of which task
    advice = re.sub(r"\bagent-task edit (?:TASK )?(?=--)", f"agent-task edit {id} ",
                    found.get("remedy") or kind.advised(inside))
    if found.get("change"):
        import shlex
        command = f"agent-task edit {id} {shlex.join(found['change'])} && agent-task enqueue {id}"
        if tuple(found["change"]) != errors.CODE_ANEW:
            return command, advice
        return "", f"{advice}; then, in its checkout: {command}"
    if kind.name == "setup_failed":
        return ("" if advice else f"agent-task log {id}"), advice
    return kind.remedy.format(id=id), advice


def _reason(end: str, status: int | None) -> str | None:
    """The words that ClearML's agent has for this end."""
    if end == "completed":
        return "worker execution done"
    if end == "script_failed":
        return f"worker execution exit code {status}"
    return None


def _last_lines(directory: str) -> str:
    """The end of what the script printed, as a terminal shows it; of one that never started what the agent did."""
    log = (paths.box(directory), "log")
    for found in (log,) if attempt.pid_record(directory) else (log, (directory, "setup.log")):
        try:
            data = untrusted.tail(*found, EVIDENCE).replace(b"\0", b"")  # a hole: a terminal shows nothing of it either
        except OSError:
            continue
        if data.strip():
            fold = terminal.Fold()
            return (fold.feed(data) + fold.snapshot()).strip("\n")
    return ""
