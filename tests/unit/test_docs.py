"""What the man pages say, and what the code does, are the same."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from agentpipe import manifest, options
from agentpipe.ends import ENDS
from agentpipe.options import Argument

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "man"
STAGES = ("fetch", "patch", "env", "prepare", "run")
PLAIN = ("pull", "report", "server", "status", "supervisor")


def page(name: str) -> str:
    return (MAN / name).read_text()


def described(text: str) -> set[str]:
    """The long options that a page describes: those of its .It lines."""
    lines = [line for line in text.splitlines() if line.startswith(".It")]
    return {"--" + name for line in lines for name in re.findall(r"(?:Fl|,) -([a-z][a-z-]*)", line)}


def declared(name: str) -> set[str]:
    """The long options that a command takes."""
    module = import_module(f"agentpipe.cmds.agent_{name}")
    found = list(module.options()) if hasattr(module, "options") else []
    if name in STAGES:
        found += options.common()
    return {item.name for item in found if not isinstance(item, Argument)} | {"--help"}


@pytest.mark.parametrize("name", [*STAGES, *PLAIN])
def test_a_page_describes_every_option_of_its_command_and_no_other(name: str) -> None:
    text = page(f"agent-{name}.1")
    assert described(text) | {"--help"} == declared(name)


@pytest.mark.parametrize("name", ["pull", "supervisor"])
def test_a_value_of_several_words_is_one_argument_of_its_option(name: str) -> None:
    module, text = import_module(f"agentpipe.cmds.agent_{name}"), page(f"agent-{name}.1")
    values = {item.name: item.metavar for item in module.options() if " " in (getattr(item, "metavar", "") or "")}
    assert values
    for option, value in values.items():
        assert set(re.findall(rf"Fl {option[1:]} Ar (\"[^\"]+\"|\S+)", text)) == {f'"{value}"'}


def verbs_of(command_name: str) -> dict[str, set[str]]:
    """The long options of each verb of a command."""
    module = import_module(f"agentpipe.cmds.agent_{command_name}")
    if hasattr(module, "GROUP"):
        return {word: {item.name for item in module.GROUP.verb(word).declared if not isinstance(item, Argument)}
                for word in module.GROUP.words()}
    import typer
    group = typer.main.get_command(module.app)
    return {name: {word for parameter in each.params for word in parameter.opts if word.startswith("--")} - {"--help"}
            for name, each in group.commands.items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("command_name", ["task", "config"])
def test_a_page_describes_every_option_of_every_subcommand_and_no_other(command_name: str) -> None:
    text, found = page(f"agent-{command_name}.1"), verbs_of(command_name)
    sections = dict(re.findall(r"^\.Ss (\S+)\n(.*?)(?=^\.S[sh] )", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(found)
    for name, known in found.items():
        said = described(sections[name]) | {"--" + word for word in re.findall(r"Fl -([a-z][a-z-]*)", sections[name])}
        assert said == known, name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_written_from_the_same_options(shell: str) -> None:
    from agentpipe import completion
    assert completion.text(shell) == completion.written(shell), "python -m agentpipe.completion writes them anew"


def test_pages_and_completion_have_the_same_options() -> None:
    from agentpipe import completion
    found = completion.places()
    assert set(completion.commands(found)) == set(every_command())
    for place in found:
        options = {name for name, *_ in place.options}
        if place.verb:
            assert options == verbs_of(place.command.removeprefix("agent-"))[place.verb], place.verb
        else:
            assert options | {"--help", "--version"} == described(page(f"{place.command}.1")) | {"--help", "--version"}


def every_command() -> list[str]:
    scripts = (ROOT / "pyproject.toml").read_text().split("[project.scripts]\n")[1].split("\n[")[0]
    return re.findall(r"^(agent-\w+) =", scripts, re.MULTILINE)


def test_the_table_of_ends_is_the_code() -> None:
    rows = re.findall(r"^\.It (\w+) Ta (\w+) Ta (.+?) Ta (.+)$", page("agent-ends.7"), re.MULTILINE)
    assert [(name, status, when) for name, status, _, when in rows] == [
        (end.name, end.status, end.when) for end in ENDS.values()]
    for name, _, code, _ in rows:
        known = ENDS[name].exit
        assert code == str(known) if known is not None else not code.isdigit()


def test_agent_manifest_names_every_key_of_the_schema() -> None:
    schema = json.loads(manifest.schema())
    text = page("agent-manifest.5")
    items = set(re.findall(r"^\.It Ql (\w+)$", text, re.MULTILINE))
    assert items == set(schema["properties"])

    def keys(node: dict) -> set[str]:
        inner = node.get("properties", {})
        return set(inner).union(*(keys(each) for each in inner.values())) if inner else set()

    words = set(re.findall(r"\w+", text))
    assert keys(schema) | keys(schema["definitions"]["pull"]) <= words


def test_every_command_has_a_page_and_agentpipe_leads_to_all_pages() -> None:
    pages = {path.name for path in MAN.iterdir()}
    assert {f"{name}.1" for name in every_command()} <= pages
    see_also = page("agentpipe.7").split(".Sh SEE ALSO")[1]
    linked = {f"{name}.{section}" for name, section in re.findall(r"^\.Xr (\S+) (\d)", see_also, re.MULTILINE)}
    assert linked == pages - {"agentpipe.7"}


def test_agentpipe_names_every_variable_that_the_code_reads() -> None:
    text = page("agentpipe.7")
    read = re.compile(r"""(?:environ(?:\.get\(|\[)|environ,\s*|\$\{)["']?((?:AGENT|CLEARML)_[A-Z_]*[A-Z])""")
    sources = [*ROOT.glob("lib/**/*.py"), *ROOT.glob("cmds/*.py"), *ROOT.glob("cmds/agent-supervisor/*.sh")]
    found = {name for path in sources for name in read.findall(path.read_text())}
    # set by ourselves for our own processes, or by the script that agent-task prints
    ours = {"AGENT_LINE_BUFFERED", "AGENT_SUPERVISOR_PARENT", "CLEARML_OFFLINE_MODE"}
    missing = {name for name in found if name not in text} - ours
    assert found
    assert not missing


@pytest.mark.parametrize("path", sorted(MAN.iterdir()), ids=lambda path: path.name)
def test_a_page_is_clean_mdoc_with_the_commands_own_sentence(path: Path) -> None:
    name, _, section = path.name.rpartition(".")
    text = path.read_text()
    assert f".Dt {name.upper()} {section}\n" in text
    assert f"\n.Nm {name}\n.Nd " in text
    if section == "1":
        doc = import_module("agentpipe.cmds." + name.replace("-", "_")).__doc__ or ""
        sentence = text.split("\n.Nd ", 1)[1].split("\n", 1)[0]
        assert doc.startswith(f"{name}: ")
        assert sentence.split(",")[0].split(":")[0].rstrip(".") in doc.splitlines()[0]


def test_the_exit_codes_are_those_of_the_code() -> None:
    from agentpipe import errors
    codes = {value for key, value in vars(errors).items() if key.isupper() and isinstance(value, int)}
    section = page("agentpipe.7").split(".Sh EXIT STATUS")[1].split(".El")[0]
    assert {int(code) for code in re.findall(r"^\.It (\d+)$", section, re.MULTILINE)} == codes | {0}
