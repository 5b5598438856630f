"""agent-task script: a task as a plain sh script, for a machine that has git, uv and sh and none of this."""

from __future__ import annotations

import posixpath
import re
import shlex

from agentpipe import cells, errors, secrets, stdio
from agentpipe.task import entry_words, params, sources
from agentpipe.transport import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agentpipe.task.sources import Source

# code cells of a notebook, without its magics
NOTEBOOK = """import json, sys
cells = json.load(open(sys.argv[1]))["cells"]
code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
lines = [line for line in "\\n\\n".join(code).split("\\n") if not line.lstrip().startswith(("%", "!"))]
open(sys.argv[2], "w").write("\\n".join(lines) + "\\n")"""

# what is there and of another kind goes first
REPLACED = """(cd "$work/files" && find . -exec sh -c '
  if [ -L "$1" ] || [ ! -d "$1" ]; then rm -rf "$2/$1"
  elif [ -L "$2/$1" ] || [ ! -d "$2/$1" ]; then rm -f "$2/$1"
  fi' - {} "$work/code" \\;)
cp -RP "$work/files/." .
"""


def script(word: str) -> None:
    """Print the script of a task, or of the manifest or receipt in a file."""
    from agentpipe.code import bundle
    from agentpipe.task import bundle_diffs
    server = None if sources.is_file(word) else api.connect()
    source = sources.of(server, word)
    brought = bundle.of(source.task)
    parts = bundle_diffs.as_diffs(server or api.connect(), brought) if brought else {}
    stdio.put(text(source, parts).encode("utf-8", "surrogateescape"))


def text(source: Source, brought: Mapping[str, str] | None = None) -> str:
    """The whole script; `brought` are the diffs that make what the task brings along (bundle_diffs.py)."""
    from agentpipe.code.bundle import FILES
    from agentpipe.code.entry import is_python
    entry = Entry(source)
    python = is_python(source.script.get("binary") or "python") and not entry.is_shell
    brought = brought or {}
    commits = {key: diff for key, diff in brought.items() if key != FILES}
    parts = [_head(source), _code(source, commits), _changes(source, entry), _files(brought.get(FILES)), entry.folder()]
    if python:
        parts += [_environment(source, entry), entry.converted()]
    parts.append(entry.run(source, python))
    return "\n".join(part for part in parts if part)


class Entry:
    """What is run, and where."""

    def __init__(self, source: Source) -> None:
        from agentpipe.run import launch
        self.words = entry_words.needed(source.task)
        try:
            self.program = shlex.split(source.script.get("binary") or "")
        except ValueError as error:
            raise errors.Failure(f"the task's binary cannot be split into words: {error}", errors.BAD_DATA) from None
        self.directory = posixpath.normpath(source.script.get("working_dir") or ".")
        self.is_shell = (posixpath.basename((self.program or [""])[0]) in launch.SHELLS
                         or (not self.program and self.words[0].endswith((".sh", ".bash"))))

    def lists(self) -> list[str]:
        """Where requirements.txt may stand, from the top of the code down to the script."""
        inside = "" if self.words[0].startswith("-") else posixpath.dirname(self.words[0])
        place = posixpath.normpath(posixpath.join(self.directory, inside))
        steps = [step for step in (self.directory if place.startswith("..") else place).split("/") if step != "."]
        return [posixpath.join(*steps[:count], "requirements.txt") for count in range(len(steps) + 1)]

    def folder(self) -> str:
        """Into the working directory."""
        return "" if self.directory == "." else f"cd {shlex.quote(self.directory)}\n"

    def converted(self) -> str:
        """A notebook as a script."""
        if not self.words[0].endswith(".ipynb"):
            return ""
        notebook, name = shlex.quote(self.words[0]), self.words[0].removesuffix(".ipynb") + ".py"
        self.words = [name, *self.words[1:]]
        return (f"# the notebook's code\n\"$work/env/bin/python\" - {notebook} {shlex.quote(name)} <<'PYTHON'\n"
                f"{NOTEBOOK}\nPYTHON\n")

    def run(self, source: Source, python: bool) -> str:
        """The last command: its exit status is the script's."""
        lines = ["# the script"]
        named = [_comment(each) for each in params.each(source.task)]
        if named:
            lines += ["# of its hyperparameters (which a script with the clearml package reads from the task):",
                      *(f"#   {line}" for line in named)]
        if python:
            folder = posixpath.dirname(self.words[0]) if not self.words[0].startswith("-") else ""
            path = '"$PWD' + (f':$PWD"/{shlex.quote(folder)}' if folder else '"')
            lines += [f"export PYTHONPATH={path} PYTHONUNBUFFERED=1"]
            if any(re.match(r"clearml\b", line) for line in source.packages):
                lines += ["# a run of its own, that no server sees",
                          'export CLEARML_OFFLINE_MODE="${CLEARML_OFFLINE_MODE-1}"']
            program = '"$work/env/bin/python"'
            options = self.program[1:]
        else:
            program, options = shlex.quote((self.program or ["bash"])[0]), self.program[1:]
        words = [*options, *self.words]
        shown = [secrets.shown(word) for word in words]
        if shown != words:
            lines += ["# left out are the logins and tokens of these addresses: put them in again",
                      *(f"#   {_comment(word)}" for word, whole in zip(shown, words, strict=True) if word != whole)]
        lines.append("exec " + " ".join([program, shlex.join(shown)]) + " </dev/null")
        return "\n".join(lines) + "\n"


def _comment(text: Any) -> str:
    """What a task says, on one line, without logins and what a terminal would obey."""
    return cells.plain(secrets.shown(str(text)))


def _head(source: Source) -> str:
    task, end = source.task, source.end
    id, name = map(_comment, (task.get("id") or "by-hand", task.get("name") or ""))
    lines = ["#!/bin/sh", f"# Task {id} ({name}), with the code, changes, packages and arguments that it has."]
    if end.get("class"):
        lines.append("# " + _comment(f"It ended as {end['class']}, exit {end.get('exit')}."))
    image = (task.get("container") or {}).get("image")
    if image:
        lines += _left_out(task["container"], image, f"task-{shlex.quote(id[:8])}.sh")
    lines += [f"# Needs git, uv and sh:  sh task-{shlex.quote(id[:8])}.sh [NEW-DIRECTORY]", "set -eu",
              f"work=${{1:-task-{shlex.quote(id[:8])}}}", 'mkdir "$work"', 'cd "$work"', "work=$PWD", ""]
    return "\n".join(lines)


def _left_out(container: dict[str, Any], image: str, script: str) -> list[str]:
    """Comments that say what of a container a plain script does not do, and how to do it by hand."""
    left = ["the image's own packages and Python"]
    left += ["its arguments of docker run"] if container.get("arguments") else []
    left += ["its set-up script"] if container.get("setup_shell_script") else []
    named = _comment(image)
    said = [f"# It asks for the container image {named}. This runs on the machine as it is, without {', '.join(left)}."]
    if image.startswith(("/", "~", "./")) or image.endswith(".sif"):  # a file of a place without a daemon
        return said
    return [*said,
            f'# In an image that has git and uv as well:  docker run --rm -it -v "$PWD:/w" -w /w {named} sh {script}']


def _code(source: Source, commits: Mapping[str, str]) -> str:
    """`commits` are the diffs that make bundles of commits, by their artefacts' keys."""
    script = source.script
    repository, commit = script.get("repository"), source.pins.get("commit") or script.get("version_num")
    if not repository:
        return "mkdir code\ncd code\n"
    from agentpipe.code.bundle import COMMITS, file_name
    from agentpipe.urls import without_credentials
    lines = ["# the code"]
    if repository.startswith(("/", "file:")):
        lines.append("# (the repository is on the machine that made the task)")
    ref = script.get("tag") or script.get("branch")
    where = f"-- {shlex.quote(without_credentials(repository))} code"
    lines += ["# (with commits that were not pushed)"] if commits else []
    lines += [_document('GIT_CEILING_DIRECTORIES="$work" git apply -', diff).rstrip("\n") for diff in commits.values()]
    if commit:
        commit = shlex.quote(commit)
        brought = f'git fetch --quiet "$work/{file_name(COMMITS)}" "+refs/*:refs/brought/*"'
        lines += [f"git clone --quiet --no-checkout {where}", "cd code", *([brought] if COMMITS in commits else []),
                  f"git checkout --quiet --detach {commit} 2>/dev/null ||",
                  f"  {{ git fetch --quiet origin {commit} && git checkout --quiet --detach FETCH_HEAD; }}"]
    else:
        lines += ["# (its commit was never recorded: this takes the newest)",
                  "git clone --quiet " + (f"--branch {shlex.quote(ref)} " if ref else "") + where, "cd code"]
    return "\n".join([*lines, *_submodules([file_name(key) for key in commits if key != COMMITS]), ""])


def _submodules(bundles: list[str]) -> list[str]:
    """Lines that check out the submodules; each of the bundles has commits of one of them, at any depth."""
    update = "git submodule --quiet update --init --recursive"
    if not bundles:
        return [f"[ ! -f .gitmodules ] || {update}"]
    each = "  git submodule --quiet foreach --recursive"
    fetched = [f"""{each} 'git fetch --quiet "$work/{name}" "+refs/*:refs/brought/*" 2>/dev/null || :'"""
               for name in bundles]
    # a submodule that misses its commit is there to fetch it into, one in it only after that
    return ["export work", f"for each in {' '.join(map(str, range(len(bundles))))}; do",
            f"  {update} 2>/dev/null || :", *fetched, "done", update]


def _files(files: str | None) -> str:
    """Made elsewhere first: they take the place of what is there, which git would not touch."""
    if not files:
        return ""
    apply = 'GIT_CEILING_DIRECTORIES="$work" git apply --whitespace=nowarn -'
    make = f'mkdir "$work/files" && (cd "$work/files" && {apply})'
    return f"# files that git did not know\n{_document(make, files)}{REPLACED}"


def _changes(source: Source, entry: Entry) -> str:
    from agentpipe.code import diff, submodule_changes
    kind, found = diff.of(source.script)
    if kind == "none":
        return ""
    if kind == "patch":
        gone = [path for path, commit in submodule_changes.named(found).items() if not commit]
        # git refuses what is no submodule, and what lies behind a link
        removed = shlex.join(["git", "submodule", "--quiet", "deinit", "--force", "--", *gone]) + "\n" if gone else ""
        return f"# what was not committed\n{removed}" + _document("git apply --whitespace=nowarn -", found)
    name = entry.words[0]
    if name.startswith("-"):
        raise errors.Failure("the task's script is its diff, but its entry point names no file", errors.BAD_DATA)
    whole = posixpath.normpath(posixpath.join(entry.directory, name))
    path, made = shlex.quote(whole), posixpath.dirname(whole)
    mkdir = f"mkdir -p -- {shlex.quote(made)}\n" if made else ""
    if source.script.get("repository"):
        # the repository's own file counts more
        return f"# the script\n{mkdir}[ -e {path} ] ||\n" + _document(f"cat >{path}", found)
    return f"# the script\n{mkdir}" + _document(f"cat >{path}", found)


def _document(line: str, content: str) -> str:
    """A here-document: its end is no line of the content. What sh cannot carry is refused."""
    if "\0" in content:
        raise errors.Failure("the task's diff has a NUL byte, which no shell script can carry", errors.BAD_DATA)
    end = "END"
    while f"\n{end}\n" in f"\n{content}\n":
        end += "_"
    return f"{line} <<'{end}'\n{content}" + ("" if content.endswith("\n") else "\n") + f"{end}\n"


def _environment(source: Source, entry: Entry) -> str:
    from agentpipe.urls import without_credentials
    lines = [*_python(source), "# the packages"]
    install = 'uv pip install --quiet --python "$work/env/bin/python"'
    if source.of_conda:
        lines.append(f"# left out are those that conda has installed: {', '.join(map(_comment, source.of_conda))}")
    packages = [without_credentials(line) for line in source.packages if line not in source.of_conda]
    if packages:
        exact = " --no-deps" if source.installed else ""
        asked, whence = _indexes(source)
        document = _document(f"{whence}{install}{exact}{asked} -r -", "\n".join(packages))
        return "\n".join(lines) + "\n" + document
    if source.script.get("repository") and not source.installed and not sources.records_any(source.script):
        # as an agent would: every list from the top down to the script
        found = [f'"$work/code/"{shlex.quote(path)}' for path in entry.lists()]
        lines += ["set --", *(f'[ ! -f {path} ] || set -- "$@" -r {path}' for path in found),
                  f'[ $# -eq 0 ] || {install} "$@"']
    return "\n".join(lines) + "\n"


def _indexes(source: Source) -> tuple[str, str]:
    """(words of uv for the indexes that the task names, a comment with the hosts that no word names)."""
    from urllib.parse import urlsplit

    from agentpipe.urls import without_credentials
    named = [(option, without_credentials(place)) for option, place in sources.indexes(source)
             if "://" in place or option == "--allow-insecure-host"]  # a folder is another machine's
    last = [place for option, place in named if option == "--index-url"][-1:]
    words = [word for option, place in named if option != "--index-url" or [place] == last for word in (option, place)]
    if any("index-url" in word for word in words):
        words += ["--index-strategy", "unsafe-best-match"]  # as pip does it, and an agent
    files = [str(pin.get("source")) for pin in source.pins.get("packages") or () if isinstance(pin, dict)
             and not pin.get("conda") and not pin.get("direct")]
    torch = next(filter(None, (re.search(r"download\.pytorch\.org/whl/(\w+)/", file) for file in files)), None)
    if torch:
        words += ["--torch-backend", torch[1]]
    known = {urlsplit(place).netloc for _, place in named}
    hosts = sorted({urlsplit(file).netloc for file in files if file.startswith(("http://", "https://"))
                    and not re.search(r"download\.pytorch\.org/whl/", file)} - known)
    whence = f"# from {', '.join(map(_comment, hosts))} (where uv asks: UV_DEFAULT_INDEX, UV_INDEX)\n" if hosts else ""
    return "".join(f" {shlex.quote(word)}" for word in words), whence


def _python(source: Source) -> list[str]:
    """Lines that make the environment: with the task's own Python, else another one of its version that is there.

    uv sees only what is on PATH, and would fetch exactly that version.
    """
    version = source.pins.get("python") or _version(source.script.get("binary") or "")
    make, env = "uv venv --quiet", '"$work/env"'
    minor = re.match(r"\d+\.\d+", version)
    choice = list(dict.fromkeys(filter(None, (source.python, version, minor and minor[0]))))
    if not minor or len(choice) < 2:
        python = f"--python {shlex.quote(choice[0])} " if choice else ""
        return ["# its Python", f"{make} {python}{env}"]
    return ["# its Python, or one like it that is there", f"for each in {shlex.join(choice)}; do",
            f'  if UV_PYTHON_DOWNLOADS=never {make} --python "$each" {env} 2>/dev/null; then break; fi', "done",
            f'[ -x "$work/env/bin/python" ] || {make} --python {minor[0]} {env}']


def _version(binary: str) -> str:
    found = re.search(r"python(\d+(?:\.\d+)*)", binary)
    return found[1] if found else ""
