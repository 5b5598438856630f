"""`${CLEARML_…}` in docker arguments and job templates: values, defaults, filters, and what stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe import templates
from agentpipe.settings import config

TASK = {"id": "t1", "name": "My Task", "project": "p1", "tags": ["a", "b"], "user": "u1",
        "script": {"branch": "main", "diff": "one\ntwo\n"}, "execution": {"queue": "q1"},
        "hyperparams": {"properties": {"cpus": {"value": "4"}, "flag": {"value": True}, "none": {"value": ""}}},
        "runtime": {"n": 3, "nested": {"a": [1, 2]}, "dicts": [{"a": 1}]}}
PULL = {"queue": "q2", "queue_name": "gpu", "worker": "host:0"}


def resolve(text: str, **more) -> str:
    return templates.resolve(text, templates.Values(TASK, PULL, **more))


@pytest.mark.parametrize("text, expected", [
    ("${CLEARML_TASK.id}", "t1"),
    ("--name=job-${CLEARML_TASK.id}-x", "--name=job-t1-x"),
    ("${CLEARML_TASK.hyperparams.properties.cpus.value}", "4"),
    ("${CLEARML_TASK.hyperparams.properties.flag.value}", "true"),
    ("${CLEARML_TASK.runtime.n}${CLEARML_TASK.runtime.nested.a}", "31,2"),
    ("${CLEARML_TASK.runtime.nested.a.1}", "2"),
    ("${CLEARML_TASK.tags}", "a,b"),
    ("${CLEARML_QUEUE_ID}/${CLEARML_QUEUE_NAME}/$CLEARML_WORKER_ID", "q2/gpu/host:0"),
    ("${CLEARML_PROJECT_ID}", "p1"),
    # defaults: only where there is no value; an empty one is a value
    ("${CLEARML_TASK.hyperparams.properties.gpus.value:1}", "1"),
    ("${CLEARML_TASK.hyperparams.properties.none.value:1}", ""),
    ("${CLEARML_TASK.id:other}", "t1"),
    ("${CLEARML_TASK.nothing:https://host:80/a-b c}", "https://host:80/a-b c"),
    ("${CLEARML_TASK.nothing:}", ""),
    ("${CLEARML_USER.name:nobody}", "nobody"),
    # filters
    ("${CLEARML_TASK.name|lower}", "my task"),
    ("${CLEARML_TASK.nothing: A B |strip|lower|capitalize}", "A b"),
    ("${CLEARML_TASK.script.diff}", "onetwo"),
    ("${CLEARML_TASK.script.diff|raw}", "one\ntwo\n"),
    ("${CLEARML_TASK.script.diff|strip(\no)}", "netw"),
    ("${CLEARML_TASK.name|nosuch}", "My Task"),
])
def test_a_template_is_replaced(text, expected):
    assert resolve(text) == expected


@pytest.mark.parametrize("text", [
    "${CLEARML_TASK.nothing}", "${CLEARML_TASK}", "${CLEARML_TASK.runtime.nested}", "${CLEARML_TASK.runtime.dicts}",
    "${CLEARML_NO_SUCH:default}", "${CLEARML_QUEUE_NAME.x}", "${OTHER}", "$CLEARML_TASK_ID", "$HOME",
    "${CLEARML_USER.name}", "$${CLEARML_TASK.id}",
    "${CLEARML_PROJECT_NAME}", "${CLEARML_TASK.id", "$CLEARML_WORKER_ID.x", "${CLEARML_}",
])
def test_what_is_not_known_stays_for_the_shell(text):
    assert resolve(text) == text


def test_names_are_asked_of_the_server_once_and_only_when_needed():
    asked = []

    def call(endpoint, body):
        asked.append((endpoint, body["id"]))
        return {endpoint.partition(".")[0]: [{"name": "the name"}]}
    values = templates.Values(TASK, {"queue": "q9"}, call)
    assert templates.resolve("${CLEARML_TASK.id}", values) == "t1" and asked == []
    assert templates.resolve("$CLEARML_PROJECT_NAME, ${CLEARML_PROJECT_NAME}", values) == "the name, the name"
    assert templates.resolve("${CLEARML_QUEUE_NAME}", values) == "the name"
    assert asked == [("projects.get_all", ["p1"]), ("queues.get_all", ["q9"])]


def test_a_server_that_does_not_say_leaves_the_default():
    from agentpipe import errors

    def call(endpoint, body):
        raise errors.ApiError(400, 1, "no")
    assert resolve("${CLEARML_PROJECT_NAME:none}", call=call) == "none"


def test_settings_but_no_secret_of_them(tmp_path, monkeypatch):
    conf = tmp_path / "clearml.conf"
    conf.write_text('agent { worker_name: "node7", git_pass: "hunter22"\n'
                    ' extra_docker_arguments: ["-e", "A=1"] }\n'
                    'api { credentials { access_key: "K", secret_key: "S3CRET" }\n'
                    ' api_server: "https://me:word@host" }\n')
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(conf))
    config.reload()
    assert resolve("${CLEARML_CONFIG.agent.worker_name}") == "node7"
    for secret in ("agent.git_pass", "api.credentials.secret_key", "api.api_server", "api.credentials", ""):
        text = "${CLEARML_CONFIG." + secret + "}"
        assert resolve(text) == text
    assert resolve("${CLEARML_CONFIG.agent.git_pass:x}") == "x"


@given(st.text(alphabet="${}CLEARML_TASK.id:|ab \n"))
def test_any_text_comes_out_and_only_whole_templates_change(text):
    found = resolve(text)
    if "CLEARML_" not in text:
        assert found == text
    values = templates.Values({}, {})
    # without values and without a colon nothing can change
    if ":" not in text:
        assert templates.resolve(text, values) == text
