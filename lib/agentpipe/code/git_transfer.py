"""git fetch into a mirror: the options of the configuration, another try at a server that fails for a moment."""

import os
import time

from agentpipe import tools
from agentpipe.code import git, git_failures, proofs
from agentpipe.job import Job
from agentpipe.settings import config, forms
from agentpipe.urls import without_credentials

EVERYTHING = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
PAUSES = (1.0, 4.0)  # seconds before a server is asked again
MOMENT = 60.0  # an attempt that took longer, and did not stall, was waited for long enough
# seconds for which a server may say nothing while git does nothing; over http git sees to it itself, sooner
SILENCE = 120.0
# of git_fetch_args: which refs, of which remote, whether at all, and submodules, each of which has a mirror of its own
OURS = {"--all", "--multiple", "--tags", "-t", "--no-tags", "-n", "--recurse-submodules", "--no-recurse-submodules",
        "--dry-run"}


def fetch(job: Job, source: git.Source, mirror: str, *refspecs: str) -> None:
    """git fetch; a server that fails for a moment is asked again."""
    options = ["--progress", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--update-shallow",
               "--force", *arguments()]
    if source.local:
        # upload-pack does not get our configuration through the environment; it runs nothing of the repository
        options.append("--upload-pack=git -c safe.directory='*' upload-pack")
    options += [word for word in refspecs if word.startswith("-")]
    argv = ["git", "fetch", *options, "--", source.address, *(word for word in refspecs if not word.startswith("-"))]
    env, pauses = source.asking(), [] if source.local else list(PAUSES)
    while True:
        began = time.monotonic()
        try:
            job.run(argv, cwd=mirror, env=env, loud=True, silence=SILENCE)
            proofs.keep(job, source)
            return
        except tools.ToolFailed as failed:
            stale = _stale_lock(mirror, failed.output)
            if stale:
                os.unlink(stale)
            elif pauses and (git_failures.stalled(failed)
                             or (git_failures.passing(failed) and time.monotonic() - began < MOMENT)):
                pause = pauses.pop(0)
                job.say(f"{without_credentials(failed.reason)}; asking again in {pause:g} s")
                time.sleep(pause)
            else:
                raise


def arguments() -> list[str]:
    """The options of agent.git_fetch_args that go with a fetch of named refs: the others we decide ourselves."""
    return [word for word in forms.fetch_args()
            if word not in OURS and not word.startswith("--filter")]  # a checkout from the mirror needs all objects


def everything() -> tuple[str, ...]:
    """All branches, and all tags unless agent.git_fetch_args is without --tags."""
    wanted = config.get_list(forms.FETCH_ARGS, ["--tags"])
    return EVERYTHING if "--tags" in wanted or "-t" in wanted else EVERYTHING[:1]


def _stale_lock(mirror: str, output: str) -> str | None:
    # we hold the mirror's lock, so a lock file of git's own is what a killed git left
    _, found, rest = output.partition("Unable to create '")
    path = rest.partition("'")[0]
    inside = path.endswith(".lock") and os.path.realpath(path).startswith(os.path.realpath(mirror) + "/")
    return path if found and inside and os.path.isfile(path) else None
