"""agent-task says what went wrong in one line, also when nobody foresaw it."""

import errno

import pytest
import requests

from agentpipe import errors, failures, find
from agentpipe.capture import capture
from agentpipe.cmds import agent_task
from agentpipe.task import edits, look, queueing, typed, view, why
from agentpipe.transport import api


def test_a_bug_is_one_line_and_70(monkeypatch, capfd):
    monkeypatch.setattr(look, "listing", lambda *_: {}["gone"])
    assert agent_task.GROUP.run(["list"]) == errors.BUG
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ("agent-task: a bug of ours: KeyError: 'gone' "
                           "(set AGENT_DEBUG=1, and report what it prints)\n")


def test_a_bug_quotes_no_secret(monkeypatch, capfd):
    monkeypatch.setenv("CLEARML_AUTH_TOKEN", "s3cr3t-token\n")

    def leak(*_):
        raise requests.exceptions.InvalidHeader("Invalid header value: 'Bearer s3cr3t-token\\n'")
    monkeypatch.setattr(look, "listing", leak)
    assert agent_task.GROUP.run(["list"]) == errors.BUG
    assert "Bearer [REDACTED]" in capfd.readouterr().err


def test_its_traceback_can_be_had(monkeypatch):
    monkeypatch.setenv("AGENT_DEBUG", "1")
    monkeypatch.setattr(look, "listing", lambda *_: {}["gone"])
    with pytest.raises(KeyError):
        agent_task.GROUP.run(["list"])


def test_a_failed_set_up_without_a_remedy_leads_to_its_log_and_not_back_to_why():
    end = {"class": "setup_failed", "stage": "env", "exit": 70, "reason": "a bug of ours"}
    task = {"id": "1f3c", "status": "failed", "runtime": {view.END_KEY: end}}
    assert why.why(None, task)["remedy"] == "agent-task log 1f3c"


@pytest.mark.parametrize(("told", "said"), [
    ({"script": {"entry_point": "l\udce9t.py"}}, r"script\.entry_point is not UTF-8: 'l\\xe9t\.py'"),
    ({"tags": ["fine", "\udcff"]}, "tags is not UTF-8"),
    ({"hyperparams": {"Args": {"a": {"value": "\udcff"}}}}, r"hyperparams\.Args\.a\.value is not UTF-8"),
    ({"script": {"diff": "+é\n+\udce9\n+z"}}, r"script\.diff is not UTF-8: '\+\\xe9'"),
])
def test_bytes_that_are_no_text_are_named_before_a_server_is_asked(told, said):
    queueing.only_text({"name": "ünï", "script": {"diff": None}})
    with pytest.raises(errors.Failure, match=r"project is not UTF-8: '\\xffabc'"):
        queueing.project(None, "\udcffabc")
    with pytest.raises(errors.Failure, match=said) as caught:
        queueing.only_text(told)
    assert caught.value.exit == errors.BAD_DATA


def test_a_task_that_was_made_and_cannot_be_queued_is_named():
    store = api.connect()
    with pytest.raises(errors.Failure) as caught:
        queueing.new(store, capture.Captured({"entry_point": "t.py"}, "t.py"), "", "",
                     {"id": "f" * 32, "name": "gone by"})
    made, = store.call("tasks.get_all", {"only_fields": ["id", "status"]})["tasks"]
    assert made["status"] == "created"
    assert str(caught.value).endswith(f"(its task is there: agent-task enqueue --queue 'gone by' {made['id']})")


def test_a_task_that_somebody_has_queued_meanwhile_is_not_reset(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    id = store.call("tasks.create", {"name": "one", "type": "training", "script": {"entry_point": "t.sh"}})["id"]
    store.call("tasks.started", {"task": id})
    store.call("tasks.failed", {"task": id})
    ended = find.task(store, id)
    queueing.again(store, ended, find.queue(store, ""), print)
    store.call("queues.get_next_task", {"queue": find.queue(store, "")["id"]})
    store.call("tasks.started", {"task": id})
    for change in (lambda: queueing.again(store, ended, None, print),
                   lambda: edits.edit(store, ended, {"entry_point": "u.sh"}, print)):
        with pytest.raises(errors.Failure, match="is in_progress meanwhile") as caught:
            change()
        assert caught.value.exit == errors.TRY_AGAIN
    assert find.task(store, id)["status"] == "in_progress"


@pytest.mark.parametrize("kind", ["projects", "queues"])
def test_what_somebody_else_has_made_meanwhile_is_taken(tmp_path, monkeypatch, kind):
    """Of two that are enqueued at once into a new project or queue."""
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    made = []

    class Slow:
        def call(self, endpoint, body=None):
            answer = store.call(endpoint, body)
            if endpoint == f"{kind}.get_all" and not made and "id" not in body:
                made.append(store.call(f"{kind}.create", {"name": "a new one"})["id"])
            return answer

    if kind == "projects":
        assert [queueing.project(Slow(), "a new one")] == made
    else:
        assert [find.queue(Slow(), "a new one", True)["id"]] == made


@pytest.mark.parametrize(("raised", "said"), [
    (OSError(errno.EMFILE, "Too many open files"), "too many open files (ulimit -n 1024)"),
    (MemoryError(), "memory ran out (ulimit -v; free -m)"),
])
def test_a_limit_of_this_process_is_no_bug(raised, said):
    failure = failures.as_failure("agent-fetch", raised)
    assert (str(failure), failure.exit) == (said, errors.UNAVAILABLE)
    assert failures.as_failure("agent-run", raised).exit == 125


@pytest.mark.parametrize("name", ["two words", "HEAD~1", "-x", "a..b", "x.lock", "tab\t", "a/", "@{u}"])
def test_what_git_has_no_name_for_is_no_branch(name):
    with pytest.raises(errors.Failure, match="is no name of a branch") as caught:
        typed.fields({"branch": name})
    assert caught.value.exit == errors.USAGE
    typed.fields({"branch": "feature/ünï-1.0", "commit": "v1.0"})


@pytest.mark.parametrize(("word", "shown"), [
    ("\x1b[31mx", "`\ufffd[31mx`"), ("\udcffx", "`\ufffdx`"), ("a" * 20_000, "aaa…`")])
def test_no_task_is_called_so_whatever_it_is(tmp_path, monkeypatch, capfd, word, shown):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    assert agent_task.GROUP.run(["show", word]) == errors.NOT_FOUND
    said = capfd.readouterr().err
    assert said.startswith("agent-task: no task `") and shown in said and len(said) < 200
