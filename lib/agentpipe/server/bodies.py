"""What a request carries: JSON, lines of JSON, a query string or a form (server.md §2)."""

from __future__ import annotations

from agentpipe.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LINES = "application/json-lines"
FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 1000


def parse(data: bytes, kind: str, query: str = "") -> Any:
    """The body of a call: an object, or a list where lines were sent; 400/12 when it cannot be read."""
    kind = kind.partition(";")[0].strip().lower()
    if kind == FORM:
        query = "&".join(filter(None, [query, data.decode("utf-8", "replace")]))
        data = b""
    try:
        found: Any = _lines(data) if kind == LINES else _json(data) if data.strip() else {}
    except (ValueError, RecursionError) as problem:
        text = f"the body is not JSON: {str(problem)[:100]}: {data[:60]!r}"
        raise ApiError(400, 12, f"validation error ({text})") from None
    if query and isinstance(found, dict):
        _merge(found, query)
    return found


def _lines(data: bytes) -> list[Any]:
    """One JSON value a line."""
    import orjson
    lines = [line for line in data.split(b"\n") if line.strip()]
    try:
        # all at once takes half the time of one after the other
        found = orjson.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        found = []
    return found if len(found) == len(lines) else [_json(line) for line in lines]


def _json(data: bytes) -> Any:
    import orjson
    try:
        return orjson.loads(data)
    except ValueError:
        # NaN, lone surrogates and long numbers, which Python's own clients send
        import json
        return json.loads(data.decode("utf-8", "surrogatepass"))


def _merge(body: dict[str, Any], query: str) -> None:
    """Write the fields of a query string over the body: `a.b=` nests, `a[]=` or a repeated one is a list."""
    from urllib.parse import parse_qs
    try:
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise ApiError(400, 12, f"validation error (more than {MOST_FIELDS} fields in a query or form)") from None
    for name, texts in fields.items():
        values = [_typed(text) for text in texts]
        listed = name.endswith("[]") or len(values) > 1
        *above, last = name.removesuffix("[]").split(".")
        inner = body
        for key in above:
            below = inner.get(key)
            if not isinstance(below, dict):
                below = inner[key] = {}
            inner = below
        inner[last] = values if listed else values[0]


def _typed(text: str) -> Any:
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def dump(value: Any) -> bytes:
    """An answer as JSON; what JSON has no number for (NaN) becomes null."""
    import orjson
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        import json
        return json.dumps(value, separators=(",", ":")).encode()
