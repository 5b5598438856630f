"""A uv for images whose C library is not the one that ours is linked with (musl: Alpine)."""

from __future__ import annotations

import os

from agentpipe import errors, paths, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.job import Job

_wanted: set[str] = set()  # images that have turned out to want it


def wanted(job: Job) -> bool:
    """Whether ours could not be started in this image."""
    return _image(job) in _wanted


def want(job: Job) -> None:
    """Ours could not be started."""
    _wanted.add(_image(job))


def path(job: Job) -> str:
    """The same version as a static program, in a cache that every place sees; fetched from the indexes once.

    Failure 69 when they do not have it.
    """
    import platform
    import tempfile

    from agentpipe import tools
    from agentpipe.environment.installers import uv
    from agentpipe.place import apart
    version = tools.run([tools.uv(), "--version"]).split()[1]
    found = paths.cache(apart.LENT, f"uv-{version}-static")
    if os.access(found, os.X_OK):
        return found
    job.say(f"this image has another C library than ours: fetching uv {version} as a static program")
    os.makedirs(os.path.dirname(found), 0o700, exist_ok=True)
    folder = tempfile.mkdtemp(dir=os.path.dirname(found), prefix="uv.")
    try:
        job.run([tools.uv(), "pip", "install", "--quiet", "--target", folder, "--no-deps", "--only-binary", ":all:",
                 "--python-platform", f"{platform.machine()}-unknown-linux-musl", f"uv=={version}"],
                env=uv.environment())
        os.rename(os.path.join(folder, "bin", "uv"), found)
    except (tools.ToolFailed, OSError) as error:
        raise errors.Failure(f"uv {version} cannot be had as a static program, which this image needs",
                             errors.UNAVAILABLE, str(error), "use an image with glibc (not Alpine)") from None
    finally:
        trees.discard(folder)
    return found


def _image(job: Job) -> str:
    return str((job.manifest.get("place") or {}).get("image_id") or job.directory)
