"""How a stage does its part on one line: take the task, run hooks and the work, hand it on.

A stage that is not swapped runs in the caller's process; swapped.py runs a command in its place.
"""

from __future__ import annotations

import os
import time

from agentpipe import errors, failures, files, hooks, manifest, place, stdio, swapped, tools, units
from agentpipe.claim import attempt, claims, holders
from agentpipe.crash import crash_point
from agentpipe.held import Held
from agentpipe.settings import own_secrets
from agentpipe.signals import EXITS, SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.job import Job

    Work = Callable[[Job], dict[str, Any]]


MOST_RETURNS = {attempt.NOT_HERE: 3, attempt.NOT_NOW: 10}  # in a row: the last is an end, or its queue waited for ever


def each(name: str, steps: Callable[[Held], Any], raw: bytes, values: dict[str, Any],
         end: Callable[[Held], int] | None = None, check: Callable[[dict[str, Any]], object] | None = None) -> int:
    """One line through stage `name`; the exit code.

    `steps(held)` does the work, open to signals; then the line is handed on, or `end(held)` ends it (agent-run: it
    also gets lines that failed before, and scripts that run already). Whatever goes wrong, the task is handed on with
    `failed`, given back, or left for recovery. `check(values)` is a Failure for options that cannot be meant.
    """
    try:
        line = manifest.read(raw)
    except errors.Failure as failure:
        if failure.remedy == manifest.SHOW_SCHEMA:
            failure.remedy = f"agent-{name} --schema"
        raise
    if check:
        try:
            check(values)
        except errors.Failure as failure:
            if holders.ends_with_us(line):
                _give_back(line, f"agent-{name}: {failure}")
            raise
    if "failed" in line and (end is None or "task" not in line):
        if is_receipt(line):
            stdio.say(own_secrets.hidden(
                f"agent-{name}: passed on: the receipt of task {line['task'].get('id')}, which failed in "
                f"agent-{line['failed'].get('stage')}: {line['failed'].get('reason')} (jq -c 'del(.failed)' has it "
                "done again)"))
        stdio.put(raw + b"\n")
        is_fine = values.get("supervised") and line["failed"].get("class") == manifest.LET_GO
        return 0 if is_fine else line["failed"]["exit"]
    goes_back = "failed" not in line and holders.ends_with_us(line)  # what keeps us from beginning is not its fault
    try:
        held = Held(line if "failed" in line and "id" in line["task"] else identified(line), name, values)
    except (errors.Failure, errors.ApiError) as error:
        if goes_back and _is_not_of_task(error):
            _hand_back(line, name, f"agent-{name}: {error}")
        raise
    try:
        return _through(held, steps, values, end)
    except Exception as error:
        if goes_back and not held.begun and _is_not_of_task(error):
            claims.hand_back(held.claim, own_secrets.hidden(f"agent-{name}: {error}"))
        held.release()  # whatever it was: somebody else's now, or for recovery
        raise


def _is_not_of_task(error: Exception) -> bool:
    return errors.is_away(error) or (isinstance(error, errors.Failure) and error.of_machine)


def _hand_back(line: dict[str, Any], name: str, why: str) -> None:
    try:
        claims.hand_back(claims.take(line, name), own_secrets.hidden(why))
    except errors.Failure:  # it is somebody else's already
        pass


def _through(held: Held, steps: Callable[[Held], Any], values: dict[str, Any],
             end: Callable[[Held], int] | None) -> int:
    name = held.stage
    if "failed" not in held.manifest:
        if held.started and end is None:
            held.job.say(f"agent-{name}: the script runs already; passed on")
        else:
            _do(held, steps, values.get("setup_limit"))
        if held.dry:
            held.put_down()
            return 0
    if end:
        return end(held)
    held.hand_on()
    return held.manifest["failed"]["exit"] if "failed" in held.manifest else 0


def step(held: Held, stage: str, key: str, work: Work) -> None:
    """One stage on this task, hooks included: in this process, or the command that stands for it."""
    command = os.environ.get("AGENT_STAGE_" + stage.upper())
    hook(held, f"pre-{stage}")
    began, clock = time.time(), time.monotonic()
    try:
        if command and stage != held.stage:
            swapped.through(held, stage, key, command)
        else:
            add(held, key, timed(work, held.job))
    except errors.Failure as failure:
        failure.stage = stage
        failure.timed = {"began": units.iso(began), "seconds": round(time.monotonic() - clock, 3)}
        raise
    except errors.OutOfTime as over:
        over.stage = stage
        raise
    hook(held, f"post-{stage}")
    crash_point(f"{stage}:done")


def timed(work: Work, job: Job) -> dict[str, Any]:
    """A stage's value, with when it `began`."""
    began = time.time()
    try:
        return {**work(job), "began": units.iso(began)}
    except tools.ToolFailed as failed:
        raise tools.out_of_room(failed) or failed from None
    except OSError as error:
        failure = files.of_disk(error)
        if failure is None:
            raise
        raise failure from None


def add(held: Held, key: str, value: dict[str, Any]) -> None:
    """A stage's key; those of later stages are dropped."""
    held.use(manifest.with_key(held.manifest, key, value))


def add_before(held: Held, key: str, value: dict[str, Any]) -> None:
    """The same for a key whose later stages were done first: theirs stay."""
    line = held.manifest
    held.use({**manifest.with_key(line, key, value), **{name: line[name] for name in manifest.later(key)
                                                       if name in line}})


def renew(held: Held, key: str) -> None:
    """Take a stage's key away, and those of later stages: they are all done again."""
    gone = (key, *manifest.later(key))
    held.use({name: value for name, value in held.manifest.items() if name not in gone})


def hook(held: Held, name: str) -> None:
    """Run the operator's hooks of this name on the manifest; none of them in a dry run."""
    if not held.dry:
        held.use(hooks.run(name, held.manifest, held.job))


def identified(line: dict[str, Any]) -> dict[str, Any]:
    """A task by hand gets a `local-…` id of its own (a new one when its receipt is run again)."""
    if "pull" in line:
        return line
    task = line["task"]
    if str(task.get("id", "")).startswith("local-") and "run" not in line:
        return line
    fresh = {name: value for name, value in line.items() if name not in ("run", "origin")}
    return {**fresh, "manifest": manifest.VERSION, "task": {**task, "id": "local-" + os.urandom(6).hex()}}


def is_receipt(line: dict[str, Any]) -> bool:
    """Whether agent-run has ended the task of this line: a task by hand has its end in its directory."""
    task = str(line["task"].get("id") or "") if "task" in line and "pull" not in line else ""
    if not task.startswith("local-"):
        return bool(task) and "origin" in line
    try:
        return attempt.outcome(attempt.latest(task) or "") is not None
    except errors.Failure:  # of a home that cannot be used, which is not for whoever passes a line on
        return False


def give_back_line(raw: bytes, why: str, only_ours: bool = False) -> None:
    """We shall not look at this line: its task goes back to its queue, `only_ours`: if nobody else has it."""
    if not raw.strip():
        return
    try:
        line = manifest.read(raw)
    except errors.Failure:
        return
    if not only_ours or holders.ends_with_us(line):
        _give_back(line, why)


def _give_back(line: dict[str, Any], why: str) -> None:
    if "failed" in line or "pull" not in line:
        return
    try:
        held = Held(line, "stopped")
    except claims.NotOurs:
        return
    except (errors.Failure, errors.ApiError):
        _hand_back(line, "stopped", why)
        return
    if held.started:
        held.release()
    else:
        held.give_back(own_secrets.hidden(why))


def _do(held: Held, steps: Callable[[Held], Any], limit: float | None) -> None:
    """The work, open to signals, for up to `limit` seconds. What fails stands in the line afterwards.

    Raised is what leaves no line to hand on: then the task is given back (as when this machine is wrongly configured:
    the others of its queue would be the next to fail here), or let go.
    """
    try:
        with SIGNALS.open():
            _begin(held)
            held.begun = not held.started  # what runs already does not fail by its line
            if held.stage != "prepare" and not held.dry:
                place.check(held.manifest)
            held.begun = True
            with SIGNALS.limited(limit):
                steps(held)
    except errors.Interrupted as told:
        queued, started = bool(held.claim.token), held.started
        if not started:
            stdio.say(f"agent-{held.stage}: told to stop" + (
                f"; task {held.id} goes back to its queue" if queued else ""))
        held.give_back("told to stop")
        SIGNALS.forget()
        if not (started or held.dry or queued):  # nobody else has it
            failures.tell_stage(f"agent-{held.stage}", errors.Failure("told to stop", EXITS[told.signum]),
                                held.manifest)
            told.silent = True
        raise
    except errors.OutOfTime as over:
        late = errors.Failure(f"set-up took longer than {limit:g} s", 124,
                              remedy="raise --setup-limit of agent-prepare, or fill the caches before")
        late.stage = over.stage
        _tell_failure(held, late, "time_limit")
        held.leave_place()
    except errors.Aborted as aborted:
        held.use(_aborted(held, aborted))
        held.leave_place()
    except errors.Failure as failure:
        if isinstance(failure, (claims.NotOurs, swapped.GivenBack)) or not held.begun:
            raise
        record = attempt.NOT_NOW if failure.exit == errors.TRY_AGAIN else attempt.NOT_HERE
        if isinstance(failure, swapped.StageFailed) and record == attempt.NOT_NOW:
            record = attempt.HANDED_BACK  # an operator's "not now" is meant, however often
        if held.dry or (held.claim.token and failure.of_machine and not _is_last_return(held, record)):
            held.give_back(own_secrets.hidden(str(failure)), record)
            raise
        _tell_failure(held, failure)
        held.leave_place()


def _is_last_return(held: Held, record: str) -> bool:
    """Whether the task came back from here for this so often that it ends now: others wait behind it."""
    most = MOST_RETURNS.get(record)
    if most is None or attempt.returned_in_a_row(held.id, record) < most - 1:
        return False
    held.job.say(f"agent-{held.stage}: this machine has kept the task from running {most} times: it fails")
    return True


def _begin(held: Held) -> None:
    """Tell the server, and report from now on; where the script runs already only the latter."""
    if held.dry:
        return
    if not held.started:
        held.begin()
    elif held.api:
        held.watch()


def _tell_failure(held: Held, failure: errors.Failure, end: str = "setup_failed") -> None:
    if isinstance(failure, swapped.StageFailed):
        held.use({**held.manifest, "failed": failure.failed})
    else:
        held.use(manifest.failure(failure, failure.stage or held.stage, held.manifest, end))
    failures.tell(f"agent-{held.stage}", failure, line=False)
    if failure.of_machine:
        held.manifest["failed"]["of_machine"] = True  # the next task would fail likewise: a supervisor waits first
    held.job.say(f"agent-{held.stage}: {failure.reason}")


def _aborted(held: Held, aborted: errors.Aborted) -> dict[str, Any]:
    """Stopped by the server during set-up: the line that says so; a task that is not ours any more is let go (75)."""
    if aborted.abort.leaves_status:
        held.let_go()
        raise errors.LetGo(f"task {held.id}: {aborted.abort.reason}")
    failure = errors.Failure("stopped by a user during set-up", 130)
    return manifest.failure(failure, held.stage, held.manifest, "aborted")
