"""What a person types to name a task or a time, and what a task's script says of a container."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer
from repositories import commit, repository, run

from agentpipe import complete, errors, find, units
from agentpipe.claim import attempt
from agentpipe.server import tasks
from agentpipe.task import (
    causes,
    clones,
    compare,
    container_options,
    edits,
    listing,
    named,
    params,
    recapture,
    remedies,
    sh_script,
    sources,
    view,
)
from agentpipe.transport import api


def test_the_beginning_of_an_id_is_that_of_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    store = api.connect()
    ids = iter([one := "abcd" * 8, two := "abce" * 8, short := "abcea"])
    monkeypatch.setattr(tasks, "new_id", lambda: next(ids))
    for name in ("one", "two", "short"):
        store.call("tasks.create", {"name": name, "type": "training"})
    for word, meant in (("abcda", one), (one, one), ("abceabce", two), (short, short), ("nope", "nope"), ("abc", "abc"),
                        ("fffff", "fffff"), ("-abcd", "-abcd")):
        assert find.whole_id(store, word) == meant
    with pytest.raises(errors.Failure, match="fits 2 tasks") as caught:
        find.whole_id(store, "abce")
    assert caught.value.exit == errors.BAD_DATA


def test_a_name_that_is_the_beginning_of_another_id_is_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    store = api.connect()
    ids = iter([other := "2024abcd" * 4, named := "bcde" * 8, alone := "7777" * 8])
    monkeypatch.setattr(tasks, "new_id", lambda: next(ids))
    for name in ("other", "2024", "2025"):
        store.call("tasks.create", {"name": name, "type": "training"})
    with pytest.raises(errors.Failure, match="fits 2 tasks") as caught:
        find.task(store, "2024")
    assert caught.value.exit == errors.BAD_DATA
    assert {other, named} == set(caught.value.evidence.splitlines())
    assert [find.task(store, word)["id"] for word in ("2024a", "2025", named)] == [other, alone, named]


def test_no_shell_waits_for_a_server_that_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        env = {**os.environ, "AGENT_HOME": str(tmp_path), "CLEARML_AUTH_TOKEN": "token",
               "CLEARML_API_HOST": f"http://127.0.0.1:{hung.getsockname()[1]}"}
        asked = subprocess.run([sys.executable, "-m", "agentpipe.cmds.agent_task", "complete", "tasks"], env=env,
                               capture_output=True, timeout=15, check=True)
        assert asked.stdout == asked.stderr == b""
        connections = [hung.accept()[0] for _ in range(2)]  # of who asks on behind it, too
        for each in connections:
            each.close()


def test_an_old_task_is_completed_by_the_beginning_of_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                             capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    old = store.call("tasks.create", {"name": "the old one", "type": "training"})["id"]
    for number in range(complete.MOST):
        store.call("tasks.create", {"name": f"new {number}", "type": "training"})
    assert complete.main(["tasks", old[:12]]) == 0
    assert capfd.readouterr().out == f"{old}\tcreated, the old one\n"
    assert complete.main(["tasks", "the o"]) == 0
    assert capfd.readouterr().out == f"the old one\tcreated, {old[:8]}\n"
    for beginning in ("zz", "^", "ffffffffffffffff"):
        assert complete.main(["tasks", beginning]) == 0
        assert capfd.readouterr().out == ""


def test_days_have_names() -> None:
    today, yesterday = (find.moment(word, "--since") or 0 for word in ("today", "yesterday"))
    assert datetime.fromtimestamp(today).hour == 0 and 0 <= time.time() - today < 25 * 3600
    assert 23 * 3600 <= today - yesterday <= 25 * 3600


def test_times_are_shown_to_the_second() -> None:
    for text in ("2026-11-29T19:35:56.342000+00:00", "2026-11-29T19:35:56Z", "2026-11-29T19:35:56.342000"):
        assert units.clock(text) == "2026-11-29T19:35:56Z"
    assert units.clock(None) == ""


@pytest.mark.parametrize(("requirements", "reads"), [
    (None, True), ({}, True), ({"pip": ""}, True), ({"pip": "# nothing is to be installed\n"}, False)])
def test_a_script_of_a_task_without_a_record_reads_the_lists_down_to_its_script(requirements: Any, reads: bool) -> None:
    script = {"repository": "/r.git", "entry_point": "'b/c d/t.py' --x", "working_dir": "a",
              "requirements": requirements}
    text = sh_script.text(sources.Source({"id": "1f3c", "script": script}, {}, {}, ""))
    wanted = [f'[ ! -f "$work/code/"{path} ] ||' for path in (
        "requirements.txt", "a/requirements.txt", "a/b/requirements.txt", "'a/b/c d/requirements.txt'")]
    looked = [line.split(" set")[0] for line in text.splitlines() if "requirements.txt" in line]
    assert looked == (wanted if reads else [])


def test_a_script_does_not_ask_uv_for_what_conda_has_installed() -> None:
    pins = {"packages": [{"name": "openssl", "version": "3.1", "conda": True}, {"name": "six", "version": "1.16.0"}]}
    task = {"id": "1f3c", "script": {"repository": "/r.git", "entry_point": "t.py"}}
    text = sh_script.text(sources.Source(task, pins, {}, ""))
    assert "-r - <<'END'\nsix==1.16.0\nEND\n" in text
    assert "# left out are those that conda has installed: openssl==3.1\n" in text
    text = sh_script.text(sources.Source(task, {"packages": pins["packages"][:1]}, {}, ""))
    assert "pip install" not in text and "openssl==3.1" in text


def test_a_script_asks_the_indexes_that_its_task_names_and_pytorchs_for_its_builds() -> None:
    """Without them uv would ask PyPI, where a stranger may have a package of that name."""
    files = [("tea", "1.0", "http://in.example.org:81/tea-1.0-py3-none-any.whl"),
             ("torch", "2.3.0+cu121", "https://download.pytorch.org/whl/cu121/torch-2.3.0%2Bcu121-cp311-linux_x86_64.whl"),
             ("six", "1.0", "https://mirror.example.org/six-1.0-py3-none-any.whl")]
    pins = {"packages": [{"name": name, "version": version, "source": source} for name, version, source in files]}
    told = {"org_pip": "-i http://old.example.org/simple\ntea\n", "pip": [
        "--index-url https://u:s3cret@in.example.org:81/simple", "--extra-index-url=https://more.example.org/simple",
        "--trusted-host in.example.org", "--find-links ./wheels", "--pre", "tea==1.0"]}
    task = {"id": "1f3c", "script": {"repository": "/r.git", "entry_point": "t.py", "requirements": told}}
    text = sh_script.text(sources.Source(task, pins, {}, ""))
    install = next(line for line in text.splitlines() if line.startswith("uv pip install"))
    assert install.endswith(
        "--no-deps --index-url https://in.example.org:81/simple --extra-index-url https://more.example.org/simple "
        "--allow-insecure-host in.example.org --index-strategy unsafe-best-match --torch-backend cu121 -r - <<'END'")
    assert "# from mirror.example.org (where uv asks: UV_DEFAULT_INDEX, UV_INDEX)\n" in text and "s3cret" not in text


def test_a_script_of_a_branch_that_only_the_remote_has_runs(tmp_path: Path) -> None:
    there = repository(tmp_path / "there", {"t.sh": "echo one\n"})
    run(there, "checkout", "-q", "-b", "feature")
    commit(there, {"t.sh": "echo two\n"})
    run(there, "checkout", "-q", "main")
    task = {"id": "1f3c", "script": {"repository": str(there), "version_num": "feature", "entry_point": "t.sh"}}
    text = sh_script.text(sources.Source(task, {}, {}, ""))
    assert subprocess.run(["sh", "-c", text], cwd=tmp_path, capture_output=True, check=True).stdout == b"two\n"


def test_a_remedy_shows_no_secret_of_a_container_and_edit_takes_it_back_as_it_was() -> None:
    container = {"arguments": "-e API_TOKEN=s3cret --env=DB=postgres://u:s3cret@h/d -e LEVEL='a b'",
                 "setup_shell_script": "export HF_TOKEN=s3cret", "image": "a/b:1"}
    task = {"id": "1f3c", "container": container, "script": {"entry_point": "t.py"}}
    told = remedies.fresh(task)
    assert "s3cret" not in told and told.endswith("(with the logins and secrets that are left out here)")
    mend = remedies.in_container(task, "--ipc=host")
    assert "s3cret" not in mend and "LEVEL=a b" in mend
    typed = shlex.split(mend.partition(" && ")[0])
    said: list[str] = []
    found = edits.fields(task, {"docker_args": typed[typed.index("--docker-args") + 1]}, said.append)
    assert shlex.split(found["container"]["arguments"]) == [*shlex.split(container["arguments"]), "--ipc=host"]
    assert len(said) == 2 and "s3cret" not in "".join(said)


@pytest.mark.parametrize(("script", "shown"), [
    ("export API_TOKEN='s3cret of three'; make", "export API_TOKEN=[REDACTED] make"),
    ('A=1 API_KEY="-----BEGIN\ns3cret \\" s3cret\n"\nmake', "A=1 API_KEY=[REDACTED]\nmake"),
    ('API_TOKEN="s3cret', "API_TOKEN=[REDACTED]"), ('X="run API_TOKEN=s3cret y"', 'X="run API_TOKEN=[REDACTED] y"'),
    ('echo "API_TOKEN=s3cret" >.env\necho "a"', 'echo "API_TOKEN=[REDACTED]" >.env\necho "a"'),
    (r'echo "API_TOKEN=\"s3cret of three\"" >.env', 'echo "API_TOKEN=[REDACTED]" >.env'),
    (": ${API_TOKEN:=s3cret}; make", ": ${API_TOKEN:=[REDACTED]}; make"),
    ("cat >.env <<END\nAPI_TOKEN=s3cret;s3cret&s3cret\nEND", "cat >.env <<END\nAPI_TOKEN=[REDACTED]\nEND"),
    ("API_TOKEN=\nmake A=1", "API_TOKEN=\nmake A=1")])
def test_a_secret_in_quotes_goes_from_a_set_up_script_with_its_blanks(script: str, shown: str) -> None:
    assert container_options.shown_script(script) == shown


def test_arguments_of_a_task_are_no_setting_that_could_include_a_file(monkeypatch) -> None:
    monkeypatch.setenv("OF_THE_VIEWER", "read-by-the-viewer")
    for text in ('["-eAPI_TOKEN=s3cret", "-e=A="${OF_THE_VIEWER}]', "[" * 3000):
        found = container_options.shown({"arguments": text})
        assert "s3cret" not in found and "read-by-the-viewer" not in found


@pytest.mark.parametrize("more", ["", "--no-such-option", "'"])
def test_no_secret_of_a_container_is_shown(more: str) -> None:
    one, other = ({"id": "1f3c", "status": "created", "container": {
        "image": "a/b:1", "arguments": f"--ipc=host -e API_TOKEN={secret} {more}",
        "setup_shell_script": f"export HF_TOKEN={secret}\nmake"}} for secret in ("s3cret1", "s3cret2"))
    found = compare.text(compare.differences(*(sources.Source(each, {}, {}, "") for each in (one, other))))
    assert "s3cret" not in found
    assert found.count(", with another secret") == 2 and "container" in found
    assert "s3cret" not in view.page(api.connect(), one)
    other["container"]["arguments"] = "--ipc=private"
    found = compare.text(compare.differences(*(sources.Source(each, {}, {}, "") for each in (one, other))))
    assert "→ --ipc" in found and "s3cret" not in found


def test_the_images_of_a_task_that_has_run_and_of_its_clone_that_has_not_are_compared_by_their_names() -> None:
    task = {"id": "1f3c", "status": "created", "container": {"image": "a/b:1"}}
    ran, other, clone = (sources.Source(task, pins, {}, "") for pins in ({"image": "id-1"}, {"image": "id-2"}, {}))
    assert compare.differences(ran, clone) == []
    assert "id-1 → id-2" in compare.text(compare.differences(ran, other))


@pytest.mark.parametrize(("container", "left"), [
    ({"image": "a/b:1"}, "without the image's own packages and Python."),
    ({"image": "a/b:1", "arguments": "-e SECRET=x", "setup_shell_script": "apt-get update"},
     "without the image's own packages and Python, its arguments of docker run, its set-up script.")])
def test_a_script_says_what_of_a_container_it_does_not_do(container: dict[str, Any], left: str) -> None:
    task = {"id": "1f3c", "container": container, "script": {"entry_point": "./-x.py", "diff": "print(1)\n"}}
    text = sh_script.text(sources.Source(task, {}, {}, ""))
    assert f"# It asks for the container image a/b:1. This runs on the machine as it is, {left}\n" in text
    assert '# In an image that has git and uv as well:  docker run --rm -it -v "$PWD:/w" -w /w a/b:1 sh' in text
    assert "SECRET" not in text and "cat >-x.py <<" in text and "mkdir -p" not in text


@pytest.mark.parametrize("image", ["/images/a.tar", "~/a", "./a.sif", "a.sif"])
def test_a_script_names_no_docker_for_an_image_that_is_a_file(image: str) -> None:
    task = {"id": "1f3c", "container": {"image": image}, "script": {"entry_point": "x.py", "diff": "print(1)\n"}}
    text = sh_script.text(sources.Source(task, {}, {}, ""))
    assert f"It asks for the container image {image}." in text and "docker run" not in text


def test_nothing_that_a_receipt_says_is_a_command_of_its_script() -> None:
    task = {"id": "1f3c\nid", "name": "x\nid", "script": {"repository": "/r", "entry_point": "'a`id` $x\"/t.py'"}}
    end = {"class": "completed\nid", "exit": 0}
    text = sh_script.text(sources.Source(task, {"commit": "c; id", "python": "3.11; id"}, end, ""))
    assert "\nid" not in text and "'3.11; id' 3.11; do" in text and "--detach 'c; id'" in text
    export = next(line for line in text.splitlines() if line.startswith("export PYTHONPATH"))
    said = subprocess.run(["sh", "-c", export + '; printf %s "$PYTHONPATH"'], cwd="/", capture_output=True, check=True)
    assert said.stdout == b'/://a`id` $x"'


@pytest.mark.parametrize("known", [True, False])
def test_a_script_finds_a_python_that_is_there_and_fetches_none(tmp_path: Path, known: bool) -> None:
    """The task's own, of which uv knows nothing, or one of the same minor version."""
    python = os.path.realpath(sys.executable)
    here, minor = (".".join(map(str, sys.version_info[:count])) for count in (3, 2))
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "mkdir", "cat", "git", "uv", *([] if known else [f"python{minor}"])):
        (tools / tool).symlink_to(python if tool.startswith("python") else shutil.which(tool) or "")
    script = {"entry_point": "x.py", "diff": "import platform; print(platform.python_version())\n", "requirements": {}}
    source = sources.Source({"id": "1f3c", "script": script}, {"python": f"{minor}.99"}, {}, "",
                            python if known else "")
    run = tmp_path / "run.sh"
    run.write_text(sh_script.text(source))
    done = subprocess.run(["sh", str(run)], cwd=tmp_path, text=True, capture_output=True, check=False, env={
        "PATH": str(tools), "HOME": str(tmp_path), "UV_OFFLINE": "1"})
    assert (done.stdout, done.returncode) == (f"{here}\n", 0), done.stderr


def test_a_word_of_another_tool_is_told_what_it_is_here() -> None:
    from agentpipe.cmds.agent_task import GROUP
    assert set(GROUP.also_called.values()) <= set(GROUP.words()) and not set(GROUP.also_called) & set(GROUP.words())
    for word, verb in (("rerun", "enqueue"), ("logs", "log"), ("cancel", "stop")):
        with pytest.raises(errors.Failure, match=f"no command `{word}`; `{verb}` may be meant"):
            GROUP.verb(word)


@contextlib.contextmanager
def standard_input(descriptor: int) -> Iterator[None]:
    """Standard input is that descriptor, for a while."""
    kept = os.dup(0)
    os.dup2(descriptor, 0)
    os.close(descriptor)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_at_a_terminal_it_says_what_it_waits_for(capfd: pytest.CaptureFixture[str]) -> None:
    for typed, given in (os.openpty(), os.pipe()[::-1]):
        terminal = os.isatty(given)
        os.write(typed, b"1f3c\n\n two words \n" + (b"\x04" if terminal else b""))
        if not terminal:
            os.close(typed)
        with standard_input(given):
            assert list(named.listed(["a", "-"])) == ["a", "1f3c", "two words"]
        said = capfd.readouterr().err
        assert said == ("agent-task: waiting for tasks, an id or a name a line (Ctrl-D ends)\n" if terminal else "")
        if terminal:
            os.close(typed)


def test_one_name_without_end_makes_no_wide_table_of_a_list_in_a_pipe() -> None:
    row = dict.fromkeys(("worker", "queue", "created", "end"), None) | {"id": "1f3c" * 8, "status": "created"}
    found = listing.text([{**row, "name": "x" * 10_000}, {**row, "name": "train.py"}], ("id", "name", "status"))
    long, short = found.splitlines()[1:]
    assert "x" * 10_000 + "  created" in long and len(short) < 110


def test_help_is_a_verb_too(capfd: pytest.CaptureFixture[str]) -> None:
    from agentpipe.cmds.agent_task import GROUP
    for words, of in ((["help"], "COMMAND"), (["help", "list"], "list")):
        assert GROUP.run(words) == 0
        assert f"Usage: agent-task {of}" in capfd.readouterr().out


@pytest.mark.parametrize("verb", ["enqueue", "create"])
def test_a_name_that_no_server_takes_is_refused_and_one_of_ours_made_longer(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], verb: str) -> None:
    from agentpipe.cmds.agent_task import GROUP
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("#!/bin/sh\n")
    queue = ["--queue", "default"] if verb == "enqueue" else []
    assert GROUP.run([verb, *queue, "--binary", "sh", "--name", "S1", "a"]) == errors.USAGE
    assert "the name `S1` is too short" in capfd.readouterr().err
    store = api.connect()
    assert store.call("tasks.get_all", {})["tasks"] == []
    assert GROUP.run([verb, *queue, "--binary", "sh", "a"]) == 0
    assert "its name is `a task`" in capfd.readouterr().err
    assert [task["name"] for task in store.call("tasks.get_all", {"only_fields": ["name"]})["tasks"]] == ["a task"]


def test_a_task_without_artefacts_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    from agentpipe.cmds.agent_task import GROUP
    task = api.connect().call("tasks.create", {"name": "none", "type": "training"})["id"]
    assert GROUP.run(["artifacts", task]) == 0
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err == f"agent-task: task {task} has neither artefacts nor models\n"
    assert GROUP.run(["plot", "--width", "-3", task]) == errors.USAGE
    assert capfd.readouterr().err == "agent-task: --width -3: it wants 20 or more\n"


def test_no_minute_has_sixty_seconds() -> None:
    assert [units.measured(value) for value in (59.94, 59.96, 719.7, 720, 3599.7, 7261)] == [
        "59.9 s", "1 min 00 s", "12 min 00 s", "12 min 00 s", "1 h 00 min", "2 h 01 min"]


def test_longer_ago_than_there_are_years_is_the_beginning_of_time() -> None:
    assert find.moment("99999999999d", "--since") == 0
    with pytest.raises(errors.Failure, match="no time") as caught:
        find.moment("99999-01-01", "--since")
    assert caught.value.exit == errors.USAGE


def test_a_command_line_that_cannot_be_split_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    task = {"id": "1f3c" * 8, "name": "it", "script": {"entry_point": "train.py --name it's", "diff": "print(1)\n"}}
    options = {**dict.fromkeys(edits.FIELDS), "args": ["--epochs", "3"]}
    for look in (lambda: clones.clone(None, task, options, print), lambda: recapture.fields(task, ".", print),
                 lambda: sh_script.text(sources.Source(task, {}, {}, ""))):
        with pytest.raises(errors.Failure, match="cannot be split into words") as caught:
            look()
        assert caught.value.exit == errors.BAD_DATA and f"agent-task edit {task['id']} " in caught.value.remedy
    moved = {**task, "script": {**task["script"], "working_dir": "sub"}}
    assert "data.csv" in causes.of_script(moved, {"class": "script_failed", "evidence": (
        "FileNotFoundError: [Errno 2] No such file or directory: 'data.csv'"), "reason": "exit 1"})["reason"]


def test_completion_does_without_a_cache_that_it_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                           capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "cache").mkdir(parents=True)
    (tmp_path / "home" / "cache" / "completion").touch()  # where its folder is to be
    with ApiServer(str(tmp_path / "agent.db"), False) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        assert complete.main(["queues"]) == 0
    assert capfd.readouterr().out == "default\n"


def test_a_package_is_put_into_the_lists_of_the_code_that_the_task_means_now(tmp_path: Path,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    there = repository(tmp_path / "there", {"requirements.txt": "old==1\n", "train.py": "1\n"})
    old = run(there, "rev-parse", "HEAD")
    new = commit(there, {"requirements.txt": "new==2\n"})
    script = {"repository": str(there), "branch": "main", "version_num": old, "entry_point": "train.py"}
    task: dict[str, Any] = {"id": "1f3c" * 8, "status": "failed", "script": script}
    directory = attempt.create(task["id"])
    (Path(directory) / "code").mkdir()
    (Path(directory) / "code" / "requirements.txt").write_text("of the checkout\n")
    line = {"manifest": 1, "task": {**task, "script": {**script, "version_num": ""}},
            "fetch": {"code": f"{directory}/code", "commit": old, "repository": str(there)}}
    attempt.store_manifest(directory, json.dumps(line).encode())
    for more, lists in (({}, "of the checkout"), ({"commit": new}, "new==2"), ({"commit": ""}, "new==2")):
        found = edits.fields(task, {**more, "package": ["x"]}, print)["script"]["requirements"]["pip"]
        assert found == f"{lists}\nx\n"


def test_no_file_of_mine_is_written_into_a_task_whose_lists_name_it(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    mine = tmp_path / "netrc"
    mine.write_text("machine h password s3cret\n")
    there = repository(tmp_path / "there", {"requirements.txt": f"-r {mine}\n-r more/requirements.txt\nsix\n",
                                            "more/requirements.txt": "-r ../../netrc\n-r /dev/zero\nok\n",
                                            "train.py": "1\n"})
    task: dict[str, Any] = {"id": "1f3c" * 8, "status": "created", "script": {
        "repository": str(there), "branch": "main", "entry_point": "train.py"}}
    found = edits.fields(task, {"package": ["x"]}, print)["script"]["requirements"]["pip"]
    assert found == f"-r {mine}\n-r ../../netrc\n-r /dev/zero\nok\nsix\nx\n"
    (there / "more" / "requirements.txt").unlink()
    (there / "more" / "requirements.txt").symlink_to(mine)
    run(there, "commit", "--quiet", "--all", "--message", "a link")
    assert "s3cret" not in edits.fields(task, {"package": ["x"]}, print)["script"]["requirements"]["pip"]
    for name in (str(mine), "../netrc"):
        with pytest.raises(errors.Failure, match="is not in") as caught:
            recapture.fields({"id": "1f3c" * 8, "script": {"entry_point": name}}, str(there), print)
        assert caught.value.exit == errors.BAD_DATA
    many = {f"{number}.txt": f"-r {number + 1}.txt\n" for number in range(1500)}
    deep = repository(tmp_path / "deep", {**many, "requirements.txt": "-r 0.txt\n", "train.py": "1\n"})
    with pytest.raises(errors.Failure, match="names more than"):
        edits.fields({**task, "script": {**task["script"], "repository": str(deep)}}, {"package": ["x"]}, print)


def test_of_an_option_that_stands_twice_the_one_that_counts_is_set() -> None:
    task = {"script": {"entry_point": "t.py --lr 1 --n=1 --lr 2 --n 2"}}
    assert params.changed(task, ["lr=3", "n=4"], print)[1] == "t.py --lr 1 --n=1 --lr 3 --n 4"


@pytest.mark.parametrize("told", [KeyboardInterrupt, errors.Interrupted(15)])
def test_a_clone_that_is_broken_off_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Any) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    task = store.call("tasks.get_by_id", {"task": store.call("tasks.create", {
        "name": "the first", "type": "training", "script": {"entry_point": "t.py"}})["id"]})["task"]

    class Told:
        def call(self, endpoint: str, body: Any) -> Any:
            if endpoint == "tasks.edit":
                raise told
            return store.call(endpoint, body)

    wanted = {"args": ["--x"], "name": None, "project": None}
    with pytest.raises(type(told) if isinstance(told, BaseException) else told):
        clones.clone(Told(), task, wanted, print)
    assert [each["id"] for each in store.call("tasks.get_all", {"only_fields": ["id"]})["tasks"]] == [task["id"]]


def test_what_is_wrong_with_one_of_several_quotes_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-token")

    def leak(word: str) -> None:
        raise errors.Failure("no login: s3cr3t-token")
    said: list[str] = []
    assert named.each(["a"], leak, said.append) == errors.BUG
    assert said == ["no login: [REDACTED]"]


def test_a_bad_line_keeps_no_other_task_from_being_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lines").write_bytes(b'one\n{"broken\n\n{"name": "none"}\n\xff\n{"id": "two"}\n'
                                     + b'{"a":' * 20_000 + b"\n")
    done: list[str] = []
    said: list[str] = []
    with standard_input(os.open(tmp_path / "lines", os.O_RDONLY)):
        assert named.each(["-"], done.append, said.append) == errors.SEVERAL_FAILED
    assert done == ["one", "\udcff", "two"]
    assert said == ["line 2 of standard input is no JSON", "line 4 of standard input names no task",
                    "line 7 of standard input is no JSON"]


@pytest.mark.parametrize("ties", [4, 12])
def test_a_list_gives_each_task_once_whatever_its_reader_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                              ties: int) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    monkeypatch.setattr(listing, "PAGE", 5)
    store = api.connect()
    ids = []
    for second in (1, 2, 3, 3, 3, 4, 4, *[5] * ties, 6, 7):
        ids.append(id := store.call("tasks.create", {"name": "one of many", "type": "training"})["id"])
        at = f"2026-11-30T00:00:0{second}.000000+00:00"
        store.store.transaction(lambda db, id=id, at=at: db.execute(
            "UPDATE tasks SET created=?, doc=json_set(doc, '$.created', ?) WHERE id=?", (at, at, id)))
    asked = {"status": ["created"], "queue": None, "project": None, "tag": [], "name": None, "text": None,
             "since": None, "archived": False, "columns": None, "limit": 0}
    assert sorted(row["id"] for row in listing.rows(store, asked)) == sorted(ids)
    if ties > listing.PAGE:
        return
    assert [row["id"] for row in listing.rows(store, {**asked, "limit": 7})][:2] == ids[:-3:-1]
    for row in listing.rows(store, asked):
        store.call("tasks.archive_many", {"ids": [row["id"]]})
    assert list(listing.rows(store, asked)) == []


@pytest.mark.parametrize(("line", "found"), [
    ("git+https://h/y.git", ["--extra-index-url https://h/simple", "tea", "-e .", "git+https://h/x.git@v1",
                             "git+https://h/y.git"]),
    ("https://h/y.whl", ["--extra-index-url https://h/simple", "tea", "-e .", "git+https://h/x.git@v1",
                         "https://h/y.whl"]),
    ("git+https://h/x.git@v2", ["--extra-index-url https://h/simple", "tea", "-e .", "git+https://h/x.git@v2"]),
    ("Tea==2", ["--extra-index-url https://h/simple", "Tea==2", "-e .", "git+https://h/x.git@v1"])])
def test_a_package_without_a_name_takes_the_place_of_no_other_line(line: str, found: list[str]) -> None:
    before = "--extra-index-url https://h/simple\ntea\n-e .\ngit+https://h/x.git@v1\n"
    task = {"id": "1", "script": {"requirements": {"pip": before}}}
    assert edits.changed_requirements(task, {"package": [line]}).splitlines() == found
