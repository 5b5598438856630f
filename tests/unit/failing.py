"""A script that really runs, and fails, in the checkout of a run of its task on this machine; what is told of it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from agentpipe import paths
from agentpipe.task import causes

ID = "1f3c"
EVIDENCE = 8 << 10  # characters of its output that are kept


def checkout(files: dict[str, str]) -> Path:
    """The checkout, with these files."""
    code = Path(paths.state("tasks")) / f"{ID}.1" / "code"
    for name, text in files.items():
        path = code / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return code


def run(entry: str, folder: str = ".", binary: str = sys.executable) -> tuple[int, str]:
    """(its exit status, what it printed) of an entry point that runs in a folder of the checkout."""
    where = checkout({}) / folder
    done = subprocess.run([binary, *shlex.split(entry)], cwd=where, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(where)})
    return done.returncode, done.stdout


def told(files: dict[str, str], entry: str, folder: str = ".", binary: str = sys.executable,
         **more: Any) -> dict[str, Any]:
    """What is told of the entry point, which fails."""
    checkout(files)
    status, printed = run(entry, folder, binary)
    assert status, printed
    return of(printed, entry, folder, status, **more)


def of(printed: str, entry: str, folder: str = ".", status: int = 1, **more: Any) -> dict[str, Any]:
    """What is told of what a script has printed."""
    script = {"entry_point": entry, "repository": "https://git.example.org/r.git", "working_dir": folder}
    task = {"id": ID, **more, "script": {**script, **more.get("script", {})}}
    reason = f"the script, or a command in it, could not be started (exit {status})" if status in (126, 127) else \
        f"exit {status}"
    return causes.of_script(task, {"class": "script_failed", "reason": reason, "evidence": printed[-EVIDENCE:]})


def again(found: dict[str, Any], folder: str = ".", binary: str = sys.executable) -> tuple[int, str]:
    """The run that the remedy, another entry point, brings; `folder` is where it ran before."""
    command = re.fullmatch(rf"agent-task edit {ID} (.+) && agent-task enqueue {ID}", found["remedy"] or "")
    assert command, found
    options = dict(zip(*[iter(shlex.split(command[1]))] * 2, strict=True))
    assert set(options) <= {"--entry-point", "--working-dir"}
    return run(options["--entry-point"], options.get("--working-dir", folder), binary)
