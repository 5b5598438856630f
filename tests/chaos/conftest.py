"""Every test breaks a node of its own."""

import os

import nodes
import pytest


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A node with an empty queue `default`."""
    monkeypatch.setenv("AGENT_HOME", "")
    made = nodes.Node(tmp_path / "node")
    yield made
    # what a failing test left running would disturb the next
    home = f"AGENT_HOME={made.env['AGENT_HOME']}".encode()
    from agentpipe import processes
    for pid in processes.having(home):
        if pid != os.getpid():
            nodes.kill(pid)
