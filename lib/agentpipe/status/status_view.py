"""agent-status as text: sections of rows that fit the terminal's width and height."""

from __future__ import annotations

import re

from agentpipe import cells, units
from agentpipe.task import view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Row = tuple[str, ...]
    Sections = list[tuple[str, list[tuple[Row, str]]]]

NARROW, ROOMY = 60, 72  # columns
BOLD, DIM, RED, GREEN, YELLOW, OFF = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
URGENCY = ("RUNNING", "QUEUES", "ENDED", "WORKERS", "GPUS OF THIS MACHINE")
# the columns that give way on a narrow terminal: names may be cut, numbers would be others
NAMES = {"QUEUES": (0,), "WORKERS": (0, 1, 2), "RUNNING": (1, 3), "ENDED": (1,), "GPUS OF THIS MACHINE": (1,)}


def lines(seen: dict[str, Any], width: int, height: int = 0, colour: bool = False) -> list[str]:
    """The screen; with `height` what does not fit is left out of the longest sections and counted."""
    sections = [(title, rows) for title, rows in _sections(seen, width) if rows]
    trouble = [cells.cut(cells.plain(seen["trouble"]), width)] if seen.get("trouble") else []
    sections, gap, room = _fitting(sections, height - 1 - len(trouble)) if height else (sections, [""], 1 << 30)
    cuts = _shares([len(rows) for _, rows in sections], max(room, 0))
    found = [_head(seen, width, colour), *(_painted(line, RED, colour) for line in trouble)]
    for (title, rows), count in zip(sections, cuts, strict=True):
        more = f" ({len(rows) - count} more)" if count < len(rows) else ""
        found += [*gap, _painted(cells.cut(title + more, width), BOLD, colour)]
        found += [_painted(cells.cut(line, width), shade, colour) for line, shade in _table(title, rows[:count], width)]
    return found[:height] if height else found


def _fitting(sections: Sections, height: int) -> tuple[Sections, list[str], int]:
    """(the sections to show, the blank lines before each, how many rows they have).

    A low screen goes without blank lines, a very low one without the least urgent sections: each has a row or more.
    """
    gap = [""] if height >= 3 * len(sections) else []
    while len(sections) > 1 and height < 2 * len(sections):
        least = max(sections, key=lambda section: URGENCY.index(section[0]))
        sections = [section for section in sections if section is not least]
    return sections, gap, height - (1 + len(gap)) * len(sections)


def _shares(wanted: list[int], room: int) -> list[int]:
    """How many rows each section gets: short ones all of theirs, long ones the same."""
    given = [0] * len(wanted)
    while room > 0 and given != wanted:
        for index, count in enumerate(wanted):
            if given[index] < count and room > 0:
                given[index] += 1
                room -= 1
    return given


def _head(seen: dict[str, Any], width: int, colour: bool) -> str:
    counts = seen["counts"]
    told = [f"{counts.get(status, 0)} {word}" for status, word in (
        ("queued", "queued"), ("in_progress", "running"), ("failed", "failed"), ("completed", "completed"))
        if status in counts or status in ("queued", "in_progress")]
    clock = seen["now"][11:19] + "Z"
    whole = f"agentpipe  {', '.join(told)}"
    if len(whole) + 2 + len(clock) > width:  # the numbers count more than the rest
        return _painted(cells.cut(whole if len(whole) <= width else ", ".join(told), width), BOLD, colour)
    room = width - len(clock) - 2 - len(whole) - 2
    left = f"{whole}  {cells.cut(seen['server'], room)}" if room > 8 else whole
    return _painted(left, BOLD, colour) + " " * max(2, width - cells.width(left) - len(clock)) + clock


def _sections(seen: dict[str, Any], width: int) -> Iterator[tuple[str, list[tuple[Row, str]]]]:
    names = {task["id"]: task["name"] for task in seen["running"]}
    yield "QUEUES", [_queue(queue, seen, width) for queue in seen["queues"]]
    ended = {task["id"] for task in seen["ended"]}  # a worker may have said nothing since
    yield "WORKERS", [_worker(worker, names, ended, width)
                      for worker in sorted(seen["workers"], key=lambda worker: _natural(worker["id"]))]
    yield "RUNNING", [_running(task, width) for task in seen["running"]]
    yield "ENDED", [_ended(task) for task in seen["ended"]]
    yield "GPUS OF THIS MACHINE", [_gpu(gpu) for gpu in seen["gpus"]]


def _natural(text: str) -> list[tuple[int, str]]:
    """A key by which node2 comes before node10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", text)]


def _queue(queue: dict[str, Any], seen: dict[str, Any], width: int) -> tuple[Row, str]:
    serving = [worker["id"] for worker in seen["workers"] if worker["alive"] and queue["name"] in worker["queues"]]
    waits = f"{queue['waiting']} waiting"
    if queue["oldest"] and width >= ROOMY:
        waits += f", the first for {_age(queue['oldest'])}"
    served = f"served by {cells.plain(', '.join(serving))}" if serving else "nobody serves it"
    return (cells.plain(queue["name"]), waits, served), YELLOW if queue["waiting"] and not serving else ""


def _worker(worker: dict[str, Any], names: dict[str, str], ended: set[str], width: int) -> tuple[Row, str]:
    task = worker["task"] if worker["task"] not in ended else None
    doing = cells.plain(f"{task[:8]} {names.get(task) or ''}").rstrip() if task else "idle"
    if not worker["alive"]:
        doing = "gone"
    row: Row = (cells.plain(worker["id"]), cells.plain(",".join(worker["queues"])), doing,
                f"{_age(worker['last_report_time'])} ago")
    if width >= NARROW:
        row += (_load(worker["machine_stats"]),)
    return row, "" if worker["alive"] else DIM


def _load(stats: dict[str, Any]) -> str:
    """CPU, memory and GPUs as a worker reported them; what is no number is left out."""
    told = []
    cpu, used, usage, memory = (_numbers(stats, key) for key in ("cpu_usage", "memory_used", "gpu_usage",
                                                                 "gpu_memory_used"))
    if cpu:
        told.append(f"cpu {cpu[0]:.0f}%")
    if used:
        told.append(f"mem {units.size(int(used[0] * units.MIB))}")
    if usage:
        each = " ".join(f"{value:.0f}%" for value in usage)
        told.append(f"gpu {each}" if len(usage) <= 4 else f"{len(usage)} gpus {sum(usage) / len(usage):.0f}%")
    if memory:
        told.append(units.size(int(sum(memory) * units.MIB)))
    return " ".join(told)


def _numbers(stats: dict[str, Any], key: str) -> list[float]:
    """The numbers of a report under that name, which any holder of keys may have sent."""
    found = stats.get(key) if isinstance(stats, dict) else None
    return [value for value in (found if isinstance(found, list) else [found])
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15]


def _running(task: dict[str, Any], width: int) -> tuple[Row, str]:
    row: Row = (task["id"][:8], cells.plain(task["name"] or ""), _age(task["started"]))
    if width >= NARROW:
        iteration = task.get("last_iteration")
        row += (cells.plain(task["last_worker"] or ""), f"iter {iteration}" if iteration else "")
    said = cells.printed(task["last_line"] or "").strip()
    if task.get("status_message") == "stopping":
        said = "asked to stop"
    return (*row, said), GREEN


def _ended(task: dict[str, Any]) -> tuple[Row, str]:
    how = view.shown_status(task)
    shade = RED if task["status"] == "failed" else ""
    # one that was stopped while it waited has run to no end
    ended = task["completed"] or task.get("status_changed")
    return (task["id"][:8], cells.plain(task["name"] or ""), how, units.ago(ended),
            f"agent-task why {task['id'][:8]}" if task["status"] == "failed" else ""), shade


def _gpu(gpu: dict[str, Any]) -> tuple[Row, str]:
    used, total = units.size(gpu["used"]), units.size(gpu["total"])
    told = [f"{gpu[key]:.0f}{unit}" if gpu[key] is not None else "–"
            for key, unit in (("utilization", "%"), ("temperature", " °C"), ("power", " W"))]
    return (f"gpu {gpu['index']}", cells.plain(gpu["name"]), told[0], f"{used} of {total}", *told[1:]), ""


def _age(moment: str | None) -> str:
    seconds = units.seconds_since(moment)
    return "–" if seconds is None else units.duration(max(0.0, seconds))


def _table(title: str, rows: list[tuple[Row, str]], width: int) -> list[tuple[str, str]]:
    """The rows of a section as columns; NAMES give way first, then what stands last, of which a third stays."""
    if not rows:
        return []
    count = len(rows[0][0])
    widths = [max(cells.width(row[column]) for row, _ in rows) for column in range(count)]
    room = width - 2 * count - min(widths.pop(), width // 3)
    widths = cells.narrowed(widths, room, [column for column in NAMES[title] if column < count - 1])
    return [("  " + "  ".join([*map(cells.padded, row, widths), row[-1]]).rstrip(), shade) for row, shade in rows]


def _painted(text: str, shade: str, colour: bool) -> str:
    return f"{shade}{text}{OFF}" if colour and shade else text
