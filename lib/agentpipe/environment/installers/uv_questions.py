"""Questions to uv that install nothing."""

from __future__ import annotations

import os

from agentpipe import errors, paths, trees
from agentpipe.environment.installers.uv import index_words, lock, run, target, write_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.image_packages import Packages
    from agentpipe.environment.installers.policy import Policy
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job


def newest(job: Job, folder: str, wish: str, asked: Requirements) -> str:
    """The newest version that the indexes have for `wish` ("six<2"), as "six==1.17.0"; "" when there is none."""
    listed = job.path("asked.txt")
    write_list(listed, wish + "\n", asked, "")
    try:
        answer = run(job, ["pip", "compile", "--quiet", "--no-deps", "--no-header", "--no-annotate",
                           "--no-emit-index-url", "--no-emit-find-links", *target(folder), *index_words(asked),
                           listed], loud=False, timeout=30)
    except errors.Failure:
        return ""
    finally:
        os.unlink(listed)
    return next((line.split(";")[0].strip() for line in answer.splitlines() if "==" in line), "")


def has_wheel(job: Job, python: str, wish: str, asked: Requirements) -> bool:
    """Whether `wish` ("numpy==1.19.5") is to be had as a wheel for that version of Python."""
    listed = job.path("asked.txt")
    write_list(listed, wish + "\n", asked, "")
    try:
        run(job, ["pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:", *target(python),
                  *index_words(asked), listed], loud=False, timeout=30)
        return True
    except errors.Failure:
        return False
    finally:
        os.unlink(listed)


def resolved(job: Job, python: str, asked: Requirements, policy: Policy) -> list[tuple[str, int]]:
    """(line, bytes) of every package that would be installed for this interpreter; Failure when that cannot be."""
    from agentpipe.environment import pins
    text = asked.file_text()
    packages = pins.read_lock(lock(job, python, text, asked, policy)) if text else []
    found = []
    for package in packages:
        file = (package.get("wheels") or [package.get("sdist") or package.get("archive") or {}])[0]
        pin, = pins.of_packages([package])
        found.append((pins.lines([{**pin, "sha256": None}])[0], int(file.get("size") or 0)))
    return found


def refused(job: Job, folder: str, name: str, asked: Requirements) -> tuple[str, str]:
    """(the index that does not tell of `name`, with what status: "401" wants a better password); ("", "") for none.

    Where uv looks at all indexes it does not say which of them refused.
    """
    import re

    from agentpipe.tools import ToolFailed
    listed = job.path("asked.txt")
    write_list(listed, name + "\n", asked, "")
    try:
        hosts = index_words(asked)[2:]
        run(job, ["pip", "compile", "--quiet", "--no-deps", *target(folder), *hosts, listed], loud=False, timeout=30)
    except ToolFailed as error:
        found = re.search(r"An index (?:URL )?\(([^)]+)\) (?:could not be queried due to [^(]*\(|returned a )"
                          r"(40[13])\b", error.output)
        return (found[1], found[2]) if found else ("", "")
    except errors.Failure:
        pass
    finally:
        os.unlink(listed)
    return "", ""


def satisfied(job: Job, python: str, packages: Packages, asked: Requirements) -> tuple[bool, str]:
    """(whether these packages are all that is asked for, else what is missing or what uv says of it)."""
    from agentpipe.environment import image_packages
    from agentpipe.environment.installers import uv_failures
    from agentpipe.tools import ToolFailed
    listed, new, there = job.path("asked.txt"), job.path("there"), os.path.join(paths.box(job.directory), "there")
    write_list(listed, "".join(line + "\n" for line in asked.packages), asked, job.path("constraints.txt"))
    os.makedirs(new, exist_ok=True)
    try:
        # Debian's folders are not looked at by uv: it is shown what importlib.metadata has found
        for package in packages:
            image_packages.stub(new, package)
        if new != there:  # where uv may write, so may others: we only put it there
            os.rename(new, there)
        said = run(job, ["pip", "install", "--offline", "--dry-run", "--target", there, "--python", python,
                         *index_words(asked), "-r", listed], loud=True, timeout=60, sink=lambda text: None)
    except ToolFailed as error:
        return False, uv_failures.lacking(error.output)
    finally:
        os.unlink(listed)
        trees.discard(there)
    changes = [line.strip()[2:] for line in said.splitlines() if line.startswith(" + ")]
    return "Would make no changes" in said, ", ".join(changes[:5])
