"""Install a list, and where that fails try what else may be meant, each said in the log with its reason."""

from __future__ import annotations

import re

from agentpipe import errors
from agentpipe.environment.installers.uv_failures import InstallFailed
from agentpipe.urls import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from agentpipe.environment.installers.policy import Policy
    from agentpipe.environment.pins import Pin
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

# what uv quotes of a build, what it is built with that has it still, and what that is
OLDER_TOOLS = (
    (r"No module named 'pkg_resources'", "setuptools<81", "pkg_resources"),
    (r"use_2to3 is invalid", "setuptools<58", "use_2to3"),
    (r"has no attribute 'cython_sources'", "cython<3", "an older Cython"),  # PyYAML 5.4 and older
)
PINNED = re.compile(r"[^;]*?(?:={2,3}\s*[^\s,;*]+|\s@\s).*$")


def install(job: Job, folder: str, asked: Requirements, policy: Policy, tool: ModuleType, pip: str) -> list[Pin]:
    """The first way that works; when none does, the Failure of the first one. Away where the policy begins anew."""
    found: list[Pin] = tried(job, asked, policy, lambda: tool.install(job, folder, asked, policy, pip),
                             lambda first: _by_pip(job, folder, asked, policy, pip, first))
    return found


def tried(job: Job, asked: Requirements, policy: Policy, work: Callable[[], Any],
          by_pip: Callable[[errors.Failure | None], Any]) -> Any:
    """work(), again with what may help, until it works or nothing is left; else by_pip(the first failure)."""
    first: errors.Failure | None = None
    while True:
        if policy.tool == "pip":
            return by_pip(first)
        try:
            return work()
        except InstallFailed as failure:
            first = first or failure
            other = _other(failure, asked, policy)
            if not other:
                raise _torch_away(first, policy) or first from None
            # tomorrow the same list may give what it says: not an answer for other tasks
            policy.makeshift |= failure.kind in ("network", "offline") and failure.exit != errors.NOT_FOUND
            job.say(f"{failure.reason}: {other}")


def _torch_away(failure: errors.Failure, policy: Policy) -> errors.Failure | None:
    """What the other indexes lack of PyTorch, that of its own may have, which could not be reached."""
    from agentpipe.environment import torch_backend
    names = failure.names if isinstance(failure, InstallFailed) else set()
    if not policy.away or failure.exit != errors.NOT_FOUND or not names & torch_backend.TORCH:
        return None
    return errors.Failure(f"PyTorch's index for {torch_backend.words(policy.away)} cannot be reached; in the others: "
                          f"{failure.reason}", errors.UNAVAILABLE, failure.evidence,
                          "check the network and the proxy, or name a mirror "
                          "(agent.package_manager.extra_index_url_template), then run the task again")


def _by_pip(job: Job, folder: str, asked: Requirements, policy: Policy, pip: str,
            first: errors.Failure | None) -> list[Pin]:
    from agentpipe.environment.installers import pip as pips
    job.say(f"installing with pip: {policy.why}")
    try:
        return pips.install(job, folder, asked, policy, pip)
    except errors.Failure as failure:
        if first is None:
            raise _explained(job, folder, asked, policy, failure) from None
        first.evidence += f"\npip: {failure.evidence}"
        raise first from None


def _explained(job: Job, folder: str, asked: Requirements, policy: Policy, failure: errors.Failure) -> errors.Failure:
    """What pip could not do, with the cause and the remedy that uv finds for the same list; else as it is."""
    from agentpipe.environment.installers import uv
    if failure.exit != errors.BAD_DATA:
        return failure
    try:
        uv.lock(job, folder, asked.file_text(), asked, policy, lambda said: None)
    except InstallFailed as found:
        if found.kind not in ("unknown", "malformed"):
            found.evidence = failure.evidence
            return found
    except errors.Failure:
        pass
    return failure


def _other(failure: InstallFailed, asked: Requirements, policy: Policy) -> str:
    """Change list or policy to what may help, and say what; "" when nothing is left."""
    for way in (_without_backend, _nightly, _without_optional, _as_pinned, _without_page, _with_older_tools,
                _after_the_rest, _with_pip):
        words = way(failure, asked, policy)
        if words:
            return words
    return ""


def _without_backend(failure: InstallFailed, asked: Requirements, policy: Policy) -> str:
    """PyTorch's own index cannot be reached, or has no such build: what the other indexes have.

    Away for whoever begins anew then.
    For a GPU those for older CUDA come first: each has some versions only (torch 2.3 ends with CUDA 12.1), or none.
    """
    from agentpipe.environment import torch_backend
    if not policy.backend or asked.exact:
        return ""
    here = "download.pytorch.org" in failure.said
    kinds = ("offline", "no_version", "no_package", "wrong_python", "conflict")
    about_torch = not failure.names or failure.names & (torch_backend.TORCH | torch_backend.BRINGS)
    if policy.backend.startswith("cu") and failure.kind in kinds[1:] and about_torch and torch_backend.driver():
        backend, policy.backend = policy.backend, torch_backend.AUTO
        return f"PyTorch's index for {backend} does not do, trying those for {torch_backend.words(policy.backend)}"
    if failure.kind == "network" and here and policy.anew and policy.backend != torch_backend.AUTO:
        raise torch_backend.Away(policy.backend)
    if (failure.kind == "network" and here) or failure.kind in kinds:
        backend, policy.backend = policy.backend, "" if here or policy.backend == "cpu" else "cpu"
        return f"PyTorch's index for {backend} does not do, trying {policy.backend or 'the other indexes'}"
    return ""


def _nightly(failure: InstallFailed, asked: Requirements, policy: Policy) -> str:
    from agentpipe.environment import torch_backend
    if not policy.nightly or policy.nightly_now or failure.kind not in ("no_version", "no_package", "wrong_python"):
        return ""
    policy.nightly_now = True
    asked.options.append(("--pre", ""))
    asked.options.append(("--extra-index-url", torch_backend.nightly_index(policy.backend or torch_backend.here())))
    return "trying nightly builds (agent.package_manager.torch_nightly)"


def _without_optional(failure: InstallFailed, asked: Requirements, policy: Policy) -> str:
    names = failure.names & policy.optional
    if not names:
        return ""
    kept = asked.only(lambda name: name not in names)
    asked.packages, policy.optional = kept.packages, policy.optional - names
    return f"going on without {', '.join(sorted(names))}, which may fail"


def _as_pinned(failure: InstallFailed, asked: Requirements, policy: Policy) -> str:
    """A frozen list of an environment that contradicts itself: what stands there was installed once, and is again."""
    if (failure.kind not in ("conflict", "no_version") or policy.overrides or not policy.legacy or asked.exact
            or not all(PINNED.match(line) for line in asked.packages)):
        return ""
    missing = re.match(r"no such version: ([^;\s]+)", failure.reason)
    if missing and missing[1] in {line.partition(";")[0].replace(" ", "") for line in asked.packages}:
        return ""  # a pin of the list itself is not there: it would be wanted again
    policy.overrides = [line for line in asked.packages if "==" in line]
    return "every package of the list is pinned, so the pins count" if policy.overrides else ""


def _without_page(failure: InstallFailed, asked: Requirements, policy: Policy) -> str:
    """A page of links (`-f`) that its server does not have any more: pip passes over it, too."""
    from agentpipe.environment.requirements import filled
    found = re.search(r"Failed to read `--find-links` URL: (\S+)", failure.said)
    gone = [each for each in asked.options if found and each[0] == "--find-links"
            and without_credentials(filled(each[1])) == without_credentials(found[1])]
    if not gone or not re.search(r"\((?:404|410)[^)]*\)", failure.said):
        return ""
    asked.options = [each for each in asked.options if each not in gone]
    return "going on without that page of links"


def _with_older_tools(failure: InstallFailed, asked: Requirements, policy: Policy) -> str:
    """A source of old whose build stands on what setuptools or Cython have dropped since: by those of its time."""
    found = next(((tool, what) for words, tool, what in OLDER_TOOLS if re.search(words, failure.said)), None)
    if failure.kind != "not_built" or not found or found[0] in asked.build_constraints:
        return ""
    asked.build_constraints.append(found[0])
    return f"its build wants {found[1]}, so sources are built with {found[0]}"


def _after_the_rest(failure: InstallFailed, asked: Requirements, policy: Policy) -> str:
    """A build that imports what it does not declare (numpy, torch): after the rest, with that in sight."""
    missing = re.search(r"ModuleNotFoundError: No module named '([^'.]+)", failure.said)
    built = re.search(r"Failed to (?:download and )?build `([A-Za-z0-9._-]+?)(?:[=@\s`])", failure.said)
    if failure.kind != "not_built" or not missing or not built:
        return ""
    from agentpipe.environment.requirements import normalised
    name = normalised(built[1])
    if name not in asked.names() or name in policy.last:
        return ""
    policy.last.add(name)
    return f"its build needs {missing[1]}, so it comes after the rest"


def _with_pip(failure: InstallFailed, asked: Requirements, policy: Policy) -> str:
    """What uv does not understand, pip may."""
    if failure.kind not in ("unknown", "malformed") or asked.exact:
        return ""
    policy.tool, policy.why = "pip", "uv could not"
    return "trying pip"
