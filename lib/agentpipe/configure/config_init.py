"""agent-config init: a clearml.conf that works, from ClearML's credentials block, options, or answers."""

from __future__ import annotations

import os
import re
import sys

from agentpipe import errors
from agentpipe.files import publish
from agentpipe.transport.server_hosts import HOSTS, derived, without_pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEYS = (*HOSTS, "access_key", "secret_key")
MOST = 64 << 10  # bytes of a credentials block
ASK = """Paste the credentials that the web page shows (Settings, Workspace, Create new credentials), and end with
an empty line; or press Enter at once to type them in:"""


def init(given: dict[str, str], file: str = "", ask: bool = False, try_keys: bool = True) -> None:
    """Write the file (0600). Failure 73 when there is one already, 64 when something is missing, 77 or 69 when the
    server does not take the keys or is not there."""
    path = target(file)
    if os.path.exists(path) and not os.path.isfile(path):
        raise errors.Failure(f"{path} is no file that could hold a configuration", errors.CANNOT_CREATE,
                             remedy="agent-config init --file FILE")
    if os.path.exists(path) and os.path.getsize(path):
        raise errors.Failure(f"{path} is there already", errors.CANNOT_CREATE,
                             remedy=f"change it there, or move it away: mv {path} {path}.old")
    values = {key: value for key, value in given.items() if value}
    block = pasted(ask)
    values = {**block, **values}
    values.setdefault("secret_key", os.environ.get("CLEARML_API_SECRET_KEY", ""))
    values.setdefault("access_key", os.environ.get("CLEARML_API_ACCESS_KEY", ""))
    values.setdefault("api_server", os.environ.get("CLEARML_API_HOST", ""))
    if ask:
        values = asked(values)
    if not values["api_server"] and values.get("web_server"):
        values["api_server"] = derived(values["web_server"])["api_server"]
    for key in ("api_server", "access_key", "secret_key"):
        if not values.get(key):
            raise errors.Failure(f"no {key}", errors.USAGE, remedy=_how(key))
    values = {**derived(values["api_server"]), **{key: value for key, value in values.items() if value}}
    unknown = not values.get("web_server")
    if unknown:
        values["web_server"] = without_pages(values["api_server"])
    if try_keys:
        tried(values)
    write(path, values, {**certificate(values["api_server"]), **more(ask)})
    if unknown:
        print(f"{values['api_server']} tells no web_server: it stands for that too (--web-server URL)", file=sys.stderr)
    if not values.get("files_server"):
        print(f"{values['api_server']} tells no files_server: scripts have nowhere to put files (--files-server URL)",
              file=sys.stderr)
    print(f"{path} is written; agent-config check looks at all the rest", file=sys.stderr)


def target(file: str = "") -> str:
    """The file that is written, and then read."""
    named = os.environ.get("CLEARML_CONFIG_FILE") or os.environ.get("TRAINS_CONFIG_FILE")
    given = file or named or os.path.join("~", "clearml.conf")
    return os.path.abspath(os.path.expanduser(given))


def parsed(text: str) -> dict[str, str]:
    """The values in a credentials block of ClearML's web page, or of agent-server --new-keys; a bare word is the
    secret, whatever characters it has."""
    from agentpipe.settings import config, config_file
    text = text.strip()
    if not text:
        return {}
    tree = config_file.parse_text("{" + text + "\n}")
    tree = tree if isinstance(tree, dict) else {}
    found: dict[str, str] = {}
    for section in (tree, tree.get("api")):
        for names in (("api_server",), ("host",), ("web_server",), ("files_server",), ("access_key",),
                      ("secret_key",), ("credentials", "access_key"), ("credentials", "secret_key")):
            value = config.at(section, list(names))
            if isinstance(value, str) and value:
                found["api_server" if names == ("host",) else names[-1]] = value
    if not found and not re.search(r"\s", text):
        return {"secret_key": text}
    if not found:
        raise errors.Failure("what was pasted holds no credentials", errors.BAD_DATA,
                             remedy="copy the whole block: api { … credentials { … } }")
    return found


def tried(values: dict[str, str]) -> None:
    """Log in with these keys."""
    from agentpipe.transport.http_api import HttpApi
    from agentpipe.transport.http_retry import FIRST_TRIES
    names = {"CLEARML_API_ACCESS_KEY": values["access_key"], "CLEARML_API_SECRET_KEY": values["secret_key"]}
    hidden = ("CLEARML_AUTH_TOKEN", "CLEARML_CONFIG_FILE", "TRAINS_CONFIG_FILE")  # the files may not be there yet
    before = {name: os.environ.get(name) for name in (*names, *hidden)}
    os.environ.update(names)
    for name in hidden:
        os.environ.pop(name, None)
    try:
        HttpApi(values["api_server"], patience=FIRST_TRIES).call("queues.get_all", {"only_fields": ["id"]})
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def certificate(address: str) -> dict[str, Any]:
    """What the environment says of this server's certificate, which a later command may not find there."""
    from agentpipe.settings import config
    told = os.environ.get("CLEARML_API_HOST_VERIFY_CERT") or os.environ.get("REQUESTS_CA_BUNDLE") or ""
    if not told or told.lower() in config.YES or not address.startswith("https://"):
        return {}
    return {"api.verify_certificate": told.lower() not in config.NO and os.path.abspath(os.path.expanduser(told))}


def write(path: str, values: dict[str, str], other: dict[str, Any]) -> None:
    """Publish the file, readable by its owner only."""
    import json
    lines = ["# Written by agent-config init. ClearML's own programs read the same file.", "api {"]
    lines += [f"    {key}: {json.dumps(values[key])}" for key in HOSTS if values.get(key)]
    lines += ["    credentials {"]
    lines += [f"        {key}: {json.dumps(values[key])}" for key in KEYS[3:]]
    lines += ["    }", "}"] + [f"{key}: {json.dumps(value)}" for key, value in other.items()]
    try:
        publish(path, ("\n".join(lines) + "\n").encode(), durable=True)  # a secret is shown once
    except errors.Failure as failure:
        failure.remedy = "agent-config init --file FILE"
        raise


def pasted(ask: bool) -> dict[str, str]:
    """What comes on standard input: a block, the secret alone, or nothing."""
    if not ask:
        return {} if sys.stdin.isatty() else parsed(_whole())
    print(ASK, file=sys.stderr)
    lines: list[str] = []
    for line in sys.stdin:
        lines.append(line)
        text = "".join(lines)
        if not line.strip() or (text.count("{") and text.count("{") == text.count("}")):
            break
    return parsed("".join(lines))


def _whole() -> str:
    """Standard input; Failure 65 for what can be no credentials block."""
    data = sys.stdin.buffer.read(MOST + 1)
    try:
        if len(data) <= MOST:
            return data.decode()
    except UnicodeDecodeError:
        pass
    raise errors.Failure("standard input holds no credentials", errors.BAD_DATA,
                         remedy="copy the whole block: api { … credentials { … } }")


def asked(values: dict[str, str]) -> dict[str, str]:
    """What is still missing, from a person at a terminal."""
    import getpass
    if not values.get("api_server"):
        values["api_server"] = derived(_needed("Address of the server (web page or API): "))["api_server"]
    if not values.get("access_key"):
        values["access_key"] = _needed("Access key: ")
    if not values.get("secret_key"):
        values["secret_key"] = getpass.getpass("Secret key (not shown): ")
    return values


def more(ask: bool) -> dict[str, Any]:
    """Further keys that clearml-agent asks for; empty answers leave them out."""
    if not ask:
        return {}
    import getpass
    found: dict[str, Any] = {}
    user = _line("git user for private repositories (empty: ssh keys, or none): ")
    if user:
        found["agent.git_user"] = user
        found["agent.git_pass"] = getpass.getpass(f"Token or password of {user} (not shown): ")
    urls = _line("Further package indexes, separated by spaces (empty: none): ").split()
    if urls:
        found["agent.package_manager.extra_index_url"] = urls
    uri = _line("Where models and artefacts go by default, an address (empty: as the script says): ")
    if uri:
        found["sdk.development.default_output_uri"] = uri
    return found


def _needed(prompt: str) -> str:
    if line := _line(prompt):
        return line
    raise errors.Failure("no answer", errors.USAGE, remedy="agent-config init --help")


def _line(prompt: str) -> str:
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise errors.Failure("no answer", errors.USAGE, remedy="agent-config init --help")
    return line.strip()


def _how(key: str) -> str:
    if key == "secret_key":
        return "set CLEARML_API_SECRET_KEY, or give it (or the whole credentials block) on standard input"
    return f"--{key.replace('_', '-')}, or the credentials block on standard input"
