"""agent-task artifacts: what a task has made, and one of it as a file."""

from __future__ import annotations

import json
import os

from agentpipe import cells, errors, find, stdio, units
from agentpipe.task.output import put, say
from agentpipe.transport import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

TIMEOUT_S = 60


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
    fits = [row for row in found if row["name"] == name]
    if not fits:
        names = ", ".join(row["name"] for row in found) or "none"
        raise errors.Failure(f"task {task['id']} has no artefact `{name}`; there are: {names}", errors.NOT_FOUND)
    path = copy(server, fits[0], output, force)
    if path and as_json:
        put(json.dumps({**fits[0], "path": path}) + "\n")
    elif path:
        say(path)


def of_task(server: Any, task: dict[str, Any]) -> list[dict[str, Any]]:
    """[{name, kind, type, size, uri, iteration}]: `kind` is artifact or model."""
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
                      "uri": model.get("uri"), "hash": None})
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
    from urllib.parse import unquote, urlsplit
    uri = row["uri"] or ""
    scheme = urlsplit(uri).scheme
    if scheme not in ("http", "https", "file", ""):
        raise errors.Failure(f"{row['name']} is at {uri}", errors.NOT_FOUND, remedy=f"a tool for {scheme} fetches it")
    own_name = os.path.basename(unquote(urlsplit(uri).path)) or os.path.basename(str(row["name"])) or "artifact"
    target = os.path.join(output, own_name) if output and os.path.isdir(output) else output or own_name
    if target != output and os.path.lexists(target) and not force:
        raise errors.Failure(f"{target} is there already", errors.CANNOT_CREATE, remedy="--force, or --output PATH")
    own = _own_file(server, unquote(urlsplit(uri).path)) if scheme.startswith("http") else unquote(urlsplit(uri).path)
    source = _opened(own) if own else _downloaded(server, uri)
    with source:
        if target == "-":
            for piece in _pieces(source, uri):
                stdio.put(piece)
            return ""
        target = os.path.realpath(target) if os.path.islink(target) else target
        _written(_pieces(source, uri), target)
    return target


def _pieces(source: Any, uri: str) -> Iterator[bytes]:
    """All that an open file or answer has; Failure 69 when the server has sent less than it said it would."""
    from http.client import HTTPException
    try:
        while piece := source.read(1 << 20):
            yield piece
        cut = "" if not getattr(source, "length", None) else f"{source.length} bytes are missing"
    except (OSError, HTTPException) as error:
        cut = str(error)
    if cut:
        raise errors.Failure(f"{uri}: the download was cut: {cut}", errors.UNAVAILABLE, remedy="try it again")


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


def _opened(path: str) -> Any:
    try:
        return open(path, "rb")
    except OSError as error:
        raise errors.Failure(f"{path}: {error.strerror}", errors.NOT_FOUND,
                             remedy="it is on the machine that ran the task") from None


def _downloaded(server: Any, uri: str) -> Any:
    """The answer to a GET; our token goes to the configured files server only."""
    import urllib.error
    import urllib.request

    from agentpipe.settings import config
    request = urllib.request.Request(uri)
    files = str(config.get("api.files_server", None, "CLEARML_FILES_HOST") or "")
    if files and uri.startswith(files.rstrip("/") + "/") and not server.embedded:
        request.add_unredirected_header("Authorization", f"Bearer {server.token()}")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        code = errors.NO_PERMISSION if error.code in (401, 403) else errors.NOT_FOUND
        raise errors.Failure(f"{uri}: the files server answers {error.code}", code,
                             remedy="agent-config check") from None
    except (urllib.error.URLError, TimeoutError) as error:
        raise errors.Failure(f"{uri}: {getattr(error, 'reason', error)}", errors.UNAVAILABLE,
                             remedy="agent-config check") from None
