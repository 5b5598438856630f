"""The environment of a task's script: what it inherits, what the `clearml` package expects, what the task asks for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from agentpipe import redact, secrets, tools
from agentpipe.files import publish
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# ours, not the script's: what our own Python and this pipeline were told; and what would make the `clearml` package
# in the script take itself for a child of another process, the master of other nodes, offline, or in another place
NOT_PASSED_ON = re.compile(r"PYTHON(HOME|PATH|UNBUFFERED|DONTWRITEBYTECODE|STARTUP|USERBASE|PYCACHEPREFIX|SAFEPATH"
                           r"|NOUSERSITE)$"
                           r"|AGENT_(CRASH_AT|CRASH_WITH|STAGE_\w+|HOOK|DEBUG|LAST_ATTEMPT)$|VIRTUAL_ENV(_PROMPT)?$|__PYVENV_LAUNCHER__$"
                           r"|UV_(CACHE_DIR|PYTHON_CACHE_DIR|PYTHON_INSTALL_DIR)$"
                           r"|(CLEARML|TRAINS)_(TASK_ID|PROC_MASTER_ID|FORCE_MASTER_NODE|MULTI_NODE_MASTER|OFFLINE_MODE"
                           r"|VCS_\w+|AGENT_ABORT_CALLBACK_\w+)$")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def of(manifest: Mapping[str, Any], directory: str, cwd: str, words: Sequence[str],
       options: Mapping[str, Any], isolated: bool = False) -> dict[str, str]:
    """The whole environment of the script that `words` start in `cwd`; in an `isolated` place what is added to that
    of the place, into which nothing of ours gets."""
    env = manifest["env"]
    found = {} if isolated else {name: value for name, value in os.environ.items() if not NOT_PASSED_ON.match(name)}
    found["PATH"] = path(env)
    found |= env.get("variables") or {}
    if env.get("overlay"):
        found["VIRTUAL_ENV"] = env["overlay"]
        found["AGENT_LINE_BUFFERED"] = "1"
    else:
        found["PYTHONUNBUFFERED"] = "1"
    found.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # numbers as nvidia-smi has them
    locale = found.get("LC_ALL") or found.get("LC_CTYPE") or found.get("LANG") or "C"
    if locale in ("C", "POSIX"):
        found.setdefault("PYTHONIOENCODING", "utf-8")
    if "pull" in manifest:
        found |= _for_the_sdk(manifest, directory, options)
    asked = of_the_task(manifest["task"])
    found |= asked
    found["PYTHONPATH"] = _python_path(manifest, cwd, words, asked.get("PYTHONPATH", ""))
    found["AGENT_TASK_DIR"] = directory
    return found


def path(env: Mapping[str, Any]) -> str:
    """PATH, the environment's programs first."""
    return os.pathsep.join([*(env.get("path") or []), tools.search_path()])


def of_the_task(task: Mapping[str, Any]) -> dict[str, str]:
    """The variables in the task's section `Environment`, where agent.enable_task_env allows it."""
    section = (task.get("hyperparams") or {}).get(redact.ENVIRONMENT)
    if not section or not config.flag("agent.enable_task_env"):
        return {}
    found = {}
    for name, entry in section.items():
        value = entry.get("value") if isinstance(entry, dict) else entry
        if name and "=" not in name and "\0" not in name and value is not None:
            found[name] = str(value).replace("\0", "")
    return found


def filled(text: str, environment: Mapping[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced by the variables that there are; others stay."""
    return _VARIABLE.sub(lambda found: environment.get(found[1] or found[2], found[0]), text)


def write_conf(directory: str, more: Mapping[str, str] | None = None) -> None:
    """DIRECTORY/clearml.conf (0600), what CLEARML_CONFIG_FILE of the script names: our server, and the SDK's settings.

    Nothing of the section `agent`, whose secrets are not the script's. Without a server there is none. `more` are
    settings by their keys that count instead.
    """
    if not _server():
        return
    import json

    from agentpipe.settings import config_file
    tree = config.section("", whole=True)
    for name in ("agent", "environment", "files"):  # the latter two have been applied
        tree.pop(name, None)
    for key in ("api_server", "web_server", "files_server", "credentials.access_key", "credentials.secret_key"):
        value = config.value(f"api.{key}")
        if value is not None:
            config_file.put(tree, ["api", *key.split(".")], value)
    if not config.value("api.web_server"):  # the package ends Task.init when it can derive none
        from agentpipe.transport.server_hosts import web_server
        config_file.put(tree, ["api", "web_server"], web_server(str(_server())))
    for key in config.NAMED:  # a container has none of the variables that may give them
        if key.startswith("sdk.") and (value := config.value(key)) is not None:
            config_file.put(tree, key.split("."), value)
    account = {"account_name": os.environ.get("AZURE_STORAGE_ACCOUNT"),
               "account_key": os.environ.get("AZURE_STORAGE_KEY")}
    if all(account.values()):
        config_file.put(tree, ["sdk", "azure", "storage", "containers"],
                        [account, *(config.value("sdk.azure.storage.containers") or [])[1:]])
    for key, value in (more or {}).items():
        config_file.put(tree, key.split("."), value)
    publish(os.path.join(directory, secrets.CONF), json.dumps(tree, indent=1).encode() + b"\n")


def _server() -> str | None:
    return config.get("api.api_server", None, "CLEARML_API_HOST") or config.get("api.host")


def _for_the_sdk(manifest: Mapping[str, Any], directory: str, options: Mapping[str, Any]) -> dict[str, str]:
    """What the `clearml` package expects of an agent (clearml-agent's worker.py; also under the older names)."""
    level = options.get("log_level") or os.environ.get("CLEARML_LOG_LEVEL") or "INFO"
    named = {"TASK_ID": manifest["task"]["id"], "LOG_TASK_TO_BACKEND": "0", "LOG_LEVEL": level,
             "WORKER_ID": manifest["pull"].get("worker") or ""}
    if _server():
        named["CONFIG_FILE"] = os.path.join(directory, secrets.CONF)
    return {f"{prefix}_{name}": value for name, value in named.items() for prefix in ("CLEARML", "TRAINS")}


def _python_path(manifest: Mapping[str, Any], cwd: str, words: Sequence[str], asked: str) -> str:
    code = manifest["fetch"]["code"]
    script_folder = os.path.dirname(os.path.join(cwd, words[0])) if not words[0].startswith("-") else cwd
    extra = config.get("", None, "CLEARML_AGENT_EXTRA_PYTHON_PATH") or ""
    folders = [code if config.flag("agent.force_git_root_python_path") else cwd, script_folder,
               *extra.split(os.pathsep), *asked.split(os.pathsep)]
    return os.pathsep.join(dict.fromkeys(filter(None, folders)))
