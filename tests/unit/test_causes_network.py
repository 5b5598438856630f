"""What a network did not do is told of the host, the port or the certificate, and not of the line that asked for it."""

from __future__ import annotations

from pathlib import Path

import failing
import pytest


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


@pytest.mark.parametrize(("code", "reason", "words"), [
    ("import urllib.request; urllib.request.urlopen('http://no-such-host.invalid/x')",
     "node:0 knows no host no-such-host.invalid, at t.py:1", "on node:0: getent hosts no-such-host.invalid"),
    ("import requests; requests.get('http://no-such-host.invalid/x')",
     "node:0 knows no host no-such-host.invalid, at t.py:1", "https_proxy"),
    ("import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/x')",
     "127.0.0.1:9 refuses the connection: nothing listens there, at t.py:1", "start what is to listen there"),
    ("import requests; requests.get('http://127.0.0.1:9/x')",
     "127.0.0.1:9 refuses the connection", "start what is to listen there"),
    ("import requests; requests.get('http://1.2.3.4/x', proxies={'http': 'http://127.0.0.1:9'})",
     "the proxy 127.0.0.1:9 cannot be used", "on node:0: http_proxy"),
    ("import socket; socket.create_connection(('127.0.0.1', 9))",
     "127.0.0.1:9 refuses the connection", "start what is to listen there"),
    ("import socket; a = socket.socket(); a.bind(('127.0.0.1', 0)); a.listen(); b = socket.socket(); "
     "b.bind(a.getsockname())", "a port of node:0 is in use, at t.py:1", "ss -ltnp tells who has it")])
def test_the_host_or_the_port(code: str, reason: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = failing.told({"t.py": code}, "t.py", last_worker="node:0")
    assert found["reason"].startswith(reason) and words in found["advice"] and found["remedy"] is None
    assert found["advice"].endswith("agent-task enqueue 1f3c") and "EDITOR" not in found["advice"]


@pytest.mark.parametrize(("said", "reason"), [  # by the sources of PyTorch, uvicorn, ssl and huggingface_hub
    ("torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: "
     "29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use", "port 29500 of the worker"),
    ("RuntimeError: The server socket has failed to bind to [::]:29500 (errno: 98 - Address already in use).",
     "port 29500 of the worker is in use"),
    ("OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use",
     "port 8000 of the worker is in use"),
    ("urllib.error.URLError: <urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get "
     "local issuer certificate (_ssl.c:1006)>", "the certificate of a server is not trusted: unable to get local"),
    ("requests.exceptions.SSLError: HTTPSConnectionPool(host='my.host', port=443): Max retries exceeded with url: / "
     "(Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
     "certificate has expired (_ssl.c:1006)')))", "the certificate of my.host:443 is not trusted: certificate has"),
    ("OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached "
     "files.\nCheck your internet connection", "huggingface.co does not answer")])
def test_the_words_of_libraries(said: str, reason: str) -> None:
    frame = 'Traceback (most recent call last):\n  File "/s/tasks/1f3c.1/code/t.py", line 2, in <module>\n    f()\n'
    assert failing.of(frame + said, "t.py")["reason"].startswith(reason)
    image = failing.of(frame + said, "t.py", container={"image": "a"})["advice"]
    assert ("--docker-args '-e NAME=…'" in image) == ("in use" not in reason and "29500" not in reason)


def test_a_network_that_was_caught_is_not_the_end() -> None:
    code = ("import urllib.request\ntry: urllib.request.urlopen('http://127.0.0.1:9/x')\n"
            "except OSError as error: print(error, flush=True)\n{}['lr']")
    assert failing.told({"t.py": code}, "t.py")["reason"] == "KeyError: 'lr', at t.py:4 (exit 1)"


@pytest.mark.parametrize("said", [  # by the sources of PyTorch and NCCL
    "RuntimeError: DataLoader worker (pid 123) is killed by signal: Bus error. It is possible that dataloader's "
    "workers are out of shared memory. Please try to raise your shared memory limit.",
    "RuntimeError: unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)",
    "Error: Error while creating shared memory segment /dev/shm/nccl-Wj9 (size 9637888)"])
def test_shared_memory_is_more_of_it(said: str) -> None:
    found = failing.of(said, "t.py", container={"image": "a", "arguments": "-e A=b"})
    assert found["reason"] == "shared memory (/dev/shm) ran out (exit 1)"
    assert found["remedy"] == "agent-task edit 1f3c --docker-args '-e A=b --ipc=host' && agent-task enqueue 1f3c"
    for container in ({"image": "a", "arguments": "--shm-size 1g"}, {}):
        found = failing.of(said, "t.py", container=container)
        assert found["remedy"] is None and "df -h /dev/shm" in found["advice"]


@pytest.mark.parametrize("said", ["DataLoader worker (pid(s) 12, 13) exited unexpectedly",
                                  "DataLoader worker (pid 12) is killed by signal: Killed."])
def test_a_worker_that_was_killed_is_memory_most_often(said: str) -> None:
    raised = f"raise RuntimeError({said!r})\n"
    found = failing.told({"t.py": raised}, "t.py")
    assert found["reason"] == f"{said.rstrip('.')}, at t.py:1 (exit 1)"
    assert "num_workers; with 0" in found["advice"] and "mend t.py:1 in your checkout" in found["advice"]
    # its own words say more, and one that was outlived is not the end
    other = failing.told({"t.py": f"try:\n  {raised}except RuntimeError as e: print(repr(e))\n{{}}['lr']\n"}, "t.py")
    assert other["reason"] == "KeyError: 'lr', at t.py:4 (exit 1)"
    crashed = "RuntimeError: DataLoader worker (pid 12) is killed by signal: Segmentation fault.\n"
    assert "num_workers" not in str(failing.of(crashed, "t.py"))
