"""A Jupyter notebook as the Python script that agent-run starts, without nbconvert."""

import json
import os

from agentpipe import entry, errors

HEADER = "# converted from {} by agent-patch\n"
# magics that mean nothing outside a notebook
IDLE = ("matplotlib", "load_ext", "autoreload", "reload_ext", "pylab", "config", "autosave", "clear", "reset")


def convert(path: str) -> str:
    """Write the notebook's code cells as a script beside it; that script's path. What is no notebook: Failure 65.

    `!command` becomes a call of the shell, magics that only matter to a notebook a comment; any other is refused.
    """
    name = os.path.basename(path)
    with open(path, encoding="utf-8") as file:
        try:
            cells = json.load(file)["cells"]
            sources = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
        except (ValueError, KeyError, TypeError):
            raise errors.Failure(f"{name} is not a notebook (format 4)", errors.BAD_DATA,
                                 remedy="open it in Jupyter and save it again") from None
    text = HEADER.format(name)
    for number, (source, kind) in enumerate(sources, 1):
        if kind == "code":
            text += f"\n# cell {number}\n" + "".join(_line(line, name, number) for line in source.splitlines())
    target = os.path.splitext(path)[0] + ".py"
    if os.path.lexists(target) and not _ours(target, name):
        target = os.path.splitext(path)[0] + "_notebook.py"
    entry.publish(target, text.encode("utf-8", "surrogateescape"))
    return target


def _line(line: str, name: str, number: int) -> str:
    code = line.lstrip()
    indent = line[:len(line) - len(code)]
    if code.startswith("!"):
        return f"{indent}__import__('subprocess').run({code[1:]!r}, shell=True)\n"
    if not code.startswith("%") or code.startswith("%="):
        return line + "\n"
    magic = code.lstrip("%").split(" ")[0]
    if magic in ("pip", "conda"):
        return f"{indent}__import__('subprocess').run({code.lstrip('%')!r}, shell=True)\n"
    if magic in IDLE or (magic in ("time", "timeit") and code == "%%" + magic):
        return f"{indent}pass  # {code}\n"
    raise errors.Failure(f"cell {number} of {name} uses the magic {code.split(' ')[0]}, which needs a notebook",
                         errors.BAD_DATA, line, f"jupyter nbconvert --to script {name}, and run that")


def _ours(path: str, name: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline() == HEADER.format(name)
    except (OSError, ValueError):
        return False
