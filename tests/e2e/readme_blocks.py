"""Runs the console blocks of a page in one shell: each command as it stands there, and what it prints is compared.

A line "…" stands for any lines, "…" within a line for any text, an id for any id, and a time for any time. Commands
below which nothing stands may print what they like.
"""

import re
import subprocess
import sys

MARK = "--- readme: "


def commands(page):
    """[(command, the lines that stand below it)] of all blocks."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def run(lines):
    """What each command printed, in order, of one shell that runs them all."""
    script = "".join(f"echo '{MARK}{number}'\n{line}\n" for number, line in enumerate(lines))
    done = subprocess.run(["bash"], input=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [part.partition("\n")[2] for part in done.stdout.split(MARK)[1:]]


def plain(line):
    """A line without what is different each time."""
    line = re.sub(r"\b[0-9a-f]{8,32}(?:…|\b)", "ID", line)
    line = re.sub(r" +\d+(\.\d+)? (s|ms|min)\b", " TIME", line)
    return re.sub(r"[█░]+", "BAR", re.sub(r"  +", "  ", line))


def fits(shown, printed):
    """Whether the printed lines are those that are shown, with anything where "…" stands."""
    pattern = ""
    for line in shown:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part.rstrip() if last else part)
                                  for last, part in ends(plain(line).split("…"))) + " *\\n"
    return re.fullmatch(pattern, "".join(plain(line).rstrip() + "\n" for line in printed.splitlines())) is not None


def ends(parts):
    """(whether it is the last, each part)."""
    return [(number == len(parts) - 1, part) for number, part in enumerate(parts)]


def main():
    """Exit 1 with the first command that does something else."""
    with open(sys.argv[1], encoding="utf-8") as file:
        wanted = commands(file.read())
    printed = run([command for command, _ in wanted])
    for (command, shown), told in zip(wanted, printed, strict=True):
        if shown and not fits(shown, told):
            sys.exit(f"$ {command}\nis to print:\n" + "\n".join(shown) + f"\nand prints:\n{told}")
    print(len(wanted), "commands")


if __name__ == "__main__":
    main()
