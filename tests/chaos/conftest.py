"""Every test breaks a node of its own."""

import os

import nodes
import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A cache for many nodes: making the same mirror and environment in each would be most of the work."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A repository for all nodes, and its commit."""
    folder = tmp_path_factory.mktemp("repository")
    return folder, nodes.make_repository(folder)


@pytest.fixture
def node(request, tmp_path, cache, repository, monkeypatch):
    """A node with an empty queue `default`."""
    for name in ("AGENT_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, "")
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    point = params.get("point", "")
    if nodes.builds(point):
        cache = without_environments(tmp_path / "cache", cache)
    made = nodes.Node(tmp_path / "node", cache, None if nodes.fetches(point) else repository)
    yield made
    # what a failing test left running would disturb the next
    home = f"XDG_STATE_HOME={made.env['XDG_STATE_HOME']}".encode()
    from agentpipe import processes
    for pid in processes.having(home):
        if pid != os.getpid():
            nodes.kill(pid)


def without_environments(new, cache):
    """A cache that has of another one all but the environments."""
    (new / "agentpipe").mkdir(parents=True)
    for name in ("git", "interpreters", "lent", "virtualenv"):
        (cache / "agentpipe" / name).mkdir(parents=True, exist_ok=True)
        (new / "agentpipe" / name).symlink_to(cache / "agentpipe" / name)
    return new
