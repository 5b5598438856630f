"""Constraints and lists that a user, a variable or a list names: by files and by URLs."""

import os

import package_index
import pytest
import wheelhouse

from agentpipe import errors, untrusted
from agentpipe.environment.installers import policy
from agentpipe.environment.requirements import Requirements

PIP = "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE"


@pytest.fixture
def site(machine, monkeypatch):
    """site(text) writes c.txt, and site.url is where it is served."""
    folder = os.path.join(machine.folder, "site")
    os.makedirs(folder)
    server, address = package_index.serve(folder)

    def write(text, name="c.txt"):
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    write.url, write.private, write.server = f"http://{address}/c.txt", f"http://{address}/private/c.txt", server
    yield write
    server.shutdown()


@pytest.mark.parametrize("tool", ["uv", "pip"])
@pytest.mark.parametrize("variable", ["PIP_CONSTRAINT", "UV_CONSTRAINT"])
@pytest.mark.parametrize("by_url", [True, False])
def test_a_variables_constraints_count_by_what_they_say(machine, monkeypatch, site, tool, variable, by_url):
    monkeypatch.setenv(PIP, tool if tool == "pip" else "")
    monkeypatch.setenv(variable, site.url if by_url else os.path.join(machine.folder, "site", "c.txt"))
    site("tea<2\n")
    first = machine.task("tea")
    assert first["packages"] == ["tea==1.0"] and machine.task("tea")["cached"]
    site("tea>=2\n")
    assert machine.task("tea")["packages"] == ["tea==2.0"]
    with pytest.raises(errors.Failure, match="milk cannot be installed") as refused:  # it wants tea<2
        machine.task("milk")
    assert refused.value.remedy == "relax the constraint 'tea>=2' (-c, PIP_CONSTRAINT)"


@pytest.mark.parametrize("line", ["-c {}", "-r {}"])
def test_a_list_may_name_others_by_url(machine, site, line):
    site("tea<2\n")
    text = line.format(site.url) + ("\ntea" if line.startswith("-c") else "")
    assert machine.task(text)["packages"] == ["tea==1.0"]
    site("-c d.txt\ntea\n" if line.startswith("-r") else "tea>=2\n")
    site("tea==2.0\n", "d.txt")
    assert machine.task(text)["packages"] == ["tea==2.0"]


@pytest.mark.parametrize("flags", ["-c http://list.invalid/c.txt --proxy {}", "--proxy={}"])
def test_a_list_is_asked_for_through_the_proxy_of_pips_flags(machine, monkeypatch, site, flags):
    monkeypatch.setenv("CLEARML_EXTRA_PIP_INSTALL_FLAGS", flags.format(site.url.removesuffix("/c.txt")))
    site("tea<2\n")
    text = "tea" if "-c" in flags else "-c http://list.invalid/c.txt\ntea"
    assert machine.task(text)["packages"] == ["tea==1.0"]


def test_when_its_server_is_away_a_list_says_what_it_said_last_time(machine, site):
    site("tea<2\n")
    first = machine.task(f"-r {site.url}")
    site.server.shutdown()
    site.server.server_close()
    again = machine.task(f"-r {site.url}")
    assert (again["base"], again["cached"]) == (first["base"], True)
    assert f"cannot fetch {site.url} (no answer" in "".join(machine.said)
    with pytest.raises(errors.Failure, match="cannot fetch the list") as refused:
        machine.task(f"-r {site.url}x")
    assert refused.value.exit == errors.UNAVAILABLE


def test_a_list_behind_a_login(machine, monkeypatch, site):
    site("tea<2\n")
    with pytest.raises(errors.Failure, match="refuses access") as refused:
        machine.task(f"-r {site.private}")
    assert refused.value.exit == errors.NO_PERMISSION
    monkeypatch.setenv("LIST_LOGIN", "u:secret")
    env = machine.task(f"-r {site.private.replace('://', '://${LIST_LOGIN}@')}")
    assert env["packages"] == ["tea==1.0"] and "secret" not in "".join(machine.said)
    with pytest.raises(errors.Failure, match="there is no list at") as missing:
        machine.task(f"-r {site.url}x")
    assert missing.value.exit == errors.NOT_FOUND


def test_an_index_that_shows_nobody_anything_is_not_taken_for_one_that_lacks_the_package(machine, monkeypatch, site):
    monkeypatch.delenv("PIP_NO_INDEX")
    closed = site.url.replace("c.txt", "closed/simple/")
    with pytest.raises(errors.Failure) as refused:
        machine.task(f"--index-url {closed}\nnosuchtea")
    assert refused.value.reason == f"{closed} refuses access or has no nosuchtea"
    assert refused.value.exit == errors.NO_PERMISSION and not refused.value.change


def test_a_variable_that_names_nothing_is_said(machine, monkeypatch):
    monkeypatch.setenv("PIP_CONSTRAINT", "/nowhere/c.txt")
    with pytest.raises(errors.Failure, match=r"PIP_CONSTRAINT names /nowhere/c\.txt, which is not there") as refused:
        machine.task("tea")
    assert refused.value.exit == errors.BAD_CONFIG


def test_an_override_beats_what_packages_need(machine, monkeypatch, site):
    monkeypatch.setenv("UV_OVERRIDE", site.url)
    site("tea==2.0\n")
    assert machine.task("milk")["packages"] == ["milk==1.0", "tea==2.0"]  # milk wants tea<2
    site("tea==1.0\n")
    assert machine.task("milk")["packages"] == ["milk==1.0", "tea==1.0"]


@pytest.mark.parametrize("variable", ["UV_BUILD_CONSTRAINT", "PIP_BUILD_CONSTRAINT"])
def test_constraints_of_builds(machine, monkeypatch, site, variable):
    for version in ("1.0", "2.0"):
        site(f"tea=={version}\n")
        monkeypatch.setenv(variable, site.url)
        wheelhouse.source(machine.index, "brew", "1.0", build=["tea"],
                          hook=f"import tea; assert tea.version == {version!r}, tea.version")
        assert machine.task("brew")["packages"] == ["brew==1.0"]


def test_the_owners_flags_name_files_anywhere_and_a_tasks_file_stays_its_own(tmp_path):
    code, limits = tmp_path / "code", tmp_path / "limits.txt"
    code.mkdir()
    limits.write_text("tea<2\n")
    (code / "c.txt").symlink_to(limits)
    asked = Requirements(str(code))
    with untrusted.kept_within(str(code)):
        for words in (["-c", str(limits)], [f"--constraint=file://{limits}"]):
            policy._flags(policy.Policy(), asked, words)
        assert asked.constraints == ["tea<2"] * 2
        with pytest.raises(errors.Failure, match="out of the task's own folder"):
            policy._flags(policy.Policy(), asked, ["-c", "c.txt"])
