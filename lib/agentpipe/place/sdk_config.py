"""What the `clearml` package inside a container needs to reach the server: by file, never as a variable in sight."""

from __future__ import annotations

import json
import os

from agentpipe import attempt, config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE = "clearml.conf"
API = ("api_server", "web_server", "files_server", "credentials.access_key", "credentials.secret_key",
       "verify_certificate")


def write(directory: str) -> dict[str, str]:
    """Write `clearml.conf` (0600; JSON is HOCON) with the sections `api` and `sdk`; the variables that lead there.

    Nothing of `agent` goes in, where git's passwords are. Without a server there is nothing to say.
    """
    from agentpipe.config_file import put
    if not config.value("api.api_server"):
        return {}
    tree: dict[str, Any] = {"api": config.section("api"), "sdk": config.section("sdk")}
    for key in API:
        found = config.value("api." + key)
        if found is not None:
            put(tree, ["api", *key.split(".")], found)
    path = os.path.join(directory, FILE)
    attempt.publish(path, json.dumps(tree, indent=1).encode() + b"\n")
    variables = {"CLEARML_CONFIG_FILE": path}
    for name in ("CLEARML_AUTH_TOKEN", "CLEARML_API_ACCESS_TOKEN"):
        if os.environ.get(name):
            variables[name] = os.environ[name]
    return variables
