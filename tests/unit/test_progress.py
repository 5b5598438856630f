"""What an installer does, as its task's owner reads it."""

import re

import pytest

from agentpipe import progress


class Log:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


def test_downloads_and_builds_are_counted_sized_and_timed():
    log = Log()
    sink = progress.Lines(log, 3)
    for piece in ("Downloading numpy (17.4MiB)\n", "   Building leaf==1.0\n Downloa", "ded numpy\n",
                  "      Built leaf==1.0\n", "Prepared 3 packages in 1.2s\n"):
        sink(piece)
    lines = re.sub(r"\d+\.\d s", "0.0 s", log.text).splitlines()
    assert lines == ["Downloading numpy (17.4MiB) …", "Building leaf==1.0 …",
                     "downloaded numpy (17.4MiB): 1 of 3 packages, 0.0 s", "built leaf==1.0: 2 of 3 packages, 0.0 s",
                     "Prepared 3 packages in 1.2s"]


@pytest.mark.parametrize(("size", "shown"), [(0, ""), (512, "512 B"), (2048, "2.0 KiB"), (5 << 30, "5.0 GiB")])
def test_a_size_for_people(size, shown):
    assert progress.shown(size) == shown
