"""`agent-task enqueue --check`: packages of every kind are looked at, and what cannot be is said."""
# ruff: noqa: F811

import subprocess
import sys

import pytest
import wheelhouse
from test_conda import KEY, channel  # noqa: F401  (a fixture)
from test_lock_files import PROJECT, lock, web  # noqa: F401  (web is a fixture)

from agentpipe import errors
from agentpipe.task import check_packages


def checked(machine, pip=None, files=(), binary="python3", container=None, **record):
    """What is said of a task with this list."""
    if pip is not None:
        record["pip"] = pip
    job = machine.job(requirements=record or None, files=files, binary=binary)
    job.task["container"] = container or {}
    said = []
    check_packages.check(job, said.append)
    assert machine.builds() == []
    return "\n".join(said)


def refused(machine, *arguments, **more):
    with pytest.raises(errors.Failure) as caught:
        checked(machine, *arguments, **more)
    return caught.value


def test_a_list_resolves_for_the_tasks_python_also_one_that_is_not_here(machine):
    said = checked(machine, "milk", binary="python3.9")
    assert said == "check: the requirements resolve to 2 packages for Python 3.9"
    wheelhouse.wheel(machine.index, "modern", "1.0", requires_python=">=3.10")
    failure = refused(machine, "modern", binary="python3.9")
    assert "modern" in failure.reason and failure.exit in (errors.BAD_DATA, errors.NOT_FOUND)


def test_a_conda_section_is_solved(machine, channel):
    said = checked(machine, "tea<2", conda="beans == 1.0")
    assert "resolves to 2 conda packages, Python 3." in said and "resolve to 1 package for Python 3." in said
    assert "nosuch" in refused(machine, "", conda="nosuch").reason
    failure = refused(machine, "tea==9", conda="beans")
    assert failure.exit == errors.NOT_FOUND and "tea==9" in failure.reason


def test_a_conda_section_for_other_workers_is_said(machine):
    assert "conda section is not looked at" in checked(machine, "tea", conda="beans")


def test_without_the_extra_conda_is_said_not_to_be_looked_at(machine, channel, monkeypatch):
    monkeypatch.setitem(sys.modules, "rattler", None)
    assert "not looked at: that needs the extra agentpipe[conda]" in checked(machine, "", conda="beans")


def test_hashes_are_compared_with_the_index(machine):
    path = wheelhouse.wheel(machine.index, "hot", "1.0")
    good, bad = wheelhouse.sha256(path), "0" * 64
    assert "resolve to 1 package" in checked(machine, f"hot==1.0 --hash=sha256:{good}")
    failure = refused(machine, f"hot==1.0 --hash=sha256:{bad}")
    assert failure.exit == errors.BAD_DATA and failure.reason.startswith("hot: no file")


def test_a_repository_without_that_commit(machine):
    folder = wheelhouse.project(f"{machine.folder}/lib", "lib", "1.0", requires=["tea"])
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    assert "resolve to 2 packages" in checked(machine, f"lib @ git+file://{folder}")
    failure = refused(machine, f"lib @ git+file://{folder}@{'a' * 40}")
    assert failure.exit == errors.NOT_FOUND and "commit" in failure.reason


def test_a_folder_of_this_machine_alone_is_said(machine):
    folder = wheelhouse.project(f"{machine.folder}/mine", "mine", "1.0")
    assert f"{folder} is on this machine" in checked(machine, f"mine @ file://{folder}")


def test_an_image_is_said_not_to_be_looked_at(machine):
    assert "what team/train:1 has" in checked(machine, "tea", container={"image": "team/train:1 --gpus all"})


def test_a_uv_lock_is_looked_at_and_named(machine, web):
    job = machine.job(files={"pyproject.toml": PROJECT}, binary="python3.11")
    lock(job.manifest["fetch"]["code"], web)
    said = []
    check_packages.check(job, said.append)
    assert said == ["check: the requirements of uv.lock resolve to 3 packages for Python 3.11"]
