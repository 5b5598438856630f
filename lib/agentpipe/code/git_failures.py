"""What git, ssh and curl mean when they fail to fetch: in words, with an exit code and what to do."""

from __future__ import annotations

import os
import re
import shlex

from agentpipe import errors, tools
from agentpipe.code.git import Source
from agentpipe.settings import config, forms
from agentpipe.urls import without_credentials

# said by curl, and by an ssh whose own questions are not answered (ServerAliveInterval)
STALLED = ("operation too slow", "not responding")
USAGE = 129  # the exit of a git that does not know its options
KILLED = (errors.TRY_AGAIN, "one of git's processes was killed", "is there memory enough: free -m; dmesg | tail")
# what they say (LC_ALL=C) → exit, what it means, remedy; looked up from the top
MEANINGS: tuple[tuple[tuple[str, ...], int, str, str], ...] = (
    (("no space left", "disk quota exceeded", "disk full"), errors.CANNOT_CREATE, "the disk is full",
     "make room there (df -h)"),
    (("read-only file system",), errors.CANNOT_CREATE, "the disk of the cache can only be read",
     "set agent.vcs_cache.path, or AGENT_HOME, to a folder that you can write"),
    (("bad/illegal format", "strange hostname"), errors.BAD_DATA, "that is no address",
     "correct it: agent-task edit --repo URL"),
    (("died of signal",), *KILLED),
    (("bad owner or permissions on", "bad configuration option"), errors.BAD_CONFIG,
     "ssh does not accept its own configuration",
     "correct that file, or chmod 600 it where others may write it; see whether ssh takes it: ssh -G {name}"),
    (("remote host identification has changed",), errors.NO_PERMISSION,
     "its ssh key is another than before: it was set up anew, or somebody stands between",
     "ask who runs it; was it set up anew: ssh-keygen -R {known} && ssh-keyscan{port} {name} >> ~/.ssh/known_hosts"),
    (("host key verification failed",), errors.NO_PERMISSION, "the host's ssh key is not known here",
     "compare it, then: ssh-keyscan{port} {name} >> ~/.ssh/known_hosts"),
    (("too many authentication failures",), errors.NO_PERMISSION, "ssh offers more keys than it takes",
     "name the one key for {name} in ~/.ssh/config (IdentityFile, IdentitiesOnly yes)"),
    (("permission denied (publickey", "permission denied (password", "permission denied (keyboard"),
     errors.NO_PERMISSION, "none of this user's ssh keys is accepted{unused}",
     "{keys}; see what is tried: ssh -v{port} {login}"),
    (("could not read username", "could not read password"), errors.NO_PERMISSION,
     "it wants a user and a password (or there is no such repository), and none is configured for {name}{half}",
     "export CLEARML_AGENT_GIT_USER=USER CLEARML_AGENT_GIT_PASS=TOKEN, or set agent.git_user and agent.git_pass in "
     "clearml.conf; and check the URL"),
    # not the "redirecting to" that git has followed: one to a page, as of a single sign-on
    (("redirect: ",), errors.NO_PERMISSION,
     "it leads to a page that is no repository, as one to log in",
     "check the URL; where it wants a user and a token: export CLEARML_AGENT_GIT_USER=USER "
     "CLEARML_AGENT_GIT_PASS=TOKEN, or set agent.git_user and agent.git_pass in clearml.conf"),
    # not its askpass (an editor's GIT_ASKPASS, which has gone with that): then it could not read a user's name
    (("cannot run ",), errors.BAD_CONFIG, "git cannot start its ssh",
     "install it, or correct GIT_SSH_COMMAND, GIT_SSH or core.sshCommand"),
    (("authentication failed", "error: 401", "invalid username or password", "invalid credentials"),
     errors.NO_PERMISSION, "{name} does not accept the user and password", "{who}"),
    (("permission denied (", "error: 403", "access denied", "could not be read from remote"),
     errors.NO_PERMISSION, "no access, or no such repository",
     "check the URL, and that this user may read it: git ls-remote {url}"),
    (("detected dubious ownership",), errors.NO_PERMISSION, "it belongs to another user",
     "let this user trust it there: git config --global --add safe.directory {url}"),
    (("couldn't find remote ref",), errors.NOT_FOUND, "it is not there",
     "push it from the checkout that has it: git push origin {wanted}, or give the task another"),
    (("not our ref", "unadvertised object", "no such remote ref", "cannot obtain needed"), errors.NOT_FOUND,
     "it is not there", "{push}"),
    (("unexpected tls packet", "wrong version number"), errors.UNAVAILABLE, "it does not speak TLS there",
     "name its port, or http:// in the place of https://: agent-task edit --repo URL"),
    (("problem with the ssl ca cert", "error setting certificate"), errors.BAD_CONFIG,
     "the certificate authorities that git is to trust cannot be read", "correct GIT_SSL_CAINFO, or http.sslCAInfo"),
    (("does not match target host", "no alternative certificate subject"), errors.UNAVAILABLE,
     "its certificate is of another host", "name the host as its certificate does: agent-task edit --repo URL"),
    (("certificate has expired", "certificate is not yet valid"), errors.UNAVAILABLE, "its certificate is out of date",
     "look at the clock here (date), then ask who runs it for another"),
    (("ssl certificate", "certificate verif", "gnutls", "ssl_error"), errors.UNAVAILABLE,
     "its certificate is not trusted", "{authority}"),
    (("could not resolve host", "temporary failure in name", "unable to look up", "name or service not known"),
     errors.UNAVAILABLE, "there is no host of that name", "check the URL, and the network: getent hosts {name}"),
    (STALLED, errors.UNAVAILABLE, "the server has stopped sending",
     "see whether it answers there: git ls-remote {url}; GIT_HTTP_LOW_SPEED_TIME is for how many seconds it may not"),
    (("unexpected disconnect", "early eof", "transfer closed"), errors.UNAVAILABLE,
     "the connection broke off before all had come",
     "check the network and the proxy; does it break off each time, ask who runs the server: git clone {url}"),
    (("could not connect", "couldn't connect", "failed to connect", "timed out", "connection refused", "unreachable",
      "connection reset", "connection closed by", "error: 5", "error: 429", "rpc failed", "empty reply",
      "unable to find remote helper"),
     errors.UNAVAILABLE, "the server cannot be reached",
     "see whether it answers there: git ls-remote {url}"),
    (("invalid index-pack output",), *KILLED),  # also the last words of a git whose connection broke off
    (("repository not found", "' not found", "does not appear to be a git repository", "does not exist", "error: 410",
      "no such file or directory", "not a git repository", "could not read from remote repository"),
     errors.NOT_FOUND, "no such repository{unseen}",
     "check the URL: git ls-remote {url}; then correct it: agent-task edit --repo URL"),
)
# worth asking again after a moment
PASSING = ("could not resolve host", "temporary failure in name", "timed out", "connection refused",
           "connection reset", "connection closed by", "couldn't connect", "failed to connect", "early eof",
           "error: 5", "error: 429", "rpc failed", "unexpected disconnect", "empty reply", "transfer closed")


def passing(failed: tools.ToolFailed) -> bool:
    """Whether it may be over in a moment: a server that is restarted, a line that was cut."""
    low = failed.output.lower()
    return any(sign in low for sign in PASSING) and "host key verification" not in low


def stalled(failed: tools.ToolFailed) -> bool:
    """Whether the server was there, and has sent nothing any more."""
    low = failed.output.lower()
    return failed.still is not None or any(sign in low for sign in STALLED)


def explained(failed: tools.ToolFailed, source: Source) -> errors.Failure | None:
    """What a failed git meant, in words with exit and remedy; None when it is none of the known causes."""
    output = without_credentials(failed.output)
    if failed.still is not None:
        return errors.Failure(f"cannot fetch {_shown(source)}: the server has stopped sending: nothing came for "
                              f"{failed.still:g} s", errors.UNAVAILABLE, output[-4000:],
                              f"see whether it answers there: git ls-remote {_names(source)['url']}")
    low = output.lower()
    for signs, exit, words, remedy in MEANINGS:
        if any(sign in low for sign in signs):
            said = next((line for line in output.splitlines() if any(sign in line.lower() for sign in signs)), "")
            if exit == errors.NO_PERMISSION:
                said = _told(output) or said
            elif "could not read from remote" in said.lower():  # the server, or ssh, has said why before
                said = _told(output) or next((line for line in output.splitlines() if line.strip()), said)
            names = _names(source) | _ssh_keys(output)
            failure = errors.Failure(f"cannot fetch {_shown(source)}: {words.format(**names)} ({said.strip()})", exit,
                                     output[-4000:], remedy.format(**names))
            if said.startswith("remote:"):  # where that disk is, or that memory, this machine cannot help
                failure.of_machine = False
            return failure
    return None


def _ssh_keys(output: str) -> dict[str, str]:
    """What to do about ssh's keys: those whose file others may read it does not even try, nor does ssh-add."""
    files = re.findall(r'Load key "(.+)": bad permissions', output)
    if not files:
        return {"unused": "", "keys": "ssh-add a key that it knows, or add ~/.ssh/id_*.pub there"}
    return {"unused": f"; {' and '.join(files)} is not even tried: others may read it",
            "keys": f"chmod 600 {shlex.join(files)}"}


def _told(output: str) -> str:
    """What the server itself says of a refusal (a token that has expired, a single sign-on), on one line."""
    lines = (line.removeprefix("remote:").strip() for line in output.splitlines() if line.startswith("remote:"))
    # without rulers and progress
    return " ".join(line for line in lines if re.search(r"\w", line) and "objects:" not in line)[:300]


def unknown(failed: tools.ToolFailed, source: Source) -> errors.Failure:
    """A git failure without a known cause, its output as the evidence."""
    args, remedy = forms.fetch_args(), f"see what git says there: git ls-remote {shlex.quote(source.url)}"
    if args:
        name = config.named(forms.FETCH_ARGS)
        if failed.status == USAGE:
            said = without_credentials(failed.output).strip().partition("\n")[0]
            return errors.Failure(f"git fetch does not take {name}: {said}", errors.BAD_CONFIG,
                                  without_credentials(failed.evidence), f"correct {name}: {shlex.join(args)}")
        remedy += f"; it was asked with {name}: {shlex.join(args)}"
    return errors.Failure(f"cannot fetch {_shown(source)}: {without_credentials(failed.reason)}", errors.UNAVAILABLE,
                          without_credentials(failed.evidence), remedy)


def _shown(source: Source) -> str:
    return str(source) + (f" (as {source.address})" if source.address != source.url else "")


def _names(source: Source) -> dict[str, str]:
    """What stands in a remedy: the host as ssh knows it, its port as an option, whose login was shown.

    Quoted for a shell: addresses and names are the task's, or a repository's.
    """
    address = source.address
    authority = address.partition("://")[2].partition("/")[0] or address.partition(":")[0]
    user, _, host = authority.rpartition("@")
    match = re.match(r"(.*?)(?::(\d+))?$", host)
    name, port = match.groups() if match else (host, None)
    option = "" if not port else f" -p {port}"
    if address.startswith("http"):
        name = host
    words = {"url": source.address, "name": name, "known": f"[{name}]:{port}" if port else name,
             "login": f"{user}@{name}" if user else name, "wanted": source.branch or source.tag or "HEAD"}
    quoted = {key: shlex.quote(word) for key, word in words.items()}
    return {**quoted, "port": option, "who": _who(source),
            "unseen": _unseen(source), "half": _half(source), "push": pushing(source),
            "authority": _authority(quoted["name"])}


def _authority(name: str) -> str:
    """How git comes to trust a host's certificate: what the environment names beats its configuration."""
    given = os.environ.get("GIT_SSL_CAINFO")
    if given:
        return f"add its certificate authority to what GIT_SSL_CAINFO names: cat FILE >> {shlex.quote(given)}"
    return f"give git its certificate authority: git config --global http.https://{name}/.sslCAInfo FILE"


def pushing(source: Source) -> str:
    """How a commit that is on no remote gets to the workers. A plain push brings none that no branch leads to."""
    commit = shlex.quote(source.commit or "HEAD")
    return (f"push it from the checkout that has it (git push; where no branch has it any more: git push origin "
            f"{commit}:refs/heads/task-{commit[:10]}), or enqueue it there with --bundle")


def _unseen(source: Source) -> str:
    """Whose login was shown to a server that answers "not found" for what a user may not see, as GitHub does."""
    if not source.address.startswith("http"):
        return ""
    if source.has_login():
        return ", or the login in its address may not see it"
    from agentpipe.code import git_access
    login = git_access.login_for(source.address)
    if not login:
        return ""
    return f", or the user {login.user!r} may not see it" if login.user else ", or agent.git_pass may not see it"


def _half(source: Source) -> str:
    """What is configured for it, and not used since the rest of it is missing."""
    from agentpipe.code import git_access
    return "".join(f"; {words}" for words, _ in git_access.unused(source.address))


def _who(source: Source) -> str:
    """Where the login that was refused stands."""
    if source.password is not None:
        return "correct the user and password in the task's repository URL"
    from agentpipe.code import git_access
    login = git_access.login_for(source.address)
    if not login:
        return "correct it where this user's git has it: git credential reject, or ~/.netrc"
    where = "agent.git_pass (or CLEARML_AGENT_GIT_PASS)"
    if any((login.user, login.password) == (each.user, each.password) for each in git_access.extra_logins()):
        where = "its entry of agent.git.extra_credentials"
    return f"correct {where}: the user there is {login.user!r}" if login.user else f"correct {where}"
