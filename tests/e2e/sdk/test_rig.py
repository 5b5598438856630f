"""What these tests rely on: a script that hangs says where, and neither threads nor forks of the package do."""

import subprocess
import tempfile

import hung


def test_a_script_that_hangs_says_where(sdk_python, tmp_path):
    (tmp_path / "stands.py").write_text("""
import socket, subprocess, sys, threading
listening = socket.create_server(("127.0.0.1", 0))
child = subprocess.Popen(["sleep", "600"])
print(listening.getsockname()[1], flush=True)
lock = threading.Lock()
def never():
    lock.acquire()
lock.acquire()
never()
""")
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([sdk_python, "stands.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=errors,
                                   text=True)
        port = process.stdout.readline().strip()
        said = hung.tell(process.pid)
        hung.kill(process.pid)
        process.communicate()
        errors.seek(0)
        assert 'stands.py", line 8 in never' in errors.read()
    assert f"port={port}" in said and "LISTEN" in said
    assert f"child of {process.pid}: sleep 600" in said
    assert f"thread {process.pid} (" in said and "waits in" in said


def test_two_threads_that_first_ask_for_the_lock_of_a_task_get_one(run):
    """Without the guard of in_sdk_python.py they get two, and wait for each other."""
    done = run("""
import os, threading, time
from clearml import Task
from clearml.utilities.locks import utils
made = utils.RLock.__init__
def slowly(self, *arguments, **named):
    time.sleep(0.5)
    made(self, *arguments, **named)
utils.RLock.__init__ = slowly
os.environ["CLEARML_PROC_MASTER_ID"] = f"{os.getpid()}:mine"
task = object.__new__(Task)
task._Task__edit_lock, task._id = None, "mine"
found, both = [], threading.Barrier(2)
def ask():
    both.wait()
    found.append(task._edit_lock)
threads = [threading.Thread(target=ask) for _ in range(2)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
say(locks=len(set(map(id, found))), kind=type(found[0]).__module__)
os._exit(0)
""")
    assert (done.locks, done.kind) == (1, "clearml.utilities.locks.utils")


def test_a_fork_asks_though_another_thread_was_about_to(run, server):
    """Without the guard of in_sdk_python.py it waits for ever for a lock that only its parent's thread lets go of."""
    done = run(f"""
import os, signal
from clearml.backend_api.utils import get_http_session_with_retry
session, url = get_http_session_with_retry(), "{server.said['api_server']}/debug.ping"
assert session.get(url).ok
pools = session.get_adapter(url).poolmanager.pools
assert all([pools[key].pool.mutex.acquire() for key in pools.keys()]) and len(pools)
child = os.fork()
if not child:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(20)
    os._exit(0 if session.get(url).ok else 1)
say(status=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)
""")
    assert done.status == 0
