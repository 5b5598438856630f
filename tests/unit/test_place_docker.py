"""Whose process is a container's script: asked of the host, without an engine."""

import os

from agentpipe import processes
from agentpipe.place.docker import Container

OTHERS = "0123456789abcdef" * 4


def test_a_process_of_this_machine_is_not_the_containers_for_its_number_and_start(tmp_path):
    """The record is the script's own to write, and two containers may start a process at the same tick."""
    record = processes.identity(os.getpid())
    value = {"kind": "docker", "container": OTHERS, "keeper": record, "prefix": ["docker", "exec", OTHERS]}
    container = Container(value, str(tmp_path))
    assert container.pid(record) is None
    assert container.alive(record) is False
