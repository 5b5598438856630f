"""What a container may write of its task's directory and of the caches, and what comes of it when that is hostile."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import stat
import subprocess
import time

import pytest
import wheelhouse

from agentpipe import errors, job, paths, place, processes, trees, untrusted
from agentpipe.claim import attempt, claims
from agentpipe.cmds import agent_env, agent_fetch, agent_patch
from agentpipe.environment import env_cache, installed, overlay, python_env
from agentpipe.place import apart, create, docker, entrypoint, setup_script
from agentpipe.pull import recovery
from agentpipe.report import finish
from agentpipe.run import ending, script, shim
from agentpipe.settings import indexes

# `docker exec [-u USER] CONTAINER PROGRAM …` of an engine whose containers are this machine
CLIENT = """#!/bin/sh
shift
[ "$1" != -u ] || shift 2
shift
exec "$@"
"""
SECRET = "s3cret"


@pytest.fixture
def client(tmp_path):
    path = tmp_path / "client"
    path.write_text(CLIENT)
    path.chmod(0o755)
    return [str(path), "exec", "c"]


@pytest.fixture
def outside(tmp_path):
    path = tmp_path / "outside"
    path.write_text(SECRET)
    path.chmod(0o600)
    yield path
    assert path.read_text() == SECRET and stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.fixture
def made(directory):
    """A job whose container is about to be made."""
    found = job.Job({"task": {"id": "t1"}}, directory)
    yield found
    found.close()


@pytest.fixture
def in_container(machine, client):
    """in_container("milk"): the job of a task with these packages, whose container is there."""
    def make(packages):
        found = machine.job(packages, place=contained(client))
        for name in ("box", "env"):
            os.mkdir(found.path(name))
        return found
    return make


def contained(client, **more):
    return {"kind": "docker", "prefix": client, "container": "c", "image": "i", "image_id": "sha256:i",
            "environments": apart.make(), **more}


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


# ---- what is mounted

def test_only_its_own_folders_can_be_written_in_a_container(made):
    own = apart.make()
    write(made.path("secrets.json"), SECRET)
    write(made.path("lock"), "")
    found = {each["Target"]: each for each in create._mounts(made, own, create._make_room(made, True))}
    written = {target for target, each in found.items() if not each["ReadOnly"]}
    assert written == {made.path("code"), made.path("env"), made.path("box"), own, indexes.container_cache()}
    assert {made.directory, apart.home(), paths.cache("lent")} <= set(found) - written
    assert {found[made.path(name)]["Source"] for name in ("lock", "secrets.json")} == {os.devnull}
    # virtualenv's data has locks, which can be taken of what is only shown
    assert not any(found.get(paths.cache(name)) for name in ("envs", "uv", "git", "virtualenv"))


def test_a_container_gets_folders_that_no_earlier_one_has_written_in(made, outside):
    os.symlink(outside.parent, made.path("box"))
    write(made.path("env", "bin", "python"), "hostile")
    create._make_room(made, False)
    assert os.listdir(made.path("box")) == os.listdir(made.path("env")) == []
    assert not os.path.islink(made.path("box"))
    assert os.stat(made.path("box")).st_mode & 0o777 == 0o777


def test_no_file_of_a_containers_checkout_is_the_mirrors_too(made, tmp_path):
    pack = tmp_path / "pack"
    pack.write_bytes(b"objects" * 1000)
    pack.chmod(0o444)
    os.makedirs(made.path("code", ".git", "modules", "m"))
    for name in ("a", "modules/m/b"):
        os.link(pack, made.path("code", ".git", name))
    create._make_room(made, True)
    copy = os.stat(made.path("code", ".git", "modules", "m", "b"))
    assert copy.st_nlink == 1 and copy.st_mtime_ns == pack.stat().st_mtime_ns
    assert stat.S_IMODE(copy.st_mode) == 0o444
    with open(made.path("code", ".git", "a"), "rb") as file:
        assert file.read() == pack.read_bytes()
    assert sorted(os.listdir(made.path("code", ".git"))) == ["a", "modules"]


@pytest.mark.parametrize(("name", "size", "for_root", "shown"), [
    (".git/objects/pack/pack-0a.pack", create.LARGE, True, True),
    (".git/modules/m/objects/pack/pack-0a.pack", create.LARGE, True, True),
    (".git/modules/a,ro/objects/pack/pack-0a.pack", create.LARGE, True, False),
    (".git/objects/pack/pack-0a.pack", create.LARGE - 1, True, False),
    (".git/objects/pack/pack-0a.pack", create.LARGE, False, False), ("data.bin", create.LARGE, True, False)])
def test_a_large_pack_is_shown_read_only_and_not_copied(made, tmp_path, name, size, for_root, shown):
    (tmp_path / "pack").touch()
    os.truncate(tmp_path / "pack", size)
    path = made.path("code", *name.split("/"))
    os.makedirs(os.path.dirname(path))
    os.link(tmp_path / "pack", path)
    found = create._mounts(made, apart.make(), create._make_room(made, for_root))
    assert [each["ReadOnly"] for each in found if each["Target"] == path] == ([True] if shown else [])
    assert os.stat(path).st_nlink == 1 + shown


# ---- what is decided by it

def test_the_script_writes_in_the_box_and_its_end_is_found_there(directory):
    box = os.path.join(directory, "box")
    os.mkdir(box)
    write(os.path.join(directory, "spec"), "export WORD=hello\n")
    found = script.start(directory, ["sh", "-c", 'echo "$WORD"; exit 3'], "/", os.environ)
    assert found.wait(10) and found.status == 3
    assert {"log", "pid", "exit.3"} <= set(os.listdir(box))
    assert not {"log", "pid", "running", "exit.3"} & set(os.listdir(directory))
    assert finish._last_lines(directory) == "hello"
    assert attempt.pid_record(directory) and attempt.ended_at(directory) and not attempt.shim_lives(directory)
    assert ending.run_key(directory, "script_failed", 3, "", "")["seconds"] >= 0


def test_what_stands_in_the_box_is_no_manifest_claim_journal_or_outcome(directory):
    attempt.store_manifest(directory, json.dumps({"manifest": 1, "task": {"id": "t1"}}).encode())
    box = os.path.join(directory, "box")
    for name in ("manifest.json", "claim", "place.json"):
        write(os.path.join(box, name), json.dumps({"manifest": 1, "task": {"id": "t1"}, "token": "x", "place": {
            "kind": "own", "prefix": ["touch", "/executed"]}}))
    os.symlink("completed", os.path.join(box, "outcome"))
    assert place.of(attempt.read_manifest(directory), directory).prefix == []
    assert claims.read(directory) is place.journalled(directory) is attempt.outcome(directory) is None


@pytest.mark.parametrize("record", ["given-back", "handed-back", "2 1 boot", "hostile"])
def test_a_forged_record_signals_nobody_and_gives_back_at_most_its_own_task(directory, record, client):
    os.mkdir(os.path.join(directory, "box"))
    os.symlink(record, os.path.join(directory, "box", "pid"))
    where = docker.Container(contained(client), directory)
    assert not script.lives(directory, where)
    found = script.taken_over(directory, where)
    found._gone_since = 0.0
    assert found.wait(2) and found.status is None
    recovery._sweep(directory, where)


def test_a_process_of_this_machine_is_none_of_a_containers(directory, client):
    ours = processes.identity(os.getpid())
    where = docker.Container(contained(client, keeper=ours, container="f" * 64), directory)
    assert where.pid(ours) is None and where.alive(ours) is False
    # of a container whose name stands in the path of our control group
    where = docker.Container(contained(client, keeper=ours, container="/"), directory)
    assert where.pid(ours) == os.getpid()


@pytest.mark.parametrize("said", ["", "x", "-1", "1" * 5000, "3\n-4"])
def test_what_a_containers_shell_answers_is_a_number_or_none(directory, tmp_path, said):
    program = tmp_path / "said"
    program.write_text(said)
    where = place.Place({"kind": "own", "prefix": ["sh", "-c", f"cat {program}", "prefix"]}, directory)
    assert where.signal("77 1 boot", 15) == 0


def test_a_lock_that_is_never_let_go_does_not_keep_agent_run(directory, monkeypatch):
    monkeypatch.setattr(shim, "LOOKS_S", 0.1)
    os.mkdir(os.path.join(directory, "box"))
    with open(os.path.join(directory, "box", "running"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(errors.Failure, match="holds the file `running`"):
            script.start(directory, ["true"], "/", os.environ)


def test_an_entrypoint_passes_on_nothing_that_the_client_refuses(directory):
    """docker exec starts nothing at all with a line in its --env-file that is no UTF-8, or too long."""
    os.mkdir(os.path.join(directory, "box"))
    entrypoint.expected(directory)
    with open(os.path.join(directory, "box", "entered"), "wb") as file:
        file.write(b"BAD=\xff\0LONG=" + b"x" * 65531 + b"\0GOOD=" + b"y" * 65530 + b"\0")
    words = entrypoint.variables(directory, [])
    with open(words[1]) as file:
        assert file.read() == "GOOD=" + "y" * 65530 + "\n"


def test_an_entrypoint_passes_on_no_variable_of_ours(directory, monkeypatch):
    monkeypatch.setenv("API_SECRET", SECRET)
    os.mkdir(os.path.join(directory, "box"))
    entrypoint.expected(directory)
    write(os.path.join(directory, "box", "entered"), "API_SECRET\nX=1\0GOOD=2\0#C=3\0 D=4\0E=5\nAPI_SECRET\0")
    words = entrypoint.variables(directory, [])
    with open(words[1]) as file:
        assert file.read() == "GOOD=2\n"
    assert os.path.dirname(words[1]) == directory


# ---- where we write

def test_files_are_opened_to_all_behind_no_link(directory, outside, monkeypatch):
    """Also where a file becomes one between our look and our work."""
    code = os.path.join(directory, "code")
    write(os.path.join(code, "folder", "file"), "")
    os.symlink(outside, os.path.join(code, "link"))
    os.symlink(outside.parent, os.path.join(code, "above"))
    chmod = os.chmod

    def swapped(path, mode, **more):
        for name in ("folder/file", "folder"):
            full = os.path.join(code, name)
            if os.path.lexists(full) and not os.path.islink(full):
                os.rename(full, os.path.join(directory, name.replace("/", "-")))
                os.symlink(outside if name == "folder/file" else outside.parent, full)
        chmod(path, mode, **more)
    monkeypatch.setattr(os, "chmod", swapped)
    where = docker.Container({"kind": "docker", "prefix": ["c"], "stranger": "12345"}, directory)
    where.open_up()


def test_an_image_of_another_user_can_write_what_is_its_own(directory):
    for name in ("code/a/b", "env/c", "box/d", "setup.log", "spec"):
        write(os.path.join(directory, name), "")
        os.chmod(os.path.join(directory, name), 0o600)
    os.chmod(directory, 0o711)
    docker.Container({"kind": "docker", "prefix": ["c"], "stranger": "12345"}, directory).open_up()
    modes = {name: stat.S_IMODE(os.stat(os.path.join(directory, name)).st_mode)
             for name in ("", "code/a", "code/a/b", "env/c", "box", "setup.log", "spec")}
    assert modes == {"": 0o711, "code/a": 0o777, "code/a/b": 0o666, "env/c": 0o666, "box": 0o777, "setup.log": 0o600,
                     "spec": 0o644}


def test_an_overlay_is_moved_into_a_folder_whatever_stands_there(directory, outside):
    new, env = os.path.join(directory, "env.new"), os.path.join(directory, "env")
    write(os.path.join(new, "bin", "python"), "ours")
    write(os.path.join(new, "pyvenv.cfg"), "ours")
    os.makedirs(os.path.join(env, "lib", "x"))
    os.symlink(outside.parent, os.path.join(env, "bin"))
    os.symlink(outside, os.path.join(env, "pyvenv.cfg"))
    inode = os.stat(env).st_ino
    trees.fill(new, env)
    assert sorted(os.listdir(env)) == ["bin", "pyvenv.cfg"] and os.stat(env).st_ino == inode
    assert not os.path.islink(os.path.join(env, "bin")) and not os.path.lexists(new)


def test_a_folder_that_is_a_link_is_not_filled(directory, outside):
    write(os.path.join(directory, "new", "x"), "ours")
    os.symlink(outside.parent, os.path.join(directory, "env"))
    with pytest.raises(OSError):
        trees.fill(os.path.join(directory, "new"), os.path.join(directory, "env"))
    assert not (outside.parent / "x").exists()


@pytest.mark.parametrize("work", [agent_fetch.work, agent_patch.work])
def test_once_its_container_is_there_a_checkout_is_left_alone(directory, client, work):
    found = job.Job({"task": {"id": "t1", "script": {}}, "fetch": {"code": os.path.join(directory, "code")},
                     "place": contained(client)}, directory)
    with pytest.raises(errors.Failure, match="in which the task's container can write by now"):
        work(found)
    found.close()


def test_scripts_of_the_set_up_stand_where_no_container_writes_and_what_they_leave_where_it_does(directory, client):
    os.mkdir(os.path.join(directory, "box"))
    found = job.Job({"task": {"id": "t1"}, "place": {"kind": "docker", "prefix": client}}, directory)
    wanted = setup_script.Step("4-task", "the task's", "export WORD=hello\n")
    folder, left = setup_script._prepare(found, [wanted])
    assert (folder, left) == (found.path("setup"), found.path("box", "setup"))
    found.run([*client, "sh", f"{folder}/run", folder, left, "4-task", "stop"])
    assert setup_script.environment(directory)["WORD"] == "hello"
    assert sorted(os.listdir(folder)) == ["4-task", "run"]
    assert sorted(os.listdir(left)) == ["before", "environment", "exports"]
    found.close()


# ---- what we read

@pytest.mark.parametrize("target", ["outside", "fifo"])
def test_nothing_outside_the_checkout_is_read_for_a_container(directory, client, outside, target):
    code = os.path.join(directory, "code")
    os.makedirs(code)
    if target == "fifo":
        os.mkfifo(os.path.join(code, "requirements.txt"))
        os.rename(os.path.join(code, "requirements.txt"), os.path.join(code, "fifo"))
        os.symlink("fifo", os.path.join(code, "requirements.txt"))
        with untrusted.kept_within(code), pytest.raises(untrusted.NotRegular, match="no regular file"):
            untrusted.of_task(os.path.join(code, "requirements.txt"))
        return
    os.symlink(outside, os.path.join(code, "requirements.txt"))
    line = {"task": {"id": "t1", "script": {"entry_point": "main.py"}}, "fetch": {"code": code},
            "place": contained(client)}
    found = job.Job(line, directory)
    with pytest.raises(errors.Failure, match="it leads out of the task's own folder") as raised:
        agent_env.work(found)
    assert SECRET not in f"{raised.value} {raised.value.evidence}"
    found.close()
    with open(found.path("setup.log")) as file:
        assert SECRET not in file.read()


def test_a_link_within_the_checkout_is_followed(directory):
    code = os.path.join(directory, "code")
    write(os.path.join(code, "lists", "all.txt"), "six\n")
    os.symlink("lists/all.txt", os.path.join(code, "requirements.txt"))
    with untrusted.kept_within(code), open(untrusted.of_task(os.path.join(code, "requirements.txt"))) as file:
        assert file.read() == "six\n"


# ---- environments that containers build

def test_a_container_builds_where_it_alone_can_write_and_all_use_it(in_container, machine):
    first = in_container("milk")
    inode = os.stat(first.path("env")).st_ino
    env = agent_env.work(first)
    built = python_env.cached(env["base"])
    own = first.manifest["place"]["environments"]
    assert os.path.dirname(built["directory"]) == own
    assert os.path.dirname(built["about"]) == env_cache.home()
    assert sorted(os.listdir(built["about"])) == ["agentpipe.json", "links", "users"]
    assert not {"agentpipe.json", "links", "users"} & set(os.listdir(built["directory"]))
    assert os.stat(first.path("env")).st_ino == inode and env["overlay"] == first.path("env")
    says = subprocess.run([env["python"], "-c", "import milk, tea; print(tea.version)"], capture_output=True, text=True)
    assert says.stdout == "1.0\n"
    assert subprocess.run([os.path.join(env["overlay"], "bin", "tea")], capture_output=True).stdout == b"tea 1.0\n"

    second = in_container("milk")
    again = agent_env.work(second)
    assert again["cached"] and again["base"] == env["base"]
    apart.drop(second.manifest["place"])
    apart.drop(first.manifest["place"])
    assert os.listdir(apart.home()) == [os.path.basename(own)]

    on_host = machine.task("milk")
    assert not on_host["cached"] and on_host["base"] != env["base"]


def test_what_a_container_makes_of_its_environment_leads_us_nowhere(in_container, outside):
    first = in_container("milk")
    built = python_env.cached(agent_env.work(first)["base"])
    tea = os.path.join(built["directory"], "bin", "tea")
    os.unlink(tea)
    os.symlink(outside, tea)
    record = next(each for each in os.listdir(os.path.join(built["directory"], built["site"]))
                  if each.startswith("milk") and each.endswith(".dist-info"))
    metadata = os.path.join(built["directory"], built["site"], record, "METADATA")
    os.unlink(metadata)
    outside.write_text("Name: leaked\nVersion: 1\n")
    os.symlink(outside, metadata)
    assert "leaked" not in installed.names(built["directory"])
    outside.write_text(SECRET)
    second = in_container("milk")
    with pytest.raises(errors.Failure, match="it is no regular file"):
        overlay.create(second, built)
    assert not os.path.exists(second.path("env", "bin", "tea"))


def hostile_record(folder):
    return os.path.join(installed.site_packages(folder), "milk-1.0.dist-info", "RECORD")


def short_row(folder, outside):
    write(hostile_record(folder), "milk/__init__.py\n")


def no_text(folder, outside):
    with open(hostile_record(folder), "wb") as file:
        file.write(b"\xff\xfe,sha256=x,1\n")


def long_field(folder, outside):
    write(hostile_record(folder), "x" * 200_000 + ",sha256=x,1\n")


def odd_hash(folder, outside):
    write(hostile_record(folder), "milk/__init__.py,shake_128=x,1\n")


def no_packages(folder, outside):
    os.rename(os.path.join(folder, "lib"), os.path.join(folder, "gone"))


def conda_fifo(folder, outside):
    os.mkdir(os.path.join(folder, "conda-meta"))
    os.mkfifo(os.path.join(folder, "conda-meta", "x.json"))


def conda_nonsense(folder, outside):
    write(os.path.join(folder, "conda-meta", "x.json"), '{"paths_data": {"paths": ["x", {}]}}')


def conda_list(folder, outside):
    write(os.path.join(folder, "conda-meta", "x.json"), "[" * 100_000)


def conda_leads_out(folder, outside):
    each = {"_path": os.path.relpath(outside, folder), "sha256": hashlib.sha256(SECRET.encode()).hexdigest()}
    write(os.path.join(folder, "conda-meta", "x.json"), json.dumps({"paths_data": {"paths": [each]}}))


def names_a_file_outside(folder, outside):
    digest = base64.urlsafe_b64encode(hashlib.sha256(SECRET.encode()).digest()).rstrip(b"=").decode()
    write(hostile_record(folder), f"{outside},sha256={digest},1\n")


@pytest.mark.parametrize("hostile", [short_row, no_text, long_field, odd_hash, no_packages, conda_fifo, conda_nonsense,
                                     conda_list, conda_leads_out, names_a_file_outside])
def test_whatever_is_wrong_in_a_containers_environment_is_its_damage_alone(in_container, machine, outside, hostile):
    first = in_container("milk")
    built = python_env.cached(agent_env.work(first)["base"])
    machine.task("milk")
    hostile(built["directory"], outside)
    assert installed.whole(built["directory"]) is (hostile is conda_leads_out)  # which says no size
    found = {entry["path"]: damage for entry, damage in env_cache.verify()}
    assert len(found) == 2 and len(found.pop(built["directory"])) == 1 and list(found.values()) == [[]]


def test_an_environment_whose_container_is_gone_is_evicted_and_what_was_never_built_is_swept(in_container):
    first = in_container("milk")
    built = python_env.cached(agent_env.work(first)["base"])
    left = os.path.join(first.manifest["place"]["environments"], "3.11-left.1")
    write(os.path.join(left, "x"), "")
    apart.sweep(env_cache.home(), 3600)
    assert os.path.exists(left)
    os.utime(left, (1, 1))
    empty = apart.make()
    os.utime(empty, (1, 1))
    apart.sweep(env_cache.home(), 3600)
    assert not os.path.exists(left) and not os.path.exists(empty) and os.path.exists(built["directory"])
    attempt.decide(first.directory, "completed")
    env_cache.evict(env_cache.Limits(entries=0))
    assert not os.path.exists(built["directory"]) and not os.path.exists(built["about"])


def test_whatever_a_container_leaves_where_it_builds_is_swept(directory, outside):
    own = apart.make()
    os.symlink(outside, os.path.join(own, "link"))
    write(os.path.join(own, "file"), "")
    here = os.open(own, os.O_PATH)
    for _ in range(1200):  # deeper than Python calls itself
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    for name in os.listdir(own):
        os.utime(os.path.join(own, name), (1, 1), follow_symlinks=False)
    before = os.stat(outside)
    apart.sweep(paths.cache("envs"), 3600.0)
    assert os.listdir(own) == [] and os.stat(outside).st_mtime == before.st_mtime


def test_the_images_packages_are_seen_while_a_container_builds(in_container, machine):
    wheelhouse.wheel(machine.index, "extra", "1.0", requires=["pip"])
    first = in_container("extra")
    env = agent_env.work(first)
    built = python_env.cached(env["base"])
    assert not [name for name in os.listdir(os.path.join(built["directory"], built["site"]))
                if os.path.exists(os.path.join(built["directory"], built["site"], name, installed.STUB))]
    assert not os.path.exists(first.path("stubs"))


@pytest.mark.bubblewrap
def test_a_hostile_script_in_its_container_changes_nothing_that_we_believe(directory, outside):
    """The mounts of a container by bubblewrap; its root is this user."""
    for name in ("code", "env", "box"):
        os.mkdir(os.path.join(directory, name))
    line = json.dumps({"manifest": 1, "task": {"id": "t1"}, "place": {"kind": "own", "prefix": []}}).encode()
    attempt.store_manifest(directory, line)
    own = [word for name in ("code", "env", "box") for word in ("--bind", *[os.path.join(directory, name)] * 2)]
    prefix = ["bwrap", "--dev-bind", "/", "/", "--ro-bind", directory, directory, *own, "--"]
    text = """cd "$1" || exit 9
    for name in manifest.json claim place.json outcome spec; do echo hostile >$name && exit 8; done
    mv manifest.json box/ && exit 7; rmdir box && exit 6; mv code box/ && exit 5
    ln -sf "$2" box/log; exit 3"""
    where = place.Place({"kind": "own", "prefix": prefix}, directory)
    found = script.start(directory, ["sh", "-c", text, "sh", directory, str(outside)], "/", os.environ, where)
    assert found.wait(10) and found.status == 3
    assert attempt.read_manifest(directory)["place"]["prefix"] == []
    assert finish._last_lines(directory) == ""


def test_a_box_that_goes_meanwhile_stops_no_sweep(directory):
    os.symlink("gone", os.path.join(apart.home(), "box.1"))  # its name can be seen, and nothing is there any more
    old = [apart.make() for _ in range(3)]
    for number, age in enumerate((0, 7200, -7200)):  # a container sets times as it likes
        os.mkdir(os.path.join(old[number], "key.1"))
        os.utime(os.path.join(old[number], "key.1"), (time.time() - age,) * 2)
    apart.sweep(paths.cache("envs"), 3600.0)
    assert [os.listdir(each) for each in old] == [["key.1"], [], []]


def test_the_downloads_of_containers_are_in_our_own_cache(made, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", "/proc/cache")  # beside it nobody can make a folder
    own = apart.make()
    found = create._mounts(made, own, create._make_room(made, True))
    assert paths.cache("uv-containers") in {each["Target"] for each in found}
