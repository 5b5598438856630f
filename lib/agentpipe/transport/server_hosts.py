"""Where the three servers of a ClearML installation stand, from what is known of one of them."""

from __future__ import annotations

HOSTS = ("api_server", "web_server", "files_server")


def derived(address: str) -> dict[str, str]:
    """The three addresses of a ClearML server from one of them, by the names or ports that ClearML uses."""
    from agentpipe.transport.http_api import normalised
    address = normalised(address)
    scheme, _, rest = address.partition("://")
    for prefixes in (("api.", "app.", "files."), ("demoapi.", "demoapp.", "demofiles.")):
        for prefix in prefixes:
            if rest.startswith(prefix):
                return {name: f"{scheme}://{each}{rest[len(prefix):]}"
                        for name, each in zip(HOSTS, prefixes, strict=False)}
    for port in (":8008", ":8080", ":8081"):
        if port in rest:
            return {name: f"{scheme}://{rest.replace(port, each, 1)}"
                    for name, each in zip(HOSTS, (":8008", ":8080", ":8081"), strict=False)}
    return {"api_server": address}


def web_server(api_server: str) -> str:
    """The web server's address beside an API server whose configuration names none."""
    return derived(api_server).get("web_server") or without_pages(api_server)


def without_pages(api_server: str) -> str:
    """What api.web_server says where no web server is known: Task.init ends without an address for its links, and
    clearml-init wants addresses that differ."""
    return api_server.rstrip("/") + "/"
