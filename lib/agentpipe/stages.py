"""How a stage does its part on one line: hold the task, run hooks and the work, hand it on (design: claims).

A stage that is not swapped runs in the caller's process; $AGENT_STAGE_FETCH and its like name a command that takes
its place and gets the line on stdin.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from agentpipe import attempt, claims, command, errors, hooks, manifest
from agentpipe.crash import crash_point
from agentpipe.job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.script import Script

    Work = Callable[[Job], dict[str, Any]]


class StageFailed(errors.Failure):
    """A swapped or composed stage failed: `failed` as it stands in its answer."""

    def __init__(self, failed: dict[str, Any]) -> None:
        super().__init__(failed["reason"], failed["exit"], failed.get("evidence", ""), failed.get("remedy", ""))
        self.failed = failed


class Held:
    """One task in the hands of this process: `manifest` as it grows, its claim, and who reports it."""

    def __init__(self, line: dict[str, Any], stage: str, options: dict[str, Any] | None = None,
                 api: Any = None, claim: claims.Claim | None = None) -> None:
        self.stage = stage
        self.options = options or {}
        self.manifest = line
        self.reporter: Any = None
        self.script: Script | None = None  # once it is started, or taken over
        self.memory_mark = 0  # how many processes the kernel had killed when the script started
        self.api: Any = api or ("pull" in line and connect(line["pull"])) or None
        self.claim = claim or claims.take(line, stage, look_only=bool(self.options.get("dry_run")))
        self.job = Job(line, self.claim.directory, self.options, _echo(self.options))
        if self.api and not self.options.get("dry_run"):
            self.job.tell = self._tell
        crash_point(f"{stage}:held")

    def begin(self) -> None:
        """Ask the server whether the task is still ours, tell it that it has started, and report from now on."""
        if self.api is None:
            return
        try:
            status = claims.checked_with_server(self.api, self.manifest, self.stage)
            if status != "in_progress":
                self.api.call("tasks.started", {"task": self.id, "claim": self.claim.token, "force": True,
                                                "status_message": "pulled by agent"})
                crash_point(f"{self.stage}:started")
        except errors.Failure as failure:
            if failure.exit == errors.TRY_AGAIN:
                self.claim.end()
            self.claim.release()
            raise
        self.watch()

    def watch(self) -> None:
        """Report log, metrics and status of this task until hand(), release() or the end."""
        from agentpipe import redact, secrets
        from agentpipe.report import Reporter
        pull = self.manifest["pull"]
        if self.reporter is None:
            self.reporter = Reporter(self.api, pull.get("worker") or "", [pull["queue"]] if pull.get("queue") else [],
                                     redact.task_secrets(secrets.whole(self.manifest["task"], self.claim.directory)))
            self.reporter.start()
        self.reporter.watch(self.id, self.claim.directory, self.claim.token, command.SIGNALS.aborted, self._pids)

    @property
    def id(self) -> str:
        """The task's id."""
        return self.manifest["task"]["id"]

    @property
    def started(self) -> bool:
        """Whether the script has been started already: then set-up is over, and only agent-run has work."""
        record = attempt.pid_record(self.claim.directory)
        return record is not None and record not in (attempt.GIVEN_BACK, attempt.HANDED_BACK)

    def step(self, stage: str, key: str, work: Work) -> None:
        """One stage on this task, hooks included: in this process, or the command that stands for it."""
        swapped = os.environ.get("AGENT_STAGE_" + stage.upper())
        self.hook(f"pre-{stage}")
        if swapped and stage != self.stage:
            self._swapped(stage, swapped)
        else:
            try:
                self.add(key, work(self.job))
            except errors.Failure as failure:
                failure.stage = stage
                raise
        self.hook(f"post-{stage}")
        crash_point(f"{stage}:done")

    def add(self, key: str, value: dict[str, Any]) -> None:
        """A stage's key; those of later stages are dropped."""
        self._use(manifest.with_key(self.manifest, key, value))

    def hook(self, name: str) -> None:
        """Run the operator's hooks of this name on the manifest."""
        self._use(hooks.run(name, self.manifest, self.job))

    def hand_on(self, owner: int | None = None) -> None:
        """Store the line, hand the claim to whoever reads it, print it, let go."""
        line = manifest.write(self.manifest)
        self.quiet()
        with command.SIGNALS:
            try:
                attempt.store_manifest(self.claim.directory, line)
            except errors.Failure as failure:
                self.give_back(failure.reason)
                raise
            crash_point(f"{self.stage}:stored")
            self.claim.hand(self.stage, claims.stdout_holder(owner))
            crash_point(f"{self.stage}:handed")
            try:
                command.put(line)
            except OSError as error:  # the next stage is gone, or the disk that the line goes to is full
                self.give_back("its line could not be handed on")
                if error.errno == errno.EPIPE:
                    raise
                raise errors.Failure(f"cannot write the manifest to stdout: {error.strerror}", errors.CANNOT_CREATE,
                                     remedy="free some space, then agent-pull again") from None
            crash_point(f"{self.stage}:printed")
            self.claim.touch()
            self.claim.release()
        self.job.close()

    def give_back(self, why: str) -> None:
        """Return the task to the front of its queue; nothing runs here any more."""
        self.quiet()
        claims.give_back(self.api, self.claim, self.manifest, why)

    def finish(self, deadline: float) -> bool:
        """Send the rest and the end's status, for up to `deadline` seconds; True when both are acknowledged."""
        from agentpipe import shipping
        self.quiet()
        return shipping.finish(self.api, self.claim.directory, deadline)

    def release(self) -> None:
        """Let the task go as it is."""
        self.quiet()
        self.claim.release()
        self.job.close()

    def quiet(self) -> None:
        """Stop reporting: another process is about to."""
        if self.reporter:
            self.reporter.stop()
            self.reporter = None

    def _tell(self, endpoint: str, body: dict[str, Any]) -> None:
        self.api.call(endpoint, {**body, "task": self.id, "claim": self.claim.token})

    def _pids(self) -> list[int]:
        return self.script.processes() if self.script else []

    def _use(self, line: dict[str, Any]) -> None:
        self.manifest = self.job.manifest = line

    def _swapped(self, stage: str, shell_command: str) -> None:
        from agentpipe import processes, tools
        line = manifest.write(self.manifest)
        attempt.store_manifest(self.claim.directory, line)
        self.quiet()
        self.claim.hand(stage, {"process": processes.identity(os.getpid()), "owner": True})
        self.claim.release()
        self.job.say(f"{stage}: {shell_command}")
        problem = None
        try:
            answer = tools.run(["sh", "-c", shell_command], stdin=line).encode("utf-8", "surrogateescape")
        except tools.ToolFailed as failure:
            problem, answer = failure, failure.output.encode()
        self.claim = claims.take(self.manifest, self.stage)
        self.begin()
        try:
            found = manifest.read(answer.strip().rpartition(b"\n")[2])
        except errors.Failure as failure:
            raise problem or errors.Failure(f"AGENT_STAGE_{stage.upper()} answered no manifest: {failure.reason}",
                                            errors.BAD_DATA) from None
        if "failed" in found:
            raise StageFailed(found["failed"])
        if found["task"].get("id") != self.id or found.get("pull") != self.manifest.get("pull"):
            raise errors.Failure(f"AGENT_STAGE_{stage.upper()} answered with another task", errors.BAD_DATA)
        self._use(found)


def identified(line: dict[str, Any]) -> dict[str, Any]:
    """A task by hand gets a `local-…` id of its own (a new one when its receipt is run again)."""
    if "pull" in line:
        return line
    task = line["task"]
    if str(task.get("id", "")).startswith("local-") and "run" not in line and "failed" not in line:
        return line
    fresh = {name: value for name, value in line.items() if name not in ("run", "origin")}
    return {**fresh, "manifest": manifest.VERSION, "task": {**task, "id": "local-" + os.urandom(6).hex()}}


def connect(pull: dict[str, Any]) -> Any:
    """The server of this configuration, which must be the one that the task comes from (else Failure 78)."""
    from agentpipe import api
    found = api.connect(pull.get("worker") or "")
    if found.server_id != pull["server"]:
        raise errors.Failure(f"this task comes from server {pull['server']}, but this configuration reaches "
                             f"{found.server_id}", errors.BAD_CONFIG,
                             remedy="use the AGENT_HOME or clearml.conf that agent-pull had")
    return found


def give_back_line(line: bytes) -> None:
    """Told to stop before we looked at this line: its task goes back to its queue."""
    try:
        found = manifest.read(line)
        if "failed" in found or "pull" not in found:
            return
        held = Held(found, "stopped")
    except errors.Failure:
        return
    if held.started:
        held.claim.release()
    else:
        held.give_back("told to stop")


def explained(held: Held, error: BaseException) -> dict[str, Any]:
    """The manifest with `failed` for what went wrong while the task was ours."""
    if isinstance(error, StageFailed):
        return {**held.manifest, "failed": error.failed}
    if isinstance(error, errors.Failure):
        return manifest.failure(error, error.stage or held.stage, held.manifest)
    raise error


def each(name: str, steps: Callable[[Held], None], raw: bytes, values: dict[str, Any]) -> int:
    """One line through the stage `name`, whose work is steps(held); the exit code."""
    try:
        line = manifest.read(raw)
    except errors.Failure as failure:
        return command.tell(f"agent-{name}", failure)
    if "failed" in line:
        command.put(raw + b"\n")
        return line["failed"]["exit"]
    try:
        held = Held(identified(line), name, values)
    except errors.Failure as failure:
        return command.tell(f"agent-{name}", failure)
    code = 0
    try:
        if held.started:
            held.job.say(f"agent-{name}: the script runs already; passed on")
        elif values.get("dry_run"):
            steps(held)
            held.release()
            return 0
        else:
            held.begin()
            steps(held)
    except errors.Interrupted:
        with command.SIGNALS:
            held.give_back("told to stop")
            command.SIGNALS.forget()
        raise
    except errors.Aborted as aborted:
        held.manifest, code = aborted_line(held, aborted)
    except errors.Failure as failure:
        if values.get("dry_run") or (held.claim.token and failure.exit == errors.TRY_AGAIN):
            held.release()
            return command.tell(f"agent-{name}", failure)
        held.manifest, code = explained(held, failure), failure.exit
        command.say(f"agent-{name}: {failure.reason}" + (f" ({failure.remedy})" if failure.remedy else ""))
        held.job.say(f"agent-{name}: {failure.reason}")
    try:
        held.hand_on()
    except errors.Failure as failure:
        return command.tell(f"agent-{name}", failure)
    return code


def aborted_line(held: Held, aborted: errors.Aborted) -> tuple[dict[str, Any], int]:
    """Stopped by the server during set-up: the line that says so; a task that is not ours any more is let go (75)."""
    abort = aborted.abort
    if abort.kind != "stopping":
        held.quiet()
        held.claim.end()
        held.claim.release()
        raise errors.Failure(f"task {held.id}: {abort.reason}", errors.TRY_AGAIN)
    failure = errors.Failure("stopped by a user during set-up", 130)
    return manifest.failure(failure, held.stage, held.manifest, "aborted"), 130


def _echo(options: dict[str, Any]) -> Callable[[str], None] | None:
    if options.get("quiet") or not (options.get("verbose") or os.isatty(2)):
        return None

    def echo(text: str) -> None:
        try:
            os.write(2, text.encode("utf-8", "replace"))
        except OSError:
            pass
    return echo
