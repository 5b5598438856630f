"""What uv says of packages that are for another Python, or cannot be built for this one."""

from __future__ import annotations

import re

from agentpipe import errors
from agentpipe.environment.installers import uv_words
from agentpipe.urls import without_credentials

# lines of a build that say why it failed, whatever comes after them
CAUSES = re.compile(r"fatal error: |cannot find -l|^error in \S+ setup command: ")
TOOLS = r"gcc|g\+\+|cc|c\+\+|clang|gfortran|nvcc|cmake|make|ninja|cargo|rustc|swig|git"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job


def python_of(folder: str) -> str:
    """The version of an environment's Python, by its own record."""
    try:
        with open(f"{folder}/pyvenv.cfg", encoding="utf-8") as file:
            found = re.search(r"^version(?:_info)? = (\d+\.\d+\.\d+)", file.read(), re.M)
    except OSError:
        return ""
    return found[1] if found else ""


def wrong_python(job: Job, said: str, requirements: Requirements, python: str) -> errors.Failure | None:
    """A package that has nothing for this Python, or wants another one."""
    this = re.search(r"Using (?:CPython |Python )?([\d.]+)", said)
    here = this[1] if this else python or "another one"
    owner = uv_words.named("owner")
    found = (re.search(rf"does not satisfy Python(?P<needs>[<>=!~][^\s]+[^\s,]) and {owner} depends on", said)
             or re.search(rf"Because {owner} requires Python (?P<needs>[<>=!~][^\s]+)", said))
    if found:
        lowest = re.match(r">=\s*(\d+\.\d+)", found["needs"])
        needs = found["needs"].rstrip(",")
        python = f"set the task's binary to python{lowest[1]}" if lowest else f"use a Python{needs}"
        reason = f"{found['owner']} needs Python{needs}, this is {here}"
        fitting = [needs]
    else:
        found = re.search(rf"{owner} has no (?:usable )?wheels", said)
        if not found:
            return None
        built_for = sorted({int(minor) for minor in re.findall(r"`cp3(\d+)\w?`", said.partition("we only found")[2])})
        foreign = _for_other_systems(said, found["owner"], requirements)
        if foreign:
            return foreign
        python = f"set the task's binary to python3.{built_for[-1]}" if built_for else "use another Python"
        reason = f"{found['owner']} has no build for this Python ({here}) and platform"
        fitting = [f"==3.{minor}.*" for minor in reversed(built_for)]
    name = re.split(r"[<>=!~]", found["owner"])[0]
    line = uv_words.line_of(name, requirements)
    there = _python_there(job, fitting)
    return errors.Failure(reason, errors.NOT_FOUND, change=("--python", there) if there else uv_words.any_version(line),
                          remedy=f"{python}, or ask for another version than '{line}' in the requirements")


def _for_other_systems(said: str, owner: str, requirements: Requirements) -> errors.Failure | None:
    """A package that there is for Windows or macOS alone (pywin32, in a list that was recorded there)."""
    found = re.search(r"Wheels are available for `([^`]+)` \([^)]*\) on the following platforms?: ((?:`\w+`(?:, )?)+)",
                      said)
    tags = re.findall(r"`(\w+)`", found[2]) if found else []
    if not found or not all(re.match(r"win|macosx", tag) for tag in tags):
        return None
    line = uv_words.line_of(found[1], requirements)
    systems = " and ".join(sorted({"Windows" if tag.startswith("win") else "macOS" for tag in tags}))
    own = any(uv_words.is_about(found[1], each) for each in requirements.packages)
    return errors.Failure(f"{owner} is for {systems} alone", errors.NOT_FOUND,
                          change=("--drop-package", line) if own else (),
                          remedy=f"take '{line}' out of the requirements" if own else
                          f"ask for another version of what needs {found[1]} in the requirements")


def _python_there(job: Job, ranges: list[str]) -> str:
    """The version, to its second number, of a Python of this machine that is in one of these ranges; "" for none."""
    from agentpipe.environment import discovery
    if job.prefix or not ranges:  # an image has one only
        return ""
    every = sorted((each["version"] for each in discovery.every()), key=lambda text: [*map(int, text.split("."))])
    fits = (version for wish in ranges for version in every if discovery.in_range(version, wish))
    return ".".join(next(fits, "").split(".")[:2])


def build_needs(said: str, requirements: Requirements) -> errors.Failure | None:
    """A source whose build asks for what the indexes do not have: the task's own list is not to blame."""
    found = re.search(r"Failed to \w+ requirements from `[^`]*`.*?cause: (?:.*cause: )?(?:Because )?(.*)", said)
    if not found or "No solution found" not in said:
        return None
    built = re.search(r"Failed to (?:download and )?build `([^`@\s]+)", said)
    why = re.split(r",? we can conclude| hint: ", found[1])[0].strip().rstrip(".,")
    remedy, change = "name the index that has it in PIP_EXTRA_INDEX_URL", tuple[str, ...]()
    if built:
        line = uv_words.line_of(re.split(r"[<>=!~]", built[1])[0], requirements)
        remedy = f"ask for a version that has wheels for this Python in '{line}', or {remedy}"
        change = uv_words.without_pin(line)
    what = f"{built[1] if built else 'the project'} cannot be built here, its build needs what is not in the indexes"
    why = why.replace("you require", "it requires")
    return errors.Failure(f"{what}: {why}"[:400], errors.BAD_DATA, remedy=remedy, change=change)


def not_built(job: Job, output: str, folder: str, requirements: Requirements) -> errors.Failure | None:
    """A source that does not build here."""
    said = uv_words.plain(output)
    found = re.search(r"Failed to (?:download and )?build `([^`@\s]+)", said)
    if not found:
        return None
    name = re.split(r"[<>=!~]", found[1])[0]
    line = uv_words.line_of(name, requirements)
    hint = re.search(r"Did you mean to install `([^`]+)`", said)
    module = re.search(r"ModuleNotFoundError: No module named '([^']+)'", said)
    remedy = (f"replace '{line}' by '{hint[1]}' in the requirements" if hint else
              f"ask for a version of {name} that has wheels for this Python, "
              + (f"or one whose build declares {module[1]}" if module else f"or install {_missing(said)} here"))
    if "git+" in line and "does not appear to be a Python project" in said:
        remedy = f"name the repository that has it, or its folder there (#subdirectory=FOLDER), in '{line}'"
    change = uv_words.replacing(line, hint[1]) if hint else uv_words.without_pin(line)
    if module and (brings := _brings(module[1], name, requirements)):
        remedy, change = f"ask for {brings} as well, which its build imports; or {remedy}", ("--package", brings)
    older, is_here = ("", False) if hint or "==" not in found[1] else _older(job, found[1], folder, requirements)
    if older:
        remedy = f"give the task Python {older}, for which {found[1]} has wheels; or {remedy}"
        change = ("--python", older) if is_here else change
    return errors.Failure(f"{found[1]} cannot be built here: {uv_words.cause(said)}{_printed(output)}", errors.BAD_DATA,
                          remedy=remedy, change=change)


def _brings(module: str, name: str, requirements: Requirements) -> str:
    """The package of a module that a build imports, where the list lacks it: then what is built comes after the rest,
    with that in sight. "" where what is built is no package of the list itself."""
    from agentpipe.environment import package_names
    from agentpipe.environment.requirements import normalised
    package, names = package_names.of_module(module), requirements.names()
    return package if package and normalised(name) in names and normalised(package) not in names else ""


def _missing(said: str) -> str:
    """What a build lacks here, by the words of a compiler, a linker, or who did not find them."""
    tool = re.search(rf"No such file or directory: '({TOOLS})'|command '({TOOLS})' failed: No such", said)
    part = re.search(r"fatal error: (\S+?): No such file|cannot find (-l[^\s:]+)", said)
    if tool:
        return tool[1] or tool[2]
    return f"what has {part[1] or part[2]}" if part else "what its build needs"


def _printed(output: str) -> str:
    """" (its last words: …)": the last line that the build itself printed, as uv quotes it; of a compiler what it
    lacks, and not the command that comes after."""
    said = re.sub(r"\x1b\[[0-9;]*m", "", uv_words.readable(output))
    quoted = re.split(r"^[ \t]*\[(?:stderr|stdout)\][ \t]*$", said, flags=re.MULTILINE)[1:]
    # what it quotes is indented: an `error: ` there is the build's own
    ends = (re.split(r"^(?:[ \t]*(?:hint: |×|[├╰]─▶|cause: )|error: )", text, flags=re.MULTILINE)[0].split("\n")
            for text in reversed(quoted))
    lines = [line.strip() for text in ends for line in reversed(text) if re.search(r"\w", line)]
    lines = [line for line in lines if CAUSES.search(line)] or lines
    return f" (its last words: {without_credentials(lines[0])[:200]})" if lines else ""


def _older(job: Job, wish: str, folder: str, requirements: Requirements) -> tuple[str, bool]:
    """(an older Python for which there are wheels of a version, whether this machine has it); ("", False) for none."""
    from agentpipe.environment import discovery
    from agentpipe.environment.installers import uv_questions
    this = int((python_of(folder) or "3.0").split(".")[1])
    # in a place its image decides
    there = set() if job.prefix else {int(each["version"].split(".")[1]) for each in discovery.every()}
    minors = range(this - 1, discovery.OLDEST[1] - 1, -1)
    for minor in sorted(minors, key=lambda minor: minor not in there):
        if uv_questions.has_wheel(job, f"3.{minor}", wish, requirements):
            return f"3.{minor}", minor in there
    return "", False
