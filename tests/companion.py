"""Runs the bats files' bits of Python: one process, a fork for each; starting an interpreter costs more than they do.

    companion.py PORT_FILE PID [MODULE]…   serve until process PID is gone; PORT_FILE gets "PORT SECRET"

What nearly all of them import is imported once, before the forks: the store, and MODULEs.

A request (helpers.bash, `py`) is "SECRET\\0PID\\0OUT\\0N\\0" and N words, the code and its arguments, then the
environment as `env -0` prints it, and one more NUL. The answer is the exit status. What runs is as a `python3 -c` of
PID's would be: with its environment, its directory and its standard streams, which are taken from /proc (the output is
its descriptor OUT); what it imports, opens and changes is gone with it.
"""

import gc
import importlib
import os
import secrets
import select
import socket
import sys
import time
import traceback

IMPORTED = ("json", "re", "agentpipe.pull.queues", "agentpipe.server.endpoints", "agentpipe.transport.api")
WAIT_S = 60  # for the rest of a request


def request(connection: socket.socket) -> tuple[str, str, str, list[str], dict[str, str]]:
    """Secret, pid, output, words, environment."""
    data = b""
    connection.settimeout(WAIT_S)
    while not data.endswith(b"\0\0") or data.count(b"\0") < 6 + int(data.split(b"\0")[3]):
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise EOFError
        data += chunk
    secret, pid, out, count, *rest = map(os.fsdecode, data[:-2].split(b"\0"))
    return secret, pid, out, rest[:int(count)], dict(each.split("=", 1) for each in rest[int(count):])


def become(pid: str, out: str, environment: dict[str, str], arguments: list[str]) -> None:
    """Stand where process `pid` stands."""
    written = os.O_WRONLY | os.O_APPEND
    for fd, its, mode in ((0, "0", os.O_RDONLY), (1, out, written), (2, "2", written)):
        try:
            opened = os.open(f"/proc/{pid}/fd/{its}", mode | os.O_NOCTTY)
        except OSError:  # closed, or a socket
            opened = os.open(os.devnull, os.O_RDWR)
        os.dup2(opened, fd)
        os.close(opened)
    os.chdir(f"/proc/{pid}/cwd")
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["-c", *arguments]


def run(code: str) -> int:
    """The exit status of that code, which ends as the interpreter would end."""
    names: dict[str, object] = {"__name__": "__main__"}
    status = 0
    try:
        exec(compile(code, "<string>", "exec"), names)
    except SystemExit as left:
        status = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    names.clear()
    gc.collect()  # files and databases are closed
    try:
        sys.stdout.flush()
    except OSError:
        status = 120
    return status


def reap() -> None:
    """Let go of those that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main() -> None:
    """Listen; a fork for each request."""
    port_file, parent, *modules = sys.argv[1:]
    os.closerange(3, 1024)  # a lock of whoever needed us first is not ours
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "unit"))
    for module in (*IMPORTED, *modules):
        importlib.import_module(module)
    watched = os.pidfd_open(int(parent))
    secret = secrets.token_hex()
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    with open(os.open(port_file + ".new", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(f"{server.getsockname()[1]} {secret}\n")
    os.rename(port_file + ".new", port_file)
    gc.freeze()
    poll = select.poll()
    for each in (watched, server.fileno()):
        poll.register(each, select.POLLIN)
    while watched not in dict(poll.poll()):
        connection, _ = server.accept()
        if os.fork():
            connection.close()
            reap()
            continue
        server.close()
        status = 1
        try:
            said, pid, out, (code, *arguments), environment = request(connection)
            if said == secret:
                become(pid, out, environment, arguments)
                status = run(code)
            connection.sendall(b"%d\0" % status)
        finally:
            os._exit(0)


if __name__ == "__main__":
    main()
