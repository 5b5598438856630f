"""What a container gets besides its arguments: caches, keys, AMD's devices, variables."""

import os
import subprocess
import sys

import pytest

from agentpipe import errors
from agentpipe.job import Job
from agentpipe.place import args_words, certificates, docker, gear, nested
from agentpipe.place.container_args import Args
from agentpipe.place.decide import Container
from agentpipe.settings import config


@pytest.fixture
def settings(tmp_path, monkeypatch):
    path = tmp_path / "clearml.conf"
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(path))
    for name in ("SSH_AUTH_SOCK", "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", *certificates.VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))

    def write(text: str) -> None:
        path.write_text(text)
        config.reload()
    write("")
    return write


@pytest.fixture
def job(tmp_path, settings):
    (tmp_path / "task").mkdir()
    found = Job({"task": {"id": "t1", "script": {"requirements": {"pip": "numpy"}}}, "pull": {"worker": "host:0"}},
                str(tmp_path / "task"))
    yield found
    found.close()


def body(**host) -> dict:
    return {"Env": [], "Labels": {}, "HostConfig": host}


def words(*text: str) -> Args:
    return Args(args_words.parse(list(text)), [])


def binds(made: dict) -> dict:
    return {each.split(":")[1]: each for each in made["HostConfig"].get("Binds") or []}


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def test_the_caches_of_pip_and_the_sdk_are_always_there(settings, agent_home):
    made = body()
    gear.caches(made, Container("docker"), words())
    assert binds(made) == {"/root/.cache/pip": f"{agent_home}/cache/containers/pip:/root/.cache/pip",
                           "/clearml_agent_cache": f"{agent_home}/cache/containers/sdk:/clearml_agent_cache"}
    assert os.path.isdir(f"{agent_home}/cache/containers/pip")


def test_where_they_stand_can_be_said(settings, tmp_path):
    settings(f'''agent {{ docker_pip_cache: "~/pips", docker_apt_cache: "{tmp_path}/apts", package_manager.type: poetry
        docker_internal_mounts {{ pip_cache: "/home/me/.cache/pip", apt_cache: "/apt", sdk_cache: "/sdk"
                                 poetry_cache: "/poetry" }} }}''')
    made = body()
    gear.caches(made, Container("docker", setup_script="apt-get install x"), words())
    found = binds(made)
    assert found["/home/me/.cache/pip"] == f"{tmp_path}/user/pips:/home/me/.cache/pip"
    assert found["/apt"] == f"{tmp_path}/apts:/apt"
    assert {"/sdk", "/poetry", "/var/lib/apt/lists", "/var/cache/dnf", "/var/cache/apk"} <= set(found)


def test_system_packages_are_cached_only_where_they_are_spoken_of(settings):
    made = body()
    gear.caches(made, Container("docker"), words("-e", "CLEARML_APT_INSTALL=git"))
    assert "/var/cache/apt/archives" in binds(made)
    made = body()
    gear.caches(made, Container("docker", setup_script="echo 1"), words())
    assert "/var/cache/apt/archives" not in binds(made)


def test_who_is_neither_root_nor_we_gets_a_folder_for_the_sdk_in_which_he_can_write(settings, agent_home, tmp_path):
    made = body()
    gear.caches(made, Container("docker"), words(), "some/body")
    folder = f"{agent_home}/cache/containers/sdk.some-body"
    assert binds(made)["/clearml_agent_cache"] == f"{folder}:/clearml_agent_cache"
    assert os.stat(folder).st_mode & 0o777 == 0o777
    (tmp_path / "operators").mkdir(mode=0o755)
    settings(f'sdk.storage.cache.default_base_dir: "{tmp_path}/operators"')
    made = body()
    gear.caches(made, Container("docker"), words(), "1234")
    assert binds(made)["/clearml_agent_cache"] == f"{tmp_path}/operators:/clearml_agent_cache"
    assert os.stat(tmp_path / "operators").st_mode & 0o777 == 0o755


def test_what_the_tasks_own_arguments_mount_stays(settings):
    made = body(Binds=["/mine:/root/.cache/pip/"], Mounts=[{"Target": "/clearml_agent_cache"}])
    gear.caches(made, Container("docker"), words())
    assert made["HostConfig"]["Binds"] == ["/mine:/root/.cache/pip/"]  # else the engine sees it twice, and refuses


def test_two_that_set_up_at_once_do_not_share_apts_folder(settings, agent_home):
    """apt's lock on its archives does not wait: the second would fail."""
    container = Container("docker", setup_script="apt-get install x")
    script = ("import sys\nfrom agentpipe.place import gear, decide, container_args\n"
              "made = {'Env': [], 'HostConfig': {}}\n"
              "gear.caches(made, decide.Container('docker', setup_script='apt'), container_args.Args([], []))\n"
              "print([each for each in made['HostConfig']['Binds'] if 'archives' in each][0], flush=True)\n"
              "sys.stdin.read()")
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline().startswith(f"{agent_home}/cache/containers/apt:")
    made = body()
    gear.caches(made, container, words())
    assert binds(made)["/var/cache/apt/archives"].startswith(f"{agent_home}/cache/containers/apt.1:")
    other.communicate()
    made = body()
    gear.caches(made, container, words())
    assert binds(made)["/var/cache/apt/archives"].startswith(f"{agent_home}/cache/containers/apt:")


def test_the_socket_of_an_ssh_agent_goes_in_and_no_keys(job, tmp_path, monkeypatch):
    (tmp_path / "user" / ".ssh").mkdir(parents=True)
    (tmp_path / "sock").touch()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "sock"))
    made = body()
    gear.ssh(made, job, Container("docker", setup_script="git clone git@host:x"))
    assert list(binds(made)) == [str(tmp_path / "sock")]
    assert made["Env"] == [f"SSH_AUTH_SOCK={tmp_path}/sock"]


def test_keys_go_in_read_only_where_they_are_needed_and_allowed(job, tmp_path, settings, monkeypatch):
    (tmp_path / "user" / ".ssh").mkdir(parents=True)

    def found(script: str) -> dict:
        made = body()
        gear.ssh(made, job, Container("docker", setup_script=script))
        return binds(made)
    assert found("echo 1") == {}
    assert found("git clone git@host:x") == {"/root/.ssh": f"{tmp_path}/user/.ssh:/root/.ssh:ro"}
    job.task["script"]["requirements"]["pip"] = "x @ git+ssh://host/x"
    assert "/root/.ssh" in found("")
    settings('agent.docker_internal_mounts.ssh_folder: "/home/me/.ssh"')
    assert list(found("")) == ["/home/me/.ssh"]
    settings("agent.disable_ssh_mount: true")
    assert found("") == {}
    settings("")
    monkeypatch.setenv("CLEARML_AGENT_DISABLE_SSH_MOUNT", "1")
    assert found("") == {}


def test_settings_of_ssh_that_are_anothers_stay_outside(job, tmp_path):
    """ssh ends at once where root's own belong to somebody else."""
    folder = tmp_path / "user" / ".ssh"
    folder.mkdir(parents=True)
    wanted = Container("docker", setup_script="git clone git@host:x")
    for name in ("id_ed25519", "config", "me@host:22"):
        (folder / name).touch()
    for is_others, expected in ((False, {"/root/.ssh": f"{folder}:/root/.ssh:ro"}), (True, {
            "/root/.ssh/id_ed25519": f"{folder}/id_ed25519:/root/.ssh/id_ed25519:ro"})):
        made = body()
        gear.ssh(made, job, wanted, is_others)
        assert binds(made) == expected


def test_amds_devices_all_or_those_that_are_named(tmp_path, settings, monkeypatch):
    (tmp_path / "dev" / "dri").mkdir(parents=True)
    assert not gear.is_amd(str(tmp_path))
    for name in ("kfd", "dri/card0", "dri/renderD128", "dri/renderD129"):
        (tmp_path / "dev" / name).touch()
    assert gear.is_amd(str(tmp_path))
    made = body()
    gear.amd(made, str(tmp_path))
    assert [each["PathOnHost"] for each in made["HostConfig"]["Devices"]] == [
        "/dev/kfd", "/dev/dri/renderD128", "/dev/dri/renderD129"]
    assert made["HostConfig"]["GroupAdd"] == ["video"] and made["Env"] == []
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "1,3")
    made = body()
    gear.amd(made, str(tmp_path))
    assert [each["PathOnHost"] for each in made["HostConfig"]["Devices"]] == [
        "/dev/kfd", "/dev/dri/renderD129", "/dev/dri/renderD131"]
    assert made["Env"] == ["HIP_VISIBLE_DEVICES=1,3", "ROCR_VISIBLE_DEVICES=1,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")  # which counts where both are set
    made = body()
    gear.amd(made, str(tmp_path))
    assert made["Env"] == ["HIP_VISIBLE_DEVICES=1", "ROCR_VISIBLE_DEVICES=1"]
    for name, value in (("CUDA_VISIBLE_DEVICES", ""), ("NVIDIA_VISIBLE_DEVICES", "none")):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.delenv("NVIDIA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv(name, value)
        made = body()
        gear.amd(made, str(tmp_path))
        assert made == body()
    (tmp_path / "dev" / "nvidia0").touch()
    assert not gear.is_amd(str(tmp_path))


def test_the_variables_of_the_peer(job, monkeypatch):
    monkeypatch.setenv("CLEARML_WORKER_TAGS", "a b")
    made = body()
    made["Env"] = ["CLEARML_WORKER_ID=mine"]
    job.manifest["pull"]["worker"] = "w:service:t1"
    gear.variables(made, job, Container("docker", "i:1"))
    assert made["Env"] == ["CLEARML_WORKER_ID=mine", "CLEARML_DOCKER_IMAGE=i:1", "CLEARML_TASK_ID=t1",
                           "CLEARML_WORKER_TAGS=a b", "CLEARML_AGENT_SERVICE_TASK=1"]


def test_private_certificates_are_found_inside_whoever_the_image_runs_as(job, settings, tmp_path, monkeypatch):
    (tmp_path / "ca.pem").write_text("ours")
    (tmp_path / "other.pem").write_text("of the setting")
    (tmp_path / "ca.pem").chmod(0o600)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("CURL_CA_BUNDLE", "/nowhere")

    def inside() -> dict:
        made = body()
        made["Env"] = ["REQUESTS_CA_BUNDLE=/of/the/task"]
        gear.variables(made, job, Container("docker", "i:1"))
        return dict(each.split("=", 1) for each in made["Env"] if each.split("=")[0] in certificates.VARIABLES)
    found = inside()
    assert set(found) == {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}
    assert found["REQUESTS_CA_BUNDLE"] == "/of/the/task"
    copy = found["SSL_CERT_FILE"]
    assert os.path.dirname(copy) == job.directory and read(copy) == "ours"
    assert os.stat(copy).st_mode & 0o777 == 0o644
    settings(f'agent.bootstrap.map_external_ssl_cert: "{tmp_path}/other.pem"')
    found = inside()
    assert read(found["SSL_CERT_FILE"]) == "of the setting" and found["CURL_CA_BUNDLE"] == found["SSL_CERT_FILE"]
    settings('agent.bootstrap.map_external_ssl_cert: "/nowhere.pem"')
    with pytest.raises(errors.Failure, match=r"map_external_ssl_cert: there is no file /nowhere\.pem"):
        inside()


def test_the_authority_of_the_server_is_named_where_the_script_can_read_it(job, settings, tmp_path):
    (tmp_path / "ca.pem").write_text("ours")
    where = docker.Container({"kind": "docker", "prefix": ["docker", "exec", "c"]}, job.directory)
    assert "api.verify_certificate" not in where.settings()
    settings(f'api.verify_certificate: "{tmp_path}/ca.pem"')
    assert read(where.settings()["api.verify_certificate"]) == "ours"


def test_in_a_container_of_our_own_paths_are_those_of_the_engines_machine(monkeypatch):
    assert nested.outside("/root/.clearml/x") == "/root/.clearml/x"
    monkeypatch.setenv("CLEARML_AGENT_DOCKER_HOST_MOUNT", "/mnt/host/data:/root/.clearml")
    assert nested.outside("/root/.clearml/x/y") == "/mnt/host/data/x/y"
    assert nested.outside("/root/.clearml") == "/mnt/host/data"
    for path in ("/root/.clearml-other", "/elsewhere"):
        with pytest.raises(errors.Failure) as caught:
            nested.outside(path)
        assert caught.value.exit == errors.BAD_CONFIG
    monkeypatch.setenv("CLEARML_AGENT_K8S_HOST_MOUNT", "/a:/b")
    assert nested.outside("/b/c") == "/a/c"


def test_a_program_of_ours_is_lent_by_a_copy_where_the_engine_can_see_it(tmp_path, agent_home, monkeypatch):
    (tmp_path / "uv").write_text("a program")
    (tmp_path / "uv").chmod(0o755)
    assert nested.lent(str(tmp_path / "uv")) == str(tmp_path / "uv")
    monkeypatch.setenv("CLEARML_AGENT_DOCKER_HOST_MOUNT", f"/there:{agent_home}")
    found = nested.lent(str(tmp_path / "uv"))
    assert found.startswith("/there/cache/containers/files/") and found == nested.lent(str(tmp_path / "uv"))
    copy = found.replace("/there", str(agent_home), 1)
    assert os.path.getsize(copy) == 9 and os.access(copy, os.X_OK)
    assert nested.lent(str(tmp_path)) is None


def test_all_together(job, agent_home):
    made = body()
    gear.add(made, job, Container("docker", "i:1"), words())
    assert "CLEARML_TASK_ID=t1" in made["Env"]
    assert "/root/.cache/pip" in binds(made)
    assert nested.in_pod({"KUBERNETES_SERVICE_HOST": "x", "KUBERNETES_PORT": "1"}) and not nested.in_pod({})


def test_the_python_of_a_container_can_be_named(job):
    assert gear.local_python(job.directory, {}) == ""
    assert gear.local_python(job.directory, {"arguments": "--env A=1 --env 'LOCAL_PYTHON=/opt/a b/python'"}) == \
        "/opt/a b/python"
    os.mkdir(job.path("setup"))
    for name, text in (("before", "A=1"), ("environment", "A=1\0LOCAL_PYTHON=/opt/python")):
        with open(job.path("setup", name), "w") as file:
            file.write(text)
    assert gear.local_python(job.directory, {"arguments": "--env LOCAL_PYTHON=/other"}) == "/opt/python"


@pytest.mark.parametrize("given", ["banana", "/there", "/there:", ":/here", "there:/here"])
def test_a_folder_of_the_engines_machine_is_two_absolute_paths(given, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_DOCKER_HOST_MOUNT", given)
    with pytest.raises(errors.Failure) as raised:
        nested.outside("/here/it")
    assert (raised.value.exit, raised.value.reason) == (
        78, f"CLEARML_AGENT_DOCKER_HOST_MOUNT is {given}, no THERE:HERE of absolute paths")
