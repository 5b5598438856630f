"""Folders and files of the checkout in a list: markers, and the folders that folders need."""

import hashlib
import os

import pytest
import wheelhouse
from env_machine import python

from agentpipe import errors
from agentpipe.cmds import agent_env
from agentpipe.environment import installed

BELOW = "os.path.dirname(os.getcwd())"


def package(name, requires=(), sources="", version="1.0"):
    """{path: text} of a package in the folder NAME; a text between the marks of `requires` is its build's own."""
    backend = wheelhouse.BACKEND.format(here=os.path.dirname(wheelhouse.__file__), hook="pass", name=name,
                                        version=version, requires=list(requires))
    return {f"{name}/pyproject.toml": wheelhouse.PYPROJECT.format(name=name) + sources,
            f"{name}/backend.py": backend.replace("<", "' + ").replace(">", " + '")}


def editable_of(machine, env, module):
    return python(env, f"import {module}, sys; print({module}.__file__)")


@pytest.fixture(params=["uv", "pip"])
def tool(request, monkeypatch):
    if request.param == "pip":
        monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE", "pip")
    return request.param


@pytest.mark.parametrize("line", ["./{} ; {}", "-e ./{} ; {}", "-e './{}' ; {}", "{1} @ file:./{0} ; {2}",
                                  "./{0}[x];{1}"])
def test_the_marker_of_a_folder_counts(machine, tool, line):
    def lines(name, marker):
        return line.format(*([name, name, marker] if "{2}" in line else [name, marker]))
    text = lines("never", 'python_version < "3.4"') + "\n" + lines("always", 'python_version >= "3.4"')
    env = machine.task(text, files={**package("never", ["tea<2"]), **package("always", ["milk"])})
    names = installed.names(env["overlay"])
    assert "always" in names and "never" not in names
    assert [each for each in env["packages"] if "==" not in each] == [lines("always", 'python_version >= "3.4"')]


def test_a_folder_stands_beside_packages_with_hashes_as_in_the_list_of_a_lock(machine, tool):
    with open(os.path.join(machine.index, "tea-1.0-py3-none-any.whl"), "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    env = machine.task(f"tea==1.0 --hash=sha256:{digest}\n-e ./own", files=package("own", ["tea"]))
    assert env["packages"] == ["tea==1.0", "-e ./own"]


def test_the_marker_of_a_file_counts(machine):
    with open(os.path.join(machine.index, "tea-1.0-py3-none-any.whl"), "rb") as file:
        wheel = file.read()
    job = machine.job('./tea-1.0-py3-none-any.whl ; sys_platform == "win32"\nmilk ; sys_platform == "linux"')
    with open(os.path.join(job.manifest["fetch"]["code"], "tea-1.0-py3-none-any.whl"), "wb") as file:
        file.write(wheel)
    env = agent_env.work(job)
    assert env["packages"] == ["milk==1.0", "tea==1.0"]  # milk's own


def test_what_is_no_marker_is_refused(machine):
    with pytest.raises(errors.Failure, match="line 1 of the task's requirements: what stands behind the ;") as refused:
        machine.task("./own ; pythonversion < 3", files=package("own"))
    assert refused.value.exit == errors.BAD_DATA


SOURCES = '[tool.uv.sources]\nlib = { path = "../lib", editable = true }\n'


@pytest.mark.parametrize("app", [
    package("app", ["lib"], SOURCES),
    package("app", [f"lib @ file://<{BELOW}>/lib"]),
], ids=["uv's sources", "a URL that the build makes"])
@pytest.mark.parametrize("line", ["-e ./app", "./app"])
def test_the_folders_that_a_folder_needs_are_the_tasks_own(machine, app, line):
    files = {**app, **package("lib", ["tea==1.0"])}
    for number in (1, 2):
        job = machine.job(line, files=files)
        env = agent_env.work(job)
        assert python(env, "import app, lib, tea; print(app.version, lib.version, tea.version)") == "1.0 1.0 1.0"
        assert env["cached"] == (number == 2)
        assert sorted(installed.names(env["overlay"])) == ["app", "lib"]
        assert [each for each in env["packages"] if "lib" in each] in (["-e ./lib"], ["./lib"])
    receipt = machine.task("", pins={"packages": env["pins"]}, files=files)
    assert python(receipt, "import app, lib; print(lib.version)") == "1.0"
    changed = machine.task(line, files={**files, **package("lib", ["tea==2.0"])})
    assert python(changed, "import tea; print(tea.version)") == "2.0"


def test_the_folders_that_a_folder_needs_are_those_beside_it_in_each_checkout(machine):
    """The same packages in another place of another repository, where a third has that of the first."""
    both = {**package("app", ["lib"], SOURCES), **package("lib", ["tea==1.0"])}
    machine.task("-e ./app", files=both)
    files = {**{f"deep/{name}": text for name, text in both.items()}, **package("lib", version="3.0")}
    env = machine.task("-e ./deep/app", files=files)
    assert python(env, "import app, lib; print(lib.version)") == "1.0"
    assert "-e ./deep/lib" in env["packages"]


def test_pip_finds_the_folders_that_a_folder_needs_too(machine, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE", "pip")
    files = {**package("app", [f"lib @ file://<{BELOW}>/lib"]), **package("lib", ["tea==1.0"])}
    env = machine.task("-e ./app", files=files)
    assert python(env, "import app, lib, tea; print(tea.version)") == "1.0"
    assert "lib" not in installed.names(machine.base(env))


def test_a_lock_with_a_folder_of_another_platform(machine):
    """poetry.lock's and uv.lock's markers of folders."""
    from agentpipe.environment import poetry_lock
    line = poetry_lock._line({"name": "lib", "version": "1", "source": {"type": "directory", "url": "lib"}},
                             'sys_platform == "win32"', {})
    assert line == './lib ; sys_platform == "win32"'


@pytest.mark.parametrize(("more", "need", "told"), [
    ("", "tea>9", "asks for tea>9 in app/pyproject.toml:4, and there is no such version, the nearest is tea==2.0"),
    ("milk", "tea>9", "asks for tea>9 in app/pyproject.toml:4, which does not go with the rest: all versions of milk"),
    ("tea<2", "tea>=2", "asks for tea>=2 in app/pyproject.toml:4, which does not go with 'tea<2' in the requirements"),
    ("", "nosuchpackage", "asks for nosuchpackage in app/pyproject.toml:4, and no index has nosuchpackage")])
def test_what_a_folders_package_cannot_have_is_mended_in_its_file(machine, more, need, told):
    files = {**package("app"), "app/pyproject.toml":
             f'[project]\nname = "app"\nversion = "1.0"\ndependencies = ["{need}"]\n[build-system]\nrequires = []\n'
             'build-backend = "backend"\nbackend-path = ["."]\n'}
    with pytest.raises(errors.Failure) as failed:
        machine.task(f"-e ./app\n{more}", files=files)
    assert failed.value.reason.startswith(f"your package app {told}")
    assert (failed.value.remedy, failed.value.change) == ("mend app/pyproject.toml:4", errors.CODE_ANEW)


def test_what_the_task_itself_asks_for_stays_to_be_mended_in_its_list(machine):
    with pytest.raises(errors.Failure, match=r"no such version: tea==1\.5") as failed:
        machine.task("-e ./app\ntea==1.5", files=package("app", ["tea"]))
    assert failed.value.change == ("--package", "tea==1.0")


@pytest.mark.parametrize("text", ['[project]\nname = "app"\n[build-system\n', '[project]\nname = "app"\nversion = 1\n'])
def test_a_folders_pyproject_that_is_broken_is_named(machine, text):
    with pytest.raises(errors.Failure) as failed:
        machine.task("-e ./app\n./lib", files={"app/pyproject.toml": text, **package("lib")})
    assert failed.value.reason.startswith("your package app cannot be built: ")
    assert failed.value.reason.endswith(", at app/pyproject.toml:3")
    assert (failed.value.remedy, failed.value.change) == ("mend app/pyproject.toml:3", errors.CODE_ANEW)


# as uv 0.13 with setuptools 80 prints it
SETUP = """error: The build backend returned an error
  cause: Call to `setuptools.build_meta:__legacy__.get_requires_for_build_editable` failed (exit status: 1)

         [stderr]
         Traceback (most recent call last):
           File "<string>", line 14, in <module>
           File "/c/builds-v0/.tmpt/lib/python3.11/site-packages/setuptools/build_meta.py", line 317, in run_setup
             exec(code, locals())  # noqa: S102 # exec is intentional here
             ^^^^^^^^^^^^^^^^^^^^
"""
LACKS = """           File "<string>", line 2, in <module>
         ModuleNotFoundError: No module named 'nosuch'
"""


def explained(machine, words, folders, packages=()):
    from agentpipe.environment.installers import uv_failures
    from agentpipe.environment.local_packages import Project
    from agentpipe.environment.requirements import Requirements
    from agentpipe.tools import ToolFailed
    asked = Requirements(machine.folder)
    asked.packages = list(packages)
    for name, text in folders.items():
        os.makedirs(os.path.join(machine.folder, name))
        with open(os.path.join(machine.folder, name, "setup.py"), "w", encoding="utf-8") as file:
            file.write(text)
        asked.projects.append(Project(os.path.join(machine.folder, name), "", True, f"-e ./{name}", "", machine.folder))
    return uv_failures.explained(machine.job(), ToolFailed(["uv"], 1, words), "/nowhere", asked)


@pytest.mark.parametrize(("end", "why"), [
    (LACKS, "ModuleNotFoundError: No module named 'nosuch', at mine/setup.py:2"),
    ("""           File "<string>", line 4, in <module>
           File "<string>", line 3, in version
         KeyError: 'v'
""", "KeyError: 'v', at mine/setup.py:3"),
    ("""           File "<string>", line 2
             setuptools.setup(
                             ^
         SyntaxError: '(' was never closed
""", "SyntaxError: '(' was never closed, at mine/setup.py:2")])
def test_a_folders_setup_that_fails_is_named(machine, end, why):
    failure = explained(machine, SETUP + end, {"mine": "a\nb\nc\nd\n"}, ["tea"])
    assert failure.reason == f"your package mine cannot be built: {why}" and failure.change == errors.CODE_ANEW
    assert failure.remedy.startswith(f"mend {why.rpartition(' ')[2]}")


@pytest.mark.parametrize(("words", "folders", "packages"), [
    (SETUP + LACKS, {"mine": "a\nb\n", "other": "a\nb\n"}, []),  # of which one, uv does not say
    (SETUP + LACKS, {"mine": "a\nb\n"}, ["git+https://git.example.org/x.git"]),
    (SETUP + LACKS, {"mine": "a"}, []),
    (LACKS, {"mine": "a\nb\n"}, []),
    ("error: no\nTOML parse error at line 1, column 9\n  |\n1 | [project\n  |         ^\nunclosed table\n",
     {"mine": "a\nb\n"}, [])])
def test_what_may_be_of_another_package_blames_no_folder(machine, words, folders, packages):
    failure = explained(machine, words, folders, packages)
    assert failure.reason.startswith("uv could not install the requirements") and failure.change == ()


def test_a_package_of_an_index_whose_setup_fails_is_not_that_of_a_folder(machine):
    failure = explained(machine, "  × Failed to build `old==1.0`\n" + SETUP + LACKS, {"mine": "a\nb\n"}, ["old==1.0"])
    assert failure.reason.startswith("old==1.0 cannot be built here")
