"""Our reading of `docker run`'s arguments against the docker client's own, on a real engine: both create a container of
the same words, and `docker inspect` must show the same."""

import json
import os
import shlex
import subprocess

import pytest

from agentpipe.place import args_body, args_words

HERE = os.path.dirname(__file__)
IMAGE = "agentpipe-test/empty"
# the client's own: which streams it attaches, its terminal; what it says where nothing was said
CLIENTS = {"AttachStdin", "AttachStdout", "AttachStderr", "ConsoleSize", "RestartPolicy",
           "OpenStdin", "StdinOnce", "Tty", "AutoRemove"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """docker-py's low-level client of the test engine, which has an image without files."""
    import docker
    up = os.path.join(HERE, "docker-up.sh")
    host = subprocess.run([up], check=True, capture_output=True, text=True).stdout.strip()
    empty = tmp_path_factory.mktemp("image") / "empty.tar"
    subprocess.run(["tar", "-cf", empty, "--files-from", "/dev/null"], check=True)
    subprocess.run(["docker", "-H", host, "import", empty, IMAGE], check=True, capture_output=True)
    client = docker.APIClient(base_url=host)
    client.host = host
    yield client
    client.close()


def by_the_client(engine, words: list[str]) -> dict:
    argv = ["docker", "-H", engine.host, "create", *words, IMAGE, "true"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return inspected(engine, done.stdout.strip().splitlines()[-1])


def by_us(engine, words: list[str]) -> dict:
    made = args_body.of(args_words.parse(words))
    answer = engine.create_container_from_config({**made.config, "Image": IMAGE, "Cmd": ["true"]}, made.name,
                                                 made.platform)
    return inspected(engine, answer["Id"])


def inspected(engine, id: str) -> dict:
    found = engine.inspect_container(id)
    engine.remove_container(id, force=True, v=True)
    if found["Config"]["Hostname"] == id[:12]:
        found["Config"]["Hostname"] = ""
    found["Config"]["Env"] = sorted(found["Config"]["Env"] or [])  # the engine's order changes
    if found["HostConfig"]["Binds"]:  # the client's are a map's, and the engine mounts them by their depth
        found["HostConfig"]["Binds"].sort()
    found["HostConfig"]["Ulimits"] = sorted(found["HostConfig"]["Ulimits"] or [], key=str)  # the client's is a map's
    networks = {name: {key: each[key] for key in ("IPAMConfig", "Links", "Aliases", "DriverOpts")}
                for name, each in found["NetworkSettings"]["Networks"].items()}
    text = json.dumps([found["Config"], found["HostConfig"], networks, sorted(each["Destination"]
                                                                              for each in found["Mounts"])])
    return json.loads(text.replace(id[:12], "ID"))


def told(value):
    """Without what means nothing: null, [], "", 0, false."""
    if isinstance(value, dict):
        kept = {key: told(each) for key, each in value.items() if key not in CLIENTS}
        return {key: each for key, each in kept.items() if each}
    return [told(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("text", [
    "",
    "--ipc=host --shm-size 1g -e A=1 --env 'B=b c' -eC=3 -v /tmp:/data:ro -v named:/n -v /anonymous --network host",
    "-it --rm --privileged=false --init --read-only --tmpfs /run:size=1m --tmpfs /x --hostname me --domainname dom",
    "-p 18080:80 -p 127.0.0.1:19000-19001:90-91/tcp -p 70 -p 15353:53/udp --expose 100-102 -P -p 20000-20010:7000",
    "-p published=18081,target=81,protocol=tcp --add-host a:10.0.0.1 --add-host b=10.0.0.2",
    "-m 512m --memory-swap=1g --memory-reservation 0.25g --memory-swappiness 10 --cpus 0.5 --cpuset-cpus 0 -c 512",
    "--cpu-period 50000 --cpu-quota 25000 --pids-limit 100 --oom-score-adj 10 --blkio-weight 300 --oom-kill-disable",
    "--ulimit nofile=64:128 --ulimit core=0 --cap-add SYS_PTRACE --cap-drop ALL --security-opt seccomp=unconfined",
    "--security-opt no-new-privileges --security-opt systempaths=unconfined --group-add 44",
    "--device /dev/null --device /dev/zero:/dev/z --device /dev/full:rw --device-cgroup-rule 'c 42:* rwm'",
    "--gpus all", "--gpus 2", """--gpus '"device=0,GPU-1"'""", "--gpus 'device=1,\"capabilities=compute,utility\"'",
    "--mount type=bind,source=/tmp,target=/t,readonly,bind-propagation=rslave --dns 1.1.1.1 --dns-search x.org "
    "--mount type=tmpfs,dst=/s,tmpfs-size=1m,tmpfs-mode=1777",
    "--mount type=volume,src=vol,dst=/v,volume-nocopy --mount 'dst=/w,volume-label=a=b' --volumes-from ID",
    "--label a=1 -l b -l 'c=d e' --user 1000:1000 -w /work --stop-signal INT --stop-timeout 7",
    "--health-cmd 'curl x' --health-interval 1m30s --health-retries 2 --health-timeout 1.5s --health-start-period 5s",
    "--no-healthcheck --log-driver json-file --log-opt max-size=1m --log-opt max-file=2 --sysctl net.core.somaxconn=99",
    "--net ours --network-alias one --net-alias two --ip 10.213.0.9 --link other:o",
    "--network name=ours,alias=three,ip=10.213.0.8 --pid host --uts host --userns host --cgroupns host",
    "--device-read-bps /dev/null:1mb --device-write-iops /dev/null:10 --volume-driver local --cgroup-parent /x",
    "--env-file ENVFILE --label-file ENVFILE -e PLAIN=late --pull never --quiet -a stdout",
], ids=lambda text: text[:40])
def test_the_same_container(engine, tmp_path, text):
    (tmp_path / "env").write_text("\ufeff# comment\nPLAIN=early\n  OTHER=x y\nHOME\nNOT_SET_HERE\nQ='a # b' \r\nE=\n")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")  # one engine for all: names and addresses by worker
    there, net, block = f"other-{worker}", f"ours-{worker}", f"10.213.{worker[2:]}."
    text = text.replace("other", there).replace("ours", net).replace("10.213.0.", block)
    other = None
    if net in text or "ID" in text:
        other = engine.create_container_from_config({"Image": IMAGE, "Cmd": ["true"], "Volumes": {"/of-the-other": {}}},
                                                    there)["Id"]
    if net in text:
        engine.create_network(net, ipam={"Config": [{"Subnet": f"{block}0/24"}]})
        engine.connect_container_to_network(other, net)
    words = shlex.split(text.replace("ENVFILE", str(tmp_path / "env")).replace(" ID", f" {other}"))
    try:
        assert told(by_us(engine, words)) == told(by_the_client(engine, words))
    finally:
        if other:
            engine.remove_container(other, force=True, v=True)
        if net in text:
            engine.remove_network(net)


@pytest.mark.parametrize("text", ["--memory lots", "--nonsense", "-e A=1 image-by-mistake extra", "-p 1-3:4-5",
                                  "-v a:b:c:d", "--gpus colour=red", "--mount type=cow,dst=/b", "--ulimit cows=1",
                                  "--memory"])
def test_what_we_refuse_the_client_refuses(engine, text):
    from agentpipe import errors
    words = shlex.split(text)
    with pytest.raises(errors.Failure):
        args_body.of(args_words.parse(words))
    with pytest.raises(AssertionError):
        by_the_client(engine, words)


def test_in_a_container_ourselves_the_tasks_has_the_same_network(engine, monkeypatch):
    from agentpipe.place import nested
    ours = engine.create_container_from_config({"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}})
    try:
        made = {"Env": [], "HostConfig": {}}
        nested.beside(made, engine, ours["Id"])
        assert made["HostConfig"] == {}  # we are in none
        monkeypatch.setenv("CLEARML_AGENT_DOCKER_HOST_MOUNT", "/there:/here")
        monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "1")
        nested.beside(made, engine, ours["Id"])
        assert made == {"Env": ["NVIDIA_VISIBLE_DEVICES=1"], "HostConfig": {"NetworkMode": "none"}}
        made = {"Env": [], "HostConfig": {"NetworkMode": "host"}}
        nested.beside(made, engine, ours["Id"])
        assert made["HostConfig"]["NetworkMode"] == "host"
        nested.beside({"Env": [], "HostConfig": {}}, engine, "no-such-container")
    finally:
        engine.remove_container(ours["Id"], force=True)
