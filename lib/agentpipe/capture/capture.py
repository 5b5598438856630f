"""What a task needs to run elsewhere, out of a script on this machine: `task.script` as the ClearML API spells it."""

from __future__ import annotations

import os
import shlex

from agentpipe import errors
from agentpipe.urls import for_a_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.capture.capture_bundle import Bundle

SHELL_SCRIPTS = (".sh", ".bash")
PYTHON_SCRIPTS = (".py", ".ipynb")
ELF = b"\x7fELF"
LARGEST = 240 << 20  # of a diff: a line with more than 256 MiB no stage reads (lines.py)
NOTHING = "# nothing is to be installed\n"


class Captured:
    """`script` is the task's; `warnings` are (what is wrong, what to do about it or ""), `notes` are good to know."""

    def __init__(self, script: dict[str, Any], name: str, project: str = "") -> None:
        self.script, self.name, self.project = script, name, project
        self.warnings: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.login_notes: list[str] = []  # those of them that say that a login stays here
        self.bundle: Bundle | None = None
        self.unreachable: tuple[str, str] | None = None  # the warning about a commit that no worker can fetch
        self.container: dict[str, str] | None = None


class Wish:
    """What its owner says about a script; "" where the machine is to find out."""

    def __init__(self, script: str, args: list[str], module: bool = False, repo: str = "", working_dir: str = "",
                 branch: str = "", commit: str = "", binary: str = "", requirements: str = "", bundle: bool = False,
                 include: list[str] | None = None) -> None:
        self.script, self.args, self.module = script, args, module
        self.repo, self.working_dir, self.branch, self.commit = repo, working_dir, branch, commit
        self.binary, self.requirements = binary, requirements
        self.bundle, self.include = bundle or bool(include), include or []


def capture(wish: Wish) -> Captured:
    """The script in its git checkout, at a repository's address, or alone; a Failure says what is missing."""
    from agentpipe.capture import capture_git
    if wish.repo and (not os.path.isdir(wish.repo) or capture_git.is_bare(wish.repo)):
        return _remote(wish)
    root = capture_git.root(wish.repo or ("." if wish.module else os.path.dirname(wish.script)) or ".")
    if wish.repo and not root:
        raise errors.Failure(f"{wish.repo} is no git repository", errors.NOT_FOUND,
                             remedy="a script that is in none goes alone, without --repo")
    return _checkout(wish, root) if root else _alone(wish)


def _remote(wish: Wish) -> Captured:
    """A repository by its address (also that of a bare one on this machine): nothing of it is here to look at."""
    from agentpipe.capture import capture_git
    if wish.bundle:
        raise errors.Failure("--bundle needs the checkout, not the repository's address", errors.USAGE,
                             remedy="--repo DIR")
    if os.path.isdir(wish.repo):
        wish.repo = os.path.realpath(wish.repo)
    elif "://" not in wish.repo and ":" not in wish.repo:
        raise errors.Failure(f"{wish.repo} is neither a directory nor a repository's address", errors.NOT_FOUND)
    notes: list[str] = []
    script = {"binary": wish.binary or _binary(wish, wish.script),
              "repository": for_a_task(wish.repo, notes.append), "working_dir": wish.working_dir or ".",
              "entry_point": _entry_point(wish, wish.script), "branch": wish.branch, "version_num": wish.commit}
    found = Captured(_given(script), os.path.basename(wish.script), capture_git.name_of(wish.repo))
    found.notes = notes
    _add_requirements(found, wish, [])
    return found


def _checkout(wish: Wish, root: str) -> Captured:
    """A git checkout: remote, commit, what is not committed, and where the script stands in it."""
    from agentpipe.capture import capture_git, left_behind
    folder, entry = _placed(wish, root)
    source = capture_git.source(root, wish.branch, wish.commit, not wish.bundle)
    script = {"repository": source.repository, "branch": source.branch, "version_num": source.commit,
              "working_dir": folder, "entry_point": _entry_point(wish, entry),
              "binary": wish.binary or _binary(wish, os.path.join(root, folder, entry))}
    # not the folder's name: work trees and colleagues' clones have others
    found = Captured(script, os.path.basename(wish.script), capture_git.name_of(source.repository))
    found.warnings, found.login_notes = source.warnings, source.login_notes
    found.notes = [*source.notes, *source.login_notes]
    inside = [] if wish.bundle else capture_git.submodules(root, source.commit)
    if not wish.bundle:
        found.warnings += left_behind.of_submodules(root, inside)
    found.unreachable = next(iter(source.warnings), None)
    whole = not (wish.commit or wish.branch)
    if wish.bundle:
        from agentpipe.capture import capture_bundle
        found.bundle = capture_bundle.of_checkout(root, source.remote, source.commit, whole, wish.include)
    if whole:
        script["diff"] = capture_git.diff(root, brought=found.bundle.files if found.bundle else ())
        large = left_behind.in_lfs(script["diff"]) if found.bundle else []
        if found.bundle and large:
            found.bundle.files.update({name: os.path.join(root, name) for name in large})
            script["diff"] = capture_git.diff(root, brought=found.bundle.files)
        _refuse_larger(script["diff"])
        found.warnings += left_behind.of_diff(root, script["diff"])
        tracked = None if wish.module else os.path.normpath(os.path.join(folder, entry))
        if tracked and not (found.bundle and tracked in found.bundle.files):
            left_behind.refuse_unknown(root, tracked)
        if tracked:
            _check_text(wish, os.path.join(root, tracked))
        found.warnings += [] if found.bundle else left_behind.untracked(root, inside)
    if found.warnings and not wish.bundle:
        found.notes.append("what a worker would lack goes along with --bundle")
    if whole:
        found.warnings += left_behind.overlooked(root)
    _add_requirements(found, wish, requirement_files(root, folder, "" if wish.module else entry), root,
                      folder if wish.module else os.path.join(folder, os.path.dirname(entry)))
    return found


def _refuse_larger(diff: str) -> None:
    """Failure 65 for more than the line of a manifest may have: no stage would read it."""
    import json
    if len(diff) > LARGEST >> 1 and len(json.dumps(diff)) > LARGEST:
        raise errors.Failure(f"what is not committed is {len(diff) >> 20} MiB, and a task can carry "
                             f"{LARGEST >> 20} MiB", errors.BAD_DATA,
                             remedy="take the large files along as they are: --bundle --include FILE")


def _alone(wish: Wish) -> Captured:
    """A script outside any repository: its text is the task's diff (as ClearML has it)."""
    if wish.module:
        raise errors.Failure(f"-m {wish.script} needs a git repository", errors.NOT_FOUND,
                             remedy="run it in a checkout, or give --repo")
    path = wish.script
    _check_text(wish, path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise errors.Failure(f"{path} is not UTF-8: byte {error.start + 1}", errors.BAD_DATA,
                             remedy="save it as UTF-8, or keep it in a git repository") from None
    if not text.strip():
        raise errors.Failure(f"{path} is empty", errors.BAD_DATA)
    # what begins like a diff would be taken for one, after blanks as well
    text = "#\n" + text if text.lstrip()[:10].lower().startswith(("diff ", "submodule ")) else text
    name = os.path.basename(path)
    script = {"repository": "", "working_dir": ".", "entry_point": _entry_point(wish, name), "diff": text,
              "binary": wish.binary or _binary(wish, path)}
    found = Captured(script, name)
    if wish.bundle:
        from agentpipe.capture import capture_bundle
        found.bundle = capture_bundle.Bundle(os.path.dirname(os.path.abspath(path)))
        capture_bundle.add(found.bundle, wish.include)
    else:
        as_other = _as_other(name, script)
        found.notes.append(f"{name} is in no git repository: its text alone goes with the task{as_other}")
    _add_requirements(found, wish, requirement_files(os.path.dirname(os.path.abspath(path)), ".", name))
    return found


def _check_text(wish: Wish, path: str) -> None:
    """Failure 65 for what no worker could run: a program, and a notebook that is none."""
    if wish.binary:
        return
    with open(path, "rb") as file:
        begin = file.read(1024)
    if begin.startswith(ELF):
        raise errors.Failure(f"{wish.script} is a program, not a script", errors.BAD_DATA,
                             remedy="a shell script (.sh) that starts it, where the workers have it")
    if path.endswith(".ipynb") and begin.strip():
        from agentpipe.code import notebook
        notebook.script(path)


def _as_other(name: str, script: dict[str, Any]) -> str:
    """What a lone script is called on a worker, if otherwise than here: a command line shows it."""
    from agentpipe.code import entry
    there = entry.name_alone([name], script)
    return "" if there == name else f", as {there}"


def _placed(wish: Wish, root: str) -> tuple[str, str]:
    """(working_dir, entry point) relative to the root and to each other.

    As the SDK records it: the directory where its owner stands, when script and directory are both in the checkout.
    """
    here = os.path.realpath(wish.repo or ".")
    if wish.working_dir:
        chosen = os.path.realpath(os.path.join(root if wish.repo else ".", wish.working_dir))
        there = os.path.isdir(chosen) or wish.branch or wish.commit  # which may have others
        if not _inside(chosen, root) or not there:
            raise errors.Failure(f"{wish.working_dir} is not a directory of {root}", errors.NOT_FOUND)
        here = chosen
    here = here if _inside(here, root) else root
    if wish.module:
        return os.path.relpath(here, root), wish.script
    script = _script_path(wish)
    if not _inside(script, root):
        raise errors.Failure(f"{wish.script} is not in {root}", errors.NOT_FOUND)
    return os.path.relpath(here, root), os.path.relpath(script, here)


def _script_path(wish: Wish) -> str:
    """The script's absolute path: from where its owner stands, or in --repo, or in --working-dir."""
    places = [".", wish.repo or ".", os.path.join(wish.repo or ".", wish.working_dir or ".")]
    for place in places:
        path = os.path.join(place, wish.script)
        if os.path.isfile(path):
            return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    raise errors.Failure(f"no file {wish.script}", errors.NOT_FOUND)


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _entry_point(wish: Wish, entry: str) -> str:
    """The entry point with its arguments: words, quoted as a shell would want them (ClearML's agent splits so too)."""
    words = ["-m", wish.script] if wish.module else ["./" + entry if entry.startswith("-") else entry]
    return shlex.join([*words, *wish.args])


def _binary(wish: Wish, path: str) -> str:
    """What runs the script at `path`: what its `#!` line names, bash for a shell script, else its owner's Python."""
    import shutil
    import sys
    named = "" if wish.module or path.endswith(PYTHON_SCRIPTS) else _named_in(path)
    if named:
        return named
    if not wish.module and path.endswith(SHELL_SCRIPTS):
        return "bash"
    active = os.path.join(os.environ.get("VIRTUAL_ENV", "/nonexistent"), "bin", "python")
    python = active if os.access(active, os.X_OK) else shutil.which("python3")
    if python and os.path.realpath(python) != os.path.realpath(sys.executable):
        from agentpipe import tools
        try:
            return "python" + tools.run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                                        timeout=10).strip()
        except errors.Failure:
            pass
    return "python{}.{}".format(*sys.version_info[:2])


def _named_in(path: str) -> str:
    """The program of a script's `#!` line by its name ("perl -w"), since it stands elsewhere there; a Python only
    with its version."""
    import re
    try:
        with open(path, "rb") as file:
            line = file.readline(256)
    except OSError:
        return ""
    words = line[2:].decode("utf-8", "replace").split() if line.startswith(b"#!") else []
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if word != "-S"]
        while words and "=" in words[0]:
            words.pop(0)
    if not words or os.path.basename(words[0]).startswith(("python", "pypy")):
        version = re.fullmatch(r"(?:python|pypy)\d\.\d+", os.path.basename(words[0])) if words else None
        return version[0] if version else ""
    return shlex.join([os.path.basename(words[0]), *words[1:]])


def requirement_files(root: str, folder: str, entry: str) -> list[str]:
    """Every requirements.txt from the root down to the script's folder, as the agent would read them."""
    steps = [part for part in os.path.join(folder, os.path.dirname(entry)).split("/") if part not in ("", ".")]
    folders = [os.path.join(root, *steps[:count]) for count in range(len(steps) + 1)]
    paths = [os.path.join(each, "requirements.txt") for each in folders]
    return [path for path in paths if os.path.isfile(path)]


def _add_requirements(found: Captured, wish: Wish, files: list[str], root: str = "", folder: str = ".") -> None:
    """Record the list that --requirements names, else the repository's own files as they stand here.

    In a checkout at `root` a project's files above the script's `folder` take their place.
    """
    from agentpipe.code import entry
    from agentpipe.environment import lock_files
    if wish.requirements:
        found.script["requirements"] = {"pip": _with_packages(found, wish.requirements)}
        return
    count = len(found.bundle.files) if found.bundle else 0
    texts = [_with_packages(found, path) for path in files]
    if found.bundle and len(found.bundle.files) > count:
        # their lines name new places, which the repository's own files do not
        found.script["requirements"] = {"pip": "".join(texts)}
    elif any(_looks_elsewhere(line) for text in texts for line in text.splitlines()):
        found.notes.append("the requirements name other files: the worker reads them in the repository")
    elif texts:
        found.script["requirements"] = {"pip": "\n".join(text.rstrip("\n") for text in texts) + "\n"}
    elif entry.is_python(found.script["binary"]):
        project = lock_files.named(root, os.path.join(root, folder)) if root else ""
        found.notes.append(f"no requirements.txt: the worker installs what {project} asks for" if project else
                           "no requirements.txt: nothing is installed for it (--requirements FILE)")


def _with_packages(found: Captured, path: str) -> str:
    """A requirements file's text; with a bundle its local packages go along."""
    text = requirements_text(path)
    if not found.bundle or path == "none":
        return text
    from agentpipe.capture import capture_bundle
    return capture_bundle.add_packages(found.bundle, text, os.path.dirname(os.path.abspath(path)))


def requirements_text(path: str, a_tasks: bool = False) -> str:
    """A requirements file's text, that of a task as files.list_of_task() reads it; "none" of the user asks for nothing,
    also where the repository has such files."""
    if path == "none" and not a_tasks:
        return NOTHING
    from agentpipe import files
    from agentpipe.environment import requirement_lines
    try:
        if a_tasks:
            text = requirement_lines.decoded(files.list_of_task(path))
        else:
            with open(path, "rb") as file:  # the user's own: <(pip freeze), /dev/stdin
                text = requirement_lines.decoded(file.read())
    except OSError as error:
        raise errors.Failure(f"{path}: {error.strerror}", errors.NOT_FOUND) from None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise errors.Failure(f"{path} is not UTF-8: byte {len(text[:error.start].encode()) + 1}",
                             errors.BAD_DATA) from None
    return text.replace("\r\n", "\n") or NOTHING


def _looks_elsewhere(line: str) -> bool:
    """Whether a requirement is relative to the file in which it stands."""
    line = line.strip()
    return line.startswith(("-r", "-c", "-e", "--requirement", "--constraint", "--editable", ".", "-f", "--find-links"))


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}
