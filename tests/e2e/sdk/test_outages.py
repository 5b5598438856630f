"""agent-server is killed in the middle of a script and started again: the script goes on, and nothing is lost."""

import os
import signal
import subprocess
import time

from conftest import SAY, Server, clean_environment

SCRIPT = SAY + """
import pathlib, time
from clearml import Task
task = Task.init("demo/outage", "goes on", output_uri=True, auto_connect_frameworks=False)
for i in range(40):
    task.get_logger().report_scalar("loss", "train", i, i)
    print("line", i, flush=True)
    if i == 10:
        pathlib.Path("begun").touch()
    if i == 20:
        task.upload_artifact("early", {"i": i})
    time.sleep(0.1)
task.upload_artifact("late", {"i": i}, wait_on_upload=True)
task.flush(wait_for_uploads=True)
say(id=task.id)
task.close()
"""


def test_a_script_outlives_a_server_that_was_killed(sdk_python, tmp_path):
    server = Server(tmp_path / "server")
    (tmp_path / "script.py").write_text(SCRIPT)
    script = subprocess.Popen([sdk_python, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env={**clean_environment(), "HOME": str(tmp_path),
                                              "CLEARML_CONFIG_FILE": str(server.conf)})
    while not (tmp_path / "begun").exists():
        assert script.poll() is None, script.communicate()
        time.sleep(0.05)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    time.sleep(2)
    server.start(again=True)
    try:
        output, _ = script.communicate(timeout=120)
        assert script.returncode == 0, output
        task = server("tasks.get_all", name="goes on")["tasks"][0]
        assert task["status"] == "completed"
        assert sorted(each["key"] for each in task["execution"]["artifacts"]) == ["early", "late"]
        curve = server("events.scalar_metrics_iter_histogram", task=task["id"], samples=6000)["loss"]["train"]
        assert curve["x"] == list(range(40))
        log = "\n".join(event["msg"] for event in server("events.get_task_log", task=task["id"], order="asc")["events"])
        # one that dies after it has stored a batch, but before it says so, gets that once more: the events of the
        # package have nothing that tells them apart
        lines = dict.fromkeys(line for line in log.splitlines() if line.startswith("line "))
        assert [f"line {i}" for i in range(40)] == list(lines)
    finally:
        assert server.stop() == 0
