"""A script that starts processes as it is imported by them is told as that, with the line."""

from __future__ import annotations

from pathlib import Path

import failing
import pytest

HEAD = "import multiprocessing as mp\nmp.set_start_method('spawn')\n"
WORK = "def work(n): print(n)\n"
TWO = "ps = [mp.Process(target=work, args=(n,)) for n in range(2)]\n[p.start() for p in ps]\n"
JOIN = "[p.join() for p in ps]\nif any(p.exitcode for p in ps): raise RuntimeError('process 0 terminated')\n"
CALLED = f"def main():\n    {TWO}    {JOIN}main()\n".replace("\n[", "\n    [").replace("\nif", "\n    if")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


@pytest.mark.parametrize(("code", "line", "text"), [
    (HEAD.replace(")", ", force=True)") + WORK + TWO + JOIN, 5, "[p.start() for p in ps]"),
    (HEAD.replace(")", ", force=True)") + WORK + CALLED, 9, "main()"),
    ("import multiprocessing as mp\nfrom concurrent.futures import ProcessPoolExecutor as Pool\n" + WORK
     + "p = Pool(1, mp_context=mp.get_context('spawn'))\nlist(p.map(work, [1]))\n", 5, "list(p.map(work, [1]))")])
def test_the_line_that_starts_processes_anew(code: str, line: int, text: str) -> None:
    found = failing.told({"t.py": code}, "t.py")
    assert found["reason"] == ("the processes that it starts import it anew, and what starts them is not below "
                               f'if __name__ == "__main__", at t.py:{line} (exit 1)')
    assert found["advice"].startswith(f'write if __name__ == "__main__": above line {line}, ')
    assert text in found["advice"] and f"mend t.py:{line} in your checkout" in found["advice"]
    assert "An attempt has been made to start a new process" in found["evidence"]


def test_the_line_that_says_how_they_are_started_fails_in_them_first() -> None:
    found = failing.told({"t.py": HEAD + WORK + TWO + JOIN}, "t.py")
    assert found["reason"] == ("the processes that it starts import it anew, and what starts them is not below "
                               'if __name__ == "__main__", at t.py:2 (exit 1)')
    assert "above line 2, and what is to run once" in found["advice"] and "set_start_method('spawn')" in found["advice"]
    assert found["evidence"].rstrip().endswith("RuntimeError: context has already been set")


@pytest.mark.parametrize(("files", "end"), [
    ({"t.py": HEAD + "mp.set_start_method('fork')\n"}, "RuntimeError: context has already been set, at t.py:3"),
    # of a module: the guard is there
    ({"t.py": "import lib\nif __name__ == '__main__':\n    lib.go()\n",
      "lib.py": HEAD + WORK + "def go():\n    p = mp.Process(target=work, args=(1,))\n    p.start()\n    p.join()\n"
      "    raise SystemExit(p.exitcode)\n"}, "RuntimeError: context has already been set, at lib.py:2"),
    ({"t.py": "print('RuntimeError: context has already been set')\nraise KeyError('x')\n"},
     "KeyError: 'x', at t.py:2")])
def test_a_start_method_that_is_set_twice_otherwise(files: dict[str, str], end: str) -> None:
    assert failing.told(files, "t.py")["reason"] == f"{end} (exit 1)"


def test_a_log_that_begins_in_the_midst_of_it() -> None:
    failing.checkout({"t.py": HEAD.replace(")", ", force=True)") + WORK + TWO + JOIN})
    _, printed = failing.run("t.py")
    rest = printed[printed.rindex("This probably means"):]
    found = failing.of(" " * 8 + rest, "t.py")
    assert found["reason"].endswith('is not below if __name__ == "__main__" (exit 1)')
    assert "mend t.py in" in found["advice"]


@pytest.mark.parametrize("code", [
    "print('RuntimeError: An attempt has been made to start a new process before the current process has finished')\n"
    "raise KeyError('x')\n",
    "print('see: An attempt has been made to start a new process before the\\n  current process has finished')\n"
    "print('  The \"freeze_support()\" line can be omitted if the program\\n  is not going to be frozen')\n"
    "raise KeyError('x')\n"])
def test_a_log_that_speaks_of_it(code: str) -> None:
    assert "KeyError: 'x', at t.py:" in failing.told({"t.py": code}, "t.py")["reason"]


@pytest.mark.parametrize("head", [HEAD, HEAD.replace(")", ", force=True)")])
def test_a_log_of_another_run_that_is_printed(head: str) -> None:
    failing.checkout({"t.py": head + WORK + TWO + JOIN})
    _, printed = failing.run("t.py")
    other = printed.replace(f"/{failing.ID}.1/", "/9e21.1/")
    found = failing.told({"t.py": f"print({other!r}, flush=True)\n{{}}['x']\n"}, "t.py")
    assert found["reason"] == "KeyError: 'x', at t.py:2 (exit 1)"
