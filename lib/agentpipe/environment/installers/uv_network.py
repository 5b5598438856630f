"""What uv says of the network: what could not be reached, refused access, or may not be asked for."""

from __future__ import annotations

import re

from agentpipe import errors
from agentpipe.environment import wheelhouse
from agentpipe.environment.installers import uv_repositories, uv_words
from agentpipe.environment.installers.uv_words import PACKAGE
from agentpipe.settings.offline import offline
from agentpipe.urls import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentpipe.environment.requirements import Requirements

NETWORK = ("tcp connect error", "dns error", "error sending request", "operation timed out", "connection reset",
           "Could not connect", "Could not resolve host", "Failed to connect to", "Connection refused",
           "Network is unreachable", "network timeout", "(502", "(503", "(504", "(500", "error decoding response body")
PATIENCE = "; UV_HTTP_TIMEOUT is for how many seconds nothing may come"


def not_cached(said: str) -> errors.Failure | None:
    """What is missing where nothing may be asked for over the network."""
    found = re.search(rf"Because {PACKAGE} was not found in the cache", said)
    if not (found or "network was disabled" in said or "the network is disabled" in said.lower()):
        return None
    name = found[1] if found else uv_words.first_name(said) or "a package"
    told = "AGENT_OFFLINE" if offline() else "UV_OFFLINE or uv.toml"
    lost = wheelhouse.missing()
    return errors.Failure(f"{name} is not in the download cache, {f'{lost} is not there, ' if lost else ''}"
                          f"and {told} forbids the network", errors.UNAVAILABLE,
                          remedy="correct --wheelhouse (AGENT_WHEELHOUSE)" if lost
                          else "fetch it where there is a network: agent-prepare --stage-only")


def unreachable(said: str, requirements: Requirements) -> errors.Failure | None:
    """An index or an address that does not give what is asked for: it refuses, or cannot be reached."""
    if uv_repositories.is_about(said):
        return None
    url = uv_words.url_in(said)
    option, place = _index(url, requirements)
    if re.search(r"\((401|403)[^)]*\)|HTTP 40[13]", said):
        return refusing(url or "the index", place, unset=unset_in(url, requirements))
    if re.search(r"\(404[^)]*\)", said) and url:
        return errors.Failure(f"{uv_words.first_name(said) or 'a package'}: nothing at {url}", errors.NOT_FOUND,
                              remedy=f"correct the address {url} in the requirements")
    if stalled := re.search(r"network timeout\b.*?\(current value: (\d+)\s?s\)", said):
        return errors.Failure(f"{uv_words.first_name(said) or url or 'a package'} did not come: the server has stopped "
                              f"sending, nothing came for {stalled[1]} s", errors.UNAVAILABLE,
                              remedy="check the network and the proxy, then run the task again" + PATIENCE)
    if not any(sign in said for sign in NETWORK):
        return None
    name = uv_words.first_name(said)
    if name and "error decoding response body" in said:
        return errors.Failure(f"{name} did not come whole: the connection broke off", errors.UNAVAILABLE,
                              remedy="check the network and the proxy, then run the task again")
    if refused := re.search(r"invalid peer certificate: (?:Other\(OtherError\()?(\w+)", said):
        return _untrusted(url or "the index", place, refused[1])
    silent = _unanswered(said)
    answer = re.search(r"HTTP status server error \((\d+[^)]*)\)", said)
    what = f"{url} answers {answer[1]}" if url and answer else f"cannot reach {url or 'the package index'}"
    if place:  # without it, another index may have a stranger's package under the same name
        import shlex
        named = f" ({place} names it)" if answer else f", which {place} names"
        return errors.Failure(f"{what}{named}{silent}", errors.UNAVAILABLE,
                              remedy=f"check the network, the proxy, and the address in {place}; a task that is to do "
                                     f"without it: {shlex.join(['agent-task', 'edit', '--drop-package', option])}")
    return errors.Failure(f"{what}{silent}", errors.UNAVAILABLE,
                          remedy=f"check the network, the proxy and the index ({_named_by(url)}), then run the task "
                                 "again" + (PATIENCE if silent else ""))


def _unanswered(said: str) -> str:
    """How long a server was waited for that takes connections and says nothing; "" of any other."""
    found = re.search(r"Request failed after (\d+) retr(?:y|ies) in ([\d.]+)s", said)
    if not found or "operation timed out" not in said:
        return ""
    return f": {int(found[1]) + 1} requests got no answer in {float(found[2]):.0f} s"


def _untrusted(url: str, place: str, why: str) -> errors.Failure:
    """A certificate that nobody vouches for: uv believes SSL_CERT_FILE, and what this machine trusts."""
    from urllib.parse import urlsplit
    host = urlsplit(url).netloc.rpartition("@")[2]
    return errors.Failure(f"the certificate of {host or url} is not trusted: {why}"
                          + (f" ({place} names it)" if place else ""), errors.UNAVAILABLE,
                          remedy="where it is of an authority of yours, name the file of its certificates in "
                                 f"SSL_CERT_FILE; to do without: PIP_TRUSTED_HOST={host.rpartition(':')[0] or host}")


def _named_by(url: str) -> str:
    """The setting of this machine's owner that names an index; pip's, where none of ours does."""
    from agentpipe.settings import config
    key = "agent.package_manager.extra_index_url"
    return key if any(_is_of(url, index) for index in config.get_list(key)) else "PIP_INDEX_URL, pip.conf"


def _index(url: str, requirements: Requirements) -> tuple[str, str]:
    """(the line, where it stands) of the task's own index that an address belongs to; ("", "") of any other."""
    from agentpipe.environment.requirements import filled
    for name, value in requirements.options:
        place = requirements.option_places.get(value, "")
        if place and _is_of(url, filled(value)):
            return f"{name} {without_credentials(value)}", place
    return "", ""


def _is_of(url: str, index: str) -> bool:
    """Whether an address, without its login, is an index or lies in it."""
    return f"{url}/".startswith(without_credentials(index).rstrip("/") + "/")


def unset_in(url: str, requirements: Requirements) -> list[str]:
    """The variables (`${NAME}`) in the task's own line for this index that are not set here."""
    from agentpipe.environment.requirements import filled, unset
    return [name for _, value in requirements.options for name in unset(value)
            if _is_of(without_credentials(url), filled(value))]


def refusing(index: str, place: str = "", lacks: str = "", unset: Sequence[str] = ()) -> errors.Failure:
    """An index that wants a login; `lacks`: or has not what is asked for; `unset` are variables that it is told by."""
    named = f", which {place} names" if place else ""
    if unset:
        names = " and ".join(f"${{{name}}}" for name in unset)
        return errors.Failure(f"{index} refuses access{lacks}{named}: {names} {'is' if len(unset) == 1 else 'are'} not "
                              "set here", errors.NO_PERMISSION,
                              remedy=f"set {' and '.join(unset)} where the agent runs, in its environment")
    return errors.Failure(f"{index} refuses access{lacks}{named}", errors.NO_PERMISSION,
                          remedy="give its user and password in PIP_EXTRA_INDEX_URL, pip.conf or ~/.netrc")
