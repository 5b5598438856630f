"""`${CLEARML_TASK.a.b:default|filter}` in docker arguments and job templates, with the values of one task.

As in clearml-agent's custom_template.py, where filters are parsed wrongly (3.0.3) and a default may hold no dash. What
is not known stays as it is written, for the shell that may read it next; no secret is ever put in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# `$$` keeps what follows from being replaced; without braces only the names that take no path
_FOUND = re.compile(r"\$\$|\$\{CLEARML_(?P<inner>[^{}$]*)\}"
                    r"|\$CLEARML_(?P<bare>QUEUE_NAME|QUEUE_ID|WORKER_ID|PROJECT_NAME|PROJECT_ID)\b(?![.:|])")
_FILTER = re.compile(r"(\w+)(?:\(([^()]*)\))?")
# the peer's roots that an open server has nothing for: a default is taken, else they stay
_EMPTY_ROOTS = ("PROVIDERS_INFO", "USER_VAULTS", "USER")
FILTERS: dict[str, Callable[[str, str | None], str]] = {
    "strip": lambda text, characters: text.strip(characters),
    "lower": lambda text, _: text.lower(),
    "capitalize": lambda text, _: text.capitalize(),
    "remove_newlines": lambda text, _: text.replace("\n", ""),
}


class Values:
    """What the roots stand for: `task` as the API spells it, `pull` of the manifest; `more` are further names.

    What only the server knows (names of queues and projects) is asked of `call(endpoint, body)` when it is needed.
    """

    def __init__(self, task: Mapping[str, Any], pull: Mapping[str, Any] | None = None,
                 call: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None,
                 more: Mapping[str, str] | None = None) -> None:
        self.task, self.pull, self.more = task, pull or {}, more or {}
        self._call = call
        self._asked: dict[str, str | None] = {}

    def find(self, key: str) -> Any:
        """The value of `TASK.name`, `QUEUE_ID` …; None when there is none. KeyError for a root that is not known."""
        root, _, path = key.partition(".")
        if root == "TASK":
            return _at(self.task, path)
        if root == "CONFIG":
            return _setting(path)
        if root in _EMPTY_ROOTS:
            return None
        if path:
            raise KeyError(key)
        if root in self.more:
            return self.more[root]
        if root not in ("QUEUE_ID", "QUEUE_NAME", "WORKER_ID", "PROJECT_ID", "PROJECT_NAME"):
            raise KeyError(key)
        if root not in self._asked:
            self._asked[root] = self._simple(root)
        return self._asked[root]

    def _simple(self, root: str) -> str | None:
        queue = self.pull.get("queue") or (self.task.get("execution") or {}).get("queue")
        project = self.task.get("project")
        if root == "QUEUE_ID":
            return queue
        if root == "QUEUE_NAME":
            return self.pull.get("queue_name") or self._name("queues.get_all", "queues", queue)
        if root == "WORKER_ID":
            return self.pull.get("worker")
        if isinstance(project, dict):
            return project.get("id" if root == "PROJECT_ID" else "name")
        return project if root == "PROJECT_ID" else self.project_name()

    def project_name(self) -> str | None:
        """The full name of the task's project."""
        project = self.task.get("project")
        if isinstance(project, dict):
            return project.get("name")
        return self._name("projects.get_all", "projects", project)

    def _name(self, endpoint: str, kind: str, id: str | None) -> str | None:
        from agentpipe import errors
        if not id or not self._call:
            return None
        try:
            found = self._call(endpoint, {"id": [id], "only_fields": ["name"], "search_hidden": True})[kind]
        except (errors.ApiError, errors.Failure, KeyError):
            return None
        return found[0].get("name") if found else None


def resolve(text: str, values: Values) -> str:
    """`text` with every template replaced whose value is known, or that has a default."""
    def replace(match: re.Match[str]) -> str:
        inner = match["inner"] if match["inner"] is not None else match["bare"]
        if inner is None:
            return match[0]
        name, *filters = inner.split("|")
        key, colon, default = name.partition(":")
        try:
            found = _text(values.find(key))
        except KeyError:
            return match[0]
        if found is None or (found == "" and "." not in key):
            if not colon:
                return match[0]
            found = default
        return _filtered(found, filters)
    return _FOUND.sub(replace, text) if "CLEARML_" in text else text


def of_job(job: Any, more: Mapping[str, str] | None = None) -> Values:
    """The values for the task of a stage's job (job.Job)."""
    pull = job.manifest.get("pull") or {}

    def call(endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        from agentpipe.transport import api
        return api.connect(pull.get("worker") or "", 10).call(endpoint, body)
    return Values(job.task, pull, call, more)


def _filtered(text: str, filters: list[str]) -> str:
    asked = [(match[1], match[2]) for match in map(_FILTER.fullmatch, map(str.strip, filters)) if match]
    if ("raw", None) not in asked:  # an argument, or a line of a job script, is one line
        asked.insert(0, ("remove_newlines", None))
    for name, argument in asked:
        if name in FILTERS:
            text = FILTERS[name](text, argument or None)
    return text


def _text(value: Any) -> str | None:
    """A value as a word: yes and no as JSON has them, lists joined by commas; None for what is none of these."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        texts = [_text(item) for item in value if not isinstance(item, list)]
        return ",".join(text for text in texts if text is not None) if None not in texts else None
    return None


def _at(tree: Any, path: str) -> Any:
    from agentpipe.settings import config
    return config.at(tree, path.split(".")) if path else None


def _setting(path: str) -> Any:
    """What the configuration says, defaults that stand in the file included; nothing that is secret."""
    from agentpipe.settings import config, config_show
    if not path:
        return None
    found = config.value(path)
    if found is None:
        found = config.at(config.section("", whole=True), path.split("."))
    return found if config_show.masked(path, found) == found else None
