"""Which containers of an engine are ours to remove; that they go is in tests/services/docker.bats."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from agentpipe import paths, place
from agentpipe.claim import attempt
from agentpipe.place import docker, leftovers, owner


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


class Engine:
    """An engine's list of containers, and what was removed of it."""

    def __init__(self, *labels: dict[str, str], mounted: bool = True) -> None:
        self.there = [{"Id": str(number), "Labels": each} for number, each in enumerate(labels)]
        self.mounted = mounted
        self.removed: list[str] = []

    def containers(self, all: bool, filters: dict[str, str]) -> list[Any]:
        name, _, value = filters["label"].partition("=")
        return [each for each in self.there if each["Labels"].get(name) == value]

    def inspect_container(self, container: str) -> dict[str, Any]:
        directory = self.there[int(container)]["Labels"]["agentpipe.directory"]
        return {"Mounts": [{"Destination": "/data"}, *([{"Destination": directory}] if self.mounted else [])]}

    def remove_container(self, container: str, force: bool, v: bool) -> None:
        self.removed.append(container)


def labels(directory: str, **more: str) -> dict[str, str]:
    found = {"home": paths.state("tasks"), "directory": directory, **more}
    return {f"agentpipe.{name}": value for name, value in found.items()}


def test_only_what_is_ours_is_swept(tmp_path: Path) -> None:
    gone = paths.state("tasks", "a.1")
    lives = Path(paths.state("tasks", "b.1"))
    lives.mkdir(parents=True)
    (lives / place.JOURNAL).write_text("{}")
    engine = Engine(labels(gone, owner=owner.id()), labels(gone, owner="f" * 32), labels(gone),
                    labels(str(lives), owner=owner.id()), labels(str(lives)))
    leftovers.sweep(engine, pytest.fail)
    assert engine.removed == ["0"]
    assert docker.made_for(engine, gone) == ["0", "2"]


def test_what_has_ended_is_swept_by_its_journal_also_without_an_owner() -> None:
    ended = Path(paths.state("tasks", "c.1"))
    ended.mkdir(parents=True)
    (ended / place.JOURNAL).write_text("{}")
    attempt.decide(str(ended), "completed")
    for name in ("spec", "clearml.conf", "entered.env"):  # of agent-run --hold-on-failure, which was killed
        (ended / name).touch()
    engine = Engine(labels(str(ended), owner="f" * 32), labels(str(ended)))
    leftovers.sweep(engine, pytest.fail)
    assert engine.removed == ["1"]
    assert sorted(os.listdir(ended)) == ["lock", "outcome"]


def test_what_is_no_longer_ours_is_swept_too() -> None:
    left = Path(paths.state("tasks", "d.1"))
    left.mkdir(parents=True)
    (left / place.JOURNAL).write_text("{}")
    attempt.leave_to_others(str(left))
    engine = Engine(labels(str(left)))
    leftovers.sweep(engine, pytest.fail)
    assert engine.removed == ["0"]


def test_one_that_cannot_be_removed_is_said_and_keeps_nothing_else() -> None:
    from docker.errors import APIError

    class Busy(Engine):
        def remove_container(self, container: str, force: bool, v: bool) -> None:
            if container == "0":
                raise APIError("500 Server Error", explanation="device or resource busy")
            super().remove_container(container, force, v)
    engine, said = Busy(*[labels(paths.state("tasks", f"{name}.1"), owner=owner.id()) for name in "fg"]), list[object]()
    leftovers.sweep(engine, said.append)
    assert engine.removed == ["1"]
    assert said == ["an old container, 0, cannot be removed: device or resource busy"]


def test_what_somebody_made_of_a_tasks_image_is_not_swept() -> None:
    """docker commit keeps the labels of a container."""
    ended = Path(paths.state("tasks", "e.1"))
    ended.mkdir(parents=True)
    (ended / place.JOURNAL).write_text("{}")
    attempt.decide(str(ended), "completed")
    engine = Engine(labels(paths.state("tasks", "gone.1"), owner=owner.id()), labels(str(ended)), mounted=False)
    leftovers.sweep(engine, pytest.fail)
    assert engine.removed == []


def test_the_id_is_made_once_also_by_many_at_once() -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = set(pool.starmap(owner.id, [()] * 16))
    assert found == {owner.id()} and len(owner.id()) == 32
    assert [each.name for each in Path(paths.state()).iterdir() if each.name.startswith(owner.NAME)] == [owner.NAME]
    Path(paths.state(owner.NAME)).write_text("none")
    again = owner.id()
    assert len(again) == 32 and owner.id() == again
