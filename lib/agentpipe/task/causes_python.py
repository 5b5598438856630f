"""Code for another Python than the one that it ran with: newer syntax and modules, and what newer ones have lost."""

from __future__ import annotations

import re

from agentpipe.task.remedies import with_python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

    Version = tuple[int, int]

# a line that an older Python takes for a mistake, and the first version that reads it (docs.python.org, "What's New")
SYNTAX: tuple[tuple[str, Version], ...] = (
    (r"type\s+\w+\s*(\[.*\])?\s*=", (3, 12)), (r"(async\s+)?def\s+\w+\s*\[|class\s+\w+\s*\[", (3, 12)),
    (r"except\s*\*", (3, 11)), (r"(match|case)\b.*:\s*(#.*)?$", (3, 10)), (r"(async\s+)?with\s*\($", (3, 9)),
    (r".*:=", (3, 8)), (r"(async\s+)?def\s+\w+\s*\(.*,\s*/\s*[,)]", (3, 8)))
# what the error itself says, and how the line looks
SAID: tuple[tuple[str, str, Version], ...] = (
    ("f-string expression part cannot include", "", (3, 12)),
    ("f-string: (unmatched|expecting)", r"""f(["'])[^"']*\{[^}]*\1[^}]*\1.*\}""", (3, 12)),  # its quotes within it
    ("future feature annotations is not defined", "", (3, 7)))
MODULES: dict[str, Version] = {
    "tomllib": (3, 11), "zoneinfo": (3, 9), "graphlib": (3, 9), "dataclasses": (3, 7), "contextvars": (3, 7),
    "annotationlib": (3, 14), "compression": (3, 14)}
NAMES: tuple[tuple[str, Version, str], ...] = (
    ("typing", (3, 8), "Final Literal Protocol SupportsIndex TypedDict final get_args get_origin runtime_checkable"),
    ("typing", (3, 9), "Annotated"), ("typing", (3, 10), "Concatenate ParamSpec TypeAlias TypeGuard is_typeddict"),
    ("typing", (3, 11), "LiteralString Never NotRequired Required Self TypeVarTuple Unpack assert_never assert_type "
                        "dataclass_transform reveal_type"),
    ("typing", (3, 12), "TypeAliasType override"), ("typing", (3, 13), "NoDefault ReadOnly TypeIs"),
    ("functools", (3, 8), "cached_property singledispatchmethod"), ("functools", (3, 9), "cache"),
    ("itertools", (3, 10), "pairwise"), ("itertools", (3, 12), "batched"),
    ("enum", (3, 11), "ReprEnum StrEnum member nonmember verify"), ("datetime", (3, 11), "UTC"),
    ("collections.abc", (3, 12), "Buffer"), ("warnings", (3, 13), "deprecated"))
# the last version that has it
GONE: dict[str, Version] = {
    "imp": (3, 11), "asynchat": (3, 11), "asyncore": (3, 11), "smtpd": (3, 11), "cgi": (3, 12), "cgitb": (3, 12),
    "crypt": (3, 12), "imghdr": (3, 12), "sndhdr": (3, 12), "telnetlib": (3, 12), "pipes": (3, 12), "uu": (3, 12),
    "xdrlib": (3, 12), "audioop": (3, 12), "chunk": (3, 12), "nntplib": (3, 12), "mailcap": (3, 12)}
LINE = re.compile(r'\s*(?:\| *)?File "[^"]+", line \d+$')


def cause(task: dict[str, Any], evidence: str) -> Known | None:
    """What the code asks of a Python that is newer, or older, than the one that it ran with."""
    ran = _version(task)
    if not ran:
        return None
    for what, wanted in (_syntax(evidence), _import(evidence), _types(evidence)):
        if wanted and wanted > ran:
            return {"reason": f"{what} needs Python {_text(wanted)} or newer, and it ran with {_text(ran)}",
                    "remedy": with_python(task, _text(wanted))}
    gone = re.findall(r"^ModuleNotFoundError: No module named '(\w+)", evidence, re.MULTILINE)
    last = GONE.get(gone[-1]) if gone else None
    if last and last < ran:
        return {"reason": f"Python {_text(ran)} has no {gone[-1]} any more, {_text(last)} is the last that has",
                "remedy": with_python(task, _text(last)), "advice": f"do without {gone[-1]}"}
    return None


def _syntax(evidence: str) -> tuple[str, Version | None]:
    """(the line that it is about, the first Python that reads such a one)."""
    lines = evidence.splitlines()
    said = [number for number, line in enumerate(lines) if line.startswith("SyntaxError: ")]
    places = [number for number, line in enumerate(lines[:said[-1]] if said else ()) if LINE.match(line)]
    if not places or places[-1] + 1 >= said[-1]:
        return "", None
    code = lines[places[-1] + 1].strip()
    versions = [version for pattern, version in SYNTAX if re.match(pattern, code)]
    versions += [version for words, pattern, version in SAID
                 if re.search(words, lines[said[-1]]) and re.search(pattern, code)]
    return f"its syntax ({code[:60]})", max(versions, default=None)


def _import(evidence: str) -> tuple[str, Version | None]:
    missing = re.findall(r"^ModuleNotFoundError: No module named '(\w+)", evidence, re.MULTILINE)
    if missing:
        return f"the module {missing[-1]}", MODULES.get(missing[-1])
    named = re.findall(r"^ImportError: cannot import name '(\w+)' from '([\w.]+)'", evidence, re.MULTILINE)
    for name, module in named[-1:]:
        for where, version, names in NAMES:
            if where == module and name in names.split():
                return f"{module}.{name}", version
    return "", None


def _types(evidence: str) -> tuple[str, Version | None]:
    """Types written as in newer versions: `int | None`, `list[int]`."""
    last = evidence.strip().rpartition("\n")[2]
    if re.match(r"TypeError: unsupported operand type\(s\) for \|: '(type|\w*GenericAlias|NoneType)'", last):
        return "a type that is written with |", (3, 10)
    if re.match(r"TypeError: '(type|ABCMeta)' object is not subscriptable", last):
        return "a type that is written as list[int]", (3, 9)
    return "", None


def _version(task: dict[str, Any]) -> Version | None:
    """(major, minor) of the Python that it ran with; None of one that is not known."""
    found = re.match(r"(\d+)\.(\d+)", str((task.get("runtime") or {}).get("python_version") or ""))
    return (int(found[1]), int(found[2])) if found else None


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
