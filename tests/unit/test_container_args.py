"""Arguments as `docker run` spells them: read, filtered, put together, and made into the Engine API's body."""

import json
import shlex
import socket
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe import errors
from agentpipe.configure import config_check
from agentpipe.job import Job
from agentpipe.place import args_body, args_values, args_words, container_args, own_settings, ports
from agentpipe.place.decide import Container
from agentpipe.settings import config


def pairs(text: str) -> list:
    return [(option.name, option.value) for option in args_words.parse(shlex.split(text))]


def body(text: str) -> dict:
    return args_body.of(args_words.parse(shlex.split(text))).config


@pytest.mark.parametrize("text, expected", [
    ("--ipc=host", [("ipc", "host")]), ("--ipc host", [("ipc", "host")]), ("--net=host", [("network", "host")]),
    ("-e A=1", [("env", "A=1")]), ("-eA=1", [("env", "A=1")]), ("-e=A=1", [("env", "A=1")]),
    ("--env=A=b=c", [("env", "A=b=c")]), ("--env 'A=b c'", [("env", "A=b c")]), ("-e -x", [("env", "-x")]),
    ("-it", [("interactive", "true"), ("tty", "true")]),
    ("-itv /a:/b --rm", [("interactive", "true"), ("tty", "true"), ("volume", "/a:/b"), ("rm", "true")]),
    ("-iv/a:/b", [("interactive", "true"), ("volume", "/a:/b")]), ("-m=2g", [("memory", "2g")]),
    ("--privileged=false", [("privileged", "false")]), ("-t=0", [("tty", "false")]), ("", []),
])
def test_every_spelling_of_docker_run_is_read(text, expected):
    assert pairs(text) == expected


@pytest.mark.parametrize("text, named", [
    ("--no-such=1", "--no-such"), ("-e A=1 B=2", "'B=2'"), ("image", "'image'"), ("--ipc", "--ipc"), ("-z", "-z"),
    ("--privileged=maybe", "--privileged=maybe"), ("--", "'--'"), ("-", "'-'"), ("--privileged false", "'false'"),
])
def test_what_docker_run_would_not_take_is_named(text, named):
    with pytest.raises(errors.Failure) as caught:
        pairs(text)
    assert named in caught.value.reason and caught.value.exit == errors.BAD_DATA


@pytest.mark.parametrize("text, remedy", [
    ("--nv", "--gpus all, which Apptainer gets as its --nv"), ("-B /a:/b", "-v SOURCE:TARGET, which Apptainer gets"),
    ("--bind=/a:/b", "-v SOURCE:TARGET, which Apptainer gets as its --bind"),
    ("--nvx", "mend the arguments of the container (docker run --help): agent-task edit --docker-args")])
def test_what_apptainer_calls_otherwise_is_told_in_dockers_words(text, remedy):
    with pytest.raises(errors.Failure) as caught:
        pairs(text)
    assert caught.value.remedy.startswith(remedy)


NAMES = st.sampled_from([*args_words.SWITCHES, *args_words.VALUED])
OPTIONS = st.lists(st.tuples(NAMES, st.text(min_size=1).filter(
    lambda text: not text.startswith("=") and "\0" not in text)))


@given(OPTIONS)
def test_what_is_written_is_read_again_whatever_the_spelling(options):
    wanted, spelled = [], []
    for number, (name, value) in enumerate(options):
        if name in args_words.SWITCHES:
            value = ("true", "false")[number % 2]
            spelled.append(f"--{name}={value}")
        elif number % 3 == 0:
            spelled += [f"--{name}", value]
        elif number % 3 == 1 or not args_words.VALUED[name]:
            spelled.append(f"--{name}={value}")
        else:
            spelled.append(f"-{args_words.VALUED[name]}{value}")
        wanted.append((name, value))
    found = args_words.parse(spelled)
    assert [(option.name, option.value) for option in found] == wanted
    assert [(each.name, each.value) for each in args_words.parse(args_words.words(found))] == wanted


@given(st.lists(st.text(max_size=12)))
def test_any_words_are_options_or_a_failure(words):
    try:
        made = args_body.of(args_words.parse(words))
    except errors.Failure as failure:
        assert failure.exit == errors.BAD_DATA
    else:
        assert isinstance(made.config, dict)


@pytest.mark.parametrize("text, path, expected", [
    ("--shm-size 1.5g", "HostConfig.ShmSize", 1610612736), ("-m 64m", "HostConfig.Memory", 67108864),
    ("--memory-swap -1", "HostConfig.MemorySwap", -1), ("--cpus 1.5", "HostConfig.NanoCpus", 1500000000),
    ("--ulimit nofile=1024:2048", "HostConfig.Ulimits", [{"Name": "nofile", "Soft": 1024, "Hard": 2048}]),
    ("--ulimit memlock=-1", "HostConfig.Ulimits", [{"Name": "memlock", "Soft": -1, "Hard": -1}]),
    ("-v /a:/b:ro -v data:/d", "HostConfig.Binds", ["/a:/b:ro", "data:/d"]), ("-v /data", "Volumes", {"/data": {}}),
    ("-p 8080:80", "HostConfig.PortBindings", {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
    ("-p 127.0.0.1::53/udp", "HostConfig.PortBindings", {"53/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}),
    ("-p [::1]:9000-9001:90-91", "HostConfig.PortBindings", {"90/tcp": [{"HostIp": "::1", "HostPort": "9000"}],
                                                             "91/tcp": [{"HostIp": "::1", "HostPort": "9001"}]}),
    ("--gpus all", "HostConfig.DeviceRequests.0.Count", -1),
    ("""--gpus '"device=0,2"'""", "HostConfig.DeviceRequests.0.DeviceIDs", ["0", "2"]),
    ("--gpus device=0,2", "HostConfig.DeviceRequests.0.DeviceIDs", ["0", "2"]),
    ("--gpus '2,\"capabilities=compute,utility\"'", "HostConfig.DeviceRequests.0.Capabilities",
     [["compute", "utility", "gpu"]]),
    ("--device /dev/kfd", "HostConfig.Devices.0.PathInContainer", "/dev/kfd"),
    ("--device /dev/a:/dev/b:r", "HostConfig.Devices.0.CgroupPermissions", "r"),
    ("--device nvidia.com/gpu=all", "HostConfig.DeviceRequests",
     [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]),
    ("--user 1000:1000", "User", "1000:1000"), ("--privileged", "HostConfig.Privileged", True),
    ("--health-interval 1m30s", "Healthcheck", {"Interval": 90000000000, "Test": []}),
    ("--label a=1 -l b", "Labels", {"a": "1", "b": ""}), ("-e A=1 -e B=2", "Env", ["A=1", "B=2"]),
    ("--network host", "HostConfig.NetworkMode", "host"), ("--ipc a --ipc b", "HostConfig.IpcMode", "b"),
    ("--mount type=bind,src=/a,dst=/b,readonly", "HostConfig.Mounts",
     [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}]),
    ("--security-opt systempaths=unconfined", "HostConfig.MaskedPaths", []),
    ("--sysctl net.core.somaxconn=9 --log-opt max-size=1m", "HostConfig.LogConfig", {"Config": {"max-size": "1m"}}),
])
def test_an_option_is_the_apis_field(text, path, expected):
    found = reduce(lambda tree, name: tree[int(name) if name.isdigit() else name], path.split("."), body(text))
    assert found == expected


@pytest.mark.parametrize("text", [
    "--memory lots", "--cpus 0.00000000001", "--cpus 1/0", "--ulimit cows=1", "--ulimit nofile=9:1", "--device a:b:c:d",
    "-p 80:90:100:110", "-p 99999:1", "-p 1-3:4-5", "-p 80/ipx", "-p ::1:80:80", "-v relative:path", "-v ./a:/b",
    "-v ~/a:/b", "--cpus 1e999999999", "--cpus 1e-999999999", "--memory " + "9" * 400,
    "--health-interval " + "1" * 400 + "s", "--health-interval " + "1" * 200_000, "-p 1..2:80:80", "-p name:80:80",
    "--mount type=bind,src=a,dst=/b", "--mount type=cow,dst=/b", "--mount type=bind,src=/a,dst=/b,tmpfs-size=1",
    "--mount 'type=bind\rx'", "--gpus 'device=0\rx'", "--gpus '\"options=a=1\rx\"'",
    "--gpus some", "--gpus count=1,device=0", "--gpus colour=red", "--health-interval soon", "--pull sometimes",
    "--env-file /no/such", "--security-opt seccomp=/no/such", "--security-opt wrong", "--security-opt apparmor=",
    "--sysctl =1",
    "--network alias=x",
    "--entrypoint sh", "--restart always", "--isolation hyperv", "--cidfile x", "--no-healthcheck --health-cmd x",
])
def test_what_the_api_cannot_express_is_refused_and_named(text):
    with pytest.raises(errors.Failure) as caught:
        body(text)
    names = {word.partition("=")[0] for word in text.split(" ") if word.startswith("-")}
    long = {"-p": "--publish", "-v": "--volume"}
    assert any(long.get(name, name) in caught.value.reason for name in names)


def test_a_nul_which_no_program_can_be_given_is_refused():
    with pytest.raises(errors.Failure, match="NUL") as caught:
        args_words.parse(["--env-file", "a\0b"])
    assert caught.value.exit == errors.BAD_DATA


def test_of_several_values_the_wrong_one_is_named():
    with pytest.raises(errors.Failure) as caught:
        body("-v data:/data -v ./x:/y")
    assert caught.value.reason == "--volume ./x:/y: the path on this machine is not absolute"


def test_a_value_of_a_secret_is_not_in_the_failure():
    with pytest.raises(errors.Failure) as caught:
        container_args.api(container_args.Args(args_words.parse(["-e", "TOKEN=s3cret", "--memory", "x"]), []))
    assert "s3cret" not in caught.value.reason


def test_name_platform_and_pull_are_not_of_the_body():
    made = args_body.of(args_words.parse(shlex.split("--name n --platform linux/amd64 --pull always --rm -it")))
    assert (made.name, made.platform, made.pull) == ("n", "linux/amd64", "always")
    assert made.config == {"Env": [], "Labels": {}, "HostConfig": {}}


def test_env_files_count_less_than_what_the_words_say(tmp_path):
    (tmp_path / "env").write_text("# a comment\n\nA=file\nB=b c\n")
    assert body(f"-e A=word --env-file {tmp_path}/env")["Env"] == ["A=file", "B=b c", "A=word"]


def test_an_env_file_is_read_as_the_client_does(tmp_path, monkeypatch):
    monkeypatch.setenv("OURS", "value")
    monkeypatch.delenv("NOT_OURS", raising=False)
    (tmp_path / "env").write_bytes(b"\xef\xbb\xbf  # a comment\r\n\t \n A='quoted' # no comment \r\nB=\"x=y\"\n C= c\n"
                                   b"OURS\nNOT_OURS\nD=1\x0b2\xe2\x80\xa83\nE=")
    assert body(f"--env-file {tmp_path}/env")["Env"] == [
        "A='quoted' # no comment ", 'B="x=y"', "C= c", "OURS=value", "D=1\x0b2\u20283", "E="]


@pytest.mark.parametrize("line", [b"A B=s3cret", b"A =s3cret", b"=s3cret", b"A\t", b"s3cret\xff=1"])
def test_what_the_client_refuses_in_an_env_file_is_refused_without_showing_it(tmp_path, line):
    (tmp_path / "env").write_bytes(b"OK=1\n" + line + b"\n")
    for option in ("--env-file", "--label-file"):
        with pytest.raises(errors.Failure) as caught:
            body(f"{option} {tmp_path}/env")
        assert f"{tmp_path}/env" in caught.value.reason and "s3cret" not in caught.value.reason


@pytest.mark.parametrize("between", "=:")
def test_a_seccomp_profile_is_sent_as_what_stands_in_it(tmp_path, between):
    (tmp_path / "profile").write_text('{ "defaultAction": "SCMP_ACT_ALLOW" }')
    assert body(f"--security-opt seccomp{between}{tmp_path}/profile")["HostConfig"]["SecurityOpt"] == [
        'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']
    (tmp_path / "profile").write_text("root:s3cret")
    with pytest.raises(errors.Failure) as caught:
        body(f"--security-opt seccomp{between}{tmp_path}/profile")
    assert "s3cret" not in str(caught.value) + caught.value.evidence


# --- what the operator's settings make of them ------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path, monkeypatch):
    path = tmp_path / "clearml.conf"
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(path))

    def write(text: str) -> None:
        path.write_text(text)
        config.reload()
    write("")
    return write


@pytest.fixture
def arguments(tmp_path, settings):
    """arguments("-e A=1") of a task: the Args."""
    job = Job({"task": {"id": "t1", "name": "n"}}, str(tmp_path))
    job.tell = None

    def make(text: str, own: bool = True, taken=lambda ip, port: False) -> container_args.Args:
        container = Container("docker", "i:1", shlex.split(text))
        container.own = own
        return container_args.arguments(job, container, taken)
    yield make
    job.close()


def values(args: container_args.Args, name: str) -> list[str]:
    return [option.value for option in args.options if option.name == name]


def test_the_operators_arguments_come_first_and_the_variable_replaces_the_key(arguments, settings, monkeypatch):
    settings('agent.extra_docker_arguments: ["-e", "WHO=${CLEARML_TASK.name}", "--ipc=host"]')
    assert arguments("-e A=1").words == ["--env", "WHO=n", "--ipc", "host", "--env", "A=1"]
    monkeypatch.setenv("CLEARML_AGENT_EXTRA_DOCKER_ARGS", "--shm-size=1g -e 'X=a b'")
    assert arguments("").words == ["--shm-size", "1g", "--env", "X=a b"]


def test_for_protected_options_the_operators_value_wins(arguments, settings):
    settings('agent.extra_docker_arguments: ["--network=none", "--memory=1g"]')
    found = arguments("--net host --memory 2g --ipc host")
    assert values(found, "network") == ["none"]
    assert values(found, "memory") == ["1g", "2g"]
    assert values(found, "ipc") == ["host"]


def test_or_the_tasks(arguments, settings):
    settings('agent { extra_docker_arguments: ["--network=none", "-v", "/a:/a"]\n'
             ' docker_args_extra_precedes_task: false }')
    found = arguments("--net host -v /b:/b")
    assert values(found, "network") == ["host"]
    assert values(found, "volume") == ["/b:/b", "/a:/a"]


def test_that_none_is_protected_can_be_said(arguments, settings):
    settings('agent { extra_docker_arguments: ["--network=none"], protected_docker_extra_args: [] }')
    assert values(arguments("--net host"), "network") == ["none", "host"]


def test_which_options_are_protected_can_be_said(arguments, settings):
    settings('agent { extra_docker_arguments: ["-v", "/a:/a"], protected_docker_extra_args: ["v", "cap-add"] }')
    assert values(arguments("--volume /:/host"), "volume") == ["/a:/a"]


def test_forbidden_options_are_cut_and_said(arguments, settings):
    found = arguments("--entrypoint sh -e A=1")
    assert found.words == ["--env", "A=1"]
    assert any("--entrypoint" in note for note in found.notes)
    settings('agent { forbidden_docker_args: ["v", "privileged"], extra_docker_arguments: "--privileged" }')
    found = arguments("-iv/:/host --entrypoint sh --privileged --init")
    assert found.words == ["--interactive", "--init"]


@pytest.mark.parametrize("filters, text, kept", [
    ('["^--env$", "^-e$"]', "-e A=1 --env B=2 --env=C=3 -v /:/h", ["A=1", "B=2"]),
    ('["^--env"]', "--env=C=3 --env-file /etc/passwd", ["C=3"]),
    ('["^-e"]', "-eA=1 -ie B=2", ["A=1", "B=2"]),
])
def test_the_white_list_lets_through_what_it_fits_as_it_is_spelled(arguments, settings, filters, text, kept):
    settings(f"agent.docker_args_filters: {filters}")
    if "env-file" in text:
        text = text.replace(" --env-file /etc/passwd", "")
    found = arguments(text)
    assert values(found, "env") == kept
    assert values(found, "volume") == []


def test_a_switch_in_a_cluster_does_not_smuggle_a_volume_past_the_white_list(arguments, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_DOCKER_ARGS_FILTERS", "'^-i' '^-t'")
    found = arguments("-itv /:/host")
    assert found.words == ["--interactive", "--tty"]
    assert any("--volume" in note for note in found.notes)
    # the operator's own are not filtered
    assert arguments("-v /a:/a", own=False).words == ["--volume", "/a:/a"]


def test_tasks_read_no_variables_of_the_host_unless_they_may(arguments, settings, monkeypatch):
    monkeypatch.setenv("OURS", "value")
    found = arguments("-e A=$OURS -e OURS")
    assert found.words == ["--env", "A=$OURS"]
    assert any("docker_allow_host_environ" in note for note in found.notes)
    settings("agent.docker_allow_host_environ: true")
    assert arguments("-e A=$OURS -e B=${OURS}x$NO -e OURS -e NO").words == [
        "--env", "A=value", "--env", "B=valuex$NO", "--env", "OURS=value"]


@pytest.fixture
def files(tmp_path):
    """Files of the agent's user, of which a task knows the paths."""
    (tmp_path / "env").write_text("A=1\nOURS\n")
    (tmp_path / "profile").write_text("{}")
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "env").write_text("A=1\nOURS\n")
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "env")
    return str(tmp_path)


@pytest.mark.parametrize("text", ["--env-file {}/env", "--label-file={}/env", "--security-opt seccomp={}/profile",
                                  "--security-opt seccomp:{}/profile", "--env-file {}/allowed/../env",
                                  "--env-file {}/allowed/link", "--env-file {}/none"])
def test_a_tasks_arguments_name_no_files_of_the_machine(arguments, files, monkeypatch, text):
    monkeypatch.setenv("AGENT_TASK_FILES", f"/nowhere:{files}/allowed:")
    with pytest.raises(errors.Failure) as caught:
        arguments(text.format(files))
    assert caught.value.exit == errors.BAD_DATA and "may not name this file" in caught.value.reason
    assert "AGENT_TASK_FILES=" in caught.value.remedy
    arguments(text.format(files), own=False)


def test_but_for_those_that_the_operator_allows_or_names(arguments, files, settings, monkeypatch):
    monkeypatch.setenv("AGENT_TASK_FILES", f"{files}/allowed")
    arguments(f"--env-file {files}/allowed/env --security-opt seccomp=unconfined --security-opt no-new-privileges")
    for text in (f'agent.extra_docker_arguments: ["--env-file", "{files}/env"]',
                 f'agent.default_docker {{ image: "i:1", arguments: "--env-file {files}/env" }}',
                 f'agent.default_docker.image: "i:1 --env-file {files}/env"',
                 f'agent.default_docker.match_rules: [{{image: "i:1", arguments: "--env-file {files}/env"}}]'):
        settings(text)  # it is written back to the task, which is enqueued again
        arguments(f"--env-file {files}/env")
    settings("agent.forbidden_docker_args: [env-file]")
    assert arguments(f"--env-file {files}/env").words == []


def test_a_name_alone_in_a_tasks_env_file_takes_over_what_dash_e_may(arguments, files, settings, monkeypatch):
    monkeypatch.setenv("AGENT_TASK_FILES", files)
    monkeypatch.setenv("OURS", "value")
    text = f"--env-file {files}/env"
    assert container_args.api(arguments(text)).config["Env"] == ["A=1"]
    assert container_args.api(arguments(text, own=False)).config["Env"] == ["A=1", "OURS=value"]
    settings("agent.docker_allow_host_environ: true")
    assert container_args.api(arguments(text)).config["Env"] == ["A=1", "OURS=value"]


def test_the_operators_arguments_always_do(arguments, settings, monkeypatch):
    monkeypatch.setenv("OURS", "value")
    settings('agent.extra_docker_arguments: ["-e", "A=$OURS"]')
    assert arguments("").words == ["--env", "A=value"]
    assert arguments("-e B=$OURS", own=False).words[-1] == "B=value"


def test_the_operators_mistakes_are_of_the_configuration(arguments, settings):
    settings('agent.extra_docker_arguments: ["--nonsense"]')
    with pytest.raises(errors.Failure) as caught:
        arguments("")
    assert caught.value.exit == errors.BAD_CONFIG
    settings('agent.docker_args_filters: ["("]')
    with pytest.raises(errors.Failure) as caught:
        arguments("-i")
    assert caught.value.exit == errors.BAD_CONFIG


@pytest.mark.parametrize("theirs", ["--memory lots", "-v data:relative:ro", "--restart always"])
def test_what_the_operator_cannot_mean_is_not_the_tasks_fault(arguments, settings, theirs):
    settings(f"agent.extra_docker_arguments: {json.dumps(theirs.split())}")
    for text, own in (("-e A=1", True), ("", False)):
        with pytest.raises(errors.Failure) as caught:
            container_args.api(arguments(text, own))
        assert caught.value.exit == errors.BAD_CONFIG
        assert "agent-task" not in caught.value.remedy
    settings("")
    for own, code in ((True, errors.BAD_DATA), (False, errors.BAD_CONFIG)):
        with pytest.raises(errors.Failure) as caught:
            container_args.api(arguments(theirs, own))
        assert caught.value.exit == code


@pytest.mark.parametrize("wrong", [
    'default_docker.match_rules: { image: "x" }', 'extra_docker_arguments: ["--gpsu"]',
    'extra_docker_arguments: ["--memory", "lots"]', 'default_docker.arguments: ["--shm-size=much"]',
    'docker_args_filters: ["["]', 'docker_internal_mounts.sdk_cache: "relative"',
    'docker_internal_mounts.ssh_folder: "ssh"', 'docker_args_allowed_port_range: "nope"'])
def test_settings_that_every_container_would_be_refused_for_are_seen_without_a_task(settings, wrong):
    assert list(own_settings.wrong()) == []
    settings(f"agent.{wrong}")
    found = list(own_settings.wrong())
    assert [each.exit for each in found] == [errors.BAD_CONFIG]
    assert [each.text for each in config_check.files() if each.level == "wrong"] == [found[0].reason]


def test_what_an_operator_may_write_is_not_refused_without_a_task(settings, monkeypatch):
    monkeypatch.delenv("OURS", raising=False)
    settings("""agent { extra_docker_arguments: ["-e", "TASK=${CLEARML_TASK.id}", "--memory", "${CLEARML_CONFIG.m}",
        "-e", "OURS", "-e", "B=$OURS", "--entrypoint", "sh", "--ipc=host"]
        default_docker { arguments: "--shm-size 2g", match_rules: [ { image: "x", match { project: "y" } } ] }
        docker_args_filters: ["^--env"], docker_args_allowed_port_range: [20000, 20100]
        docker_internal_mounts { sdk_cache: "/sdk", ssh_folder: "/home/me/.ssh" } }""")
    assert list(own_settings.wrong()) == []
    settings('agent.extra_docker_arguments: ["${CLEARML_CONFIG.words}"]')
    assert list(own_settings.wrong()) == []


def test_a_port_that_is_taken_is_moved_and_the_task_is_told(arguments, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_FORCE_HOST_MACHINE_IP", "10.1.2.3")
    found = arguments("-p 8080:80 -p 9000-9001:90-91 -p 53:53/udp -p 70",
                      taken=lambda ip, port: port in (8080, 10000, 10002))
    assert values(found, "publish") == ["10001:80/tcp", "9000-9001:90-91", "53:53/udp", "70"]
    assert found.runtime == {"_external_host_tcp_port_mapping": "10001:80,9000-9001:90-91"}
    assert found.options[-1].value == "CLEARML_AGENT_HOST_IP=10.1.2.3"
    assert any("8080:80 is moved" in note for note in found.notes)


@pytest.mark.parametrize(("said", "expected"), [  # Docker 28, 20, and Podman
    ("driver failed programming external connectivity on endpoint x (0a1b): failed to bind host port for "
     "0.0.0.0:8080:172.17.0.2:80/tcp: address already in use", {8080, 80}),
    ("driver failed programming external connectivity on endpoint x (0a1b): Bind for 0.0.0.0:8080 failed: port is "
     "already allocated", {8080}),
    ("rootlessport listen tcp [::]:8080: bind: address already in use", {8080}),
    ("bind source path does not exist: /a:80", None),
])
def test_which_ports_an_engine_refuses(said, expected):
    found = ports.of_refusal(errors.Failure("no", errors.BAD_DATA, said))
    assert getattr(found, "ports", None) == expected


def test_the_address_is_that_of_the_way_to_the_address_that_is_named(settings, monkeypatch):
    monkeypatch.delenv("CLEARML_AGENT_FORCE_HOST_MACHINE_IP", raising=False)
    settings('api.public_ip_ping: "127.0.0.7"')
    assert ports.host_address() == "127.0.0.1"
    settings('api.public_ip_ping: "no address"')  # else what this machine calls itself
    monkeypatch.setattr("socket.gethostname", lambda: "127.0.0.9")
    assert ports.host_address() == "127.0.0.9"


def test_ports_stay_in_the_range_that_the_operator_allows(arguments, settings):
    settings("agent.docker_args_allowed_port_range: [20000, 20003]")
    found = arguments("-p 127.0.0.1:80:80 -p 7000-7001:70-71 -p 1:1 -p 2:2", taken=lambda ip, port: port == 20001)
    assert values(found, "publish") == ["127.0.0.1:20000:80/tcp", "20002-20003:70-71/tcp", "1:1", "2:2"]
    assert sum("no other port of 20000-20003 (agent.docker_args_allowed_port_range) is free" in note
               for note in found.notes) == 2


@pytest.mark.parametrize("text", ["-p 8080:80 --network host", "-p 8080:80 --net=none", "-e A=1"])
def test_without_a_network_of_its_own_nothing_is_published(arguments, text):
    found = arguments(text, taken=lambda ip, port: True)
    assert found.runtime == {} and values(found, "env") in ([], ["A=1"])


def test_a_listening_port_is_seen_as_taken():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        number = server.getsockname()[1]
        assert ports.taken("", number) and ports.taken("127.0.0.1", number)
    assert not ports.taken("", number)


@given(st.integers(1, 65535), st.integers(0, 3), st.sampled_from(["", "127.0.0.1", "::1"]),
       st.sampled_from(["tcp", "udp"]))
def test_a_port_is_written_as_it_is_read(first, more, ip, protocol):
    last = min(first + more, 65535)
    text = (f"[{ip}]:" if ":" in ip else f"{ip}:" if ip else "") + f"{first}-{last}:{first}-{last}/{protocol}"
    port = args_values.Port(text)
    again = args_values.Port(port.text())
    assert list(port.bindings()) == list(again.bindings())
    assert len(list(port.bindings())) == last - first + 1


def test_a_terminal_is_asked_for_in_vain_and_that_is_said(arguments):
    assert any("no terminal" in note for note in arguments("-it").notes)
    assert not any("no terminal" in note for note in arguments("--tty=false").notes)
    assert any("--workdir has no effect" in note for note in arguments("-w /work").notes)
    assert any("--stop-signal has no effect" in note for note in arguments("--stop-signal SIGINT").notes)


# --- what people see --------------------------------------------------------------------------------------------------


def show(text: str) -> str:
    return container_args.shown(args_words.parse(shlex.split(text)))


def test_secrets_are_hidden_in_the_logged_command(settings, monkeypatch):
    text = "-e AWS_SECRET_ACCESS_KEY=abc -e AZURE_STORAGE_KEY=def -e PLAIN=ghi -e URL=https://me:word@host/x"
    assert show(text) == ("--env 'AWS_SECRET_ACCESS_KEY=********' --env 'AZURE_STORAGE_KEY=********' --env PLAIN=ghi "
                          "--env 'URL=https://me:********@host/x'")
    for address in ("https://{}@host/x", "https://me:{}/{}@host/x", "https://me:word@{}@host/x", "https://host/x?private_token={}"):
        secret = "ghp-0123456789abcdef"
        assert secret in address.format(secret, secret) and secret not in show(f"-l {address.format(secret, secret)}")
    for words in ("--log-opt splunk-token={}", "-l api_token={}", "--annotation a.password={}",
                  "--mount type=volume,target=/x,volume-opt=type=cifs,\\\"volume-opt=o=username=me,password={}\\\""):
        assert secret in words.format(secret) and secret not in show(words.format(secret))
    assert show("-l a=b --mount type=volume,target=/x") == "--label a=b --mount type=volume,target=/x"
    monkeypatch.setenv("CLEARML_AGENT_DOCKER_ARGS_HIDE_ENV", "PLAIN OTHER")
    assert "ghi" not in show(text)
    monkeypatch.delenv("CLEARML_AGENT_DOCKER_ARGS_HIDE_ENV")
    settings('agent.hide_docker_command_env_vars { extra_keys: ["PLAIN"], parse_embedded_urls: false }')
    assert "ghi" not in show(text) and "me:word@" in show(text)
    settings("agent.hide_docker_command_env_vars.enabled: false")
    assert "abc" in show(text)


@pytest.mark.parametrize(("text", "asks"), [
    ("-e CLEARML_APT_INSTALL=git", True), ("--env-file FILE", True), ("-e A=CLEARML_APT_INSTALL", False), ("", False)])
def test_packages_are_asked_for_by_a_variable_also_of_a_file(tmp_path, text, asks):
    (tmp_path / "env").write_text("# of the operator\nCLEARML_APT_INSTALL=git vim\n")
    options = args_words.parse(shlex.split(text.replace("FILE", str(tmp_path / "env"))))
    assert container_args.Args(options, []).asks_for_packages is asks


def test_a_secret_of_this_machine_is_hidden_under_any_name(arguments, monkeypatch):
    monkeypatch.setenv("MY_API_TOKEN", "s3cret-value")
    monkeypatch.setenv("CLEARML_AGENT_EXTRA_DOCKER_ARGS", "-e HUB=$MY_API_TOKEN -e ADDRESS=x/${MY_API_TOKEN}/y -e A=1")
    found = arguments("")
    assert "HUB=s3cret-value" in found.words
    assert found.shown() == "--env 'HUB=********' --env 'ADDRESS=********' --env A=1"


def test_the_containers_name_is_the_operators_format_or_the_tasks(tmp_path, settings):
    job = Job({"task": {"id": "t1", "project": "p/1", "user": "me"}}, str(tmp_path))
    assert container_args.name(job).startswith("clearml-id-t1-")
    assert container_args.name(job) != container_args.name(job)
    settings('agent { docker_container_name_format: "{user}-{task_id}-{worker_id}"\n'
             ' docker_container_name_format_fields { user: "user" } }')
    assert container_args.name(job, "host:gpu0,1") == "me-t1-host-gpu0-1"
    for wrong in ("{nosuch}", "a b", "{", "{task_id.x}"):
        settings(f'agent.docker_container_name_format: "{wrong}"')
        assert container_args.name(job).startswith("clearml-id-t1-")
    with open(job.path("setup.log")) as file:
        said = file.read()
    assert said.count("docker_container_name_format") == 4
    assert "cannot be used: no field is called nosuch\n" in said
    job.close()


def test_labels_are_those_of_the_peer_and_the_operators(monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_EXTRA_DOCKER_LABELS", "team=vision 'note=a b' flag")
    assert container_args.labels("host:0", "host") == {
        "clearml-worker-id": "host:0", "clearml-parent-worker-id": "host", "team": "vision", "note": "a b", "flag": ""}
