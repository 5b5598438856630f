"""What this node left behind: every claim in `active/` that nobody holds is finished, given back or taken over."""

from __future__ import annotations

import errno
import os
import time

from agentpipe import ends, errors, failures, held, manifest, place, stdio
from agentpipe.claim import attempt, claims, holders, intents, on_server, ranks
from agentpipe.crash import crash_point
from agentpipe.pull import still_ours
from agentpipe.report import own_end
from agentpipe.run import ending, script
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Say = Callable[[str], object]

MAX_ATTEMPTS = 3
PATIENCE_S = 10.0  # with a server that is away: the next pull looks again
GRACE = 10.0


def recover(api: Any, owner: int | None = None, only: str | None = None, say: Say | None = None,
            on_lost: str | None = None) -> claims.Claim | None:
    """Go through `active/`; the claim (locked) of one script that still runs unwatched, if there is one.

    `only` names a task: no other is touched. `on_lost` is as in ending.queued_when_lost(). `say` gets what was done;
    what went wrong is always told. A server that is away leaves everything for the next time (Failure 69); one task's
    trouble keeps no other from being done. Signals are heeded between two tasks.
    """
    for token in sorted(os.listdir(claims.active())):
        with SIGNALS.open():
            pass
        try:
            found = _recover_entry(api, token, owner, only, say or (lambda _: None), on_lost)
            if found:
                return found
        except Exception as error:
            if isinstance(error, errors.Failure) and errors.is_away(error):
                raise
            # somebody else was quicker: it is gone, or the intent has become a link
            if not (isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ELOOP)):
                _tell(token, error)
    return None


def _tell(token: str, error: Exception) -> None:
    failure = failures.as_failure("agent-pull", error)
    if failure.exit == errors.BUG and os.environ.get("AGENT_DEBUG"):
        raise error
    stdio.say(f"agent-pull: the task of claim {token} cannot be recovered: {failure}")


def _recover_entry(api: Any, token: str, owner: int | None, only: str | None, say: Say,
                   on_lost: str | None) -> claims.Claim | None:
    path = claims.active(token)
    if len(token) != 32:
        _remove_if_old(path)
    elif not os.path.islink(path):
        if not only:
            intents.recover(api, token)
    elif only is None or os.path.basename(os.readlink(path)).rpartition(".")[0] == only:
        return _recover_attempt(api, token, os.readlink(path), owner, say, on_lost)
    return None


def _recover_attempt(api: Any, token: str, directory: str, owner: int | None, say: Say,
                     on_lost: str | None) -> claims.Claim | None:
    try:
        fd = claims.lock(directory, 0)
    except FileNotFoundError:  # the directory was deleted by hand: nothing is known of a script
        _recover_deleted(api, token, directory, say, on_lost)
        return None
    if fd is None:
        return None
    claim = claims.found_again(directory, token, fd)
    running = False
    try:
        if os.path.islink(claims.active(token)) and not holders.is_held(directory, owner):
            if holders.is_untaken(directory, owner) and attempt.forbid_start(directory, attempt.HANDED_BACK):
                attempt.note_return(directory, "the stage that was started for it ended before it took it")
            running = _recover_claim(api, claim, say, on_lost)
        return claim if running else None
    finally:
        if not running:
            claim.release()


def _recover_claim(api: Any, claim: claims.Claim, say: Say, on_lost: str | None) -> bool:
    """Nobody has it, and its lock is ours; True when its script still runs and is to be watched again."""
    directory = claim.directory
    task = os.path.basename(directory).rpartition(".")[0]
    line = attempt.read_manifest(directory) or {}
    server = claim.server or (line.get("pull") or {}).get("server")
    if server != api.server_id and (server or not still_ours.knows(api, task)):
        return False  # a task of another server, which is not asked now
    where = place.of(line, directory)
    runs = attempt.outcome(directory) is None and attempt.exit_status(directory) is None \
        and (attempt.shim_lives(directory) or script.lives(directory, where))
    if ranks.is_follower(line):
        message = still_ours.message_while_runnable(api, task)
    else:
        message = still_ours.message_if_ours(api, task, claim.token or "", claim.worker, _may_be(directory, runs))
    if message is None:
        if runs:
            say(f"task {task}: somebody else decides about it now; ending its script, which still runs")
            _sweep(directory, where, runs)
        _ship_rest(api, directory)
        held.let_go(claim, say)
        return False
    if runs:
        say(f"task {task}: its script still runs; taking it over")
        return True
    if attempt.pid_record(directory) and not attempt.was_returned(directory):
        _sweep(directory, where)
    known = where.evidence(attempt.exit_status(directory)) if where.prefix else ("", "")
    place.leave(directory, say)
    _finish_or_return(api, claim, task, message == "stopping", known, say, on_lost)
    return False


def _may_be(directory: str, runs: bool) -> tuple[str, ...]:
    """The statuses that a task of ours may have whose attempt has come so far."""
    if attempt.outcome(directory):
        return still_ours.TOLD  # of which its hooks may not have been told yet
    ran = runs or (attempt.pid_record(directory) is not None and not attempt.was_returned(directory))
    return still_ours.MARKED if ran else still_ours.OPEN


def _ship_rest(api: Any, directory: str) -> None:
    """What a task has printed that is somebody else's to end now, if it still carries our claim and takes any more.

    A log may be long: a signal leaves the rest of it to the next pull.
    """
    from agentpipe.report import rest, shipping
    try:
        with SIGNALS.open():
            rest.ship(api, directory)
    except errors.ApiError as error:
        if shipping.is_outage(error):
            raise


def _sweep(directory: str, where: place.Place, runs: bool = False) -> None:
    """End what a script that is over has left behind; or first the script, which `runs` and which nobody wants."""
    left = script.taken_over(directory, where)
    if runs:
        left.stop(GRACE)
    else:
        left.wait(2 * script.SHIM_WRITES if where.prefix else 0)  # for a status that is being written there
    left.sweep()


def _finish_or_return(api: Any, claim: claims.Claim, task: str, unwanted: bool, known: tuple[str, str],
                      say: Say, on_lost: str | None) -> None:
    """Nothing runs any more: report the end that it came to, or give it back if it never started.

    `unwanted`: a user has asked for its end meanwhile; `known`: what its place says of the end.
    """
    directory = claim.directory
    record = attempt.pid_record(directory)
    ended = attempt.exit_status(directory) is not None and record != attempt.GIVEN_BACK
    if attempt.outcome(directory) is None and (not ended or attempt.never_began(directory)):
        if record is None and attempt.forbid_start(directory, attempt.GIVEN_BACK):
            record = attempt.GIVEN_BACK
            crash_point("recover:forbidden")
        if record is None:
            return  # a script started this very moment: look again next time
        if record in attempt.RETURNED and ranks.is_follower(attempt.read_manifest(directory)):
            claim.end()  # there is nothing to give back
            return
        counts = record == attempt.GIVEN_BACK
        if not unwanted and record in attempt.RETURNED and not (
                counts and attempt.failed_attempts(task) >= MAX_ATTEMPTS):
            why = (not counts and attempt.return_reason(directory)) or "its agent died before the script started"
            say(f"task {task}: given back to its queue, {why}")
            line = attempt.read_manifest(directory) or {}
            queue = (line.get("pull") or {}).get("queue") or still_ours.queue(api, task)
            on_server.enqueue_again(api, task, queue, claim.token or "", why)
            crash_point("recover:enqueued")
            claim.end()
            attempt.clear(directory)
            return
    _decide(api, claim, task, record, unwanted, known, on_lost)
    crash_point("recover:decided")
    _report(api, claim, task, say)


def _report(api: Any, claim: claims.Claim, task: str, say: Say) -> None:
    """Tell the end that is decided; once that is acknowledged, nothing is left to recover.

    A log may be long: a signal leaves the rest of it to the next pull.
    """
    say(f"task {task}: reporting that it ended: {attempt.outcome(claim.directory)}")
    from agentpipe.report import finish, shipping
    try:
        with SIGNALS.open():
            finish.finish(api, claim.directory, PATIENCE_S)
    except (errors.Failure, errors.ApiError) as error:
        if not shipping.is_outage(error):
            raise
        say(f"task {task}: not yet: {error}")
        return
    claim.end()


def _decide(api: Any, claim: claims.Claim, task: str, record: str | None, unwanted: bool,
            known: tuple[str, str], on_lost: str | None) -> None:
    """Make sure that outcome and manifest say how it ended."""
    directory = claim.directory
    status = None if record == attempt.GIVEN_BACK else attempt.exit_status(directory)
    lost = "aborted" if unwanted else "lost"
    if unwanted and status != 0:
        reason = "stopped by a user"
    elif record == attempt.GIVEN_BACK:
        reason = (f"set-up was begun {MAX_ATTEMPTS} times on this machine, and each time its agent died, or the place "
                  "it had made could not be entered")
    else:
        reason = "" if status is not None else known[1].split("\n")[0] or "its process is gone and left no status"
    strange = attempt.strange_outcome(directory)
    if strange:
        reason = f"its end stands as {strange}, which is none that this version knows"
        stdio.say(f"agent-pull: task {task}: {reason}: taken as {attempt.outcome(directory)}")
    by_itself = lost if status is None or (unwanted and status) else ends.of_exit(status)
    attempt.decide(directory, known[0] or by_itself)
    line = attempt.read_manifest(directory) or {
        "manifest": manifest.VERSION, "task": {"id": task},
        "pull": {"server": api.server_id, "claim": claim.token, "worker": claim.worker}}
    if "run" not in line and "failed" not in line:
        end = attempt.outcome(directory) or lost
        evidence = known[1]
        if end == "script_failed" and status and not strange:  # why, the last lines of its log show
            reason, evidence = own_end.reason(directory, status, evidence), ""
        run = ending.run_key(directory, end, status, reason, evidence)
        if end == "lost" and record != attempt.GIVEN_BACK and ending.queued_when_lost(task, on_lost):
            run["requeue"] = True
        line = manifest.with_key(line, "run", run)
        attempt.store_manifest(directory, manifest.write(line))


def _recover_deleted(api: Any, token: str, directory: str, say: Say, on_lost: str | None) -> None:
    """Its directory was deleted by hand: a task that is still ours is lost, and its end recorded as every other."""
    ours = [task for task in on_server.by_token(api, token, ["id", "status"])
            if task["status"] in ("queued", "in_progress")]
    if not ours:
        os.unlink(claims.active(token))
        return
    task = ours[0]["id"]
    os.makedirs(directory, 0o700, exist_ok=True)
    fd = claims.lock(directory, 0)
    if fd is None:
        return
    claim = claims.Claim(directory, token, fd)
    try:
        attempt.decide(directory, "lost")
        why, queue = "its directory on this machine was deleted", still_ours.queue(api, task)
        run = ending.run_key(directory, "lost", None, why, "")
        if ending.queued_when_lost(task, on_lost):
            run["requeue"] = True
            if ours[0]["status"] == "queued":  # it never began: no change of its status puts it into its queue
                on_server.enqueue_again(api, task, queue, token, f"lost: {why}")
                claim.end()
                return
        attempt.store_manifest(directory, manifest.write({
            "manifest": manifest.VERSION, "task": {"id": task}, "run": run,
            "pull": {"server": api.server_id, "queue": queue, "claim": token, "worker": ""}}))
        _report(api, claim, task, say)
    finally:
        claim.release()


def _remove_if_old(path: str) -> None:
    """The temporary name of a link whose maker died."""
    if not 0 <= time.time() - os.lstat(path).st_mtime <= 60:
        os.unlink(path)
