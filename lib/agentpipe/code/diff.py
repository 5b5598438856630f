"""Uncommitted changes: what a task's `script.diff` is, and how it is applied to a checkout, wholly or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from agentpipe import errors, tools
from agentpipe.code import git

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# what git apply says of a path that it must not write
UNSAFE = ("invalid path", "beyond a symbolic link", "outside repository")
# the change of a task that does without its diff
DROPPED = ("--drop-diff",)
# what it says when the writing itself went wrong (before that it has checked everything)
WRITING = ("unable to write", "unable to create", "unable to remove", "unable to unlink", "unable to set",
           "closing file", "no space left", "disk quota", "permission denied", "read-only file system", "cannot mkdir",
           "smudge filter ", "clean filter ")
# what a diff cannot write because something else is there: found by git while it writes
IN_THE_WAY = ("directory not empty", "is a directory", "not a directory", "file exists")
# git's last words where a filter of this user's fails: the file, and the filter's name
FILTERED = re.compile(r"^fatal: (.*): (?:smudge|clean) filter '?(.*?)'? failed$", re.MULTILINE)
# the lines of a diff that name its files, or where a hunk begins
NAMED = re.compile(r"^(--- .*\r?\n\+\+\+ |@@ -)", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")
# where git apply found other lines; a file's name may have several
FAILED = re.compile(r"^error: patch failed: (.+?):(\d+)$", re.MULTILINE | re.DOTALL)
# of a file's part of a diff what stands before its content; in it, what makes it a copy, and what that is read from
PART = re.compile(rb"^diff --git ", re.MULTILINE)
CONTENT = re.compile(rb"^(?:@@ -|GIT binary patch)", re.MULTILINE)
COPY = re.compile(rb"^copy (?:from|to) ", re.MULTILINE)
READ = re.compile(rb"^(?:copy from|rename from|rename old|---) (.*)", re.MULTILINE)
QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
ESCAPED = re.compile(rb"\\(?:([0-7]{3})|(.))")
# a submodule's commits, as nothing but a diff has them
LOGGED = re.compile(r"submodule \S.*? [0-9a-f]{7,64}\.{2,3}[0-9a-f]{7,64}( \(|:\n  [<>] )")


class Applied:
    """What became of a diff: the paths it changed and, in words, what had to be tolerated ("" for nothing)."""

    __slots__ = ("files", "how")

    def __init__(self, files: list[str], how: str) -> None:
        self.files, self.how = files, how


class HalfWritten(errors.Failure):
    """git failed while it wrote: the tree may be half changed."""


def of(script: dict[str, Any]) -> tuple[str, str]:
    """(kind, text) of a task's `script.diff`; a patch without the colours that `color.ui=always` puts into one."""
    text = script.get("diff") or ""
    found = kind(text)
    return found, _plain(text) if found == "patch" else text


def kind(text: str) -> str:
    """ "none", "patch", or "script" (the diff is the script itself), by ClearML Agent's rule.

    The peer takes all that begins with "diff " for a patch, also `diff = a - b`: here what has no file in it is none.
    """
    start = _plain(text[:4096])
    if not start:
        start = _plain(text)[:4096]
        if not start:
            return "none"
    low = start.lower()
    if low.startswith("diff "):
        return "patch" if low.startswith("diff -") or NAMED.search(text) else "script"
    if low.startswith("submodule "):
        _, _, rest = _plain(text).partition("\n")
        # the peer looks at the second line only; several submodules may stand before the first diff
        for line in rest[:65536].lower().split("\n"):
            if line.lstrip().startswith("diff "):
                return "patch"
            if not line.lstrip().startswith(("submodule ", "> ", "< ")):  # diff.submodule=log has titles there
                break
        if LOGGED.match(low):
            return "patch"
    return "script"


def _plain(text: str) -> str:
    """Without blanks at its beginning; and without colours, when it begins with one: else they belong to a file."""
    text = text.lstrip().removeprefix("\ufeff").lstrip()
    return COLOUR.sub("", text).lstrip() if text.startswith("\x1b[") else text


def encoded(text: str) -> bytes:
    """The diff's bytes; characters that stood for undecodable bytes become these bytes again."""
    return text.encode("utf-8", "surrogateescape")


def apply(code: str, patch: bytes) -> Applied:
    """Apply to the tree `code`: as it is, then with ClearML Agent's tolerance; a Failure (65) leaves it as it was.

    git refuses to write outside the tree, in .git, or behind a symbolic link; nothing of ours goes round that.
    HalfWritten (73, 65 when something else is in the way, 66 for a file of Git LFS) does not leave it so.
    """
    if not any(line.lstrip()[:5].lower() == b"diff " for line in patch.split(b"\n")):
        return Applied([], "")  # nothing but submodules' commits (submodule_changes.py)
    _refuse_absolute(patch)
    _refuse_foreign_copies(patch)
    ended = _ended(patch)
    try:
        return Applied(_git_apply(code, ended), "")
    except tools.ToolFailed as failed:
        first = failed
    _refuse_unsafe(first)
    if not _wrote(first):
        for words, text, options in _tolerances(ended):
            try:
                return Applied(_leniently(code, text, options), words)
            except tools.ToolFailed as failed:
                _refuse_unsafe(failed)
                if _wrote(failed):
                    raise _explained(failed, text, code) from None
    raise _explained(first, ended, code) from None


def _leniently(code: str, patch: bytes, options: tuple[str, ...]) -> list[str]:
    created = _create_missing(code, patch) if "--unidiff-zero" in options else []
    try:
        files = _git_apply(code, patch, *options)
    except tools.ToolFailed:
        _remove(created)
        raise
    # a removed line that reads "-- a/…" looks like a file's name
    root = os.path.realpath(code)
    _remove([path for path in created if os.path.relpath(path, root) not in files])
    return files


def _tolerances(patch: bytes) -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    """(in words, the diff, options of git apply), from the least to the most."""
    bare = "hunks without context, missing files taken for empty"
    if _without_prefixes(patch):
        words = "its paths have no a/ and b/"
        yield words, patch, ("-p0",)
        yield f"{words}; {bare}", patch, ("-p0", "--unidiff-zero")
    if patch.rstrip(b"\n").count(b"\n") == patch.rstrip(b"\n").count(b"\r\n"):
        yield "all of its lines end in CRLF", patch.replace(b"\r\n", b"\n"), ()
    yield bare, patch, ("--unidiff-zero",)


def _without_prefixes(patch: bytes) -> bool:
    # diff.noprefix: "diff --git x x"
    first = patch.lstrip().split(b"\n", 1)[0].rstrip(b"\r")
    names = first.removeprefix(b"diff --git ")
    half = len(names) // 2
    return first != names and names[:half] == names[half + 1:] and names[half:half + 1] == b" "


def _ended(patch: bytes) -> bytes:
    """A diff whose end was stripped gets it back: its newline, the empty line after binary data, empty context lines.

    What follows a complete hunk is ignored by git, so the empty lines do no harm where nothing was missing.
    """
    if patch.endswith(b"\n\n"):
        return patch
    crlf = b""
    if not patch.endswith(b"\n"):
        before, _, last = patch.rpartition(b"\n")
        crlf = b"\r" if before.endswith(b"\r") and last[:1] in (b"+", b"-", b" ") else b""
    return patch + crlf + b"\n\n\n\n"


def _git_apply(code: str, patch: bytes, *options: str) -> list[str]:
    env = git.environment({"GIT_CEILING_DIRECTORIES": os.path.dirname(os.path.realpath(code))})
    out = tools.run(["git", "apply", "--apply", "--numstat", "-z", "--whitespace=nowarn", "--no-ignore-whitespace",
                     *options, "-"], cwd=code, env=env, stdin=patch)
    return [entry.split("\t", 2)[2] for entry in out.split("\0") if entry.count("\t") >= 2]


def _create_missing(code: str, patch: bytes) -> list[str]:
    """Empty files for what the diff changes and the tree lacks, as the peer makes them; those made, inside the tree."""
    root = os.path.realpath(code)
    made: list[str] = []
    for line in patch.split(b"\n"):
        if not line.startswith(b"--- a/"):
            continue
        name = os.fsdecode(line[6:].rstrip(b"\r\t "))
        path = os.path.normpath(os.path.join(root, name))
        parent = os.path.dirname(path)
        unsafe = not path.startswith(root + "/") or ".git" in name.lower().split("/") or ".." in name.split("/")
        if unsafe or os.path.lexists(path) or os.path.realpath(parent) != parent:
            continue
        made += _make_directories(root, parent)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o666))
        except OSError:
            continue
        made.append(path)
    return made


def _make_directories(root: str, path: str) -> list[str]:
    if path == root or os.path.isdir(path):
        return []
    made = _make_directories(root, os.path.dirname(path))
    try:
        os.mkdir(path)
    except OSError:
        return made
    return [*made, path]


def _remove(created: list[str]) -> None:
    for path in reversed(created):
        try:
            if os.path.isdir(path):
                os.rmdir(path)
            else:
                os.unlink(path)
        except OSError:  # a folder that has got files, a file that the diff deleted
            pass


def _refuse_absolute(patch: bytes) -> None:
    # of a diff that is not git's, git apply would strip the first slash and write below the tree
    if b"\n+++ /" not in patch or patch.lstrip()[:11].lower() == b"diff --git ":
        return
    for name in (line[4:].split(b"\t")[0] for line in patch.split(b"\n") if line.startswith((b"+++ /", b"--- /"))):
        if name.strip() != b"/dev/null":
            raise errors.Failure(f"the diff would write outside the checkout: {os.fsdecode(name)}", errors.BAD_DATA)


def _refuse_foreign_copies(patch: bytes) -> None:
    """git apply looks at where a copy is written, and reads what it is made of from anywhere: any file of this user's.

    The code of a task in a container is patched outside of it.
    """
    if b"\ncopy " not in patch:
        return
    for part in PART.split(patch)[1:]:
        header = CONTENT.split(part, maxsplit=1)[0]
        for name in READ.findall(header) if COPY.search(header) else []:
            if name.rstrip() != b"/dev/null" and not _is_within(name):
                raise errors.Failure(f"the diff would read outside the checkout: {os.fsdecode(name)}", errors.BAD_DATA)


def _is_within(name: bytes) -> bool:
    """Whether a name in a diff stays in the tree and out of .git, however many of its parts are stripped."""
    quoted = QUOTED.match(name)
    readings = [name]
    if quoted:  # what git cannot unquote it takes as it stands
        readings.append(ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 255]) if found[1] else found[2], quoted[1]))
    # a tab ends only the name in a line ---: that of a copy goes on behind it
    each = [re.split(rb"[/\t]", reading.rstrip(b"\r").lower()) for reading in readings]
    return not any(b".." in parts or b".git" in parts or b"" in parts[:-1] for parts in each)


def _refuse_unsafe(failed: tools.ToolFailed) -> None:
    for line in failed.output.splitlines():
        if any(sign in line for sign in UNSAFE):
            raise errors.Failure(f"the diff would write outside the checkout: {line.removeprefix('error: ')}",
                                 errors.BAD_DATA, failed.output[-4000:])


def _wrote(failed: tools.ToolFailed) -> bool:
    low = failed.output.lower()
    return failed.status not in (1, 128) or any(sign in low for sign in WRITING)


def _explained(failed: tools.ToolFailed, patch: bytes, code: str) -> errors.Failure:
    output = failed.output.strip()
    lines = [line.removeprefix("error: ").removeprefix("fatal: ") for line in output.splitlines()
             if line.startswith(("error: ", "fatal: "))]
    remedy = ("give the task the commit that it was made on (agent-task edit --commit), take the code anew from its "
              "checkout (agent-task edit --checkout .), or do without the changes (agent-task edit --drop-diff)")
    # of several files the others' changes would go as well: that is no first thing to type
    drop = DROPPED if sum(line.startswith(b"diff ") for line in patch.split(b"\n")) == 1 else ()
    if _wrote(failed):
        said = lines[-1] if lines else output or f"git apply ended with {failed.status}"
        filtered = FILTERED.search(output)
        if filtered and filtered[2] == "lfs":
            return HalfWritten(f"the diff changes {filtered[1]}, which Git LFS keeps, and its content cannot be had",
                               errors.NOT_FOUND, output[-4000:], "what is not committed is on no server: enqueue it "
                               "with --bundle in the checkout that has it, or commit and push it there")
        if filtered:
            return HalfWritten(f"cannot write the diff's changes: {said}", errors.BAD_DATA, output[-4000:],
                               git.MEND_FILTER)
        if any(sign in said.lower() for sign in IN_THE_WAY):
            return HalfWritten(f"the diff does not apply: {said}", errors.BAD_DATA, output[-4000:], remedy, drop)
        half = HalfWritten(f"cannot write the diff's changes: {said}", errors.CANNOT_CREATE, output[-4000:], "df -h")
        half.of_machine = "file name too long" not in output.lower()  # the task's own
        return half
    if place := FAILED.search(output):
        name, number = place.groups()
        position, header, hunk = _hunk(patch, name, int(number))
        where = f"hunk {position} ({header})" if position else f"at line {number}"
        return errors.Failure(f"the diff does not apply to {name if name.isprintable() else ascii(name)}: {where}",
                              errors.BAD_DATA, output[-2000:] + ("\n" + hunk if hunk else ""), remedy, drop)
    for line in lines:
        if line.startswith(("corrupt patch at", "corrupt binary patch at", "unrecognized binary patch")):
            return errors.Failure(f"the diff is damaged: {line}", errors.BAD_DATA, _around(patch, line),
                                  "create it again: git diff --binary HEAD", drop)
        if "without full index line" in line:
            name = line.partition("'")[2].rpartition("'")[0]
            return errors.Failure(f"the diff has no content for the binary file {name}", errors.BAD_DATA,
                                  output[-2000:], f"{_added(code, name)}, then enqueue again", drop)
    first = lines[0] if lines else output or f"git apply ended with {failed.status}"
    return errors.Failure(f"the diff does not apply: {first}", errors.BAD_DATA, output[-4000:], remedy, drop)


def _added(code: str, name: str) -> str:
    """The commands that commit a file of the checkout `code`, in the submodule that has it."""
    import shlex
    inside = os.path.dirname(name)
    while inside and not os.path.lexists(os.path.join(code, inside, ".git")):
        inside = os.path.dirname(inside)
    git = ["git", *(["-C", inside] if inside else [])]
    return shlex.join([*git, "add", os.path.relpath(name, inside or ".")]) + " && " + shlex.join([*git, "commit"])


def _hunk(patch: bytes, name: str, line: int) -> tuple[int, str, str]:
    """(which of the file's hunks, its header, its text) begins at `line` of the old file; 0 when none does."""
    text = patch.decode("utf-8", "replace").split("\n")
    inside, position = False, 0
    for at, row in enumerate(text):
        if row.startswith("diff "):
            inside, position = row.endswith((f" b/{name}", f" {name}", f'b/{name}"')), 0
        elif row.startswith("@@ -") and inside:
            position += 1
            start = row[4:].partition(" ")[0].partition(",")[0]
            # git names the first line that must match, which is 1 where the header says 0
            if start.isdigit() and max(int(start), 1) == max(line, 1):
                header = row[:row.find("@@", 3) + 2]
                end = next((n for n in range(at + 1, len(text)) if text[n].startswith(("@@ ", "diff "))), len(text))
                return position, header, "\n".join(text[at:min(end, at + 30)])
    return 0, "", ""


def _around(patch: bytes, said: str) -> str:
    number = "".join(c for c in said.rpartition("line ")[2] if c.isdigit())
    if not number:
        return said
    text = patch.decode("utf-8", "replace").split("\n")
    at = int(number) - 1
    return said + "\n" + "\n".join(text[max(0, at - 5):at + 2])
