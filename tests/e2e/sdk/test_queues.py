"""Tasks that are to run elsewhere: made, cloned, put into queues, found again."""

import subprocess
import sys

from conftest import clean_environment


def test_a_task_is_made_cloned_enqueued_and_found(run, server):
    queue = server("queues.create", name="made")["id"]
    done = run("""
from clearml import Task
made = Task.create("demo/made", "made", repo="https://example.org/r.git", script="train.py", branch="main",
                   commit="1" * 40, packages=["six==1.16.0"], docker="debian:12", docker_args="--ipc host",
                   argparse_args=[("epochs", "3")], add_task_init_call=False)
clone = Task.clone(made, name="cloned", parent=made.id)
clone.set_parameter("Args/epochs", "5")
entry = Task.enqueue(clone, queue_name="made")
found = Task.get_tasks(project_name="demo/made", task_name="^cloned$", task_filter={"status": ["queued"]})
by_tag = Task.query_tasks(project_name="demo/made", tags=["nothing"])
made.add_tags(["a", "b"])
clone.add_tags("a")
names = lambda **asked: [task.name for task in Task.get_tasks(project_name="demo/made", **asked)]
say(tagged=sorted(names(tags=["a"])), without=names(tags=["a", "-b"]), both=names(tags=["__$all", "a", "b"]),
    ordered=names(task_filter={"order_by": ["-name"]}), page=names(task_filter={
        "order_by": ["name"], "page": 0, "page_size": 1}),
    fields=Task.query_tasks(project_name="demo/made", tags=["b"],
                            additional_return_fields=["name", "script.entry_point"]))
say(made=made.id, clone=clone.id, found=[t.id for t in found], by_tag=by_tag, parent=found[0].parent,
    status=str(found[0].status), pending=Task.get_task(task_id=clone.id).get_parameters())
Task.dequeue(clone)
say(after=Task.get_task(task_id=clone.id).get_status(), projects=[p.name for p in Task.get_projects()])
""")
    assert done.found == [done.clone]
    assert done.by_tag == []
    assert (done.tagged, done.without, done.both) == (["cloned", "made"], ["cloned"], ["made"])
    assert (done.ordered, done.page) == (["made", "cloned"], ["cloned"])
    assert done.fields == [{"id": done.made, "name": "made", "script.entry_point": "train.py"}]
    assert done.parent == done.made
    assert done.status == "queued"
    assert done.pending["Args/epochs"] == "5"
    assert done.after == "created"
    assert "demo/made" in done.projects
    task = server.task(done.clone)
    assert task["script"]["version_num"] == "1" * 40
    assert task["container"]["image"] == "debian:12"
    assert task["execution"]["queue"] == queue


def test_execute_remotely_stops_here_and_stands_in_the_queue(run, server):
    queue = server("queues.create", name="away")["id"]
    done = run("""
from clearml import Task
task = Task.init("demo", "away", auto_connect_frameworks=False)
task.connect({"lr": 0.5})
say(id=task.id)
task.execute_remotely(queue_name="away", exit_process=True)
say(reached=True)
""")
    assert "reached" not in done.said
    assert server.task(done.id)["status"] == "queued"
    entries = server("queues.get_by_id", queue=queue)["queue"]["entries"]
    assert [entry["task"] for entry in entries] == [done.id]


def test_an_unknown_queue_is_told_in_words(run, server):
    done = run("""
from clearml import Task
task = Task.create("demo", "nowhere", script="a.py", repo="https://example.org/r.git")
try:
    Task.enqueue(task, queue_name="no such queue")
except ValueError as error:
    say(error=str(error))
""")
    assert "no such queue" in done.error


def test_clearml_task_puts_a_script_into_a_queue(run, server, tmp_path):
    server("queues.create", name="by-command")
    (tmp_path / "train.py").write_text("import argparse\nprint('hello')\n")
    done = run.command(["clearml-task", "--project", "demo", "--name", "by command", "--script", "train.py",
                        "--queue", "by-command", "--args", "lr=0.1", "--packages", "six"])
    [task] = server("tasks.get_all", name="^by command$")["tasks"]
    assert task["id"] in done.output
    assert task["status"] == "queued"
    assert task["hyperparams"]["Args"]["lr"]["value"] == "0.1"
    assert "print('hello')" in task["script"]["diff"]


def test_an_aborted_script_runs_its_callback_and_ends(run, server):
    done = run("""
import time, requests
from clearml import Task
task = Task.init("demo", "abort", auto_connect_frameworks=False)
task.register_abort_callback(lambda: print("callback ran", flush=True), callback_execution_timeout=20)
say(id=task.id)
other = Task.get_task(task_id=task.id)
Task._get_default_session().send_request("tasks", "stop", json={"task": task.id})
time.sleep(60)
say(reached=True)
""", code=-9)
    assert "callback ran" in done.output
    assert "reached" not in done.said
    assert server.task(done.id)["status"] == "stopped"


def test_tasks_are_reset_published_archived_and_deleted(run, server):
    done = run("""
from clearml import Task
task = Task.init("demo", "life", auto_connect_frameworks=False)
task.get_logger().report_scalar("loss", "train", 1, 0)
task.upload_artifact("data", {"x": 1}, wait_on_upload=True)
url = task.artifacts["data"].url
task.close()
task = Task.get_task(task_id=task.id)
task.reset(force=True)
say(id=task.id, reset=task.get_status(), scalars=task.get_reported_scalars(), url=url)
two = Task.create("demo", "published", script="a.py", repo="https://example.org/r.git")
two.mark_started(force=True); two.mark_completed(); two.publish()
say(published=two.get_status())
two.set_archived(True)
say(archived=two.get_archived(), gone=bool(task.delete()),
    left=[t.id for t in Task.get_tasks(project_name="demo", task_name="^life$")])
""")
    assert done.reset == "created"
    assert done.scalars == {}
    assert done.published == "published"
    assert done.archived is True
    assert done.gone is True
    assert done.left == []


def test_clearml_init_takes_what_new_keys_prints(run, server, tmp_path):
    block = subprocess.run(
        [sys.executable, "-m", "agentpipe.cmds.agent_server", "--new-keys"], capture_output=True, text=True, check=True,
        env={**clean_environment(), "AGENT_HOME": str(server.home / "agent"), "USER": "tester"}).stdout
    (tmp_path / "block").write_text(block + "\n" * 9)
    said = run.command(["sh", "-c", "exec clearml-init --file mine.conf <block"]).output
    assert "Credentials verified!" in said and server.said["api_server"] in (tmp_path / "mine.conf").read_text()
