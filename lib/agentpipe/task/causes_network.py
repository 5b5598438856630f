"""Causes in a network: a host that has no name or does not answer, a port that is in use, a certificate."""

from __future__ import annotations

import re

from agentpipe.task import error_lines, own_lines
from agentpipe.task.remedies import again, in_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

NO_NAME = re.compile(r"Name or service not known|Temporary failure in name resolution"
                     r"|No address associated with hostname|nodename nor servname provided|NameResolutionError"
                     r"|Could not resolve host")
REFUSED = re.compile(r"Connection refused|ECONNREFUSED")
SILENT = re.compile(r"Network is unreachable|No route to host|ConnectTimeoutError|ConnectTimeout\b|Connection timed out"
                    r"|Read timed out|Max retries exceeded|RemoteDisconnected|We couldn't connect to '")
IN_USE = re.compile(r"(?i)address already in use|EADDRINUSE")
CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED\]? *(?:certificate verify failed)?:? *([^(\n]*)")
# of requests, of a URL, of a socket
HOST = re.compile(r"host='([\w.:-]+)', port=(\d+)"
                  r"|\b(?:https?|grpc|tcp|redis|postgres\w*|mongodb)://(?:[^/@\s]*@)?([\w.-]+)(?::(\d+))?"
                  r"|\(['\"]([\w.-]+)['\"], ([1-9]\d*)\)")
# what is raised by code, whatever words of a network it has
OF_CODE = re.compile(r"(?:Value|Key|Type|Name|Attribute|Index|Assertion|NotImplemented)Error\b")
PORT = re.compile(r"(?i)(?:\]:|port[=: ]+|[\"'], )(\d{2,5})\b")


def cause(task: dict[str, Any], evidence: str) -> Known | None:
    """What the network, or a port of the worker, did not do."""
    last = error_lines.last(evidence)
    if OF_CODE.match(last):
        return None
    shown = "\n".join(line for line in evidence.splitlines() if line.startswith("    "))
    for look in (_in_use, _certificate, _no_answer):
        known = look(task, last, _host(last) or _host(shown))
        if known:
            line = own_lines.last(task, evidence)
            return {**known, "reason": known["reason"] + (f", at {line}" if line else "")}
    return None


def _in_use(task: dict[str, Any], last: str, host: str) -> Known | None:
    if not IN_USE.search(last):
        return None
    port = PORT.search(last) or re.search(r":(\d+)$", host)
    which = f"port {port[1]}" if port else "a port"
    look = f"ss -ltnp 'sport = :{port[1]}'" if port else "ss -ltnp"
    return {"reason": f"{which} of {_worker(task)} is in use", "advice":
            f"on {_worker(task)}: {look} tells who has it; let the script take another (0: a free one), or when it is "
            f"free again: {again(task)}"}


def _certificate(task: dict[str, Any], last: str, host: str) -> Known | None:
    said = CERTIFICATE.search(last)
    if not said:
        return None
    why = said[1].strip(" :'\"")
    return {"reason": f"the certificate of {host or 'a server'} is not trusted" + (f": {why}" if why else ""), "advice":
            f"where it is of an authority of yours, give {_worker(task)} its certificate (SSL_CERT_FILE, "
            f"REQUESTS_CA_BUNDLE, where the agent is started{_in_a_container(task)}), and look at the clock there; "
            f"then {again(task)}"}


def _no_answer(task: dict[str, Any], last: str, host: str) -> Known | None:
    if NO_NAME.search(last):
        name = host.partition(":")[0]
        reason = f"{_worker(task)} knows no host {name or 'of that name'}"
        look = f"getent hosts {name or 'HOST'}"
    elif REFUSED.search(last):
        reason = f"{host or 'the host'} refuses the connection: nothing listens there"
        look = "start what is to listen there, or give the right address"
    elif SILENT.search(last):
        reason, look = f"{host or 'the host'} does not answer", "look at the address"
    else:
        return None
    if "ProxyError" in last:
        reason = f"the proxy {host or ''}".rstrip() + " cannot be used"
        look = "http_proxy, https_proxy"
    return {"reason": reason, "advice":
            f"on {_worker(task)}: {look}, and the network and the proxy there (http_proxy, https_proxy"
            f"{_in_a_container(task)}); then {again(task)}"}


def _host(text: str) -> str:
    found = HOST.search(text)
    return ":".join(filter(None, found.groups())) if found else ""


def _in_a_container(task: dict[str, Any]) -> str:
    inside = (task.get("container") or {}).get("image")
    return f"; of its container: {in_container(task, '-e NAME=…')}" if inside else ""


def _worker(task: dict[str, Any]) -> str:
    return task.get("last_worker") or "the worker"
