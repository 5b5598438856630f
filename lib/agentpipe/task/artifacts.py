"""agent-task artifacts: what a task has made, and one of it as a file."""

from __future__ import annotations

import json
import os

from agentpipe import cells, errors, find, stdio, units
from agentpipe.task.output import put, say
from agentpipe.transport import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any

    import requests

CONNECT_S, READ_S = 10.0, 60.0
PIECE = 1 << 20


def artifacts(word: str, name: str | None, output: str | None, force: bool, as_json: bool) -> None:
    """List artefacts and output models, or copy the one of that name.

    A file that the user named is written over, as cp and curl do; one whose name came with the artefact only by force.
    """
    server = api.connect()
    task = find.task(server, word)
    found = of_task(server, task)
    if name is None:
        if output or force:
            raise errors.Failure("--output and --force want --get NAME", errors.USAGE)
        if not found:
            say(f"task {task['id']} has neither artefacts nor models")
        put("".join(json.dumps(row) + "\n" for row in found) if as_json else table(found))
        return
    fits = [row for row in found if row["name"] == name] \
        or [row for row in found if row.get("model") == name]
    if not fits:
        names = ", ".join(str(row["name"]) for row in found) or "none"
        raise errors.Failure(f"task {task['id']} has no artefact `{name}`; there are: {names}", errors.NOT_FOUND)
    path = copy(server, fits[0], output, force)
    if path and as_json:
        put(json.dumps({**fits[0], "path": path}) + "\n")
    elif path:
        say(path)


def of_task(server: Any, task: dict[str, Any]) -> list[dict[str, Any]]:
    """[{name, kind, type, size, uri, hash}]: `kind` is artifact or model; of a model also `model`, its own name, where
    the task knows it by another (the package's key)."""
    found = [{"name": each.get("key"), "kind": "artifact", "type": each.get("type"),
              "size": each.get("content_size"), "uri": each.get("uri"), "hash": each.get("hash")}
             for each in (task.get("execution") or {}).get("artifacts") or []]
    entries = (task.get("models") or {}).get("output") or []
    ids = [each["model"] for each in entries if isinstance(each, dict) and each.get("model")]
    models = {}
    if ids:
        asked = {"id": ids, "only_fields": ["id", "name", "uri", "framework"], "search_hidden": True}
        models = {each["id"]: each for each in server.call("models.get_all", asked)["models"]}
    for each in entries:
        model = models.get(each.get("model") if isinstance(each, dict) else each) or {}
        name = (each.get("name") if isinstance(each, dict) else None) or model.get("name")
        found.append({"name": name, "kind": "model", "type": model.get("framework"), "size": None,
                      "uri": model.get("uri"), "hash": None, "model": model.get("name")})
    return found


def table(found: list[dict[str, Any]]) -> str:
    """The list for a screen."""
    if not found:
        return ""
    rows = [("NAME", "KIND", "TYPE", "SIZE", "URI")]
    for row in found:
        rows.append((cells.plain(str(row["name"])), row["kind"], cells.plain(str(row["type"] or "")),
                     units.size(row["size"]), cells.plain(row["uri"] or "")))
    widths = [max(cells.width(row[column]) for row in rows) for column in range(4)]
    return "".join("  ".join([*map(cells.padded, row[:4], widths), row[4]]).rstrip() + "\n" for row in rows)


def copy(server: Any, row: dict[str, Any], output: str | None, force: bool = False) -> str:
    """Write the artefact's file to `output` ("-": standard output; or into a folder); the path, "" for stdout.

    Failure 73 when a file would be written over whose name nobody has typed, unless by `force`.
    """
    from contextlib import closing
    scheme, path = _parts(row)
    if scheme not in ("http", "https", "file", ""):
        raise errors.Failure(f"{row['name']} is at {row['uri']}", errors.NOT_FOUND,
                             remedy=f"a tool for {scheme} fetches it")
    own_name = os.path.basename(path) or os.path.basename(str(row["name"])) or "artifact"
    target = os.path.join(output, own_name) if output and os.path.isdir(output) else output or own_name
    if target != output and os.path.lexists(target) and not force:
        raise errors.Failure(f"{target} is there already", errors.CANNOT_CREATE, remedy="--force, or --output PATH")
    own = _own_file(server, path) if scheme.startswith("http") else path
    with closing(_of_file(own) if own else _of_server(server, row["uri"])) as pieces:
        if target == "-":
            for piece in pieces:
                stdio.put(piece)
            return ""
        target = os.path.realpath(target) if os.path.islink(target) else target
        _written(pieces, target)
    return target


def _parts(row: dict[str, Any]) -> tuple[str, str]:
    """(scheme, path) of an artefact's address; Failure 66 where it has none, or one that is none."""
    from urllib.parse import unquote, urlsplit
    if not row["uri"]:
        raise errors.Failure(f"{row['name']} has no address: nothing of it was stored, or it is gone", errors.NOT_FOUND)
    try:
        found = urlsplit(row["uri"])
    except ValueError as error:
        raise errors.Failure(f"{row['name']} is at {row['uri']}: {error}", errors.NOT_FOUND) from None
    return found.scheme, unquote(found.path)


def _written(pieces: Iterator[bytes], target: str) -> None:
    """All of it as the file `target`, whole or not at all; a device or a pipe is written to, never replaced."""
    in_place = os.path.exists(target) and not os.path.isfile(target)
    part = target if in_place else f"{target}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            for piece in pieces:
                file.write(piece)
        if not in_place:
            os.rename(part, target)
    except OSError as error:
        raise errors.Failure(f"{target}: {error.strerror}", errors.CANNOT_CREATE) from None
    finally:
        if not in_place and os.path.exists(part):
            os.unlink(part)


def _own_file(server: Any, path: str) -> str:
    """Where agent-server keeps what was uploaded to it, when this is its machine; "" otherwise."""
    from agentpipe import paths
    root = os.path.realpath(paths.state("files"))
    found = os.path.realpath(os.path.join(root, path.lstrip("/")))
    return found if server.embedded and found.startswith(root + "/") and os.path.isfile(found) else ""


def _of_file(path: str) -> Generator[bytes]:
    """All that a file of this machine has."""
    try:
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise errors.Failure(f"{path}: {error.strerror}", errors.NOT_FOUND,
                             remedy="it is on the machine that ran the task") from None


def _of_server(server: Any, uri: str) -> Generator[bytes]:
    """All of a file as it is stored; Failure 69 when its server has sent less than it said it would."""
    import urllib3
    with _answer(server, uri) as answer:
        answer.raw.enforce_content_length = False
        try:
            while piece := answer.raw.read(PIECE):
                yield piece
            missing = answer.raw.length_remaining
            cut = f"{missing} bytes are missing" if missing else ""
        except (OSError, urllib3.exceptions.HTTPError) as error:
            cut = str(error)
    if cut:
        raise errors.Failure(f"{uri}: the download was cut: {cut}", errors.UNAVAILABLE, remedy="try it again")


def _answer(server: Any, uri: str) -> requests.Response:
    """The answer to a GET; the files server alone gets our token, and is checked by the authority that was set."""
    import requests

    from agentpipe.transport import artifact_files, http_transport
    headers = {"Accept-Encoding": "identity"}  # the file, not what it was packed from
    is_own = not server.embedded and uri.startswith(artifact_files.server(server) + "/")
    if is_own:
        headers["Authorization"] = f"Bearer {server.token()}"
    try:
        answer = requests.get(uri, headers=headers, timeout=(CONNECT_S, READ_S), stream=True,
                              auth=lambda request: request, verify=http_transport.certificate() if is_own else True)
    except (requests.exceptions.RequestException, UnicodeError) as error:
        raise errors.Failure(f"{uri}: {http_transport.innermost(error)}", errors.UNAVAILABLE,
                             remedy="agent-config check") from None
    if answer.status_code != 200:
        answer.close()
        away = answer.status_code >= 500 or answer.status_code == 429
        code = errors.NO_PERMISSION if answer.status_code in (401, 403) else errors.UNAVAILABLE if away \
            else errors.NOT_FOUND
        raise errors.Failure(f"{uri}: the files server answers {answer.status_code}", code, remedy="agent-config check")
    return answer
