"""Conda environments, by rattler (the extra `conda`) or the user's own conda; what is of pip goes into them by uv."""

from __future__ import annotations

import glob
import json
import os
import re

from agentpipe import errors, files, paths, trees, units
from agentpipe.crash import crash_point
from agentpipe.environment import conda_files, installed
from agentpipe.environment.installers import conda_failures, conda_program, uv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from agentpipe.environment.conda_files import Wanted
    from agentpipe.environment.installers.policy import Policy
    from agentpipe.environment.pins import Pin
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

NAME = "conda"
UNSET = "***unset***"  # what conda writes for a variable that was taken back


def interpreter(job: Job, asked: Requirements) -> dict[str, Any]:
    """What stands for the interpreter in the cache's key: conda brings its own, of the version that is wanted."""
    import sys

    from agentpipe.environment import interpreters
    wish = interpreters.wanted(job)
    version = wish if re.fullmatch(r"3(\.\d+)*", wish) else "{}.{}".format(*sys.version_info[:2])
    return {"executable": _program(job) or "conda", "version": version, "implementation": "CPython",
            "platform": platform()}


def platform() -> str:
    """This machine as conda calls it ("linux-64")."""
    import platform as machine
    names = {"x86_64": "64", "aarch64": "aarch64", "ppc64le": "ppc64le"}
    return f"linux-{names.get(machine.machine(), machine.machine())}"


def create(job: Job, wish: dict[str, Any], folder: str, asked: Requirements) -> tuple[bool, list[Pin]]:
    """A conda prefix in `folder`, on the host: (whether it has pip, its packages as pins).

    Packages of a pip list that the channels do not know are moved to the list for pip. Failure 65, 66 or 69.
    """
    program = _program(job)
    found = _by_program(job, program, wish, folder, asked) if program else _by_rattler(job, wish, folder, asked)
    crash_point("env:conda")
    _without_logins(folder)
    names = {pin["name"] for pin in found}
    if "python" not in names:
        raise errors.Failure("the conda environment has no python", errors.BAD_DATA,
                             remedy="add python to its dependencies")
    return "pip" in names, found


def _without_logins(prefix: str) -> None:
    """Take the channels' logins out of what the prefix says of its packages: it may be carried elsewhere."""
    for path, record in conda_program.records(prefix):
        bare = {key: conda_files.shown(str(record[key])) for key in ("url", "channel") if record.get(key)}
        if {**record, **bare} != record:
            files.publish(os.path.join(prefix, path), json.dumps({**record, **bare}).encode())


def _program(job: Job) -> str:
    """The user's own conda; "" for rattler, which alone runs nothing of the packages: what a container asks for is
    installed on the host as well."""
    from agentpipe.place import apart
    return "" if apart.folder(job) else conda_program.named()


def _by_rattler(job: Job, wish: dict[str, Any], folder: str, asked: Requirements) -> list[Pin]:
    from agentpipe.environment.installers import rattler_work
    records = solved(job, asked, wish)
    assert asked.conda is not None
    found = [{"name": record.name.normalized, "version": str(record.version), "build": str(record.build),
              "source": conda_files.shown(record.url), "conda": True,
              **({"sha256": record.sha256.hex()} if record.sha256 else {})} for record in records]
    for pin in found:
        _compare(pin, asked.conda)
    size = sum(record.size or 0 for record in records)
    job.say(f"installing {len(records)} conda packages{units.told(size, ', ')}")
    try:
        rattler_work.install(job, records, folder, set())
        damaged = installed.cut_short(folder)
        if damaged:  # it links what it has, and does not look into that
            job.say(f"fetching anew what was damaged when the machine went down: {', '.join(sorted(damaged))}")
            for name in damaged:
                for path in glob.glob(os.path.join(glob.escape(paths.cache("conda")), glob.escape(name) + "*")):
                    trees.discard(path)
            rattler_work.install(job, records, folder, {name.rsplit("-", 2)[0] for name in damaged})
    except errors.Failure:
        raise
    except Exception as error:
        raise conda_failures.explained(error, asked.conda) from None
    return found


def _by_program(job: Job, program: str, wish: dict[str, Any], folder: str, asked: Requirements) -> list[Pin]:
    assert asked.conda is not None
    specs = _specs(asked, wish)
    while True:
        try:
            found = conda_program.create(job, program, asked.conda, specs, folder)
            for pin in found:
                _compare(pin, asked.conda)
            return found
        except conda_program.Missing as missing:
            names = sorted(missing.names & set(asked.conda.soft))
            if not names:
                raise
            for name in names:
                specs = _without(job, asked, specs, name)


def build(job: Job, folder: str, wish: dict[str, Any], asked: Requirements,
          policy: Policy) -> tuple[dict[str, Any], list[Pin]]:
    """Fill `folder`, the pip part by uv: (the interpreter that it has now, what is installed as pins)."""
    from agentpipe.environment import installers, interpreters, pins
    from agentpipe.environment.installers import ways
    from agentpipe.place import apart
    with apart.still(job):  # we write there ourselves, and are led nowhere
        if apart.folder(job):
            os.mkdir(folder, 0o755)  # anew, whatever stands there
        has_pip, found = create(job, wish, folder, asked)
        if apart.folder(job):
            trees.unlink_shared(folder)  # what the container writes there is not the cache's
    python = os.path.join(folder, "bin", "python")
    interpreter = interpreters.described(job, python)
    if interpreter is None:
        raise errors.Failure("the python of the conda environment does not start", errors.BAD_DATA,
                             remedy=f"see what {python} says")
    pip = "" if has_pip else installers.pip_requirement(interpreter["version"])
    policy.system = True  # what conda has installed counts as there
    by_pip = ways.install(job, folder, asked, policy, uv, pip)
    own = installed.packages(folder, asked.names(), but_by="conda")
    return interpreter, [*found, *pins.matching(by_pip, own)]  # type: ignore[list-item]


def variables(prefix: str, within: Sequence[str] = ()) -> dict[str, str]:
    """What activation sets: of conda itself, what stands in files of the prefix, and of the packages that have a script
    for it, which are run behind the words `within`: where a container can write them, in that container."""
    import shlex
    import subprocess
    found = {"CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": prefix, "CONDA_SHLVL": "1", **_recorded_variables(prefix)}
    folder = os.path.join(prefix, "etc", "conda", "activate.d")
    scripts = sorted(name for name in os.listdir(folder) if name.endswith(".sh")) if os.path.isdir(folder) else []
    if not scripts:
        return found
    before = {"PATH": f"{prefix}/bin:/usr/local/bin:/usr/bin:/bin", **found}
    text = "".join(f". {shlex.quote(os.path.join(folder, name))} >/dev/null 2>&1; " for name in scripts)
    try:
        pairs = [f"{name}={value}" for name, value in before.items()]
        done = subprocess.run([*within, "env", "-i", *pairs, "bash", "-c", text + "env -0"], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=60, check=False)
        said = done.stdout.decode("utf-8", "surrogateescape")
    except (OSError, subprocess.TimeoutExpired):
        return found
    told = (entry.partition("=")[::2] for entry in said.split("\0") if "=" in entry)
    more = {name: value for name, value in told if before.get(name) != value}
    return {**found, **{name: value for name, value in more.items() if name not in ("PATH", "_", "SHLVL", "PWD")}}


def _recorded_variables(prefix: str) -> dict[str, str]:
    """The variables of packages, and of the environment itself (`conda env config vars`), that stand in files of a
    prefix. What is no such file says nothing.

    https://docs.conda.io/projects/conda/en/stable/dev-guide/deep-dives/activation.html
    """
    found: dict[str, str] = {}
    of_packages = sorted(glob.glob(os.path.join(glob.escape(prefix), "etc", "conda", "env_vars.d", "*.json")))
    for path in (*of_packages, os.path.join(prefix, "conda-meta", "state")):
        try:
            told = json.loads(files.list_of_task(path))
            told = told if path in of_packages else told["env_vars"]
            found |= {name: value for name, value in told.items() if isinstance(value, str) and value != UNSET
                      and re.fullmatch(r"[^=\0]+", name) and "\0" not in value}
        except (OSError, errors.Failure, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found


def solved(job: Job, asked: Requirements, wish: dict[str, Any]) -> list[Any]:
    """The records of what the conda part comes to; pip lines that no channel knows join the list for pip."""
    from agentpipe.environment.installers import rattler_work
    rattler, wanted = _rattler(), asked.conda
    assert wanted is not None
    specs = _specs(asked, wish)
    channels = [rattler.Channel(each) for each in conda_files.all_channels(wanted.channels, specs)]

    def solve(asked_for: list[str]) -> list[Any]:
        # as text they would be read more strictly: name=1.2=build not at all
        parsed = [rattler.MatchSpec(spec) for spec in asked_for]
        return rattler_work.solve(job, channels, parsed, platforms=[wish["platform"], "noarch"],
                                  virtual_packages=_virtual())

    def newest(name: str) -> str:
        try:
            found = next((record for record in solve([name]) if record.name.normalized == name), None)
        except Exception:  # none at all, or none that can be installed
            return ""
        return f"{name}={found.version}" if found else ""
    while True:
        try:
            return solve(specs)
        except errors.Failure:
            raise
        except Exception as error:
            missing = re.search(r"(?:No candidates were found for|nothing provides) ([A-Za-z0-9._-]+)", str(error))
            name = missing[1] if missing else ""
            if name not in wanted.soft:
                raise conda_failures.explained(error, wanted, newest(name) if name else "") from None
            specs = _without(job, asked, specs, name)


def _specs(asked: Requirements, wish: dict[str, Any]) -> list[str]:
    """What is asked of conda, with the Python that is wanted, and pip where it has work."""
    wanted = asked.conda
    assert wanted is not None
    specs = [f"{pin['name']}=={pin['version']}={pin['build']}" for pin in wanted.exact] or list(wanted.specs)
    if not any(map(conda_files.PYTHON.match, specs)):
        specs.append(f"python={wish['version']}")
    if not wanted.exact and asked.file_text() and not any(re.match(r"pip($|[<>=!~])", spec) for spec in specs):
        wanted.soft.setdefault("pip", "")
        specs.append("pip")
    return specs


def _without(job: Job, asked: Requirements, specs: list[str], name: str) -> list[str]:
    """The specs without one that no channel knows; its line goes to pip."""
    from agentpipe.environment.requirement_lines import Reader
    assert asked.conda is not None
    line = asked.conda.soft.pop(name)
    if line:
        job.say(f"{name} is not in the conda channels as it is asked for: by pip")
        Reader(asked, [asked.code]).read([line], asked.conda.origin)
    return [spec for spec in specs if not re.match(rf"{re.escape(name)}($|[\s<>=!~])", spec)]


def deciding() -> list[str]:
    """What conda's solver sees of this machine (its virtual packages), for the cache's key: kernels come and go."""
    told = (f"{name}={value}" for name, value in os.environ.items() if name.startswith("CONDA_OVERRIDE_"))
    # the C library counts for every environment
    return [f"__cuda {cuda()}", f"__archspec {_level()}", *sorted(told)]


def cuda() -> str:
    """CONDA_OVERRIDE_CUDA, else this machine's CUDA as configured, or its driver's; "" without one."""
    from agentpipe.environment import torch_backend
    told = os.environ.get("CONDA_OVERRIDE_CUDA")
    found = torch_backend.cuda()
    return told if told is not None else f"{found // 10}.{found % 10}" if found else ""


def _level() -> int:
    """The level of an x86-64 (1 to 4) by its flags; 0 elsewhere. https://gitlab.com/x86-psABIs/x86-64-ABI"""
    levels = ({"cx16", "popcnt", "sse4_2", "ssse3"}, {"avx2", "bmi1", "bmi2", "fma", "movbe"},
              {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = set(next(line for line in file if line.startswith("flags")).split())
    except (OSError, StopIteration):
        return 0
    return 1 + next((number for number, wanted in enumerate(levels) if not wanted <= flags), len(levels))


def _virtual() -> list[Any]:
    """This machine to conda's solver."""
    import rattler
    found = [each.into_generic() for each in rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env())]
    found = [each for each in found if each.name.normalized != "__cuda"]
    if driver := cuda():
        version, build = rattler.Version(driver), rattler.BuildString("0")
        found.append(rattler.GenericVirtualPackage(rattler.PackageName("__cuda"), version, build))
    return found


def _compare(found: Pin, wanted: Wanted) -> None:
    pin = next((pin for pin in wanted.exact if pin["name"] == found["name"]), None)
    if pin and pin.get("sha256") and found.get("sha256") and found["sha256"] != pin["sha256"]:
        raise errors.Failure(f"{pin['name']}: the file in the channel is not the one whose hash was recorded",
                             errors.BAD_DATA, remedy=f"find out who replaced {pin['name']}, or record its new hash")


def is_installed() -> bool:
    """Whether the extra `conda` is there."""
    import importlib.util
    return importlib.util.find_spec("rattler") is not None


def _rattler() -> Any:
    try:
        import rattler
    except ImportError:
        raise errors.Failure("this task wants a conda environment, and the conda extra is not installed",
                             errors.UNAVAILABLE, remedy="pip install 'agentpipe[conda]' beside the agent, or name a "
                                                        "conda of yours in AGENT_CONDA") from None
    return rattler
