"""Which build of PyTorch a machine gets, and what becomes of a list where its index cannot be had."""

import os

import package_index
import pytest
import wheelhouse

from agentpipe import errors, paths
from agentpipe.environment import requirements, torch_backend
from agentpipe.environment.installers import policy, uv, uv_failures, ways

KEY = "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__"


@pytest.fixture(autouse=True)
def _reachable(monkeypatch):
    monkeypatch.setattr(torch_backend, "_away", set())


def settled(machine, pip):
    job = machine.job(pip)
    asked = requirements.of_task(job)
    return policy.of(job, asked), asked


@pytest.fixture
def indexed(machine, monkeypatch):
    """A machine whose packages come from indexes."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    return machine


@pytest.mark.parametrize(("variables", "backend"), [
    ({"CLEARML_AGENT__AGENT__CUDA_VERSION": "12.1"}, "cu121"), ({"CLEARML_CUDA_VERSION": "118"}, "cu118"),
    ({"CUDA_VERSION": "12.7.1"}, "cu126"), ({"CUDA_VERSION": "12"}, "cu120"), ({"CUDA_VERSION": "cu118"}, "cu118"),
    ({"CUDA_VERSION": "99.9"}, "cu132"), ({"CUDA_VERSION": "0"}, "cpu"),
    ({"CUDA_VERSION": "12.1", "CLEARML_CPU_ONLY": "1"}, "cpu"), ({"CUDA_VERSION": "7.0"}, "cpu"),
])
def test_the_newest_build_that_this_cuda_can_run(indexed, monkeypatch, variables, backend):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settled(indexed, "torch")[0].backend == backend


def test_an_installed_rocm_is_walked_down_to(indexed, monkeypatch, tmp_path):
    (tmp_path / ".info").mkdir()
    (tmp_path / ".info" / "version").write_text("6.3.1-42\n")
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    real = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/kfd" or (
        "nvidia" not in str(path) and real(path)))
    assert settled(indexed, "torch")[0].backend == "rocm6.3"


@pytest.mark.parametrize(("pip", "is_torch"), [
    ("torch==2.1.0", True), ("torchvision", True), ("pytorch-lightning", True), ("numpy", False), ("torchx", False),
])
def test_only_lists_about_torch_depend_on_it(indexed, monkeypatch, pip, is_torch):
    monkeypatch.setenv("CUDA_VERSION", "12.1")
    assert (settled(indexed, pip)[0].backend == "cu121") == is_torch


def test_another_machines_build_is_cut_off(indexed, monkeypatch):
    monkeypatch.setenv("CUDA_VERSION", "12.1")
    assert settled(indexed, "torch==1.13.1+cu116\nnumpy==1.0+local")[1].packages == [
        "torch==1.13.1", "numpy==1.0+local"]


@pytest.mark.parametrize("mirror", ["", "http://m/whl/cu{}"])
def test_a_list_with_hashes_says_itself_which_build_it_means(indexed, monkeypatch, mirror):
    monkeypatch.setenv("CUDA_VERSION", "12.1")
    monkeypatch.setenv(KEY + "EXTRA_INDEX_URL_TEMPLATE", mirror)
    line = "torch==1.10.1+cu113 --hash=sha256:" + "0" * 64
    found, asked = settled(indexed, line)
    assert (found.backend, asked.packages, asked.options) == ("", [line], [])


@pytest.mark.parametrize("variable", [KEY + "PYTORCH_RESOLVE", "CLEARML_AGENT_PACKAGE_PYTORCH_RESOLVE"])
def test_none_leaves_torch_alone(indexed, monkeypatch, variable):
    monkeypatch.setenv(variable, "none")
    found, asked = settled(indexed, "torch==1.13.1+cu116")
    assert (found.backend, asked.packages) == ("", ["torch==1.13.1+cu116"])


@pytest.mark.parametrize(("backend", "url"), [
    ("cu121", "http://m/whl/cu121"), ("cpu", "http://m/whl/cpu"), ("rocm6.2", "http://m/whl/rocm6.2")])
def test_a_mirror_of_pytorchs_index_takes_its_place(indexed, monkeypatch, backend, url):
    monkeypatch.setattr(torch_backend, "here", lambda: backend)
    monkeypatch.setenv(KEY + "EXTRA_INDEX_URL_TEMPLATE", "http://m/whl/cu{}")
    monkeypatch.setenv(KEY + "ROCM_EXTRA_INDEX_URL_TEMPLATE", "http://m/whl/rocm{}")
    found, asked = settled(indexed, "torch")
    assert (found.backend, asked.options) == ("", [("--extra-index-url", url)])


def test_the_build_is_part_of_the_key(indexed, monkeypatch):
    keys = set()
    for version in ("11.8", "12.1", "0"):
        monkeypatch.setenv("CUDA_VERSION", version)
        keys.add(tuple(settled(indexed, "torch")[0].parts()))
    assert len(keys) == 3


@pytest.fixture
def away(indexed, monkeypatch):
    """PyTorch's index cannot be reached; the one of this machine can."""
    server, address = package_index.serve(indexed.index)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{address}/simple")
    # all that is not of this machine goes to a proxy that is not there
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    yield indexed
    server.shutdown()


def test_where_pytorchs_index_cannot_be_reached_the_others_have_to_do(away, monkeypatch):
    wheelhouse.wheel(away.index, "torch", "2.1.0")
    monkeypatch.setenv("CUDA_VERSION", "12.1")
    assert away.task("torch==2.1.0", options={"dry_run": True}) == {}
    assert "would install torch==2.1.0" in "".join(away.said)
    found = [away.task("torch==2.1.0") for _ in range(2)]
    assert [env["packages"] for env in found] == [["torch==2.1.0"]] * 2
    # what the others have stands in the cache; a moment's outage is no answer for all time
    assert [env["cached"] for env in found] == [False, True] and found[0]["base"] == found[1]["base"]
    said = "".join(away.said)
    assert "PyTorch for CUDA 12.1" in said and "the other indexes have to do" in said
    assert "for this task alone" not in said
    torch_backend._away.clear()
    os.utime(paths.cache("no-torch-index-cu121"), (1, 1))
    tries = said.count("building an environment")
    again = away.task("torch==2.1.0")
    assert (again["cached"], again["base"]) == (True, found[0]["base"])
    assert "".join(away.said).count("building an environment") == tries + 1  # it was asked, and then not built


def test_what_the_others_lack_is_no_fault_of_the_list_where_pytorchs_index_is_away(away, monkeypatch):
    monkeypatch.setenv("CUDA_VERSION", "0")
    for _ in range(2):  # asked, and then known to be away
        with pytest.raises(errors.Failure) as caught:
            away.task("torch==2.1.0")
        assert caught.value.exit == errors.UNAVAILABLE and not caught.value.change
        assert "PyTorch's index for CPUs cannot be reached" in caught.value.reason
        assert "out of the requirements" not in caught.value.remedy
    wheelhouse.wheel(away.index, "torch", "2.1.0")
    with pytest.raises(errors.Failure, match=r"^no package nosuchtea"):  # of which PyTorch's index says nothing
        away.task("torch==2.1.0\nnosuchtea")


def test_where_pip_installs_an_index_of_pytorch_that_is_away_costs_no_pin(away, monkeypatch):
    made = wheelhouse.wheel(away.index, "torch", "2.1.0")
    monkeypatch.setenv("CUDA_VERSION", "12.1")
    monkeypatch.setenv(KEY + "TYPE", "pip")
    env = away.task("torch==2.1.0")
    assert env["installer"] == "pip" and [pin["sha256"] for pin in env["pins"]] == [wheelhouse.sha256(made)]


def test_a_nightly_build_where_no_release_fits(indexed, monkeypatch):
    wheelhouse.wheel(os.path.join(indexed.folder, "nightly"), "torch", "9.1.dev1")
    wheelhouse.wheel(indexed.index, "torch", "2.1.0")
    servers = [package_index.serve(folder) for folder in (indexed.index, os.path.join(indexed.folder, "nightly"))]
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{servers[0][1]}/simple")
    monkeypatch.setenv(KEY + "TORCH_NIGHTLY", "true")
    monkeypatch.setenv(KEY + "PYTORCH_RESOLVE", "pip")
    monkeypatch.setenv(KEY + "EXTRA_INDEX_URL_TEMPLATE", f"http://{servers[0][1]}/simple")
    monkeypatch.setenv(KEY + "NIGHTLY_EXTRA_INDEX_URL_TEMPLATE", f"http://{servers[1][1]}/simple")
    assert indexed.task("torch>=9")["packages"] == ["torch==9.1.dev1"]
    assert "trying nightly builds" in "".join(indexed.said)
    for server, _ in servers:
        server.shutdown()


def test_nightly_builds_for_rocm_come_from_the_sites_mirror_too(monkeypatch):
    assert torch_backend.nightly_index("rocm6.2") == "https://download.pytorch.org/whl/nightly/rocm6.2"
    monkeypatch.setenv(KEY + "NIGHTLY_ROCM_EXTRA_INDEX_URL_TEMPLATE", "https://mirror.example.org/nightly/rocm{}")
    assert torch_backend.nightly_index("rocm6.2") == "https://mirror.example.org/nightly/rocm6.2"


def test_what_the_newest_build_has_not_is_looked_for_in_those_for_older_cuda(indexed, monkeypatch):
    # seen with driver 580 (CUDA 13.0), whose index begins with torch 2.9; that of CUDA 12.2 has none at all
    monkeypatch.setenv("CUDA_VERSION", "13.0")
    found, asked = settled(indexed, "torch==2.3.1\nsix==1.99.0")
    said = "error: No solution found: Because there is no version of torch==2.3.1 and you require torch==2.3.1, we …"
    assert found.backend == "cu130"
    assert "trying those for older CUDA" in ways._without_backend(failed("no_version", said, "torch"), asked, found)
    assert found.backend == "auto"
    assert "trying cpu" in ways._without_backend(failed("no_version", said, "torch"), asked, found)


def test_a_failure_that_is_not_about_torch_keeps_off_older_builds(indexed, monkeypatch):
    monkeypatch.setenv("CUDA_VERSION", "13.0")
    found, asked = settled(indexed, "torch==2.3.1\nsix==1.99.0")
    ways._without_backend(failed("no_version", "there is no version of six==1.99.0", "six"), asked, found)
    assert found.backend == "cpu"


def failed(kind, said, *names):
    found = uv_failures.InstallFailed(errors.Failure("no"), kind)
    found.said, found.names = said, set(names)
    return found


@pytest.mark.parametrize(("version", "first", "none"), [
    ("13.0", "cu130", "cu140"), ("12.2", "cu129", "cu130"), ("11.8", "cu118", "cu120")])
def test_uv_looks_at_every_build_that_the_driver_of_this_cuda_runs(indexed, monkeypatch, version, first, none):
    monkeypatch.setenv("CUDA_VERSION", version)
    job = indexed.job("torch")
    asked = requirements.of_task(job)
    said = []
    with pytest.raises(errors.Failure):
        uv._run(job, indexed.folder, asked, ["pip", "install", "--offline", "-vv", "--dry-run", "--target",
                                             indexed.folder, "--torch-backend", "auto", "torch"], said.append)
    text = "".join(said)
    assert f"/whl/{first}/torch/" in text and f"/whl/{none}/" not in text


@pytest.mark.parametrize(("backend", "words"), [("cu121", "CUDA 12.1"), ("cpu", "CPUs"), ("rocm6.2", "ROCm 6.2")])
def test_a_backend_for_people(backend, words):
    assert torch_backend.words(backend) == words
