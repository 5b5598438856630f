"""agent-config check: a doctor for configuration, server, directories and tools."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator

from agentpipe import config, config_file, errors, paths, tools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GOOD, ODD, BAD = "ok", "warning", "wrong"
LOW_SPACE = 2 << 30  # bytes
OLDEST_API = "2.13"  # ClearML Server 1.0: containers and runtime as we read them
CLOCK_S = 60.0


class Finding:
    """One line of the report: how it is, what it is about, what was seen, and what to do."""

    def __init__(self, level: str, subject: str, text: str, remedy: str = "", exit: int = 0) -> None:
        self.level, self.subject, self.text, self.remedy, self.exit = level, subject, text, remedy, exit


def check(as_json: bool = False) -> int:
    """Print the report; 0, or the exit code of the first thing that is wrong."""
    import json
    code = 0
    for look in (files, server, directories, programs):
        for each in _guarded(look):
            code = code or each.exit
            if as_json:
                print(json.dumps({"level": each.level, "subject": each.subject, "text": each.text,
                                  "remedy": each.remedy}), flush=True)
            else:
                print(f"{each.level:8}{each.subject}: {each.text}" + (f" ({each.remedy})" if each.remedy else ""),
                      flush=True)
    return code


def files() -> Iterator[Finding]:
    """The configuration files."""
    found = config.files()
    if not found:
        yield Finding(GOOD, "configuration", "no clearml.conf, which none is needed for")
    config.trees()
    for path in found:
        loose = os.stat(path).st_mode & 0o077
        if loose and config.value("api.credentials.secret_key"):
            yield Finding(ODD, "configuration", f"{path} holds keys, and others can read it", f"chmod 600 {path}")
        else:
            yield Finding(GOOD, "configuration", path)
    for path in config_file.missing(found):
        yield Finding(ODD, "configuration", f"{path} is included and not there")


def server() -> Iterator[Finding]:
    """Whether the server answers, knows us, and is new enough."""
    import time

    from agentpipe import api
    begun = time.monotonic()
    found = api.connect(patience=5)
    queues = found.call("queues.get_all", {"only_fields": ["name"], "search_hidden": True})["queues"]
    took = time.monotonic() - begun
    if isinstance(found, api.StoreApi):
        yield Finding(GOOD, "server", f"the embedded store of this machine, {found.store.path}")
    else:
        said = found.token_payload
        who = (said.get("identity") or {}).get("user", "somebody")
        yield Finding(GOOD, "server", f"{found.host} answers {who} in {took * 1000:.0f} ms: "
                                      f"{'agent-server' if found.ours else 'a ClearML server'}"
                                      f" {said.get('server_version', '')}, API {said.get('api_version', '?')}")
        yield from _server_is_fit(said)
    if not queues:
        yield Finding(ODD, "queues", "there is none", "agent-pull --create-queue default")
    else:
        yield Finding(GOOD, "queues", ", ".join(sorted(queue["name"] for queue in queues)[:10])
                      + (f" and {len(queues) - 10} more" if len(queues) > 10 else ""))


def _server_is_fit(said: dict[str, Any]) -> Iterator[Finding]:
    import time

    from agentpipe.http_api import version_number
    version = str(said.get("api_version") or "")
    if version and version_number(version) < version_number(OLDEST_API):
        yield Finding(ODD, "server", f"its API {version} is older than {OLDEST_API}", "update the ClearML server")
    if said.get("iat") and float(said["iat"]) > time.time() + CLOCK_S:
        yield Finding(ODD, "clock", f"this machine is {float(said['iat']) - time.time():.0f} s behind the server",
                      "set the clock: tokens and logs carry times")


def directories() -> Iterator[Finding]:
    """State and cache: writable, private, on local disks, with room."""
    for name, path in (("state", paths.state()), ("cache", paths.cache())):
        path = path.rstrip("/")
        if not os.access(path, os.W_OK | os.X_OK):
            yield Finding(BAD, name, f"{path} cannot be written", "set AGENT_HOME", errors.CANNOT_CREATE)
            continue
        free = shutil.disk_usage(path).free
        kind = paths.file_system(path)
        text = f"{path}, {free / (1 << 30):.1f} GiB free on {kind}"
        if free < LOW_SPACE:
            yield Finding(ODD, name, text, "free some space, or set AGENT_HOME")
        elif kind in paths.NETWORK_FILE_SYSTEMS:
            yield Finding(ODD, name, f"{text}: slow over a network", "set XDG_CACHE_HOME to a local disk")
        else:
            yield Finding(GOOD, name, text)


def programs() -> Iterator[Finding]:
    """What stages run: git, Python, uv, a shell."""
    yield Finding(GOOD, "python", f"{sys.version.split()[0]} ({sys.executable})")
    for name, needed, remedy in (("git", True, "install git"), ("uv", True, "pip install uv"),
                                 ("bash", False, "install bash: tasks that are shell scripts need it")):
        path = _found(name)
        if path is None:
            yield Finding(BAD if needed else ODD, name, "not found", remedy, errors.UNAVAILABLE if needed else 0)
            continue
        text = tools.run([path, "--version"], timeout=20).splitlines()[0]
        yield Finding(GOOD, name, f"{text} ({path})")


def _found(name: str) -> str | None:
    own = os.path.join(os.path.dirname(sys.executable), name)  # uv comes with our package
    return own if name == "uv" and os.access(own, os.X_OK) else shutil.which(name)


def _guarded(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except errors.ApiError as error:
        failure = errors.refused(error)
        yield Finding(BAD, look.__name__, failure.reason, failure.remedy, failure.exit)
    except errors.Failure as failure:
        yield Finding(BAD, look.__name__, failure.reason, failure.remedy, failure.exit)
