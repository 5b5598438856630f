"""Every test has a home of its own."""

import pytest
from hypothesis import settings

# its database of failures would be written to a shared disk at every example
settings.register_profile("agentpipe", database=None, deadline=None)
settings.load_profile("agentpipe")


@pytest.fixture(autouse=True)
def agent_home(tmp_path, monkeypatch):
    """AGENT_HOME in the test's temporary directory, and nothing of the caller's settings."""
    import os
    for name in list(os.environ):
        if name.startswith(("AGENT_", "CLEARML_", "TRAINS_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("AGENT_HOME", str(home))
    return home


@pytest.fixture(params=["store", "agent-server", "clearml"])
def transport(request, tmp_path, monkeypatch):
    """The embedded store; the same behind HTTP; and behind a server that knows nothing of our claims."""
    from api_server import ApiServer
    if request.param == "store":
        yield None
        return
    with ApiServer(str(tmp_path / "server.db"), ours=request.param == "agent-server") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    """An agent-server for all tests of a file; it must end well, and say nothing that is secret."""
    from http_server import HttpServer
    found = HttpServer(tmp_path_factory.mktemp("http") / "home")
    yield found
    assert found.stop() == 0
    assert "bug of ours" not in found.said()
    assert found.keys[1] not in found.said()
