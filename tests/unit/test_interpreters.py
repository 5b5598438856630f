"""Which Python a task gets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from python_discovery import PythonSpec

from agentpipe import errors
from agentpipe.environment import discovery, given, image_packages, interpreters
from agentpipe.job import Job

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def job(tmp_path, monkeypatch, no_shims):
    """job(binary, …) makes the task; `job.said` is what it was told."""
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))

    def make(binary="python3", prefix=(), place=None, **line):
        directory = tmp_path / os.urandom(4).hex()
        directory.mkdir()
        line.setdefault("task", {"script": {"binary": binary}})
        if prefix:
            line["place"] = {"kind": "test", "prefix": list(prefix), **(place or {})}
        return Job(line, str(directory), {}, echo=lambda text: make.said.append(text))

    make.said = []
    return make


@pytest.fixture
def only(tmp_path, monkeypatch):
    """A machine that has just these Pythons: only("3.9.1", "3.12.0")."""
    def make(*versions):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        every = []
        for version in versions:
            numbers = tuple(int(part) for part in version.split("."))
            path = folder / f"python{version}"
            path.write_text("")
            every.append(type("Info", (), {
                "system_executable": str(path), "version_str": version, "version_info": numbers,
                "implementation": "CPython", "sysconfig_platform": "linux-x86_64"}))
        monkeypatch.setattr(discovery, "_all", lambda *_: every)
        monkeypatch.setattr(discovery, "_exact", lambda *_: None)
    return make


def test_a_task_that_names_no_version_gets_the_agents_own_system_python(job):
    found = interpreters.find(job("python3"))
    assert found["version"].startswith(OWN + ".")
    assert not os.path.exists(os.path.join(os.path.dirname(found["executable"]), "..", "pyvenv.cfg"))


def test_a_path_without_a_python_is_said_when_another_is_taken(job):
    found = interpreters.find(job("/opt/nope/bin/python3"))
    assert f"/opt/nope/bin/python3 is not on this machine, Python {found['version']}" in "".join(job.said)
    job.said.clear()
    interpreters.find(job(f"/opt/nope/bin/python{OWN}"))
    interpreters.find(job("/opt/nope/bin/julia"))
    assert "nope" not in "".join(job.said)


def test_the_version_in_the_binarys_name_is_found(job):
    found = interpreters.find(job(f"python{OWN}"))
    says = subprocess.check_output([found["executable"], "-c", "import platform; print(platform.python_version())"])
    assert says.decode().strip() == found["version"]


def test_a_virtual_environments_python_stands_for_the_systems(job):
    assert sys.prefix != sys.base_prefix
    found = interpreters.find(job(sys.executable))
    assert os.path.realpath(found["executable"]) == os.path.realpath(sys.executable)
    assert not found["executable"].startswith(sys.prefix + "/")


def test_a_warm_run_starts_no_program_and_searches_nothing(job, monkeypatch):
    first = interpreters.find(job(f"python{OWN}"))
    monkeypatch.setattr(discovery, "search", None)
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setitem(sys.modules, "python_discovery", None)  # a good part of such a run's time
    assert interpreters.find(job(f"python{OWN}"), ">=3.6") == first


def test_the_agent_has_one_memory_whatever_its_python_is_called(job, tmp_path, monkeypatch):
    name = f"python{OWN}"
    (tmp_path / name).symlink_to(os.path.realpath(sys.executable))
    names = set()
    for executable in (os.path.realpath(sys.executable), str(tmp_path / name)):
        monkeypatch.setattr(sys, "executable", executable)
        names.add(interpreters._memory_name("3"))
    assert len(names) == 1


@pytest.mark.parametrize("wish", [
    ">=3.8,<4", ">=3.8,<4.0,", "~=3.8", "~=3.11.2", "~=3.8,!=3.9.*", "==3.11.*", "==3.11", "==3.11.7", "!=3.11.7",
    ">3.11", "<=3.11", "<3.11", ">=3.8.*", ">=3.11.7", ">= 3.8, < 3.11", "3.11", ""])
@pytest.mark.parametrize("version", ["3.11.7", "3.11.0", "3.11", "3.9.18", "4.0.1", "2.7", "3.12.1+", "pypy3.9", ""])
def test_a_range_has_the_versions_that_the_discovery_says_too(version, wish):
    found = PythonSpec.from_string_spec(wish).version_specifier if wish else None
    expected = bool(found and version and found.contains(version.rstrip("+")))
    assert discovery.in_range(version, wish) == expected


def test_an_interpreter_that_was_replaced_is_looked_at_again(job, tmp_path, monkeypatch):
    python = tmp_path / "python3.9"
    python.write_text("")
    found = {"executable": str(python), "version": "3.9.1", "implementation": "CPython", "platform": "linux-x86_64",
             "warning": "", "folders": {}, "file": discovery.identity(str(python))}
    monkeypatch.setattr(discovery, "search", lambda *_: dict(found))
    assert interpreters.find(job("python3.9"))["version"] == "3.9.1"
    (tmp_path / "new").write_text("")
    os.rename(tmp_path / "new", python)
    found |= {"version": "3.9.2", "file": discovery.identity(str(python))}
    assert interpreters.find(job("python3.9"))["version"] == "3.9.2"


@pytest.mark.parametrize(("wish", "there", "taken"), [
    ("3.10", ("3.9.9", "3.11.0", "3.12.0"), "3.11.0"),
    ("3.10.4", ("3.9.9", "3.10.1", "3.10.9", "3.11.0"), "3.10.9"),
    ("3.14", ("3.9.9", "3.12.0", "3.13.0"), "3.13.0"),
])
def test_the_nearest_version_is_taken_with_a_warning(job, only, wish, there, taken):
    only(*there)
    assert interpreters.find(job(f"python{wish}"))["version"] == taken
    assert f"Python {wish} is not on this machine, {taken}" in "".join(job.said)


def test_a_near_miss_is_remembered_until_something_is_installed(job, only, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    only("3.11.0")
    assert interpreters.find(job("python3.10"))["version"] == "3.11.0"
    only("3.11.0", "3.10.0")  # touches the folder
    assert interpreters.find(job("python3.10"))["version"] == "3.10.0"


def test_another_major_version_is_refused_with_what_is_there(job, only):
    only("3.9.9", "3.12.0")
    with pytest.raises(errors.Failure) as caught:
        interpreters.find(job("python2"))
    assert caught.value.exit == errors.NOT_FOUND
    assert "Python 2" in caught.value.reason
    assert "3.9.9" in caught.value.evidence and "3.12.0" in caught.value.evidence


def test_something_else_under_pythons_name_is_refused(job, tmp_path):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    with pytest.raises(errors.Failure) as caught:
        interpreters.find(job(str(fake)))
    assert (caught.value.exit, str(fake) in caught.value.reason) == (errors.NOT_FOUND, True)


@pytest.mark.parametrize(("script", "settings", "wish"), [
    ({"binary": "python3.8"}, {}, "3.8"),
    ({"binary": "/nowhere/bin/python3.8"}, {}, "3.8"),
    ({"binary": "python3", "requirements": {"pip": "# Python 3.7.4 (default, Aug 13 2019) [GCC]\n\nsix"}}, {}, "3.7"),
    ({"binary": "python3"}, {"DEFAULT_PYTHON": "3.9"}, "3.9"),
    ({"binary": "python3"}, {"DEFAULT_PYTHON": "3.9", "PYTHON_BINARY": "/usr/bin/python3"}, "/usr/bin/python3"),
    ({"binary": "python3.8"}, {"DEFAULT_PYTHON": "3.9"}, "3.8"),
    ({"binary": "python4"}, {"DEFAULT_PYTHON": "3.9"}, "4"),
    ({"binary": "python3.13t"}, {"DEFAULT_PYTHON": "3.9"}, "3.13t"),
    ({"binary": "python3.8"}, {"DEFAULT_PYTHON": "3.9", "IGNORE_REQUESTED_PYTHON_VERSION": "1"}, "3.9"),
    ({"binary": "bash"}, {}, ""),
    ({}, {}, ""),
])
def test_who_decides(job, monkeypatch, script, settings, wish):
    for name, value in settings.items():
        monkeypatch.setenv("CLEARML_AGENT__AGENT__" + name, value)
    assert interpreters.wanted(job(task={"script": script})) == wish


@pytest.mark.parametrize(("key", "value"), [("DEFAULT_PYTHON", "banana"), ("DEFAULT_PYTHON", "9.9"),
                                            ("PYTHON_BINARY", "/nosuch/python")])
def test_a_setting_that_names_no_python_is_the_machines_fault(job, only, monkeypatch, key, value):
    only(f"{OWN}.1")
    monkeypatch.setenv(f"CLEARML_AGENT__AGENT__{key}", value)
    with pytest.raises(errors.Failure, match=f"agent.{key.lower()} is {value}, and there is no such") as caught:
        interpreters.find(job())
    assert caught.value.exit == errors.BAD_CONFIG
    with pytest.raises(errors.Failure) as caught:  # the task's own word
        interpreters.find(job("python4"))
    assert caught.value.exit == errors.NOT_FOUND


def test_what_a_project_is_for_counts_where_nobody_says_more(job, monkeypatch):
    own = interpreters.find(job())
    assert interpreters.find(job(), ">=3.6") == own  # the agent's own, where that fits
    assert "project" not in "".join(job.said)
    assert interpreters.find(job("python3." + own["version"].split(".")[1]), ">=3.98") == own
    assert f"the project is for Python >=3.98, and gets {own['version']} (" in "".join(job.said)
    monkeypatch.setenv("CLEARML_AGENT__AGENT__DEFAULT_PYTHON", "3.97")
    assert interpreters.wanted(job(), ">=3.8") == "3.97"
    assert interpreters.wanted(job(), ">=3.98") == ">=3.98"
    with pytest.raises(errors.Failure, match=r"no Python pypy3\.98"):  # never silently another one
        interpreters.find(job("pypy3.98"))


def test_a_receipt_brings_its_version(job):
    assert interpreters.wanted(job("python3.8", pins={"python": "3.11.7"})) == "3.11.7"


@pytest.mark.bubblewrap
def test_inside_a_place_the_place_is_asked(job):
    prefix = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--"]
    found = interpreters.find(job(sys.executable, prefix))
    assert found["version"].startswith(OWN)
    assert not found["executable"].startswith(sys.prefix + "/")


def test_a_place_without_that_version_gives_what_it_has(job):
    found = interpreters.find(job("python9.9", ["env", "--"]))
    assert found["version"].startswith("3.")
    assert "Python 9.9 is not in this place" in "".join(job.said)


@pytest.fixture
def place_with(tmp_path):
    """The prefix of a place with just these Pythons: place_with(python3="3.9.2")."""
    def make(**versions):
        folder = tmp_path / "place"
        folder.mkdir()
        (folder / "sh").symlink_to("/bin/sh")
        for name, version in versions.items():
            answer = {"executable": f"/{name}", "version": version, "implementation": "CPython", "platform": "linux"}
            (folder / name).write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
            (folder / name).chmod(0o755)
        return ["env", f"PATH={folder}"]
    return make


def test_a_receipt_gets_the_python_of_its_minor_version_in_its_place(job, place_with):
    """By which it ran, as the task asked for it; the image's own is another."""
    prefix = place_with(**{"python3": "3.9.2", "python3.11": "3.11.14"})
    receipt = job("python3.11", prefix, pins={"python": "3.11.14"})
    found = interpreters.find(receipt)
    assert (found["version"], job.said) == ("3.11.14", [])
    assert interpreters.own_path(receipt, found).endswith("/python3.11")


def test_a_receipt_gets_the_python_that_its_task_names_by_a_path(job, place_with, tmp_path):
    prefix = place_with(python3="3.9.2", elsewhere="3.11.14")
    path = tmp_path / "opt" / "bin" / "python"
    path.parent.mkdir(parents=True)
    os.rename(tmp_path / "place" / "elsewhere", path)
    assert interpreters.find(job(str(path), prefix, pins={"python": "3.11.14"}))["version"] == "3.11.14"


def test_another_python_than_the_asked_one_is_said_to_every_task_of_an_image(job, place_with):
    prefix = place_with(python3="3.11.14")
    for _ in range(2):
        job.said.clear()
        found = interpreters.find(job("python3.8", prefix, {"image_id": "sha256:1", "decides": ""}))
        assert found["version"] == "3.11.14"
        assert "Python 3.8 is not in this place" in "".join(job.said)
        (Path(prefix[1].partition("=")[2]) / "python3").write_text("")  # nobody is asked again


def test_another_third_number_than_a_receipts_is_said(job, place_with):
    prefix = place_with(python3="3.11.14")
    assert interpreters.find(job("python3", prefix, pins={"python": "3.11.1"}))["version"] == "3.11.14"
    assert "Python 3.11.1 is not in this place, 3.11.14" in "".join(job.said)


def test_a_place_without_python_is_refused(job, tmp_path):
    (tmp_path / "sh").symlink_to("/bin/sh")
    with pytest.raises(errors.Failure) as caught:
        interpreters.find(job("python3", ["env", f"PATH={tmp_path}"]))
    assert caught.value.exit == errors.NOT_FOUND and caught.value.remedy == "use an image that has python3"
    with pytest.raises(errors.Failure) as caught:
        interpreters.find(job("bash", ["env", f"PATH={tmp_path}"]))
    assert "the task's requirements do" in caught.value.remedy


def test_what_the_sitecustomize_of_an_image_prints_is_not_its_answer(job, tmp_path):
    import virtualenv
    virtualenv.cli_run([str(tmp_path / "loud"), "--without-pip", "--no-periodic-update"], setup_logging=False)
    site = next((tmp_path / "loud" / "lib").glob("python3*")) / "site-packages"
    (site / "sitecustomize.py").write_text("print('a banner')")
    python = str(tmp_path / "loud" / "bin" / "python")
    assert subprocess.check_output([python, "-c", ""], text=True) == "a banner\n"
    (tmp_path / "sh").symlink_to("/bin/sh")
    at = job(python, ["env", f"PATH={tmp_path}"])  # no other one is there
    assert interpreters.find(at)["version"] and given.folders(at, python) == [str(site)]
    (site / "mine-1.dist-info").mkdir()
    (site / "mine-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    assert [each["name"] for each in image_packages.asked(at, python)] == ["mine"]


@pytest.mark.parametrize("answer", ['{"version": "../../../x"}', '{"version": "3.11/../../x"}', '{"version": 3.11}',
                                    "{}", "{", "[" * 9, '{"executable": null}', '{"a":' * 100_000])
def test_what_no_python_says_of_itself_is_no_answer(job, tmp_path, answer):
    whole = {"executable": "/bin/python", "version": "3.11.2", "implementation": "CPython", "platform": "linux"}
    try:
        answer = json.dumps({**whole, **json.loads(answer)}) if len(answer) > 2 else answer
    except (ValueError, RecursionError):
        pass
    (tmp_path / "answer").write_text(answer)
    prefix = ["sh", "-c", f"cat {tmp_path}/answer", "prefix"]
    with pytest.raises(errors.Failure, match="there is no Python"):
        interpreters.find(job("python3", prefix))
    assert not list(tmp_path.glob("home/cache/interpreters/*"))
    (tmp_path / "answer").write_text(json.dumps(whole))
    assert interpreters.find(job("python3", prefix)) == whole


def test_what_no_package_is_called_makes_no_folder(job, tmp_path):
    whole = {"name": "tea", "version": "1!2.0-rc_1+x.3", "requires": ["milk"], "extras": []}
    wrong = [{"version": "/../../../../x"}, {"version": "1/../../x"}, {"version": ""}, {"version": 1}, {"name": None},
             {"requires": "milk"}, {"extras": [1]}]
    (tmp_path / "answer").write_text(json.dumps([whole, "tea", {}, *({**whole, **each} for each in wrong)]))
    prefix = ["sh", "-c", f"cat {tmp_path}/answer", "prefix"]
    assert image_packages.asked(job("python3", prefix), "python3") == [whole]
    place = {"image_id": "sha256:1", "decides": ""}
    for _ in range(2):  # as it is remembered, too
        assert image_packages.known(job("python3", prefix, place), {"executable": "/bin/python"}) == [whole]
    (tmp_path / "answer").write_text("[" * 100_000)
    assert image_packages.asked(job("python3", prefix), "python3") == []


def test_an_image_known_by_its_digest_is_asked_once(job, monkeypatch):
    place = {"image_id": "sha256:1", "decides": ""}
    first = interpreters.find(job("python3", ["env", "--"], place))
    monkeypatch.setattr(interpreters, "_first_answer", None)
    assert interpreters.find(job("python3", ["env", "--"], place)) == first


@pytest.mark.parametrize("named_by", ["binary", "LOCAL_PYTHON"])
def test_a_python_that_is_mounted_is_asked_each_time(job, tmp_path, named_by):
    """The next task may have another folder there."""
    python = tmp_path / "data" / "python"
    python.parent.mkdir()
    place = {"image_id": "sha256:1", "decides": "", "arguments": f"--volume /envs/a:/{python.parent}"}
    if named_by == "LOCAL_PYTHON":
        place["arguments"] += f" --env LOCAL_PYTHON={python}"
    for version in ("3.98.1", "3.99.2"):
        told = {"executable": str(python), "version": version, "implementation": "CPython", "platform": "x"}
        python.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
        python.chmod(0o755)
        wish = str(python) if named_by == "binary" else ""
        assert interpreters.find(job(wish, ["env", "--"], place))["version"] == version


def test_a_broken_python_on_path_is_nobodys_affair(job, tmp_path, monkeypatch, capfd):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("python3.99", "python2.0"):
        (broken / name).write_text("#!/bin/sh\necho 'Traceback: no such thing' >&2\necho nonsense\n")
        (broken / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    assert interpreters.find(job("python3.99"))["version"].startswith("3.")
    with pytest.raises(errors.Failure):
        interpreters.find(job("python2.0"))
    assert capfd.readouterr().err == ""


def test_a_python_that_answers_late_is_there_all_the_same(job, tmp_path, monkeypatch):
    from python_discovery import _cached_py_info
    slow = tmp_path / "slow" / f"python{OWN}"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nsleep 0.5\nexec "{os.path.realpath(sys.executable)}" "$@"\n')
    slow.chmod(0o755)
    # as on a machine at work: what takes 15 s there (the discovery's own patience), takes 0.1 s here
    monkeypatch.setattr(_cached_py_info, "_query_timeout", lambda told: float(told) if told else 0.1)
    found = interpreters.find(job(str(slow)))
    assert found["version"].startswith(OWN + ".")


def test_a_python_that_hangs_is_waited_for_with_a_word(job, tmp_path, monkeypatch):
    from agentpipe import live
    hung = tmp_path / "hung" / "python3.98"
    hung.parent.mkdir()
    hung.write_text("#!/bin/sh\nexec sleep 60\n")
    hung.chmod(0o755)
    monkeypatch.setenv("PATH", f"{hung.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PY_DISCOVERY_TIMEOUT", "0.5")
    monkeypatch.setattr(live, "LOGGED", 0.1)
    task = job("python3.98")
    assert interpreters.find(task)["version"].startswith("3.")
    with open(task.path("setup.log"), encoding="utf-8") as log:
        assert "asking the Pythons of this machine" in log.read()


@pytest.mark.parametrize("binary", ["/usr/bin/env", "/bin/true"])
def test_another_programs_path_is_no_wish_for_a_python(job, binary):
    assert interpreters.wanted(job(binary)) == ""


def test_all_pythons_are_asked_once_a_file_and_no_shim_is_started(tmp_path, monkeypatch):
    folder, shims, started = tmp_path / "bin", tmp_path / ".pyenv" / "shims", []
    for place in (folder, shims):
        place.mkdir(parents=True)
    for name in ("python", "python3", "python3.98"):
        (folder / name).symlink_to(os.path.realpath(sys.executable))
    (shims / "python3.97").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (shims / "python3.97").chmod(0o755)
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(discovery, "_search_folders", lambda: [str(shims), str(folder)])
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **more: (started.append(words), popen(*words, **more))[1])
    assert [each["version"] for each in discovery.every()] == [sys.version.split()[0]]
    assert len(started) <= 1
    assert not (tmp_path / "started").exists()


def test_another_version_than_the_asked_one_is_said_where_nobody_watches_too(job, only, capfd):
    only("3.12.1")
    for quiet in (False, True):
        found = job("python3.99")
        found.echo, found.options["quiet"] = None, quiet
        interpreters.find(found)
        assert ("Python 3.99 is not on this machine, 3.12.1" in capfd.readouterr().err) == (not quiet)
