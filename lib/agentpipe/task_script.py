"""agent-task script: a task as a plain sh script, for a machine that has git, uv and sh and none of this."""

from __future__ import annotations

import posixpath
import re
import shlex

from agentpipe import api, command, errors, task_bundle, task_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agentpipe.task_source import Source

# code cells of a notebook, without its magics
NOTEBOOK = """import json, sys
cells = json.load(open(sys.argv[1]))["cells"]
code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
lines = [line for line in "\\n\\n".join(code).split("\\n") if not line.lstrip().startswith(("%", "!"))]
open(sys.argv[2], "w").write("\\n".join(lines) + "\\n")"""


def script(word: str) -> None:
    """Print the script of a task, or of the manifest or receipt in a file."""
    import os

    from agentpipe import bundle
    server = None if os.path.isfile(word) else api.connect()
    source = task_source.of(server, word)
    brought = bundle.of(source.task)
    parts = task_bundle.as_diffs(server or api.connect(), brought) if brought else {}
    command.put(text(source, parts).encode("utf-8", "surrogateescape"))


def text(source: Source, brought: Mapping[str, str] | None = None) -> str:
    """The whole script; `brought` are the diffs that make what the task brings along (task_bundle.py)."""
    from agentpipe import requirements
    entry = Entry(source)
    python = requirements.is_python(source.script.get("binary") or "python") and not entry.is_shell
    brought = brought or {}
    parts = [_head(source), _code(source, brought.get(task_bundle.COMMITS)), _changes(source, entry),
             _files(brought.get(task_bundle.FILES)), entry.folder()]
    if python:
        parts += [_environment(source), entry.converted()]
    parts.append(entry.run(source, python))
    return "\n".join(part for part in parts if part)


class Entry:
    """What is run, and where."""

    def __init__(self, source: Source) -> None:
        from agentpipe import launch
        try:
            self.words = shlex.split(source.script.get("entry_point") or "")
            self.program = shlex.split(source.script.get("binary") or "")
        except ValueError as error:
            raise errors.Failure(f"the task's entry point cannot be split into words: {error}",
                                 errors.BAD_DATA) from None
        if not self.words:
            raise errors.Failure("the task has no entry point: nothing to run", errors.BAD_DATA)
        self.directory = posixpath.normpath(source.script.get("working_dir") or ".")
        self.is_shell = (posixpath.basename((self.program or [""])[0]) in launch.SHELLS
                         or (not self.program and self.words[0].endswith((".sh", ".bash"))))

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
        named = parameters(source.task)
        if named:
            lines += ["# of its hyperparameters (which a script with the clearml package reads from the task):",
                      *(f"#   {line}" for line in named)]
        if python:
            folder = posixpath.dirname(self.words[0]) if not self.words[0].startswith("-") else ""
            path = "$PWD" + (f":$PWD/{folder}" if folder and "$" not in folder and '"' not in folder else "")
            lines += [f'export PYTHONPATH="{path}" PYTHONUNBUFFERED=1']
            if any(re.match(r"clearml\b", line) for line in source.packages):
                lines += ["# a run of its own, that no server sees",
                          'export CLEARML_OFFLINE_MODE="${CLEARML_OFFLINE_MODE-1}"']
            program = '"$work/env/bin/python"'
            options = self.program[1:]
        else:
            program, options = shlex.quote((self.program or ["bash"])[0]), self.program[1:]
        lines.append("exec " + " ".join([program, shlex.join([*options, *self.words])]) + " </dev/null")
        return "\n".join(lines) + "\n"


def parameters(task: dict[str, Any]) -> list[str]:
    """SECTION/NAME=VALUE of each hyperparameter."""
    return [f"{section}/{name}={(item or {}).get('value')}".replace("\n", "\\n")
            for section, items in sorted((task.get("hyperparams") or {}).items()) for name, item in items.items()]


def _head(source: Source) -> str:
    task, end = source.task, source.end
    id, name = task.get("id") or "by-hand", (task.get("name") or "").replace("\n", " ")
    lines = ["#!/bin/sh", f"# Task {id} ({name}), with the code, changes, packages and arguments that it has."]
    if end.get("class"):
        lines.append(f"# It ended as {end['class']}, exit {end.get('exit')}.")
    image = (task.get("container") or {}).get("image")
    if image:
        lines.append(f"# It asks for the container image {image}; this runs on the machine as it is.")
    lines += ["# Needs git, uv and sh:  sh run.sh [NEW-DIRECTORY]", "set -eu",
              f"work=${{1:-task-{shlex.quote(id[:8])}}}", 'mkdir "$work"', 'cd "$work"', "work=$PWD", ""]
    return "\n".join(lines)


def _code(source: Source, commits: str | None = None) -> str:
    script = source.script
    repository, commit = script.get("repository"), source.pins.get("commit") or script.get("version_num")
    if not repository:
        return "mkdir code\ncd code\n"
    from agentpipe.git import without_credentials
    lines = ["# the code"]
    if repository.startswith(("/", "file:")):
        lines.append("# (the repository is on the machine that made the task)")
    ref = script.get("tag") or script.get("branch")
    where = f"-- {shlex.quote(without_credentials(repository))} code"
    if commits:
        lines += ["# (with commits that were not pushed)",
                  _document('GIT_CEILING_DIRECTORIES="$work" git apply -', commits).rstrip("\n")]
    if commit:
        commit = shlex.quote(commit)
        lines += [f"git clone --quiet --no-checkout {where}", "cd code",
                  *([f'git fetch --quiet "$work/{task_bundle.COMMITS}" "+refs/*:refs/brought/*"'] if commits else []),
                  f"git checkout --quiet --detach {commit} 2>/dev/null ||",
                  f"  {{ git fetch --quiet origin {commit} && git checkout --quiet --detach {commit}; }}"]
    else:
        lines += ["# (its commit was never recorded: this takes the newest)",
                  "git clone --quiet " + (f"--branch {shlex.quote(ref)} " if ref else "") + where, "cd code"]
    return "\n".join([*lines, "[ ! -f .gitmodules ] || git submodule --quiet update --init --recursive", ""])


def _files(files: str | None) -> str:
    return "# files that git did not know\n" + _document("git apply --whitespace=nowarn -", files) if files else ""


def _changes(source: Source, entry: Entry) -> str:
    from agentpipe import diff
    found = source.script.get("diff") or ""
    kind = diff.kind(found)
    if kind == "none":
        return ""
    if kind == "patch":
        return "# what was not committed\n" + _document("git apply --whitespace=nowarn -", found)
    name = entry.words[0]
    if name.startswith("-"):
        raise errors.Failure("the task's script is its diff, but its entry point names no file", errors.BAD_DATA)
    path = shlex.quote(posixpath.join(entry.directory, name))
    made = posixpath.dirname(posixpath.join(entry.directory, name))
    mkdir = f"mkdir -p {shlex.quote(made)}\n" if made and made != "." else ""
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


def _environment(source: Source) -> str:
    from agentpipe.git import without_credentials
    version = source.pins.get("python") or _version(source.script.get("binary") or "")
    lines = ["# the packages", "uv venv --quiet" + (f" --python {version}" if version else "") + ' "$work/env"']
    install = 'uv pip install --quiet --python "$work/env/bin/python"'
    if source.packages:
        packages = [without_credentials(line) for line in source.packages]
        exact = " --no-deps" if source.installed else ""
        document = _document(f"{install}{exact} -r -", "\n".join(packages))
        return "\n".join(lines) + "\n" + document
    if source.script.get("repository") and "requirements" not in source.script:
        # as an agent would: every list from the top down to the script
        lines += ['set --', 'for each in "$work/code/requirements.txt" "$PWD/requirements.txt"; do',
                  '  [ ! -f "$each" ] || set -- "$@" -r "$each"', "done",
                  f'[ $# -eq 0 ] || {install} "$@"']
    return "\n".join(lines) + "\n"


def _version(binary: str) -> str:
    found = re.search(r"python(\d+(?:\.\d+)*)", binary)
    return found[1] if found else ""
