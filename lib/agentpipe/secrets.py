"""Passwords that a task carries in its URLs: out of the manifest, into a file that only its owner reads, and masked
where a task is shown."""

from __future__ import annotations

import json
import os

from agentpipe import paths, untrusted
from agentpipe.files import publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job

FILE = "secrets.json"
# the fields of `script` whose URLs are used by stages
FIELDS = ("repository", "requirements")
# what a script gets: its server's keys, its environment, variables that go around the shim's shell (run/shim.py) until
# it has started, those of programs of ours in its place
CONF, SPEC, ODD_NAMES, INSIDE = "clearml.conf", "spec", "environment.json", "inside.env"
# variables of arguments and images, for what enters a place; a task's whole configuration, for the operator's own build
PLACE, ENTERED, BUILD = "place.env", "entered.env", "custom-build.env"
# where the place writes: the environment of a container's first program, and what its set-up leaves in a folder
FIRST, SETUP, LEFT = "entered", "setup", ("before", "exports", "environment")
# what installers got: with the indexes of task and machine, which nobody reads after the end
LISTS = ("requirements.txt", "constraints.txt", "build-constraints.txt", "overrides.txt", "pylock.toml",
         os.path.join(paths.BOX, "pylock.toml"))


def put_away(task: dict[str, Any], directory: str) -> dict[str, Any]:
    """The task without the passwords in the URLs of its script, which then stand in DIRECTORY/secrets.json (0600).

    Only what stages need is moved; what its owner wrote elsewhere into the task stays as it is.
    """
    script = task.get("script")
    if not isinstance(script, dict):  # none; or what no manifest may have, which agent-pull tells of
        return task
    moved, clean = {}, {}
    for field in FIELDS:
        found = script.get(field)
        text = json.dumps(found)
        if "://" not in text or ("@" not in text and "?" not in text):  # the usual case, and it must cost nothing
            continue
        from agentpipe.urls import split_url
        # of an address that is nothing else, a login may have any character
        clean[field] = shown(split_url(found)[0] if field == "repository" and isinstance(found, str) else found)
        if clean[field] != found:
            moved[field] = {"shown": clean[field], "whole": found}
    if not moved:
        return task
    publish(os.path.join(directory, FILE), json.dumps(moved).encode())
    return {**task, "script": {**script, **clean}}


def shown(value: Any) -> Any:
    """A task, or a part of one, as it may be shown: every text in it without logins and other secrets of URLs.

    A `diff` stays as it is: who takes it out of here applies it.
    """
    if isinstance(value, str):
        from agentpipe.urls import without_credentials
        return without_credentials(value)
    if isinstance(value, list):
        return [shown(each) for each in value]
    if isinstance(value, dict):
        return {name: each if name == "diff" else shown(each) for name, each in value.items()}
    return value


def forget(directory: str) -> None:
    """The end is acknowledged: no password of the task, or of this machine's indexes, stays in its directory."""
    _remove(directory, (*LISTS, FILE))


def forget_script(directory: str) -> None:
    """The script is over, and nobody enters its place: its credentials are needed no more, nor the environments that
    hold them."""
    _remove(directory, (CONF, SPEC, ODD_NAMES, INSIDE, PLACE, ENTERED, BUILD))
    _remove(paths.box(directory), (FIRST, *(f"{SETUP}/{name}" for name in LEFT)))


def _remove(directory: str, names: tuple[str, ...]) -> None:
    for name in names:
        try:
            untrusted.unlink(directory, name)
        except OSError:  # the usual case
            pass


def script(job: Job) -> dict[str, Any]:
    """The task's script as its owner wrote it, passwords included: for git and installers only, never to be shown."""
    return whole(job.task, job.directory)["script"]


def whole(task: dict[str, Any], directory: str) -> dict[str, Any]:
    """The task with the script that put_away() had found, except for fields that have changed since."""
    return {**task, "script": _whole_script(task.get("script") or {}, directory)}


def carried(task: dict[str, Any], directory: str) -> set[str]:
    """What is to be masked of a task wherever it shows up: all secrets that it carries, also those put away."""
    from agentpipe.shell_secrets import task_secrets
    return task_secrets(whole(task, directory))


def _whole_script(found: dict[str, Any], directory: str) -> dict[str, Any]:
    try:
        moved = untrusted.value(directory, FILE, untrusted.LARGE)
    except (FileNotFoundError, untrusted.NotRegular, ValueError):  # none, or a file that a power failure left empty
        return found
    # a hook may have put something else in the place of what was moved, and the task's script anything into the file
    pairs = {field: each for field, each in moved.items() if isinstance(each, dict)} if isinstance(moved, dict) else {}
    return {**found, **{field: each["whole"] for field, each in pairs.items()
                        if {"shown", "whole"} <= each.keys() and found.get(field) == each["shown"]}}
