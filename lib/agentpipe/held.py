"""One task in the hands of this process: its claim, its log, its reporter; taken, handed on, given back or let go."""

from __future__ import annotations

import errno
import os

from agentpipe import errors, manifest, place, secrets, stdio, trees
from agentpipe.claim import attempt, claims, holders, ranks
from agentpipe.crash import crash_point
from agentpipe.job import Job
from agentpipe.settings import config
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.place import Place
    from agentpipe.report.shipping import Shipper
    from agentpipe.run.script import Script

ECHO_PATIENCE_S = 5.0  # for a person's terminal that takes nothing
BLANKED = 8 * " " + "\r"  # ends a row of git's progress, where it sees no terminal: on a narrow one that is two rows


class Held:
    """`manifest` is the line as it grows, `stage` who holds it. Made and handed on while signals wait.

    With the option dry_run the claim stays as it is, and nothing is reported.
    """

    def __init__(self, line: dict[str, Any], stage: str, options: dict[str, Any] | None = None,
                 api: Any = None, claim: claims.Claim | None = None) -> None:
        self.stage = stage
        self.options = options or {}
        self.manifest = line
        self.dry = bool(self.options.get("dry_run"))
        self.reporter: Any = None
        self.script: Script | None = None  # once it is started, or taken over
        self.begun = False  # whether its server has been asked, and the work may begin
        config.apply()
        self.api: Any = api or ("pull" in line and connect(line["pull"])) or None
        self._connected = None if api else self.api  # by us, for this line alone
        self.claim = claim or self._taken(line)
        try:
            self.job = Job(self.manifest, self.claim.directory, self.options, _echo(self.options))
            if "pull" not in line and not self.dry:
                self.use({**line, "task": secrets.put_away(line["task"], self.claim.directory)})
        except Exception:  # nobody gets us: the lock would stay ours as long as this process lives
            self.claim.release()
            raise
        if self.api and not self.dry:
            self.job.tell = self._tell
        crash_point(f"{stage}:held")

    @property
    def id(self) -> str:
        """The task's id."""
        return self.manifest["task"]["id"]

    @property
    def started(self) -> bool:
        """Whether the script has been started already: then set-up is over, and only agent-run has work."""
        record = attempt.pid_record(self.claim.directory)
        return record is not None and not attempt.was_returned(self.claim.directory)

    @property
    def place(self) -> Place:
        """Where the task runs."""
        return place.of(self.manifest, self.claim.directory)

    def leave_place(self) -> None:
        """Nothing is to run here any more: remove what this attempt has made to run in."""
        place.leave(self.claim.directory, self.job.say)

    def use(self, line: dict[str, Any]) -> None:
        """Go on with another state of the line."""
        self.manifest = self.job.manifest = line

    def begin(self) -> None:
        """Ask the server whether the task is still ours, tell it that it has started, and report from now on."""
        if self.api is None:
            return
        try:
            status = claims.checked_with_server(self.api, self.manifest, self.stage)
            if status != "in_progress" and not ranks.is_follower(self.manifest):
                self._start()
        except claims.NotOurs:
            self.let_go()
            raise
        self.watch()

    def _start(self) -> None:
        """Tell the server that it has started; without force, which would undo a stop that came since we looked."""
        try:
            self.api.call("tasks.started", {"task": self.id, "claim": self.claim.token,
                                            "status_message": "pulled by agent"})
        except errors.ApiError as error:
            if error.code != 400:
                raise
            raise claims.NotOurs(self.id, error.msg) from None
        crash_point(f"{self.stage}:started")

    def watch(self) -> None:
        """Report log, metrics and status of this task until quiet()."""
        from agentpipe.report.reporter import Reporter
        pull = self.manifest["pull"]
        SIGNALS.take_aborts(True)
        if self.reporter is None:
            self.reporter = Reporter(self.api, pull.get("worker") or "", pull.get("queues") or [],
                                     secrets.carried(self.manifest["task"], self.claim.directory), registers=False)
            self.reporter.start()
        self.reporter.watch(self.id, self.claim.directory, self.claim.token, SIGNALS.aborted, self._pids,
                            pull.get("queue"), ranks.is_follower(self.manifest), ranks.prefix(pull))

    def hand_on(self, owner: int | None = None) -> None:
        """Store the line, hand the claim to its reader, print it, let go; what cannot be printed is given back.

        So it is when we are told to stop while the reader takes nothing.
        """
        line = manifest.write(self.manifest)
        self.quiet()
        try:
            attempt.store_manifest(self.claim.directory, line)
            crash_point(f"{self.stage}:stored")
            self.claim.hand(self.stage, holders.stdout_holder(owner))
            crash_point(f"{self.stage}:handed")
            stdio.put(line)
        except errors.Interrupted:
            self.give_back("told to stop")
            SIGNALS.forget()
            raise
        except (OSError, errors.Failure) as error:  # the next stage is gone, or a disk is full
            self.give_back("its line could not be handed on")
            if isinstance(error, errors.Failure) or error.errno == errno.EPIPE:
                raise
            raise errors.Failure(f"cannot write the manifest to stdout: {error.strerror}", errors.CANNOT_CREATE,
                                 remedy="free some space, then agent-pull again"
                                 if error.errno in (errno.ENOSPC, errno.EDQUOT) else "") from None
        crash_point(f"{self.stage}:printed")
        self.claim.touch()
        self.release()

    def give_back(self, why: str, record: str = attempt.HANDED_BACK) -> None:
        """Return the task to the front of its queue; nothing runs here any more. What only looked lets it go.

        `record` is how it counts here, one of attempt.RETURNED. A script that runs is left running, for recovery to
        hand it out again.
        """
        if self.dry:
            self.put_down()
            return
        if self.started:
            self.release()
            return
        self.quiet()
        self.leave_place()
        if not claims.give_back(self.api, self.claim, self.manifest, why, record):
            stdio.say(f"agent-{self.stage}: task {self.id} could not be given back; the next agent-pull here does")
        self._close()

    def put_down(self) -> None:
        """After a dry run: everything as it was, except that a line which came through a pipe is used up by it."""
        if self.claim.token and holders.came_by_pipe(self.claim.directory):
            claims.give_back(self.api, self.claim, self.manifest, "it was only looked at (--dry-run)")
        self.release()
        if self.claim.is_new:
            trees.discard(self.claim.directory)

    def let_go(self) -> None:
        """Somebody else decides about this task now. The rest of its log is sent, if it still carries our claim."""
        from agentpipe.report import rest
        self.quiet()
        try:
            with SIGNALS.open():
                rest.ship(self.api.once(), self.claim.directory)
        except (errors.ApiError, errors.Failure, errors.Interrupted, errors.Aborted):
            pass  # agent-report DIR can still send it
        let_go(self.claim, self.job.say)
        self.release()

    def finish(self, deadline: float) -> None:
        """Send the rest and the end's status; `deadline`: for how long it may be away (s). The error of what could not
        be told."""
        from agentpipe.report import finish
        finish.finish(self.api, self.claim.directory, deadline, self.quiet())
        self._end_worker()

    def _end_worker(self) -> None:
        """A worker that was this task's alone (services mode) ends with it."""
        if manifest.is_service(self.manifest):
            try:
                self.api.once().call("workers.unregister", {"worker": self.manifest["pull"]["worker"]})
            except (errors.ApiError, errors.Failure):
                pass  # it vanishes by itself

    def release(self) -> None:
        """Let the lock go; the claim stays as it is."""
        self.quiet()
        self.claim.release()
        self._close()

    def quiet(self) -> Shipper | None:
        """Stop reporting: another process is about to. What knows how far the log is shipped, if it is at rest."""
        shipper = self.reporter.stop() if self.reporter else None
        self.reporter = None
        SIGNALS.take_aborts(False)
        return shipper

    def _close(self) -> None:
        self.job.close()
        if self._connected:
            self._connected.close()

    def _taken(self, line: dict[str, Any]) -> claims.Claim:
        if self.api and not self.dry and ranks.is_to_follow(line):
            claim, self.manifest = ranks.follow(self.api, line)
            return claim
        try:
            return claims.take(line, self.stage, look_only=self.dry)
        except claims.NotOurs:
            from agentpipe.claim import adopt
            if self.dry or not self.api or not adopt.is_from_elsewhere(self.api, line):
                raise
        claim, self.manifest = adopt.adopt(self.api, line, self.stage)
        return claim

    def _tell(self, endpoint: str, body: dict[str, Any]) -> None:
        if ranks.is_follower(self.manifest):
            return  # the leader's to tell
        self.api.call(endpoint, {**body, "task": self.id, "claim": self.claim.token})

    def _pids(self) -> list[int]:
        return self.script.processes() if self.script else []


def let_go(claim: claims.Claim, say: Callable[[str], object]) -> None:
    """Somebody else decides about this task now: nothing stays of what it was to run in, its status is left alone.

    The claim goes last: who is killed before leaves the rest to recovery.
    """
    place.leave(claim.directory, say)
    attempt.leave_to_others(claim.directory)
    claim.end()


def connect(pull: dict[str, Any]) -> Any:
    """The server of this configuration, which must be the one that the task comes from (else Failure 78)."""
    from agentpipe.transport import api
    found = api.connect(pull.get("worker") or "", 300)  # seconds of patience: what is set up is worth waiting for
    if found.server_id != pull["server"]:
        raise errors.Failure(f"this task comes from server {pull['server']}, but this configuration reaches "
                             f"{found.server_id}", errors.BAD_CONFIG,
                             remedy="use the AGENT_HOME or clearml.conf that agent-pull had")
    return found


def _echo(options: dict[str, Any]) -> Callable[[str], None] | None:
    wanted = options.get("verbose") or options.get("dry_run") or os.isatty(2)
    if options.get("quiet") or not wanted:
        return None

    patience = ECHO_PATIENCE_S
    bars = os.isatty(2) and os.environ.get("TERM", "") not in ("", "dumb")

    def echo(text: str) -> None:
        """Show it, unless the terminal stands still (Ctrl-S, a pager): the set-up log has all of it."""
        nonlocal patience
        if bars:
            text = text.replace(BLANKED, "\033[K\r")
        stdio.shown(text)
        data = text.encode("utf-8", "replace")
        try:
            while data and stdio.takes(2, patience):
                data = data[os.write(2, data[:stdio.PIECE]):]
        except OSError:
            return
        patience = 0.0 if data else ECHO_PATIENCE_S
    return echo
