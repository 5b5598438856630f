"""What one line of a requirement list says: its parts, and Failure 65 where they are not as they should be."""

from __future__ import annotations

import re

from agentpipe import errors
from agentpipe.environment.requirements import NAME, filled
from agentpipe.urls import without_credentials

VERSION = r"(?:===|==|~=|!=|<=|>=|<|>)\s*(?!=)[^\s,;()#]+"
REQUIREMENT = NAME + rf"(?:\(\s*)?(?:{VERSION}(?:\s*,\s*{VERSION})*(?:\s*,)?(?:\s*\))?|\))?"
SCHEMES = {"https", "http", "file", "git+https", "git+http", "git+ssh", "git+file", "git+git"}
SCHEMES_OF_PIP = ("hg+", "svn+", "bzr+")


def understood(line: str, where: str) -> str:
    """The line, when it is a name with versions and a marker; else Failure 65 that says how it should look."""
    body = re.split(r"\s--", line, maxsplit=1)[0].split(";", 1)[0].strip()
    if re.fullmatch(REQUIREMENT, body):
        return line
    line = without_credentials(line)
    conda = re.match(r"([A-Za-z0-9._-]+)\s*={1,3}\s*([0-9][^=\s#]*)([=#].*)?$", body)
    # `=>1`, and extras that nothing closes
    turned = re.sub(r"=(?=[<>])([<>])", r"\1=", re.sub(r"(\[[\w.,-]+)(?=$|[<>=!~])", r"\1]", body))
    meant = f"{conda[1]}=={conda[2]}" if conda else turned if re.fullmatch(REQUIREMENT, turned) else ""
    meant += line.partition(body)[2] if meant else ""  # its marker
    good = re.match(REQUIREMENT, body)
    rest = without_credentials(body[good.end():]) if good else ""
    wrong = f" ('{rest}' behind '{good[0].rstrip()}' is not understood)" if good else ""
    raise errors.Failure(f"{where} is not a requirement: {line}{wrong}", errors.BAD_DATA, evidence=line,
                         remedy=f"write {meant or 'NAME, NAME==VERSION or NAME @ URL'} instead of '{line}' in the "
                                "requirements",
                         change=("--drop-package", line, *(("--package", meant) if meant else ())))


def by_ssh(text: str) -> str:
    """With `git+git@HOST:PATH`, as pip wrote until its version 21, as the URL that it means."""
    return re.sub(r"(^|\s)git\+([\w.-]+@[\w.-]+):(?!/)", r"\1git+ssh://\2/", text, count=1)


def check_scheme(url: str, line: str, where: str) -> None:
    """Failure 65 for an address that no installer fetches from: uv takes it for a path of this machine."""
    scheme, mark, _ = filled(url).partition("://")
    if not mark or scheme in SCHEMES or scheme.startswith(SCHEMES_OF_PIP):
        return
    shown = without_credentials(line)
    raise errors.Failure(f"{where}: nothing can be fetched by {scheme}://: {shown}", errors.BAD_DATA, evidence=shown,
                         remedy=f"correct '{shown}' in the requirements: https://, or git+https:// for a repository",
                         change=("--drop-package", line))


def pinned_by_hash(line: str, where: str) -> str:
    """The line; Failure 65 where it has a hash and no one version: pip takes none, and uv would not look at it."""
    body = re.split(r"\s--", line, maxsplit=1)[0].split(";", 1)[0]
    if re.search(r"\s--hash\b", line) and ("==" not in body or "*" in body):
        raise errors.Failure(f"{where} has a hash, but no version that it is of: {line}"[:300], errors.BAD_DATA,
                             evidence=line, remedy=f"write '{body.strip()}' as NAME==VERSION, or take its hash out of "
                                                   "the requirements")
    return line


def marker_of(text: str, line: str, where: str) -> str:
    """The condition behind a path's `;`, when it is one; else Failure 65."""
    if not text.strip():
        return ""
    from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
    try:
        Marker(text).evaluate()  # here: whether it can be
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName) as error:
        raise errors.Failure(f"{where}: what stands behind the ; is no marker: {text.strip()}", errors.BAD_DATA,
                             evidence=str(error), change=("--drop-package", line),
                             remedy=f"write it as ; python_version < \"3.12\" instead of '{text.strip()}'") from None
    return text.strip()


def without_hashes(text: str) -> tuple[str, list[str]]:
    """(what stands before a line's hashes, these: "sha256:…")."""
    body, *flags = re.split(r"\s(?=--hash\b)", text)
    return body.rstrip(), [flag.removeprefix("--hash").strip(" =") for flag in flags]


def unquoted(value: str) -> str:
    """An option's value; the quotes of a path end before its extras and its marker."""
    match = re.match(r"""(["'])(.*?)\1(\s*(?:\[[^\]]*\]\s*)?(?:;.*)?)$""", value)
    return match[2] + match[3] if match else value


def url_path(url: str) -> str:
    """The path of a file: URL; Failure 65 for one that names a machine, as file://lib does."""
    from urllib.parse import unquote
    rest = url.split("#", 1)[0].removeprefix("file:")
    if rest.startswith("//"):
        host, _, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise errors.Failure(f"{url} names a machine, {host}, and no file of this one", errors.BAD_DATA,
                                 remedy=f"write ./{host}{path and '/' + path} for what is in the repository, or "
                                        "file:///PATH", change=errors.CODE_ANEW)
        rest = f"/{path}"
    path = unquote(rest.partition("?")[0])
    if "\0" in path:
        raise errors.Failure(f"{url} is no address of a file", errors.BAD_DATA, remedy="write file:///PATH",
                             change=errors.CODE_ANEW)
    return path
