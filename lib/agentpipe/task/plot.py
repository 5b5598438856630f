"""agent-task plot: a task's scalars as curves of characters."""

from __future__ import annotations

import json
import math

from agentpipe import cells, errors, find, stdio
from agentpipe.task import output
from agentpipe.transport import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Curves = dict[str, dict[str, dict[str, Any]]]

WIDTH = 80
WIDEST = 200
MACHINE = ":monitor:"
UNITS = ("_gb", "_mbs", "_temperature", "_power_draw")  # by the ends of the SDK's names; the rest is in percent
# the dots of a braille character, by row and column (Unicode block 2800)
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
MARKS = "*+ox#@"  # of the variants of one metric, where braille cannot be shown or several share a chart
COLOURS = (36, 33, 35, 32, 31, 34)


def plot(word: str, wanted: list[str], width: int | None, height: int, as_json: bool) -> None:
    """Draw the metrics that fit; --json gives their points."""
    for option, given, least in (("--height", height, 2), ("--width", width, 20)):
        if given is not None and given < least:
            raise errors.Failure(f"{option} {given}: it wants {least} or more", errors.USAGE)
    server = api.connect()
    known = find.task(server, word, ("status", "last_metrics"))
    task = known["id"]
    columns = min(width or output.columns() or WIDTH, WIDEST) - 11
    found = chosen(server.call("events.scalar_metrics_iter_histogram", {"task": task, "samples": 2 * columns}), wanted)
    _learn_the_last(found, known.get("last_metrics") or {})
    if not found:
        raise errors.Failure(f"task {task} has no scalars" + (f" like {', '.join(wanted)}" if wanted else ""),
                             errors.NOT_FOUND, remedy=f"agent-task log {task}")
    for metric, variants in found.items():
        if as_json:
            for variant, curve in variants.items():
                # JSON has no word for what is infinite
                finite = [y if math.isfinite(y) else None for y in curve["y"]]
                last = newest(curve)
                row = {"metric": metric, "variant": variant, "x": curve["x"], "y": finite,
                       "last": last if math.isfinite(last) else None}
                stdio.put((json.dumps(row) + "\n").encode())
        else:
            for some in alike(metric, variants):
                stdio.put(chart(metric, some, columns, height, output.beyond_ascii(),
                                output.coloured()).encode("utf-8", "replace"))


def chosen(answer: Curves, wanted: list[str]) -> Curves:
    """The curves whose `metric/variant` has one of these texts in it; without any all but the machine's."""
    found: Curves = {}
    for metric in sorted(answer):
        for variant, curve in sorted(answer[metric].items()):
            name = f"{metric}/{variant}".lower()
            fits = any(text.lower() in name for text in wanted) if wanted else not metric.startswith(MACHINE)
            if fits and curve["x"] and curve["y"]:
                # over HTTP what is infinite is null
                numbers = [math.nan if y is None else y for y in curve["y"]]
                found.setdefault(metric, {})[variant] = {**curve, "y": numbers}
    return found


def _learn_the_last(curves: Curves, metrics: dict[str, dict[str, Any]]) -> None:
    """The newest value of each curve that is thinned: its last point is a mean of several."""
    told = {(each.get("metric"), each.get("variant")): each
            for variants in metrics.values() for each in variants.values()}
    for metric, variants in curves.items():
        for variant, curve in variants.items():
            known = told.get((metric, variant), {})
            if (known.get("count") or 0) > len(curve["x"]) and known.get("value") is not None:
                curve["last"] = known["value"]


def newest(curve: dict[str, Any]) -> float:
    """The last value that a script reported."""
    return curve.get("last", curve["y"][-1])


def alike(metric: str, variants: dict[str, Any]) -> list[dict[str, Any]]:
    """The variants that share a chart: all of a script's metric; of the machine's those with the same unit."""
    if not metric.startswith(MACHINE):
        return [variants]
    found: dict[str, dict[str, Any]] = {}
    for variant, curve in variants.items():
        found.setdefault(next((end for end in UNITS if variant.endswith(end)), ""), {})[variant] = curve
    return list(found.values())


def chart(metric: str, variants: dict[str, dict[str, Any]], columns: int, rows: int, dots: bool = True,
          colour: bool = False) -> str:
    """One chart of all variants of a metric: `columns` × `rows` characters and their axes."""
    xs = [x for curve in variants.values() for x in curve["x"]]
    ys = [y for curve in variants.values() for y in curve["y"] if math.isfinite(y)]
    bounds = min(xs), max(xs), min(ys, default=0), max(ys, default=0)
    fine = (2, 4) if dots else (1, 1)
    drawn: dict[tuple[int, int], tuple[int, int]] = {}  # (row, column) → (dots, number of the variant)
    for number, curve in enumerate(variants.values()):
        for column, row in _pixels(curve, bounds, columns * fine[0], rows * fine[1]):
            cell = row // fine[1], column // fine[0]
            bit = DOTS[row % 4][column % 2] if dots else 1
            drawn[cell] = (drawn.get(cell, (0, 0))[0] | bit, number)
    lines = [_title(metric, variants, dots, colour)]
    for row in range(rows):
        label = _number(bounds[3]) if row == 0 else _number(bounds[2]) if row == rows - 1 else ""
        line = "".join(_cell(drawn.get((row, column)), dots, colour) for column in range(columns))
        lines.append(f"{label:>9} {'┤' if dots else '|'}{line}".rstrip())
    left, right = _number(bounds[0]), _number(bounds[1])
    lines.append(" " * 11 + left + right.rjust(max(1, columns - len(left))))
    return "\n".join(lines) + "\n\n"


def _pixels(curve: dict[str, Any], bounds: tuple[float, ...], wide: int, high: int) -> list[tuple[int, int]]:
    """The dots of a curve, with lines between its points; what is infinite is left out."""
    left, right, low, top = bounds
    from itertools import pairwise
    # halves, since from the lowest to the highest number there is no number
    across, up = (right - left) or 1, (top / 2 - low / 2) or 1
    points = [(round((x - left) / across * (wide - 1)),
               round((top / 2 - y / 2) / up * (high - 1)) if top > low else high // 2)
              for x, y in zip(curve["x"], curve["y"], strict=False) if math.isfinite(y)]
    found = points[:1]
    for (x0, y0), (x1, y1) in pairwise(points):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        found += [(x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps))
                  for step in range(1, steps + 1)]
    return found


def _cell(cell: tuple[int, int] | None, dots: bool, colour: bool) -> str:
    if cell is None:
        return " "
    text = chr(0x2800 + cell[0]) if dots else MARKS[cell[1] % len(MARKS)]
    return f"\x1b[{COLOURS[cell[1] % len(COLOURS)]}m{text}\x1b[0m" if colour else text


def _title(metric: str, variants: dict[str, dict[str, Any]], dots: bool, colour: bool) -> str:
    names = []
    for number, (variant, curve) in enumerate(variants.items()):
        mark = "" if len(variants) == 1 or dots else MARKS[number % len(MARKS)] + " "
        name = f"{mark}{cells.plain(variant)} {_number(newest(curve))}"
        names.append(f"\x1b[{COLOURS[number % len(COLOURS)]}m{name}\x1b[0m" if colour else name)
    return f"{cells.plain(metric)}: {', '.join(names)}"


def _number(value: float) -> str:
    return f"{value:.4g}"
