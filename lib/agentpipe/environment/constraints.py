"""What this machine's owner has set for all that is installed: constraints of versions, of builds, and overrides.

PIP_CONSTRAINT, UV_CONSTRAINT (and pip.conf), PIP_BUILD_CONSTRAINT, UV_BUILD_CONSTRAINT and UV_OVERRIDE name files and
URLs. They are read as lines of the list, so that they count in every place, and in the cache's key by what they say.
"""

from __future__ import annotations

import os

from agentpipe import errors, untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.requirements import Requirements

# what the installers would read again, in places where these paths mean nothing
VARIABLES = ("PIP_CONSTRAINT", "UV_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_OVERRIDE")


def add(asked: Requirements) -> None:
    """Add them to a list."""
    from agentpipe.settings import indexes
    pip = indexes.pip_settings()
    asked.constraints += _lines(asked, "PIP_CONSTRAINT", pip["constraint"])
    asked.constraints += _lines(asked, "UV_CONSTRAINT")
    asked.build_constraints += _lines(asked, "PIP_BUILD_CONSTRAINT", pip["build-constraint"])
    asked.build_constraints += _lines(asked, "UV_BUILD_CONSTRAINT")
    asked.overrides += _lines(asked, "UV_OVERRIDE")


def _lines(asked: Requirements, variable: str, places: list[str] | None = None) -> list[str]:
    places = os.environ.get(variable, "").split() if places is None else places
    if not places:
        return []
    from agentpipe.environment.requirement_lines import Reader
    from agentpipe.environment.requirements import Requirements, filled
    found = Requirements(asked.code)
    for place in places:
        reader, url = Reader(found, []), filled(place)
        if "://" in url and not url.startswith("file:"):
            reader.remote(url, constraints=True)
            continue
        path = os.path.abspath(os.path.expanduser(url.removeprefix("file://")))
        if not os.path.isfile(path):
            raise errors.Failure(f"{variable} names {path}, which is not there", errors.BAD_CONFIG,
                                 remedy=f"correct {variable}, or the file of the installer's settings that says so")
        with untrusted.kept_within():  # the owner's files may be anywhere
            reader.file(path, constraints=True)
    asked.notes += [note for note in found.notes if note not in asked.notes]
    return found.constraints
