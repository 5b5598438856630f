"""Who may have a repository out of the caches.

An address for which a task has brought a login of its own is private from then on. What is cached of it is for those
who have shown the server a login that works, once: the same one, another task's, or the agent's own. All other
addresses are the agent's: what one of its tasks has fetched all of them may have.

    cache/git/logins/URL/LOGIN    empty files; the folder is there where the address is private; names are hashes
    cache/git/logins/key          without which nobody can try out what a hash was made of
"""

from __future__ import annotations

import os

from agentpipe import errors, files
from agentpipe.code import git

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.job import Job

TIMEOUT = 60  # seconds for the server to answer
KEY_BYTES = 32


def known(source: git.Source) -> bool:
    """Whether the task may have what is cached, as far as that is known without asking."""
    folder = _folder(source)
    return source.local or not os.path.isdir(folder) or os.path.exists(os.path.join(folder, _login(source)))


def may_have(job: Job, source: git.Source) -> bool:
    """The same; the server is asked when it has not said so before. Failure 69 when it does not answer."""
    if known(source):
        return True
    job.say(f"{source.url} is in the cache by another task's login: asking whether this task may have it")
    return _refusal(job, source) is None


def check(job: Job, source: git.Source) -> None:
    """Failure 77 or 66 when the task may not have it, 69 when nobody can tell; what its own login opens is private."""
    folder = _folder(source)
    first = source.has_login() and not source.local and not job.option("dry_run") and not os.path.isdir(folder)
    try:
        # a login that the server refuses opens nothing, and makes nothing private
        refusal = _refusal(job, source) if first or not known(source) else None
    except errors.Failure:
        if not first:
            raise
        os.makedirs(folder, 0o700, exist_ok=True)
        return  # nothing is cached of it yet: the installer will say what is wrong
    if refusal:
        raise refusal


def keep(job: Job, source: git.Source) -> None:
    """The server has answered to this source's login."""
    folder = _folder(source)
    if source.local or job.option("dry_run") or not (source.has_login() or os.path.isdir(folder)):
        return
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        open(os.path.join(folder, _login(source)), "w", encoding="ascii").close()
    except OSError as error:
        raise files.unwritable(f"write in {folder}", error) from None


def _refusal(job: Job, source: git.Source) -> errors.Failure | None:
    """What the server says to this login; None when it opens. Failure 69 is raised."""
    from agentpipe import tools
    from agentpipe.code import git_failures
    from agentpipe.settings.offline import offline
    if offline():
        return errors.Failure(f"{source.url} is in the cache by another task's login, and AGENT_OFFLINE forbids to ask "
                              "whether this task may have it", errors.NO_PERMISSION,
                              remedy="run it once without AGENT_OFFLINE")
    try:
        job.run(["git", "ls-remote", "--", source.address, "HEAD"], env=source.asking(), timeout=TIMEOUT)
    except tools.ToolFailed as failed:
        meant = git_failures.explained(failed, source) or git_failures.unknown(failed, source)
        if meant.exit in (errors.NO_PERMISSION, errors.NOT_FOUND):
            return meant
        raise meant from None
    keep(job, source)
    return None


def _folder(source: git.Source) -> str:
    """One for all spellings of an address: uv's cache has one, too."""
    import hashlib
    scheme, _, rest = source.url.partition("://")
    host, _, path = rest.partition("/")
    host = host.lower().removesuffix(":443" if scheme.lower() == "https" else ":80")
    bare = "/".join(part for part in path.split("/") if part).removesuffix(".git").lower()
    name = f"{scheme.lower()}://{host}/{bare}"
    return os.path.join(_home(), hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24])


def _home() -> str:
    from agentpipe.code import mirror
    return os.path.join(mirror.home(), "logins")  # beside what they are for: that may be shared


def _login(source: git.Source) -> str:
    """The name of a source's own login, or of what is configured for it ("" where this user's helpers answer)."""
    import hashlib
    import hmac
    user, password = source.user or "", source.password or ""
    if not source.has_login():
        from agentpipe.code import git_access
        login = git_access.login_for(source.address)
        user, password = (login.user, login.password) if login else ("", "")
    return hmac.new(_key(), f"{user}\0{password}".encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:32]


def _key() -> bytes:
    path = os.path.join(_home(), "key")
    key = _kept(path)
    if key:
        return key
    import filelock

    from agentpipe import files
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    with filelock.FileLock(path + ".lock", fallback_to_soft=False):
        key = _kept(path)  # whoever comes first
        if not key:
            key = os.urandom(KEY_BYTES)
            files.publish(path, key, durable=True)
    return key


def _kept(path: str) -> bytes:
    """The key that is there; b"" for a shorter one, which a power failure leaves: hashes made with it hide nothing."""
    try:
        with open(path, "rb") as file:
            key = file.read()
    except FileNotFoundError:
        return b""
    return key if len(key) >= KEY_BYTES else b""
