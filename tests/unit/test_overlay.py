"""A task's own environment over a shared base: what it does there is seen by nobody else."""

import ast
import os
import subprocess
import sys

import pytest
import wheelhouse
from env_machine import python, run, tree

from agentpipe.environment import overlay


def pip(env, *words):
    return run(env, env["python"], "-m", "pip", "--disable-pip-version-check", *words)


@pytest.fixture
def env(machine):
    wheelhouse.wheel(machine.index, "rich", "1.0", scripts=["rich"], files={
        "rich-1.0.data/data/share/man/man1/rich.1": "manual", "rich-1.0.data/data/etc/rich/settings": "a=1",
        "rich-1.0.data/data/lib/rich/native.so": "ELF", "rich-1.0.data/headers/rich.h": "int x;",
        "rich-1.0.data/scripts/plain": "#!python\nimport sys; print(sys.prefix)\n"})
    return machine.task("milk\nrich")


def test_it_is_an_environment_of_its_own(env):
    says = python(env, "import sys, sysconfig; print(sys.prefix, sysconfig.get_path('purelib'), sys.executable)")
    assert says == f"{env['overlay']} {env['overlay']}/lib/python{env['version'].rpartition('.')[0]}/site-packages " \
                   f"{env['overlay']}/bin/python"


def test_packages_of_the_system_are_not_seen(env):
    seen = python(env, "import sys; print(*(p for p in sys.path if 'packages' in p), sep='\\n')").splitlines()
    assert len(seen) == 2
    assert seen[0].startswith(env["overlay"]) and "/cache/envs/" in seen[1]


def test_a_run_time_install_is_not_seen_by_the_next_task(env, machine):
    wheelhouse.wheel(machine.index, "guest", "1.0")
    before = tree(machine.base(env))
    pip(env, "install", "guest")
    assert python(env, "import guest; print(guest.version)") == "1.0"
    other = machine.task("milk\nrich")
    assert other["cached"] and other["base"] == env["base"]
    assert python(other, "import importlib.util; print(importlib.util.find_spec('guest'))") == "None"
    assert tree(machine.base(env)) == before


@pytest.mark.parametrize("installer", [["-m", "pip"], ["bin/pip"], ["uv", "pip"]])
def test_an_upgrade_hides_the_bases_version_and_leaves_it_alone(env, machine, installer):
    before = tree(machine.base(env))
    if installer[0] == "uv":
        run(env, os.path.join(os.path.dirname(sys.executable), "uv"), "pip", "install", "tea==2.0", "--no-index",
            "--find-links", machine.index)
    elif installer[0] == "-m":
        pip(env, "install", "--upgrade", "tea==2.0")
    else:
        run(env, "pip", "install", "tea==2.0")
    assert python(env, "import tea; print(tea.version)") == "2.0"
    assert run(env, "tea") == "tea 2.0"
    assert tree(machine.base(env)) == before
    assert run(machine.task("milk\nrich"), "tea") == "tea 1.0"


def test_removing_a_package_of_the_base_does_not_remove_it_for_others(env, machine):
    before = tree(machine.base(env))
    subprocess.run([env["python"], "-m", "pip", "uninstall", "-y", "tea", "rich"], check=False)
    assert tree(machine.base(env)) == before


def test_reinstalling_data_files_writes_here(env, machine):
    before = tree(machine.base(env))
    pip(env, "install", "--force-reinstall", "--no-deps", "rich")
    manual = os.path.join(env["overlay"], "share/man/man1/rich.1")
    assert not os.path.islink(manual)
    assert tree(machine.base(env)) == before


def test_console_scripts_start_the_tasks_own_python(env):
    assert run(env, "tea") == "tea 1.0"
    assert run(env, "plain") == env["overlay"]
    assert run(env, "pip", "--version").split()[3].startswith("/")


def test_a_script_of_the_base_sees_what_the_task_installed(env, machine):
    run(env, env["python"], "-m", "pip", "install", "tea==2.0")
    code = "import importlib.metadata; print(importlib.metadata.version('tea'))"
    assert python(env, code) == "2.0"
    assert "2.0" in run(env, "pip", "show", "tea")


@pytest.mark.parametrize("path", ["share/man/man1/rich.1", "etc/rich/settings", "lib/rich/native.so"])
def test_data_files_are_found_under_the_prefix(env, path):
    assert python(env, f"import sys; print(len(open(sys.prefix + '/{path}').read()) > 0)") == "True"


def test_the_tasks_own_folder_is_in_its_overlay_and_what_it_needs_in_the_base(machine):
    files = {}
    made = wheelhouse.project(os.path.join(machine.folder, "mine"), "mine", "0.1", requires=["milk"])
    for name in os.listdir(made):
        with open(os.path.join(made, name)) as file:
            files[name] = file.read()
    files["extra_module.py"] = "where = __file__\n"
    env = machine.task("-e .", files=files)
    assert env["packages"] == ["milk==1.0", "tea==1.0", "-e ."]
    assert python(env, "import mine, milk; print(mine.version, milk.version)") == "0.1 1.0"
    assert python(env, "import extra_module; print(extra_module.where)").endswith("/code/extra_module.py")
    assert not [name for name in tree(machine.base(env)) if "mine" in name]
    again = machine.task("-e .", files=files)
    assert again["cached"]
    code = f"import extra_module; print({os.path.dirname(again['overlay'])!r} in extra_module.where)"
    assert python(again, code) == "True"


def test_pth_files_of_the_base_are_obeyed(machine):
    wheelhouse.wheel(machine.index, "hook", "1.0", files={"hook.pth": "import sys; sys.hooked = True\n"})
    assert python(machine.task("hook"), "import sys; print(sys.hooked)") == "True"


def test_the_first_import_leaves_its_byte_code_for_the_next_task(env, machine):
    python(env, "import milk")
    assert os.listdir(os.path.join(machine.base(env), "lib", f"python{env['version'].rpartition('.')[0]}",
                                   "site-packages", "milk", "__pycache__"))


def test_nothing_of_the_base_is_shared_with_uvs_cache(machine):
    base = machine.base(machine.task("milk"))
    shared = [name for name in tree(base) if os.lstat(os.path.join(base, name)).st_nlink > 1]
    assert shared == []


def test_prepared_again_it_is_new(env, machine):
    from agentpipe.environment import python_env
    job = machine.job()
    base = python_env.cached(env["base"])
    first = overlay.create(job, base)
    with open(os.path.join(first, "mark"), "w"):
        pass
    assert overlay.create(job, base) == first
    assert not os.path.exists(os.path.join(first, "mark"))


LOOPS = "import os, sys; print('line'); os._exit(0)"  # what a buffer holds is lost


@pytest.mark.parametrize(("variable", "seen"), [(None, ""), ("1", "line"), ("0:0", "")])
def test_lines_are_out_at_once_when_agent_run_asks(env, variable, seen):
    assert python(env, LOOPS, **({"AGENT_LINE_BUFFERED": variable} if variable else {})) == seen


@pytest.mark.old_python
@pytest.mark.parametrize("version", ["3.6", "3.7"])
def test_an_old_python_says_nothing_of_its_own(machine, version):
    wheelhouse.wheel(machine.index, "pip", "1.0")  # virtualenv brings none for these
    env = machine.task("", binary=f"python{version}")
    assert env["version"].startswith(version)
    assert python(env, LOOPS, AGENT_LINE_BUFFERED="1") == "line"
    assert python(env, "print('à')") == "à"


def test_what_runs_before_the_script_is_python_of_36_and_needs_no_reconfigure(env):
    source = overlay.PTH.format(variable="AGENT_LINE_BUFFERED")
    ast.parse(source, feature_version=(3, 6))
    old = "import sys; sys.stdout = type('Old', (), {'encoding': 'utf-8', 'errors': 'strict'})\n"
    said = subprocess.run([env["python"], "-c", f"{old}{source}{LOOPS}"], capture_output=True, text=True, check=True,
                          env={**os.environ, "AGENT_LINE_BUFFERED": "1"})
    assert (said.stdout, said.stderr) == ("line\n", "")


def test_only_the_log_itself_can_be_meant(env, tmp_path):
    log, other = tmp_path / "log", tmp_path / "other"
    for path in (log, other):
        path.touch()
    mark = f"{log.stat().st_dev}:{log.stat().st_ino}"
    for path in (log, other):
        with open(path, "w") as file:
            subprocess.run([env["python"], "-c", LOOPS], stdout=file, env={**os.environ, "AGENT_LINE_BUFFERED": mark},
                           check=True)
    assert (log.read_text(), other.read_text()) == ("line\n", "")


def test_a_closed_stdout_is_no_error(env):
    done = subprocess.run(["sh", "-c", '"$0" -c "pass" >&-', env["python"]], stderr=subprocess.PIPE,
                          env={**os.environ, "AGENT_LINE_BUFFERED": "1"}, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_environment_with_odd_characters_in_its_path(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "a 'b\" [é]"))
    machine.folder = str(tmp_path / "a 'b\" é")
    env = machine.task("milk")
    assert run(env, "tea") == "tea 1.0"


@pytest.mark.bubblewrap
def test_in_a_place_the_environment_is_made_inside_it(machine):
    prefix = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--die-with-parent", "--"]
    line = {"place": {"kind": "bwrap", "prefix": prefix}}
    env = machine.task("milk", **line)
    assert env["base"] != machine.task("milk")["base"]
    assert run(env, *prefix, env["python"], "-c", "import milk, tea; print(tea.version)") == "1.0"
    assert run(env, *prefix, "tea") == "tea 1.0"
    assert "pip" in run(env, *prefix, env["python"], "-m", "pip", "--version")
    assert machine.task("milk", **line)["cached"]
