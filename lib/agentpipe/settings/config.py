"""Settings: a flag, then the environment, then clearml.conf, then the default.

The file is parsed once (config_file.py) and kept as JSON in the cache, so that a stage pays a millisecond for it. A
value that equals ClearML Agent's own default counts as not set: `clearml-agent init` writes all of them into the file.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Trees = tuple[dict[str, Any], list[str]]

PREFIX = "CLEARML_AGENT__"  # CLEARML_AGENT__AGENT__GIT_USER sets agent.git_user, and any other key
SECTIONS = ("api", "agent", "sdk", "environment", "files")
YES = {"1", "true", "yes", "on", "y", "t"}
NO = {"0", "false", "no", "off", "n", "f"}
# how often, in seconds, a worker reports its status and a running task says that it lives
STATUS_REPORT = ("agent.worker_status_report_sec", 30.0, "CLEARML_AGENT_STATUS_REPORT_FREQ_SEC")
TASK_PING = ("agent.task_ping_interval_sec", 60.0)
ABORT_CALLBACK = ("agent.abort_callback_max_timeout", 1800.0)  # the longest that a script's callback is waited for
NO_LEAST = float("-inf")  # of numbers of which one below 0 has a meaning, as for the peer
# the variables that have names of their own, by their key; CLEARML_X is also read as TRAINS_X
NAMED: dict[str, tuple[str, ...]] = {
    "api.api_server": ("CLEARML_API_HOST",), "api.web_server": ("CLEARML_WEB_HOST",),
    "api.files_server": ("CLEARML_FILES_HOST",), "api.credentials.access_key": ("CLEARML_API_ACCESS_KEY",),
    "api.credentials.secret_key": ("CLEARML_API_SECRET_KEY",),
    "api.verify_certificate": ("CLEARML_API_HOST_VERIFY_CERT",),
    "api.http.default_method": ("CLEARML_API_DEFAULT_REQ_METHOD",),
    "agent.worker_id": ("CLEARML_WORKER_ID",), "agent.worker_name": ("CLEARML_WORKER_NAME",),
    "agent.cuda_version": ("CLEARML_CUDA_VERSION", "CUDA_VERSION"),
    "agent.cudnn_version": ("CLEARML_CUDNN_VERSION", "CUDNN_VERSION"),
    "agent.cpu_only": ("CLEARML_CPU_ONLY", "CPU_ONLY"),
    "agent.git_user": ("CLEARML_AGENT_GIT_USER",), "agent.git_pass": ("CLEARML_AGENT_GIT_PASS",),
    "agent.git_host": ("CLEARML_AGENT_GIT_HOST",),
    "agent.git_use_azure_pat": ("CLEARML_AGENT_GIT_USE_AZURE_PAT",),
    "agent.git_use_ms_entra_token": ("CLEARML_AGENT_GIT_USE_MS_ENTRA_TOKEN",),
    "agent.package_manager.use_conda_base_env": ("CLEARML_USE_CONDA_BASE_ENV",),
    "agent.apply_environment": ("CLEARML_AGENT_ENABLE_ENV_CONFIG_SECTION",),
    "agent.apply_files": ("CLEARML_AGENT_ENABLE_FILES_CONFIG_SECTION",),
    "sdk.aws.s3.key": ("AWS_ACCESS_KEY_ID",), "sdk.aws.s3.secret": ("AWS_SECRET_ACCESS_KEY",),
    "sdk.aws.s3.region": ("AWS_DEFAULT_REGION",),
    "sdk.google.storage.credentials_json": ("GOOGLE_APPLICATION_CREDENTIALS",),
}

_read: tuple[Any, Trees] | None = None


def get(key: str, default: str | None = None, *variables: str) -> str | None:
    """The value of a `clearml.conf` key ("agent.default_python") as text; lists and sections as JSON.

    `variables` are further environment variables that stand for it, looked at first, then those of NAMED, then
    CLEARML_AGENT__AGENT__DEFAULT_PYTHON, the spelling that sets any key (as in ClearML Agent). An empty text is none.
    """
    found = value(key, *variables)
    return default if found in (None, "") else as_text(found)


def flag(key: str, default: bool = False, *variables: str) -> bool:
    """The same as a yes or no: 1, true, yes, on (in any case) are yes; Failure 78 for what is neither."""
    found = get(key, None, *variables)
    told = (found or "").strip().lower()
    if told and told not in YES and told not in NO:
        from agentpipe import errors
        name = named(key, *variables)
        raise errors.Failure(f"{name} is neither yes nor no: {told}", errors.BAD_CONFIG,
                             remedy=f"correct {name}: true or false")
    return told in YES if told else default


def number(key: str, default: float, *variables: str, least: float = 0) -> float:
    """The same as a number; Failure 78 that names where it stands, when it is none, or below `least`."""
    found = value(key, *variables)
    return default if found in (None, "") else _number_of(found, lambda: named(key, *variables), least)


def variable(name: str, default: float) -> float:
    """The number in an environment variable of our own; Failure 78 that names it, when it holds none, or is below 0."""
    told = os.environ.get(name)
    return _number_of(told, lambda: name, 0) if told else default


def get_list(key: str, default: list[str] | None = None, *variables: str) -> list[str]:
    """The same as a list of texts: a list of the file, or the words of a text (`[a, b]` as JSON or HOCON too).

    One that is empty in the file, or `[]` in a variable, is a choice: `default` does not count then. Failure 78 that
    names where it stands, for a quote that nothing closes.
    """
    found = value(key, *variables)
    if isinstance(found, str):
        try:
            found = words(found)
        except ValueError as error:
            from agentpipe import errors
            name = named(key, *variables)
            raise errors.Failure(f"{name} cannot be split into words: {error}", errors.BAD_CONFIG,
                                 remedy=f"correct {name}") from None
    if found is None:
        return list(default or [])
    return [as_text(item) for item in found] if isinstance(found, list) else [as_text(found)]


def words(text: str) -> Any:
    """The list that a text means: JSON or HOCON where it begins with `[`, else its words as a shell has them.

    ValueError for a quote that nothing closes.
    """
    text = text.strip()
    if text.startswith("["):
        return parsed(text)
    import shlex
    return shlex.split(text)


def value(key: str, *variables: str) -> Any:
    """What is set, as JSON has it (a variable: text); None when nothing is."""
    return _found(key, *variables)[0]


def origin(key: str, *variables: str) -> tuple[Any, str]:
    """(value, where it comes from): "CLEARML_API_HOST", a file's path, or "default" (then the value is None)."""
    found, variable = _found(key, *variables)
    return found, variable or ("default" if found is None else _file_of(key.split(".")))


def _found(key: str, *variables: str) -> tuple[Any, str]:
    """(value or None, the variable that it stands in or "")."""
    for name in (*variables, *NAMED.get(key, ())):
        for spelling in (name, "TRAINS_" + name[8:]) if name.startswith("CLEARML_") else (name,):
            found: Any = os.environ.get(spelling)
            if found:
                return found, spelling
    names = key.split(".")
    for depth in range(len(names), 0, -1):  # …__A__B may also stand in a value of …__A
        variable = PREFIX + "__".join(names[:depth]).upper()
        text = os.environ.get(variable)
        if text:
            found = text if depth == len(names) else at(parsed(text), names[depth:])
            if found not in (None, ""):
                return found, variable
    tree, _ = trees()
    return (at(tree, names) if tree else None), ""


def _file_of(names: list[str]) -> str:
    """The file that counts for what stands at a path; of a section that several have the one that counts most."""
    from agentpipe.settings import config_file
    paths = files()
    having = (path for path in reversed(paths[1:]) if at(config_file.load([path])[0], names) is not None)
    return config_file.of_include(next(having, paths[0]), names)


def section(key: str, whole: bool = False) -> dict[str, Any]:
    """A part of the configuration as a tree, variables included; `whole`: also values that are no choice."""
    from agentpipe.settings import config_file
    tree, _ = trees()
    if whole:
        tree = config_file.load(files(), trees_of=2)[0] if files() else {}
    found = config_file.copied(tree)
    for name in sorted(os.environ):
        if name.startswith(PREFIX):
            config_file.put(found, name[len(PREFIX):].lower().split("__"), parsed(os.environ[name]))
    part = at(found, key.split(".")) if key else found
    return part if isinstance(part, dict) else {}


def files() -> list[str]:
    """The files that are read, those that count less first: CLEARML_CONFIG_FILE, or what there is in the home."""
    from agentpipe import errors
    given = os.environ.get("CLEARML_CONFIG_FILE") or os.environ.get("TRAINS_CONFIG_FILE")
    if given:
        try:
            path = os.path.abspath(os.path.expanduser(given))
        except FileNotFoundError:  # the folder in which we stand is gone
            path = given
        if path == os.devnull:  # as for git and others: no file of one's own
            return _folder()
        if not os.path.isfile(path):
            raise errors.Failure(f"CLEARML_CONFIG_FILE={given}: there is no such file", errors.BAD_CONFIG,
                                 remedy="agent-config init, or unset CLEARML_CONFIG_FILE")
        return [*_folder(), path]
    home = os.path.expanduser("~")
    return [*_folder(), *(path for path in (os.path.join(home, name) for name in ("trains.conf", "clearml.conf"))
                          if os.path.isfile(path))]


def trees() -> Trees:
    """(what the files choose, the keys that they set to the peer's default); read once per process."""
    global _read
    key = _key()
    if _read is None or _read[0] != key:
        _read = key, _loaded()
    return _read[1]


def _key() -> tuple[str | None, ...]:
    """What says which files are read."""
    return tuple(map(os.environ.get, ("CLEARML_CONFIG_FILE", "TRAINS_CONFIG_FILE", "CLEARML_CONFIG_PATH", "HOME")))


def _loaded() -> Trees:
    paths = files()
    if not paths:
        return {}, []
    from agentpipe.settings import config_file
    found = config_file.load(paths)
    _check_sections(found[0], paths[-1])
    return found


def _check_sections(tree: dict[str, Any], path: str) -> None:
    for name in SECTIONS:
        if not isinstance(tree.get(name) or {}, dict):  # what it sets would count as not set, and nobody knew
            from agentpipe import errors
            raise errors.Failure(f"{path}: {name} is no section: {as_text(tree[name])}", errors.BAD_CONFIG,
                                 remedy=f"write {name} {{ … }}")


def reload() -> None:
    """Look at the files again the next time."""
    global _read
    _read = None


def renew() -> None:
    """Read the files again while this process works on: what cannot be read now leaves all as it was."""
    global _read
    from agentpipe import errors
    try:
        _read = _key(), _loaded()
    except (errors.Failure, OSError):
        pass


def apply() -> None:
    """Give this process, and so its tasks, what sections `environment` and `files` and agent.cpu_only ask for."""
    tree, _ = trees()
    if tree.get("environment") or tree.get("files"):
        from agentpipe.settings import config_apply
        config_apply.apply(tree)
    if flag("agent.cpu_only"):
        from agentpipe import gpus
        for name, value in gpus.variables(gpus.NONE).items():
            os.environ.setdefault(name, value)  # --gpus has said something else


def at(tree: Any, names: list[str]) -> Any:
    """What stands at a path in nested dictionaries (a number is a list's index), or None."""
    for name in names:
        if isinstance(tree, dict):
            tree = tree.get(name)
        elif isinstance(tree, list) and name.isdigit() and int(name) < len(tree):
            tree = tree[int(name)]
        else:
            return None
    return tree


def as_text(value: Any) -> str:
    """A value as get() gives it."""
    if isinstance(value, str):
        return value
    import json
    return json.dumps(value)


def parsed(text: str) -> Any:
    """The value that a variable's text means: JSON, or HOCON where it begins like a list or a section, else itself."""
    import json
    try:
        return json.loads(text)
    except ValueError:
        pass
    if text.lstrip()[:1] in ("{", "["):
        from agentpipe.settings import config_file
        return config_file.parse_text(text)
    return text


def named(key: str, *variables: str) -> str:
    """What is set, for people: the variable's name, or "KEY in FILE"."""
    where = origin(key, *variables)[1]
    return where if where in os.environ else f"{key} in {where}"


def _number_of(told: Any, named: Callable[[], str], least: float) -> float:
    wrong = "no number"
    try:
        found = float(as_text(told))
        if found - found == 0:  # neither infinite nor NaN, which int() does not take
            if found >= least:
                return found
            wrong = f"below {least:g}"
    except ValueError:
        pass
    from agentpipe import errors
    name = named()
    raise errors.Failure(f"{name} is {wrong}: {as_text(told)}", errors.BAD_CONFIG, remedy=f"correct {name}")


def _folder() -> list[str]:
    """The *.conf files of CLEARML_CONFIG_PATH/default: each a section named for the file."""
    given = os.environ.get("CLEARML_CONFIG_PATH") or os.environ.get("TRAINS_CONFIG_PATH")
    if not given:
        return []
    home = os.path.join(os.path.abspath(os.path.expanduser(given)), "default")
    return sorted(os.path.join(directory, name) for directory, _, names in os.walk(home) for name in names
                  if name.endswith(".conf"))
