"""Known secrets in what a task prints: replaced while it streams, wherever a read happens to cut it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from agentpipe import urls
from agentpipe.secret_names import is_secret

ENVIRONMENT = "Environment"  # the hyperparameters that become variables, with agent.enable_task_env
MASK = urls.REDACTED.encode()
_MASKED = MASK + b"@"
# shorter values are words that occur by themselves ("true", "root"): masking them would spoil the log
SHORTEST = 6
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")  # what everybody writes in the same way
# urls.py has the addresses of whole texts; these are for a stream, of which no more than so much can be held back:
# user:password@ of any, whose password may have an @ or a few itself, or a token in the user's place; not
# docker://image:tag@sha256:…
_URL = re.compile(rb"(://(?:[^\s/@:]{0,128}:|(?=[^\s/@:]{16,256}@)))[^\s/@]{1,256}@(?!sha256:)"
                  rb"(?:[^\s/@'\",]{0,64}@){0,3}")
# what may be the begin of one
_URL_BEGUN = re.compile(rb"(?::/?|://[^\s/@]{0,385}(?:@[^\s/@'\",]{0,64}){0,4})\Z")
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


def secrets_in(variables: Mapping[str, str] | Iterable[tuple[str, str]]) -> set[str]:
    """The values of variables that are secret by their names, and passwords in URLs; as others write them too."""
    found = set()
    for name, value in variables.items() if isinstance(variables, Mapping) else variables:
        secret = value.strip()  # whoever uses it does the same with a file's last newline
        if len(secret) >= SHORTEST and is_secret(name, secret):
            found.add(secret)
        found |= {each for each in urls.secrets_in(value) if len(each) >= SHORTEST}
    return spellings(found)


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
