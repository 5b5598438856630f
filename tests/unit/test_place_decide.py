"""Which container a task gets: its own, a rule's, the agent's, or none; and what is written back."""

import json
import os
import subprocess
import sys
import time

import pytest

from agentpipe import errors
from agentpipe.job import Job
from agentpipe.place import decide, engine
from agentpipe.settings import config


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Write a clearml.conf; settings("agent { … }")."""
    path = tmp_path / "clearml.conf"
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(path))

    def write(text: str) -> None:
        path.write_text(text)
        config.reload()
    write("")
    return write


@pytest.fixture
def job(tmp_path):
    made = []

    def make(task: dict, **options) -> Job:
        directory = tmp_path / f"job{len(made)}"
        directory.mkdir()
        heard: list[str] = []
        found = Job({"task": {"id": "t1", **task}}, str(directory), options, heard.append)
        found.heard, found.told = heard, []
        found.tell = lambda endpoint, body: found.told.append((endpoint, body))
        made.append(found)
        return found
    yield make
    for each in made:
        each.close()


def said(job: Job) -> str:
    return "".join(job.heard)


def test_a_task_that_asks_for_nothing_runs_on_the_host(job, settings):
    found = decide.decide(job({}))
    assert (found.engine, found.reason) == ("host", "no container was asked for")


def test_an_image_that_is_asked_for_in_vain_is_said(job, settings):
    from agentpipe import place
    task = {"container": {"image": "my:1"}}
    settings("agent.disable_task_docker_override: true")
    for options, why in (({}, "agent.disable_task_docker_override, and no other image is named"),
                         ({"force_docker": True}, "--force-docker, and no other image is named"),
                         ({"place": "host"}, "agent-prepare was told to run tasks on the host")):
        at = job(task, **options)
        assert place.start(at, place.wanted(at))["reason"] == f"{why}: not in my:1"
        assert said(at) == f"on this machine: {why}: not in my:1\n"
    at = job({}, dry_run=True)
    place.start(at, place.wanted(at))
    assert said(at) == "would run on this machine: no container was asked for\n"


def test_an_image_whose_name_no_program_can_be_given_is_none(job):
    with pytest.raises(errors.Failure, match="cannot be the name of an image") as caught:
        decide.decide(job({"container": {"image": "/a\0b"}}))
    assert caught.value.exit == errors.BAD_DATA


def test_the_tasks_own_container_is_before_every_default(job, settings, monkeypatch):
    settings('agent.default_docker { image: "operators:1", arguments: ["--ipc=host"] }')
    monkeypatch.setenv("CLEARML_DOCKER_IMAGE", "variables:1")
    found = decide.decide(job({"container": {"image": " my:1 ", "arguments": "-e 'A=b c' --rm",
                                             "setup_shell_script": "echo 1"}}, docker="options:1"))
    assert (found.engine, found.image, found.arguments) == ("docker", "my:1", ["-e", "A=b c", "--rm"])
    assert found.setup_script == "echo 1"
    assert found.reason == "the task asks for image my:1"
    assert found.write_back is None


def test_defaults_by_option_variable_and_file_in_this_order(job, settings, monkeypatch):
    settings('agent.default_docker { image: "file:1", arguments: ["--ipc=host", "-e", "A=1"] }')
    task = {"container": {"setup_shell_script": "echo of the task"}}
    found = decide.decide(job(task))
    assert (found.image, found.arguments) == ("file:1", ["--ipc=host", "-e", "A=1"])
    assert found.setup_script == "echo of the task"
    assert "agent.default_docker.image in" in found.reason
    monkeypatch.setenv("CLEARML_DOCKER_IMAGE", "variable:1 --shm-size 1g")
    found = decide.decide(job(task))
    assert (found.image, found.arguments) == ("variable:1", ["--shm-size", "1g"])
    assert found.reason == "CLEARML_DOCKER_IMAGE names image variable:1"
    found = decide.decide(job(task, docker="option:1"))
    assert (found.image, found.arguments) == ("option:1", ["--ipc=host", "-e", "A=1"])
    found = decide.decide(job(task, docker="option:1 --network host"))
    assert (found.image, found.arguments, found.reason) == ("option:1", ["--network", "host"],
                                                            "--docker names image option:1")


def test_a_default_is_written_back_to_the_task(job, settings):
    at = job({"container": {"setup_shell_script": "echo 1"}}, docker="option:1 --env 'A=b c'")
    decide.write_back(at, decide.decide(at))
    assert at.told == [("tasks.edit", {"force": True, "container": {
        "image": "option:1", "arguments": "--env 'A=b c'", "setup_shell_script": "echo 1"}})]
    settings("agent.default_docker.update_back_task: false")
    at = job({}, docker="option:1")
    decide.write_back(at, decide.decide(at))
    assert at.told == []
    settings("")
    at = job({}, docker="option:1", dry_run=True)
    decide.write_back(at, decide.decide(at))
    assert at.told == []


def test_arguments_without_an_image_are_left_out_and_said(job, settings):
    at = job({"container": {"arguments": "-v /:/host"}}, docker="option:1")
    found = decide.decide(at)
    assert found.arguments == []
    assert any("left out" in note for note in found.notes)


def test_the_operator_may_override_the_tasks_image_but_not_its_script(job, settings):
    settings('agent { disable_task_docker_override: true, default_docker.image: "ours:1" }')
    found = decide.decide(job({"container": {"image": "theirs:1", "arguments": "--privileged",
                                             "setup_shell_script": "echo 1"}}))
    assert (found.image, found.arguments, found.setup_script) == ("ours:1", [], "echo 1")
    assert "theirs:1" in found.reason
    assert found.write_back == {"image": "ours:1", "arguments": "", "setup_shell_script": "echo 1"}


def test_force_docker_leaves_out_all_of_the_tasks_container(job, settings):
    found = decide.decide(job({"container": {"image": "theirs:1", "setup_shell_script": "echo 1"}},
                              docker="ours:1", force_docker=True))
    assert (found.image, found.setup_script) == ("ours:1", "")


def test_old_servers_have_image_and_arguments_in_one_field(job, settings):
    found = decide.decide(job({"execution": {"docker_cmd": "old:1 --ipc=host -e A=1"}}))
    assert (found.image, found.arguments) == ("old:1", ["--ipc=host", "-e", "A=1"])
    found = decide.decide(job({"execution": {"docker_cmd": "old:1"}, "container": {"image": "new:1"}}))
    assert found.image == "new:1"


def test_templates_are_filled_after_the_words_were_split(job, settings):
    found = decide.decide(job({"name": "a b --privileged", "container": {
        "image": "my:1", "arguments": "-e N=${CLEARML_TASK.name} -e M=${CLEARML_TASK.none:4}"}}))
    assert found.arguments == ["-e", "N=a b --privileged", "-e", "M=4"]


@pytest.mark.parametrize("options, variable, expected", [
    ({"place": "host"}, None, "host"), ({"place": "singularity"}, None, "apptainer"),
    ({}, "charliecloud", "charliecloud"),
    ({"podman": "x:1"}, None, "podman"), ({"place": "docker"}, "apptainer", "docker"),
])
def test_which_engine(job, settings, monkeypatch, options, variable, expected):
    if variable:
        monkeypatch.setenv("AGENT_PLACE", variable)
    found = decide.decide(job({"container": {"image": "my:1"}}, **options))
    assert found.engine == expected
    if expected == "host":
        assert "my:1" in found.reason


@pytest.mark.parametrize("task, options, code", [
    ({"container": {"image": "my:1", "arguments": "-e 'A"}}, {}, errors.BAD_DATA),
    ({"container": {"image": "--privileged"}}, {}, errors.BAD_DATA),
    ({"container": {"image": "two words"}}, {}, errors.BAD_DATA),
    ({}, {"docker": "my:1 -e 'A"}, errors.BAD_CONFIG),
    ({}, {"docker": "-my:1"}, errors.BAD_CONFIG),
    ({}, {"place": "vm"}, errors.USAGE),
    ({}, {"docker": "a:1", "podman": "b:1"}, errors.USAGE),
])
def test_what_cannot_be_meant_is_refused(job, settings, task, options, code):
    with pytest.raises(errors.Failure) as caught:
        decide.decide(job(task, **options))
    assert caught.value.exit == code


@pytest.mark.parametrize("said, of_task, code, remedy", [
    ("manifest unknown", True, errors.NOT_FOUND, "agent-task edit --docker"),
    ("manifest unknown", False, errors.BAD_CONFIG, "correct what names it"),
    ("denied", True, errors.NO_PERMISSION, "docker login"), ("denied", False, errors.BAD_CONFIG, "docker login"),
    ("connection refused", False, errors.UNAVAILABLE, "network"),
])
def test_an_image_that_the_operator_names_is_not_its_tasks_fault(job, settings, said, of_task, code, remedy):
    found = decide.decide(job({"container": {"image": "a:1"}}) if of_task else job({}, docker="a:1"))
    with pytest.raises(errors.Failure) as caught, decide.blamed(found):
        raise engine.no_image("a:1", said)
    assert caught.value.exit == code and remedy in caught.value.remedy
    assert ("--docker names image a:1" in caught.value.reason) is (code == errors.BAD_CONFIG)


RULE = """agent.default_docker.match_rules: [ { image: "rule:1", arguments: "--ipc=host"
    setup_shell_script: ["echo 1", "echo 2"], %s
    match { %s } } ]"""


@pytest.mark.parametrize("terms, fits", [
    ('project: "^vision/"', True), ('project: "^nlp"', False), ("project_id: p1", True), ('tags: ["^b$"]', True),
    ('tags: ["a", "zz"]', False), ('user_id: "me"', True), ('container: "^$"', True),
    ('script { repository: "example.com/repo", branch: "^main$" }', True), ('script { binary: "python3.9$" }', False),
    ('script.requirements.pip { torch: ">=2,<3" }', True), ('script.requirements.pip { Torch: "~=1.13" }', False),
    ('script.requirements.pip { numpy: "", torch: "" }', True), ('script.requirements.pip { jax: "" }', False),
    ('script.requirements.conda { scipy: ">=1.10" }', True), ('script.branch: "("', False), ("", False),
    ('tags: "a", script { binary: "python3" }', True), ('tags: "a", project: "nlp"', False),
])
def test_a_rule_fits_when_all_of_its_terms_do(job, settings, terms, fits):
    settings(RULE % ("", terms))
    at = job({"project": {"id": "p1", "name": "vision/old"}, "tags": ["a", "b"], "user": "me", "script": {
        "repository": "https://example.com/repo.git", "branch": "main", "binary": "python3.11",
        "requirements": {"pip": "torch==2.1.0+cu118\nnumpy<2,>=1.20\n-r more.txt\n", "conda": ["scipy=1.10=py"]}}})
    found = decide.decide(at)
    assert (found.image == "rule:1") is fits
    if fits:
        assert (found.arguments, found.setup_script) == (["--ipc=host"], "echo 1\necho 2")
        assert found.write_back == {"image": "rule:1", "arguments": "--ipc=host",
                                    "setup_shell_script": "echo 1\necho 2"}
    elif "(" in terms:
        assert "no regular expression" in said(at)


def test_a_rule_fills_what_is_empty_and_only_a_forced_one_replaces(job, settings):
    task = {"tags": ["a"], "container": {"setup_shell_script": "echo mine"}}
    settings(RULE % ("", "tags: a"))
    found = decide.decide(job(task))
    assert (found.image, found.setup_script) == ("rule:1", "echo mine")
    task["container"]["image"] = "mine:1"
    assert decide.decide(job(task)).image == "mine:1"
    settings(RULE % ("force_container_rules: true, update_back_task: false", "tags: a"))
    found = decide.decide(job(task))
    assert (found.image, found.setup_script, found.write_back) == ("rule:1", "echo 1\necho 2", None)
    # --docker IMAGE switches the rules off
    assert decide.decide(job(task, docker="option:1")).image == "mine:1"


def test_rules_that_clearml_agent_init_wrote_do_not_count(job, settings):
    defaults = os.path.join(os.path.dirname(config.__file__), "peer_defaults.json")
    with open(defaults) as file:
        known = json.load(file)["agent.default_docker.match_rules"][-1]
    settings("agent.default_docker: " + json.dumps({"match_rules": known}))
    task = {"script": {"binary": "python3.9"}}
    assert decide.decide(job(task)).engine == "host"
    known.append({"image": "added:1", "match": {"script": {"binary": "python3.9$"}}})
    settings("agent.default_docker: " + json.dumps({"match_rules": known}))
    assert decide.decide(job(task)).image == "added:1"


@pytest.mark.parametrize("rules, why", [
    ('"a:1"', "agent.default_docker.match_rules is no list of rules"),
    ('{ image: "a:1" }', "agent.default_docker.match_rules is no list of rules")])
def test_rules_that_are_no_list_are_refused(rules, why, job, settings):
    settings(f"agent.default_docker.match_rules: {rules}")
    with pytest.raises(errors.Failure) as raised:
        decide.decide(job({}))
    assert (raised.value.exit, raised.value.reason) == (78, why)


@pytest.mark.parametrize("match, why", [
    ('match { scritp { binary: "python3" }, project: "nosuch" }',
     "scritp.binary in its `match` is not known, and not looked at"),
    ('match { script { binry: "python3" }, project: "nosuch" }',
     "script.binry in its `match` is not known, and not looked at"),
    ('match.script.requirements.pip { torch: "banana" }', "passed over: banana is no range of versions (of torch)"),
    ('match.script.requirements.pip: "torch"',
     "passed over: script.requirements.pip is no section of names and version ranges"),
    ("mtach {}", "passed over: it has no section `match`"),
    ('match: ["project"]', "passed over: it has no section `match`"),
    ('match: "project"', "passed over: it has no section `match`"),
    ('argments: "-it", match { project: "nosuch" }', "argments is not known, and not looked at")])
def test_what_is_wrong_with_a_rule_is_said(match, why, job, settings):
    settings(f'agent.default_docker.match_rules: [ {{ image: "a:1", {match} }} ]')
    at = job({"script": {"requirements": {"pip": "torch==2.1"}}})
    assert decide.decide(at).engine == "host"
    assert said(at) == f"a rule of agent.default_docker.match_rules: {why}\n"


def test_a_requirement_of_thousands_of_limits_keeps_nobody_waiting(job, settings):
    settings('agent.default_docker.match_rules: [ { image: "a:1", match.script.requirements.pip { torch: ">1,<0" } } ]')
    torch = "torch" + ",".join(f"!=1.{number}" for number in range(20_000))
    began = time.monotonic()
    assert decide.decide(job({"script": {"requirements": {"pip": torch}}})).engine == "host"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("match", ['project: "a", script { branch: "b", requirements.pip { "a.b": "" } }',
                                   '"script.branch": "b"', 'tags: ["a"], container: "x", user_id: u, project_id: p',
                                   ""])
def test_nothing_is_said_of_a_rule_that_only_does_not_fit(match, job, settings):
    settings(f'agent.default_docker.match_rules: [ {{ image: "a:1", match {{ {match} }} }} ]')
    at = job({"script": {"branch": "no"}})
    assert decide.decide(at).engine == "host"
    assert said(at) == ""


def test_a_rule_that_fits_and_names_no_image_is_said_to_be_left_out(job, settings):
    settings("""agent.default_docker { image: "default:1", match_rules: [
        { imge: "a:1", match { tags: "a" } }, { image: "b:1", match { tags: "a" } } ] }""")
    at = job({"tags": ["a"]})
    assert decide.decide(at).image == "default:1"
    assert said(at) == ("a rule of agent.default_docker.match_rules: imge is not known, and not looked at\n"
                        "a rule of agent.default_docker.match_rules (tags) fits and names no image: it is left out\n")


def test_a_rule_knows_the_project_of_a_line_by_hand_by_its_name(job, settings, monkeypatch, tmp_path):
    from agentpipe.transport import api
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    project = api.connect().call("projects.create", {"name": "vision/old"})["id"]
    settings(RULE % ("", 'project: "^vision/"'))
    assert decide.decide(job({"project": project})).image == "rule:1"
    assert decide.decide(job({"project": "nobody's"})).engine == "host"


def test_a_dry_run_says_what_would_be_without_an_engine_and_without_secrets(job, settings, monkeypatch):
    from agentpipe import place
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such.sock")
    at = job({"container": {"image": "my:1", "arguments": "-e API_TOKEN=s3cret --entrypoint x -it",
                            "setup_shell_script": "echo 1"}}, dry_run=True)
    assert place.start(at, place.wanted(at))["image"] == "my:1"
    text = said(at)
    assert "would run in a container of my:1 (docker): the task asks for image my:1" in text
    assert "with --env 'API_TOKEN=********' --interactive --tty\n" in text and "s3cret" not in text
    assert "--entrypoint" in text and "set-up: the task's set-up script" in text
    assert at.told == []
    at = job({"container": {"image": "my:1", "arguments": "--memory=lots"}}, dry_run=True)
    with pytest.raises(errors.Failure, match="--memory lots: it is no size"):
        place.start(at, place.wanted(at))


def test_the_decision_costs_no_import_of_docker(tmp_path):
    code = "import sys; from agentpipe.place import decide, container_args; print('docker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("place", [{"kind": "firecracker"}, {"kind": "docker", "prefix": [], "image": "i:1"}])
def test_a_place_that_nothing_enters_is_refused_and_does_not_run_on_the_host(place, capfd):
    from agentpipe import stages
    line = json.dumps({"task": {"script": {"entry_point": "main.py"}}, "place": place}).encode()
    for stage in ("fetch", "run"):
        assert stages.each(stage, pytest.fail, line, {}) == errors.BAD_DATA
        failed = json.loads(capfd.readouterr().out)["failed"]
        assert (failed["stage"], failed["exit"]) == (stage, errors.BAD_DATA)
        assert "place.prefix, which enters it, is empty" in failed["reason"]


def test_a_container_that_was_entered_by_hand_needs_no_name_of_an_image(tmp_path):
    from agentpipe import place
    found = place.of({"place": {"kind": "docker", "prefix": ["docker", "exec", "mine"]}}, str(tmp_path))
    assert found.variables()["CLEARML_DOCKER_IMAGE"] == ""
