"""What runs in an image of `agent-prepare --image … --entry-point`: the task, or a clone of it, told to its server.

This file is copied into the image and run by the image's Python, so it imports nothing but the standard library of 3.6.

    image_start.py reuse_task|clone_task TASK PROGRAM ARGUMENT…

The server and its keys are those of CLEARML_API_HOST, CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY, or of
a clearml.conf (CLEARML_CONFIG_FILE, /root/clearml.conf). Without one the program runs, and nobody is told.
"""

import base64
import codecs
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

EVERY_S = 2.0
PING_S = 60.0  # a server stops a task that it has not heard of for a while
TRIES = 5
PIECE, AT_ONCE = 1 << 16, 8  # bytes, and how many such pieces make an event: a server takes 15 MB at a time
# what a server brings about that is away, breaks off or answers oddly
ODD = (OSError, http.client.HTTPException, KeyError, TypeError, ValueError)
UNAVAILABLE = 69


class Server:
    """The ClearML API of one server."""

    def __init__(self, host, key, secret):
        self.host, self.key, self.secret, self.token = host.rstrip("/"), key, secret, ""

    def call(self, endpoint, body, lines=False):
        """The `data` of an answer; tried again while the server is away."""
        data = body.encode() if lines else json.dumps(body).encode()
        for number in range(TRIES):
            try:
                if not self.token:
                    pair = base64.b64encode(f"{self.key}:{self.secret}".encode()).decode()
                    self.token = self._post("auth.login", b"{}", "Basic " + pair)["token"]
                return self._post(endpoint, data, "Bearer " + self.token, "json-lines" if lines else "json")
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code != 401:
                    raise
                self.token = ""
            except ODD:
                pass
            time.sleep(number)
        raise OSError(f"{self.host} does not answer, or not to these keys")

    def _post(self, endpoint, data, authorization, kind="json"):
        headers = {"Content-Type": f"application/{kind}", "Authorization": authorization}
        request = urllib.request.Request(f"{self.host}/{endpoint}", data, headers, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read().decode())["data"]


class Log(threading.Thread):
    """What the program prints, passed on as it comes and shipped every two seconds."""

    def __init__(self, server, task, pipe):
        threading.Thread.__init__(self, daemon=True)
        self.server, self.task, self.pipe, self.pieces, self.lock = server, task, pipe, [], threading.Lock()

    def run(self):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        data = None
        while data != b"":
            data = self.pipe.read1(PIECE)
            with self.lock:
                self.pieces.append(decoder.decode(data, final=not data))
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
            except OSError:  # nobody reads it: the program is not to wait for us all the same
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def ship(self):
        """Send what there is, some pieces at a time; kept when the server is away, dropped when it takes no more."""
        while True:
            with self.lock:
                pieces, self.pieces = self.pieces[:AT_ONCE], self.pieces[AT_ONCE:]
            if not any(pieces):
                return
            event = {"type": "log", "level": "info", "task": self.task, "worker": worker(), "msg": "".join(pieces),
                     "timestamp": int(time.time() * 1000)}
            try:
                self.server.call("events.add_batch", json.dumps(event), lines=True)
            except urllib.error.HTTPError:
                pass
            except ODD:
                with self.lock:
                    self.pieces = pieces + self.pieces
                return


def worker():
    return os.environ.get("CLEARML_WORKER_ID") or os.uname().nodename


def find_server():
    """The server that the environment or a clearml.conf names, or None; and why a file could not be read."""
    found = {name: os.environ.get("CLEARML_API_" + name.upper(), "") for name in ("host", "access_key", "secret_key")}
    paths = [os.environ.get("CLEARML_CONFIG_FILE", ""), "/root/clearml.conf", os.path.expanduser("~/clearml.conf")]
    unread = ""
    for path in filter(None, paths):
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:  # this user's it is not; a folder, as docker makes for what is missing
            unread = unread or f"; {path} cannot be read: {error}"
            continue
        for name, key in (("host", "api_server"), ("access_key", "access_key"), ("secret_key", "secret_key")):
            match = re.search(rf'^[^#\n]*\b"?{key}"?\s*[:=]\s*"?([^"\s,}}]+)', text, re.MULTILINE)
            if match and not found[name]:
                found[name] = match.group(1)
    server = Server(found["host"], found["access_key"], found["secret_key"]) if found["host"] else None
    return server, unread


def told(server, task, words):
    """Run the program as this task, which has started: its log, how it ended; its exit status. One that was told to
    end, by its server or from outside (docker stop), has not failed, however it ends."""
    try:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        print(f"{words[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return ended(server, task, 126 if isinstance(error, PermissionError) else 127, False)
    stopped, pinged = [], time.monotonic()

    def pass_on(signum, _):
        stopped.append(f"stopped from outside by {signal.Signals(signum).name}, ")
        process.send_signal(signum)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    log = Log(server, task, process.stdout)
    log.start()
    while process.poll() is None:
        try:
            process.wait(EVERY_S)
        except subprocess.TimeoutExpired:
            pass
        log.ship()
        try:
            if time.monotonic() - pinged >= PING_S:
                pinged = time.monotonic()
                server.call("tasks.ping", {"task": task})
            found = server.call("tasks.get_all", {"id": [task], "only_fields": ["status", "status_message"],
                                                  "search_hidden": True})["tasks"]
        except ODD:
            continue
        if found and (found[0].get("status_message") == "stopping" or found[0].get("status") == "stopped"):
            stopped.append("")
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    log.join(5)
    log.ship()
    return ended(server, task, process.returncode if process.returncode >= 0 else 128 - process.returncode, stopped)


def ended(server, task, status, stopped):
    """Tell how the program has ended; its exit status."""
    body = {"task": task, "force": True, "status_message": "Changed by the task's image",
            "status_reason": f"{stopped[0] if stopped else ''}exit code {status}"}
    try:
        server.call("tasks.stopped" if stopped else "tasks.failed" if status else "tasks.completed", body)
    except ODD as error:  # somebody else has ended it, reset it, deleted it
        print(f"the end of task {task} could not be told: {error}", file=sys.stderr)
    return status


def leave_queues(server, task):
    """A task that waits in a queue runs here, and not once more wherever that is pulled."""
    try:
        server.call("tasks.dequeue", {"task": task, "new_status": "in_progress", "remove_from_all_queues": True})
    except urllib.error.HTTPError:  # it waits in none: some servers refuse that
        pass


def main(mode, task, *words):
    """Run the program `words` as `task`, or as a clone of it (mode clone_task), and tell its end; the exit code."""
    server, unread = find_server()
    if server is None:
        print(f"no server: set CLEARML_API_HOST and keys, or mount a clearml.conf; running without{unread}",
              file=sys.stderr)
        os.execvp(words[0], words)
    try:
        if mode == "clone_task":
            task = server.call("tasks.clone", {"task": task})["id"]
            print(f"task {task}", file=sys.stderr)
        else:
            leave_queues(server, task)
        server.call("tasks.started", {"task": task, "force": True, "status_reason": "started by its image"})
    except ODD as error:
        print(f"task {task} could not be started: {error}", file=sys.stderr)
        return UNAVAILABLE
    os.environ.update({"CLEARML_TASK_ID": task, "TRAINS_TASK_ID": task, "CLEARML_LOG_TASK_TO_BACKEND": "0",
                       "TRAINS_LOG_TASK_TO_BACKEND": "0"})
    return told(server, task, words)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
