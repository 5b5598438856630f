"""The file under the embedded server: opened by many, safe against kills, clear about what is wrong."""

import os
import pathlib
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest
from servertools import Server

from agentpipe import errors, paths
from agentpipe.cmds import agent_report, agent_supervisor
from agentpipe.configure import config_check
from agentpipe.server import store as store_module
from agentpipe.server.endpoints import call
from agentpipe.server.store import Store


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def test_a_new_store_is_private_and_has_a_default_queue(server):
    for name in os.listdir(os.path.dirname(server.path)):
        if name.startswith("agent.db"):
            mode = os.stat(os.path.join(os.path.dirname(server.path), name)).st_mode
            assert stat.S_IMODE(mode) == 0o600, name
    queue = server("queues.get_all")["queues"][0]
    assert (queue["name"], queue["system_tags"], queue["entries"]) == ("default", ["default"], [])


def test_a_store_keeps_its_identity(server):
    assert len(server.store.server_id) == 32
    assert int(server.store.server_id, 16)
    assert Store(server.path).server_id == server.store.server_id


def test_many_processes_may_open_a_store_that_is_not_there_yet(tmp_path):
    path = str(tmp_path / "agent.db")
    code = "import sys; from agentpipe.server.store import Store; print(Store(sys.argv[1]).server_id)"
    openers = [subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
               for _ in range(6)]
    ids = {opener.communicate()[0].strip() for opener in openers}
    assert [opener.returncode for opener in openers] == [0] * 6
    assert ids == {Store(path).server_id}


def test_a_waiting_pull_sees_that_another_process_enqueued(server):
    before = server.store.data_version()
    assert server.store.data_version() == before
    other = Server(server.path)
    other.enqueued()
    assert server.store.data_version() != before


@pytest.mark.parametrize("what", ["enqueue", "add_task", "stop"])
def test_the_wake_file_is_touched_when_a_waiting_pull_should_look(server, what):
    task = server.task()
    if os.path.exists(server.store.wake_path):
        os.remove(server.store.wake_path)
    if what == "add_task":
        server("queues.add_task", queue=server.queue, task=task)
    elif what == "enqueue":
        server("tasks.enqueue", task=task)
    else:
        server("tasks.stop", task=task, force=True)
    assert os.path.exists(server.store.wake_path)


def test_a_call_that_is_refused_wakes_nobody_and_changes_nothing(server):
    task = server.enqueued()
    os.remove(server.store.wake_path)
    before = server.get(task)
    server.refused(706, "tasks.enqueue", task=task)
    assert server.get(task) == before
    assert not os.path.exists(server.store.wake_path)


def test_threads_write_at_once(server):
    problems = []

    def create():
        try:
            for number in range(20):
                server.task(f"task {number}")
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(server("tasks.get_all", only_fields=["id"])["tasks"]) == 80


def test_a_forked_child_uses_a_connection_of_its_own(server):
    ours = server.store.connection()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            server.task("of the child")
            status = int(server.store.connection() is ours)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    server.task("of the parent")
    names = [task["name"] for task in server("tasks.get_all")["tasks"]]
    assert names == ["of the child", "of the parent"]
    assert server.store.connection().execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_work_that_raises_is_undone(server):
    class Stop(BaseException):
        pass

    def work(db):
        db.execute("DELETE FROM queues")
        raise Stop

    with pytest.raises(Stop):
        server.store.transaction(work)
    assert server("queues.get_all")["queues"]


def test_changes_are_durable_and_only_events_may_wait_for_the_next_one(server):
    def level():
        return server.store.connection().execute("PRAGMA synchronous").fetchone()[0]

    task = server.enqueued()
    assert level() == 2
    server("events.add_batch", [{"type": "log", "task": task, "msg": "x"}])
    assert level() == 1
    server("queues.get_next_task", queue=server.queue)
    assert level() == 2


def test_what_is_removed_is_not_written_once_more(server):
    """On a disk that is full one could remove nothing."""
    task = server.task()
    for second in range(8):
        server("events.add_batch", [{"type": "log", "task": task, "msg": "x" * (1 << 20), "timestamp": second}])
    server.store.close()  # brings all of it into the store itself
    server("tasks.delete", task=task)
    assert os.path.getsize(server.path + "-wal") < 1 << 20


def test_a_full_disk_is_one_failure(server):
    db = server.store.connection()
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(errors.Failure) as caught:
        server.task("large", comment="x" * 1_000_000)
    assert caught.value.exit == errors.CANNOT_CREATE
    assert "full" in caught.value.reason
    assert "df -h" in caught.value.remedy
    db.execute("PRAGMA max_page_count=1000000")
    assert server.task("small")


def test_a_store_that_cannot_be_written_is_one_failure_and_is_read(server):
    ann = {"user": "ann", "key": "K"}
    call(server.store, ann, "auth.login")
    server.store.connection().execute("PRAGMA query_only=ON")
    # a login would note when the key was used
    assert call(server.store, ann, "auth.login")["token"]
    assert server("queues.get_all")["queues"]
    with pytest.raises(errors.Failure) as caught:
        server.task()
    assert caught.value.exit == errors.CANNOT_CREATE
    assert server.path in caught.value.reason


def test_a_directory_that_is_not_there_is_one_failure(tmp_path):
    with pytest.raises(errors.Failure) as caught:
        Store(str(tmp_path / "absent" / "agent.db"))
    assert caught.value.exit == errors.CANNOT_CREATE


@pytest.mark.parametrize("damage", [b"this is not a database" * 400, b"SQLite format 3\0" + b"\xff" * 8176])
def test_a_damaged_store_is_one_failure_that_says_how_to_recover(tmp_path, damage):
    path = tmp_path / "agent.db"
    path.write_bytes(damage)
    with pytest.raises(errors.Failure) as caught:
        Server(path)
    assert caught.value.exit == errors.UNAVAILABLE
    assert "recover" in caught.value.remedy


@pytest.mark.parametrize(("damage", "exit"), [("random", errors.UNAVAILABLE), ("cut", errors.UNAVAILABLE),
                                              ("newer", errors.BAD_CONFIG)])
def test_whoever_opens_a_store_that_cannot_be_read_says_so_with_what_mends_it(tmp_path, damage, exit):
    path = pathlib.Path(paths.state("agent.db"))
    server = Server(path)
    if damage == "newer":
        server.store.connection().execute("PRAGMA user_version=999")
    server.store.close()
    if damage != "newer":
        path.write_bytes(path.read_bytes()[:6000] if damage == "cut" else os.urandom(50_000))
    finding, = config_check._guarded("server", config_check.server)
    assert finding.exit == exit and "agent-config show" not in finding.remedy
    for look in (lambda: agent_supervisor.check_what_pull_refuses(
            {"queue": ["default"], "create_queue": False, "services": False}),
                 lambda: agent_report.report({"what": [], "where": False, "all": True, "timeout": 1, "json": False})):
        with pytest.raises(errors.Failure) as caught:
            look()
        assert (caught.value.exit, caught.value.remedy) == (exit, finding.remedy)


def test_a_store_locked_for_too_long_is_away_and_says_who_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)
    server = Server(tmp_path / "agent.db")
    other = sqlite3.connect(server.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.Failure) as caught:
        server.task()
    assert caught.value.exit == errors.UNAVAILABLE
    assert caught.value.remedy == f"fuser -v {server.path}"
    assert server("tasks.get_all") == {"tasks": []}
    other.execute("ROLLBACK")
    assert server.task()


def test_a_store_of_a_newer_version_is_left_alone(server):
    server.store.connection().execute("PRAGMA user_version=999")
    server.store.close()
    with pytest.raises(errors.Failure) as caught:
        Store(server.path)
    assert caught.value.exit == errors.BAD_CONFIG
    assert "newer" in caught.value.reason


def test_a_pull_imports_neither_events_nor_typing_nor_the_query_language(server):
    code = """
import sys
from agentpipe.server.store import Store
from agentpipe.server.endpoints import call
store = Store(sys.argv[1])
call(store, {"user": "ann"}, "queues.get_next_task", {"queue": sys.argv[2]})
print(*sorted(name for name in sys.modules if name.startswith(("agentpipe.server.", "typing", "uuid"))))
"""
    lib = os.path.dirname(os.path.dirname(errors.__file__))
    done = subprocess.run([sys.executable, "-S", "-c", code, server.path, server.queue], capture_output=True,
                          text=True, check=True, env={**os.environ, "PYTHONPATH": lib})
    assert done.stdout.split() == ["agentpipe.server.common", "agentpipe.server.documents",
                                   "agentpipe.server.endpoints", "agentpipe.server.entries",
                                   "agentpipe.server.queues", "agentpipe.server.store"]
