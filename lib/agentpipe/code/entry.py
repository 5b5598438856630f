"""Where a task's script stands in its checkout: working directory, entry point, a stand-alone script."""

from __future__ import annotations

import os

from agentpipe import errors, files, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# programs that run a task without a Python environment
SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "fish")

BOM = b"\xef\xbb\xbf"  # with which some editors begin a file; only there it means nothing
# what a script brings about that is none, or is nested deeper than we can read it
UNREAD = (SyntaxError, ValueError, RecursionError, MemoryError)
# as the SDK writes them
TASK_INIT = (b"from clearml import Task\n", b"(__name__ != '__main__') or Task.init()\n")


class Entry:
    """What is run: `words` (the entry point, split; [] when the task names none) in `working_dir` below the code.

    `module` for `-m` and `-c`; `target` is the name that a stand-alone script gets in working_dir; `changed` when the
    words are not simply what the task's entry_point says.
    """

    __slots__ = ("changed", "module", "target", "words", "working_dir")

    def __init__(self, words: list[str], working_dir: str, target: str, changed: bool) -> None:
        self.words, self.working_dir, self.target, self.changed = words, working_dir, target, changed
        self.module = bool(words) and words[0] in ("-m", "-c")

    @property
    def text(self) -> str | None:
        """The words as agent-run splits them again, when they are not the task's own."""
        import shlex
        return shlex.join(self.words) if self.changed else None


def of(script: dict[str, Any], code: str) -> Entry:
    """The entry of a task, by clearml-agent's rules and CLEARML_AGENT_FORCE_EXEC_SCRIPT."""
    text = str(script.get("entry_point") or "").strip()
    folder = str(script.get("working_dir") or "").strip()
    for key, value in (("entry_point", text), ("working_dir", folder)):
        if "\0" in value:
            raise errors.Failure(f"script.{key} has a NUL byte: {value!r}", errors.BAD_DATA,
                                 remedy=f"agent-task edit --{key.replace('_', '-')}")
    forced = os.environ.get("CLEARML_AGENT_FORCE_EXEC_SCRIPT")
    if forced:
        folder, _, text = forced.rpartition(":")
    if folder.startswith("-"):
        raise errors.Failure(f"script.working_dir begins with a dash: {folder!r}", errors.BAD_DATA)
    words, changed = _words(text, os.path.join(code, folder))
    changed = changed or bool(forced)
    if words and words[0].startswith("-"):
        if words[0] not in ("-m", "-c"):
            raise errors.Failure(f"script.entry_point begins with a dash: {text!r}", errors.BAD_DATA,
                                 remedy="only -m MODULE and -c COMMAND may")
        return _module(words, folder, script, changed)
    if words and not folder and ":" in words[0] and not os.path.exists(os.path.join(code, words[0])):
        words[0], _, folder = words[0].partition(":")
        changed = True
    return Entry(words, folder or ".", name_alone(words, script), changed)


def directory(code: str, folder: str, create: bool = False) -> str:
    """`folder` as a path relative to `code`; outside of it: Failure 65; not there: made, or Failure 66."""
    relative = os.path.normpath(folder or ".")
    root = os.path.realpath(code)
    path = os.path.join(root, relative)
    real = os.path.realpath(path)
    if os.path.isabs(relative) or relative.split("/")[0] == ".." or not (real + "/").startswith(root + "/"):
        raise errors.Failure(f"script.working_dir is outside the checkout: {folder}", errors.BAD_DATA,
                             remedy="it is relative to the repository's root")
    if create:
        os.makedirs(path, exist_ok=True)
    if not os.path.isdir(path):
        raise errors.Failure(f"there is no folder {folder} in the checkout (script.working_dir)"
                             + near(code, relative, True), errors.NOT_FOUND,
                             remedy="push the commit that has it, or name another: agent-task edit TASK "
                                    "--working-dir DIR",
                             change=("--working-dir", close[0]) if (close := closest(code, relative, True)) else
                             errors.CODE_ANEW)
    return relative


def check_there(code: str, entry: Entry, bare: bool = False) -> str | None:
    """The path of the entry point's file in the checkout (66 without); None for -m, -c, absolute ones and links that
    lead out of it, of which nothing is read here: the task may run where it cannot see that file.

    `bare`: the task has neither a repository nor a script of its own, so that is what is missing.
    We may write beside it (a notebook's script) or change it, so its folder is in the checkout, also behind links.
    """
    if not entry.words or entry.module or os.path.isabs(entry.words[0]):
        return None
    name = os.path.normpath(os.path.join(entry.working_dir, entry.words[0]))
    path = os.path.join(code, name)
    root, folder = os.path.realpath(code), os.path.realpath(os.path.dirname(path))
    leads_out = not os.path.realpath(path).startswith(root.rstrip("/") + "/")
    if (name.split("/")[0] == ".." or not (folder + "/").startswith(root.rstrip("/") + "/")
            or (leads_out and path.endswith(".ipynb") and os.path.isfile(path))):
        raise errors.Failure(f"script.entry_point is outside the checkout: {entry.words[0]}", errors.BAD_DATA,
                             remedy="it is relative to script.working_dir, and no link may lead out of the repository")
    if not os.path.isfile(path) and bare:
        raise errors.Failure(f"the task has no repository to take {name} from, and does not bring it along",
                             errors.NOT_FOUND,
                             remedy="was it recorded in a git checkout without a remote? git remote add origin URL "
                                    "and git push there, then run it again; or agent-task enqueue it from there")
    if os.path.islink(path) and not os.path.exists(path):
        raise errors.Failure(f"{name} in the checkout is a link that leads nowhere: {os.readlink(path)} "
                             "(script.entry_point)", errors.NOT_FOUND,
                             remedy="commit and push what it leads to, or name another: agent-task edit TASK "
                                    "--entry-point 'SCRIPT ARGUMENTS'")
    if not os.path.isfile(path):
        raise errors.Failure(f"there is no {name} in the checkout (script.entry_point)" + near(code, name, False),
                             errors.NOT_FOUND, remedy="commit and push it, or name another: agent-task edit TASK "
                                                      "--entry-point 'SCRIPT ARGUMENTS'",
                             change=_renamed(entry, closest(code, name, False)) or errors.CODE_ANEW)
    return None if leads_out else path


def near(code: str, name: str, folders: bool) -> str:
    """"; did you mean …?" with what the checkout has of a similar name, or ""."""
    close = closest(code, name, folders)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _renamed(entry: Entry, close: list[str]) -> tuple[str, ...]:
    """The options of `agent-task edit` that give the entry point the name that was meant, where only one can be.

    Another file is another program: which of several was meant its owner says.
    """
    import shlex
    if len(close) != 1:
        return ()
    return ("--entry-point", shlex.join([os.path.relpath(close[0], entry.working_dir), *entry.words[1:]]))


def closest(code: str, name: str, folders: bool) -> list[str]:
    """Up to three paths of the checkout with the same or a similar name, the likeliest first."""
    import difflib
    found: list[str] = []
    for here, directories, names in trees.walk(code):
        directories[:] = [d for d in directories if d != ".git"]
        found += [os.path.relpath(os.path.join(here, entry), code) for entry in (directories if folders else names)]
        if len(found) > 5000:
            break
    same = [path for path in found if os.path.basename(path) == os.path.basename(name)]
    near = [path for path in difflib.get_close_matches(name, found, 9, 0.7)
            if difflib.SequenceMatcher(None, _stem(path), _stem(name)).ratio() >= 0.7]
    return list(dict.fromkeys([*same, *near]))[:3]


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def write_script(code: str, entry: Entry, text: str, keep: bool) -> str | None:
    """A stand-alone script under its target name; its path relative to the code, or None where a file is kept."""
    name = os.path.normpath(os.path.join(entry.working_dir, entry.target))
    path = os.path.join(code, name)
    if os.path.lexists(path) and (keep or not os.path.isfile(path) or os.path.islink(path)):
        return None
    publish(path, text.encode("utf-8", "surrogateescape"))
    return name


def publish(path: str, data: bytes) -> None:
    """A file of the checkout, whole or not at all; one that is there keeps its mode."""
    files.publish(path, data, 0o666, keep_mode=True)


def mend_future_imports(path: str) -> bool:
    """Move the two lines that the SDK puts at a script's top below its `__future__` imports, which must come first."""
    with open(path, "rb") as file:
        first, second = file.readline(), file.readline()
        if not first.lstrip().startswith(b"from clearml ") or b"Task.init" not in second:
            return False
        rest = file.read()
    import ast
    try:
        tree = ast.parse(rest)
    except UNREAD:
        return False
    last = max((node.end_lineno or 0 for node in tree.body
                if isinstance(node, ast.ImportFrom) and node.module == "__future__"), default=0)
    if not last:
        return False
    lines = rest.splitlines(keepends=True)
    if not lines[last - 1].endswith(b"\n"):
        lines[last - 1] += b"\n"
    publish(path, b"".join([*lines[:last], first, second, *lines[last:]]))
    return True


def insert_task_init(path: str) -> bool:
    """Put the SDK's two lines below the script's docstring and `__future__` imports, unless it has such a call."""
    with open(path, "rb") as file:
        text = file.read()
    if b"Task.init" in text:
        return False
    import ast
    mark = BOM if text.startswith(BOM) else b""
    text = text[len(mark):]
    try:
        body = ast.parse(text).body
    except UNREAD:
        return False
    above = 0
    for number, node in enumerate(body):
        first_text = number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) \
            and isinstance(node.value.value, str)
        if first_text or (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            above = node.end_lineno or 0
        else:
            break
    lines = text.splitlines(keepends=True)
    if not above:  # below #! and the coding line
        above = next((number for number, line in enumerate(lines[:2]) if not line.startswith(b"#")), len(lines[:2]))
    if above and not lines[above - 1].endswith(b"\n"):
        lines[above - 1] += b"\n"
    publish(path, b"".join([mark, *lines[:above], *TASK_INIT, *lines[above:]]))
    return True


def _words(text: str, folder: str) -> tuple[list[str], bool]:
    """The entry point's words; (…, True) when a file's own name would not survive being split again."""
    if not any(character in text for character in " '\"\\\t\n"):
        return ([text] if text else []), False
    if os.path.isfile(os.path.join(folder, text)):
        return [text], True
    import shlex
    try:
        return shlex.split(text), False
    except ValueError as error:
        raise errors.Failure(f"script.entry_point cannot be split into words: {error}: {text}",
                             errors.BAD_DATA) from None


def _module(words: list[str], folder: str, script: dict[str, Any], changed: bool) -> Entry:
    target = "untitled.sh" if is_shell(script) and words[0] == "-c" else "untitled.py"
    if ":" in folder:
        folder, _, target = folder.partition(":")
        changed = True
    entry = Entry(words, folder or ".", target or "untitled.py", changed)
    if os.path.basename(entry.target) != entry.target or entry.target.startswith("-"):
        raise errors.Failure(f"script.working_dir names no file after its colon: {target!r}", errors.BAD_DATA)
    return entry


def name_alone(words: list[str], script: dict[str, Any]) -> str:
    """What the file of a script that is in no repository is called where it runs: as it was, when that is a name."""
    name = os.path.basename(words[0]) if words else ""
    endings = (".sh", ".bash") if is_shell(script) else (".py", ".ipynb")
    if name.endswith(endings) and not name.startswith(("-", ".")):
        return name
    return "untitled.sh" if is_shell(script) else "untitled.py"


def is_shell(script: dict[str, Any]) -> bool:
    """Whether `script.binary` asks for a shell, which needs no Python environment of its own."""
    words = str(script.get("binary") or "").split()
    return bool(words) and os.path.basename(words[0]) in SHELLS


def is_python(binary: str) -> bool:
    """Whether `script.binary` asks for a Python ("" does)."""
    return os.path.basename(binary.split(" ", 1)[0]).startswith(("python", "pypy")) or not binary.strip()
