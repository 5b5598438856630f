"""Changing what a task says: the fields of its script, and single packages of its requirements."""

import re
from collections.abc import Mapping
from typing import Any

from agentpipe import errors, find, untrusted
from agentpipe.capture import capture
from agentpipe.environment.requirements import normalised
from agentpipe.task import at_once, container_options, entry_words, queueing, typed, typed_back
from agentpipe.urls import for_a_task, without_credentials

# options of `agent-task edit` that are a field of the script
FIELDS = {"repo": "repository", "branch": "branch", "commit": "version_num", "entry_point": "entry_point",
          "working_dir": "working_dir", "binary": "binary"}
LABELS = ("name", "tags")
TRIES = 100  # of an edit whose task somebody else changes meanwhile: of many, one comes through each time
NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


def edit(api: Any, task: dict[str, Any], wanted: Mapping[str, Any], say: queueing.Say) -> list[str]:
    """Apply the options that were given; the names of the fields that changed.

    A task that has ended becomes a draft, but only once everything is known to be right, and not for a mere label.
    """
    typed.fields(wanted)
    told: set[str] = set()

    def once(text: str) -> None:
        if text not in told:
            say(text)
        told.add(text)

    for _ in range(TRIES):
        try:
            with at_once.alone(api):
                task = task if api.ours else find.task(api, task["id"])
                return _edit(api, task, wanted, once)
        except at_once.Changed:
            task = find.task(api, task["id"])
    raise errors.Failure(f"task {task['id']} is changed by somebody else all the time", errors.TRY_AGAIN)


def _edit(api: Any, task: dict[str, Any], wanted: Mapping[str, Any], say: queueing.Say) -> list[str]:
    """The same once; at_once.Changed when somebody else changed the task meanwhile."""
    labels = _labels(task, wanted)
    notes: list[str] = []
    changes = fields(task, wanted, notes.append)
    queueing.only_text({**changes, **labels})
    if not changes and not labels and wanted.get("checkout"):
        raise errors.Failure(f"nothing to change: the code in {wanted['checkout']} is what the task has", errors.USAGE,
                             remedy=f"change it there first; to run it as it is: agent-task enqueue {task['id']}")
    if not changes and not labels:
        raise errors.Failure("nothing to change", errors.USAGE, remedy="agent-task edit --help")
    if not changes:
        # a label is no part of what runs: nothing that the task has done becomes wrong by it
        at_once.write(api, task, labels, force=True)
        return list(labels)
    if task["status"] in ("queued", "in_progress"):
        waits = task["status"] == "queued"
        raise errors.Failure(f"task {task['id']} {'waits in a queue: take it out' if waits else 'is running: stop it'} "
                             "first", errors.TRY_AGAIN,
                             remedy=f"agent-task {'dequeue' if waits else 'stop'} {task['id']}")
    for note in notes:
        say(note)
    if task["status"] in find.ENDED:
        queueing.reset(api, task, say)
    at_once.write(api, task, {**changes, **labels})
    return [*changes.get("script", {}), *(field for field in changes if field != "script"), *labels]


def _labels(task: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Name and tags as they are to be, if they change."""
    found: dict[str, Any] = {}
    if wanted.get("name") is not None:
        found["name"] = typed.name(wanted["name"])
    tags, add, drop = list(task.get("tags") or []), wanted.get("tag") or [], wanted.get("drop_tag") or []
    for tag in drop:
        if tag not in tags:
            raise errors.Failure(f"task {task['id']} has no tag {tag}", errors.NOT_FOUND,
                                 remedy=f"agent-task show {task['id']}")
    if add or drop:
        found["tags"] = sorted({*tags, *add} - set(drop))
    return found


def fields(task: Mapping[str, Any], wanted: Mapping[str, Any], say: queueing.Say) -> dict[str, Any]:
    """What tasks.edit is told, out of the options that say what runs: {script, hyperparams, container}."""
    wanted = typed_back.whole(task, wanted, say)
    script = {field: wanted[option] for option, field in FIELDS.items() if wanted.get(option) is not None}
    if wanted.get("repo"):
        script["repository"] = for_a_task(wanted["repo"], say)
    if wanted.get("branch") and wanted.get("commit") is None:
        script["version_num"] = ""  # else it would still be the other branch's commit
    if wanted.get("drop_diff"):
        if not (task.get("script") or {}).get("repository"):
            raise errors.Failure(f"task {task['id']} has no repository: its diff is its script", errors.USAGE)
        script["diff"] = ""
    if wanted.get("checkout"):
        from agentpipe.task import recapture
        at = {**task, "script": {**(task.get("script") or {}), **script}}
        script |= recapture.fields(at, wanted["checkout"], say)
    requirements = changed_requirements({**task, "script": {**(task.get("script") or {}), **script}}, wanted)
    if requirements is not None:
        # what its last run had installed is no longer what it asks for
        script["requirements"] = {"pip": requirements}
    found: dict[str, Any] = {}
    if wanted.get("set"):
        from agentpipe.task import params
        at = {**task, "script": {**(task.get("script") or {}), **script}}
        found["hyperparams"], entry = params.changed(at, wanted["set"], say)
        script |= {} if entry is None else {"entry_point": entry}
    container = container_options.changed(wanted, task.get("container"))
    if container is not None:
        found["container"] = container
    return {"script": script, **found} if script else found


def changed_requirements(task: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The requirements as they are to be; None when nothing was said about them."""
    text = None
    if wanted.get("requirements"):
        text = capture.requirements_text(wanted["requirements"])
    dropped, put = wanted.get("drop_package") or [], wanted.get("package") or []
    if not dropped and not put:
        return text
    lines = _as_it_is(task) if text is None else text.splitlines()
    for name in dropped:
        package = package_of(name)
        kept = [line for line in lines if _shown(line) != _shown(name)
                and (not package or package_of(line) != package)]
        if len(kept) == len(lines):
            raise errors.Failure(f"the requirements have no {name}", errors.NOT_FOUND,
                                 remedy=f"agent-task show {task['id']}")
        lines = kept
    for line in put:
        lines = _put(lines, line)
    # an empty record would mean: read the repository's files
    return "\n".join(lines) + "\n" if any(line.strip() for line in lines) else capture.NOTHING


def recorded(task: Mapping[str, Any]) -> str:
    """The requirements that a task asked for: before its first run what was recorded, later what that was then."""
    found = (task.get("script") or {}).get("requirements") or {}
    text = found.get("org_pip") or found.get("pip") or ""
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)


def _as_it_is(task: Mapping[str, Any]) -> list[str]:
    """What the task asks for now: its record, else its repository's lists, with the lists that they name written out.

    The repository's stand in the checkout of the last run on this machine, where that is of the same code, else they
    are fetched; Failure 66 when they cannot be.
    """
    from agentpipe.capture import requirement_files
    text, script = recorded(task), task.get("script") or {}
    code, folder = _checked_out(task), script.get("working_dir") or "."
    if text:
        lists = requirement_files.NAMES_A_LIST.search(text)
        if not lists or not code:
            return text.splitlines()
        with untrusted.kept_within(code):
            return requirement_files.written_out(text, code, folder)
    if not script.get("repository"):
        return []
    if code:
        return _lists(code, task)
    from agentpipe.task import enqueue_check
    try:
        with enqueue_check.fetched(dict(task)) as code:
            return _lists(code, task)
    except _OfProject:
        raise
    except errors.Failure as failure:
        raise errors.Failure(f"task {task['id']} records no requirements, and its repository, which may have lists of "
                             f"them, cannot be looked at: {failure.reason}", errors.NOT_FOUND,
                             remedy=f"give the whole list: agent-task edit {task['id']} --requirements FILE") from None


def _checked_out(task: Mapping[str, Any]) -> str:
    """The checkout of the task's last run on this machine, while the task still means that code; else ""."""
    import os

    from agentpipe.claim import attempt
    directory = attempt.latest(task["id"])
    line = attempt.read_manifest(directory) if directory else None
    code = os.path.join(directory, "code") if directory else ""
    if not line or not os.path.isdir(code):
        return ""
    was, now = line["task"].get("script") or {}, task.get("script") or {}
    same = all((was.get(field) or "") == (now.get(field) or "") for field in ("branch", "tag", "diff")) and \
        without_credentials(was.get("repository") or "") == without_credentials(now.get("repository") or "")
    commit = now.get("version_num")  # that of a branch is written into the task when it is fetched
    fetched = (was.get("version_num"), (line.get("fetch") or {}).get("commit"))
    return code if same and commit and commit in fetched else ""


class _OfProject(errors.Failure):
    """The packages are those of a project: a list with one of them would take the place of all."""


def _lists(code: str, task: Mapping[str, Any]) -> list[str]:
    import os

    from agentpipe.capture import requirement_files
    from agentpipe.environment import lock_files
    script = task.get("script") or {}
    folder, entry = script.get("working_dir") or ".", next(iter(entry_words.known(script)), "")
    lines = []
    with untrusted.kept_within(code):  # who ran there may have put anything in the place of these files
        for path in capture.requirement_files(code, folder, "" if entry.startswith("-") else entry):
            lines += requirement_files.written_out(capture.requirements_text(path, True), code, folder, path)
        project = "" if lines else lock_files.named(code, os.path.normpath(os.path.join(code, folder)))
        if os.path.basename(project) == "pyproject.toml":
            told = lock_files.load_toml(os.path.join(code, project))
            own = told.get("project", {})
            if not (own.get("dependencies") or own.get("dynamic") or "build-system" in told or "poetry" in
                    told.get("tool", {})):
                return []  # it asks for nothing
    if project:
        raise _OfProject(f"task {task['id']} takes its packages from {project}, of which a list would take the place",
                         errors.NOT_FOUND,
                         remedy=f"change the project, then, in its checkout: agent-task edit {task['id']} --checkout . "
                                f"&& agent-task enqueue {task['id']}; or give the whole list: --requirements FILE")
    return lines


def package_of(line: str) -> str | None:
    """The normalised name of the package that a line of requirements asks for; None for an option or a path."""
    line = line.split(" #")[0]
    if line.lstrip().startswith(("-", "#", ".", "/")) or ("://" in line and "@" not in line.split("://")[0]):
        egg = re.search(r"#egg=([A-Za-z0-9._-]+)", line)
        return normalised(egg[1]) if egg else None
    match = NAME.match(line)
    return normalised(match[1]) if match else None


def _shown(line: str) -> str:
    """A line as `why` advises it: an option in its long spelling, without its login."""
    from agentpipe.environment.requirement_lines import OPTIONS_WITH_VALUE
    line = without_credentials(line.strip())
    option = re.match(r"(--?[\w-]+)(?:\s*=\s*|\s+)(.*)$", line)
    known = OPTIONS_WITH_VALUE.get(option[1]) if option else None
    return f"{known} {option[2]}" if option and known else line


def _put(lines: list[str], line: str) -> list[str]:
    """The list with this requirement in the place of the one for the same package, or at its end."""
    about, found, result = _about(line), False, []
    for old in lines:
        if _about(old) != about:
            result.append(old)
        elif not found:
            found = True
            result.append(line)
    return result if found else [*result, line]


def _about(line: str) -> str:
    """What a line asks for: a package; the repository, of an address without a name; else the line itself."""
    from agentpipe.environment import git_pins
    repository = git_pins.LINE.match(line.strip()) if line.strip().startswith(("git+", "-e git+")) else None
    return package_of(line) or (repository["url"] if repository else line.strip())
