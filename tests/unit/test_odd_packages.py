"""What lists, projects, packages and images may say that nobody means: a Failure or nothing, and never without end."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agentpipe import errors
from agentpipe.environment import (
    conda_files,
    image_packages,
    installed,
    local_packages,
    project_file,
    task_env,
    wheelhouse,
    wheelhouse_repositories,
)
from agentpipe.environment.installers import conda, conda_program
from agentpipe.environment.pins import is_pin
from agentpipe.task import sources


@pytest.fixture(autouse=True)
def in_time() -> Any:
    def too_long(*_: Any) -> None:
        raise AssertionError("it is looked at for more than 10 s")
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("text", [
    "variables:\n  D: 2024-02-30\n", f"dependencies: [{'1' * 5000}]", f"dependencies: [0x{'1' * 5000}]",
    "dependencies: [!!int abc]", "dependencies: [!!bool x]", "dependencies: [!!timestamp x]", f"0x{'1' * 5000}: a"])
def test_a_value_of_an_environment_file_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "environment.yml").write_text(text)
    with pytest.raises(errors.Failure, match=r"is not YAML|too long to be one") as caught:
        conda_files.of_file(str(tmp_path / "environment.yml"), str(tmp_path))
    assert caught.value.exit == errors.BAD_DATA and "environment.yml" in caught.value.remedy


def test_an_exported_environment_that_is_nested_deeply_is_no_json() -> None:
    with pytest.raises(errors.Failure, match="conda_env_json is not JSON"):
        conda_files.recorded({"conda_env_json": "[" * 100_000}, False)


def test_many_blanks_are_read_in_no_time() -> None:
    assert conda_files.spec("tea" + " " * 200_000 + "x").endswith(" x")
    assert [conda_files.spec(line) for line in ("tea >= 1", "tea  =1 ", "tea== 1.0", "defaults::tea")] == [
        "tea>=1", "tea=1", "tea~=1.0", f"{conda_files.MAIN}::tea"]
    assert not task_env._has_variable({"pip": "://" * 100_000})
    assert task_env._has_variable({"pip": ["six", "tea @ git+https://${TOKEN}@h/tea.git"]})
    needs = wheelhouse_repositories.NEEDED.findall("a" * 100_000 + "a" + " " * 100_000 + "a[" * 50_000)
    assert not needs
    assert wheelhouse_repositories.NEEDED.findall('"lib[x] @ git+https://h/lib@main"') == [
        ("lib[x]", "git+https://h/lib@main")]


def record(folder: Path, metadata: str = "Name: tea\nVersion: 1.0\n", **files: str) -> str:
    """An environment with one package."""
    place = folder / "lib" / "python3.11" / "site-packages" / "tea-1.0.dist-info"
    place.mkdir(parents=True)
    for name, text in {"METADATA": metadata, "RECORD": "tea.py,,\n", **files}.items():
        (place / name.replace("_json", ".json")).write_text(text)
    return str(folder)


@pytest.mark.parametrize("text", [
    "[]", "[" * 100_000, "{}", '{"url": 3}', '{"url": "https://h/x", "vcs_info": "git"}',
    '{"url": "file:///x", "dir_info": 3}', '{"url": "http://[x", "dir_info": {}}',
    '{"url": "https://h/x\\n--index-url https://other/"}'])
def test_where_a_package_says_that_it_came_from_makes_sense_or_is_nothing(tmp_path: Path, text: str) -> None:
    env = record(tmp_path, direct_url_json=text)
    assert installed.packages(env, set()) == ["tea==1.0"] and installed.folders(env) == {}


def test_the_pythons_that_a_package_is_for_are_read_in_no_time(tmp_path: Path) -> None:
    env = record(tmp_path, "Name: tea\nVersion: 1.0\nRequires-Python: " + " " * 100_000 + "\n")
    assert installed.unfit(env, "3.11.4") == []
    other = record(tmp_path / "other", "Name: tea\nVersion: 1.0\nRequires-Python:  <3.9 \n")
    assert installed.unfit(other, "3.11.4") == ["tea 1.0 is for Python <3.9"]


def test_a_record_of_conda_that_is_none_is_passed_over(tmp_path: Path) -> None:
    meta = tmp_path / "conda-meta"
    meta.mkdir()
    (meta / "a.json").symlink_to("/dev/zero")
    for name, text in {"b.json": "[]", "c.json": "no", "d.json": '{"url": "https://u:s3cret@h/d"}'}.items():
        (meta / name).write_text(text)
    whole = {"name": "tea", "version": "1.0", "build": "0", "url": "https://u:s3cret@h/tea-1.0-0.conda"}
    (meta / "tea.json").write_text(json.dumps(whole))
    conda._without_logins(str(tmp_path))
    assert json.loads((meta / "tea.json").read_text())["url"] == "https://h/tea-1.0-0.conda"
    assert [pin["name"] for pin in conda_program.installed(str(tmp_path))] == ["tea"]


def test_a_wheel_whose_metadata_cannot_be_read_has_none(tmp_path: Path) -> None:
    path = tmp_path / "tea-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tea-1.0.dist-info/METADATA", "Name: tea\n" + "x" * 1000)
    assert wheelhouse_repositories._metadata(str(path)).startswith("Name: tea\n")
    good = path.read_bytes()
    head, listed = good.find(b"PK\3\4"), good.find(b"PK\1\2")
    for place, value in (((6, 8), 1), ((8, 10), 99)):  # encrypted; of a method that nobody knows
        bad = bytearray(good)
        bad[head + place[0]], bad[listed + place[1]] = value, value
        path.write_bytes(bad)
        assert wheelhouse_repositories._metadata(str(path)) == ""
    data = good.find(b"METADATA") + len("METADATA")
    path.write_bytes(good[:data] + bytes([good[data] ^ 255, good[data + 1] ^ 255]) + good[data + 2:])
    assert wheelhouse_repositories._metadata(str(path)) == ""


def test_groups_that_include_each_other_however_deeply_are_read(tmp_path: Path) -> None:
    groups = "".join(f'g{number} = ["a{number}", {{include-group = "g{number + 1}"}}, "b{number}"]\n'
                     for number in range(3000))
    (tmp_path / "pyproject.toml").write_text(f"[project]\nname='x'\n[dependency-groups]\n{groups}g3000 = ['end']\n")
    lines, _ = project_file.lines(str(tmp_path), ["--group", "g2998"]) or ([], [])
    assert lines == ["a2998", "a2999", "end", "b2999", "b2998"]
    assert len((project_file.lines(str(tmp_path), ["--group", "g0"]) or ([], []))[0]) == 6001
    assert project_file.python({"project": {"requires-python": "^" + "1" * 5000}}) == ""


def test_a_folder_that_is_reached_by_many_ways_is_looked_at_once(tmp_path: Path) -> None:
    lib, more = tmp_path / "lib", tmp_path / "more"
    for folder in (lib, more):
        folder.mkdir()
    for name in "ab":
        (lib / name).symlink_to(".")
    (lib / "pyproject.toml").write_text(
        "[tool.uv.sources]\nx = {path = 'a'}\ny = {path = 'b'}\nmore = {path = '../more'}\n")
    assert local_packages.needed(str(lib), str(tmp_path)) == [str(more)]


def test_a_package_of_an_image_with_an_endless_name_is_none() -> None:
    each = {"requires": [], "extras": []}
    told = [{"name": "a" * 300, "version": "1", **each}, {"name": "tea", "version": "1" * 300, **each},
            {"name": "tea", "version": "1.0", **each}]
    assert image_packages._told(json.dumps(told)) == told[2:]


def test_a_receipts_package_without_a_name_is_none() -> None:
    pins = {"packages": [{"version": "1.0"}, {"name": "tea", "version": "1.0"}, "six==1.0"]}
    assert sources.Source({}, pins, {}, "").packages == ["tea==1.0", "six==1.0"]
    of_conda = {"name": "tea", "version": "1.0", "conda": True}
    assert is_pin({**of_conda, "build": "0"}) and not is_pin(of_conda)


def test_the_files_of_an_environment_stand_in_its_own_folder(tmp_path: Path) -> None:
    env = record(tmp_path)
    assert installed.modules(env, {"tea"}) == ["tea"]
    path = os.path.join(installed.site_packages(env), "tea-1.0.dist-info", "RECORD")
    os.unlink(path)
    os.symlink("/dev/zero", path)
    assert installed.modules(env, {"tea"}) == []


def test_a_wheel_that_was_cut_short_is_not_in_the_wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_WHEELHOUSE", str(tmp_path))
    built = {"name": "tea", "version": "1.0", "source": "https://h/tea-1.0.tar.gz"}
    of_git: dict[str, Any] = {"name": "tea", "version": "1.0", "source": f"git+https://h/tea@{'1b' * 20}"}
    fits = wheelhouse.fitting({"version": "3.11.4", "implementation": "CPython"})
    for pin, folder in ((built, tmp_path), (of_git, Path(wheelhouse_repositories.folder(of_git)))):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "tea-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("tea.py", "x" * 1000)
        assert wheelhouse._is_there(pin, fits)
        path.write_bytes(path.read_bytes()[:500])  # pip was killed while it wrote
        assert not wheelhouse._is_there(pin, fits)
