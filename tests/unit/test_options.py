"""Options are declared once; the quick reading and typer's agree."""

import pytest

from agentpipe import errors, options
from agentpipe.options import Argument, Flag, Option

DECLARED = [
    Argument("QUEUE", "Queues.", many=True),
    Flag("--wait", "Stay."),
    Option("--owner", "PID", "Who.", int),
    Option("--grace", "SECONDS", "How long.", float, 10.0),
    Option("--tag", "TAG", "Tags.", many=True),
]


def by_typer(argv):
    found = []
    options.typer_app("agent-x", DECLARED, found.append, "agent-x: try.", "")(argv, standalone_mode=False)
    return found[0]


@pytest.mark.parametrize("argv", [
    [], ["gpu"], ["a", "b"], ["--wait"], ["--owner", "12", "gpu"], ["--owner=12", "--tag", "a", "--tag=b"],
    ["gpu", "--grace", "1.5", "--wait"], ["-"],
])
def test_the_quick_reading_is_typers(argv):
    quick = options.parse(DECLARED, argv)
    assert quick is not None
    assert quick == by_typer(argv)


@pytest.mark.parametrize("argv", [["--help"], ["--nosuch"], ["--owner"], ["--owner", "x"], ["-h"], ["--wait=1"]])
def test_what_is_not_plain_is_left_to_typer(argv):
    assert options.parse(DECLARED, argv) is None


@pytest.mark.parametrize("argv", [["--nosuch"], ["--owner", "x"], ["--wait=1"]])
def test_a_mistake_is_one_line_and_64(argv):
    with pytest.raises(errors.Failure) as caught:
        options.read("agent-x", DECLARED, argv, "agent-x: try.", "")
    assert caught.value.exit == errors.USAGE
    assert "\n" not in caught.value.reason
    assert caught.value.remedy == "agent-x --help"


@pytest.mark.parametrize(("argv", "said"), [
    (["--to", "", "gpu"], "--to is empty"), (["--to=a", "--to="], "--to is empty"),
    (["a", " "], "a QUEUE is empty"), (["--wait=1"], "'--wait' does not take a value")])
def test_an_empty_word_is_a_mistake_where_it_would_mean_another_thing(argv, said):
    declared = [Argument("QUEUE", "Queues.", many=True, filled=True), Flag("--wait", "Stay."),
                Option("--to", "QUEUE", "It.", many=True, filled=True), Option("--id", "TASK", "Which.", filled=True)]
    with pytest.raises(errors.Failure) as caught:
        options.read("agent-x", declared, argv, "agent-x: try.", "")
    assert caught.value.exit == errors.USAGE and said in caught.value.reason
    assert options.read("agent-x", declared, ["gpu"], "", "")["id"] is None
    assert options.read("agent-x", declared, [], "", "")["queue"] == []


@pytest.mark.parametrize("option", ["--docker", "--podman", "--place", "--image", "--target"])
def test_an_empty_option_of_agent_prepare_does_not_run_a_task_elsewhere(option):
    from agentpipe.cmds import agent_prepare
    with pytest.raises(errors.Failure) as caught:
        options.read("agent-prepare", agent_prepare.options(), [option, ""], "", "")
    assert (caught.value.exit, caught.value.reason) == (errors.USAGE, f"{option} is empty")


def test_help_has_every_option_and_the_examples(capsys):
    with pytest.raises(SystemExit) as caught:
        options.read("agent-x", DECLARED, ["--help"], "agent-x: try.", "\n  agent-x gpu\n  agent-x --wait\n")
    assert caught.value.code == 0
    said = capsys.readouterr().out
    for item in DECLARED[1:]:
        assert item.name in said
    assert "  agent-x gpu\n" in said
    assert "  agent-x --wait\n" in said


def test_a_required_argument_that_is_missing_is_a_mistake():
    with pytest.raises(errors.Failure) as caught:
        options.read("agent-x", [Argument("ID", "Which.", required=True)], [], "agent-x: try.", "")
    assert caught.value.exit == errors.USAGE


def test_the_peers_option_for_another_configuration_names_the_variable():
    with pytest.raises(errors.Failure) as caught:
        options.read("agent-x", DECLARED, ["--config-file=/etc/a.conf", "gpu"], "", "")
    assert (caught.value.exit, caught.value.remedy) == (64, "export CLEARML_CONFIG_FILE=/etc/a.conf")
    with pytest.raises(errors.Failure, match="No such option"):
        options.read("agent-task enqueue", DECLARED, ["train.py", "--config-file", "a"], "", "")
