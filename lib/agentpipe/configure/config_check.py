"""agent-config check: a doctor for configuration, server, credentials, clock, directories and tools."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator

from agentpipe import access, cells, errors, paths, stdio
from agentpipe.configure import machine_check
from agentpipe.configure.machine_check import BAD, GOOD, ODD, Finding
from agentpipe.pull import schedule
from agentpipe.settings import checks, config, config_apply, config_file, config_show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.transport.http_api import HttpApi

OLDEST_API = "2.13"  # ClearML Server 1.0: containers and runtime as we read them
CLOCK_S = 60.0
PATIENCE_S = 5.0


def check(parts: list[str], as_json: bool = False) -> int:
    """Print the report, or these parts of it; 0, or the exit code of the first thing that is wrong."""
    import json
    looks = {"configuration": files, "hooks": hooks_there, "server": server, "disk": machine_check.directories,
             "programs": machine_check.programs, "python": machine_check.pythons,
             "containers": machine_check.containers, "gpu": machine_check.gpus}
    if unknown := [part for part in parts if part not in looks]:
        raise errors.Failure(f"nothing to check is called {unknown[0]}", errors.USAGE,
                             remedy="agent-config check " + " | ".join(looks))
    code, told = 0, set[str]()
    for name, look in looks.items():
        for each in _guarded(name, look) if not parts or name in parts else ():
            code = code or each.exit
            if each.level == BAD and each.text in told:  # a clearml.conf that cannot be read stops every look
                continue
            told.add(each.text)
            remedy = f" ({each.remedy})" if each.remedy else ""
            line = cells.plain(f"{each.level:8}{each.subject}: {each.text}{remedy}")
            if as_json:
                line = json.dumps({"level": each.level, "subject": each.subject, "text": each.text,
                                   "remedy": each.remedy})
            stdio.put(line.encode("utf-8", "replace") + b"\n")
    return code


def files() -> Iterator[Finding]:
    """The configuration files."""
    found = config.files()
    if not found:
        yield Finding(GOOD, "configuration", "no clearml.conf: the store of this machine needs none")
    tree, _ = config.trees()
    secret = config_show.holds_secrets(tree)
    for path in [*found, *config_file.included(found)]:
        yield _file(path, secret)
    for path in config_file.missing(found):
        yield Finding(ODD, "configuration", f"{path} is included and not there", "correct the include, or make it")
    yield from _refused(tree)
    yield from _swapped()


def _file(path: str, secret: bool) -> Finding:
    """One of them, or a folder that they include; `secret`: whether they hold what nobody else may know."""
    import shlex
    state, folder = os.stat(path), os.path.isdir(path)
    remedy = f"chmod {'go-w' if folder else '600'} {shlex.quote(path)}"
    if state.st_uid not in (0, os.getuid()):
        return Finding(ODD, "configuration", f"{path} is somebody else's, who decides by it what runs as you",
                       f"chown {paths.user()} {shlex.quote(path)}")
    if access.others_can(access.WRITE, path):
        return Finding(ODD, "configuration", f"{path}: others can write it, and so decide what runs as you", remedy)
    if secret and not folder and access.others_can(access.READ, path):
        return Finding(ODD, "configuration", f"{path} holds secrets (keys, passwords), and others can read it", remedy)
    return Finding(GOOD, "configuration", path)


def _refused(tree: Any) -> Iterator[Finding]:
    """What agent-pull, or a supervisor as it starts, refuses before it takes a task."""
    from agentpipe import hooks
    from agentpipe.place import own_settings
    from agentpipe.pull import room
    from agentpipe.run import services
    looks: tuple[Callable[[], Any], ...] = (
        lambda: config_apply.check(tree), lambda: checks.lost_policy(None),
        lambda: checks.check_user(ahead=True), lambda: schedule.of([], []), lambda: hooks.find("pre-pull"),
        lambda: room.gate(None, None, lambda _: None), services.check_setting)
    wrong = [*checks.wrong_values(), *own_settings.wrong()]
    for look in looks:
        try:
            look()
        except errors.Failure as failure:
            wrong.append(failure)
    for each in wrong:
        yield Finding(BAD, "configuration", each.reason, _remedy("configuration", each), each.exit)


def _swapped() -> Iterator[Finding]:
    """Commands in the place of a stage that a shell would not find, or of what is no stage."""
    from agentpipe import swapped
    for failure in swapped.unusable():
        yield Finding(ODD, "configuration", failure.reason, failure.remedy)


def hooks_there() -> Iterator[Finding]:
    """The operator's hooks, and what is none though it looks like one."""
    from agentpipe import hook_files
    found, odd = hook_files.look()
    yield Finding(GOOD, "hooks", ", ".join(found) or "none")
    for each in odd:
        yield Finding(ODD, "hooks", each.text, each.remedy)


def server() -> Iterator[Finding]:
    """Whether the server answers, what it thinks of our credentials and of our clock, and its queues."""
    from agentpipe.transport import api
    found = api.connect(patience=PATIENCE_S)
    if isinstance(found, api.StoreApi):
        found.write()
        text = f"the embedded store of this machine, {found.store.path}"
        yield (Finding(ODD, "server", f"{text}: {api.OF_ONE_MACHINE}", api.SHARE) if paths.of_one_machine() else
               Finding(GOOD, "server", text))
        yield _clock_of_store()
    else:
        accepted = yield from _over_http(found)
        yield _files_server(found)
        yield from _web_server(found)
        if not accepted:
            return
    queues = found.call("queues.get_all", {"only_fields": ["name"], "search_hidden": True})["queues"]
    if not queues:
        yield Finding(ODD, "queues", "there is none", "agent-pull --create-queue default")
    else:
        yield Finding(GOOD, "queues", ", ".join(sorted(queue["name"] for queue in queues)[:10])
                      + (f" and {len(queues) - 10} more" if len(queues) > 10 else ""))


def _over_http(found: HttpApi) -> Generator[Finding, None, bool]:
    begun = time.monotonic()
    now = found.server_time()
    took = time.monotonic() - begun
    said = credentials = None
    try:
        said = found.log_in()
        credentials = _credentials(said)
    except errors.Failure as failure:
        credentials = Finding(BAD, "credentials", failure.reason, failure.remedy, failure.exit)
    if said is None:
        yield Finding(GOOD, "server", f"{found.host} answers in {took * 1000:.0f} ms")
    else:
        yield _server(found, said, took)
    yield credentials
    if said is not None and found.ours:
        yield from _store_of(found)
    if now is not None:
        yield _clock(now - time.time())
    return said is not None


def _server(found: HttpApi, said: dict[str, Any], took: float) -> Finding:
    from agentpipe.transport.http_api import version_number
    version = str(said.get("api_version") or "")
    text = (f"{found.host} answers in {took * 1000:.0f} ms: {'agent-server' if found.ours else 'a ClearML server'} "
            f"{said.get('server_version', '')}, API {version or '?'}")
    if version and version_number(version) < version_number(OLDEST_API):
        return Finding(ODD, "server", f"{text}: older than {OLDEST_API}", "update the ClearML server")
    return Finding(GOOD, "server", text)


def _store_of(found: HttpApi) -> Iterator[Finding]:
    """What agent-server has to say against its store; one of an older version says nothing."""
    try:
        trouble = found.call("agentpipe.health")["trouble"]
    except errors.ApiError as error:
        if error.code != 404:
            raise
        return
    if trouble:
        yield Finding(BAD, "store", f"{found.host} cannot work: {trouble}", "make room, or the disk writable, where "
                      "agent-server runs", errors.UNAVAILABLE)


def _files_server(found: HttpApi) -> Finding:
    from agentpipe.transport import artifact_files
    from agentpipe.transport.http_api import normalised
    address = artifact_files.server(found)
    if address.startswith(("http://", "https://")) and normalised(address) == normalised(found.host):
        return Finding(ODD, "files", f"{address} is the API server, which keeps no files",
                       "set api.files_server to that of the files server: agent-server's port is 8081")
    try:
        return Finding(GOOD, "files", f"{artifact_files.reach(found)} answers")
    except errors.Failure as failure:
        return Finding(ODD, "files", failure.reason, failure.remedy)


def _web_server(found: HttpApi) -> Iterator[Finding]:
    from agentpipe.transport.server_hosts import derived, without_pages
    if not config.get("api.web_server") and "web_server" not in derived(found.host):
        yield Finding(ODD, "web", f"no api.web_server, and {found.host} tells none: scripts that are run by hand end "
                                  "in Task.init", f"set api.web_server; without pages to {without_pages(found.host)}")


def _credentials(said: dict[str, Any]) -> Finding:
    from agentpipe.transport import http_login
    who = (said.get("identity") or {}).get("user", "somebody")
    if os.environ.get(http_login.AUTH_TOKEN):
        key = f"the token in {http_login.AUTH_TOKEN}"
    else:
        value, origin = config.origin("api.credentials.access_key")
        key = f"the key {value} ({origin})"
    end = float(said.get("exp") or 0)
    left = f", its token good for {(end - time.time()) / 3600:.0f} h" if end else ""
    return Finding(GOOD, "credentials", f"{key} is accepted, as user {who}{left}")


def _clock(ahead: float) -> Finding:
    """`ahead`: by how many seconds the server's clock is before ours."""
    if abs(ahead) < CLOCK_S:
        return Finding(GOOD, "clock", f"within {max(1, round(abs(ahead)))} s of the server's")
    return Finding(ODD, "clock", f"this machine is {abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} the "
                   "server", "set the clock (timedatectl set-ntp true): tokens and logs carry times")


def _clock_of_store() -> Finding:
    made = os.stat(__file__).st_mtime
    if time.time() < made - 86400:
        return Finding(ODD, "clock", f"it is {time.strftime('%F', time.gmtime())}, before this program was made",
                       "set the clock (timedatectl set-ntp true)")
    return Finding(GOOD, "clock", time.strftime("%FT%TZ", time.gmtime()))


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except (errors.ApiError, errors.Failure) as error:
        failure = errors.refused(error) if isinstance(error, errors.ApiError) else error
        yield Finding(BAD, name, failure.reason, _remedy(name, failure), failure.exit)


def _remedy(name: str, failure: errors.Failure) -> str:
    from agentpipe.transport.http_transport import PROXY_REMEDY, Away
    if name == "server" and isinstance(failure, Away) and not failure.status and failure.remedy != PROXY_REMEDY:
        return "start it, or correct its address: agent-config show api.api_server"
    return failure.remedy or "agent-config show"
