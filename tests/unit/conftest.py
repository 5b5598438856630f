"""Every test has a home of its own."""

import pytest
from hypothesis import settings

# its database of failures would be written to a shared disk at every example
settings.register_profile("agentpipe", database=None, deadline=None)
settings.load_profile("agentpipe")


@pytest.fixture(autouse=True)
def no_signal_of_another_test():
    """What one test has told this process to do is not told to the next one."""
    yield
    from agentpipe.signals import SIGNALS
    SIGNALS.forget()
    SIGNALS.told = None


@pytest.fixture(autouse=True)
def agent_home(tmp_path, monkeypatch):
    """AGENT_HOME in the test's temporary directory, and nothing of the caller's settings."""
    import os
    for name in list(os.environ):
        if name.startswith(("AGENT_", "CLEARML_", "TRAINS_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("AGENT_HOME", str(home))
    monkeypatch.setenv("AGENT_MACHINE_DIR", str(tmp_path / "machine"))  # and no home of anybody else's is seen
    return home


@pytest.fixture
def directory(agent_home):
    """The directory of an attempt at task t1; what a script left behind is not ours to bury in later tests."""
    from agentpipe import processes
    from agentpipe.claim import attempt
    yield attempt.create("t1")
    processes.become_subreaper(False)


@pytest.fixture(scope="session")
def seeds(tmp_path_factory):
    """seeds(home) lets a new AGENT_HOME know this machine's Pythons, and what virtualenv puts into environments.

    Both are found out once for all tests: they are three quarters of the work of a home's first environment.
    """
    common = tmp_path_factory.mktemp("seeds")

    def share(home):
        (home / "cache").mkdir(parents=True)
        for name in ("virtualenv", "lent", "interpreters"):
            (common / name).mkdir(exist_ok=True)
            (home / "cache" / name).symlink_to(common / name)
    return share


@pytest.fixture
def no_shims(monkeypatch):
    """PATH without the folders whose programs ask a version manager what to be: each takes it a second to say so."""
    import os
    folders = os.environ["PATH"].split(os.pathsep)
    monkeypatch.setenv("PATH", os.pathsep.join(each for each in folders if os.path.basename(each) != "shims"))


@pytest.fixture
def machine(tmp_path, monkeypatch, no_shims, seeds):
    """A machine for environments, with an index of three wheels."""
    import os

    import wheelhouse
    from env_machine import Machine
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "CLEARML_", "AGENT_", "PYTHON"))]:
        monkeypatch.delenv(name)
    made = Machine(tmp_path)
    seeds(tmp_path / "home")
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AGENT_MACHINE_DIR", str(tmp_path / "machine"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", made.index)
    wheelhouse.wheel(made.index, "tea", "1.0", scripts=["tea"])
    wheelhouse.wheel(made.index, "tea", "2.0", scripts=["tea"])
    wheelhouse.wheel(made.index, "milk", "1.0", requires=["tea<2"])
    return made


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
