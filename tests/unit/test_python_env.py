"""Base environments: built once, by one of many, and never seen half done."""

import json
import os
import select
import shutil
import subprocess
import sys
import time

import pytest
import wheelhouse
from env_machine import python, run

from agentpipe import errors
from agentpipe.cmds import agent_env
from agentpipe.environment import discovery, env_cache, installed, interpreters, python_env, requirements
from agentpipe.environment.installers import policy, uv

STAGE = """
import sys
sys.path[:0] = [{here!r}]
import env_machine
made = env_machine.Machine({folder!r})
env = made.task({pip!r})
print(env["base"], env["cached"])
"""


def another_process(machine, pip, **environment):
    """A stage in a process of its own."""
    code = STAGE.format(here=os.path.dirname(__file__), folder=machine.folder, pip=pip)
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **environment}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def key_of(machine, *lists, **rest):
    job = machine.job("\n".join(lists), **rest)
    found = interpreters.find(job)
    asked = requirements.of_task(job)
    return python_env.key(job, found, asked, policy.of(job, asked))


def test_a_task_gets_what_it_asks_for(machine):
    env = machine.task("milk")
    assert python(env, "import milk, tea; print(milk.version, tea.version)") == "1.0 1.0"
    assert (env["packages"], env["installer"], env["cached"]) == (["milk==1.0", "tea==1.0"], "uv", False)
    assert env["version"] == python(env, "import platform; print(platform.python_version())")


def test_the_second_task_finds_it_in_the_cache_and_starts_no_program(machine, monkeypatch):
    first = machine.task("milk\n\n# sugar\n")
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(os, "posix_spawn", None)
    monkeypatch.setattr(os, "fork", None)
    second = machine.task("Milk")
    assert (second["base"], second["cached"], len(machine.builds())) == (first["base"], True, 1)
    assert second["packages"] == first["packages"]


def test_a_warm_run_imports_no_installer(machine):
    machine.task("milk")
    code = STAGE.format(here=os.path.dirname(__file__), folder=machine.folder, pip="milk").replace(
        "import env_machine", "import env_machine; before = set(sys.modules)")
    code += "print(*sorted(set(sys.modules) - before & {'virtualenv', 'filelock', 'sh', 'packaging', 'uv'}))\n"
    code += "print('|', *(name for name in ('virtualenv', 'filelock', 'sh', 'packaging') if name in sys.modules))\n"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "|"


def test_a_warm_run_starts_no_program(machine):
    machine.task("milk")
    started = []
    programs = ("os.fork", "os.posix_spawn", "subprocess.Popen")
    sys.addaudithook(lambda event, _: started.append(event) if event in programs else None)
    assert machine.task("milk")["packages"]
    assert started == []
    subprocess.run(["true"], check=True)
    assert started, "the hook would have seen one"


def test_no_requirements_still_give_an_environment_of_its_own(machine):
    env = machine.task()
    assert env["packages"] == []
    assert python(env, "import sys; print(sys.prefix)") == env["overlay"]
    assert "pip" in run(env, env["python"], "-m", "pip", "--version")


@pytest.mark.parametrize("binary", ["bash", "/bin/sh", "/bin/bash -e"])
def test_a_shell_task_without_requirements_gets_nothing(machine, binary):
    env = machine.task(binary=binary)
    assert (env["python"], env["installer"], env["path"], machine.envs()) == (None, "none", [], [])


def test_a_shell_task_with_requirements_gets_them_on_path(machine):
    env = machine.task("tea==1.0", binary="bash")
    assert run(env, "bash", "-c", "tea") == "tea 1.0"


def test_the_interpreter_is_part_of_the_key(machine, monkeypatch):
    before = key_of(machine, "tea")
    found = interpreters.find(machine.job("tea"))
    monkeypatch.setattr(interpreters, "find", lambda job: {**found, "version": "3.99.0"})
    assert key_of(machine, "tea") != before


@pytest.mark.parametrize(("name", "value"), [
    ("PIP_INDEX_URL", "https://user:secret@example.org/simple"), ("PIP_EXTRA_INDEX_URL", "https://example.org/simple"),
    ("UV_INDEX", "https://example.org/simple"), ("UV_EXCLUDE_NEWER", "2024-01-01"),
    ("UV_INDEX_STRATEGY", "first-index"),
    ("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__EXTRA_INDEX_URL", "https://example.org/simple"),
])
def test_the_index_is_part_of_the_key_and_its_password_stands_nowhere(machine, monkeypatch, name, value):
    before = key_of(machine, "tea")
    monkeypatch.setenv(name, value)
    after = key_of(machine, "tea")
    assert after != before
    assert "secret" not in after


def test_a_constraint_file_counts_by_its_content(machine, monkeypatch, tmp_path):
    limits = tmp_path / "limits.txt"
    limits.write_text("tea<2")
    monkeypatch.setenv("PIP_CONSTRAINT", str(limits))
    assert machine.task("tea")["packages"] == ["tea==1.0"]
    limits.write_text("tea>=2")
    assert machine.task("tea")["packages"] == ["tea==2.0"]


def test_wheels_in_a_repository_count_by_their_content(machine):
    said = []
    for whose in ("mine", "theirs"):
        job = machine.job("--no-index\n-f wheels\nown==1.0")
        folder = os.path.join(job.manifest["fetch"]["code"], "wheels")
        wheelhouse.wheel(folder, "own", "1.0", files={"own/who.py": f"who = {whose!r}\n"})
        said.append(python(agent_env.work(job), "import own.who; print(own.who.who)"))
    assert said == ["mine", "theirs"]
    # and neither is published under what is recorded of it
    assert len([entry for entry in env_cache.entries() if len(entry["keys"]) == 1]) == 2


def test_a_folder_of_packages_may_have_any_name(machine, monkeypatch):
    odd = os.path.join(machine.folder, "é, odd")
    os.rename(machine.index, odd)
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    monkeypatch.setenv("AGENT_WHEELHOUSE", odd)
    assert machine.task("milk")["packages"] == ["milk==1.0", "tea==1.0"]


def test_pip_conf_names_the_mirror(machine, monkeypatch, tmp_path):
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.delenv("PIP_NO_INDEX")
    configuration = tmp_path / "pip.conf"
    configuration.write_text(f"[global]\nno-index = true\nfind-links =\n    {machine.index}\n    /nowhere\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    assert machine.task("tea")["packages"] == ["tea==2.0"]


def test_pip_gets_an_index_of_its_flags_by_the_list_alone(machine, monkeypatch):
    monkeypatch.setenv("CLEARML_EXTRA_PIP_INSTALL_FLAGS",
                       "--extra-index-url http://u:s3cret@127.0.0.1:9/simple --no-index --retries 0 --ignore-installed")
    job = machine.job("tea==1.0")
    argvs, real = [], job.run
    job.run = lambda argv, **rest: (argvs.append(argv), real(argv, **rest))[1]
    assert agent_env.work(job)["packages"] == ["tea==1.0"]
    own, = [argv for argv in argvs if "--ignore-installed" in argv]
    assert own[own.index("--retries") + 1] == "0" and "s3cret" not in str(argvs)
    with open(job.path("requirements.txt")) as file:
        assert "--extra-index-url http://u:s3cret@127.0.0.1:9/simple" in file.read()


@pytest.mark.parametrize("flags", ["--proxy {}", "--proxy={}", "--proxy {} --ignore-installed"])
def test_a_proxys_password_is_in_no_argv_and_all_installers_use_it(machine, monkeypatch, flags):
    import package_index
    server, address = package_index.serve(machine.index)  # asked for a whole URL, it answers as a proxy does
    monkeypatch.setenv("CLEARML_EXTRA_PIP_INSTALL_FLAGS", flags.format(f"http://u:s3cret@{address}"))
    job = machine.job("tea @ http://198.51.100.1/tea-1.0-py3-none-any.whl")
    argvs, real = [], job.run
    job.run = lambda argv, **rest: (argvs.append(argv), real(argv, **rest))[1]
    try:
        assert python(agent_env.work(job), "import tea; print(tea.version)") == "1.0"
    finally:
        server.shutdown()
    assert argvs and "s3cret" not in str(argvs) + "".join(machine.said)


def test_an_extra_that_a_package_does_not_have_is_said(machine):
    wheelhouse.wheel(machine.index, "pot", "1.0", ["sugar; extra == 'very-sweet'"], extras=["very-sweet"])
    wheelhouse.wheel(machine.index, "sugar", "1.0")
    env = machine.task("pot [Very_Sweet, nosuch]\ntea[hot]<2\nmilk[cold] ; python_version < '3'")
    assert env["packages"] == ["pot==1.0", "sugar==1.0", "tea==1.0"]
    assert [line for line in machine.said if "no extra" in line] == [
        "pot has no extra nosuch; it has very-sweet\n", "tea has no extra hot\n"]


def test_what_pip_cannot_install_has_a_cause_and_a_remedy_too(machine, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE", "pip")
    with pytest.raises(errors.Failure, match=r"^no such version: tea==1\.5; the nearest one there is") as caught:
        machine.task("tea==1.5")
    assert (caught.value.exit, caught.value.change) == (errors.NOT_FOUND, ("--package", "tea==1.0"))
    assert "No matching distribution found for tea==1.5" in caught.value.evidence


def test_a_password_among_flags_that_only_pip_has_goes_by_a_variable(machine, monkeypatch):
    monkeypatch.setenv("CLEARML_EXTRA_PIP_INSTALL_FLAGS", "--ignore-installed --keyring-provider http://u:s3cret@h/x")
    job = machine.job("tea")
    asked = requirements.of_task(job)
    found = policy.of(job, asked)
    assert (found.tool, found.pip_flags) == ("pip", ["--ignore-installed"]) and "s3cret" not in found.why
    assert asked.variables == {"PIP_KEYRING_PROVIDER": "http://u:s3cret@h/x"}


@pytest.mark.parametrize("name", ["CFLAGS", "CMAKE_ARGS", "TORCH_CUDA_ARCH_LIST", "HOROVOD_WITH_X"])
def test_what_decides_a_build_from_source_is_part_of_the_key(machine, monkeypatch, name):
    before = key_of(machine, "tea")
    monkeypatch.setenv(name, "1")
    assert key_of(machine, "tea") != before


def test_a_folder_of_the_checkout_is_recorded_by_its_path_there(machine):
    files = {"wheels/README": ""}
    env = machine.task("-f ./wheels\ntea", files=files)
    assert env["options"] == ["--find-links ./wheels"]
    again = machine.task("\n".join([*env["options"], *env["packages"]]), files=files)  # as it is recorded
    assert again["packages"] == env["packages"]


def test_pip_adds_nothing_to_a_receipt(machine, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE", "pip")
    assert machine.task(pins={"packages": ["milk==1.0"]})["packages"] == ["milk==1.0"]


@pytest.mark.parametrize(("where", "text"), [
    ("list", "--pre\n"), ("PIP_PRE", "1"), ("pip.conf", "[install]\npre = yes\n")])
def test_pre_brings_what_is_no_release_yet(machine, monkeypatch, tmp_path, where, text):
    wheelhouse.wheel(machine.index, "tea", "3.0b1")
    if where == "pip.conf":
        (tmp_path / "pip.conf").write_text(text)
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    elif where != "list":
        monkeypatch.setenv(where, text)
    head = text if where == "list" else ""
    job = machine.job(f"{head}tea", options={"dry_run": True})
    agent_env.work(job)
    assert "would install tea==3.0b1" in "".join(machine.said)
    assert machine.task(f"{head}tea")["packages"] == ["tea==3.0b1"]


def test_no_password_of_an_index_is_in_an_argv_or_the_log(machine, monkeypatch):
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    job = machine.job("nosuchtea")
    argvs = []
    monkeypatch.setattr(job, "run", lambda argv, _run=job.run, **rest: (argvs.append(argv), _run(argv, **rest))[1])
    from agentpipe.cmds import agent_env
    with pytest.raises(errors.Failure) as caught:
        agent_env.work(job)
    with open(job.path("setup.log")) as log:
        everything = json.dumps(argvs) + log.read() + caught.value.reason + caught.value.evidence
    assert argvs and "secret" not in everything
    assert os.stat(job.path("requirements.txt")).st_mode & 0o077 == 0


def test_a_branch_of_a_repository_is_built_anew_when_it_moves(machine):
    repository = wheelhouse.project(os.path.join(machine.folder, "drift"), "drift", "1.0")

    def commit():
        for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "a state"]):
            subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words], cwd=repository,
                           check=True)
        return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=repository, text=True).strip()

    line = f"drift @ git+file://{repository}@main"
    first = commit()
    assert machine.task(line)["packages"] == [f"drift @ git+file://{repository}@{first}"]
    assert machine.task(line)["cached"]
    wheelhouse.project(repository, "drift", "2.0")
    second = commit()
    env = machine.task(line)
    assert env["packages"] == [f"drift @ git+file://{repository}@{second}"]
    os.rename(repository, repository + ".away")
    again = machine.task(line)  # its server does not answer: what was last seen
    assert (again["cached"], again["base"]) == (True, env["base"])
    assert "cannot ask" in "".join(machine.said)


def test_a_password_that_agent_pull_put_away_reaches_the_installer_alone(machine, monkeypatch):
    from agentpipe import secrets
    from agentpipe.cmds import agent_env
    monkeypatch.delenv("PIP_NO_INDEX")
    job = machine.job()
    task = {"script": {"requirements": {"pip": "--extra-index-url http://u:secret@127.0.0.1:9/simple\n"
                                               f"--no-index\n--find-links {machine.index}\ntea"}}}
    job.manifest["task"] = secrets.put_away(task, job.directory)
    env = agent_env.work(job)
    assert "secret" not in json.dumps([job.manifest, env])
    assert env["options"][0] == "--extra-index-url http://127.0.0.1:9/simple"
    with open(job.path("requirements.txt")) as listed:
        assert "u:secret@" in listed.read()


def test_two_tasks_at_once_build_it_once(machine):
    wheelhouse.source(machine.index, "slow", "1.0", hook=_announce_and_wait(machine))
    first = another_process(machine, "slow")
    _announced(machine, first)
    second = another_process(machine, "slow")
    while not any(_waits_for_lock(machine, second)):
        assert second.poll() is None
        time.sleep(0.02)
    _let_go(machine)
    answers = [process.communicate()[0].split() for process in (first, second)]
    assert answers[0][0] == answers[1][0]
    assert [answer[1] for answer in answers] == ["False", "False"]
    assert len(machine.builds()) == 1


def test_a_package_that_another_environment_builds_too_is_waited_for(machine, monkeypatch):
    wheelhouse.source(machine.index, "slow", "1.0", hook=_announce_and_wait(machine))
    first = another_process(machine, "slow")
    _announced(machine, first)
    assert int(uv.LOCK_PATIENCE) >= 6 * 3600  # s: such packages are built for CUDA
    monkeypatch.setattr(uv, "LOCK_PATIENCE", "1")
    with pytest.raises(errors.Failure, match="another process has built slow for 1 s") as caught:
        machine.task("slow\ntea")
    assert caught.value.exit == errors.TRY_AGAIN
    _let_go(machine)
    assert first.communicate()[0].split()[1] == "False"
    assert machine.task("slow\ntea")["packages"] == ["slow==1.0", "tea==2.0"]


def test_a_killed_build_is_not_seen_though_its_installer_lives_on(machine):
    wheelhouse.source(machine.index, "slow", "1.0", hook=_announce_and_wait(machine))
    killed = another_process(machine, "slow")
    _announced(machine, killed)
    killed.kill()
    killed.communicate()
    next_one = another_process(machine, "slow")
    while len(machine.builds()) < 2:
        assert next_one.poll() is None
        time.sleep(0.02)
    _let_go(machine)  # the killed stage's uv goes on, and fills what nobody will look at
    assert next_one.communicate()[0].split()[1] == "False"
    env = machine.task("slow")
    assert env["cached"]
    assert python(env, "import slow; print(slow.version)") == "1.0"
    assert os.path.basename(machine.base(env)) == max(machine.builds())


@pytest.mark.parametrize("point", ["env:locked", "env:created", "env:resolved", "env:installed", "env:published",
                                   "env:overlaid"])
def test_killed_at_any_step_the_next_task_has_a_whole_environment(machine, point):
    killed = another_process(machine, "milk", AGENT_CRASH_AT=point)
    killed.communicate()
    assert killed.returncode == -9
    env = machine.task("milk")
    assert env["cached"] == (point in ("env:published", "env:overlaid"))
    assert python(env, "import milk, tea; print(tea.version)") == "1.0"


def test_killed_at_any_moment_no_broken_environment_is_used_and_no_lock_stays(machine):
    import random
    wheelhouse.source(machine.index, "leaf", "1.0", requires=["milk"])
    envs = os.path.join(machine.folder, "home", "cache", "envs")
    whole = time.monotonic()
    assert another_process(machine, "leaf").communicate()[0]
    whole = time.monotonic() - whole
    shutil.rmtree(envs)
    moments = [(random.uniform(0.1, 1), random.uniform(0.1, 1)) for _ in range(10)]
    for pair in moments:  # 20 kills of two that want the same; their installers, in sessions of their own, live on
        began = time.monotonic()
        both = [another_process(machine, "leaf") for _ in pair]
        for moment, killed in sorted(zip(pair, both, strict=True), key=lambda each: each[0]):
            try:
                killed.communicate(timeout=max(0.0, began + whole * moment - time.monotonic()))
            except subprocess.TimeoutExpired:
                killed.kill()
                killed.communicate()
        published = [name for name in machine.envs() if os.path.islink(os.path.join(envs, name))]
        for name in published:  # one of them was through: what it left has to be whole, and the next builds again
            assert installed.damage(machine.base({"base": name})) == [], moments
            os.unlink(os.path.join(envs, name))
    env = machine.task("leaf")
    assert env["packages"] == ["leaf==1.0", "milk==1.0", "tea==1.0"], moments
    assert python(env, "import leaf, milk, tea; print(leaf.version, tea.version)") == "1.0 1.0"
    assert installed.damage(machine.base(env)) == []


def test_a_failed_build_leaves_nothing(machine):
    with pytest.raises(errors.Failure):
        machine.task("nosuchtea")
    assert machine.builds() == []


def test_what_a_killed_stage_left_is_removed_later_and_what_is_used_stays(machine):
    env = machine.task("milk")
    envs = os.path.join(machine.folder, "home", "cache", "envs")
    left, young = os.path.join(envs, "3.11.0-dead.1"), os.path.join(envs, "3.11.0-dead.2")
    for folder in (left, young):
        os.makedirs(folder)
    for folder in (left, machine.base(env)):
        os.utime(folder, (1, 1))
    machine.task("tea")
    assert not os.path.exists(left)
    assert os.path.isdir(young) and os.path.isdir(machine.base(env))


def test_a_build_is_in_use_until_its_tasks_have_ended(machine):
    job = machine.job("milk")
    from agentpipe.cmds import agent_env
    base = machine.base(agent_env.work(job))
    assert env_cache.tasks(base) == [os.path.basename(job.directory)]
    os.symlink("completed", job.path("outcome"))
    assert env_cache.tasks(base) == []


@pytest.mark.parametrize("part", ["users", "lib"])
def test_an_environment_of_which_a_part_was_removed_is_built_again(machine, part):
    shutil.rmtree(os.path.join(machine.base(machine.task("milk")), part))
    env = machine.task("milk")
    assert not env["cached"] and python(env, "import milk; print(milk.version)") == "1.0"


def test_an_evicted_environment_is_built_again(machine):
    import shutil
    before = machine.base(machine.task("milk"))
    shutil.rmtree(before)
    env = machine.task("milk")
    assert python(env, "import milk; print(milk.version)") == "1.0"
    assert machine.base(env) != before, "what is still at work on that one would write into this one"


@pytest.mark.parametrize("damaged", [False, True])
def test_after_a_power_cut_an_environment_is_looked_over_once(machine, monkeypatch, damaged):
    from agentpipe import processes
    base = machine.base(machine.task("milk"))
    module = python_env.cached(machine.task("milk")["base"])["site"] + "/milk/__init__.py"
    if damaged:
        with open(os.path.join(base, module), "w"):
            pass
    monkeypatch.setattr(processes, "boot_id", lambda: "another")
    env = machine.task("milk")
    assert env["cached"] == (not damaged)
    assert python(env, "import milk; print(milk.version)") == "1.0"
    monkeypatch.setattr(installed, "whole", None)
    assert machine.task("milk")["cached"]


def test_a_receipt_brings_the_same_packages_though_newer_ones_are_there(machine):
    env = machine.task("tea<2")
    again = machine.task("tea", pins={"packages": env["packages"], "python": env["version"]})
    assert again["packages"] == env["packages"] == ["tea==1.0"]


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(machine):
    assert machine.task("milk", options={"dry_run": True}) == {}
    said = "".join(machine.said)
    assert "would be built" in said and "would install milk" in said
    assert not os.path.exists(os.path.join(machine.folder, "home", "cache", "envs"))
    machine.task("milk")
    machine.said.clear()
    machine.task("milk", options={"dry_run": True})
    assert "in the cache" in "".join(machine.said)


@pytest.mark.parametrize(("pip", "code", "words", "remedy"), [
    ("nosuchtea==1", 66, ["no package nosuchtea"], "take 'nosuchtea==1' out of the requirements"),
    ("tea==1.5", 66, ["no such version: tea==1.5", "tea==1.0"], "replace 'tea==1.5' by 'tea==1.0' in the requirements"),
    ("tea>=9", 66, ["no such version: tea>=9", "tea==2.0"], "replace 'tea>=9' by 'tea==2.0' in the requirements"),
    ("milk\ntea==2.0", 65,
     ["milk and tea==2.0 cannot be installed together: all versions of milk depend on tea<2"], "relax 'tea==2.0'"),
    ("tea==1.0\ntea==2.0", 65, ["tea==1.0 and tea==2.0 cannot be installed together"], "relax 'tea==2.0'"),
    ("tea>=2\nmilk[hot]", 65, ["milk[hot] cannot be installed together: all versions of milk"], "relax 'tea>=2'"),
    ("greedy<2", 66, ["greedy<2 asks for tea>9, which is not in the indexes"],
     "ask for another version than 'greedy<2' in the requirements"),
    ("needy", 66, ["no package nosuchtea in the indexes, which needy needs"], "name the index that has it in PIP_"),
    ("torn", 65, ["torn: the file torn-1.0-py3-none-any.whl is damaged: "], "it has to be put there again"),
    ("old", 66, ["old", "needs Python>=3.99"], "set the task's binary to python3.99, or ask"),
    ("broken", 65, ["broken==1.0 cannot be built here", "RuntimeError: no compiler"],
     "ask for a version of broken that has wheels"),
    ("winter==1.0", 66, ["winter==1.0 is for Windows and macOS alone"], "take 'winter==1.0' out of the requirements"),
    ("liar==1.0", 65, ["liar==1.0 is a broken file in the index", "does not match given version `1.0`"],
     "ask for another version than 'liar==1.0'"),
    ("counts", 65, ["counts==1.0 cannot be built here"], "ask for numpy as well, which its build imports; or ask for"),
    ("compiled", 65, ["(its last words: c.c:1:10: fatal error: foo/foo.h: No such file or directory)"],
     "or install what has foo/foo.h here"),
    ("tooled", 65, ["tooled==1.0 cannot be built here"], "or install cmake here"),
    ("tea @ http://127.0.0.1:9/tea-1.0-py3-none-any.whl", 69, ["cannot reach http://127.0.0.1:9/"],
     "check the network"),
    ("--no-binary :all:\ntea", 65, ["tea have no source distribution"], "take '--no-binary :all:' out"),
    ("tea=1.0", 65, ["line 1", "tea=1.0"], "write tea==1.0"),
    ("tea\n--extra-index-url", 65, ["line 2", "--extra-index-url names nothing"], "take '--extra-index-url' out"),
    ("-r\ntea", 65, ["line 1", "-r names nothing"], "take '-r' out of the requirements"),
    ("tea=>1.0,=<2", 65, ["line 1", "tea=>1.0"], "write tea>=1.0,<=2"),
])
def test_what_cannot_be_installed_is_named_with_a_remedy(machine, monkeypatch, pip, code, words, remedy):
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    wheelhouse.wheel(machine.index, "old", "1.0", requires_python=">=3.99")
    wheelhouse.wheel(machine.index, "greedy", "1.0", ["tea>9"])
    wheelhouse.wheel(machine.index, "needy", "1.0", ["nosuchtea"])
    os.truncate(wheelhouse.wheel(machine.index, "torn", "1.0"), 300)
    wheelhouse.source(machine.index, "broken", "1.0", hook="raise RuntimeError('no compiler')")
    for system in ("win_amd64", "macosx_11_0_arm64"):
        made = wheelhouse.wheel(machine.index, "winter", "1.0")
        os.rename(made, made.replace("none-any", f"none-{system}"))
    made = wheelhouse.source(machine.index, "liar", "1.1")
    os.rename(made, made.replace("1.1", "1.0"))
    wheelhouse.source(machine.index, "counts", "1.0", hook="import numpy")
    said = "c.c:1:10: fatal error: foo/foo.h: No such file or directory\\n ^~~\\ncommand failed"
    wheelhouse.source(machine.index, "compiled", "1.0", hook=f"sys.exit('{said}')")
    wheelhouse.source(machine.index, "tooled", "1.0",
                      hook="raise FileNotFoundError(2, 'No such file or directory', 'cmake')")
    with pytest.raises(errors.Failure) as caught:
        machine.task(pip)
    assert caught.value.exit == code, caught.value.evidence
    assert all(word in caught.value.reason for word in words), caught.value.reason
    assert "you require" not in caught.value.reason
    assert remedy in caught.value.remedy
    assert caught.value.evidence
    assert "--drop-package" not in caught.value.change or caught.value.change[1] in pip
    assert code != 66 or "so the pins count" not in "".join(machine.said)  # that could not help


@pytest.mark.parametrize(("words", "reason", "remedy"), [
    ("""Using CPython 3.9.18 interpreter at: /usr/bin/python3.9
error: No solution found when resolving dependencies
  cause: Because the current Python version (3.9.18) does not satisfy Python>=3.11
         and numpy==2.3.0 depends on Python>=3.11, we can conclude that numpy==2.3.0 cannot be used.
         And because you require numpy==2.3.0, we can conclude that your requirements are unsatisfiable.
""", "numpy==2.3.0 needs Python>=3.11, this is 3.9.18", "set the task's binary to python3.11"),
    ("""Using CPython 3.13.0 interpreter at: /usr/bin/python3.13
  × No solution found when resolving dependencies:
  ╰─▶ Because torch==1.13.0 has no wheels with a matching Python ABI tag (e.g.,
      `cp313`) and you require torch==1.13.0, we can conclude that your
      requirements are unsatisfiable.

      hint: You require CPython 3.13 (`cp313`), but we only found wheels for `torch` (v1.13.0) with the following
      Python ABI tags: `cp37m`, `cp310`, `cp311`
""", "torch==1.13.0 has no build for this Python (3.13.0) and platform", "set the task's binary to python3.11"),
    ("""error: Failed to fetch: `https://user:****@example.org/simple/six/`
  Caused by: HTTP status client error (401 Unauthorized) for url (https://example.org/simple/six/)
""", "https://example.org/simple/six/ refuses access", "~/.netrc"),
    ("""  × Failed to download and build `lib @ git+http://git.example.org/lib.git@v1`
  ├─▶ Git operation failed
  ├─▶ failed to clone into: /cache/git-v0/db/1
  ╰─▶ process didn't exit successfully: `git fetch --force http://git.example.org/lib.git` (exit status: 128)
      --- stderr
      fatal: could not read Username for 'http://git.example.org': terminal prompts disabled
""", "cannot fetch tag or branch v1 of http://git.example.org/lib.git: it wants a user and a password (or there is no "
     "such repository), and none is configured for git.example.org (fatal: could not read Username for "
     "'http://git.example.org': terminal prompts disabled)", "agent.git_pass in clearml.conf"),
    ("""error: Failed to install: big-1.0-py3-none-any.whl (big==1.0)
  Caused by: failed to copy file: No space left on device (os error 28)
""", "the disk of the environment cache is full", "AGENT_HOME"),
    ("""error: Failed to download and build `mate @ git+file:///srv/tea@1b1b`
  cause: Package metadata name `tea` does not match given name `mate`
""", "mate @ git+file:///srv/tea@1b1b brings tea, not mate", "write tea @ git+file:///srv/tea@1b1b in its place"),
    ("""error: Requested package name `mate` does not match `tea` in the distribution filename: http://x/tea-1.whl
""", "mate @ git+file:///srv/tea@1b1b brings tea, not mate", "write tea @ git+file:///srv/tea@1b1b in its place"),
    ("""Downloading big (19.5MiB)
error: Failed to download `big==1.0`
  cause: Failed to write to the distribution cache
  cause: error decoding response body
  cause: end of file before message length reached
""", "big did not come whole: the connection broke off", "check the network and the proxy"),
    ("""error: Failed to download and build `lib @ git+ssh://git@git.example.org/lib.git@1b1b`
  cause: Git operation failed
  cause: failed to clone into: /cache/git-v0/db/1
  cause: process didn't exit successfully: `git fetch --force ssh://git@git.example.org/lib.git` (exit status: 128)
         --- stderr
         ssh: connect to host git.example.org port 22: Connection refused
""", "cannot fetch commit 1b1b of ssh://git@git.example.org/lib.git: the server cannot be reached (ssh: "
     "connect to host git.example.org port 22: Connection refused)", "git ls-remote ssh://git@git.example.org/lib.git"),
    ("""error: Failed to download and build `lib @ git+https://git.example.org/lib.git`
  cause: Git operation failed
  cause: process didn't exit successfully: `git fetch --force https://git.example.org/lib.git` (exit status: 128)
         --- stderr
         fatal: unable to access 'https://git.example.org/lib.git/': error:0A00010B:SSL routines::wrong version number
""", "cannot fetch default branch of https://git.example.org/lib.git: it does not speak TLS there (fatal: unable to "
     "access 'https://git.example.org/lib.git/': error:0A00010B:SSL routines::wrong version number)",
     "in the place of https://, in 'lib @ git+https://git.example.org/lib.git'"),
    ("""error: Failed to download and build `lib @ git+ssh://****@git.example.org:2222/lib.git@1b1b`
  cause: Git operation failed
  cause: process didn't exit successfully: `git fetch --force ssh://****@git.example.org:2222/lib.git` (exit status: 1)
         --- stderr
         Host key verification failed.
         fatal: Could not read from remote repository.
""", "cannot fetch commit 1b1b of ssh://git.example.org:2222/lib.git: the host's ssh key is not known here "
     "(Host key verification failed.)", "ssh-keyscan -p 2222 git.example.org >> ~/.ssh/known_hosts"),
    ("""error: Failed to download and build `mate @ git+file:///srv/tea@1b1b`
  cause: Git operation failed
  cause: process didn't exit successfully: `git fetch --force file:///srv/tea` (exit status: 1)
         --- stderr
         fetch-pack: unexpected disconnect while reading sideband packet
         fatal: early EOF
         fatal: fetch-pack: invalid index-pack output
""", "cannot fetch commit 1b1b of file:///srv/tea: the connection broke off before all had come "
     "(fetch-pack: unexpected disconnect while reading sideband packet)", "ask who runs the server"),
    ("""error: Failed to download and build `mate @ git+file:///srv/tea@1b1b`
  cause: `/cache/git-v2/checkouts/1/1b1b` does not appear to be a Python project, as neither `pyproject.toml` nor
         `setup.py` are present in the directory
""", "mate cannot be built here: `/cache/git-v2/checkouts/1/1b1b` does not appear to be a Python project, as neither "
     "`pyproject.toml` nor `setup.py` are present in the directory",
     "#subdirectory=FOLDER), in 'mate @ git+file:///srv/tea@1b1b'"),
    ("""error: Git operation failed
  cause: failed to fetch branch or tag `abc`
  cause: process didn't exit successfully: `/usr/bin/git fetch --force 'ssh://git@h/y.git' '+refs/tags/abc:x'` (128)
         --- stderr
         ssh: connect to host h port 22: Connection refused
""", "cannot fetch default branch of ssh://git@h/y.git: the server cannot be reached (ssh: connect to host h port 22: "
     "Connection refused)", "git ls-remote ssh://git@h/y.git"),
    ("""error: Failed to fetch: https://u:secret@index.example.org:8443/tea/
  cause: error sending request for url (https://index.example.org:8443/tea/)
  cause: client error (Connect)
  cause: invalid peer certificate: UnknownIssuer
""", "the certificate of index.example.org:8443 is not trusted: UnknownIssuer", "PIP_TRUSTED_HOST=index.example.org"),
    ("""error: Request failed after 3 retries in 12.1s
  cause: Failed to fetch: http://index.example.org/tea/
  cause: HTTP status server error (500 Internal Server Error) for url (http://index.example.org/tea/)
""", "http://index.example.org/tea/ answers 500 Internal Server Error", "check the network"),
    ("""error: Requirements contain conflicting URLs for package `mate`:
- file:///j/code (editable)
- git+file:///srv/tea@1b1b
""", "mate is asked for from two places: file:///j/code (editable) and git+file:///srv/tea@1b1b", "keep one of the"),
    ("""error: No solution found when resolving dependencies
  cause: Because there are no versions of tea and you require tea, we can conclude that your requirements are
         unsatisfiable.
""", "an index has tea, but no file of it", "look at what the index answers for tea (PIP_INDEX_URL, pip.conf)"),
])
def test_uvs_words_old_and_new_are_understood(machine, words, reason, remedy):
    from agentpipe.environment.installers import uv_failures
    from agentpipe.tools import ToolFailed
    asked = requirements.Requirements("/nowhere")
    asked.packages = ["mate @ git+file:///srv/tea@1b1b"]
    failure = uv_failures.explained(machine.job(), ToolFailed(["uv"], 1, words), "/nowhere", asked)
    assert failure.reason == reason
    assert remedy in failure.remedy


@pytest.mark.parametrize("said", [
    "Because only x" + "<1" * 60 + " ;", "a" * 60_000 + " depends", "\n" * 60_000, "Failed to fetch " * 4_000,
    "a." * 30_000, "a[" * 30_000, "Git operation failed git fetch " + "a" * 60_000,
    "Git operation failed `" + "git+ " * 12_000,
    "only x" + ",".join(["<1|>1"] * 25) + " is !", "Failed to build `x`\n[stderr]\n" + " \n" * 30_000 + "x"])
def test_what_a_build_prints_among_uvs_words_keeps_nobody(machine, tmp_path, said):
    import signal

    from agentpipe.environment.installers import uv_failures
    from agentpipe.environment.local_packages import Project
    from agentpipe.tools import ToolFailed
    (tmp_path / "setup.py").write_text("\n" * 60_000)
    asked = requirements.Requirements(str(tmp_path))
    asked.projects = [Project(str(tmp_path), "", False, "-e .")]

    def too_long(*_):
        raise AssertionError("it is read for more than 10 s")
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(10)
    try:
        assert uv_failures.explained(machine.job(), ToolFailed(["uv"], 1, said), "/nowhere", asked).exit
        uv_failures.lacking(said)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_container_without_a_network_is_not_told_to_check_it(machine):
    from agentpipe.environment.installers import uv_failures
    from agentpipe.tools import ToolFailed
    job = machine.job()
    job.manifest["place"] = {"kind": "docker", "arguments": "--ipc host --network none"}
    words = "error: Failed to fetch: `http://h/simple/tea/`\n  Caused by: dns error\n"
    asked = requirements.Requirements("/nowhere")
    failure = uv_failures.explained(job, ToolFailed(["uv"], 1, words), "/nowhere", asked)
    assert failure.exit == errors.UNAVAILABLE and failure.remedy.startswith("its container has no network (--network ")


def test_a_constraint_that_is_to_be_relaxed_shows_no_password(machine):
    from agentpipe.environment.installers import uv_failures
    from agentpipe.tools import ToolFailed
    asked = requirements.Requirements("/nowhere")
    asked.packages, asked.constraints = ["milk"], ["tea @ http://u:s3cret@h/tea-2.0-py3-none-any.whl"]
    words = "error: No solution found\n  cause: Because milk depends on tea<2 and you require milk, we can conclude " \
            "that your requirements are unsatisfiable.\n"
    failure = uv_failures.explained(machine.job(), ToolFailed(["uv"], 1, words), "/nowhere", asked)
    assert failure.remedy.startswith("relax the constraint 'tea @ http://") and "s3cret" not in failure.remedy


MALFORMED = """error: Couldn't parse requirement in `/j/%s` at position 0
  cause: no such comparison operator "<<", must be one of ~= == != <= >= < > ===
         %s
                   ^^^
"""


@pytest.mark.parametrize(("listed", "place", "change", "remedy"), [
    # the task's own list, which a changed file does not change
    ("six[a]>=1.16,<<2", "", ("--package", "six[a]"), "there: agent-task edit --requirements requirements.txt"),
    ("six>=1.16,<<2", "line 3 of more.txt", errors.CODE_ANEW, "or NAME @ URL in line 3 of more.txt"),
    ("hg+https://x.org/y", "", ("--drop-package", "hg+https://x.org/y"), "take 'hg+https://x.org/y' out of the "
     "requirements"),
    ("six>=1.16,<<2", "line 3 of https://x.org/l.txt", (), "in line 3 of https://x.org/l.txt"),
    # a constraint, that names a package of the list
    ("", "", (), "NAME @ URL in the requirements")])
def test_a_line_that_is_not_understood_is_changed_where_it_stands(machine, listed, place, change, remedy):
    from agentpipe.environment.installers import uv_failures
    from agentpipe.tools import ToolFailed
    asked = requirements.Requirements("/nowhere")
    asked.packages = ["six", "tea", *filter(None, [listed])]
    asked.places = {listed: place} if place else {}
    words = MALFORMED % ("requirements.txt", listed or "six>=1.16,<<2")
    failure = uv_failures.explained(machine.job(), ToolFailed(["uv"], 1, words), "/nowhere", asked)
    assert failure.reason.startswith("a requirement is not understood: no such comparison operator")
    assert "^" not in failure.reason and failure.change == change and failure.remedy.endswith(remedy)
    if listed:
        assert f", in '{listed}'" in failure.reason and f"'{listed}'" in failure.remedy


@pytest.mark.parametrize("there", [["3.7.9", "3.9.18", "3.12.1"], ["3.11.4"]])
def test_an_older_python_is_named_for_which_there_are_wheels_of_what_cannot_be_built(machine, monkeypatch, there):
    wheelhouse.source(machine.index, "broken", "1.0", hook="raise RuntimeError('no compiler')")
    made = wheelhouse.wheel(machine.index, "broken", "1.0")
    for tag in ("cp37-cp37m", "cp38-cp38", "cp39-cp39"):
        shutil.copy(made, made.replace("py3-none-any", f"{tag}-linux_{os.uname().machine}"))
    os.unlink(made)
    monkeypatch.setattr(discovery, "every", lambda: [{"version": each} for each in there])
    with pytest.raises(errors.Failure, match=r"broken==1\.0 cannot be built here") as caught:
        machine.task("broken==1.0")
    assert caught.value.remedy.startswith("give the task Python 3.9, for which broken==1.0 has wheels; or ask for")
    assert caught.value.change == (("--python", "3.9") if len(there) == 3 else ("--package", "broken"))


def test_the_last_line_that_a_failed_build_prints_is_in_the_reason(machine):
    hook = "import sys; print('checking for libfoo'); sys.exit('error: libfoo.h: No such file')"
    wheelhouse.source(machine.index, "broken", "1.0", hook=hook)
    with pytest.raises(errors.Failure, match=r"broken==1\.0 cannot be built here") as caught:
        machine.task("broken==1.0")
    assert caught.value.reason.endswith(" (its last words: error: libfoo.h: No such file)")


def test_the_printed_remedy_works(machine):
    with pytest.raises(errors.Failure) as caught:
        machine.task("milk\ntea==1.5")
    _, wrong, _, right, _ = caught.value.remedy.split("'")
    assert machine.task("milk\ntea==1.5".replace(wrong, right))["packages"] == ["milk==1.0", "tea==1.0"]


def test_without_the_network_an_environment_of_the_cache_is_used(machine, monkeypatch):
    machine.task("milk")
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    assert machine.task("milk")["cached"]
    monkeypatch.delenv("PIP_NO_INDEX")
    with pytest.raises(errors.Failure) as caught:
        machine.task("nosuchtea")
    assert (caught.value.exit, "nosuchtea" in caught.value.reason) == (errors.UNAVAILABLE, True)
    assert "AGENT_OFFLINE" in caught.value.reason
    assert "--stage-only" in caught.value.remedy
    monkeypatch.delenv("AGENT_OFFLINE")
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(errors.Failure, match="nosuchtea is not in the download cache, and UV_OFFLINE"):
        machine.task("nosuchtea")


@pytest.mark.parametrize(("mount", "words"), [
    ("size=12m", "the disk of the environment cache is full (make room there, or set AGENT_HOME to a larger disk)"),
    ("ro", "cannot write {cache}/interpreters: Read-only file system (set AGENT_HOME to a folder that you can write)")])
def test_a_disk_that_takes_nothing_is_called_that(machine, mount, words):
    cache = os.path.join(machine.folder, "home", "cache")
    wheelhouse.wheel(machine.index, "heavy", "1.0", files={"heavy/data.txt": "x" * 6_000_000})
    script = f"mount -t tmpfs -o {mount} none {cache} && exec \"$0\" \"$@\""
    code = STAGE.format(here=os.path.dirname(__file__), folder=machine.folder, pip="heavy")
    code = code.replace("env = made.task(", "import agentpipe.errors, agentpipe.stages\nfrom agentpipe.cmds import "
                        "agent_env\ntry:\n  env = agentpipe.stages.timed(agent_env.work, made.job").replace(
                        "'heavy')", "('heavy'))").replace(
        "print(env", "except agentpipe.errors.Failure as failure: print(failure.exit, failure)\nelse: print(env")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, sys.executable, "-c", code], text=True,
                          capture_output=True, check=False)
    assert done.stdout == f"73 {words.format(cache=cache)}\n", done.stdout + done.stderr


def _announce_and_wait(machine):
    """A build that tells us it runs, and ends when we say so."""
    for name in ("runs", "go"):
        os.mkfifo(os.path.join(machine.folder, name))
    runs, go = (os.path.join(machine.folder, name) for name in ("runs", "go"))
    return f"open({runs!r}, 'w').close(); open({go!r}).read()"


def _announced(machine, process):
    """Its build runs."""
    fd = os.open(os.path.join(machine.folder, "runs"), os.O_RDONLY | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(fd, 0)
    while not poll.poll(50):  # the builder has opened and closed it
        assert process.poll() is None, process.communicate()
    os.close(fd)


def _let_go(machine):
    with open(os.path.join(machine.folder, "go"), "w") as file:
        file.write("go")


def _waits_for_lock(machine, process):
    tasks = os.path.join(machine.folder, "home", "state", "tasks")
    for task in os.listdir(tasks):
        try:
            with open(os.path.join(tasks, task, "setup.log")) as log:
                yield "another task builds the same environment" in log.read()
        except FileNotFoundError:  # its directory is made, its log not yet
            yield False


def test_which_pip_does_the_work_is_part_of_the_key(machine, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE", "pip")
    before = key_of(machine, "tea")
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__PIP_VERSION", "<24")
    assert key_of(machine, "tea") != before


OWN = ".".join(map(str, sys.version_info[:2]))


@pytest.mark.parametrize(("pip", "said", "change"), [
    ("mate==1.0", f"mate==1.0 requires Python >={OWN}", ("--python", OWN)),
    ("mate", f"mate==1.0 requires Python >={OWN},<4", ("--python", OWN)),
    ("mate==1.0", "mate==1.0 requires Python >=3.98", ("--package", "mate")),
    ("mate[hot] >= 1 ; python_version > '3'", "mate>=1 requires Python >=3.98", ("--package", "mate[hot]")),
    ("mate", "mate==1.0 requires Python >=3.98", ()),
    ("tea", "mate==1.0 requires Python >=3.98", ()),
    ("mate", "mate==1.0 has no wheels with a matching platform tag", ()),
    ("mate", "mate==1.0 has no wheels with a matching tag, but we only found wheels for: `cp2`, "
     f"`cp{OWN.replace('.', '')}`", ("--python", OWN)),
])
def test_a_package_for_another_python_is_mended_by_what_changes_something(machine, pip, said, change):
    from agentpipe.environment.installers import uv_failures
    from agentpipe.tools import ToolFailed
    asked = requirements.Requirements("/nowhere")
    asked.packages = [pip]
    words = ToolFailed(["uv"], 1, f"error: No solution found\n  cause: Because {said} and you require it, we can")
    failure = uv_failures.explained(machine.job(), words, "/nowhere", asked)
    assert (failure.exit, failure.change) == (66, change), failure.reason


@pytest.mark.parametrize(("told", "named"), [
    ("http://u:secret@index.example.org", "agent.package_manager.extra_index_url"), ("", "PIP_INDEX_URL, pip.conf")])
def test_an_index_that_is_away_is_mended_where_it_is_named(machine, monkeypatch, told, named):
    from agentpipe.environment.installers import uv_failures
    from agentpipe.tools import ToolFailed
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__EXTRA_INDEX_URL", told)
    words = ToolFailed(["uv"], 1, "error: Failed to fetch: http://index.example.org/tea/\n  cause: dns error")
    failure = uv_failures.explained(machine.job(), words, "/nowhere", requirements.Requirements("/nowhere"))
    assert failure.exit == 69 and f"the index ({named})" in failure.remedy


@pytest.mark.parametrize(("there", "words", "remedy"), [
    (True, "cache, and AGENT_OFFLINE", "--stage-only"),
    (False, "wheels is not there, and AGENT_OFFLINE", "--wheelhouse")])
def test_a_wheelhouse_that_is_not_there_is_named(machine, monkeypatch, tmp_path, there, words, remedy):
    from agentpipe.environment.installers import uv_failures
    from agentpipe.tools import ToolFailed
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    monkeypatch.setenv("AGENT_WHEELHOUSE", str(tmp_path / "wheels"))
    if there:
        os.mkdir(tmp_path / "wheels")
    said = ToolFailed(["uv"], 1, "error: Because tea was not found in the cache and you require tea, we can conclude")
    failure = uv_failures.explained(machine.job(), said, "/nowhere", requirements.Requirements("/nowhere"))
    assert words in failure.reason and remedy in failure.remedy


def test_pip_comes_in_the_version_that_is_asked_for_where_pip_does_the_work(machine, monkeypatch):
    from virtualenv.seed.wheels import embed
    folder = os.path.dirname(embed.__file__)
    others = sorted(name.split("-")[1] for name in os.listdir(folder) if name.startswith("pip-"))
    monkeypatch.setenv("PIP_FIND_LINKS", f"{machine.index} {folder}")
    key = "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__"
    monkeypatch.setenv(key + "TYPE", "PIP")
    other = machine.task("tea==1.0")
    assert python(other, "import pip; print(pip.__version__)") != others[0]
    monkeypatch.setenv(key + "PIP_VERSION", f'["=={others[0]} ; python_version >= \'3\'"]')
    env = machine.task("tea==1.0")
    assert (env["installer"], env["packages"]) == ("pip", ["tea==1.0"])
    assert python(env, "import pip; print(pip.__version__)") == others[0]
    assert env["pins"][0]["sha256"] == wheelhouse.sha256(f"{machine.index}/tea-1.0-py3-none-any.whl")
    # a receipt is no matter of a resolver
    wheelhouse.wheel(machine.index, "tea", "1.0", files={"more.py": ""})
    monkeypatch.setenv("UV_CACHE_DIR", os.path.join(machine.folder, "another-cache"))
    job = machine.job(None, pins={"packages": env["pins"]})
    with pytest.raises(errors.Failure, match="not the one whose hash was recorded"):
        agent_env.work(job)


@pytest.mark.parametrize(("variables", "where"), [
    ({}, "{home}/cache/uv"), ({"CLEARML_AGENT__AGENT__PIP_DOWNLOAD_CACHE__PATH": "/srv/pip"}, "/srv/pip/uv"),
    ({"CLEARML_AGENT__AGENT__PIP_DOWNLOAD_CACHE__PATH": "/srv/pip",
      "CLEARML_AGENT__AGENT__PIP_DOWNLOAD_CACHE__ENABLED": "false"}, "{home}/cache/uv"),
    ({"UV_CACHE_DIR": "/srv/uv"}, "/srv/uv"),
])
def test_where_downloads_are_kept(machine, monkeypatch, variables, where):
    from agentpipe.settings import indexes
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert indexes.download_cache() == where.format(home=os.path.join(machine.folder, "home"))


@pytest.mark.parametrize("name", ["UV_CACHE_DIR", "UV_PYTHON_CACHE_DIR", "UV_PYTHON_INSTALL_DIR"])
def test_the_script_does_not_get_the_places_of_our_uv(name):
    from agentpipe.run import script_env
    assert script_env.NOT_PASSED_ON.match(name)


@pytest.mark.parametrize(("words", "reason"), [
    ("process didn't exit successfully: `git fetch 'file:///tmp/nowhere/y.git' '+HEAD:refs/remotes/origin/HEAD'`",
     "git+file:///tmp/nowhere/y.git@v1"),
    ("failed to find branch, tag, or commit `v1`", "a package")])
def test_a_repository_without_a_packages_name_is_told_by_its_line(machine, words, reason):
    from agentpipe.environment.installers import uv_failures
    from agentpipe.tools import ToolFailed
    asked = requirements.Requirements("/nowhere")
    asked.packages = ["milk", "git+file:///srv/x.git", "git+file:///tmp/nowhere/y.git@v1"]

    def explained():
        error = ToolFailed(["uv"], 1, f"error: Git operation failed\n  cause: {words}")
        return uv_failures.explained(machine.job(), error, "/nowhere", asked)
    assert explained().reason == f"{reason}: its repository or commit cannot be fetched"
    del asked.packages[1]
    failure = explained()
    assert failure.reason == "git+file:///tmp/nowhere/y.git@v1: its repository or commit cannot be fetched"
    assert failure.remedy == "correct the address or the commit in 'git+file:///tmp/nowhere/y.git@v1'"


@pytest.mark.parametrize("sha", ["", "abc", 5, "z" * 64])
def test_a_hash_of_a_receipt_that_is_none_is_named_with_its_package(machine, sha):
    pin = {"name": "tea", "version": "1.0", "source": "", "sha256": sha}
    with pytest.raises(errors.Failure, match=r"pins\.packages: the sha256 of tea is none: ") as caught:
        machine.task(pins={"packages": [pin]})
    assert caught.value.exit == errors.BAD_DATA
