"""How long a commit takes that the cache has, against `git clone --local` and `git checkout`."""

import json
import os
import shutil
import subprocess

from measure import interleaved, median, seconds

TARGET = 1.5


def rows(bench):
    """Rows of a small, a middling and a long repository."""
    for name, commits, files in (("20 files", 20, 20), ("2 000 files, 500 commits", 500, 2000),
                                 ("5 000 files, 50 000 commits", 50000, 5000)):
        row = f"a cached commit, {name}"
        if bench.wants(row) and not (bench.quick and commits > 1000):
            measured(bench, row, history(os.path.join(bench.home, f"code-{commits}.git"), commits, files))


def measured(bench, row, source):
    """The step itself, inside one process as agent-prepare runs it."""
    from agentpipe.cmds import agent_fetch
    from agentpipe.job import Job
    commit = git(source, "rev-parse", "main~3")
    script = {"repository": f"file://{source}", "version_num": commit}
    work, clone = os.path.join(bench.home, "work"), os.path.join(bench.home, "clone")
    agent_fetch.work(Job({"task": {"script": script}}, made(work)))
    os.rename(source, source + ".away")  # nothing is asked

    def ours():
        job = Job({"task": {"script": script}}, made(work))
        took = timed(lambda: agent_fetch.work(job))
        job.close()
        return took

    def theirs():
        shutil.rmtree(clone, ignore_errors=True)
        return seconds(["git", "clone", "-q", "--local", "--no-checkout", source + ".away", clone]) + \
            seconds(["git", "-C", clone, "checkout", "-q", commit])
    base, found = interleaved(bench.times(15, 5), theirs, ours)
    bench.row(row, median(found), "s", median(base), median(found) / median(base), TARGET)
    line = json.dumps({"task": {"script": script}}).encode()
    base, found = interleaved(bench.times(9, 3), theirs, lambda: seconds(["agent-fetch", "-q"], stdin=None, input=line))
    bench.row(row + ", process", median(found), "s", median(base), median(found) / median(base))


def timed(call):
    """How long a call takes (s)."""
    import time
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def made(folder):
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    return folder


def git(where, *words):
    """git's answer."""
    return subprocess.run(["git", "-C", where, *words], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


def history(path, commits, files):
    """A bare repository of that many commits, each of which changes one of the files; its path."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)
    parts = []
    for number in range(commits):
        parts.append(f"commit refs/heads/main\ncommitter a <a@example.com> {1700000000 + number} +0000\ndata 2\nc\n")
        # the first has all files
        for name in range(files) if not number else [number % files]:
            text = f"{number} {name}\n" * 20
            parts.append(f"M 100644 inline d{name % 50}/f{name}.py\ndata {len(text)}\n{text}\n")
    subprocess.run(["git", "-C", path, "fast-import", "--quiet"], input="".join(parts).encode(), check=True)
    return path
