"""How programs are run inside a place: as which user, and with variables that stand in no command line."""

from __future__ import annotations

import os
import re
import shlex

from agentpipe import paths, secrets
from agentpipe.files import publish
from agentpipe.place import certificates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agentpipe.job import Job

WITH_FILE = '. "$1" && cd "$2" || exit 125; shift 2; exec "$@"'
# what uv needs to reach the indexes as we do; certificates by a copy, since their paths mean nothing inside
PASSED_ON = re.compile(r"UV_(?!CACHE_DIR|PYTHON|SYSTEM|TOOL|INSTALL)\w+|PIP_(?!PYTHON|CACHE_DIR|TARGET|PREFIX|USER$)\w+"
                       r"|GIT_CONFIG_\w+|AGENT_GIT_\w+|NO_COLOR|(https?|all|no)_proxy$", re.I)


def run(job: Job, words: list[str], env: Mapping[str, str], cwd: str | None = None, *, outside: str,
        **how: Any) -> str:
    """job.run() of `words` in the task's place as this user, in `cwd`, or on the host (there else in `outside`).

    The file with the variables, which may hold passwords, is gone afterwards.
    """
    try:
        return job.run(argv(job, words, env, cwd) if job.prefix else words, cwd=cwd or outside, env=env, **how)
    finally:
        if job.prefix:
            forget(job.directory)


def answer(job: Job, argv: list[str]) -> str:
    """What these words, which enter a place for a look, print, whatever their status; Failure 69 where it hangs, 65
    where it talks without end."""
    from agentpipe import errors, place, tools
    try:
        return job.run(argv, check=False, timeout=place.ANSWER_S, most=place.ANSWER_MOST)
    except tools.ToolFailed as failed:
        raise errors.Failure(f"the task's place gives no answer for {place.ANSWER_S:g} s", errors.UNAVAILABLE,
                             failed.evidence, "look at the engine's own log, then run the task again") from None
    except tools.TooMuch as much:
        raise errors.Failure(f"the task's place gives no answer to use: {much}", errors.BAD_DATA,
                             remedy="use another image") from None


def isolated(job: Job) -> bool:
    """Whether the task runs where our environment stays outside."""
    from agentpipe import place
    return bool(job.prefix) and place.of(job.manifest, job.directory).isolated


def forget(directory: str) -> None:
    """Remove the file with the variables, if it is there."""
    try:
        os.unlink(os.path.join(directory, secrets.INSIDE))
    except OSError:
        pass


def argv(job: Job, words: list[str], env: Mapping[str, str], cwd: str | None = None) -> list[str]:
    """`words` as this user of ours inside the task's place, so that what is written in our caches is ours.

    Of `env` goes in what concerns the network and uv, by a file (0600). On the host, or behind a bare prefix, `words`
    stand behind the prefix as they are.
    """
    from agentpipe import place
    where = place.of(job.manifest, job.directory)
    if not where.isolated:
        return [*job.prefix, *words]
    path = job.path(secrets.INSIDE)
    publish(path, _exports(job, env).encode("utf-8", "surrogateescape"))
    return [*where.as_ourselves(), "sh", "-c", WITH_FILE, "sh", path, cwd or job.directory, *words]


def _exports(job: Job, env: Mapping[str, str]) -> str:
    found = {name: value for name, value in env.items() if PASSED_ON.match(name)}
    bundle = next((env[name] for name in certificates.VARIABLES if env.get(name) and os.path.isfile(env[name])), None)
    if bundle:
        with open(bundle, "rb") as file:
            publish(job.path("certificates.pem"), file.read())
        for name in ("SSL_CERT_FILE", *(["PIP_CERT"] if "PIP_CERT" in found else [])):
            found[name] = job.path("certificates.pem")
    found["HOME"] = paths.box(job.directory)
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in found.items())
