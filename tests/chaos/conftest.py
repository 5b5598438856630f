"""Every test breaks a node of its own."""

import os

import nodes
import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A cache for many nodes: making the same environment in each would be most of the work."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def node(request, tmp_path, cache, monkeypatch):
    """A node with an empty queue `default`."""
    for name in ("AGENT_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, "")
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    made = nodes.Node(tmp_path / "node", tmp_path / "cache" if nodes.builds(params.get("point", "")) else cache)
    yield made
    # what a failing test left running would disturb the next
    home = f"XDG_STATE_HOME={made.env['XDG_STATE_HOME']}".encode()
    from agentpipe import processes
    for pid in processes.having(home):
        if pid != os.getpid():
            nodes.kill(pid)
