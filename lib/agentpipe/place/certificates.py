"""Certificates that this machine was told to trust (a private authority's), for what runs in a container.

As copies in the task's directory: their paths mean nothing inside, and a mount in the place of the image's own bundle
would break its package manager.
"""

from __future__ import annotations

import os

from agentpipe import errors
from agentpipe.files import publish
from agentpipe.settings import config

# read by OpenSSL and uv, by Python's requests (and so the `clearml` package), by curl
VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
KEY = "agent.bootstrap.map_external_ssl_cert"


def variables(directory: str) -> dict[str, str]:
    """Those variables for a container of the task in `directory`: each as it is set here, or the file that the setting
    names for all of them. Failure 78 for a setting that names no file."""
    given = config.get(KEY)
    if given:
        path = os.path.expanduser(given)
        if not os.path.isfile(path):
            raise errors.Failure(f"{KEY}: there is no file {path}", errors.BAD_CONFIG)
        return dict.fromkeys(VARIABLES, _copied(directory, path))
    named = {name: os.environ.get(name, "") for name in VARIABLES}
    return {name: _copied(directory, path) for name, path in named.items() if os.path.isfile(path)}


def settings(directory: str) -> dict[str, str]:
    """What of clearml.conf is different inside: the file of api.verify_certificate."""
    path = os.path.expanduser(config.get("api.verify_certificate") or "")
    return {"api.verify_certificate": _copied(directory, path)} if os.path.isfile(path) else {}


def _copied(directory: str, path: str) -> str:
    import hashlib
    name = f"certificates-{hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:8]}.pem"
    copy = os.path.join(directory, name)
    with open(path, "rb") as file:
        publish(copy, file.read())
    os.chmod(copy, 0o644)  # whoever the image runs as
    return copy
