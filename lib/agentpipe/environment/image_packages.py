"""The packages of an interpreter itself, as of an image's: seen by the task, and by uv while it fills an environment.

uv takes no notice of what stands behind an environment. So while it installs each of those packages gets a stub of
metadata there: what satisfies a requirement is left alone; what does not is replaced in the environment, which hides
the other. Then the stubs are removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from agentpipe import trees
from agentpipe.files import publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.place.args_words import Option

    Packages = list[dict[str, Any]]  # name, version, requires (texts as in Requires-Dist), extras

LONGEST = 100  # letters of a name or a version
ASK = """
import json, sys
try:
    from importlib import metadata
except ImportError:
    print("[]")
    sys.exit()
found = {}
for each in metadata.distributions():
    name = each.metadata["Name"]
    if name and each.version:
        found.setdefault(name.lower().replace("_", "-").replace(".", "-"), {
            "name": name, "version": each.version, "requires": list(each.requires or []),
            "extras": each.metadata.get_all("Provides-Extra") or []})
print(json.dumps(list(found.values())))
"""


def remembered_as(job: Job) -> str:
    """The name under which what the task's place has may be remembered (deciding.py).

    "" where a set-up has run: it may have brought a Python or packages that another container of the image lacks.
    """
    from agentpipe.place import deciding
    place = job.manifest.get("place") or {}
    return "" if place.get("setup") else deciding.name(place.get("image_id") or "", place)


def remembered(job: Job, question: str, python: str, ask: Callable[[], str]) -> str:
    """The answer of the task's place to a question, about this `python` or ""; an image is asked once, since each time
    costs a process in it. Not remembered is no answer (""), nor what is mounted: it may change."""
    import hashlib

    from agentpipe import paths
    image = remembered_as(job)
    if not image or is_mounted(job, python):
        return ask()
    question = f"{question} {python}"
    name = hashlib.sha256(f"{image}\n{question}".encode("utf-8", "surrogateescape")).hexdigest()[:20]
    path = paths.cache("interpreters", f"answer-{name}")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        answer = ask()
    if answer and not job.option("dry_run") and not is_mounted(job, answer):
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        publish(path, answer.encode("utf-8", "surrogateescape"))
    return answer


def answer_in(said: str, sign: str) -> str:
    """The JSON of one line, which begins with `sign`, that a Python was asked to print; "" when it did not.

    It is the last line: an image's sitecustomize may print, too.
    """
    last = said.rstrip("\n").rpartition("\n")[2]
    return last if last.startswith(sign) else ""


def _options(job: Job) -> list[Option]:
    """The arguments of the task's container, as they were logged."""
    import shlex

    from agentpipe.place import args_words
    return args_words.parse(shlex.split((job.manifest.get("place") or {}).get("arguments") or ""))


def variables(job: Job) -> list[str]:
    """NAME=VALUE that the task's container is given; those of its image are the image's."""
    return [option.value for option in _options(job) if option.name == "env"]


def is_mounted(job: Job, path: str) -> bool:
    """Whether a mount of the arguments holds this path of the container."""
    if not path.startswith("/"):
        return False
    from agentpipe.place import args_values, deciding
    targets = []
    for option in _options(job):
        if option.name == "volume":
            targets.append(option.value.split(":")[1:2] or [option.value])
        elif option.name == "tmpfs":
            targets.append(option.value.split(":")[:1])
        elif option.name == "mount":
            targets.append([value for key, value, _ in args_values.fields(option.value)
                            if key in ("target", "dst", "destination")])
    return any(path.startswith(deciding.folder(each)) for found in targets for each in found)


def identity(job: Job, interpreter: dict[str, Any]) -> str:
    """What decides what an environment can find in the task's place: of one that a set-up has changed, or whose Python
    is mounted, all that its Python has."""
    import hashlib
    place = job.manifest.get("place") or {}
    image = str(place.get("image_id") or place.get("kind") or job.prefix[0])
    if not place.get("image_id") or (name := remembered_as(job)) == image:
        return image
    from agentpipe.environment import interpreters
    python = interpreters.own_path(job, interpreter)
    if not name or is_mounted(job, python):
        has = known(job, {"executable": python})
        name = "\n".join(sorted(f"{each['name']}=={each['version']}" for each in has))
    return f"{image} {hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:20]}"


def known(job: Job, interpreter: dict[str, Any]) -> Packages:
    """What this interpreter has of its own, as long as nothing is installed into it."""
    executable = interpreter["executable"]
    return _told(remembered(job, "packages of", executable, lambda: _asked(job, executable)))


def asked(job: Job, executable: str) -> Packages:
    """What this interpreter has now."""
    return _told(_asked(job, executable))


def _told(answer: str) -> Packages:
    """The packages of an answer, without what is none: it may come from a hostile image, and names of files here are
    made of it."""
    import json
    try:
        return [each for each in json.loads(answer or "[]") if _is_package(each)]
    except (ValueError, RecursionError):
        return []


def _is_package(each: Any) -> bool:
    import re
    if not isinstance(each, dict) or {"name", "version", "requires", "extras"} - set(each):
        return False
    texts = [each["name"], each["version"]]
    for several in (each["requires"], each["extras"]):
        texts += several if isinstance(several, list) else [None]
    return all(isinstance(text, str) for text in texts) and len(each["name"]) <= LONGEST and bool(
        re.fullmatch(rf"[0-9A-Za-z.+!_-]{{1,{LONGEST}}}", each["version"]))


def _asked(job: Job, executable: str) -> str:
    return answer_in(job.run([*job.prefix, executable, "-I", "-B", "-c", ASK], check=False, timeout=60), "[")


def named(packages: Packages, names: set[str]) -> list[str]:
    """Those of these (normalised) names, as "name==version"."""
    from agentpipe.environment.requirements import normalised
    found = ((normalised(each["name"]), each["version"]) for each in packages)
    return sorted(f"{name}=={version}" for name, version in found if name in names)


def needed(packages: Packages, names: set[str], hidden: set[str]) -> set[str]:
    """Of these packages the (normalised) names of those that `names` lead to, one needing the other; none of the
    `hidden` ones, which have another version before them."""
    from agentpipe.environment.installed import names_of
    from agentpipe.environment.requirements import normalised
    requires = {normalised(each["name"]): names_of(each["requires"]) for each in packages}
    found: set[str] = set()
    ahead = set(names)
    while ahead:
        new = {name for name in ahead - found if name in requires and name not in hidden}
        found |= new
        ahead = set().union(*(requires[name] for name in new)) - found
    return found


@contextmanager
def stubs(job: Job, folder: str, packages: Packages) -> Iterator[None]:
    """While this lasts, uv sees the image's packages in the environment `folder`."""
    from agentpipe.environment import installed
    from agentpipe.place import apart
    site = installed.site_packages(folder)
    if apart.folder(job):
        with _stubs_apart(job, site, packages):
            yield
        return
    made = [stub(site, each) for each in packages]
    yield
    for path in made:
        if os.path.exists(os.path.join(path, installed.STUB)):  # else uv has put another version in its place
            trees.remove(path)


@contextmanager
def _stubs_apart(job: Job, site: str, packages: Packages) -> Iterator[None]:
    """The same where only the container writes; they are made in the task's directory, which it is shown."""
    from agentpipe.environment import installed
    from agentpipe.place import apart
    here = job.path("stubs")
    os.makedirs(here, exist_ok=True)
    names = [os.path.basename(stub(here, each)) for each in packages]
    if names:
        apart.put(job, here, site)
    yield
    trees.remove(here)
    if names:
        apart.take(job, [os.path.join(site, name) for name in names], installed.STUB)


def stub(site: str, package: dict[str, Any]) -> str:
    """Let a package seem to stand in the folder `site`; the path of its record."""
    import re

    from agentpipe.environment import installed
    name = re.sub(r"[^A-Za-z0-9.]+", "_", package["name"])
    folder = f"{name}-{package['version']}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {package['name']}", f"Version: {package['version']}"]
    lines += [f"Requires-Dist: {each}" for each in package["requires"]]
    lines += [f"Provides-Extra: {each}" for each in package["extras"]]
    texts = {"METADATA": "\n".join(lines) + "\n", installed.STUB: "",
             "WHEEL": "Wheel-Version: 1.0\nGenerator: agentpipe\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
             "RECORD": "".join(f"{folder}/{each},,\n" for each in ("METADATA", installed.STUB, "WHEEL", "RECORD"))}
    path = os.path.join(site, folder)
    os.makedirs(path, exist_ok=True)
    for leaf, text in texts.items():
        with open(os.path.join(path, leaf), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    return path
