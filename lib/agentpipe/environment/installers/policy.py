"""How a list is installed: what the configuration decides beside the list itself.

The keys are clearml-agent's (agent.package_manager.*). Flags for pip that stand for lines of a list (indexes,
constraints) become such lines, those that uv has too are passed on to it, and those that only pip has make pip do the
work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

TYPES = ("pip", "uv", "poetry", "conda")
POST = ["horovod"]
OPTIONAL = ["pygobject"]
LEGACY = "agent.package_manager.pip_legacy_resolver"
# flags of `pip install` that change nothing here
NEEDLESS = {"--disable-pip-version-check", "--no-input", "--no-color", "--prefer-binary", "--no-python-version-warning",
            "--no-warn-script-location", "--no-warn-conflicts", "--quiet", "-q", "--verbose", "-v", "-vv", "-vvv",
            "--isolated", "--break-system-packages", "--no-compile", "--use-pep517", "--no-cache-dir"}
NEEDLESS_WITH_VALUE = {"--progress-bar", "--timeout", "--default-timeout", "--retries", "--root-user-action",
                       "--exists-action", "--cache-dir", "--use-feature", "--upgrade-strategy"}
# the same in uv
UV_ALONE = {"--no-build-isolation"}
UV_WITH_VALUE = {"--config-settings": "--config-setting", "-C": "--config-setting"}
LINES = {"-i", "--index-url", "--pypi-url", "--extra-index-url", "-f", "--find-links", "--no-binary", "--only-binary",
         "--trusted-host", "-c", "--constraint"}
# how indexes are reached: variables of uv, of what it starts, and of pip; a proxy's address may hold a password
CONNECTION = {"--proxy": ("PIP_PROXY", "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy",
                          "http_proxy"),
              "--cert": ("PIP_CERT", "SSL_CERT_FILE"), "--client-cert": ("PIP_CLIENT_CERT", "SSL_CLIENT_CERT")}
LINES_ALONE = {"--no-index", "--pre", "--require-hashes"}


class Policy:
    """`tool` is "uv" or "pip" (`why` says why not uv); `system`: the interpreter's packages are seen; `flags` are uv's,
    `pip_flags` pip's, both without what is in the list, `pip_version` what pip itself is to be; `last` and `optional`
    are names (installed after the rest, allowed to fail); `overrides`: lines that count though other packages disagree
    (`legacy` allows it), `forced` those of this machine's owner; `backend` names PyTorch's index ("cu121", "cpu", ""
    for none), `nightly` allows its nightly one; where that index is away, who installs begins `anew` without it
    (torch_backend.Away), and `away` names it then. `makeshift`: something could not be reached, or was left out for
    that, and what is installed now is not what the list would give otherwise."""

    def __init__(self) -> None:
        self.tool, self.why = "uv", ""
        self.system = self.upgrade = self.no_deps = False
        self.flags: list[str] = []
        self.pip_flags: list[str] = []
        self.last: set[str] = set()
        self.optional: set[str] = set()
        self.legacy = True
        self.overrides: list[str] = []
        self.forced: list[str] = []
        self.pip_version: list[str] = []
        self.nightly = self.nightly_now = False
        self.backend = self.away = ""
        self.makeshift = self.anew = False
        self.notes: list[str] = []

    def without_deps(self) -> Policy:
        """The same for a list that is complete."""
        import copy
        found = copy.copy(self)
        found.no_deps, found.upgrade, found.overrides = True, False, []
        return found

    def parts(self) -> list[str]:
        """What of it decides the outcome: part of the cache's key."""
        return [self.tool, *(["system packages"] if self.system else []), *(["upgrade"] if self.upgrade else []),
                *(["no deps"] if self.no_deps else []), *([f"torch {self.backend}"] if self.backend else []),
                *(["nightly"] if self.nightly else []), *self.flags,
                *([*self.pip_version, *self.pip_flags] if self.tool == "pip" else [])]


def _sees_system(job: Job) -> bool:
    """Whether the interpreter's own packages are seen: in a place they are, images ship the big ones."""
    from agentpipe.settings import config
    forced = ("CLEARML_AGENT_FORCE_SYSTEM_SITE_PACKAGES",) if job.prefix else ()
    return config.flag("agent.package_manager.system_site_packages", bool(job.prefix), *forced)


def of(job: Job, asked: Requirements) -> Policy:
    """The policy for this task's list; options that its flags stand for are added to `asked`."""
    from agentpipe.environment import constraints, torch_backend
    from agentpipe.environment.requirements import normalised
    from agentpipe.settings import config
    found = Policy()
    manager = "agent.package_manager."
    found.system = _sees_system(job)
    found.upgrade = config.flag(manager + "force_upgrade")
    # an empty list is a choice too: no version of pip gets the old resolver
    found.legacy = str(config.value(LEGACY)).strip() != "[]"
    post = config.get_list(manager + "post_packages", POST)
    may_fail = [*config.get_list(manager + "priority_optional_packages", OPTIONAL),
                *config.get_list(manager + "post_optional_packages")]
    found.optional = {normalised(name) for name in may_fail}
    asked_for = asked.names()
    last = [*post, *config.get_list(manager + "post_optional_packages")]
    found.last = {normalised(name) for name in last} & asked_for
    found.optional &= asked_for
    if asked.exact:
        found.no_deps, found.last, found.optional, found.upgrade = True, set(), set(), False
    kind = (config.get(manager + "type") or "").lower()
    if kind and kind not in TYPES:
        from agentpipe import errors
        raise errors.Failure(f"{manager}type is one of {', '.join(TYPES)}, not {kind}", errors.BAD_CONFIG,
                             remedy=f"correct {manager}type")
    # said by a variable: in a file it is the peer's default, no choice; a receipt's files are no matter of a resolver,
    # and pip would refuse repositories beside hashes
    if kind == "pip" and not asked.exact:
        found.tool, found.why = "pip", "agent.package_manager.type says so"
    found.pip_version = config.get_list(manager + "pip_version")
    variables, rest = connection(extra_flags())
    asked.variables |= variables
    _flags(found, asked, rest)
    constraints.add(asked)
    found.forced = asked.overrides
    torch_backend.settle(job, asked, found)
    return found


def extra_flags() -> list[str]:
    """The user's flags for `pip install`."""
    from agentpipe.settings import config
    return config.get_list("agent.package_manager.extra_pip_install_flags", None, "CLEARML_EXTRA_PIP_INSTALL_FLAGS")


def connection(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """(what flags of pip say of how anything is reached, as variables of all that reaches for it; the other flags)."""
    found: dict[str, str] = {}
    others, rest = [], iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in CONNECTION:
            found |= dict.fromkeys(CONNECTION[name], value if equals else next(rest, ""))
        else:
            others.append(word)
    return found, others


def _flags(found: Policy, asked: Requirements, words: list[str]) -> None:
    """Sort the user's flags for `pip install`; a value that holds a password goes by a variable, as pip reads it."""
    import os
    from contextlib import nullcontext

    from agentpipe import untrusted
    from agentpipe.environment.requirement_lines import Reader
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in LINES:  # an index's address may hold a password, which the list keeps out of the argv
            value = value if equals else next(rest, "")
            # the owner's file may be anywhere; a relative one is the task's
            owners = os.path.isabs(os.path.expanduser(value.removeprefix("file://")))
            with untrusted.kept_within() if owners else nullcontext():
                Reader(asked, [asked.code]).read([f"{name} {value}"], "agent.package_manager.extra_pip_install_flags")
        elif word in LINES_ALONE:
            asked.options.append((word, ""))
        elif word in ("-U", "--upgrade"):
            found.upgrade = True
        elif word == "--no-deps":
            found.no_deps = True
        elif word in UV_ALONE:
            found.flags.append(word)
            found.pip_flags.append(word)
        elif name in UV_WITH_VALUE or name in NEEDLESS_WITH_VALUE:
            value = value if equals else next(rest, "")
            found.pip_flags += [word] if equals else [word, value]
            if name in UV_WITH_VALUE:
                found.flags += [UV_WITH_VALUE[name], value]
        elif word in NEEDLESS:
            found.pip_flags.append(word)
        else:
            _only_pips(found, asked, word)


def _only_pips(found: Policy, asked: Requirements, word: str) -> None:
    from agentpipe.urls import without_credentials
    name, _, value = word.partition("=")
    if not word.startswith("-"):  # the value of the flag before it
        name, value = found.pip_flags.pop() if found.pip_flags else "", word
    else:
        found.tool, found.why = "pip", f"uv has no {name}"
    if without_credentials(value) != value and name.startswith("--"):
        asked.variables["PIP_" + name[2:].upper().replace("-", "_")] = value
    else:
        found.pip_flags += [word] if word.startswith("-") or not name else [name, word]
