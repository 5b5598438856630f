"""What a child process said is the cause, and not what its parent made of it."""

from __future__ import annotations

from pathlib import Path

import failing
import pytest

POOL = """import multiprocessing
def f(x):
    return 1 / x
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        pool.map(f, [1, 0])
"""
EXECUTOR = """from concurrent.futures import ProcessPoolExecutor
def f(x):
    return {}["lr"]
if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        print(list(pool.map(f, [1, 0])))
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


@pytest.mark.parametrize(("code", "reason"), [
    (POOL, "ZeroDivisionError: division by zero"), (EXECUTOR, "KeyError: 'lr'")])
def test_the_line_of_a_worker_is_told_and_not_that_which_asked_it(code: str, reason: str) -> None:
    found = failing.told({"t.py": code}, "t.py")
    assert found["reason"] == f"{reason}, at t.py:3 (exit 1)" and "mend t.py:3" in found["advice"]
    assert found["evidence"].rstrip().splitlines()[-1] == reason and "in f" in found["evidence"][-400:]


def test_a_worker_whose_words_are_cut_off_or_made_into_another_exception() -> None:
    failing.checkout({"t.py": POOL})
    _, printed = failing.run("t.py")
    cut = printed[printed.index("  File", printed.index("in mapstar") - 200):]
    assert failing.of(cut, "t.py")["reason"] == "ZeroDivisionError: division by zero, at t.py:3 (exit 1)"
    other = POOL.replace("        pool.map(f, [1, 0])", "        try:\n            pool.map(f, [1, 0])\n"
                         "        except ZeroDivisionError as error:\n            raise ValueError('no') from error")
    found = failing.told({"t.py": other}, "t.py")
    assert found["reason"] == "ValueError: no, at t.py:9 (exit 1)" and "evidence" not in found


CALL = "import subprocess, sys\nsubprocess.run([sys.executable, 'sub.py', *sys.argv[1:]], check=True)\n"


def test_what_a_program_printed_that_the_script_has_called() -> None:
    found = failing.told({"t.py": CALL, "sub.py": "x = [1]\nx[3]\n"}, "t.py")
    assert found["reason"] == "IndexError: list index out of range, at sub.py:2 (exit 1)"
    assert found["evidence"].rstrip().endswith("IndexError: list index out of range")
    chained = CALL.replace("subprocess.run", "try: 1 / 0\nexcept ZeroDivisionError: subprocess.run")
    found = failing.told({"t.py": chained, "sub.py": "import jsno\n"}, "t.py")
    assert found["reason"] == "the module jsno is not installed; json may be meant (exit 1)"
    assert "mend sub.py:1" in found["advice"]
    parser = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr')\np.parse_args()\n"
    found = failing.told({"t.py": CALL, "sub.py": parser}, "t.py --lrr 3")
    assert found["reason"].startswith("the script has no option --lrr; --lr may be meant")
    assert failing.again(found) == (0, "")
    # no Python
    found = failing.told({"t.py": "import subprocess\nsubprocess.run('echo data.csv: cannot read it >&2; exit 3', "
                                  "shell=True, check=True)\n"}, "t.py")
    assert found["reason"].endswith("returned non-zero exit status 3., at t.py:2 (exit 1)")
    assert found["evidence"].rstrip().endswith("data.csv: cannot read it")


def test_a_child_that_said_nothing_leaves_its_parents_words() -> None:
    code = "import subprocess\nprint('loading')\nsubprocess.run('exit 3', shell=True, check=True)\n"
    found = failing.told({"t.py": code}, "t.py")
    assert "exit status 3., at t.py:3 (exit 1)" in found["reason"] and "evidence" not in found


PROCESS = """import multiprocessing
def f():
    raise ValueError("bad shard 3")
if __name__ == "__main__":
    p = multiprocessing.Process(target=f)
    p.start()
    p.join()
    END
"""


@pytest.mark.parametrize("end", [
    "raise RuntimeError('worker died')", "assert p.exitcode == 0", "if p.exitcode: raise SystemError('no')",
    "print('joined'); raise RuntimeError('worker died')"])
def test_a_process_that_was_started_is_told_and_not_its_parent_that_saw_it_end(end: str) -> None:
    found = failing.told({"t.py": PROCESS.replace("END", end)}, "t.py")
    assert found["reason"] == "ValueError: bad shard 3, at t.py:3 (exit 1)" and "mend t.py:3" in found["advice"]
    assert found["evidence"].rstrip().endswith("\nValueError: bad shard 3") and "t.py\", line 8" in found["evidence"]


@pytest.mark.parametrize(("end", "reason"), [
    # it went on without the child
    ("print('epoch\\n' * 9); raise RuntimeError('worker 3 has no data')", "RuntimeError: worker 3 has no data"),
    ("{}['lr']", "KeyError: 'lr'"), ("raise RuntimeError('no such shard')", "RuntimeError: no such shard")])
def test_a_parent_that_fails_by_itself_after_a_child_is_told(end: str, reason: str) -> None:
    found = failing.told({"t.py": PROCESS.replace("END", end)}, "t.py")
    assert found["reason"] == f"{reason}, at t.py:8 (exit 1)"


def test_a_traceback_that_a_parent_only_printed_is_not_that_of_a_child() -> None:
    code = ("import traceback\ntry: 1 / 0\nexcept ZeroDivisionError: print('Process Process-1:'); "
            "traceback.print_exc()\nraise RuntimeError('worker died')\n")
    assert failing.told({"t.py": code}, "t.py")["reason"] == "RuntimeError: worker died, at t.py:4 (exit 1)"


CAUGHT = """import logging, sys, traceback
class Noisy:
    def __del__(self): raise RuntimeError("too late")
noisy = Noisy()
try: import nothing_of_this_name
except ImportError: traceback.print_exc()
try:
    try: 1 / 0
    except ZeroDivisionError as error: raise FileNotFoundError(2, "no", "data.csv") from error
except OSError: logging.exception("no data, going on without")
logging.error("%d epochs", "three")
{}["lr"]
"""


def test_exceptions_that_the_script_outlived_are_not_its_end() -> None:
    found = failing.told({"t.py": CAUGHT}, "t.py")
    assert found["reason"] == "KeyError: 'lr', at t.py:12 (exit 1)"
    assert "nothing_of_this_name" not in found["evidence"] and "Call stack" not in found["evidence"]
    # the last one that was caught, of a script that ended itself
    found = failing.told({"t.py": CAUGHT.replace('{}["lr"]', "sys.exit(3)")}, "t.py")
    assert found["reason"].startswith("there is no data.csv where the script runs")


# by the sources of PyTorch: torch/distributed/run.py, elastic/multiprocessing/errors/__init__.py, __init__.py
TORCHRUN = """epoch 1
[rank0]: Traceback (most recent call last):
[rank0]:   File "/s/tasks/1f3c.1/code/work.py", line 2, in <module>
[rank0]:     print(cfg["lr"])
[rank0]:           ~~~^^^^^^
[rank0]: KeyError: 'lr'
E1130 20:47:16.123000 99 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/e/bin/torchrun", line 8, in <module>
    sys.exit(main())
  File "/e/lib/python3.11/site-packages/torch/distributed/launcher/api.py", line 268, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: 
============================================================
work.py FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-30_20:47:16
  host      : vm
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 123)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================
"""  # noqa: W291


def test_a_rank_of_torchrun_is_told_and_not_the_banner() -> None:
    found = failing.of(TORCHRUN, "-m torch.distributed.run work.py")
    assert found["reason"] == "KeyError: 'lr', at work.py:2 (exit 1)" and "mend work.py:2" in found["advice"]
    assert found["evidence"].endswith("KeyError: 'lr'\n") and "[rank0]" not in found["evidence"]
    other = TORCHRUN.replace("E1130", "".join(f"[rank1]: {line}\n" for line in (
        "Traceback (most recent call last):", '  File "/s/tasks/1f3c.1/code/work.py", line 9, in <module>',
        "ConnectionResetError: [Errno 104] Connection reset by peer")) + "E1130")
    assert failing.of(other, "work.py")["reason"] == "KeyError: 'lr', at work.py:2 (exit 1)"
    silent = TORCHRUN.partition("[rank0]: T")[0] + "Traceback" + TORCHRUN.partition("\nTraceback")[2]
    assert failing.of(silent, "work.py")["reason"].endswith("multiprocessing.errors.ChildFailedError (exit 1)")
    killed = failing.of(silent.replace("exitcode  : 1 ", "exitcode  : -9 "), "work.py")
    assert killed["reason"] == "rank 0: SIGKILL ended it, which no agent has sent (exit 1)"
