"""Who owns a task: tokens, locks, holders, and what recovery does with what nobody holds."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from agentpipe import errors, files, find, manifest, paths, place, processes, secrets, stages
from agentpipe.claim import adopt, attempt, claims, holders, intents, namespaces, on_server
from agentpipe.held import Held
from agentpipe.pull import queues, recovery
from agentpipe.pull import waiting as patience
from agentpipe.report import own_end
from agentpipe.run import ending, script
from agentpipe.server import documents
from agentpipe.signals import SIGNALS
from agentpipe.task import why
from agentpipe.transport import api

SLEEPER = [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture
def store(transport):
    return api.connect("tester")


@pytest.fixture
def task(store):
    return task_of(store)


def task_of(store):
    queue = store.call("queues.get_default")["id"]
    id = store.call("tasks.create", {"name": "a task", "type": "training",
                                     "script": {"binary": "bash", "diff": "echo", "entry_point": "a.sh"}})["id"]
    store.call("tasks.enqueue", {"task": id, "queue": queue})
    return id


def pulled(store):
    got = queues.next_task(store, "tester:0", queues.Queues(store, []), wait=False)
    assert got
    return got


def status(store, task):
    return store.call("tasks.get_by_id", {"task": task})["task"]["status"]


def waiting(store):
    return [entry["task"] for entry in store.call("queues.get_all")["queues"][0]["entries"]]


def abandoned(claim):
    """As if the process that holds it had died."""
    claim.release()


def test_a_pull_leaves_its_token_on_disk_and_on_the_server(store, task):
    claim, line = pulled(store)
    runtime = store.call("tasks.get_by_id", {"task": task})["task"]["runtime"]
    assert runtime[on_server.RUNTIME_KEY] == claim.token == line["pull"]["claim"]
    assert os.readlink(claims.active(claim.token)) == claim.directory
    assert claims.read(claim.directory)["state"] == "held"


def test_only_one_process_holds_the_lock(store, task):
    claim, _ = pulled(store)
    assert claims.lock(claim.directory, 0) is None
    claim.release()
    assert claims.lock(claim.directory, 0) is not None


def test_a_stage_takes_what_was_handed_to_it(store, task):
    claim, line = pulled(store)
    claim.hand("pull", None)
    claim.release()
    taken = claims.take(line, "fetch")
    assert claims.read(claim.directory)["stage"] == "fetch"
    assert claims.checked_with_server(store, line, "fetch") == "queued"
    assert taken.worker == "tester:0"


@pytest.mark.parametrize("spoil", [
    lambda store, claim, line: claim.end(),
    lambda store, claim, line: attempt.decide(claim.directory, "lost"),
    lambda store, claim, line: attempt.forbid_start(claim.directory, attempt.GIVEN_BACK),
])
def test_a_stage_that_comes_too_late_gets_75(store, task, spoil):
    claim, line = pulled(store)
    claim.hand("pull", None)
    spoil(store, claim, line)
    claim.release()
    with pytest.raises(errors.Failure) as caught:
        claims.take(line, "fetch")
    assert caught.value.exit == errors.TRY_AGAIN


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda store, task: store.call("tasks.stopped", {"task": task, "force": True}), "it is stopped"),
    (lambda store, task: store.call("tasks.edit_runtime", {
        "task": task, "add_or_update": {on_server.RUNTIME_KEY: "0" * 32}}), "another agent has claimed it"),
    (lambda store, task: store.call("tasks.edit_runtime", {"task": task, "remove": [on_server.RUNTIME_KEY]}),
     "somebody has taken it back since it was pulled, it is queued now"),
    (lambda store, task: store.call("tasks.delete", {"task": task, "force": True}), "the server no longer knows it"),
])
def test_the_servers_word_is_asked(store, task, spoil, told):
    _, line = pulled(store)
    spoil(store, task)
    with pytest.raises(errors.Failure, match=told) as caught:
        claims.checked_with_server(store, line, "fetch")
    assert caught.value.exit == errors.TRY_AGAIN


def test_one_that_was_dequeued_after_its_pull_is_a_draft_and_says_so(store, task):
    _, line = pulled(store)
    store.call("tasks.dequeue", {"task": task})
    with pytest.raises(claims.NotOurs, match="somebody has taken it back since it was pulled, it is created now"):
        claims.checked_with_server(store, line, "fetch")


class StopsMeanwhile:
    """The server, where a user stops the task right after it was looked at."""

    def __init__(self, api, task):
        self.api, self.task = api, task

    def __getattr__(self, name):
        return getattr(self.api, name)

    def call(self, endpoint, body=None):
        answer = self.api.call(endpoint, body)
        if endpoint == "tasks.get_all":
            self.api.call("tasks.stop", {"task": self.task})
        return answer


@pytest.mark.parametrize("transport", ["store", "agent-server"], indirect=True)
def test_a_stop_between_the_look_and_the_start_stands(store, task):
    claim, line = pulled(store)
    meanwhile = StopsMeanwhile(store, task)
    with pytest.raises(claims.NotOurs, match="it has ended since it was pulled"):
        Held(line, "fetch", api=meanwhile, claim=claim).begin()
    assert status(store, task) == "stopped"
    assert os.listdir(claims.active()) == []


def test_one_that_waits_in_a_queue_again_is_not_ours(store, task):
    claim, line = pulled(store)
    store.call("tasks.enqueue", {"task": task, "force": True})
    with pytest.raises(claims.NotOurs):
        claims.checked_with_server(store, line, "fetch")
    abandoned(claim)
    recovery.recover(store)
    assert waiting(store) == [task]
    assert os.listdir(claims.active()) == []


def test_given_back_it_is_the_first_in_its_queue_and_carries_no_claim(store, task):
    claim, line = pulled(store)
    other = store.call("tasks.clone", {"task": task})["id"]
    store.call("tasks.enqueue", {"task": other})
    claims.give_back(store, claim, line, "told to stop")
    assert waiting(store) == [task, other]
    runtime = store.call("tasks.get_by_id", {"task": task})["task"]["runtime"]
    assert runtime.get(on_server.RUNTIME_KEY) == (None if store.ours else on_server.RETURNED + claim.token)
    assert os.listdir(claims.active()) == []


@pytest.mark.parametrize("dies", [False, True])
def test_given_back_it_leaves_what_was_said_and_neither_code_nor_environment(store, task, dies):
    claim, line = pulled(store)
    for name in ("code", "env"):
        os.makedirs(os.path.join(claim.directory, name, "below"))
    open(os.path.join(claim.directory, "setup.log"), "w").close()
    if dies:
        abandoned(claim)
        recovery.recover(store)
    else:
        assert claims.give_back(store, claim, line, "told to stop")
    assert waiting(store) == [task]
    left = os.listdir(claim.directory)
    assert "setup.log" in left and not {"code", "env"} & {*left}


def test_told_to_stop_while_the_server_is_away_it_is_not_waited_for_and_recovery_gives_back(
        store, task, transport, monkeypatch):
    monkeypatch.setattr(claims, "GIVE_BACK_S", 0.5)
    claim, line = pulled(store)
    if transport:  # the embedded store is never away
        transport.failing = [503] * 1000
        assert not claims.give_back(api.connect("tester", 300), claim, line, "told to stop")
        transport.failing = []
        assert len(os.listdir(claims.active())) == 1
        recovery.recover(store)
    else:
        assert claims.give_back(store, claim, line, "told to stop")
    assert waiting(store) == [task]
    assert os.listdir(claims.active()) == []


def test_a_pipe_is_held_as_long_as_somebody_has_it_open(store, task, monkeypatch):
    monkeypatch.setenv("AGENT_CLAIM_GRACE", "0")
    claim, _ = pulled(store)
    reader = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE)
    inode = os.fstat(reader.stdin.fileno()).st_ino
    claim.hand("pull", {"pipe": inode, "boot": processes.boot_id()})
    claim.release()
    assert holders.is_held(claim.directory)
    reader.kill()
    reader.wait()
    reader.stdin.close()
    assert not holders.is_held(claim.directory)


def test_a_file_is_held_by_a_process_and_only_its_explicit_owner_frees_it(store, task, monkeypatch):
    monkeypatch.setenv("AGENT_CLAIM_GRACE", "0")
    claim, _ = pulled(store)
    owner = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE)
    claim.hand("pull", {"process": processes.identity(owner.pid), "owner": True})
    claim.release()
    assert holders.is_held(claim.directory)
    assert holders.is_held(claim.directory, os.getpid())
    assert not holders.is_held(claim.directory, owner.pid)
    owner.kill()
    owner.wait()
    assert not holders.is_held(claim.directory)


def test_a_handed_claim_lives_for_the_grace_period(store, task):
    claim, _ = pulled(store)
    claim.hand("pull", {"process": "1 1 another-boot"})
    claim.release()
    assert holders.is_held(claim.directory)
    os.utime(os.path.join(claim.directory, "claim"), (1, 1))
    assert not holders.is_held(claim.directory)


@pytest.fixture
def container(agent_home):
    """Another pid namespace of this machine, in which an agent lives until the file that this gives is closed."""
    path = agent_home / "state" / "namespaces" / f"{processes.boot_id()}.1"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield file


def moved_into(container, claim):
    """As if the claim had been written there."""
    path = os.path.join(claim.directory, "claim")
    with open(path) as file:
        found = json.load(file)
    assert found["namespace"] == processes.namespace()
    with open(path, "w") as file:
        json.dump({**found, "namespace": os.path.basename(container.name)}, file)


@pytest.mark.parametrize("holder", [{"pipe": 1, "boot": processes.boot_id()},
                                    {"process": f"1 1 {processes.boot_id()}", "owner": False}])
def test_what_another_container_holds_is_held_while_an_agent_lives_there(store, task, monkeypatch, container, holder):
    monkeypatch.setenv("AGENT_CLAIM_GRACE", "0")
    claim, _ = pulled(store)
    claim.hand("pull", holder)
    moved_into(container, claim)
    claim.release()
    recovery.recover(store)
    assert holders.is_held(claim.directory) and waiting(store) == []
    container.close()
    recovery.recover(store)
    assert waiting(store) == [task], "its container has ended, or was started anew"


def test_a_script_of_another_container_is_not_lost_while_an_agent_lives_there(store, task, container):
    claim, _ = pulled(store)
    moved_into(container, claim)
    claim.release()
    assert not holders.is_held(claim.directory), "nothing has begun: its free lock says all"
    os.symlink(f"1 1 {processes.boot_id()}", os.path.join(claim.directory, "pid"))
    assert holders.is_held(claim.directory)
    container.close()
    assert not holders.is_held(claim.directory)


def test_who_lives_in_a_container_is_known_by_a_lock(agent_home, container):
    mine = subprocess.Popen([sys.executable, "-c", "from agentpipe import processes; import sys; "
                             "from agentpipe.claim import namespaces; namespaces.hold(); "
                             "print(processes.namespace(), flush=True); sys.stdin.read()"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert mine.stdout.readline().strip() == processes.namespace()
    assert namespaces.lives(processes.namespace())
    mine.communicate()
    assert not namespaces.lives(processes.namespace()) and not namespaces.lives("never-there")
    os.unlink(namespaces._path(processes.namespace()))
    (agent_home / "state" / "namespaces" / "old").touch()
    namespaces.hold()
    assert sorted(os.listdir(agent_home / "state" / "namespaces")) == sorted(
        [processes.namespace(), os.path.basename(container.name)]), "what nobody holds goes"


def test_a_pid_of_another_boot_means_nothing(store):
    pid, start, _ = processes.identity(os.getpid()).split()
    assert processes.alive(f"{pid} {start} {processes.boot_id()}")
    assert not processes.alive(f"{pid} {start} another-boot")
    assert not processes.alive(f"{pid} {int(start) + 1} {processes.boot_id()}")


def test_a_file_that_has_the_number_of_the_pipe_is_not_that_pipe(store, task, tmp_path):
    claim, _ = pulled(store)
    (tmp_path / "lines").touch()
    reading, writing = os.pipe()
    kept = os.dup(0)
    try:
        for fd, by_pipe in ((os.open(tmp_path / "lines", os.O_RDONLY), False), (reading, True)):
            os.dup2(fd, 0)
            os.close(fd)
            claim.hand("pull", {"pipe": os.fstat(0).st_ino, "boot": processes.boot_id()})
            assert holders.came_by_pipe(claim.directory) == by_pipe
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(writing)


# --- recovery ---------------------------------------------------------------------------------------------------------

def test_a_dead_stage_gives_its_task_back_and_the_third_time_it_is_lost(store, task):
    for attempts in (1, 2):
        claim, _ = pulled(store)
        abandoned(claim)
        assert recovery.recover(store) is None
        assert waiting(store) == [task]
        assert attempt.failed_attempts(task) == attempts
    claim, _ = pulled(store)
    abandoned(claim)
    recovery.recover(store)
    assert waiting(store) == []
    found = store.call("tasks.get_by_id", {"task": task})["task"]
    assert found["status"] == "failed"
    assert found["runtime"]["_agentpipe_end"]["class"] == "lost"
    assert os.listdir(claims.active()) == []


@pytest.mark.parametrize(("name", "end"), [("exit.0", "completed"), ("exit.3", "script_failed"), (None, "lost")])
def test_an_end_that_no_version_of_ours_knows_is_told_once_and_taken_as_its_status_says(store, task, name, end, capfd):
    claim, _ = pulled(store)
    store.call("tasks.started", {"task": task, "force": True})
    os.symlink("1 1 another-boot", os.path.join(claim.directory, "pid"))
    os.symlink("eaten\nby wolves", os.path.join(claim.directory, "outcome"))
    if name:
        open(os.path.join(claim.directory, name), "w").close()
    abandoned(claim)
    recovery.recover(store)
    said = [line for line in capfd.readouterr().err.splitlines() if "wolves" in line]
    assert said == [f"agent-pull: task {task}: its end stands as 'eaten\\nby wolves', which is none that this version "
                    f"knows: taken as {end}"]
    found = store.call("tasks.get_by_id", {"task": task})["task"]["runtime"]["_agentpipe_end"]
    assert found["class"] == end and "wolves" in found["reason"]
    assert os.listdir(claims.active()) == []


IN_CONFIDENCE = ("clearml.conf", "spec", "environment.json", "inside.env", "place.env", "entered.env",
                 "custom-build.env", "box/entered", "box/setup/before", "box/setup/exports", "box/setup/environment")


def confide(directory):
    """All that a place and its script are told."""
    os.makedirs(os.path.join(directory, "box", "setup"))
    for name in IN_CONFIDENCE:
        with open(os.path.join(directory, name), "w") as file:
            file.write("a secret")


def confided(directory):
    return [name for name in IN_CONFIDENCE if os.path.exists(os.path.join(directory, name))]


def test_a_place_that_cannot_be_removed_does_not_keep_its_task(store, task, capfd):
    claim, _ = pulled(store)
    place.journal(claim.directory, {"kind": "charliecloud", "root": 7})  # as no version of ours writes it
    confide(claim.directory)
    abandoned(claim)
    said = []
    recovery.recover(store, say=said.append)
    assert waiting(store) == [task] and "could not be removed: TypeError" in said[0]
    assert confided(claim.directory) == [] and place.journalled(claim.directory) is None


@pytest.mark.parametrize("ends", [False, True])
def test_what_agent_run_wrote_for_a_script_that_never_started_does_not_stay(store, task, ends):
    claim, _ = pulled(store)
    confide(claim.directory)
    abandoned(claim)
    if ends:
        store.call("tasks.stopped", {"task": task, "force": True})
    recovery.recover(store)
    assert confided(claim.directory) == []


def test_a_pull_that_waits_begins_anew_for_what_nobody_holds_any_more_less_and_less_often(store, task, monkeypatch):
    monkeypatch.setattr(patience, "LEFT_BEHIND", (0.01, 0.03))
    monkeypatch.setattr(patience, "NOT_NOW", 0.02)
    held, _ = pulled(store)
    pulls = [patience.Waiting(store, "tester:1", [], None),
             patience.Waiting(store, "tester:2", [], None, recovers=False)]
    try:
        assert pulls[0].look(False)
        held.release()  # as at its end
        with pytest.raises(patience.BeginAnew) as anew:
            pulls[0].look(False)
        assert anew.value.again_s == 0.02
        monkeypatch.setenv(patience.LOOK_BEHIND, "0.02")
        pulls.append(patience.Waiting(store, "tester:1", [], None))
        assert patience.LOOK_BEHIND not in os.environ
        time.sleep(0.03)
        with pytest.raises(patience.BeginAnew) as anew:
            pulls[2].look(False)
        assert anew.value.again_s == 0.03
        assert pulls[1].look(False)
    finally:
        for each in pulls:
            each.stop(False)


def test_an_odd_claim_is_left_to_recovery_to_tell_about(store, task):
    held, _ = pulled(store)
    with open(os.path.join(held.directory, "claim"), "w") as file:
        file.write("{}")
    held.release()
    assert holders.left_behind() == set()


def test_a_claim_that_a_living_process_was_handed_is_not_left_behind(store, task, monkeypatch):
    monkeypatch.setenv("AGENT_CLAIM_GRACE", "0")
    claim, _ = pulled(store)
    sleeper = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE)
    claim.hand("pull", {"process": processes.identity(sleeper.pid)})
    claim.release()
    assert holders.left_behind() == set()
    sleeper.communicate()
    assert holders.left_behind() == {claim.token}


def test_what_somebody_holds_is_left_alone(store, task):
    claim, _ = pulled(store)
    recovery.recover(store)
    assert waiting(store) == []
    assert os.path.islink(claims.active(claim.token))


def died_asking(store):
    """A pull that got a task and died before it knew; its intent."""
    intent = intents.Intent()
    queue = store.call("queues.get_default")["id"]
    intent.note(store, queue)
    store.call("queues.get_next_task", {"queue": queue, "claim": intent.token})
    os.close(intent._fd)
    os.utime(intent.path, (1, 1))
    return intent


def test_an_intent_without_a_directory_is_asked_of_the_server(store, task, monkeypatch):
    died_asking(store)
    recovery.recover(store)
    if not store.ours:
        # it knows no token: the task goes back after it was seen in no queue for two minutes
        assert waiting(store) == []
        recovery.recover(store)
        assert waiting(store) == []
        monkeypatch.setattr(intents, "STRAY_S", 0.0)
        recovery.recover(store)
    assert waiting(store) == [task]
    assert os.listdir(claims.active()) == []


def test_a_task_that_another_agent_has_taken_meanwhile_is_left_to_it(store, task, monkeypatch):
    monkeypatch.setattr(intents, "STRAY_S", 0.0)
    died_asking(store)
    other = os.urandom(16).hex()
    store.call("tasks.edit", {"task": task, "force": True, "runtime": {on_server.RUNTIME_KEY: other}})
    recovery.recover(store)
    recovery.recover(store)
    assert waiting(store) == []
    assert os.listdir(claims.active()) == []


@pytest.mark.parametrize("before", ["queued", "in_progress"])
@pytest.mark.parametrize("point", ["give-back:forbidden", "give-back:marked", "give-back:enqueued"])
def test_a_kill_while_a_task_is_given_back_neither_loses_nor_doubles_it(store, task, before, point):
    claim, line = pulled(store)
    if before == "in_progress":
        store.call("tasks.started", {"task": task, "force": True})
    claim.hand("pull", None)
    claim.release()
    code = ("import json, sys; from agentpipe.claim import claims; from agentpipe.transport import api\n"
            "line = json.loads(sys.argv[1])\n"
            "claims.give_back(api.connect(), claims.take(line, 'fetch'), line, 'told to stop')")
    killed = subprocess.run([sys.executable, "-c", code, json.dumps(line)], env={**os.environ, "AGENT_CRASH_AT": point})
    assert killed.returncode == -signal.SIGKILL
    recovery.recover(store)
    recovery.recover(store)
    assert waiting(store) == [task]
    assert status(store, task) == "queued"
    assert os.listdir(claims.active()) == []


def test_a_task_given_back_and_taken_by_another_agent_at_once_is_left_to_it(store, task):
    claim, line = pulled(store)
    attempt.forbid_start(claim.directory, attempt.HANDED_BACK)
    on_server.enqueue_again(store, task, line["pull"]["queue"], claim.token, "told to stop")
    claim.release()
    store.call("queues.get_next_task", {"queue": line["pull"]["queue"]})
    store.call("workers.status_report", {"worker": "another:0", "timestamp": 1, "task": task})
    store.call("tasks.started", {"task": task})
    recovery.recover(store)
    assert waiting(store) == []
    assert status(store, task) == "in_progress"
    assert os.listdir(claims.active()) == []


def died_before_its_line_was_out(store):
    abandoned(pulled(store)[0])


def damaged_by_a_power_failure(store):
    claim, _ = pulled(store)
    open(os.path.join(claim.directory, "claim"), "w").close()
    abandoned(claim)


@pytest.mark.parametrize("transport", ["agent-server", "clearml"], indirect=True)
@pytest.mark.parametrize("die", [died_asking, died_before_its_line_was_out, damaged_by_a_power_failure])
def test_what_died_with_a_task_of_another_server_is_left_until_that_is_asked(
        store, transport, task, die, monkeypatch, tmp_path):
    monkeypatch.setattr(intents, "STRAY_S", 0.0)
    die(store)
    left = os.listdir(claims.active())
    another = api.StoreApi(str(tmp_path / "another.db"))
    for _ in range(2):
        assert recovery.recover(another) is None
        assert not intents.recover_all(another)
    assert os.listdir(claims.active()) == left
    for _ in range(2):
        recovery.recover(store)
    assert waiting(store) == [task]
    assert os.listdir(claims.active()) == []


def test_an_intent_is_on_the_disk_before_a_task_is_given_out(store, monkeypatch):
    done, sync, call = [], files.sync_directory, type(store).call

    def asked(self, endpoint, body=None):
        done.append(endpoint)
        return call(self, endpoint, body)

    monkeypatch.setattr(files, "sync_directory", lambda path: (done.append(path), sync(path)))
    monkeypatch.setattr(type(store), "call", asked)
    wanted = queues.Queues(store, ["default"])
    assert queues.next_task(store, "tester:0", wanted, wait=False) is None
    # where nothing waits, nothing has to be written down
    assert (claims.active() in done) == (not store.embedded)
    task_of(store)
    done.clear()
    abandoned(queues.next_task(store, "tester:0", wanted, wait=False)[0])
    assert done.index(claims.active()) < done.index("queues.get_next_task")
    assert done.count(claims.active()) == 1


def test_an_intent_that_got_nothing_is_dropped(store):
    os.close(intents.Intent()._fd)
    recovery.recover(store)
    assert os.listdir(claims.active()) == []


def test_the_intent_of_a_living_pull_is_left_alone(store):
    intent = intents.Intent()
    recovery.recover(store)
    assert os.listdir(claims.active()) == [intent.token]


def ended_unseen(store, command):
    """A task whose script was started and whose agent-run died; returns (claim, line)."""
    claim, line = pulled(store)
    attempt.store_manifest(claim.directory, (json.dumps(line) + "\n").encode())
    store.call("tasks.started", {"task": line["task"]["id"]})
    subprocess.run([sys.executable, "-c", "import os, sys; from agentpipe.run import script\n"
                    "script.start(sys.argv[1], ['sh', '-c', sys.argv[2]], '/', os.environ)",
                    claim.directory, command], check=True)
    return claim, line


def wait_for(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(("code", "expected", "end"), [(0, "completed", "completed"), (3, "failed", "script_failed")])
def test_a_script_that_ended_unseen_is_reported_with_its_log(store, task, code, expected, end):
    claim, _ = ended_unseen(store, f"echo out; exit {code}")
    wait_for(lambda: attempt.exit_status(claim.directory) == code)
    abandoned(claim)
    recovery.recover(store)
    assert status(store, task) == expected
    assert attempt.outcome(claim.directory) == end
    logged = "".join(event["msg"] for event in store.call("events.get_task_log", {"task": task})["events"]
                     if event.get("stream") == "log")
    assert logged == "out\n"


@pytest.mark.parametrize("transport", ["store"], indirect=True)
def test_a_script_that_failed_on_a_full_disk_is_told_as_that_when_there_is_room_again(store, task):
    claim, _ = ended_unseen(store, "exit 120")
    directory = claim.directory
    wait_for(lambda: attempt.exit_status(directory))
    abandoned(claim)
    os.symlink("disk", os.path.join(directory, "full"))  # as own_end.look() notes it on a disk that takes nothing
    recovery.recover(store)
    found = why.why(store, find.task(store, task))
    assert found["class"] == "script_failed" and "--need-disk" in found["advice"] and not found["remedy"]
    assert found["reason"].startswith("exit 120") and found["reason"].endswith(own_end.FULL)
    assert "a full disk?" not in found["reason"]


def test_a_disk_with_room_is_no_full_one(tmp_path):
    own_end.look(str(tmp_path))
    assert not list(tmp_path.iterdir()) and own_end.reason(str(tmp_path), 1) == "exit 1"


def test_a_script_that_runs_unwatched_is_handed_out_to_be_watched(store, task):
    claim, line = ended_unseen(store, "sleep 60")
    wait_for(lambda: script.lives(claim.directory))
    abandoned(claim)
    found = recovery.recover(store)
    assert found is not None
    assert found.token == line["pull"]["claim"]
    script.taken_over(claim.directory).kill()


def test_a_script_killed_with_its_shim_is_lost(store, task):
    claim, _ = ended_unseen(store, "sleep 60")
    wait_for(lambda: script.lives(claim.directory) and len(processes.holding_open(f"{claim.directory}/running")) == 1)
    shim, = processes.holding_open(f"{claim.directory}/running")
    os.kill(shim, signal.SIGKILL)
    processes.send(attempt.pid_record(claim.directory), signal.SIGKILL)
    wait_for(lambda: not script.lives(claim.directory) and not attempt.shim_lives(claim.directory))
    abandoned(claim)
    recovery.recover(store)
    assert store.call("tasks.get_by_id", {"task": task})["task"]["runtime"]["_agentpipe_end"]["class"] == "lost"


def test_what_is_damaged_keeps_no_other_task_from_being_recovered(store, task, tmp_path, capfd):
    claim, _ = ended_unseen(store, "exit 0")
    wait_for(lambda: attempt.exit_status(claim.directory) == 0)
    open(os.path.join(claim.directory, "secrets.json"), "w").close()  # as a power failure leaves it
    abandoned(claim)
    (tmp_path / "no-directory").touch()
    os.symlink(tmp_path / "no-directory", claims.active("0" * 32))
    with open(claims.active("1" * 32), "w") as intent:
        intent.write(f"{store.server_id} queue no-number")
    recovery.recover(store)
    assert status(store, task) == "completed"
    assert f"the task of claim {'0' * 32} cannot be recovered" in capfd.readouterr().err


def test_a_task_that_somebody_reset_meanwhile_is_let_go(store, task):
    claim, _ = pulled(store)
    abandoned(claim)
    store.call("tasks.reset", {"task": task, "force": True})
    recovery.recover(store)
    assert status(store, task) == "created"
    assert os.listdir(claims.active()) == []


def has_made_a_place(claim):
    """As a stage leaves it that was killed while it made a place which is changed by its set-up."""
    os.makedirs(os.path.join(claim.directory, "root", "etc"))
    place.journal(claim.directory, {"kind": "charliecloud", "prefix": []})


def recovered(store, task, line):
    store.call("tasks.reset", {"task": task, "force": True})
    recovery.recover(store)


def begun(store, task, line):
    store.call("tasks.reset", {"task": task, "force": True})
    with pytest.raises(claims.NotOurs):
        stages.each("run", pytest.fail, manifest.write(line), {})


def set_up(store, task, line):
    def steps(held):
        other = os.urandom(16).hex()
        store.call("tasks.edit", {"task": task, "force": True, "runtime": {on_server.RUNTIME_KEY: other}})
        wait_for(lambda: False)  # the signal comes

    before = signal.signal(signal.SIGUSR1, SIGNALS._arrived)
    try:
        with pytest.raises(errors.LetGo):
            stages.each("prepare", steps, manifest.write(line), {})
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("at", [recovered, begun, set_up])
def test_of_a_task_that_is_not_ours_any_more_nothing_stays_but_what_was_said(store, task, monkeypatch, at):
    monkeypatch.setenv("AGENT_CLAIM_GRACE", "0")
    claim, line = pulled(store)
    has_made_a_place(claim)
    claim.hand("pull", None)
    claim.release()
    at(store, task, line)
    assert status(store, task) == ("in_progress" if at is set_up else "created")
    assert os.listdir(claims.active()) == []
    assert not {"root", place.JOURNAL} & set(os.listdir(claim.directory))
    assert attempt.is_over(claim.directory) and attempt.outcome(claim.directory) is None


def test_an_attempt_whose_directory_is_gone_is_let_go_too(store, task):
    claim, line = pulled(store)
    held = Held(line, "prepare", {}, store, claim)
    shutil.rmtree(claim.directory)
    held.let_go()
    assert os.listdir(claims.active()) == [] and not os.path.exists(claim.directory)


def test_only_the_named_task_is_recovered(store, task):
    claim, _ = pulled(store)
    abandoned(claim)
    recovery.recover(store, only="another")
    assert waiting(store) == []
    recovery.recover(store, only=task)
    assert waiting(store) == [task]


def test_a_directory_deleted_by_hand_ends_the_task_as_lost(store, task):
    claim, _ = pulled(store)
    abandoned(claim)
    shutil.rmtree(claim.directory)
    recovery.recover(store)
    assert status(store, task) == "failed"
    assert os.listdir(claims.active()) == []
    found = why.why(store, find.task(store, task))
    assert (found["class"], found["reason"]) == ("lost", "its directory on this machine was deleted")
    assert found["remedy"] == f"agent-task enqueue {task}"


@pytest.mark.parametrize("began", [False, True])
def test_a_directory_deleted_by_hand_queues_its_task_again_where_lost_ones_are(store, task, began):
    claim, _ = pulled(store)
    if began:
        store.call("tasks.started", {"task": task, "claim": claim.token})
    abandoned(claim)
    shutil.rmtree(claim.directory)
    recovery.recover(store, on_lost="requeue")
    assert (waiting(store), os.listdir(claims.active())) == ([task], [])


def test_client_and_server_mean_the_same_field_by_a_claim():
    assert on_server.RUNTIME_KEY == documents.CLAIM


def test_a_task_whose_directory_was_deleted_is_not_ours(store, task):
    claim, line = pulled(store)
    claim.release()
    shutil.rmtree(claim.directory)
    with pytest.raises(errors.LetGo, match="was deleted") as caught:
        claims.take(line, "fetch")
    assert caught.value.remedy.startswith(f"agent-pull --id {task}")


def test_a_line_of_a_task_that_was_stopped_is_let_go_with_what_runs_it_again(store, task):
    _, line = pulled(store)
    store.call("tasks.stopped", {"task": task, "force": True})
    with pytest.raises(errors.LetGo, match="is not ours to run") as caught:
        claims.checked_with_server(store, line, "fetch")
    assert caught.value.remedy in (f"to run it again: agent-task enqueue {task}", f"agent-task why {task}")


def test_a_stage_that_failed_and_whose_line_went_to_a_file_is_no_running_one(store, task):
    claim, line = pulled(store)
    store.call("tasks.started", {"task": task, "claim": claim.token})
    failed = {"stage": "env", "class": "setup_failed", "exit": 66, "reason": "no such package", "evidence": "e"}
    attempt.store_manifest(claim.directory, (json.dumps({**line, "failed": failed}) + "\n").encode())
    claim.hand("env", {"process": processes.identity(os.getpid()), "owner": False})
    claim.release()
    found = why.why(store, find.task(store, task))
    assert found["reason"].endswith("it has failed: no such package") and "agent-run < FILE" in found["advice"]
    assert "to do: nobody has told its server yet" in why.text(found)


def test_a_grace_period_that_is_no_number_is_named(store, task, monkeypatch):
    monkeypatch.setenv("AGENT_CLAIM_GRACE", "10s")
    claim, _ = pulled(store)
    claim.hand("pull", {"process": processes.identity(os.getpid()), "owner": False})
    claim.release()
    with pytest.raises(errors.Failure, match="AGENT_CLAIM_GRACE is no number: 10s") as caught:
        holders.is_held(claim.directory)
    assert caught.value.exit == errors.BAD_CONFIG


def test_an_intent_that_recovery_took_before_it_was_locked_is_made_anew(store, monkeypatch):
    flock, paths = intents.fcntl.flock, []

    def late(fd, how):
        if not paths:
            paths.append(os.readlink(f"/proc/self/fd/{fd}"))
            intents.recover_all(store)
            assert not os.path.exists(paths[0])
        flock(fd, how)

    monkeypatch.setattr(intents.fcntl, "flock", late)
    intent = intents.Intent()
    assert os.path.exists(intent.path) and intent.path != paths[0]
    intent.drop()
    assert not os.listdir(claims.active())


class Failing:
    """A server that answers 500 when a task that it has given out with our token is read; all else is the real one's.

    One that does not write the token itself is asked once before, for that.
    """

    def __init__(self, real):
        self._real, self._answers = real, [False] if real.ours else [True, False]

    def __getattr__(self, name):
        return getattr(self._real, name)

    def call(self, endpoint, body=None):
        if endpoint == "tasks.get_by_id" and self._answers and not self._answers.pop(0):
            raise errors.ApiError(500, 0, "a fault of a moment")
        return self._real.call(endpoint, body or {})


def test_a_server_that_fails_when_the_task_is_read_costs_it_no_attempt(store, task):
    for _ in range(recovery.MAX_ATTEMPTS + 1):
        with pytest.raises(errors.ApiError, match="a fault of a moment"):
            queues.next_task(Failing(store), "tester:0", queues.Queues(store, []), wait=False)
        recovery.recover(store)
        assert (waiting(store), status(store, task)) == ([task], "queued")
        assert os.listdir(claims.active()) == []
    assert attempt.failed_attempts(task) == 0


@pytest.mark.parametrize("transport", ["agent-server", "clearml"], indirect=True)
def test_a_pull_that_waits_outlasts_a_server_that_fails_when_the_task_is_read(store, task, monkeypatch):
    monkeypatch.setattr(patience, "OUTAGE", (0.01, 0.01))
    got = queues.next_task(Failing(store), "tester:0", queues.Queues(store, []), wait=True)
    assert got[1]["task"]["id"] == task
    assert os.listdir(claims.active()) == [got[0].token]


@pytest.fixture
def by_pipe():
    """A pipe that is our standard input, for what was handed to it; its inode."""
    kept, (read, write) = os.dup(0), os.pipe()
    os.dup2(read, 0)
    yield os.fstat(0).st_ino
    os.dup2(kept, 0)
    for fd in (kept, read, write):
        os.close(fd)


@pytest.mark.parametrize("transport", ["agent-server", "clearml"], indirect=True)
@pytest.mark.parametrize("known", [True, False], ids=["its token is known", "it cannot be logged in to"])
def test_a_server_that_is_away_before_a_stage_begins_costs_no_attempt(
        store, task, transport, by_pipe, known, monkeypatch, agent_home):
    monkeypatch.setenv("AGENT_CLAIM_GRACE", "0")
    connect = api.connect
    monkeypatch.setattr(api, "connect", lambda worker="", patience=None: connect(worker, 0.1))
    for _ in range(recovery.MAX_ATTEMPTS + 1):
        claim, line = pulled(store)
        claim.hand("pull", {"pipe": by_pipe, "boot": processes.boot_id()})
        claim.release()
        if not known:
            shutil.rmtree(agent_home / "state" / "tokens", ignore_errors=True)
        transport.failing = [503] * 1000
        with pytest.raises((errors.Failure, errors.ApiError)):
            stages.each("prepare", pytest.fail, manifest.write(line), {})
        transport.failing = []
        recovery.recover(store)
        assert (waiting(store), status(store, task)) == ([task], "queued")
    assert attempt.failed_attempts(task) == 0


def reason(store, task):
    return store.call("tasks.get_by_id", {"task": task})["task"]["status_reason"]


def test_a_setting_that_keeps_a_stage_from_beginning_costs_no_attempt_and_is_told(store, task, by_pipe, monkeypatch):
    monkeypatch.setenv("AGENT_CLAIM_GRACE", "0")

    def wrong(pull):
        raise errors.Failure("its certificate is not accepted", errors.BAD_CONFIG)

    for _ in range(recovery.MAX_ATTEMPTS + 1):
        claim, line = pulled(store)
        claim.hand("pull", {"pipe": by_pipe, "boot": processes.boot_id()})
        claim.release()
        with monkeypatch.context() as patch, pytest.raises(errors.Failure, match="certificate"):
            patch.setattr("agentpipe.held.connect", wrong)
            stages.each("prepare", pytest.fail, manifest.write(line), {})
        recovery.recover(store)
        assert (waiting(store), status(store, task)) == ([task], "queued")
        assert reason(store, task) == "agent-prepare: its certificate is not accepted"
    assert attempt.failed_attempts(task) == 0


def test_a_line_that_goes_back_while_the_server_is_away_costs_no_attempt(store, task, by_pipe, monkeypatch):
    monkeypatch.setenv("AGENT_CLAIM_GRACE", "0")
    claim, line = pulled(store)
    claim.hand("pull", {"pipe": by_pipe, "boot": processes.boot_id()})
    claim.release()

    def away(pull):
        raise errors.Failure("the server is away", errors.UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr("agentpipe.held.connect", away)
        stages.give_back_line(manifest.write(line), "agent-prepare: No such option: --typo")
    recovery.recover(store)
    assert (waiting(store), reason(store, task)) == ([task], "agent-prepare: No such option: --typo")
    assert attempt.pid_record(claim.directory) == attempt.HANDED_BACK


@pytest.mark.parametrize("transport", ["agent-server", "clearml"], indirect=True)
def test_a_server_that_fails_when_an_adopted_task_is_read_costs_it_no_attempt(store, task, tmp_path, monkeypatch):
    _, line = pulled(store)
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "another"))
    with pytest.raises(errors.ApiError, match="a fault of a moment"):
        adopt.adopt(Failing(store), line, "prepare")
    recovery.recover(store)
    assert waiting(store) == [task]
    assert os.listdir(claims.active()) == []
    assert attempt.numbers(task) == []


def test_a_task_whose_passwords_cannot_be_put_away_goes_back(store, monkeypatch):
    queue = store.call("queues.get_default")["id"]
    id = store.call("tasks.create", {"name": "a task", "type": "training",
                                     "script": {"repository": "https://u:secret@host.invalid/a.git"}})["id"]
    store.call("tasks.enqueue", {"task": id, "queue": queue})
    publish = secrets.publish

    def full(path, data):
        if path.endswith("secrets.json"):
            raise errors.Failure(f"cannot write {path}: No space left on device", errors.CANNOT_CREATE)
        publish(path, data)

    monkeypatch.setattr(secrets, "publish", full)
    with pytest.raises(errors.Failure, match="No space left"):
        pulled(store)
    assert waiting(store) == [id]
    assert os.listdir(claims.active()) == []
    assert attempt.failed_attempts(id) == 0


def test_an_entry_of_a_queue_whose_task_was_deleted_leaves_nothing_behind(store):
    assert queues._begun(store, "host:0", intents.Intent(), "f" * 32, None) is None
    assert os.listdir(claims.active()) == os.listdir(paths.state("tasks")) == []


def test_an_intent_dropped_twice_closes_no_descriptor_of_another_file(store):
    intent = intents.Intent()
    number = intent._fd
    intent.drop()
    with open(os.devnull) as other:
        assert other.fileno() == number
        intent.drop()
        os.fstat(number)


def test_an_intent_that_becomes_an_attempt_while_recovery_looks_is_left_alone(store, tmp_path, monkeypatch):
    intent, recover = intents.Intent(), intents.recover

    def late(server, token):
        intent.becomes(str(tmp_path))
        recover(server, token)

    monkeypatch.setattr(intents, "recover", late)
    assert recovery.recover(store) is None
    assert os.readlink(intent.path) == str(tmp_path)


@pytest.mark.parametrize("transport", ["store"], indirect=True)
@pytest.mark.parametrize("name", ["lock", "claim", "manifest.json", "running"])
@pytest.mark.parametrize("plant", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)],
                         ids=["fifo", "directory", "symlink"])
def test_what_a_container_puts_in_the_place_of_a_record_holds_up_no_other_task(store, task, name, plant, capfd):
    claim, _ = pulled(store)
    abandoned(claim)
    path = os.path.join(claim.directory, name)
    if os.path.lexists(path):
        os.unlink(path)
    plant(path)
    queue = store.call("queues.get_default")["id"]
    other = store.call("tasks.create", {"name": "other", "type": "training", "script": {"entry_point": "a.sh"}})["id"]
    store.call("tasks.enqueue", {"task": other, "queue": queue})
    abandoned(pulled(store)[0])
    capfd.readouterr()
    recovery.recover(store)
    said = capfd.readouterr().err.splitlines()
    assert other in waiting(store)
    if name == "lock":
        assert len(said) == 1 and f"{path} cannot be locked: it is no regular file" in said[0]
    else:
        assert said == [] and task in waiting(store)


def test_a_place_that_nothing_enters_ends_its_task_at_once_and_says_why(store, task):
    claim, line = pulled(store)
    claim.hand("pull", None)
    claim.release()
    text = manifest.write({**line, "place": {"kind": "firecracker", "prefix": []}})
    values = {"supervised": False}
    assert stages.each("run", pytest.fail, text, values, lambda held: ending.of_failed(held, values)) == errors.BAD_DATA
    assert (status(store, task), os.listdir(claims.active())) == ("failed", [])
    assert "place.prefix, which enters it, is empty" in reason(store, task)


def test_the_passwords_of_a_task_are_gone_before_its_claim(store, task, monkeypatch):
    claim, _ = pulled(store)
    seen = []
    monkeypatch.setattr(secrets, "forget", lambda directory: seen.append(os.path.islink(claims.active(claim.token))))
    claim.end()
    assert seen == [True]


def test_what_a_stage_of_ones_own_says_of_its_time_keeps_no_end_from_being_told(store, task, tmp_path, monkeypatch):
    claim, line = pulled(store)
    claim.hand("pull", None)
    claim.release()
    answer = tmp_path / "answer"
    answer.write_text(json.dumps({**line, "fetch": {"code": "/", "began": time.time(), "seconds": "few"}}))
    monkeypatch.setenv("AGENT_STAGE_FETCH", f"cat >/dev/null; cat {answer}")

    def steps(held):
        stages.step(held, "fetch", "fetch", pytest.fail)

    values = {"supervised": False}
    stages.each("run", steps, manifest.write(line), values, lambda held: ending.of_failed(held, values))
    assert (status(store, task), os.listdir(claims.active())) == ("failed", [])
    assert "fetch.began must be string or null" in reason(store, task)
