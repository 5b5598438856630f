"""What a task asks of conda: its recorded section, an exported environment, or an environment.yml of the repository."""

from __future__ import annotations

import os
import re

from agentpipe import errors, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MANAGER = "agent.package_manager."
MAIN = "https://repo.anaconda.com/pkgs/main"  # which conda means by "defaults"
CHANNELS = ["pytorch", "conda-forge", "nvidia", "defaults"]
PYTHON = re.compile(r"(\S+::)?python($|[\s<>=!~])")  # a spec of it
SECTIONS = ("channels", "dependencies", "variables")
FILES = ("environment.yml", "environment.yaml", "conda.yaml", "conda.yml")
# packages that are called otherwise there
NAMES = {"torch": "pytorch", "opencv-python": "opencv", "tables": "pytables", "msgpack": "msgpack-python",
         "psycopg2-binary": "psycopg2", "graphviz": "python-graphviz"}


class Wanted:
    """`specs` of conda and `pip` lines, from `channels`; `soft` are specs whose package may come by pip instead
    (name of the spec: the pip line); `exact` are the pins of a receipt; `variables` are the script's."""

    def __init__(self, origin: str, specs: list[str], pip: list[str], channels: list[str]) -> None:
        self.origin, self.specs, self.pip, self.channels = origin, specs, pip, channels
        self.soft: dict[str, str] = {}
        self.exact: list[dict[str, Any]] = []
        self.variables: dict[str, str] = {}
        self.folders: list[str] = []  # where its pip lines look for files first

    def change(self) -> tuple[str, ...]:
        """What mends the task where a line is wrong: of a file the commit anew."""
        return errors.CODE_ANEW if self.folders else ()

    def places(self) -> str:
        """Its channels for people."""
        return shown(", ".join(self.channels))

    def canonical(self) -> list[str]:
        """One spelling of all that decides the outcome."""
        return [*(f"channel {each}" for each in self.channels), *sorted(f"conda {spec}" for spec in self.specs),
                *sorted(f"conda {pin['name']}=={pin.get('version')}={pin.get('build')} {pin.get('sha256')}"
                        for pin in self.exact),
                *sorted(f"variable {name}={value}" for name, value in self.variables.items())]


def is_manager() -> bool:
    """Whether agent.package_manager.type is conda."""
    from agentpipe.settings import config
    return (config.get(MANAGER + "type") or "").lower() == "conda"


def channels(named: list[str]) -> list[str]:
    """The channels of a file, else those of the configuration; their addresses."""
    from agentpipe.settings import config
    told = [each for each in named if each != "nodefaults"] or config.get_list(MANAGER + "conda_channels", CHANNELS)
    return [MAIN if each == "defaults" else each for each in told]


def all_channels(channels: list[str], specs: list[str]) -> list[str]:
    """The channels, and behind them those that single specs name (conda-forge::numpy), as conda asks them too."""
    named = (spec.rpartition("::")[0].partition("[")[0] for spec in specs)
    bare = {shown(each).rstrip("/") for each in channels}
    return [*channels, *(each for each in dict.fromkeys(named) if each and shown(each).rstrip("/") not in bare)]


def shown(text: str) -> str:
    """A channel, or words about some, without passwords and tokens (`https://host/t/TOKEN/channel`)."""
    from agentpipe.urls import without_credentials
    return re.sub(r"(https?://[^\s/]+)/t/[^\s/]+", r"\1", without_credentials(text))


def with_login(url: str) -> str:
    """The address of a channel, or of a package in it, with the login that the configuration has for that channel."""
    for each in channels([]):
        bare = shown(each)
        if bare != each and (url + "/").startswith(bare.rstrip("/") + "/"):
            return each.rstrip("/") + url[len(bare.rstrip("/")):]
    return url


def recorded(record: dict[str, Any], original: bool) -> Wanted | None:
    """What a task's requirements say of conda; None when they say nothing."""
    import json
    exported = record.get("conda_env_json")
    if exported:
        try:
            tree = json.loads(exported) if isinstance(exported, str) else exported
        except (ValueError, RecursionError):
            raise errors.Failure("requirements.conda_env_json is not JSON", errors.BAD_DATA,
                                 remedy="record it with `conda env export --json`") from None
        return _of_tree(tree, "the exported conda environment")
    lines = _lines((original and record.get("org_conda")) or record.get("conda"), "script.requirements.conda")
    lines = [line for line in (re.sub(r"(^|\s)#.*$", "", line).strip() for line in lines) if line]
    if not lines:
        return None
    pip = _lines((original and record.get("org_pip")) or record.get("pip"), "script.requirements.pip")
    return Wanted("the task's conda requirements", [spec(line) for line in lines], pip, channels([]))


def of_pip(lines: list[str], origin: str) -> Wanted:
    """A pip list for conda: each package that its channels know comes from there, the rest by pip."""
    from agentpipe.environment.requirements import NAME, normalised
    found = Wanted(origin, [], [], channels([]))
    for line in lines:
        body = line.split(";")[0].split(" --hash")[0].strip()
        match = re.match(NAME + r"((?:[<>=!~]=?=?[\s\w.*+,<>=!~]+)?)$", body)
        if not match or match[2] or ";" in line or line.startswith("-"):
            found.pip.append(line)
            continue
        name = NAMES.get(normalised(match[1]), normalised(match[1]))
        found.specs.append(spec(name + match[3].replace(" ", "")))
        found.soft[name] = line
    return found


def in_repository(code: str, folder: str) -> str:
    """The environment.yml that stands nearest above the script; "" without one."""
    place = folder
    while True:
        for name in FILES:
            if os.path.isfile(os.path.join(place, name)):
                return os.path.join(place, name)
        if place in (code, "/"):
            return ""
        place = os.path.dirname(place)


def of_file(path: str, code: str) -> Wanted:
    """An environment.yml."""
    where = os.path.relpath(path, code)
    try:
        found = _of_tree(read_yaml(path, where, True), where)
    except errors.Failure as failure:
        failure.change = errors.CODE_ANEW if failure.exit == errors.BAD_DATA else ()
        raise
    except ValueError:  # Python writes no number of so many digits
        raise errors.Failure(f"a number in {where} is too long to be one", errors.BAD_DATA, change=errors.CODE_ANEW,
                             remedy=f"put it into quotes in {where}") from None
    found.folders = [os.path.dirname(path)]
    return found


def read_yaml(path: str, where: str, a_tasks: bool = False) -> Any:
    """What a YAML file holds, that of a task as files.list_of_task() reads it; `where` names it in a Failure (65, or 69
    without the extra)."""
    try:
        import yaml
    except ImportError:
        raise errors.Failure(f"{where} needs the conda extra, which is not installed", errors.UNAVAILABLE,
                             remedy="pip install 'agentpipe[conda]' beside the agent") from None
    try:
        if a_tasks:
            from agentpipe.environment.requirement_lines import decoded
            return yaml.safe_load(decoded(files.list_of_task(path)))
        with open(path, encoding="utf-8") as file:
            return yaml.safe_load(file)
    except OSError as error:
        raise errors.Failure(f"{where}: {error.strerror}", errors.NOT_FOUND, remedy=f"correct {where}") from None
    except RecursionError:
        raise errors.Failure(f"{where} is not YAML: it is nested too deeply", errors.BAD_DATA,
                             remedy=f"correct {where}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        words = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error).splitlines()[0]
        raise errors.Failure(f"{where} is not YAML: {words}", errors.BAD_DATA, remedy=f"correct {where}") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:  # 2024-02-30, !!int abc
        raise errors.Failure(f"{where} is not YAML: a value is not what it is said to be: {str(error)[:100]}",
                             errors.BAD_DATA, remedy=f"put it into quotes in {where}") from None


def spec(line: str) -> str:
    """A line of ours, of conda's export (name=1.2=build) or of clearml's (name == 1.2) as rattler reads it."""
    line = _close(line)
    line = re.sub(r"^(torch)(?=$|[<>=!~])", "pytorch", line)
    # what is recorded of another machine's pip may have no exact twin here: as clearml-agent takes it
    return re.sub(r"^([A-Za-z0-9._-]+)==([\d.]+)$", _compatible, line)


def _close(line: str) -> str:
    """A spec without blanks around its operators, conda's own channel by its address."""
    return re.sub(r"(?<!\s)\s*(==|=|~=|>=|<=|!=|<|>)\s*", r"\1", re.sub(r"^defaults::", f"{MAIN}::", line.strip()))


def _compatible(match: re.Match[str]) -> str:
    return f"{match[1]}~={match[2]}" if "." in match[2] else match[0]


def _of_tree(tree: Any, origin: str) -> Wanted:
    import difflib
    if not isinstance(tree, dict) or not isinstance(tree.get("dependencies") or [], list):
        raise errors.Failure(f"{origin} is not a conda environment", errors.BAD_DATA,
                             remedy="it has `dependencies`, a list")
    misspelt = next((pair for pair in ((str(key), difflib.get_close_matches(str(key), SECTIONS, 1, 0.8)) for key in tree
                                       if key not in SECTIONS) if pair[1]), None)
    if misspelt:
        raise errors.Failure(f"{origin}: {misspelt[0]!r} is no section of it", errors.BAD_DATA,
                             remedy=f"{misspelt[1][0]} is meant?")
    specs, pip = [], []
    for each in tree.get("dependencies") or []:
        if isinstance(each, dict):
            other = next((str(name) for name in each if name != "pip"), "")
            if other:  # "numpy: 1.2"
                raise errors.Failure(f"{origin}: {other[:100]!r} has a value, which only `pip` has", errors.BAD_DATA,
                                     remedy=f"write it as one word: {other[:100]}=1.2")
            pip += _lines(each.get("pip"), f"`pip` of {origin}")
        else:
            specs.append(_close(_word(each, origin)))
    named = tree.get("channels") or []
    if not isinstance(named, list):
        raise errors.Failure(f"`channels` of {origin} is no list", errors.BAD_DATA, remedy="write one channel a line")
    found = Wanted(origin, specs, pip, channels([_word(each, f"`channels` of {origin}") for each in named]))
    told, of_them = tree.get("variables") or {}, f"`variables` of {origin}"
    if not isinstance(told, dict):
        raise errors.Failure(f"{of_them} is no mapping", errors.BAD_DATA, remedy="write a line NAME: VALUE for each")
    found.variables = {_word(name, of_them): _word(value, of_them) for name, value in told.items()}
    wrong = next((name for name, value in found.variables.items() if not re.fullmatch(r"[^=\0]+", name)
                  or "\0" in value), None)
    if wrong is not None:
        raise errors.Failure(f"{of_them}: {wrong!r} cannot be one of a program's", errors.BAD_DATA,
                             remedy="write a line NAME: VALUE for each")
    return found


def _word(value: Any, where: str) -> str:
    """What stands there as a text; Failure 65 for a list, of which aliases can make more than any memory holds."""
    if not isinstance(value, (str, int, float)):
        raise errors.Failure(f"what stands in {where} is neither a text nor a number", errors.BAD_DATA,
                             remedy="write one package a line")
    return str(value)


def _lines(text: Any, where: str) -> list[str]:
    if not isinstance(text or "", (str, list)):
        raise errors.Failure(f"{where} is neither a text nor a list of lines", errors.BAD_DATA,
                             remedy="write one package a line")
    return text.splitlines() if isinstance(text, str) else [_word(line, where) for line in text or ()]
