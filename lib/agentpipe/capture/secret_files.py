"""Which files of a checkout keys and passwords are kept in, by their names.

They are not for a task: it can be read by everybody who may read its server.
"""

from __future__ import annotations

import re

# names of files that programs and people keep keys and passwords in
SECRET = re.compile(r"(?i)(\.env(\.(?!example|sample|template|dist).*)?|.*\.env|.*\.(pem|key|p12|pfx|jks|keystore|kdbx"
                    r"|ppk|gpg)|id_(rsa|dsa|ecdsa|ed25519)\w*|[._]?netrc|\.(pgpass|npmrc|pypirc|htpasswd|git-credentials|ssh|aws"
                    r"|gnupg|kube|docker)|(.*[._-])?(secrets?|passwords?|passwd|credentials?|api[_-]?keys?"
                    r"|service[_-]account)([._-].*)?|(.*[._-])?token(\.txt)?|(clearml|trains)\.conf|kaggle\.json)")


def looks_secret(path: str) -> bool:
    """Whether a file is called as those are which hold keys or passwords, or a folder that it is in."""
    return any(map(SECRET.fullmatch, path.split("/")))
