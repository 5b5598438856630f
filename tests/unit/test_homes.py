"""Two homes of one machine that serve one agent-server."""

import os
import subprocess
import sys
import time

from http_server import HttpServer


def test_supervisors_of_two_homes_are_two_workers_of_their_server(tmp_path):
    server = HttpServer(tmp_path / "server")
    key, secret = server.keys
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AGENT_", "CLEARML_"))}
    bin = os.path.dirname(sys.executable)
    supervisors = [subprocess.Popen(
        [os.path.join(bin, "agent-supervisor"), "default"], stderr=subprocess.PIPE, text=True, env={
            **clean, "AGENT_HOME": str(tmp_path / home), "AGENT_MACHINE_DIR": str(tmp_path / "machine"),
            "HOME": str(tmp_path), "CLEARML_API_HOST": server.api,
            "CLEARML_API_ACCESS_KEY": key, "CLEARML_API_SECRET_KEY": secret, "PATH": f"{bin}:{os.environ['PATH']}"})
        for home in ("one", "two")]
    try:
        until, found = time.monotonic() + 60, []
        while len(found) < 2 and time.monotonic() < until:
            found = sorted(each["id"] for each in server.call("workers.get_all")["workers"])
            time.sleep(0.1)
    finally:
        for each in supervisors:
            each.terminate()
        said = [each.communicate(timeout=60)[1] for each in supervisors]
        server.stop()
    host = os.uname().nodename
    assert found == [f"{host}:0", f"{host}:1"], said
