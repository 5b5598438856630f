"""What our processes cost beside a task: proportional memory (PSS) and CPU of the idle loop and of a running task."""

import os
import signal
import subprocess
import time

import latency
import tasks

TICKS = os.sysconf("SC_CLK_TCK")


def rows(bench):
    """Idle, then with a task that sleeps and prints now and then."""
    if not bench.wants("PSS and CPU"):
        return
    bench.fresh("footprint")
    text = "import time\nfor number in range(2000):\n    print('epoch', number, flush=True)\n    time.sleep(0.1)\n"
    repository = tasks.Repository(bench, text, requirements="")
    tasks.queue()
    supervisor = subprocess.Popen(["agent-supervisor", "default"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  start_new_session=True)
    try:
        latency.wait_until_idle()
        time.sleep(4)  # the first report of the machine is behind it
        measured(bench, "idle loop (supervisor and waiting pull)", supervisor.pid, set(), 20, 1)
        task = repository.enqueue()
        script = script_of(task)
        time.sleep(4)
        measured(bench, "running task, ours", supervisor.pid, {script}, 30, None)
    finally:
        for _ in range(2):
            os.killpg(supervisor.pid, signal.SIGTERM)
            time.sleep(0.5)
        try:
            supervisor.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(supervisor.pid, signal.SIGKILL)


def measured(bench, name, root, script, most_mb, most_percent):
    """Two rows: PSS of all processes under `root` but the script's, and their CPU over a while."""
    window = bench.times(30, 10)
    before, began = cpu(root, script), time.monotonic()
    peak, pythons = 0, 0
    while time.monotonic() - began < window:
        ours = [pid for pid in tree(root) if pid not in script]
        peak = max(peak, sum(pss(pid) for pid in ours))
        pythons = sum(is_python(pid) for pid in ours)
        time.sleep(1)
    percent = 100 * (cpu(root, script) - before) / (time.monotonic() - began)
    bench.row(f"PSS and CPU, {name}: memory", peak / 1e6, "MB", target=most_mb, note=f"{pythons} Python processes")
    bench.row(f"PSS and CPU, {name}: CPU", percent, "%", target=most_percent)


def script_of(task):
    """The pid of the task's script, once it runs."""
    home = os.path.join(os.environ["AGENT_HOME"], "state", "tasks")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for name in os.listdir(home) if os.path.isdir(home) else ():
            if name.startswith(task + "."):
                try:
                    return int(os.readlink(os.path.join(home, name, "pid")).split()[0])
                except (FileNotFoundError, ValueError):
                    pass
        time.sleep(0.05)
    raise SystemExit("bench: the script did not start")


def tree(root):
    """`root` and all processes below it."""
    below = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    below.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(int(name))
            except OSError:
                continue
    found, waiting = [root], [root]
    while waiting:
        more = below.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


def pss(pid):
    """Its proportional set size in bytes; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def is_python(pid):
    """Whether it is a Python interpreter."""
    try:
        return "python" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def cpu(root, script):
    """CPU seconds that these processes and their finished children have used."""
    total = 0
    for pid in tree(root):
        if pid in script:
            continue
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                total += sum(int(each) for each in file.read().rpartition(b")")[2].split()[11:15])
        except OSError:
            continue
    return total / TICKS
