"""What agent-server does by itself: silent tasks are stopped, and files go with their tasks."""

import json
import os
import time

import requests
from http_server import HttpServer
from servertools import Server

from agentpipe.server import housekeeping
from agentpipe.server.files import Files
from agentpipe.server.tokens import Tokens
from agentpipe.server.writer import SharedStore, Writer


def wait_until(true, seconds=20):
    """Until true() is."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


class House:
    """A housekeeper at work, and who uses its store."""

    def __init__(self, tmp_path, **settings):
        self.server = Server(tmp_path / "agent.db")
        store = SharedStore(self.server.path)
        self.files = Files(str(tmp_path / "files"), Tokens(store))
        self.writer = Writer(store)
        self.keeper = housekeeping.Housekeeper(store, self.files, self.writer.submit, **settings)

    def __enter__(self):
        self.keeper.start()
        return self

    def __exit__(self, *_):
        self.keeper.close()
        self.writer.close()

    def file(self, path):
        path = os.path.join(self.files.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write("x")
        before = time.time() - 10  # all of a test may happen within one tick of the clock
        os.utime(path, (before, before))
        return path


def test_a_task_without_a_sign_of_life_is_stopped_and_one_with_is_not(tmp_path, capfd):
    with House(tmp_path, silent=1) as house:
        server = house.server
        silent, alive, waiting = (server.enqueued(name) for name in ("silent", "alive", "waiting"))
        for task in (silent, alive):
            server("tasks.started", task=task)

        def stopped():
            server("tasks.ping", task=alive)
            return server.get(silent)["status"] == "stopped"
        wait_until(stopped)
        assert server.get(silent)["status_message"] == server.get(silent)["status_reason"] == housekeeping.REASON
        assert server.get(silent)["last_changed_by"] == "__apiserver__"
        assert server.get(alive)["status"] == "in_progress"
        assert server.get(waiting)["status"] == "queued"
    assert f"task {silent} gave no sign of life for 1 s" in capfd.readouterr().err


def test_a_server_that_slept_itself_does_not_judge_at_once():
    jobs = housekeeping.Schedule([100, 900], 1000.0, 5000.0)
    assert jobs.due(1050.0, 5050.0) == []
    assert jobs.due(1100.0, 5100.0) == [0]
    assert jobs.due(1901.0, 5901.0) == [0, 1]
    # the machine slept for three hours, which the monotonic clock does not count
    assert jobs.due(2802.0, 17602.0) == []
    assert jobs.due(2903.0, 17703.0) == [0]
    assert jobs.due(3702.0, 18502.0) == [0, 1]
    assert jobs.next() == 3802.0


def artefacts(server, task, *paths):
    server("tasks.add_or_update_artifacts", task=task, artifacts=[
        {"key": path, "type": "custom", "uri": "http://any.host:8081/" + path} for path in paths])


def test_files_go_with_their_task_and_those_of_others_stay(tmp_path):
    with House(tmp_path, spared=0.2) as house:
        server = house.server
        task, other = server.task("mine"), server.task("other")
        path = f"demo/mine.{task}/artifacts/a b/data.json"
        picture = f"demo/mine.{task}/metrics/one.jpg"
        theirs = f"demo/other.{other}/artifacts/data.json"
        paths = [house.file(each) for each in (path, picture, theirs, "plain.txt")]
        artefacts(server, task, path.replace(" ", "%20"), theirs, "plain.txt", "../agent.db")
        server("events.add_batch", [
            {"type": "plot", "task": task, "metric": "m", "variant": "v", "iter": 0,
             "plot_str": json.dumps({"layout": {"images": [{"source": "http://any.host:8081/" + picture}]}})}])
        server("tasks.delete", task=task)
        wait_until(lambda: not os.path.exists(paths[0]) and not os.path.exists(paths[1]))
        wait_until(lambda: not os.path.exists(os.path.join(house.files.root, f"demo/mine.{task}")))
        assert os.path.exists(paths[2]) and os.path.exists(paths[3]) and os.path.exists(server.path)
        assert os.path.exists(os.path.join(house.files.root, "demo"))


def test_files_of_published_models_go_with_their_project_and_are_told(tmp_path):
    house = House(tmp_path, spared=0.1)
    server = house.server
    project = server("projects.create", name="demo")["id"]
    task, other = server.task("mine", project=project), server.task("other")
    names = [f"demo/mine.{task}/{name}" for name in ("models/one", "models/two", "artifacts/data", "models/external")]
    paths = [house.file(each) for each in names]
    uris = ["http://any.host:8081/" + each for each in names]
    artefacts(server, task, names[2])
    for uri in (*uris[:2], "s3://bucket/three"):
        server("models.create", name="net", uri=uri, task=task, project=project)
    server("models.create", name="net", uri=uris[1], task=other)  # the same file once more
    answer = server("projects.delete", project=project, force=True, delete_contents=True)
    assert (answer["deleted_tasks"], answer["deleted_models"]) == (1, 3)
    assert answer["urls"] == {"model_urls": [*uris[:2], "s3://bucket/three"], "event_urls": [],
                              "artifact_urls": [uris[2]]}
    with house:
        wait_until(lambda: not os.path.exists(paths[0]) and not os.path.exists(paths[2]))
        wait_until(lambda: not server.store.connection().execute("SELECT 1 FROM doomed").fetchone())
    assert os.path.exists(paths[1]) and os.path.exists(paths[3])


def test_a_file_that_another_model_has_stays_when_its_draft_goes(tmp_path):
    house = House(tmp_path, spared=0.1)
    server = house.server
    task, user = server.task("mine"), server.task("user")
    names = [f"demo/mine.{task}/models/{name}" for name in ("shared", "own", "used")]
    paths = [house.file(each) for each in names]
    drafts = [server("models.create", name="draft", uri="http://any.host:8081/" + each, task=task, ready=False)["id"]
              for each in names]
    server("models.create", name="imported", uri="http://any.host:8081/" + names[0])
    server("tasks.add_or_update_model", task=user, name="in", type="input", model=drafts[2])
    server("tasks.started", task=task)
    answer = server("tasks.reset", task=task, return_file_urls=True)
    assert answer["urls"]["model_urls"] == ["http://any.host:8081/" + names[1]]
    with house:
        wait_until(lambda: not os.path.exists(paths[1]))
    assert os.path.exists(paths[0]) and os.path.exists(paths[2])


def test_what_a_task_uploads_again_after_its_reset_stays(tmp_path):
    house = House(tmp_path, spared=0.1)
    server = house.server
    task = server.task("mine")
    once, again = (house.file(f"demo/mine.{task}/artifacts/{name}") for name in ("once", "again"))
    artefacts(server, task, *(os.path.relpath(each, house.files.root) for each in (once, again)))
    server("tasks.started", task=task)
    server("tasks.reset", task=task)
    after = time.time() + 1
    os.utime(again, (after, after))
    with house:
        wait_until(lambda: not os.path.exists(once))
        wait_until(lambda: not server.store.connection().execute("SELECT 1 FROM doomed").fetchone())
    assert os.path.exists(again)


def test_what_a_task_brought_along_goes_with_the_last_that_has_it(tmp_path):
    with House(tmp_path, spared=0.1) as house:
        server = house.server
        task, clone, thief = (server.task(name) for name in ("mine", "clone", "thief"))
        path = f"agentpipe/{task}/artifacts/files.tar.gz"
        kept = house.file(path)
        for each, mode in ((task, "input"), (clone, "input"), (thief, "output")):
            server("tasks.add_or_update_artifacts", task=each, artifacts=[
                {"key": "agentpipe-files", "type": "archive", "mode": mode, "uri": f"http://any.host:8081/{path}"}])
        server("tasks.delete", task=thief)
        server("tasks.reset", task=clone, force=True)
        server("tasks.delete", task=task)
        assert server.store.connection().execute("SELECT count(*) FROM doomed").fetchone() == (0,)
        assert os.path.exists(kept)
        server("tasks.delete", task=clone)
        wait_until(lambda: not os.path.exists(os.path.join(house.files.root, "agentpipe")))


def test_files_stay_when_that_is_asked_and_inputs_always_do(tmp_path):
    with House(tmp_path, spared=0.1) as house:
        server = house.server
        task = server.task("mine")
        kept = house.file(f"demo/mine.{task}/artifacts/kept")
        artefacts(server, task, os.path.relpath(kept, house.files.root))
        server("tasks.delete", task=task, delete_external_artifacts=False)
        assert server.store.connection().execute("SELECT count(*) FROM doomed").fetchone() == (0,)


def test_a_running_server_looks_at_its_tasks(tmp_path):
    server = HttpServer(tmp_path / "home", "--silent", "1")
    try:
        task = server.call("tasks.create", name="silent", type="training")["id"]
        server.call("tasks.started", task=task)
        wait_until(lambda: server.call("tasks.get_by_id", task=task)["task"]["status"] == "stopped")
        answer = requests.get(server.api + "/events.download_task_log", json={"task": task}, headers=server.bearer(),
                              timeout=30)
        assert answer.headers["Content-Disposition"] == f'attachment; filename="task_{task}.log"'
        assert answer.status_code == 200 and answer.text == ""
    finally:
        assert server.stop() == 0
