"""In each process of the tests' interpreter with clearml, where conftest.py puts it.

It tells where it hangs when asked by SIGUSR2, and is without two races that hung a script now and then.
"""

import faulthandler
import os
import signal
import sys
import threading
import weakref
from importlib.machinery import PathFinder

# the package takes SIGABRT and the like for itself, and then ignores them
faulthandler.register(signal.SIGUSR2, file=2, all_threads=True, chain=False)

# The race (seen in clearml 2.1.12): Task._edit_lock makes the lock of a task when it is first asked for, and nothing
# guards that. Within Task.init two threads may be the first: the main one (_set_parameters, _set_startup_info), and
# that of the repository (_update_repository) or, under an agent, that of the machine's load (ResourceMonitor). Each
# then makes a lock of its own over one file. Whoever locks the first, and within that asks for the lock again
# (_update_repository and _set_runtime_properties call _edit), gets the second, and waits in locks/utils.py for the
# file that it holds itself, for ever; the other thread waits for the second.
TASK = "clearml.backend_interface.task.task"
# The other: a fork gets the pools of connections as they are in that moment. One that another thread of the parent has
# just locked to take a connection out stays locked in the child for ever (urllib3's connectionpool.py, `_get_conn`).
ADAPTERS = "requests.adapters"


class Guard:
    """Finds those modules as Python does, and guards what races in them."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Of those modules only; the others are found as ever."""
        guard = {TASK: make_one_lock, ADAPTERS: make_pools_anew}.get(name)
        spec = PathFinder.find_spec(name, path, target) if guard else None
        if spec is not None:
            load = spec.loader.exec_module

            def load_and_guard(module):
                load(module)
                guard(module)
            spec.loader.exec_module = load_and_guard
        return spec


def make_pools_anew(adapters):
    """A fork opens connections of its own."""
    known, theirs = weakref.WeakSet(), adapters.HTTPAdapter.__init__

    def made(self, *arguments, **named):
        theirs(self, *arguments, **named)
        known.add(self)

    def forget():
        for adapter in known:
            adapter.init_poolmanager(adapter._pool_connections, adapter._pool_maxsize, block=adapter._pool_block)
            adapter.proxy_manager = {}
    adapters.HTTPAdapter.__init__ = made
    os.register_at_fork(after_in_child=forget)


def make_one_lock(module):
    """One thread at a time asks for the lock of a task; a fork gets the guard free."""
    task_class = module.Task
    guard, theirs = threading.RLock(), task_class._edit_lock

    def edit_lock(self):
        with guard:
            return theirs.fget(self)
    task_class._edit_lock = theirs.getter(edit_lock)
    os.register_at_fork(before=guard.acquire, after_in_parent=guard.release, after_in_child=guard.release)


sys.meta_path.insert(0, Guard)
