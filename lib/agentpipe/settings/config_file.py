"""clearml.conf (HOCON, through pyhocon) as a tree, kept as JSON so that the next process need not parse it.

A file of `clearml-agent init` takes pyhocon 0.4 s; the kept tree is read in under 1 ms. It is kept with the state of
every file that it came from (included ones too, and those that may come to be) and the environment that it used.
"""

from __future__ import annotations

import json
import os
import time

from agentpipe import errors, paths
from agentpipe.files import publish
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 3
FOLDERS = ("CLEARML_CONFIG_PATH", "TRAINS_CONFIG_PATH")  # of which the first that is set counts
URL_TIMEOUT_S = 10.0
URL_AGE_S = 600  # how long what an include got from the network is good
INCLUDE = (r'^[ \t{,]*include\s+(?:required\s*\(\s*)?(?:(url|file|package|classpath)\s*\(\s*)?'
           r'"((?:[^"\\\n]|\\.)+)"')


def load(files: list[str], trees_of: int = 1) -> config.Trees:
    """(tree, keys that are no choice) of these files, the later winning.

    `trees_of` 1: only what is a choice; 2: all that stands there. Failure 78 names the file and the line of a mistake.
    """
    lines = _kept(files)
    if lines is None:
        lines = _parse(files)
        _keep(files, lines)
    return json.loads(lines[trees_of]), json.loads(lines[3]) if trees_of == 2 else []


def parse_text(text: str) -> Any:
    """The value of a piece of HOCON (a list or a section); itself when it is none."""
    from pyhocon import ConfigFactory
    try:
        return _plain(ConfigFactory.parse_string("value: " + text))["value"]
    except Exception:
        return text


def parse_file(path: str) -> dict[str, Any]:
    """One file, includes and substitutions resolved."""
    import logging
    import socket

    import pyhocon
    from pyparsing import ParseBaseException
    logging.getLogger("pyhocon").setLevel(logging.ERROR)  # an include that is not there is allowed: check says it
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(URL_TIMEOUT_S)  # of an `include url(…)`
        found = pyhocon.ConfigFactory.parse_file(path)
    except TimeoutError as error:
        raise errors.Failure(f"{path}: an included address timed out ({error})", errors.BAD_CONFIG) from None
    except OSError as error:
        if error.filename in (None, path):
            raise errors.Failure(f"{path}: {error.strerror}", errors.BAD_CONFIG) from None
        raise errors.Failure(f"{path} includes {error.filename}: {error.strerror}", errors.BAD_CONFIG) from None
    except UnicodeDecodeError:
        raise errors.Failure(f"{path}: not UTF-8 text", errors.BAD_CONFIG) from None
    except RecursionError:
        raise errors.Failure(f"{path}: it includes itself", errors.BAD_CONFIG) from None
    except ParseBaseException as error:
        raise _mistake(path, error) from None
    except pyhocon.exceptions.ConfigException as error:
        raise errors.Failure(_of_substitution(path, str(error)), errors.BAD_CONFIG) from None
    except (ValueError, ImportError) as error:  # an include of an address, or of a Python package, that is none
        raise errors.Failure(f"{path}: what it includes cannot be read: {error}", errors.BAD_CONFIG) from None
    finally:
        socket.setdefaulttimeout(before)
    if not hasattr(found, "as_plain_ordered_dict"):
        raise errors.Failure(f"{path}:1: it is a list, not keys with values", errors.BAD_CONFIG)
    return _plain(found)


def missing(files: list[str]) -> list[str]:
    """The files that these would include if they were there."""
    return [path for path, mark in _sources(files)["files"].items() if mark is None]


def included(files: list[str]) -> list[str]:
    """The files that these include, and that are there; of a pattern its folder too."""
    return [path for path, mark in _sources(files)["files"].items() if mark is not None and path not in files]


def of_include(path: str, names: list[str]) -> str:
    """The file that `path` includes and that sets what stands at `names` there; else `path` itself."""
    value = config.at(load([path])[0], names)
    for each in filter(os.path.isfile, reversed(included([path]))):
        try:
            tree = load([each])[0]
        except errors.Failure:  # it may want what the other one sets
            continue
        # an include may stand inside of a section
        if any(config.at(tree, names[depth:]) == value for depth in range(len(names))):
            return each
    return path


def chosen(tree: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(the tree without what equals a default of clearml-agent, the keys of that); an empty one is a choice."""
    defaults = _peer_defaults()
    kept: dict[str, Any] = {}
    dropped = []
    for names, value in leaves(tree):
        key = ".".join(names)
        if value is None or value == {}:
            continue
        # True == 1
        if any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in defaults.get(key, ())):
            dropped.append(key)
            continue
        if key == "agent.default_docker.match_rules" and isinstance(value, list):
            known = [rule for rules in defaults.get(key, ()) for rule in rules]
            value = [rule for rule in value if rule not in known]
        put(kept, names, value)
    return kept, dropped


def leaves(tree: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[list[str], Any]]:
    """(path, value) of every value that is no section."""
    found: list[tuple[list[str], Any]] = []
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            found += leaves(value, (*above, name))
        else:
            found.append(([*above, name], value))
    return found


def put(tree: dict[str, Any], names: list[str], value: Any) -> None:
    """Set a value at a path; sections are merged."""
    for name in names[:-1]:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    if isinstance(value, dict) and isinstance(tree.get(names[-1]), dict):
        merge(tree[names[-1]], value)
    else:
        tree[names[-1]] = value


def merge(tree: dict[str, Any], other: dict[str, Any]) -> None:
    """Lay `other` over `tree`."""
    for name, value in other.items():
        put(tree, [name], value)


def copied(tree: Any) -> Any:
    """A copy that may be changed."""
    if isinstance(tree, dict):
        return {name: copied(value) for name, value in tree.items()}
    return list(tree) if isinstance(tree, list) else tree


def _parse(files: list[str]) -> list[str]:
    sources = _sources(files)  # first: what is written meanwhile makes them untrue
    tree: dict[str, Any] = {}
    for path in files:
        found = parse_file(path)
        section = _section_of(path)
        merge(tree, {section: found} if section else found)
    choice, dropped = chosen(tree)
    return [json.dumps(sources), json.dumps(choice), json.dumps(tree), json.dumps(dropped)]


def _section_of(path: str) -> str:
    """Files of CLEARML_CONFIG_PATH hold the section that they are named for."""
    given = next(filter(None, map(os.environ.get, FOLDERS)), None)
    home = os.path.abspath(os.path.expanduser(given)) + os.sep if given else None
    return os.path.basename(path).removesuffix(".conf") if home and path.startswith(home) else ""


def _plain(tree: Any) -> dict[str, Any]:
    """JSON of what pyhocon gives: durations become seconds."""
    def other(value: Any) -> Any:
        return value.total_seconds() if hasattr(value, "total_seconds") else str(value)
    return json.loads(json.dumps(tree.as_plain_ordered_dict(), default=other))


def _sources(files: list[str]) -> dict[str, Any]:
    """What the tree depends on: {format, files: {path: mark}, environment: {name: value}, until}."""
    import re
    found: dict[str, Any] = {"format": FORMAT, "files": {}, "until": None,
                             "environment": {name: os.environ.get(name) for name in FOLDERS}}
    todo = list(files)
    while todo:
        path = todo.pop()
        if path in found["files"]:
            continue
        found["files"][path] = _mark(path)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        for name in re.findall(r"\$\{\??\s*(\w+)\s*\}", text):
            found["environment"][name] = os.environ.get(name)
        for kind, target in re.findall(INCLUDE, text, re.MULTILINE):
            if kind == "url" or "://" in target:
                found["until"] = time.time() + URL_AGE_S
            else:
                todo += _included(os.path.join(os.path.dirname(path), target))
    return found


def _included(pattern: str) -> list[str]:
    if "*" not in pattern and "?" not in pattern:
        return [pattern]
    import glob
    fixed = os.path.dirname(pattern)
    while "*" in fixed or "?" in fixed:
        fixed = os.path.dirname(fixed)
    return [fixed, *glob.glob(pattern, recursive=True)]


def _mark(path: str) -> list[int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size, found.st_ino]


def _path(files: list[str]) -> str:
    import binascii
    name = binascii.crc32("\n".join(files).encode("utf-8", "surrogateescape"))
    return os.path.join(paths.cache("config"), f"{name:08x}")


def _kept(files: list[str]) -> list[str] | None:
    """The lines of the kept file (sources, choices, all, keys that are no choice), while it is still true."""
    try:
        with open(_path(files), encoding="utf-8") as file:
            lines = file.read().split("\n")
        sources = json.loads(lines[0])
        if sources["format"] != FORMAT or not set(files) <= set(sources["files"]) or len(lines) < 4:
            return None
    except (OSError, ValueError, KeyError, errors.Failure):
        return None
    if sources["until"] and not time.time() < sources["until"] <= time.time() + URL_AGE_S:
        return None
    if any(_mark(path) != mark for path, mark in sources["files"].items()):
        return None
    if any(os.environ.get(name) != value for name, value in sources["environment"].items()):
        return None
    return lines


def _keep(files: list[str], lines: list[str]) -> None:
    try:
        path = _path(files)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        publish(path, "\n".join(lines).encode())  # 0600: it may hold keys
    except (OSError, errors.Failure):
        pass  # the next process parses again


def _mistake(path: str, error: Any) -> errors.Failure:
    """Where a mistake is: an error in an included file has the line of that file."""
    import re
    import shlex

    import pyhocon
    from pyparsing import ParseBaseException
    for source in _sources([path])["files"]:
        if source == path or not os.path.isfile(source):
            continue
        try:
            pyhocon.ConfigFactory.parse_file(source, resolve=False)
        except ParseBaseException as found:
            return _mistake(source, found)
        except Exception:
            continue
    with open(path, "rb") as file:
        if file.read(3) == b"\xef\xbb\xbf":
            return errors.Failure(f"{path}: it begins with a byte order mark, which no program of ClearML reads",
                                  errors.BAD_CONFIG, remedy=r"sed -i '1s/^\xef\xbb\xbf//' " + shlex.quote(path))
    # never the value, which may be a secret, nor the parser's words: they hold its whole grammar
    name = re.match(r'\s*"?([\w.-]{1,60})"?\s*[=:{\[]', error.line)
    what = f" (`{name[1]}`)" if name else ""
    return errors.Failure(f"{path}:{error.lineno}: this line cannot be read{what}", errors.BAD_CONFIG,
                          remedy=f"correct line {error.lineno}, or the brackets and quotes before it")


def _of_substitution(path: str, text: str) -> str:
    """pyhocon's "Cannot resolve variable ${X} (line: 3, col: 5)" as FILE:LINE: …"""
    import re
    found = re.search(r"\(line: (\d+), col: \d+\)", text)
    if found is None:
        return f"{path}: {text}"
    return f"{path}:{found[1]}: {text[:found.start()].rstrip()}"


def _peer_defaults() -> dict[str, list[Any]]:
    """Every default that a version of clearml-agent has written into its users' files, by key."""
    with open(os.path.join(os.path.dirname(__file__), "peer_defaults.json"), encoding="utf-8") as file:
        return json.load(file)
