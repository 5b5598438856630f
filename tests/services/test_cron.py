"""A line in a real crontab runs tasks, whatever dies: a node for every crash point, all under one cron."""

import subprocess
from pathlib import Path

import nodes
import pytest

TABLES = Path("/etc/cron.d")
# those need a second death, or a signal: the pipelines of tests/chaos have them
ELSEWHERE = ("recover:", "give-back:")
POINTS = [point for point in nodes.crash_points() if not point.startswith(ELSEWHERE)]
PASSED_ON = ("PATH", "XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME", "SIDE", "UV_CACHE_DIR", "AGENT_CLAIM_GRACE",
             "AGENT_MACHINE_DIR")


@pytest.fixture
def tables():
    """Writes tables for cron; they are gone afterwards."""
    subprocess.run([str(nodes.ROOT / "tests/services/cron-up.sh")], check=True, stdout=subprocess.DEVNULL)
    made = []

    def write(node, words, number, **more):
        values = {name: node.env[name] for name in PASSED_ON} | more
        lines = [f"{name}={value}" for name, value in values.items()]
        lines.append(f"* * * * * root {words} >>{node.home}/cron.log 2>&1")
        table = TABLES / f"agentpipe-test-{number}"
        made.append(table)
        table.write_text("\n".join(lines) + "\n")

    yield write
    for table in made:
        table.unlink()


# three full minutes, of which the first may be just over
@pytest.mark.timeout(600)
def test_cron_runs_each_task_once_whatever_dies_in_its_first_minute(tables, tmp_path, monkeypatch):
    for name in ("AGENT_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, "")
    found = {"": nodes.Node(tmp_path / "unharmed", tmp_path / "cache")}
    for point in POINTS:
        home = tmp_path / point.replace(":", "-")
        found[point] = nodes.Node(home, home / "cache" if nodes.builds(point) else tmp_path / "cache")
    tasks = {point: node.task_at(point) for point, node in found.items()}
    for number, (point, node) in enumerate(found.items()):
        crash = {"AGENT_CRASH_AT": f"{point}={node.home / 'died'}"} if point else {}
        tables(node, nodes.pipeline_of(point), number, **crash)
    for point, node in found.items():
        nodes.wait_for(lambda point=point, node=node: node.status(tasks[point]) in nodes.ENDED
                       and not node.left_claims(), 300, 0.5)
    for point, node in found.items():
        assert not point or (node.home / "died").exists(), f"no process came to {point}"
        nodes.wait_for(lambda node=node: node.left() == [], 30)
        node.assert_ran_once(tasks[point])
