"""The cache of environments: what goes, what stays, what is damaged."""

import base64
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
import wheelhouse
from env_machine import python

from agentpipe import errors, untrusted
from agentpipe.claim import attempt
from agentpipe.environment import env_cache, env_cache_view, installed, python_env
from agentpipe.environment.env_cache import Limits
from agentpipe.environment.installers import ways
from agentpipe.pull import room


def ended(machine, pip):
    """A task that had this environment and is over; the key."""
    job = machine.job(pip)
    from agentpipe.cmds import agent_env
    key = agent_env.work(job)["base"]
    os.symlink("completed", job.path("outcome"))
    return key


def used(machine, key, when):
    """Let it have been used last at `when` (seconds since 1970)."""
    users = os.path.join(machine.base({"base": key}), "users")
    for name in os.listdir(users):
        os.utime(os.path.join(users, name), (when, when), follow_symlinks=False)


def keys(entries):
    return [entry["key"] for entry in entries]


@pytest.fixture
def three(machine):
    """Three environments that nobody uses, the last one used last."""
    found = [ended(machine, pip) for pip in ("tea==1.0", "tea==2.0", "milk")]
    for number, key in enumerate(found):
        used(machine, key, 1_000_000_000 + number)
    return found


def test_the_list_tells_what_each_holds_and_who_uses_it(machine):
    env = machine.task("milk")
    entry, = env_cache.entries()
    assert (entry["key"], entry["packages"]) == (env["base"], ["milk==1.0", "tea==1.0"])
    assert entry["size"] > 1_000_000  # pip
    assert len(entry["tasks"]) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"key": []}', "[" * 100_000 + "]" * 100_000, None])
def test_a_record_that_somebody_has_spoilt_is_damage(machine, three, text, capfd):
    base = machine.base({"base": three[1]})
    os.unlink(os.path.join(base, "agentpipe.json"))
    if text is not None:
        with open(os.path.join(base, "agentpipe.json"), "w") as file:
            file.write(text)
    assert sorted(keys(env_cache.entries())) == sorted(three)
    assert env_cache_view.verify() == errors.BAD_DATA
    assert f"{three[1]}: 1 files are not as installed (agentpipe.json); taken out" in capfd.readouterr().err
    assert not os.path.exists(base) and keys(env_cache.entries()) == [three[2], three[0]]
    assert not machine.task("tea==2.0")["cached"]


@pytest.mark.parametrize("text", ["{", "[]", '{"key": []}'])
def test_no_task_gets_what_has_a_spoilt_record(machine, three, text):
    with open(os.path.join(machine.base({"base": three[1]}), "agentpipe.json"), "w") as file:
        file.write(text)
    assert not machine.task("tea==2.0")["cached"]


def test_too_many_the_longest_unused_goes_first(machine, three):
    assert keys(env_cache.evict(Limits(entries=2, age_days=1e6))) == [three[0]]
    assert keys(env_cache.entries()) == [three[2], three[1]]
    assert not [name for name in machine.envs() if name.startswith(three[0])]  # its lock's file neither


def test_too_large_all_but_what_fits_goes(machine, three):
    each = env_cache.entries()[0]["size"] / (1 << 30)
    assert keys(env_cache.evict(Limits(size_gb=each * 1.5, age_days=1e6))) == three[:2]


def test_too_old(machine, three):
    used(machine, three[1], 4_000_000_000)
    assert sorted(keys(env_cache.evict(Limits(age_days=30)))) == sorted([three[0], three[2]])


def test_a_full_disk_takes_what_it_needs_before_a_build(machine, three, monkeypatch):
    free = iter([1 << 30, 3 << 30, 3 << 30])
    monkeypatch.setattr(env_cache, "_free", lambda folder: next(free))
    assert keys(env_cache.evict(Limits(entries=1, free_gb=2), room=True)) == [three[0]]


@pytest.mark.parametrize("leave", [lambda job: attempt.forbid_start(job.directory, attempt.GIVEN_BACK),
                                   lambda job: attempt.leave_to_others(job.directory)])
def test_a_task_that_was_given_back_or_is_no_longer_ours_uses_it_no_longer(machine, leave):
    job = machine.job("milk")
    from agentpipe.cmds import agent_env
    key = agent_env.work(job)["base"]
    assert env_cache.evict(Limits(entries=0)) == []
    leave(job)
    assert keys(env_cache.evict(Limits(entries=0))) == [key]


@pytest.mark.parametrize("name", ["abc.1", "abc.1@0123456789ab@0123456789ab"])
def test_what_a_task_of_another_machine_uses_stays_until_nobody_can_use_it_any_more(machine, monkeypatch, name):
    key = ended(machine, "milk")
    link = os.path.join(machine.base({"base": key}), "users", name)
    os.symlink("/elsewhere/tasks/abc.1", link)
    assert env_cache.evict(Limits(entries=0)) == []
    assert env_cache.entries()[0]["tasks"] == ["abc.1"]
    monkeypatch.setenv("AGENT_KEEP_DAYS", "2")
    os.utime(link, (time.time() - 3 * 86400,) * 2, follow_symlinks=False)
    assert keys(env_cache.evict(Limits(entries=0))) == [key]


@pytest.mark.parametrize("end", [lambda directory: attempt.decide(directory, "completed"),
                                 lambda directory: attempt.forbid_start(directory, attempt.GIVEN_BACK),
                                 attempt.leave_to_others])
def test_the_end_of_a_task_is_known_where_its_directory_cannot_be_seen(machine, monkeypatch, end):
    job = machine.job("milk")
    from agentpipe.cmds import agent_env
    key = agent_env.work(job)["base"]
    monkeypatch.setattr(env_cache, "_is_seen", lambda name, task: False)  # as on any other node
    assert env_cache.evict(Limits(entries=0)) == []
    end(job.directory)
    assert env_cache.entries()[0]["tasks"] == []
    assert keys(env_cache.evict(Limits(entries=0))) == [key]


def test_what_a_task_says_that_it_holds_is_not_believed(machine, tmp_path):
    job = machine.job("milk")
    (tmp_path / "mine").write_text("x")
    os.symlink(tmp_path / "mine", job.path("holds"))
    attempt.decide(job.directory, "completed")
    assert (tmp_path / "mine").exists()


def test_a_task_of_another_machine_is_not_judged_by_one_of_that_path_here(machine):
    job = machine.job("milk")
    from agentpipe.cmds import agent_env
    key = agent_env.work(job)["base"]
    os.symlink("completed", job.path("outcome"))
    users = os.path.join(machine.base({"base": key}), "users")
    own, = os.listdir(users)
    os.rename(os.path.join(users, own), os.path.join(users, own.split("@")[0] + "@0123456789ab@0123456789ab"))
    assert env_cache.evict(Limits(entries=0)) == []


def test_two_homes_on_one_machine_know_of_each_others_tasks(machine, monkeypatch):
    ended(machine, "milk")
    theirs = os.path.join(machine.folder, "home2", "state", "tasks", "abc.1")
    os.makedirs(theirs)
    users = os.path.join(machine.base({"base": env_cache.entries()[0]["key"]}), "users")
    os.symlink(theirs, os.path.join(users, env_cache.user(theirs)))
    assert env_cache.evict(Limits(entries=0)) == []
    shutil.rmtree(theirs)
    assert len(env_cache.evict(Limits(entries=0))) == 1


def test_what_a_task_uses_stays_whatever_the_limits(machine, three):
    env = machine.task("tea==1.0")
    assert sorted(keys(env_cache.evict(Limits(entries=0)))) == sorted(three[1:])
    assert python(env, "import tea; print(tea.version)") == "1.0"


def test_a_task_that_comes_while_it_goes_keeps_it(machine, three, monkeypatch):
    real, came = env_cache.tasks, []

    def tasks(directory):
        if len(came) < 4:  # three are looked at, then the first one again with its links gone
            came.append(directory)
            return real(directory) if len(came) < 4 else ["another.1"]
        return real(directory)

    monkeypatch.setattr(env_cache, "tasks", tasks)
    assert keys(env_cache.evict(Limits(entries=2, age_days=1e6))) == [three[1]]
    assert three[0] in keys(env_cache.entries())


def test_a_build_makes_room_for_itself(machine, three, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__VENVS_CACHE__MAX_ENTRIES", "2")
    monkeypatch.setenv("AGENT_ENVS_MAX_DAYS", "100000")
    env = machine.task()
    assert keys(env_cache.entries())[0] == env["base"]
    assert len(env_cache.entries()) == 2
    assert "removed an environment" in "".join(machine.said)


@pytest.mark.parametrize(("variable", "setting"), [
    ("CLEARML_AGENT_VENV_CACHE_PATH", "CLEARML_AGENT_VENV_CACHE_PATH"),
    ("CLEARML_AGENT__AGENT__VENVS_CACHE__PATH", "agent.venvs_cache.path"),
])
def test_it_may_stand_elsewhere(machine, monkeypatch, variable, setting):
    monkeypatch.setenv(variable, f"{machine.folder}/elsewhere")
    env = machine.task("tea")
    assert os.path.islink(os.path.join(machine.folder, "elsewhere", env["base"]))
    assert machine.task("tea")["cached"] and machine.builds() == []
    assert python(env, "import tea; print(tea.version)") == "2.0"
    monkeypatch.setenv(variable, "/dev/null/elsewhere")
    with pytest.raises(errors.Failure, match="cannot write in /dev/null/elsewhere") as caught:
        machine.task("tea")
    assert caught.value.remedy == f"move away what stands there, or set {setting}"


def test_switched_off_nothing_is_found_again_and_nothing_stays(machine, monkeypatch):
    with open(os.path.join(machine.folder, "clearml.conf"), "w") as file:
        file.write('agent.venvs_cache.path: ""\n')
    first, second = ended(machine, "tea"), ended(machine, "tea")
    assert first != second
    assert not machine.task("tea")["cached"]
    assert len(env_cache.entries()) == 1


def test_whoever_does_not_want_to_wait_builds_his_own(machine, monkeypatch):
    import filelock
    machine.task("tea", options={"dry_run": True})
    said = "".join(machine.said).splitlines()
    name = next(line.split()[2].rstrip(":") for line in said if line.startswith("base environment"))
    os.makedirs(env_cache.home())
    monkeypatch.setenv("CLEARML_AGENT__AGENT__VENVS_CACHE__LOCK_TIMEOUT", "0.2")
    with filelock.FileLock(os.path.join(env_cache.home(), name + ".lock")):
        found = []
        thread = threading.Thread(target=lambda: found.append(machine.task("tea")))
        thread.start()
        thread.join()
    assert python(found[0], "import tea; print(tea.version)") == "2.0"
    assert "builds one of its own" in "".join(machine.said)


@pytest.fixture
def makeshift(monkeypatch):
    """makeshift(meanwhile): what is built is for its task alone, and `meanwhile()` happens once it is published."""
    install, publish = ways.install, python_env._publish

    def installed_somehow(job, folder, wanted, policy, *rest):
        policy.makeshift = True  # as when a part of it could not be reached
        return install(job, folder, wanted, policy, *rest)

    def start(meanwhile):
        monkeypatch.setattr(ways, "install", installed_somehow)
        monkeypatch.setattr(python_env, "_publish", lambda *words: (publish(*words), meanwhile()))
    return start


def test_a_makeshift_stays_for_the_task_that_has_built_it(machine, makeshift):
    makeshift(lambda: env_cache.evict(env_cache.limits()))
    env = machine.task("tea")
    assert "for this task alone" in "".join(machine.said)
    assert python(env, "import tea; print(tea.version)") == "2.0"


def test_what_a_person_removes_as_soon_as_it_is_built_is_said(machine, makeshift):
    makeshift(lambda: shutil.rmtree(env_cache.home()))
    with pytest.raises(errors.Failure, match="was removed as soon as it was built") as caught:
        machine.task("tea")
    assert caught.value.exit == errors.TRY_AGAIN


def test_what_others_remove_meanwhile_is_passed_over(machine, three, monkeypatch):
    folder, real = env_cache.home(), installed.damage

    def removed(envs, entry):
        shutil.rmtree(os.path.join(envs, entry), ignore_errors=True)
        return False

    monkeypatch.setattr(installed, "damage", lambda path: shutil.rmtree(path) or real(path))
    assert env_cache.verify() == []
    monkeypatch.setattr(env_cache, "_is_published", removed)
    os.mkdir(os.path.join(folder, "left.1"))
    assert env_cache.sweep(folder, 0) == 0


def test_a_dry_run_tells_what_would_go_and_leaves_it(machine, three, monkeypatch, capfd):
    monkeypatch.setenv("AGENT_ENVS_MAX_DAYS", "5000")
    used(machine, three[1], time.time())
    used(machine, three[2], time.time())
    assert env_cache_view.prune({"dry_run": True}) == 0  # the oldest is of 2001
    assert env_cache_view.prune({"dry_run": True, "keep": 1}) == 0
    said = capfd.readouterr().err
    assert said.count(f"would remove {three[0]}") == 2 and f"would remove {three[1]}" in said
    assert "1 environment would be removed" in said and "; 1 would be left" in said
    assert len(env_cache.entries()) == 3
    env_cache_view.prune({})
    assert f"removed {three[0]}" in capfd.readouterr().err


def test_a_dry_run_sees_when_there_is_room_again(machine, three, monkeypatch):
    monkeypatch.setattr(env_cache, "_free", lambda folder: 0)
    each = env_cache.entries()[0]["size"] / (1 << 30)
    assert keys(env_cache.evict(Limits(free_gb=each * 1.5, age_days=1e6), dry=True)) == three[:2]


def test_what_was_left_and_cannot_be_locked_fails_no_task(machine):
    machine.task("tea")
    left = os.path.join(env_cache.home(), "left.1")
    os.mkdir(left)
    os.utime(left, (1, 1))
    os.mkdir(os.path.join(env_cache.home(), "left.lock"))  # as a full disk, on which no file can be made
    assert machine.task("milk")["packages"] == ["milk==1.0", "tea==1.0"]
    os.rmdir(os.path.join(env_cache.home(), "left.lock"))
    assert env_cache.sweep(env_cache.home(), env_cache.LEFT_BEHIND) == 1
    assert not [name for name in machine.envs() if name.startswith("left")]


def test_the_limits_are_those_of_the_configuration(machine, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__VENVS_CACHE__FREE_SPACE_THRESHOLD_GB", "7.5")
    monkeypatch.setenv("CLEARML_AGENT__AGENT__VENVS_CACHE__MAX_ENTRIES", "3")
    found = env_cache.limits()
    assert (found.free_gb, found.entries, found.age_days) == (7.5, 3, env_cache.MAX_AGE_DAYS)


def test_a_limit_that_is_no_number_is_refused(machine, monkeypatch):
    monkeypatch.setenv("AGENT_ENVS_MAX_GB", "lots")
    with pytest.raises(errors.Failure) as caught:
        env_cache.limits()
    assert (caught.value.exit, "AGENT_ENVS_MAX_GB" in caught.value.reason) == (errors.BAD_CONFIG, True)


def test_damage_is_found_by_the_hashes_and_mended_by_the_next_task(machine):
    key = ended(machine, "milk")
    (entry, files), = env_cache.verify()
    assert files == []
    path = os.path.join(entry["path"], "lib", os.listdir(os.path.join(entry["path"], "lib"))[0], "site-packages",
                        "milk", "__init__.py")
    with open(path, "a") as file:
        file.write("# evil\n")
    (entry, files), = env_cache.verify()
    assert [os.path.basename(os.path.dirname(file)) for file in files] == ["milk"]
    env = machine.task("milk")
    assert (env["base"], env["cached"]) == (key, False)
    assert env_cache.verify()[0][1] == []


def test_what_is_damaged_while_a_task_uses_it_is_given_to_no_other(machine, capfd):
    env = machine.task("milk")
    base = machine.base(env)
    with open(glob.glob(os.path.join(base, "lib/*/site-packages/milk/__init__.py"))[0], "a") as file:
        file.write("# evil\n")
    assert env_cache_view.verify() == errors.BAD_DATA
    assert "; taken out of the cache; " in (said := capfd.readouterr().err) and "still has it" in said
    assert os.path.isdir(base)
    assert not machine.task("milk")["cached"]
    assert env_cache_view.verify() == 0


def test_damage_is_found_in_data_files_too(machine):
    wheelhouse.wheel(machine.index, "salt", "1.0", files={"salt-1.0.data/data/share/salt/table": "1 2"},
                     scripts=["salt"])
    ended(machine, "salt")
    (entry, files), = env_cache.verify()
    assert files == [] and installed.whole(entry["path"])
    path = os.path.join(entry["path"], "share", "salt", "table")
    os.truncate(path, 1)
    assert not installed.whole(entry["path"])
    assert env_cache.verify()[0][1] == ["share/salt/table"]


def test_byte_code_that_a_full_disk_has_cut_short_is_removed(machine, capfd):
    env = machine.task("milk")
    base = machine.base(env)
    site = installed.site_packages(base)
    python(env, "import milk")
    path, = glob.glob(f"{site}/milk/__pycache__/*.pyc")
    os.truncate(path, os.path.getsize(path) - 5)
    with open(f"{site}/milk/__pycache__/other.cpython-20.pyc", "wb") as file:
        file.write(b"\1\2\r\n of another Python")
    with open(f"{site}/alone.pyc", "wb") as file:  # of a package without sources: all that there is of it
        file.write(b"cut")
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([env["python"], "-c", "import milk"], check=True, stderr=subprocess.PIPE)
    assert env_cache_view.verify() == 0
    assert f"{os.path.relpath(path, base)}); removed" in capfd.readouterr().err
    assert python(env, "import milk; print(milk.version)") == "1.0"
    assert os.path.exists(f"{site}/milk/__pycache__/other.cpython-20.pyc") and os.path.exists(f"{site}/alone.pyc")


def test_a_library_of_any_size_is_hashed_and_no_damage(machine):
    ended(machine, "milk")
    (entry, _), = env_cache.verify()
    site, digest = installed.site_packages(entry["path"]), hashlib.sha256()
    with open(os.path.join(site, "milk", "cuda.so"), "wb") as file:
        file.truncate(untrusted.LARGE + (1 << 20))
    for _ in range(257):
        digest.update(bytes(1 << 20))
    recorded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
    with open(os.path.join(site, "milk-1.0.dist-info", "RECORD"), "a") as file:
        file.write(f"milk/cuda.so,sha256={recorded},{257 << 20}\n")
    assert [damage for _, damage in env_cache.verify()] == [[]]
    with open(os.path.join(site, "milk", "cuda.so"), "r+b") as file:
        file.write(b"x")
    assert [damage for _, damage in env_cache.verify()] == [[os.path.relpath(file.name, entry["path"])]]


def test_ten_tasks_with_the_same_new_environment_build_it_once(machine):
    code = f"""
import sys
sys.path[:0] = [{os.path.dirname(__file__)!r}]
import env_machine
sys.stdin.readline()
print(env_machine.Machine({machine.folder!r}).task("milk")["base"])
"""
    ten = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
           for _ in range(10)]
    for process in ten:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0].strip() for process in ten]
    assert all(process.returncode == 0 for process in ten)
    assert len(set(answers)) == 1
    assert len(machine.builds()) == 1


def test_before_a_task_is_left_for_want_of_room_unused_environments_go(machine, monkeypatch):
    ended(machine, "tea==1.0")
    machine.task("tea==2.0")
    [size] = [entry["size"] for entry in env_cache.entries() if not entry["tasks"]]
    # a disk on which nothing else changes
    whole = len(machine.builds())
    monkeypatch.setattr(env_cache, "_free", lambda folder: 1000 + (whole - len(machine.builds())) * size)
    monkeypatch.setattr(room, "_least", lambda: (env_cache.home(), int(env_cache._free(""))))
    said = []
    found = room.Room(1000 + size + 1, "--need-disk", said.append)
    assert not found.enough() and not found.enough()
    assert len(machine.builds()) == 2 and len(said) == 1 and said[0].startswith("no task is taken")
    assert room.Room(1000 + size, "--need-disk", said.append).enough()
    assert len(machine.builds()) == 1 and said[1].startswith("removed an environment")


def test_an_environment_that_another_pull_removes_at_the_same_time_is_no_matter(machine, monkeypatch):
    ended(machine, "tea==1.0")
    [size] = [entry["size"] for entry in env_cache.entries()]
    monkeypatch.setattr(env_cache, "_free", lambda folder: 1000 + (1 - len(machine.builds())) * size)
    monkeypatch.setattr(room, "_least", lambda: (env_cache.home(), int(env_cache._free(""))))
    evict = env_cache.evict

    def both(wanted, room=False, dry=False):
        seen = evict(wanted, room, dry)
        evict(wanted, room)  # the other
        return seen
    monkeypatch.setattr(env_cache, "evict", both)
    assert room.Room(1000 + size, "--need-disk", print).enough()
    assert machine.builds() == []
