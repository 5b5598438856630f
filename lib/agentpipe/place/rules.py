"""agent.default_docker.match_rules: which rule fits a task (clearml-agent's resolver.py, on every server)."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agentpipe.job import Job

# the terms of a rule whose values are regular expressions, found anywhere; all of a rule must fit
TERMS = ("project", "project_id", "script.repository", "script.branch", "script.binary", "user_id", "container", "tags")
PACKAGES = ("script.requirements.pip", "script.requirements.conda")
MOST = 100  # lines of one package, and limits in one, that are looked at: nobody has more
KEYS = ("image", "arguments", "setup_shell_script", "match", "update_back_task", "force_container_rules")


def first(rules: list[Any], job: Job, image: str) -> dict[str, Any] | None:
    """The first rule whose terms all fit this job's task; one without terms fits nothing."""
    found: dict[str, list[str]] = {}
    for rule in rules:
        for word in _wrong(rule):
            job.say(f"a rule of agent.default_docker.match_rules: {word}")
        if isinstance(rule, dict) and terms(rule) and _fits(rule, job, image, found):
            return rule
    return None


def _wrong(rule: Any) -> Iterator[str]:
    """What its writer cannot have meant: it fits nothing by it, or (as there) more than was meant."""
    match = rule.get("match") if isinstance(rule, dict) else None
    if not isinstance(match, dict):
        yield "passed over: it has no section `match`"
        return
    for key in rule:
        if key not in KEYS:
            yield f"{key} is not known, and not looked at"
    known = [term.split(".") for term in (*TERMS, *PACKAGES)]
    for path in _paths(match):
        if not any(names[:len(path)] == path or path[:len(names)] == names for names in known):
            yield f"{'.'.join(path)} in its `match` is not known, and not looked at"
    for name in PACKAGES:
        term = _term(rule, name)
        if term and not isinstance(term, dict):
            yield f"passed over: {name} is no section of names and version ranges"


def _paths(tree: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[list[str]]:
    for key, value in tree.items():
        names = (*above, *key.split("."))
        if isinstance(value, dict) and value and list(names) not in [each.split(".") for each in PACKAGES]:
            yield from _paths(value, names)
        else:
            yield list(names)


def terms(rule: dict[str, Any]) -> list[str]:
    """The names of what a rule looks at."""
    return [name for name in (*TERMS, *PACKAGES) if _term(rule, name)]


def _fits(rule: dict[str, Any], job: Job, image: str, found: dict[str, list[str]]) -> bool:
    for name in TERMS:
        term = _term(rule, name)
        if not term:
            continue
        if name not in found:
            found[name] = _values(name, job, image)
        for pattern in term if isinstance(term, list) else [term]:
            try:
                if not any(re.search(str(pattern), value) for value in found[name]):
                    return False
            except re.error as error:
                job.say(f"a rule of agent.default_docker.match_rules is passed over: {pattern} is no regular "
                        f"expression ({error})")
                return False
    return all(_has_packages(job, name, _term(rule, name)) for name in PACKAGES if _term(rule, name))


def _term(rule: dict[str, Any], name: str) -> Any:
    from agentpipe.settings import config
    match = rule.get("match")
    if not isinstance(match, dict):
        return None
    return match.get(name) or config.at(match, name.split("."))


def _values(name: str, job: Job, image: str) -> list[str]:
    task = job.task
    script, project = task.get("script") or {}, task.get("project")
    if name == "project":
        from agentpipe import templates
        value: Any = templates.of_job(job).project_name()
    elif name == "project_id":
        value = project.get("id") if isinstance(project, dict) else project
    elif name.startswith("script."):
        value = script.get(name.partition(".")[2])
    elif name == "user_id":
        user = task.get("user")
        value = user.get("id") if isinstance(user, dict) else user
    elif name == "container":
        value = image
    else:
        value = task.get("tags") or []
    return [str(each) for each in value] if isinstance(value, list) else [str(value or "")]


def _has_packages(job: Job, section: str, wanted: Any) -> bool:
    """Whether the task's list has each of `wanted` ({name: version range}) in a version that fits its range."""
    from packaging.requirements import InvalidRequirement, Requirement
    lines = ((job.task.get("script") or {}).get("requirements") or {}).get(section.rpartition(".")[2]) or []
    listed = list(_requirements(lines.splitlines() if isinstance(lines, str) else lines))
    if not isinstance(wanted, dict):
        return False
    for name, versions in wanted.items():
        try:
            rule = Requirement(f"{name} {versions or ''}")
        except InvalidRequirement:
            job.say(f"a rule of agent.default_docker.match_rules: passed over: {versions} is no range of versions "
                    f"(of {name})")
            return False
        meant = [each for each in listed if _name(each) == _name(rule) and len(each.specifier) <= MOST]
        if not any(_overlap(each, rule) for each in meant[:MOST]):
            return False
    return True


def _requirements(lines: list[Any]) -> Iterator[Any]:
    from packaging.requirements import InvalidRequirement, Requirement
    for line in lines:
        # conda writes name=version=build
        text = re.sub(r"^(\s*[\w.-]+)\s*=\s*([^=\s][^=]*)(=.*)?$", r"\1==\2", str(line).split(" #")[0])
        try:
            yield Requirement(text)
        except InvalidRequirement:
            continue


def _name(requirement: Any) -> str:
    from packaging.utils import canonicalize_name
    return canonicalize_name(requirement.name)


def _overlap(one: Any, other: Any) -> bool:
    """Whether some version fits both: a range begins at one of the versions that are named, just above it, or at 0."""
    from packaging.version import InvalidVersion, Version
    candidates = {Version("0")}
    for specifier in (*one.specifier, *other.specifier):
        try:
            named = Version(specifier.version.removesuffix(".*"))
        except InvalidVersion:
            continue
        candidates |= {named, Version(named.public), Version(named.base_version + ".0.0.1")}
    return any(one.specifier.contains(each, True) and other.specifier.contains(each, True) for each in candidates)
