"""Files that others read are whole, whoever writes them at the same time; some are on the disk at once."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from starlette.requests import Request

from agentpipe import files
from agentpipe.claim import claims, intents
from agentpipe.server.files import Files
from agentpipe.server.uploads import Upload
from agentpipe.transport import api


@pytest.fixture
def synced(monkeypatch):
    """The paths that were brought to the disk, in order."""
    found, sync = [], os.fsync

    def fsync(fd):
        found.append(os.readlink(f"/proc/self/fd/{fd}"))
        sync(fd)
    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_an_upload_is_on_the_disk_with_its_name_and_its_folders_when_it_is_answered(tmp_path, synced):
    sent = requests.Request("POST", "http://files", files={"proj/task/u.bin": ("u.bin", b"data")}).prepare()

    async def receive():
        return {"type": "http.request", "body": sent.body, "more_body": False}
    scope = {"type": "http", "method": "POST", "path": "/",
             "headers": [(b"content-type", sent.headers["Content-Type"].encode())]}
    root = str(tmp_path / "files")
    upload = Upload(Files(root, tokens=None))
    assert asyncio.run(upload.receive(Request(scope, receive))) == ["proj/task/u.bin"]
    written, *folders = synced
    assert os.path.dirname(written) == f"{root}/.agentpipe-uploads"
    assert sorted(folders[:-1]) == [root, f"{root}/proj"] and folders[-1] == f"{root}/proj/task"
    with open(f"{root}/proj/task/u.bin", "rb") as file:
        assert file.read() == b"data"


def test_two_threads_may_publish_one_file(tmp_path):
    path = str(tmp_path / "file")

    def write(letter):
        for _ in range(300):
            files.publish(path, letter * 5000)
            with open(path, "rb") as file:
                assert file.read() in (b"a" * 5000, b"b" * 5000)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, (b"a", b"b")))
    assert os.listdir(tmp_path) == ["file"]


def test_containers_in_which_pids_are_the_same_do_not_share_a_temporary(tmp_path):
    words = [sys.executable, "-c", "import os, sys; from agentpipe import files; "
             "print(os.getpid(), files.temporary('x'), flush=True); sys.stdin.read()"]
    inside = ["unshare", "-r", "--pid", "--fork", "--mount-proc"]
    started = [subprocess.Popen([*before, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
               for before in (inside, inside, [])]
    here, there, outside = (each.stdout.readline().split() for each in started)
    for each in started:
        each.communicate()
    assert here[0] == there[0] and here[1] != there[1]
    assert outside[1].rpartition("-")[2] == files.temporary("x").rpartition("-")[2]


def test_a_link_that_a_killed_process_left_half_made_is_in_nobodys_way(tmp_path):
    path = str(tmp_path / "link")
    os.symlink("left", files.temporary(path))
    for target in ("one", "other"):
        files.link(target, path)
        assert os.readlink(path) == target and os.listdir(tmp_path) == ["link"]


def test_a_durable_one_is_on_the_disk_with_its_name(tmp_path, synced):
    files.publish(str(tmp_path / "file"), b"text", durable=True)
    assert [os.path.dirname(synced[0]), *synced[1:]] == [str(tmp_path), str(tmp_path)]


def test_before_another_machine_is_asked_for_a_task_the_intent_is_on_the_disk(transport, synced):
    server, intent = api.connect(), intents.Intent()
    intent.note(server, "queue")
    intent.note(server, "another")
    assert synced == [intent.path, claims.active()]


def test_a_name_that_ends_in_a_digit_of_another_kind_is_no_attempt(tmp_path):
    for name in ("t.2", "t.\u00b2", "t."):
        (tmp_path / name).mkdir()
    assert files.numbers(str(tmp_path), "t") == [2]
