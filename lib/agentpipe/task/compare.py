"""agent-task diff: what differs between two tasks, or receipts, and what of it most likely made the difference."""

from __future__ import annotations

import json
import os
import re
import shlex

from agentpipe import cells, secrets, stdio, units
from agentpipe.task import sources
from agentpipe.transport import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agentpipe.task.sources import Source

# how likely each explains another end, before anything is known of the failure
WEIGHTS = {"repository": 70, "script": 66, "entry point": 65, "commit": 60, "changes": 58, "packages": 57,
           "arguments": 55, "hyperparameters": 54, "interpreter": 50, "image": 48, "container": 46,
           "configuration": 44, "driver": 42, "directory": 40, "worker": 10}
NAMED = 100  # added to what the failure itself names
# words in the failure's lines that point to an aspect which they do not name
POINTERS = {
    "driver": r"(?i)\bcuda\b|nvidia|libcu(da|dnn|blas)|driver version",
    "image": r"(?i)\bcuda\b|shared object file|GLIBC|command not found",
    "packages": r"No module named|ImportError|cannot import name|AttributeError: module|DistributionNotFound",
    "interpreter": r"SyntaxError|requires a different Python|requires-python|No matching distribution",
    "arguments": r"(?i)unrecognized arguments|invalid choice|out of memory|usage: ",
    "hyperparameters": r"(?i)out of memory",
    "directory": r"No such file or directory|FileNotFoundError",
    "worker": r"(?i)no space left|permission denied|out of memory",
}
OF_STAGE = {"fetch": ("repository", "commit"), "patch": ("changes", "commit"), "env": ("packages", "interpreter")}


class Difference:
    """One aspect in which two tasks differ: `lines` are [(sign, text)], `named` whether the failure names it."""

    def __init__(self, what: str, lines: list[tuple[str, str]]) -> None:
        self.what, self.lines, self.named = what, lines, False

    @property
    def weight(self) -> int:
        """How likely it is the cause."""
        return WEIGHTS[self.what] + (NAMED if self.named else 0)


def diff(a: str, b: str, as_json: bool) -> int:
    """Print the differences; 1 when there are any (as diff(1))."""
    server = None if sources.is_file(a) and sources.is_file(b) else api.connect()
    left, right = sources.of(server, a), sources.of(server, b)
    found = differences(left, right)
    if as_json:
        ends = {side: source.end.get("class") for side, source in (("a", left), ("b", right))}
        stdio.put((json.dumps({"a": left.task.get("id"), "b": right.task.get("id"), "ends": ends, "differences": [
            {"what": each.what, "named": each.named, "changes": [{"sign": sign, "text": text}
                                                                 for sign, text in each.lines]}
            for each in found]}) + "\n").encode())
    else:
        stdio.put((_heads(left, right) + text(found)).encode("utf-8", "replace"))
    return 1 if found else 0


def differences(a: Source, b: Source) -> list[Difference]:
    """What differs, the likeliest cause of another end first."""
    found = [Difference(what, lines) for what, lines in _all(a, b) if lines]
    evidence, stage = _failure(a, b)
    for each in found:
        pointed = what_points(each.what, evidence) or each.what in OF_STAGE.get(stage, ())
        named = [line for line in each.lines if names(line[1], evidence)]
        each.named = bool(evidence) and (pointed or bool(named))
        each.lines = [(sign, _shown(words)) for sign, words in
                      named + [line for line in each.lines if line not in named]]
    return sorted(found, key=lambda each: -each.weight)


def _shown(words: str) -> str:
    """A line without the logins in it: of two addresses that differ in nothing else this is said."""
    found = secrets.shown(words)
    before, arrow, after = found.partition(" → ")
    return f"{before}, with another login" if arrow and found != words and before.endswith(after) else found


def _failure(a: Source, b: Source) -> tuple[str, str]:
    """(what is known of the failure of the one that failed, the stage in which it did); of two failures the later."""
    for source in (b, a):
        if source.end.get("class") not in (None, "completed"):
            stage = str(source.end.get("stage") or "")
            return "\n".join(str(source.end.get(key) or "") for key in ("reason", "evidence")), stage
    return "", ""


def what_points(what: str, evidence: str) -> bool:
    """Whether the failure's lines point to this aspect."""
    return what in POINTERS and re.search(POINTERS[what], evidence) is not None


def names(line: str, evidence: str) -> bool:
    """Whether the failure's lines name what a line is about: a package, a file, an argument, a parameter."""
    subject = re.split(r"[=<>!~ @\[;:]|\.\.", line.strip().lstrip("-"))[0]
    spellings = {subject, os.path.basename(subject), subject.replace("-", "_"), subject.rpartition("/")[2]}
    return any(len(word) > 2 and re.search(rf"(?<![\w.]){re.escape(word)}(?!\w)", evidence, re.IGNORECASE)
               for word in spellings)


def _all(a: Source, b: Source) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    one, other = a.script, b.script
    yield "repository", _values(one.get("repository"), other.get("repository"))
    yield "commit", _commits(a, b)
    yield _changes(one, other)
    yield "packages", _packages(a.packages, b.packages) + _files(a, b)
    ran = [source.pins.get("python") for source in (a, b)]  # of one that has not run only what it asks for is known
    yield "interpreter", _values(*ran) if all(ran) else _values(one.get("binary"), other.get("binary"))
    words = _words(one.get("entry_point"), other.get("entry_point"))
    yield "entry point", [(sign, text.removeprefix("script ")) for sign, text in words if text.startswith("script ")]
    yield "arguments", [line for line in words if not line[1].startswith("script ")]
    yield "hyperparameters", _maps(_parameters(a.task), _parameters(b.task))
    yield "configuration", _maps(_configuration(a.task), _configuration(b.task))
    image, more = ((source.task.get("container") or {}) for source in (a, b))
    ran = [source.pins.get("image") for source in (a, b)]
    yield "image", _values(*ran) if all(ran) else _values(image.get("image"), more.get("image"))
    yield "container", _containers(image, more)
    if a.pins.get("driver") and b.pins.get("driver"):
        yield "driver", _values(a.pins["driver"], b.pins["driver"])
    yield "directory", _values(one.get("working_dir") or ".", other.get("working_dir") or ".")
    if a.worker and b.worker:
        yield "worker", _values(a.worker, b.worker)


def _values(a: Any, b: Any) -> list[tuple[str, str]]:
    return [] if (a or "") == (b or "") else [("~", f"{a or 'none'} → {b or 'none'}")]


def _commits(a: Source, b: Source) -> list[tuple[str, str]]:
    one, other = (source.pins.get("commit") or source.script.get("version_num") or "" for source in (a, b))
    if one == other:
        return []
    branches = [source.script.get("branch") or "" for source in (a, b)]
    shown = [f"{commit[:10] or 'the newest'}" + (f" ({branch})" if branch and branches[0] != branches[1] else "")
             for commit, branch in zip((one, other), branches, strict=True)]
    return [("~", " → ".join(shown))]


def _changes(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """The uncommitted changes, file by file; or the script that stands in their place."""
    from agentpipe.code import diff as diffs
    texts = [script.get("diff") or "" for script in (one, other)]
    if texts[0] == texts[1]:
        return "changes", []
    if "script" in map(diffs.kind, texts):
        import difflib
        lines = list(difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), n=0, lineterm=""))[2:]
        return "script", [(line[0], line[1:]) for line in lines if line[:1] in "+-"][:40]
    a, b = map(_by_file, texts)
    found = []
    for path in sorted({*a, *b}):
        if a.get(path) != b.get(path):
            sign = "-" if path not in b else "+" if path not in a else "~"
            found.append((sign, f"{path}: {_size(a.get(path))} → {_size(b.get(path))}"))
    return "changes", found or [("~", "the same files, written differently")]


def _by_file(text: str) -> dict[str, str]:
    parts = re.split(r"^diff --git ", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].rpartition(" b/")[2]: part for part in parts}


def _size(part: str | None) -> str:
    if part is None:
        return "not changed"
    lines = [line for line in part.splitlines() if not line.startswith(("+++", "---"))]
    return "+{} -{}".format(*(sum(line.startswith(sign) for line in lines) for sign in "+-"))


def _packages(a: list[str], b: list[str]) -> list[tuple[str, str]]:
    from agentpipe.task import edits
    one, other = ({edits.package_of(line) or line: line for line in lines} for lines in (a, b))
    found = []
    for name in sorted({*one, *other}):
        if name not in other:
            found.append(("-", one[name]))
        elif name not in one:
            found.append(("+", other[name]))
        elif one[name] != other[name]:
            versions = [re.sub(rf"^{re.escape(name)}\s*(==)?\s*", "", line, flags=re.IGNORECASE)
                        for line in (one[name], other[name])]
            if versions[0] != versions[1]:  # "clearml == 2.1" of the SDK, "clearml==2.1" of an installer
                found.append(("~", f"{name} {versions[0]} → {versions[1]}"))
    return found


def _files(a: Source, b: Source) -> list[tuple[str, str]]:
    """Packages of one version whose files have one name, and not the same in them: somebody has replaced one."""
    one, other = ({pin["name"]: pin for pin in source.pins.get("packages") or []
                   if isinstance(pin, dict) and pin.get("name") and pin.get("sha256")} for source in (a, b))
    found = []
    for name in sorted({*one} & {*other}):
        files = [os.path.basename(str(pin.get("source") or "").partition("#")[0]) for pin in (one[name], other[name])]
        digests = [str(pin["sha256"]) for pin in (one[name], other[name])]
        if files[0] == files[1] and digests[0] != digests[1]:
            found.append(("~", f"{name} {one[name].get('version') or ''}: {files[0] or 'its file'} is another file, "
                               f"sha256 {digests[0][:12]}… → {digests[1][:12]}…"))
    return found


def _containers(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str]]:
    """How they differ but for the image; of the values of secret variables only that they do."""
    from agentpipe.task import container_options
    one, other = ({**container_options.without_secrets(each), "image": ""} for each in (a, b))
    return _maps(one, other) + [("~", f"{field} {text}, with another secret") for field, text in one.items()
                                if text and other.get(field) == text and a[field] != b[field]]


def _words(a: Any, b: Any) -> list[tuple[str, str]]:
    if (a or "") == (b or ""):
        return []
    try:
        one, other = (_options(shlex.split(text or "")) for text in (a, b))
    except ValueError:
        return _values(a, b)
    return _maps(one, other) or _values(a, b)


def _options(words: list[str]) -> dict[str, str]:
    """{--option: value} of a command line; words that belong to no option by their place."""
    found: dict[str, str] = {}
    rest = list(words)
    place = 0
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word.startswith("-") and len(word) > 1 and place:
            if not equals and rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            found[name] = value
        else:
            found["script" if place == 0 else f"argument {place}"] = word
        place += 1
    return found


def _maps(a: dict[str, str], b: dict[str, str]) -> list[tuple[str, str]]:
    found = []
    for name in [*a, *(name for name in b if name not in a)]:
        if name not in b:
            found.append(("-", f"{name} {a[name]}".rstrip()))
        elif name not in a:
            found.append(("+", f"{name} {b[name]}".rstrip()))
        elif a[name] != b[name]:
            found.append(("~", f"{name} {a[name]} → {b[name]}"))
    return found


def _parameters(task: dict[str, Any]) -> dict[str, str]:
    return {f"{section}/{name}": str((item or {}).get("value"))
            for section, items in (task.get("hyperparams") or {}).items() for name, item in items.items()}


def _configuration(task: dict[str, Any]) -> dict[str, str]:
    return {name: _short(str((item or {}).get("value")))
            for name, item in (task.get("configuration") or {}).items()}


def _short(text: str) -> str:
    import hashlib
    return text if len(text) < 60 and "\n" not in text else \
        f"{len(text)} characters, {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _heads(a: Source, b: Source) -> str:
    return "".join(f"{side} {_head(source)}\n" for side, source in (("A", a), ("B", b)))


def _head(source: Source) -> str:
    end, task = source.end, source.task
    how = end.get("class") or task.get("status") or "has not run"
    if end.get("exit"):
        how += f", exit {end['exit']}"
    run = [each["seconds"] for each in source.stages if each["stage"] == "run" and each["seconds"] is not None]
    if run:
        how += f", ran {units.measured(run[0])}"
    return f"{(task.get('id') or 'by hand')[:20]}  {how}  {cells.plain(task.get('name') or '')}".rstrip()


def text(found: list[Difference]) -> str:
    """The differences for a screen."""
    if not found:
        return "no difference: the same code, packages, arguments and place\n"
    lines = []
    for each in found:
        lines += ["", each.what + ("   (the failure points to this)" if each.named else "")]
        lines += [f"  {sign if sign != '~' else ' '} {cells.plain(words)}" for sign, words in each.lines]
    return "\n".join(lines) + "\n"
