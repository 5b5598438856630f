"""Passwords that a task carries in its URLs: where they are after agent-pull, and where not."""

import json
import os
import time

import pytest

from agentpipe import redact, secrets


@pytest.mark.parametrize(("repository", "clean"), [
    ("https://ann:hunter22@h/x.git", "https://h/x.git"),
    ("https://ann:hünter22@h/x.git", "https://h/x.git"),
    ("https://ann:hünt/er22@h.org/x.git", "https://h.org/x.git"),
    ("https://ann:hunt\"er22@h/x.git", "https://h/x.git"),
    ("https://ann:hunt'er22@h/x.git", "https://h/x.git"),
    ("https://h/x.git?private_token=hünter22", "https://h/x.git?private_token=[REDACTED]"),
    ("ssh://git:hunter22@h/x.git", "ssh://git@h/x.git")])
def test_no_part_of_a_login_stays_in_the_manifest(tmp_path, repository, clean):
    lines = [f"one @ git+{repository.replace(chr(34), '').replace(chr(39), '')}", "--pre"]
    task = {"id": "1", "script": {"repository": repository, "requirements": {"pip": lines}}}
    shown = secrets.put_away(task, str(tmp_path))
    assert shown["script"] == {"repository": clean, "requirements": {"pip": [f"one @ git+{clean}", "--pre"]}}
    assert os.stat(tmp_path / secrets.FILE).st_mode & 0o777 == 0o600
    assert secrets.whole(shown, str(tmp_path)) == task


@pytest.mark.parametrize("text", ['[]', '5', '{"repository": 1}', '{"repository": {"shown": "x"}}'])
def test_what_a_script_has_put_in_the_place_of_that_file_is_nothing(tmp_path, text):
    (tmp_path / secrets.FILE).write_text(text)
    assert secrets.whole({"script": {"repository": "x"}}, str(tmp_path)) == {"script": {"repository": "x"}}


def test_a_task_without_a_login_needs_no_file(tmp_path):
    task = {"script": {"repository": "ssh://git@h/x.git", "requirements": {"pip": "tea @ https://h/tea.whl?a=b"}}}
    assert json.dumps(secrets.put_away(task, str(tmp_path))) == json.dumps(task)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["https://x@" * 20_000, "https://" * 20_000, "https://a:/b" * 20_000,
                                  "a+" * 40_000 + "://x:y@h", "https://" * 20_000 + " https://h/?a=b"])
def test_a_text_that_is_made_of_addresses_keeps_nobody_waiting(tmp_path, text):
    """Half a minute each, and agent-pull looks at what a task brings."""
    began = time.monotonic()
    secrets.put_away({"script": {"requirements": {"pip": text}}}, str(tmp_path))
    redact.secrets_in([("", text)])
    assert time.monotonic() - began < 8
