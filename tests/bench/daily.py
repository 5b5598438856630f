"""What people type all day, over a store that has grown: how soon the first line is there."""

import json
import os
import subprocess
import time

import measure
import tasks

TASKS, LINES = 100_000, 1_000_000
STATUSES = ("completed",) * 6 + ("failed", "failed", "stopped", "created")
LIMIT_S = 0.3
COMPLETION_S = 0.15
BATCH = 256 << 10  # bytes of a log's event, as the reporter sends them


def rows(bench):
    """list, log, show, completion and the live status."""
    if not bench.wants(""):
        return
    count, lines = bench.times(TASKS, TASKS // 10), bench.times(LINES, LINES // 10)
    bench.fresh("daily")
    fill(count)
    logged, some = long_log(lines), last_id()
    repeats = bench.times(9, 5)
    of = f"{count:,} tasks"
    for name, words in ((f"agent-task list, {of}", ["list"]),
                        (f"agent-task list --status failed, {of}", ["list", "--status", "failed"]),
                        (f"agent-task list --since 1h --text number, {of}", ["list", "--since", "1h", "--text", "7"]),
                        (f"agent-task list --json --limit 0, {of}", ["list", "--json", "--limit", "0"]),
                        (f"agent-task show BEGINNING, {of}", ["show", some[:12]]),
                        (f"agent-task why NAME, {of}", ["why", f"task {count // 2}"]),
                        (f"agent-task log, {lines:,} lines", ["log", logged]),
                        (f"agent-task log -n 10, {lines:,} lines", ["log", "-n", "10", logged])):
        row(bench, f"first line: {name}", ["agent-task", *words], repeats, LIMIT_S)
    for kind in ("tasks", "queues"):
        row(bench, f"completion of {kind}, {of}", ["agent-task", "complete", kind], repeats, COMPLETION_S)
    row(bench, f"first line: agent-status, {of}", ["agent-status"], repeats, LIMIT_S)
    share = live(bench.times(20, 5))
    bench.row("agent-status live, share of a core", 100 * share, "%", target=1.0)


def row(bench, name, argv, repeats, target):
    """The median time until a command's first line."""
    if bench.wants(name):
        found, = measure.interleaved(repeats, lambda: first_line(argv))
        bench.row(name, measure.median(found), "s", target=target)


def first_line(argv):
    """Seconds from a command's start until its first line is there; the rest is not read."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    line = process.stdout.readline()
    took = time.perf_counter() - began
    process.stdout.close()
    process.kill()
    process.wait()
    if not line:
        raise SystemExit(f"bench: {argv} printed nothing")
    return took


def fill(count):
    """So many tasks of every status, written as the server writes them but all at once."""
    store = tasks.api()
    first = store.call("tasks.create", {"name": "task 0", "type": "training", "script": {
        "repository": "https://git.example.org/team/project.git", "entry_point": "train.py --epochs 3",
        "version_num": "0" * 40, "branch": "main"}})["id"]
    db = store.store.connection()
    row = dict(zip(("id", "status", "name", "project", "parent", "claim", "created", "last_update", "doc"),
                   db.execute("SELECT id, status, name, project, parent, claim, created, last_update, doc FROM tasks "
                              "WHERE id=?", (first,)).fetchone(), strict=True))
    document = json.loads(row["doc"])
    parts = db.execute("SELECT part, doc FROM parts WHERE task=?", (first,)).fetchall()
    now = time.time()
    db.execute("PRAGMA synchronous=OFF")
    db.execute("BEGIN")
    for number in range(1, count):
        id, status = os.urandom(16).hex(), STATUSES[number % len(STATUSES)]
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now - count + number)) + ".000000+00:00"
        new = {**document, "id": id, "name": f"task {number}", "status": status, "created": at, "status_changed": at,
               "last_update": at, "started": at, "completed": at}
        db.execute("INSERT INTO tasks (id, status, name, project, parent, claim, created, last_update, doc) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   (id, status, new["name"], None, None, None, at, at, json.dumps(new, separators=(",", ":"))))
        db.executemany("INSERT INTO parts (task, part, doc) VALUES (?, ?, ?)", ((id, *part) for part in parts))
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def last_id():
    """The id of a task in the middle of the store."""
    db = tasks.api().store.connection()
    return db.execute("SELECT id FROM tasks ORDER BY seq LIMIT 1 OFFSET (SELECT count(*)/2 FROM tasks)").fetchone()[0]


def long_log(lines):
    """A task with a log of so many lines; its id."""
    store = tasks.api()
    id = store.call("tasks.create", {"name": "a long log", "type": "training"})["id"]
    text, size = [], 0
    for number in range(lines):
        text.append(f"epoch {number}: loss 0.{number % 1000:03d}, accuracy 0.9{number % 10}, 12.3 s\n")
        size += len(text[-1])
        if size > BATCH or number == lines - 1:
            store.call("events.add_batch", [{"type": "log", "task": id, "msg": "".join(text)}])
            text, size = [], 0
    return id


def live(seconds):
    """The share of a core that agent-status takes on a terminal of 100 columns, while it is looked at."""
    import pty
    import select
    pid, terminal = pty.fork()
    if not pid:
        os.environ["TERM"] = "xterm"
        os.execvp("agent-status", ["agent-status"])
    spent, until, began, shown = 0.0, time.monotonic() + seconds + 2, None, b""
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 1 << 16)
        if began is None and time.monotonic() > until - seconds:
            began, spent = time.monotonic(), cpu(pid)  # once it is started
    share = (cpu(pid) - spent) / (time.monotonic() - began)
    if shown.count(b"QUEUES") < seconds / 2:
        raise SystemExit("bench: agent-status has not drawn each second")
    os.write(terminal, b"q")
    os.waitpid(pid, 0)
    os.close(terminal)
    return share


def cpu(pid):
    """Seconds of processor time of a process."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
