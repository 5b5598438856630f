"""A task's document.

Read piece by piece, so that a poll of its status never parses a 50 MB diff; written back likewise.
"""

from __future__ import annotations

import sqlite3

from agentpipe.server.common import dumps, error, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# the pieces that may be large, each in a row of its own; everything else is in the task's own row
PARTS = ("script", "execution", "hyperparams", "configuration", "last_metrics", "unique_metrics")
# fields that are columns as well, for look-ups
COLUMNS = ("status", "name", "project", "parent", "last_update")
CLAIM = "_agentpipe_claim"
# left out of answers unless they are asked for by name
UNASKED = ("company_origin", "enqueue_status")


class Task:
    """One task in a transaction. Change it by `set` and `drop` only, then `save`."""

    __slots__ = ("_changed", "_db", "_head", "_parts", "id")

    def __init__(self, db: sqlite3.Connection, id: str, head: dict[str, Any]) -> None:
        self.id = id
        self._db = db
        self._head = head
        self._parts: dict[str, Any] = {}
        self._changed: set[str] = set()

    def get(self, field: str, default: Any = None) -> Any:
        """The value of a top-level field."""
        if field not in PARTS:
            return self._head.get(field, default)
        if field not in self._parts:
            self._parts[field] = parts(self._db, self.id, (field,)).get(field)
        value = self._parts[field]
        return default if value is None else value

    def set(self, field: str, value: Any) -> None:
        """Give a top-level field a value (None removes it)."""
        if field in PARTS:
            self._parts[field] = value
        elif value is None:
            self._head.pop(field, None)
        else:
            self._head[field] = value
        self._changed.add(field)

    def drop(self, *fields: str) -> None:
        """Remove top-level fields."""
        for field in fields:
            self.set(field, None)

    @property
    def head(self) -> dict[str, Any]:
        """The document without its large pieces."""
        return self._head

    @property
    def claim(self) -> str | None:
        """The token of the pull that owns this task."""
        return (self._head.get("runtime") or {}).get(CLAIM)

    def set_claim(self, token: str | None) -> None:
        """Write the token of a pull, or remove it."""
        runtime = dict(self._head.get("runtime") or {})
        runtime.pop(CLAIM, None)
        if token is not None:
            runtime[CLAIM] = token
        self.set("runtime", runtime)

    def save(self) -> None:
        """Write what was changed."""
        if not self._changed:
            return
        names = ["doc"]
        values: list[Any] = [dumps(self._head)]
        for column in COLUMNS:
            if column in self._changed:
                names.append(column)
                values.append(self._head.get(column))
        if "runtime" in self._changed:
            names.append("claim")
            values.append(_text(self.claim))
        self._db.execute(f"UPDATE tasks SET {'=?, '.join(names)}=? WHERE id=?", (*values, self.id))
        if "models" in self._changed:
            note_inputs(self._db, self.id, self._head.get("models"))
        for part in self._changed.intersection(PARTS):
            self._save_part(part, self._parts[part])
        self._changed.clear()

    def whole(self) -> dict[str, Any]:
        """The task as tasks.get_by_id answers."""
        found = {field: value for field, value in self._head.items() if field not in UNASKED}
        found.update(parts(self._db, self.id))
        found.setdefault("unique_metrics", [])
        return found

    def _save_part(self, part: str, value: Any) -> None:
        if value is None:
            self._db.execute("DELETE FROM parts WHERE task=? AND part=?", (self.id, part))
            return
        self._db.execute(
            "INSERT INTO parts (task, part, doc) VALUES (?, ?, ?) "
            "ON CONFLICT (task, part) DO UPDATE SET doc=excluded.doc", (self.id, part, dumps(value)))


def parts(db: sqlite3.Connection, task: str, wanted: tuple[str, ...] = PARTS) -> dict[str, Any]:
    """The large pieces of a task, those of `wanted` only."""
    marks = ",".join("?" * len(wanted))
    rows = db.execute(f"SELECT part, doc FROM parts WHERE task=? AND part IN ({marks})", (task, *wanted))
    return {part: loads(doc) for part, doc in rows}


def find(db: sqlite3.Connection, id: str) -> Task | None:
    """The task, or None."""
    row = db.execute("SELECT doc FROM tasks WHERE id=?", (id,)).fetchone()
    return Task(db, id, loads(row[0])) if row else None


def load(db: sqlite3.Connection, id: str, code: int = 101) -> Task:
    """The task; an unknown one is 400/`code`."""
    task = find(db, id)
    if task is None:
        from agentpipe.server.common import COMPANY
        raise error(code, id=id, company=COMPANY)
    return task


def insert(db: sqlite3.Connection, document: dict[str, Any]) -> Task:
    """A new task out of its whole document."""
    head = {field: value for field, value in document.items() if field not in PARTS and value is not None}
    task = Task(db, head["id"], head)
    db.execute("INSERT INTO tasks (id, status, name, project, parent, claim, created, last_update, doc) "
               "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
               (task.id, head["status"], head["name"], head.get("project"), head.get("parent"),
                _text(task.claim), head["created"], head["last_update"], dumps(head)))
    note_inputs(db, task.id, head.get("models"))
    for part in PARTS:
        if document.get(part) is not None:
            task.set(part, document[part])
    task.save()
    return task


def delete(db: sqlite3.Connection, id: str) -> None:
    """Remove a task's document."""
    for table, column in (("parts", "task"), ("inputs", "task"), ("tasks", "id")):
        db.execute(f"DELETE FROM {table} WHERE {column}=?", (id,))


def note_inputs(db: sqlite3.Connection, id: str, models: Any) -> None:
    """Note which models a task takes as its input."""
    taken = {item["model"] for item in (models or {}).get("input") or () if isinstance(item.get("model"), str)}
    db.execute("DELETE FROM inputs WHERE task=?", (id,))
    db.executemany("INSERT INTO inputs (model, task) VALUES (?, ?)", ((model, id) for model in taken))


def check_claim(task: Task, token: Any) -> None:
    """Refuse (400/121) when the caller names its claim and the task carries another, or none."""
    if token is not None and task.claim != token:
        raise error(121, "the task carries another claim", task=task.id)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else dumps(value)
