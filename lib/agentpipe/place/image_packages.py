"""The packages of an interpreter itself, as of an image's: seen by the task, and by uv while it fills an environment.

uv takes no notice of what stands behind an environment. So while it installs each of those packages gets a stub of
metadata there: what satisfies a requirement is left alone; what does not is replaced in the environment, which hides
the other. Then the stubs are removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job

    Packages = list[dict[str, Any]]  # name, version, requires (texts as in Requires-Dist), extras

ASK = """
import json, sys
try:
    from importlib import metadata
except ImportError:
    sys.exit(3)
found = {}
for each in metadata.distributions():
    name = each.metadata["Name"]
    if name and each.version:
        found.setdefault(name.lower().replace("_", "-").replace(".", "-"), {
            "name": name, "version": each.version, "requires": list(each.requires or []),
            "extras": each.metadata.get_all("Provides-Extra") or []})
print(json.dumps(list(found.values())))
"""


def known(job: Job, interpreter: dict[str, Any]) -> Packages:
    """What this interpreter has of its own; of an image it is asked once."""
    import hashlib
    import json

    from agentpipe import attempt, paths
    image = (job.manifest.get("place") or {}).get("image_id") or ""
    name = hashlib.sha256(f"{image} {interpreter['executable']}".encode()).hexdigest()[:20]
    path = paths.cache("interpreters", f"packages-{name}.json")
    if image:
        try:
            with open(path, encoding="utf-8") as file:
                kept: Packages = json.load(file)
            return kept
        except (OSError, ValueError):
            pass
    answer = job.run([*job.prefix, interpreter["executable"], "-I", "-c", ASK], check=False, timeout=60)
    found: Packages = json.loads(answer) if answer.strip().startswith("[") else []
    if image:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        attempt.publish(path, json.dumps(found).encode())
    return found


def named(packages: Packages, names: set[str]) -> list[str]:
    """Those of these (normalised) names, as "name==version"."""
    from agentpipe.requirements import normalised
    found = ((normalised(each["name"]), each["version"]) for each in packages)
    return sorted(f"{name}=={version}" for name, version in found if name in names)


@contextmanager
def stubs(folder: str, packages: Packages) -> Iterator[None]:
    """While this lasts, uv sees the image's packages in the environment `folder`."""
    import shutil

    from agentpipe import installed
    site = installed.site_packages(folder)
    made = [stub(site, each) for each in packages]
    yield
    for path in made:
        if os.path.exists(os.path.join(path, installed.STUB)):  # else uv has put another version in its place
            shutil.rmtree(path)


def stub(site: str, package: dict[str, Any]) -> str:
    """Let a package seem to stand in the folder `site`; the path of its record."""
    import re

    from agentpipe import installed
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
