"""A script with the real package that agent-run watches is stopped: its callback has its time, the task is stopped."""

import os
import subprocess
import sys
import time

import pytest
from conftest import clean_environment

SCRIPT = """
import time
from clearml import Task
task = Task.init("demo/abort", "stopped", auto_connect_frameworks=False, auto_resource_monitoring=False)
def save():
    print("saving", flush=True)
    time.sleep(3)
    print("saved", flush=True)
{register}
print("ready", task.data.runtime.get("_abort_callback_timeout"), flush=True)
time.sleep(300)
"""


REPORTS = """
import time
from clearml import Task
task = Task.init("demo/abort", "reports", auto_connect_frameworks=False, auto_resource_monitoring=False)
for step in range(1500):
    task.get_logger().report_scalar("loss", "train", step, step)
    print("step", step, flush=True)
    time.sleep(0.2)
"""


def wait_for(seen, seconds=90):
    until = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


@pytest.fixture
def stopped(server, sdk_python, tmp_path):
    """A function that runs the script of a task until its log has `seen`, and has it stopped then."""
    def run(text, seen, most):
        queue = server("queues.create", name=f"abort {tmp_path.name} {os.getpid()}")["id"]
        task = server("tasks.create", name="stopped", type="training", script={
            "entry_point": "train.py", "working_dir": ".", "diff": text, "requirements": {"pip": ""}})["id"]
        server("tasks.enqueue", task=task, queue=queue)
        commands = os.path.dirname(sys.executable)
        environment = {**clean_environment(), "HOME": str(tmp_path), "AGENT_HOME": str(tmp_path / "agent"),
                       "CLEARML_CONFIG_FILE": str(server.conf), "CLEARML_AGENT_SKIP_PIP_VENV_INSTALL": sdk_python,
                       "PATH": f"{commands}:{os.environ['PATH']}"}
        with open(tmp_path / "said", "wb") as said:
            pipeline = subprocess.Popen(["sh", "-c", f"agent-pull {queue} | agent-prepare | agent-run >receipt"],
                                        cwd=tmp_path, env=environment, stderr=said)
        log = tmp_path / "agent" / "state" / "tasks" / f"{task}.1" / "log"
        try:
            wait_for(lambda: pipeline.poll() is not None or (log.exists() and seen in log.read_text()))
            assert pipeline.poll() is None, (tmp_path / "said").read_text()
            server("tasks.stop", task=task)
            since = time.monotonic()
            assert pipeline.wait(90) == 130
            assert time.monotonic() - since < most
        finally:
            pipeline.kill()
        found = server.task(task)
        assert (found["status"], found["status_reason"]) == ("stopped", "task was stopped by tasks.stop")
        return found, log.read_text()
    return run


@pytest.mark.parametrize(("register", "grace"), [
    ("task.register_abort_callback(save, callback_execution_timeout=60)", 2 * 5 + 3 + 10), ("", 5 + 10)])
def test_a_stop_gives_the_callback_its_time_and_ends_the_script(stopped, register, grace):
    task, log = stopped(SCRIPT.format(register=register), "ready", 3 * grace)  # on a busy machine too
    if register:
        assert "saving" in log and "saved" in log
        assert task["runtime"]["_abort_callback_completed"] == 1


def test_what_a_script_reports_until_it_is_stopped_is_there(stopped, server):
    task, log = stopped(REPORTS, "step 20\n", 60)
    steps = [line for line in log.splitlines() if line.startswith("step ")]
    found = server("events.scalar_metrics_iter_histogram", task=task["id"], samples=6000)
    assert len(steps) <= len(found["loss"]["train"]["y"]) <= len(steps) + 1
