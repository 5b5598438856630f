"""What fills environments: one module per package manager, all of the same shape.

    NAME       as `env.installer` in the manifest
    create     an empty environment with pip at its final path
    install    a requirement list into it; what was installed, as pins
    projects   the task's own folders into its overlay, without their dependencies

What they share is here. A second manager is a second module and a line in `choose`.
"""

from __future__ import annotations

import os
import re
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job

# `realpath` of the script, so a copy of it in another environment's bin/ starts that environment's Python
HEADER = """#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"
' '''
"""
PATCHED = (3, 8)  # the oldest Python that reads the file which virtualenv puts into its environments
PIP = HEADER + "import sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"


def choose(job: Job) -> ModuleType:
    """The package manager for this task."""
    from agentpipe.environment.installers import uv
    return uv


def create_on_host(interpreter: dict[str, Any], folder: str, system: bool = False) -> bool:
    """An environment with pip, made by virtualenv in `folder`; false when pip could not be seeded (Python < 3.9).

    Its scripts find the Python beside them, so that overlays can copy them, and so are those that uv adds.
    """
    import virtualenv

    from agentpipe import paths
    from agentpipe.environment import discovery
    arguments = [folder, "--python", interpreter["executable"], "--app-data", paths.cache("virtualenv"),
                 "--no-periodic-update", "--activators", "", "--no-vcs-ignore",
                 *(["--system-site-packages"] if system else [])]
    seeded = True
    try:
        virtualenv.cli_run(arguments, setup_logging=False, env=discovery.patient())
    except RuntimeError:  # virtualenv no longer ships a pip for this version
        virtualenv.cli_run([*arguments, "--no-seed"], setup_logging=False, env=discovery.patient())
        seeded = False
    if tuple(map(int, interpreter["version"].split(".")[:2])) < PATCHED:
        _without_patch(folder)
    make_relocatable(folder)
    return seeded


def _without_patch(folder: str) -> None:
    """Take virtualenv's `_virtualenv.pth` out: what it imports is in newer Python, so each start would print an error.

    It keeps a user's distutils configuration from leading installs elsewhere.
    """
    import glob
    for path in glob.glob(os.path.join(glob.escape(folder), "lib", "python*", "site-packages", "_virtualenv.p*")):
        os.unlink(path)


def pip_requirement(version: str) -> str:
    """What to install for a pip of this Python: virtualenv's own wheel (no network), else pip's name."""
    import shutil

    from virtualenv.seed.wheels.embed import get_embed_wheel

    from agentpipe import files, paths
    from agentpipe.place import apart
    wheel = get_embed_wheel("pip", ".".join(version.split(".")[:2]))
    if wheel is None:
        return "pip"
    # this folder is visible in every place, our packages need not be; nor virtualenv's own data, whose locks (flock(2)
    # takes them of what can only be read, too) a task could keep from us
    path = paths.cache(apart.LENT, wheel.path.name)
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        new = files.temporary(path)
        shutil.copyfile(wheel.path, new)
        os.rename(new, path)
    return path


def write_pip(folder: str) -> None:
    """The command `pip` of an environment whose pip stands in the image: it installs here, not there."""
    path = os.path.join(folder, "bin", "pip")
    with open(path, "w", encoding="utf-8") as file:
        file.write(PIP)
    os.chmod(path, 0o755)


def make_relocatable(folder: str) -> None:
    """Let the environment's scripts, also those to come, find the Python that stands beside them."""
    configuration = os.path.join(folder, "pyvenv.cfg")
    with open(configuration, encoding="utf-8") as file:
        text = file.read()
    if "relocatable" not in text:
        with open(configuration, "a", encoding="utf-8") as file:
            file.write("relocatable = true\n")  # read by uv when it writes scripts
    scripts = os.path.join(folder, "bin")
    for name in os.listdir(scripts):
        if re.fullmatch(r"pip(-?\d+(\.\d+)?)?", name):
            with open(os.path.join(scripts, name), "w", encoding="utf-8") as file:
                file.write(PIP)
