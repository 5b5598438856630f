"""Causes in the machine that ran a task: memory, disks, libraries, programs, its environment."""

from __future__ import annotations

import re
import shlex

from agentpipe.task import error_lines, own_lines
from agentpipe.task.remedies import again, in_container, short, smaller, with_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

SHARED_MEMORY = re.compile(r"out of shared memory|[Ee]rror while creating shared memory"
                           r"|unable to (?:open|allocate|resize|mmap) .{0,80}(?:/torch_|/dev/shm|shared memory)"
                           r"|No space left on device.{0,20}'/psm_")
# a swap without limit stays
MEMORY = re.compile(r"((?:^|\s)(?:-m[ =]?|--memory(?:-swap)?[ =]))(\d+(?:\.\d+)?)([bkmgBKMG]?)(?!\S)")
LOADER = re.compile(r"RuntimeError: DataLoader worker \(pid(?:\(s\))? [\d, ]+\) "
                    r"(?:exited unexpectedly|is killed by signal: Killed)")

# what a shell says of a program, and no exception in words of its own
NOT_FOUND = re.compile(r"^(?!\w[\w.]*(?:Error|Exception): ).*(?:line \d+: |sh: \d+: |: )([\w.+-]+): (?:command )?"
                       r"not found$", re.MULTILINE)
LAST = 12  # lines: a script may do without a program, and go on


def memory(task: dict[str, Any], evidence: str) -> Known | None:
    """Memory of the machine ran out, and the script said so itself."""
    if re.search(r"^(MemoryError|numpy.*ArrayMemoryError|std::bad_alloc)", evidence, re.MULTILINE):
        return smaller(task, "memory ran out") or {
            "reason": "memory ran out", "advice": "less at a time, or a machine with more memory"}
    return None


def limited(task: dict[str, Any], reason: str) -> Known | None:
    """The limit of its container was too low: twice as much where the task itself has set it."""
    container = task.get("container") or {}
    arguments = container.get("arguments") or ""
    more = MEMORY.sub(lambda found: f"{found[1]}{2 * float(found[2]):.15g}{found[3]}", arguments)
    if not re.search(r"\blimit \d", reason) or not container.get("image"):
        return None
    if more == arguments:
        return {"reason": reason, "advice": "a higher limit, which is its worker's (--memory in "
                                            "agent.extra_docker_arguments, say), or less data at a time"}
    return {"reason": reason, "remedy": with_arguments(task, more), "advice": "less data at a time"}


def library(task: dict[str, Any], evidence: str) -> Known | None:
    """A library of the system that the machine lacks."""
    said = re.findall(r"(?:ImportError|OSError): (\S+\.so[\w.]*): cannot open shared object file", evidence)
    if said:
        image = _image(task)
        return _lacking(task, f"{image or 'this machine'} lacks the library {said[-1]}",
                        f"install the system package with {said[-1]}" + ("" if image else " on the worker"))
    return None


def program(task: dict[str, Any], evidence: str) -> Known | None:
    """A program that the machine lacks, called by a shell or by Python's subprocess."""
    said = NOT_FOUND.findall("\n".join(evidence.rstrip().splitlines()[-LAST:]))
    if "in _execute_child" in evidence:
        said += re.findall(r"^FileNotFoundError: .*?: '([^'/]+)'", evidence, re.MULTILINE)
    if said:
        image = _image(task)
        return _lacking(task, f"there is no program {said[-1]} {f'in {image}' if image else 'on the worker'}",
                        f"install {said[-1]}" + ("" if image else " there"))
    return None


def _image(task: dict[str, Any]) -> str:
    image = (task.get("container") or {}).get("image")
    return f"the image {image}" if image else ""


def _lacking(task: dict[str, Any], reason: str, install: str) -> Known:
    """What the machine lacks, and an image may have; of an image its task's set-up script may bring it."""
    by = f" by a set-up script (agent-task edit {task['id']} --setup-script TEXT)" if _image(task) else ""
    return {"reason": reason, "advice":
            f"{install}{by}, or run it in an image that has it: agent-task edit {task['id']} --docker IMAGE; then "
            f"{again(task)}"}


def shared_memory(task: dict[str, Any], evidence: str) -> Known | None:
    """/dev/shm, through which PyTorch's workers and NCCL pass their data, is too small."""
    if not SHARED_MEMORY.search(evidence):
        return None
    container = task.get("container") or {}
    reason, fewer = "shared memory (/dev/shm) ran out", "fewer workers of the DataLoader (num_workers), smaller batches"
    if container.get("image") and not re.search(r"--(?:ipc|shm-size)\b", container.get("arguments") or ""):
        return {"reason": reason, "remedy": in_container(task, "--ipc=host"), "advice": f"{fewer}, or --shm-size=8g"}
    return {"reason": reason, "advice": f"{fewer}, or more of it on the worker (df -h /dev/shm); then {again(task)}"}


def loader(task: dict[str, Any], evidence: str) -> Known | None:
    """A worker of PyTorch's DataLoader that somebody has killed, mostly the kernel, and that could say nothing."""
    said = LOADER.match(error_lines.last(evidence))
    if not said:
        return None
    line, advice = own_lines.last(task, evidence), (
        "most often the machine, or the container, is short of memory, and each worker wants its own: fewer of them "
        "(num_workers; with 0 the script itself shows what is wrong with them), smaller batches, or more memory")
    mend = own_lines.mended(task, line) if line else {"advice": f"then {again(task)}"}
    return {"reason": short(said[0].removeprefix("RuntimeError: ")) + (f", at {line}" if line else ""), **mend,
            "advice": advice if mend.get("remedy") else f"{advice}; {mend['advice']}"}


def disk(task: dict[str, Any], evidence: str) -> Known | None:
    """A disk that is full."""
    if not re.search(r"No space left on device|Disk quota exceeded", evidence):
        return None
    return {"reason": "a disk of the worker is full", "advice":
            f"on the worker: agent-config check, df -h; when there is room again: {again(task)}"}


def full(task: dict[str, Any]) -> Known:
    """Its log could not be written."""
    return {"remedy": None, "advice":
            f"free some space on the worker (agent-config check disk), and let its agent-pull take no task while there "
            f"is too little (--need-disk SIZE, AGENT_NEED_DISK); then {again(task)}"}


def variable(task: dict[str, Any], evidence: str) -> Known | None:
    """A variable of the environment that the worker does not set."""
    said = re.findall(r"os\.environ\[.*\n(?:[ \t].*\n)*KeyError: '([^']+)'", evidence)
    said += re.findall(r"(?:line \d+|sh: \d+): (\w+): (?:unbound variable|parameter not set)", evidence)
    if not said:
        return None
    return {"reason": f"the environment variable {said[-1]} is not set", "advice":
            f"set {said[-1]} where the agent is started, then {again(task)}; of a task with an image: "
            f"{in_container(task, f'-e {shlex.quote(said[-1])}=…')}"}
