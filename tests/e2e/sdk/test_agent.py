"""The real clearml-agent from PyPI serves a queue of agent-server: one protocol."""

import os
import subprocess
import time

import hung
from conftest import clean_environment


def wait_for(what, seconds, *, while_alive):
    """The first true value of what(); the process must not end meanwhile."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = what()
        if found:
            return found
        if while_alive.poll() is not None:
            break
        time.sleep(0.2)
    raise AssertionError(f"not seen in {seconds} s; agent: {while_alive.poll()}\n{hung.tell(while_alive.pid)}")


def workers(server):
    return [each["id"] for each in server("workers.get_all")["workers"]]


def test_clearml_agent_runs_a_task_with_its_changed_parameters(run, server, sdk_python, tmp_path):
    commands = os.path.dirname(sdk_python)
    queue = server("queues.create", name="peers")["id"]
    done = run("""
import argparse
from clearml import Task
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
task = Task.init("demo/agent", "trained", auto_connect_frameworks=False)
epochs = parser.parse_args().epochs
settings = task.connect({"lr": 0.1})
for i in range(epochs):
    task.get_logger().report_scalar("loss", "train", settings["lr"] * i, i)
task.upload_artifact("answer", {"epochs": epochs, "lr": settings["lr"]}, wait_on_upload=True)
print("epochs are", epochs)
say(id=task.id)
task.close()
""")
    clone = server("tasks.clone", task=done.id, new_task_name="cloned")["id"]
    server("tasks.edit_hyper_params", task=clone, hyperparams=[
        {"section": "Args", "name": "epochs", "value": "5"}, {"section": "General", "name": "lr", "value": "2.0"}])
    server("tasks.enqueue", task=clone, queue=queue)
    with open(tmp_path / "agent.log", "wb") as log:
        agent = subprocess.Popen(
            [os.path.join(commands, "clearml-agent"), "--config-file", str(server.conf), "daemon", "--foreground",
             "--queue", "peers", "--cpu-only"], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT,
            env={**clean_environment(), "HOME": str(tmp_path), "PATH": f"{commands}:{os.environ['PATH']}",
                 "CLEARML_CONFIG_FILE": str(server.conf), "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1",
                 "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC": "1", "CLEARML_WORKER_ID": "peer:0"})
    try:
        wait_for(lambda: "peer:0" in workers(server), 60, while_alive=agent)
        ended = ("completed", "failed", "stopped")
        wait_for(lambda: server.task(clone)["status"] in ended, 180, while_alive=agent)
        task = server.task(clone)
        events = server("events.get_task_log", task=clone, order="asc")["events"]
        text = "\n".join(event["msg"] for event in events)
        assert task["status"] == "completed", text
        assert "epochs are 5" in text
        artefact = task["execution"]["artifacts"][0]
        assert server.session.get(artefact["uri"], timeout=30).json() == {"epochs": 5, "lr": 2.0}
        curve = server("events.scalar_metrics_iter_histogram", task=clone)["loss"]["train"]
        assert curve["y"] == [0, 2, 4, 6, 8]
        assert task["last_worker"] == "peer:0"
    finally:
        agent.terminate()
        agent.wait(60)
    assert "peer:0" not in workers(server)
