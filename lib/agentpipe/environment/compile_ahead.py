"""Byte-code of what a script is going to import, written ahead of it: run by a new environment's own Python (>= 3.6).

    python -I -S -c SOURCE SITE WHICH SCRIPT [MODULE…]

From the imports that SCRIPT's text names, or else from MODULEs, it goes on to what these import, breadth first, and
writes byte-code beside what lies in SITE, as an import would. WHICH turns the list of modules that it begins with, so
that several of them meet late: a script imports from the front, and number 0 comes from the back. Nothing is executed
but this; what cannot be read, compiled or written is left to the script.
"""

import collections
import importlib.machinery
import os
import re
import signal
import sys
import time

LONGEST_S = 300  # what is not compiled by then is left to the script
ROOM = 1 << 30  # bytes of the disk that are left to others
IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\.*)(\w[\w.]*)?[ \t]+import[ \t]*(?:\(([^()]*)\)|(.*))|import[ \t]+(.*))",
                    re.M)


def imports(text, package):
    """The dotted names of modules that a module of this package may import, by its text; some are none."""
    found = []
    for dots, base, within, line, plain in IMPORT.findall(text):
        names = [part.strip().split(" ")[0] for part in re.sub("#.*", "", within or line or plain).split(",")]
        names = [name for name in names if name.replace(".", "").isidentifier()]
        if plain:
            found += names
            continue
        if dots:
            base = ".".join(package[:len(package) - len(dots) + 1] + ([base] if base else []))
        found.append(base)
        found += [base + "." + name for name in names]
    return found


def located(name, folders):
    """(path, whether it is a package) of a module below one of these folders, or None."""
    for folder in folders:
        path = os.path.join(folder, *name.split("."))
        for each, package in ((os.path.join(path, "__init__.py"), True), (path + ".py", False)):
            if os.path.isfile(each):
                return each, package
    return None


def text_of(path):
    """A module's text; nothing when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


class Loader(importlib.machinery.SourceFileLoader):
    """Python's own, but it puts byte-code into place only when all of it was written.

    Before 3.12.8 and 3.13.1 also what a full disk has cut short is put there (issue 126606 of CPython): every later
    import of it fails.
    """

    def set_data(self, path, data, *, _mode=0o666):
        """Write a file of byte-code, or nothing."""
        temporary = f"{path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode & 0o666), "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError:
            try:
                os.unlink(temporary)
            except OSError:  # it could not be made
                pass


def has_room(folder):
    """Whether the disk can do without what byte-code takes."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize >= ROOM


def follow(site, folders, names):
    """Write the byte-code of these modules, and of those they import, as far as they lie in `site` and there is room.
    """
    queue, seen = collections.deque(names), set()
    while queue and has_room(site):
        name = queue.popleft()
        if not name or name in seen:
            continue
        seen.add(name)
        queue.extend(parent for parent in [name.rpartition(".")[0]] if parent)
        found = located(name, folders)
        if found is None:
            continue
        path, package = found
        if path.startswith(site + os.sep):
            try:
                Loader(name, path).get_code(name)
            except Exception:
                continue  # the script will say it, if it comes there
        parts = name.split(".")
        queue.extend(imports(text_of(path), parts if package else parts[:-1]))


def give_way():
    """Run on what all others leave idle. Niceness counts within a session only where each is a group of its own
    (sched(7), autogroup), so the group's is set as well: this process is the first of its session."""
    os.nice(19)
    for lower in (lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)), lower_group):
        try:
            lower()
        except OSError:  # forbidden here, or no such groups
            pass


def lower_group():
    """Make the session's group the last of all. Of ordinary users the kernel takes ten such words a second."""
    fd = os.open("/proc/self/autogroup", os.O_WRONLY)
    for _ in range(100):
        try:
            os.write(fd, b"19")
            break
        except BlockingIOError:
            time.sleep(0.1)
    os.close(fd)


def main(site, which, script, *modules):
    """Begin with what the script imports."""
    folders = [os.path.dirname(script), site] if script else [site]
    names = [name for name in imports(text_of(script), []) if located(name, folders)] if script else []
    names = list(dict.fromkeys(names)) or list(modules)
    names.reverse()
    turn = int(which) * 2 % max(1, len(names))
    follow(site, folders, names[turn:] + names[:turn])


if __name__ == "__main__":
    signal.alarm(LONGEST_S)
    give_way()
    main(*sys.argv[1:])
