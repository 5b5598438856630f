"""The secrets that arguments of `docker run` and shell scripts spell out, and so those that a task carries."""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Iterator, Mapping

from agentpipe.redact import ENVIRONMENT, MASK, secrets_in
from agentpipe.secret_names import is_secret_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# of `docker run`, in one word with the variable
_OPTION = re.compile(r"--[\w-]+=(?=\w+=)|-[diPqt]*e=?")
# in a shell script: NAME=, ${NAME:- or <<<, and what its value is made of: in quotes with its blanks and lines, else up
# to a blank; bounded, since a quote that is never closed would be looked for each time
_ASSIGNED = re.compile(r"\b(\w+)=|\$\{(\w+):?[-=](?=[^}$`]+\})|(?<!<)<<<(?!<)[ \t]*")
_QUOTED = re.compile(r"""(?s:\$'(?:\\.|[^'\\]){0,5000}'|\$?"(?:\\.|[^"\\]){0,5000}"|'[^']{0,5000}'|\\[ ]|\$?["'])""")
_BARE = re.compile(r"""(?:(?!\\[ ]|\$['"])[^\s"'])+""")
_PARTS = 99
_BETWEEN = re.compile(r"(?<!\\)[;&|()<>${]{1,9}\Z")  # what stands before the next one
_WORD = re.compile(r"[^\s;&|()<>'\"$]*")  # within it no other variable is set
_DEFAULT = re.compile(r"[^}]+")
# the value itself: a shell's word; up to a quote, where the script writes NAME=VALUE to a file; up to a blank, in a
# document
_MEANT = (r"""(?s:\$'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|'[^']*'|\\.|(?:(?!\$')[^\s;&|()<>'"\\])+)+""",
          r"""[^\s;&|()<>'"]+""", r"\S+")
_ANSI_C = re.compile(r"\$'((?:\\.|[^'\\])*)'", re.DOTALL)
_ESCAPED = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|u([0-9a-fA-F]{1,4})|([abeEfnrtv\\'\"?]))")
_ESCAPES = dict(zip("abeEfnrtv", "\a\b\x1b\x1b\f\n\r\t\v", strict=True))
_COMMAND = 200  # characters before a <<< in which its command is looked for


def task_secrets(task: Mapping[str, Any]) -> set[str]:
    """The secrets that a task carries: in its URLs, its `Environment` section, its container's arguments and set-up."""
    script, container = task.get("script") or {}, task.get("container") or {}
    command = f"{container.get('arguments') or ''} {(task.get('execution') or {}).get('docker_cmd') or ''}"
    texts = [script.get("repository"), command, *(script.get("requirements") or {}).values()]
    whole = "\n".join("\n".join(map(str, text)) if isinstance(text, list) else str(text or "") for text in texts)
    given = script_variables(str(container.get("setup_shell_script") or ""))
    section = (task.get("hyperparams") or {}).get(ENVIRONMENT) or {}
    for name, item in section.items():
        given.append((name, str((item.get("value") if isinstance(item, dict) else item) or "")))
    return secrets_in([*given, *argument_variables(command), ("", whole)])


def argument_variables(arguments: str | list[Any]) -> list[tuple[str, str]]:
    """(variable, value) of those that arguments of `docker run`, a text or its words, spell out, in whatever way: -e
    NAME=VALUE, quoted or not, --env=NAME=VALUE, -eNAME=VALUE, -ite=NAME=VALUE; one that is set twice has both values.
    """
    words = list(map(str, arguments)) if isinstance(arguments, list) else [arguments]
    if not any("=" in word for word in words):  # the usual case
        return []
    if isinstance(arguments, str):
        import shlex
        try:
            words = shlex.split(arguments)
        except ValueError:  # a quote too many
            words = arguments.split()
    found = []
    for word in words:
        option = _OPTION.match(word)
        name, equals, value = word[option.end() if option else 0:].partition("=")
        if equals:
            found.append((name, value))
    if isinstance(arguments, str):  # what stands within a word
        known = {name for name, _ in found}
        found += [given for given in re.findall(r"\b(\w+)=(\S+)", arguments) if given[0] not in known]
    return found


def script_variables(script: str | list[Any]) -> list[tuple[str, str]]:
    """(variable, value) of those that are secret by their names, and whose values a shell script, a text or its lines,
    spells out; one has several where it is set anew, and where the value may end here or there."""
    text = "\n".join(map(str, script)) if isinstance(script, list) else script
    found = []
    for name, begin, end in _secrets_of_script(text):
        given = text[begin:end]
        for value in {meant[0] for pattern in _MEANT if (meant := re.match(pattern, given))}:
            found += [(name, plain) for plain in _plain(value)]
    return found


def script_shown(text: str) -> str:
    """A shell script, without the values of variables that are secret by their names."""
    found, at, counted, quotes = list[str](), 0, 0, 0
    for _, begin, end in _secrets_of_script(text):
        if begin >= at:
            found += [text[at:begin], MASK.decode()]
        _, is_other, line = text[counted:begin].rpartition("\n")
        quotes = line.count('"') + (0 if is_other else quotes)
        counted = begin
        if quotes % 2 and (quote := re.compile(r'(?<!\\)"').search(text, begin + 1, end)):
            end = quote.start()  # NAME=VALUE within quotes: what follows them is shown again
        at = max(at, end)
    return "".join([*found, text[at:]])


def _secrets_of_script(text: str) -> Iterator[tuple[str, int, int]]:
    """(variable, where its value begins, where it ends at the latest) of each that is secret by its name.

    One may stand in what is taken for the value of another: behind a ;, or behind a quote that ends a text.
    """
    secret, at = list[tuple[str, re.Match[str]]](), 0
    for found in _ASSIGNED.finditer(text):
        if found.start() < at:
            continue
        name = found[1] or found[2] or _of_here_string(text, found.start())
        if is_secret_name(name):
            secret.append((name, found))
            word = _WORD.match(text, found.end())
            at = word.end() if word else at
    starts = [found.start() for _, found in secret]
    for name, found in secret:
        begin = found.end()
        default = _DEFAULT.match(text, begin) if found[2] else None
        end = default.end() if default else _value_end(text, begin, starts)
        if end > begin:
            yield name, begin, end


def _value_end(text: str, begin: int, starts: list[int]) -> int:
    """Where the value ends at the latest that begins there: in a document it may go on behind a ;, but outside of
    quotes not to where another secret is set (`starts`), lest each in a long line have all that follow."""
    end = begin
    for _ in range(_PARTS):
        next_one = bisect.bisect_right(starts, end)
        stop = starts[next_one] if next_one < len(starts) else len(text)
        found = _QUOTED.match(text, end) or _BARE.match(text, end, stop)
        if not found:
            break
        end = found.end()
        if end == stop < len(text):
            return begin + len(_BETWEEN.sub("", text[begin:end]))
    return end


def _of_here_string(text: str, at: int) -> str:
    """The secret that the command before this <<< names: `read A_TOKEN`, `login --password-stdin`; ""."""
    words = re.split(r"[\n;&|()<>]", text[max(0, at - _COMMAND):at])[-1].split()
    named = words if "read" in words else [word for word in words if word.startswith("--")]
    return next((word for word in (each.strip("-").removesuffix("-stdin").replace("-", "_") for each in named)
                 if is_secret_name(word)), "")


def _plain(value: str) -> list[str]:
    """What a word of the shell stands for, as sure as it can be said; nothing of one that has a variable in it."""
    if ansi_c := _ANSI_C.fullmatch(value):
        return [os.fsdecode(os.fsencode(_ESCAPED.sub(_escaped, ansi_c[1])))]  # a character may be told byte by byte
    value = value[1:] if value.startswith('$"') else value
    quote = value[:1] if value[:1] in ("'", '"') and value.endswith(value[:1]) else ""
    # within a value a $ behind a backslash is one; at its begin a document writes a variable so
    if quote != "'" and {"$", "`"} & set(re.sub(r"(?<=\w)\\.", "", value)):
        return []
    plain = value[1:-1] if quote else value
    return [plain, re.sub(r"\\(.)", r"\1", plain)]


def _escaped(found: re.Match[str]) -> str:
    """What bash's $'…' has behind a backslash."""
    if found[4]:
        return _ESCAPES.get(found[4], found[4])
    code = int(found[1] or found[3], 16) if found[1] or found[3] else int(found[2], 8) & 0xFF
    if found[3]:
        return chr(code) if not 0xD800 <= code < 0xE000 else found[0]
    return os.fsdecode(bytes([code]))
