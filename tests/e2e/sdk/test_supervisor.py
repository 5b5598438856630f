"""A script with Task.init, run once by hand; its clone with changed arguments is run by agent-supervisor."""

import os
import socket
import subprocess
import sys
import time

import pytest
from conftest import SAY, clean_environment

SCRIPT = SAY + """
import argparse, importlib.util
from clearml import Task
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
task = Task.init("demo/shows", "by hand", auto_connect_frameworks=False)
args = parser.parse_args()
settings = task.connect({"lr": 0.1, "net": {"depth": 2}})
network = task.connect_configuration({"layers": [1, 2]}, name="network")
for i in range(args.epochs):
    task.get_logger().report_scalar("loss", "train", settings["lr"] * i, i)
task.upload_artifact("answer", {"epochs": args.epochs, "lr": settings["lr"]}, wait_on_upload=True)
print("epochs are", args.epochs, "and lr is", settings["lr"], "layers", network["layers"])
print("iniconfig is", "here" if importlib.util.find_spec("iniconfig") else "not here")
say(id=task.id)
"""


def git(*words, cwd):
    subprocess.run(["git", "-c", "user.name=ann", "-c", "user.email=ann@example.org", *words], cwd=cwd, check=True,
                   capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """A checkout with a remote, and with a change that is not committed."""
    git("init", "-q", "--bare", "remote.git", cwd=tmp_path)
    git("clone", "-q", "remote.git", "checkout", cwd=tmp_path)
    checkout = tmp_path / "checkout"
    (checkout / "train.py").write_text(SCRIPT)
    git("add", ".", cwd=checkout)
    git("commit", "-qm", "a script", cwd=checkout)
    git("push", "-q", "origin", "HEAD", cwd=checkout)
    with open(checkout / "train.py", "a") as file:
        file.write('print("a change that is not committed")\n')
    return checkout


class Supervisor:
    """agent-supervisor in a home of its own, until the end of the `with` block."""

    def __init__(self, server, home, queue, *options):
        self.log = home / "supervisor.log"
        commands = os.path.dirname(sys.executable)
        home.mkdir()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [os.path.join(commands, "agent-supervisor"), *options, queue], stdout=log, stderr=log, cwd=home,
                env={**clean_environment(), "HOME": str(home), "AGENT_HOME": str(home / "agent"),
                     "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__SYSTEM_SITE_PACKAGES": "false",
                     # no monitor of the machine's load: environments of tasks lack the guard of in_sdk_python.py
                     "CLEARML_MULTI_NODE_SINGLE_TASK": "-1",
                     "CLEARML_CONFIG_FILE": str(server.conf), "PATH": f"{commands}:{os.environ['PATH']}"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(60) == 0, self.log.read_text()


def ended(server, task, seconds=240):
    until = time.monotonic() + seconds
    while server.task(task)["status"] in ("created", "queued", "in_progress"):
        assert time.monotonic() < until, server("events.get_task_log", task=task, order="asc")
        time.sleep(0.2)
    return server.task(task)


def test_a_clone_with_a_changed_argument_hyperparameter_configuration_and_package(run, server, repository, sdk_python,
                                                                                  tmp_path):
    queue = server("queues.create", name="ours")["id"]
    by_hand = run.command([sdk_python, str(repository / "train.py"), "--epochs", "2"])
    assert "epochs are 2 and lr is 0.1 layers [1, 2]" in by_hand.output
    assert "iniconfig is not here" in by_hand.output
    first = server.task(by_hand.id)
    assert first["script"]["repository"].endswith("remote.git")
    assert "a change that is not committed" in first["script"]["diff"]

    clone = server("tasks.clone", task=by_hand.id, new_task_name="by the supervisor")["id"]
    server("tasks.edit_hyper_params", task=clone, hyperparams=[
        {"section": "Args", "name": "epochs", "value": "5"}, {"section": "General", "name": "lr", "value": "2.0"}])
    [network] = server("tasks.get_configurations", tasks=[clone])["configurations"][0]["configuration"]
    server("tasks.edit_configuration", task=clone, configuration=[{**network, "value": "layers = [3, 4, 5]"}])
    asked = first["script"]["requirements"]["pip"]
    server("tasks.set_requirements", task=clone, requirements={"pip": asked + "\niniconfig==2.0.0\n"})
    server("tasks.enqueue", task=clone, queue=queue)
    with Supervisor(server, tmp_path / "node", "ours"):
        task = ended(server, clone)

    log = "\n".join(event["msg"] for event in server("events.get_task_log", task=clone, order="asc")["events"])
    assert task["status"] == "completed", log
    assert "epochs are 5 and lr is 2.0 layers [3, 4, 5]" in log
    assert "iniconfig is here" in log and "a change that is not committed" in log
    curve = server("events.scalar_metrics_iter_histogram", task=clone)["loss"]["train"]
    assert curve["y"] == [0, 2, 4, 6, 8]
    [artefact] = task["execution"]["artifacts"]
    assert server.session.get(artefact["uri"], timeout=30).json() == {"epochs": 5, "lr": 2.0}
    installed = "\n".join(task["script"]["requirements"]["pip"]).lower()
    assert "iniconfig==2.0.0" in installed and "requests==" in installed
    assert task["hyperparams"]["Args"]["epochs"]["value"] == "5"
    assert server.task(by_hand.id)["hyperparams"]["Args"]["epochs"]["value"] == "2"
    assert task["last_worker"]


def test_scripts_of_clearml_task_and_of_task_create_get_task_init_and_their_arguments(run, server, tmp_path):
    queue = server("queues.create", name="added")["id"]
    (tmp_path / "alone.py").write_text("""
import argparse, importlib.metadata, sys
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
lr = parser.parse_args().lr
from clearml import Task
print("lr is", lr, "of task", Task.current_task().id, "with iniconfig", importlib.metadata.version("iniconfig"))
""")
    (tmp_path / "needs.txt").write_text("clearml\niniconfig==2.0.0\n")
    run.command(["clearml-task", "--project", "demo/added", "--name", "by clearml-task", "--script", "alone.py",
                 "--requirements", "needs.txt", "--args", "lr=0.25", "--queue", "added"])
    made = run("""
from clearml import Task
task = Task.create("demo/added", "by function", script="alone.py", requirements_file="needs.txt",
                   argparse_args=[("lr", "0.75")], add_task_init_call=True)
Task.enqueue(task, queue_name="added")
say(id=task.id)
""").id
    tasks = [entry["task"] for entry in server("queues.get_by_id", queue=queue)["queue"]["entries"]]
    assert tasks[1] == made
    with Supervisor(server, tmp_path / "node", "added"):
        for task, lr in zip(tasks, ("0.25", "0.75"), strict=True):
            assert ended(server, task)["status"] == "completed"
            log = "".join(event["msg"] for event in server("events.get_task_log", task=task)["events"])
            assert f"lr is {lr} of task {task} with iniconfig 2.0.0" in log, log


PIPELINE = """
from clearml import PipelineDecorator, Task
@PipelineDecorator.component(return_values=["more"], packages=["clearml"], execution_queue="steps")
def step(value):
    return int(value) + 1
@PipelineDecorator.component(return_values=["ten"], packages=["clearml"], execution_queue="steps",
                             monitor_artifacts=["ten"])
def times(value):
    return value * 10
@PipelineDecorator.pipeline(name="queued", project="demo/pipes", version="1", pipeline_execution_queue="control",
                            packages=["clearml"])
def whole(start=3):
    print("the result is", int(times(step(start))))
whole(start=4)
"""


def test_a_pipeline_whose_controller_and_steps_are_queued(run, server, tmp_path):
    control, _ = (server("queues.create", name=name)["id"] for name in ("control", "steps"))
    assert "Terminating local execution" in run(PIPELINE).output
    [entry] = server("queues.get_by_id", queue=control)["queue"]["entries"]
    with Supervisor(server, tmp_path / "first", "control"), Supervisor(server, tmp_path / "second", "steps"):
        ended(server, entry["task"])
    log = "\n".join(event["msg"] for event in server("events.get_task_log", task=entry["task"])["events"])
    assert "the result is 50" in log, log
    found = server("tasks.get_all", parent=entry["task"], search_hidden=True, only_fields=["name", "status"])["tasks"]
    assert {(task["name"], task["status"]) for task in found} == {("step", "completed"), ("times", "completed")}
    assert server("workers.get_all")["workers"] == []


NODES = SAY + """
import os, socket, time
from clearml import Task
task = Task.init("demo/nodes", "node", auto_connect_frameworks=False)
config = task.launch_multi_node(3, queue="ranks", port=PORT, addr="127.0.0.1")
rank, where = int(os.environ["RANK"]), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    with socket.create_server(where) as server:
        server.settimeout(200)
        print("the others are", sorted(server.accept()[0].makefile().read() for _ in range(2)))
else:
    while True:
        try:
            with socket.create_connection(where) as client:
                client.sendall(f"{rank} of {os.environ['WORLD_SIZE']}".encode())
            break
        except ConnectionRefusedError:
            time.sleep(0.2)
print("rank", rank, "is over")
"""


def test_the_nodes_of_launch_multi_node_meet_when_several_supervisors_run_them(run, server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "nodes.py").write_text(NODES.replace("PORT", str(port), 1))
    server("queues.create", name="ranks")
    first = run(SAY + """
from clearml import Task
task = Task.create("demo/nodes", "node", script="nodes.py", packages=["clearml"])
Task.enqueue(task, queue_name="ranks")
say(id=task.id)
""").id
    with Supervisor(server, tmp_path / "node", "ranks", "--jobs", "3"):
        task = ended(server, first)
        nodes = server("tasks.get_all", parent=first, search_hidden=True, only_fields=["id"])["tasks"]
        found = [task, *(ended(server, node["id"]) for node in nodes)]
    logs = ["".join(event["msg"] for event in server("events.get_task_log", task=each["id"], order="asc")["events"])
            for each in found]
    assert "the others are ['1 of 3', '2 of 3']" in logs[0], logs
    assert [each["status"] for each in found] == ["completed"] * 3, logs
    assert len({each["last_worker"] for each in found}) == 3
