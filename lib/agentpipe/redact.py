"""Known secrets in what a task prints: replaced while it streams, wherever a read happens to cut it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

ENVIRONMENT = "Environment"  # the hyperparameters that become variables, with agent.enable_task_env
MASK = b"[REDACTED]"
_MASKED = MASK + b"@"
# shorter values are words that occur by themselves ("true", "root"): masking them would spoil the log
SHORTEST = 6
# as Buildkite's agent names them, and what tools of this field use (they stand in agent-report(1))
_NAMES = re.compile(r"(PASSWORD|PASSWD|PASSPHRASE|(^|_)(PASS|PWD)|SECRETS?|TOKEN|CREDENTIALS?|CONNECTION_STRING"
                    r"|(PRIVATE|ACCESS|SECRET|API)_?KEY)(_\d+)?$", re.IGNORECASE)
# other keys may be names of things: of a column, a metric, a setting of git
_KEYS = re.compile(r"(?<!PUBLIC)(?<!PUB)(?<!PRIMARY)(?<!FOREIGN)(?<!SORT)(?<!CACHE)(?<!PARTITION)_KEY(_\d+)?$",
                   re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z_.]{1,19}")
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")  # what everybody writes in the same way
# what stands behind a login's @, or its last: host/, host:port, a name with a dot that is no version, an IP address
_HOST = (r"(?:[^/@\s'\"]*@)*(?:[^/:@?#\s'\"\\]+(?::\d+(?!\w)|/)|[\w.-]{1,253}\.[A-Za-z]{2,63}(?![\w-])"
         r"|\d+(?:\.\d+){3}(?![\w-])|\[)")
# what stands for a port: a number, or how templates (`{port}`, `<port>`), cmd and printf write one that is put in later
_PORT = r"(?:\d+|\{[^/@\s]*\}|<[^/@\s]*>|%(?:\w+%|\(\w+\)[sd]|[sd]))[/?#]"
# a login whose password has a slash that nobody has escaped, up to its @, right behind "://": behind the colon stands
# no port, nor a variable that may be one. In a repository's address a path may begin behind an empty port, and in
# ssh://host:path@version, as people write host:path. A limit, above which it is taken for a login, keeps long lines
# from taking long.
_REPOSITORY = r"(?:(?<=(?i:ssh|git)://)|(?<=(?i:http)://)|(?<=(?i:https)://))"
LOGIN_WITH_SLASH = (rf"(?!(?<=(?i:ssh|git)://)[^@\s'\"\\]{{0,999}}(?:\.git@|@(?!{_HOST})))"
                    rf"(?!{_REPOSITORY}[^/:@\s'\"\[\\]*:[/?#][^@\s'\"\\]{{0,999}}@(?!{_HOST}))"
                    rf"[^/:@\s'\"\[\\]*:(?!{_PORT}|\$)([^/@\s'\"\\]{{0,999}}/[^@\s'\"\\]{{0,999}})@")
# user:password@ of any URL, whose password may have an @ or a few itself, or a token in the user's place; not
# docker://image:tag@sha256:…
_URL = re.compile(rb"(://(?:[^\s/@:]{0,128}:|(?=[^\s/@:]{16,256}@)))[^\s/@]{1,256}@(?!sha256:)"
                  rb"(?:[^\s/@'\",]{0,64}@){0,3}")
# what may be the begin of one
_URL_BEGUN = re.compile(rb"(?::/?|://[^\s/@]{0,385}(?:@[^\s/@'\",]{0,64}){0,4})\Z")
# a URL with a query, and a value in it: a sentence may go on behind it, whose marks do not belong to it
_WITH_QUERY = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{0,40}://[^\s'\"\\`<>?]{0,2000}\?[^\s'\"\\`<>]*")
_VALUE = re.compile(r"[?&]([^=&#?]+)=([^&#\s'\"\\`<>]+)")
_MARKS = ".,:;)}]"
_URL_LONGEST = 3 + 385 + 4 * 65


class Redactor:
    """Replaces by MASK in a stream: `secrets` (text or bytes; the longest where several fit), and passwords in URLs.

    A password that nobody knew of stands in a URL before an `@`: `https://user:password@host`.
    """

    def __init__(self, secrets: Iterable[str | bytes] = ()) -> None:
        known = {value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
                 for value in secrets}
        self.secrets = sorted((value for value in known if value), key=lambda value: (-len(value), value))
        self._longest = len(self.secrets[0]) if self.secrets else 0
        self._any = re.compile(b"|".join(re.escape(value) for value in self.secrets))
        self._by_first: dict[int, list[bytes]] = {}
        for value in self.secrets:
            self._by_first.setdefault(value[0], []).append(value)
        self._first = re.compile(b"[" + re.escape(bytes(self._by_first)) + b"]") if self.secrets else None
        self._held = b""

    def replace(self, data: bytes, final: bool) -> tuple[bytes, int]:
        """`data` without secrets, and how many of its bytes that is.

        The rest may be the begin of a secret: the caller gives it again with what follows. With `final`
        nothing follows and nothing is left.
        """
        stop = len(data) if final else self._held_from(data, 0)
        clear = data if stop == len(data) else data[:stop]
        if any(secret in data for secret in self.secrets):
            clear, stop = self._without_known(data, stop, final)
        if b"@" in clear and b"://" in clear:
            parts = _URL.split(clear)  # sub() takes twice as long
            parts[1::2] = [before + _MASKED for before in parts[1::2]]
            clear = b"".join(parts)
        return clear, stop

    def _without_known(self, data: bytes, stop: int, final: bool) -> tuple[bytes, int]:
        parts: list[bytes] = []
        done = 0
        while True:
            found = self._any.search(data, done)
            if not found or found.start() >= stop:
                break
            parts += data[done:found.start()], MASK
            done = found.end()
            if not final and done > stop:
                stop = self._held_from(data, done)
        parts.append(data[done:stop])
        return b"".join(parts), stop

    def feed(self, chunk: bytes) -> bytes:
        """What of the stream is certain after this chunk."""
        data = self._held + chunk
        out, used = self.replace(data, False)
        self._held = data[used:]
        return out

    def flush(self) -> bytes:
        """What was held back; the stream is over."""
        out, _ = self.replace(self._held, True)
        self._held = b""
        return out

    def text(self, value: str) -> str:
        """A whole text without secrets."""
        return self.replace(value.encode("utf-8", "surrogateescape"), True)[0].decode("utf-8", "replace")

    def _held_from(self, data: bytes, begin: int) -> int:
        """From where on `data` could be the begin of a secret, or of a URL, whose rest is still to come."""
        begun = _URL_BEGUN.search(data, max(begin, len(data) - _URL_LONGEST))
        held = begun.start() if begun else len(data)
        if self._first is None:
            return held
        for found in self._first.finditer(data, max(begin, len(data) - self._longest + 1)):
            at, left = found.start(), len(data) - found.start()
            for secret in self._by_first[data[at]]:
                if len(secret) > left and data.endswith(secret[:left]):
                    return min(at, held)
        return held


def is_secret_name(name: str) -> bool:
    """Whether a variable, or a value in a URL's query, of this name holds a secret."""
    return bool(_NAMES.search(name) or _KEYS.search(name))


def is_secret(name: str, value: str) -> bool:
    """Whether a variable of this name and value holds a secret, which may be too short to be looked for in a text."""
    named = _NAMES.search(name) or (_KEYS.search(name) and not _WORD.fullmatch(value))
    return bool(named and value and not value.startswith("/"))


def secrets_in(variables: Mapping[str, str] | Iterable[tuple[str, str]]) -> set[str]:
    """The values of variables that are secret by their names, and passwords in URLs; as others write them too."""
    found = set()
    for name, value in variables.items() if isinstance(variables, Mapping) else variables:
        secret = value.strip()  # whoever uses it does the same with a file's last newline
        if len(secret) >= SHORTEST and is_secret(name, secret):
            found.add(secret)
        found |= _in_urls(value)
    return spellings(found)


def _in_urls(text: str) -> set[str]:
    if "://" not in text:
        return set()
    # up to the last @ before the path, as urls.split_url; up to the first as well, where no URL was meant that far
    passwords = re.findall(r"://[^/@\s:]*:([^/\s'\"]+)@", text) + re.findall(r"://[^/@\s:]*:([^/@\s]+)@", text)
    passwords += re.findall("://" + LOGIN_WITH_SLASH, text)
    tokens = re.findall(r"https?://([^/@\s:]{16,})@", text)  # a token in the user's place
    queries = [value for value, _, _ in _query_secrets(text)]
    return {value for value in [*passwords, *tokens, *queries] if len(value) >= SHORTEST}


def without_query_secrets(text: str) -> str:
    """The text with `[REDACTED]` for each value in a URL's query whose name is a secret's (`?private_token=…`)."""
    for _, begin, end in reversed(_query_secrets(text)):
        text = f"{text[:begin]}{MASK.decode()}{text[end:]}"
    return text


def _query_secrets(text: str) -> list[tuple[str, int, int]]:
    """(value, where it begins, where it ends) of each; none is `${NAME}`, a variable, or masked already."""
    if "://" not in text or "=" not in text or "?" not in text:
        return []
    values = [(found[2][0] + found[2][1:].rstrip(_MARKS), found.start(2))
              for url in _WITH_QUERY.finditer(text)
              for found in _VALUE.finditer(text, url.start(), url.end())
              if is_secret_name(found[1].replace("-", "_")) and not found[2].startswith(("[", "${"))]
    return [(value, begin, begin + len(value)) for value, begin in values]


def spellings(values: Iterable[str]) -> set[str]:
    """These texts, and each as it stands in a URL (of Python, a form, a browser), in JSON, and in Python's repr()."""
    found: set[str] = set()
    for value in values:
        found.add(value)
        if not _PLAIN.fullmatch(value):
            import json
            from urllib.parse import quote, quote_plus
            found |= {quote(value, safe, errors="surrogateescape") for safe in ("", "/", "!'()*")}
            found |= {quote_plus(value, errors="surrogateescape"), repr(value)[1:-1],
                      repr(os.fsencode(value))[2:-1], json.dumps(value)[1:-1],
                      json.dumps(value, ensure_ascii=False)[1:-1]}
    return found
