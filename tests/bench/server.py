"""agent-server: pulls and log lines a second over HTTP, how long answers take, and what it costs when idle.

The clients are processes of this machine, so they and the server share its cores.
"""

import http.client
import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from urllib.parse import urlsplit

import footprint
import tasks
from measure import percentile

CLIENTS = 20
PROCESSES = 4
LINES_A_BATCH = 500


def rows(bench):
    """Twenty clients that pull and start tasks, ten that report lines, and nobody."""
    if not bench.wants("agent-server"):
        return
    bench.fresh("server")
    pairs, batches = bench.times(6000, 1500), bench.times(1000, 200)
    ids = filled(2 * pairs)
    with Server() as server:
        time.sleep(2)
        idle(bench, server, "fresh")
        for clients, share in ((1, pairs // 6), (CLIENTS, pairs - pairs // 6)):
            rate, times = run(pull, server, clients, share)
            name = f"agent-server, {clients} clients at once" if clients > 1 else "agent-server, one client"
            bench.row(f"{name}: get_next_task + started", rate, "/s", target=500 if clients > 1 else None,
                      at_least=True)
            bench.row(f"{name}: p99 of an answer", percentile(times, 99), "s", target=0.05 if clients > 1 else None)
        _, times = run(mixed, server, CLIENTS, pairs // 2, ids)
        bench.row("agent-server, 8 clients report lines, 12 pull: p99 of a pull's answer", percentile(times, 99), "s",
                  target=0.05)
        rate, times = run(polled, server, CLIENTS, pairs, ids)
        bench.row(f"agent-server, {CLIENTS} of the package's clients poll a task: p99", percentile(times, 99), "s",
                  note=f"{rate:,.0f} calls a second, a connection each")
        rate, times = run(report, server, CLIENTS, batches, ids)
        bench.row(f"agent-server, {CLIENTS} clients at once: log lines", rate * LINES_A_BATCH, "/s", target=20_000,
                  at_least=True, note=f"{LINES_A_BATCH} a batch, an event each")
        bench.row(f"agent-server, {CLIENTS} clients at once: p99 of a batch", percentile(times, 99), "s",
                  note="each sends the next as soon as it can")
        _, times = run(paced, server, CLIENTS, CLIENTS * bench.times(20, 6), ids)
        bench.row(f"agent-server, {CLIENTS} clients report 20,000 lines a second: p99 of a batch",
                  percentile(times, 99), "s", target=0.05)
        idle(bench, server, "after all that")


def idle(bench, server, when):
    """Memory and CPU while nobody asks."""
    before, began = footprint.cpu(server.pid, set()), time.monotonic()
    time.sleep(bench.times(10, 4))
    percent = 100 * (footprint.cpu(server.pid, set()) - before) / (time.monotonic() - began)
    bench.row(f"agent-server, idle, {when}: PSS", footprint.pss(server.pid) / 1e6, "MB", target=60)
    bench.row(f"agent-server, idle, {when}: CPU", percent, "%", target=0.5)


class Server:
    """An agent-server of the current AGENT_HOME."""

    def __enter__(self):
        self.process = subprocess.Popen(["agent-server", "--json", "--port", "0", "--files-port", "0"],
                                        stdout=subprocess.PIPE)
        said = json.loads(self.process.stdout.readline())
        self.pid, self.url = self.process.pid, said["api_server"]
        client = Client(self.url, "")
        self.token = client.login(said["access_key"], said["secret_key"])
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class Client:
    """One connection, kept open as our own stages keep theirs; `times` are the seconds of its calls."""

    def __init__(self, url, token):
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self.headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
        self.times = []

    def login(self, key, secret):
        import base64
        basic = base64.b64encode(f"{key}:{secret}".encode()).decode()
        self.headers["Authorization"] = "Basic " + basic
        return self.call("auth.login", "{}")["token"]

    def call(self, endpoint, body):
        began = time.perf_counter()
        self.connection.request("POST", "/v2.34/" + endpoint, body, self.headers)
        answer = self.connection.getresponse()
        data = answer.read()
        self.times.append(time.perf_counter() - began)
        if answer.status != 200:
            raise SystemExit(f"bench: {endpoint}: {answer.status} {data[:300]!r}")
        return json.loads(data)["data"]


def filled(count):
    """Enqueue so many tasks; their ids."""
    store = tasks.api()
    store.store.connection().execute("PRAGMA synchronous=OFF")
    found = [tasks.add({"script": {"entry_point": "train.py", "binary": "python3"}}) for _ in range(count)]
    store.store.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.sync()
    return found


def run(work, server, clients, count, *more):
    """(calls of `work` a second by so many clients that share `count`, the times of all answers)."""
    spawn = multiprocessing.get_context("spawn")
    ready, go, answers = spawn.Semaphore(0), spawn.Event(), spawn.Queue()
    processes = min(PROCESSES, clients)
    started = [spawn.Process(target=process, args=(work, server.url, server.token, clients // processes,
                                                   count // clients, ready, go, answers, more))
               for _ in range(processes)]
    for each in started:
        each.start()
    for _ in started:
        ready.acquire()
    began = time.perf_counter()
    go.set()
    found = [answers.get() for _ in started]
    took = time.perf_counter() - began
    for each in started:
        each.join()
    return count // clients * clients / took, [each for times in found for each in times]


def process(work, url, token, clients, count, ready, go, answers, more):
    """Some of the clients, each a thread."""
    import threading
    made = [Client(url, token) for _ in range(clients)]
    threads = [threading.Thread(target=work, args=(each, count, number, *more)) for number, each in enumerate(made)]
    for client in made:
        client.call("debug.ping", "{}")
        client.times.clear()
    ready.release()
    go.wait()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    answers.put([each for client in made for each in client.times])


def pull(client, count, _number):
    """As an agent: the next task, then its start."""
    queue = client.call("queues.get_default", "{}")["id"]
    client.times.clear()
    for _ in range(count):
        task = client.call("queues.get_next_task", json.dumps({"queue": queue, "claim": os.urandom(16).hex()}))
        client.call("tasks.started", json.dumps({"task": task["entry"]["task"]}))


def mixed(client, count, number, ids):
    """Two of five report lines as long as the others pull, and only these are timed."""
    if number % 5 < 2:
        report(client, count // 20, number, ids)
        client.times.clear()
    else:
        pull(client, count // 2, number)


def polled(client, count, number, ids):
    """As the clearml package looks whether its task was aborted: the server closes each of its connections."""
    client.headers["X-Clearml-Client"] = "clearml-2.1.12"
    body = json.dumps({"id": [ids[number]], "only_fields": ["status", "status_message", "id"]})
    for _ in range(count):
        client.call("tasks.get_all", body)


def paced(client, count, number, ids):
    """As a script that prints 1000 lines a second."""
    every = LINES_A_BATCH * CLIENTS / 20_000
    report(client, 1, number, ids)
    client.times.clear()
    began, body = time.monotonic() + random.random() * every, lines(ids[number])
    for turn in range(count):
        time.sleep(max(0.0, began + turn * every - time.monotonic()))
        client.call("events.add_batch", body)


def report(client, count, number, ids):
    """As a script: batches of lines."""
    body = lines(ids[number])
    client.headers["Content-Type"] = "application/json-lines"
    for _ in range(count):
        client.call("events.add_batch", body)


def lines(task):
    """The body of a batch."""
    return "\n".join(json.dumps({
        "type": "log", "task": task, "level": "info", "worker": "bench:0", "timestamp": 1_700_000_000_000,
        "msg": f"epoch {line} loss 0.{line} as a training loop prints them"}) for line in range(LINES_A_BATCH))
