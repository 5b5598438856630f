"""Every test has a home of its own."""

import pytest


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
