"""The tables of the embedded store, and what a new one holds. Read only when a store is created."""

import sqlite3

from agentpipe.server.store import VERSION

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE projects (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, parent TEXT,
    last_update TEXT, doc TEXT NOT NULL);
CREATE INDEX projects_parent ON projects (parent);

CREATE TABLE queues (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, last_update TEXT,
    doc TEXT NOT NULL);
-- the head of a queue is the first row of its range: a pull costs the same from any length
CREATE TABLE entries (
    queue TEXT NOT NULL, position INTEGER NOT NULL, task TEXT NOT NULL, added TEXT NOT NULL,
    PRIMARY KEY (queue, position)) WITHOUT ROWID;
CREATE UNIQUE INDEX entries_task ON entries (task, queue);

-- doc holds what is small and changes often; parts what may be huge (a 50 MB diff) and seldom does
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, status TEXT NOT NULL, name TEXT NOT NULL, project TEXT,
    parent TEXT, claim TEXT, created TEXT NOT NULL, last_update TEXT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX tasks_status ON tasks (status);
CREATE INDEX tasks_project ON tasks (project);
CREATE INDEX tasks_parent ON tasks (parent) WHERE parent IS NOT NULL;
CREATE INDEX tasks_claim ON tasks (claim) WHERE claim IS NOT NULL;
CREATE TABLE parts (seq INTEGER PRIMARY KEY, task TEXT NOT NULL, part TEXT NOT NULL, doc TEXT NOT NULL,
    UNIQUE (task, part));

-- one row per event, which is a batch of lines; seq is the order of arrival
CREATE TABLE logs (
    seq INTEGER PRIMARY KEY, task TEXT NOT NULL, timestamp INTEGER NOT NULL, claim TEXT, stream TEXT,
    offset INTEGER, end INTEGER, doc TEXT NOT NULL, msg BLOB NOT NULL);
CREATE INDEX logs_task ON logs (task, timestamp, seq);
CREATE UNIQUE INDEX logs_position ON logs (task, claim, stream, offset) WHERE claim IS NOT NULL;
CREATE TABLE scalars (
    task TEXT NOT NULL, metric TEXT NOT NULL, variant TEXT NOT NULL, iter INTEGER NOT NULL,
    timestamp INTEGER NOT NULL, value REAL, doc TEXT,
    PRIMARY KEY (task, metric, variant, iter)) WITHOUT ROWID;
-- plots, images, vectors
CREATE TABLE shapes (
    seq INTEGER PRIMARY KEY, task TEXT NOT NULL, type TEXT NOT NULL, metric TEXT NOT NULL,
    variant TEXT NOT NULL, iter INTEGER NOT NULL, key TEXT NOT NULL, timestamp INTEGER NOT NULL,
    doc TEXT NOT NULL, UNIQUE (task, type, metric, variant, iter, key));

CREATE TABLE workers (user TEXT NOT NULL, id TEXT NOT NULL, expires REAL NOT NULL, doc TEXT NOT NULL,
    PRIMARY KEY (user, id)) WITHOUT ROWID;
"""
# what agent-server and the clearml package brought
SECOND = """
CREATE TABLE models (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, uri TEXT NOT NULL, project TEXT,
    task TEXT, doc TEXT NOT NULL);
CREATE INDEX models_uri ON models (uri);
CREATE INDEX models_task ON models (task) WHERE task IS NOT NULL;
-- the secret is only there as its hash
CREATE TABLE credentials (
    key TEXT PRIMARY KEY, secret TEXT NOT NULL, user TEXT NOT NULL, label TEXT, created TEXT NOT NULL,
    last_used TEXT, last_used_from TEXT) WITHOUT ROWID;
-- tokens that were logged out before they ended
CREATE TABLE revoked (session TEXT PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
"""
# what pages show of workers and queues, what users prefer, and files whose tasks are gone
THIRD = """
CREATE TABLE reports (
    at INTEGER NOT NULL, user TEXT NOT NULL, worker TEXT NOT NULL, busy INTEGER NOT NULL, stats TEXT NOT NULL);
CREATE INDEX reports_at ON reports (at);
CREATE TABLE lengths (
    queue TEXT NOT NULL, at INTEGER NOT NULL, length INTEGER NOT NULL, waited REAL NOT NULL,
    PRIMARY KEY (queue, at)) WITHOUT ROWID;
CREATE TABLE preferences (user TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID;
-- paths below the files server's folder; a file that was written after `at` is another one and stays
CREATE TABLE doomed (path TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
"""
# lists of many tasks: the newest first, of one status, by their whole name
FOURTH = """
CREATE INDEX IF NOT EXISTS tasks_created ON tasks (created);
CREATE INDEX IF NOT EXISTS tasks_status_created ON tasks (status, created);
CREATE INDEX IF NOT EXISTS tasks_name ON tasks (name);
"""
# which tasks take a model as their input: to look into all documents for each of a task's models takes half a minute
FIFTH = """
CREATE TABLE inputs (model TEXT NOT NULL, task TEXT NOT NULL, PRIMARY KEY (model, task)) WITHOUT ROWID;
CREATE INDEX inputs_task ON inputs (task);
"""
# pages of pictures and plots by iteration, which pictures were written over since (shape_rows.py), pages of a log in
# the order of its arrival, and containers that serve models
SIXTH = """
CREATE INDEX logs_arrival ON logs (task);
ALTER TABLE shapes ADD COLUMN url BLOB;
ALTER TABLE shapes ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;
CREATE INDEX shapes_iter ON shapes (task, type, iter, metric, variant, key) WHERE NOT hidden;
CREATE INDEX shapes_shown ON shapes (task, type, metric, variant, iter) WHERE NOT hidden;
CREATE INDEX shapes_url ON shapes (task, url) WHERE url IS NOT NULL AND NOT hidden;
CREATE TABLE containers (id TEXT PRIMARY KEY, expires REAL NOT NULL, doc TEXT NOT NULL) WITHOUT ROWID;
"""


def create(db: sqlite3.Connection) -> None:
    """Make the tables and what every server starts with, inside the caller's transaction."""
    from agentpipe.server import common, queues
    _run(db, TABLES)
    db.execute("INSERT INTO meta VALUES ('server_id', ?)", (common.new_id(),))
    queues.insert(db, "default", common.now(), system_tags=["default"])
    upgrade(db, 1)


def upgrade(db: sqlite3.Connection, found: int) -> None:
    """Bring the tables of an older version up to date, inside the caller's transaction."""
    if found < 2:
        _run(db, SECOND)
    if found < 3:
        _run(db, THIRD)
    if found < 4:
        _run(db, FOURTH)
    if found < 5:
        _run(db, FIFTH)
        _note_inputs(db)
    if found < 6:
        from agentpipe.server import shape_rows
        _run(db, SIXTH)
        shape_rows.note_pictures(db)
    db.execute(f"PRAGMA user_version={VERSION}")


def _note_inputs(db: sqlite3.Connection) -> None:
    from agentpipe.server import documents
    from agentpipe.server.common import loads
    for id, doc in db.execute("""SELECT id, doc FROM tasks WHERE instr(doc, '"input":[{')""").fetchall():
        documents.note_inputs(db, id, loads(doc).get("models"))


def _run(db: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            db.execute(statement)
