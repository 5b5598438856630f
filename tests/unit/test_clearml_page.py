"""agentpipe-clearml(7) against the code: what it calls the same is read here, what has no effect is not, and all that
is read stands there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "man" / "agentpipe-clearml.7").read_text()
CODE = "\n".join(path.read_text() for folder in ("lib", "cmds") for path in sorted((ROOT / folder).rglob("*"))
                 if path.suffix in (".py", ".sh"))
ENDINGS = tuple(set(re.findall(r'\}(_?[a-z]+_\w+)"', CODE)))
# look like keys and variables of clearml-agent, and are none
OURS = {"agent.db", "agent.worker_status_report_sec", "agent.files_outside_home", "CLEARML_AGENT__", "CLEARML_API_"}
VERDICTS = ("As there", "Here", "Passed on", "Not yet", "Not needed", "Refused")
KEY = re.compile(r"\b(?:agent|api|sdk)\.[a-z0-9_]+(?:\.[a-z0-9_]+)*(?![\w.*])")
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b(?![*_])")


def entries():
    """(what it is about, what is said of it), one after the other."""
    text = PAGE.partition(".Sh WHAT BECAME OF EACH\n")[2].partition(".Sh THE SERVER")[0]
    text = re.sub(r"(?m)^\.(Ss|Bl|El).*\n", "", text)
    for part in text.split('.It Sy "')[1:]:
        about, _, said = part.partition('"\n')
        yield about.replace("\\(dq", '"'), " ".join(said.split())


def is_read(name):
    """Whether a key stands in the code, in one piece, or as a section and its last word (also `f"{kind}_word"`)."""
    section, _, last = name.rpartition(".")
    if f'"{name}"' in CODE:
        return True
    return (f'"{section}.' in CODE or f'"{section}"' in CODE) and (f'"{last}"' in CODE or last.endswith(ENDINGS))


def said_of(about, *verdicts):
    return [(name, said) for name, said in entries() if said.startswith(verdicts) and about.search(name)]


def test_every_entry_begins_with_its_verdict():
    found = list(entries())
    assert len(found) > 150
    assert [about for about, said in found if not said.startswith(VERDICTS)] == []
    # a name of its own for each
    assert len({about for about, _ in found}) == len(found)


def test_what_means_the_same_here_is_read():
    missing = {key for about, said in said_of(KEY, "As there") for key in KEY.findall(about) if not is_read(key)}
    assert missing == set()
    missing = {name for about, said in said_of(VARIABLE, "As there") for name in VARIABLE.findall(about)
               if not re.search(rf'["\W]{re.escape(name)}\b|"{re.escape(name.removeprefix("CLEARML_"))}"', CODE)}
    assert missing == set()


def test_what_has_no_effect_is_not_read():
    without = ("Not yet", "Not needed")  # to refuse a setting is to read it
    # that a variable stands for a key, config.py knows; who would ask for it?
    code = CODE.replace((ROOT / "lib" / "agentpipe" / "settings" / "config.py").read_text(), "")
    assert {key for about, _ in said_of(KEY, *without) for key in KEY.findall(about) if f'"{key}"' in code} == set()
    assert {name for about, _ in said_of(VARIABLE, *without) for name in VARIABLE.findall(about)
            if f'"{name}"' in code} == set()


def test_all_that_is_read_stands_there():
    words = set(KEY.findall(PAGE)) | set(VARIABLE.findall(PAGE)) | OURS
    keys = set(re.findall(r'"((?:agent|api|sdk)\.[a-z0-9_.]*[a-z0-9_])"', CODE))
    sections = {key for key in keys if any(word.startswith(key + ".") for word in words)}
    assert keys - sections - words == set(), "add it to man/agentpipe-clearml.7"
    variables = {name.replace("TRAINS_", "CLEARML_") for name in re.findall(r'"((?:CLEARML|TRAINS)_[A-Z0-9_]+)"', CODE)}
    assert variables - words == set(), "add it to man/agentpipe-clearml.7"


def test_the_commands_and_options_that_it_names_are_there():
    for command, option in re.findall(r"(agent-[a-z]+) (--[a-z][a-z-]+)", PAGE):
        page = ROOT / "man" / f"{command}.1"
        assert re.search(rf"(?:Fl|,) -{option[2:]}\b", page.read_text()), f"{command} {option}"
