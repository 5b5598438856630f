"""Completion for bash, zsh and fish, written out of the same declarations as --help.

What can stand where is a table of words; only names of queues, tasks and their like are asked for while somebody types
(complete.py). The texts are installed with the package; a test writes them again and compares.
"""

from __future__ import annotations

import os
import re
from importlib import import_module

from agentpipe import errors
from agentpipe.task.listing import COLUMNS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STAGES = ("fetch", "patch", "env", "prepare", "run")
SHORT = 20  # characters of what stands before a colon and is no description by itself
PLAIN = ("pull", "report", "server", "status", "supervisor")
FOLDER = os.path.join(os.path.dirname(__file__), "completions")
FILES = {"bash": "bash/agent-task", "zsh": "zsh/_agentpipe", "fish": "fish/agent-task.fish"}
# what a value is, by its option or its name in the help: a kind of complete.py, "files", after "=" the words
# themselves, after "," those of which several stand with commas
VALUES = {"QUEUE": "queues", "TASK": "tasks", "A": "tasks", "B": "tasks", "SCRIPT|TASK": "tasks files", "ID": "tasks",
          "IMAGE": "images", "PROJECT": "projects", "TAG": "tags", "FILE": "files", "DIR": "files", "DIR|URL": "files",
          "PATH": "files", "SCRIPT": "files", "SHELL": "=bash zsh fish", "POLICY": "=requeue stop",
          "STATUS": "=created queued in_progress stopped completed failed closed published script_failed "
                    "out_of_memory time_limit stalled setup_failed aborted drained preempted lost",
          "--on-lost": "=fail requeue", "STREAM": "=setup log", "NAMES": "," + " ".join(COLUMNS)}


class Place:
    """One command, or one verb of it: `options` are (name, short, value's kind or None, help), `words` what its
    arguments are."""

    def __init__(self, command: str, verb: str, options: list[tuple[str, str, str | None, str]], words: str,
                 help: str = "") -> None:
        self.command, self.verb, self.options, self.words, self.help = command, verb, options, words, help


def places() -> list[Place]:
    """All of them."""
    from agentpipe import options
    found = []
    for name in (*STAGES, *PLAIN):
        module = import_module(f"agentpipe.cmds.agent_{name}")
        declared = [*(module.options() if hasattr(module, "options") else []),
                    *(options.common() if name in STAGES else [])]
        found.append(_place(f"agent-{name}", "", declared))
    group = import_module("agentpipe.cmds.agent_task").GROUP
    for word in group.words():
        verb = group.verb(word)
        found.append(_place("agent-task", word, verb.declared, verb.summary))
    return [*found, *_of_typer("agent-config")]


def _place(name: str, verb: str, declared: Any, help: str = "") -> Place:
    from agentpipe.options import Argument, Option
    options = [(item.name, item.short, VALUES.get(item.name, kind(item.metavar)) if isinstance(item, Option) else None,
                item.help)
               for item in declared if not isinstance(item, Argument)]
    words = [kind(item.metavar) for item in declared if isinstance(item, Argument)]
    return Place(name, verb, options, words[0] if words else "", help)


def kind(metavar: str) -> str:
    """What stands for this name."""
    return VALUES.get(metavar, "")


def _of_typer(name: str) -> list[Place]:
    import typer
    group: Any = typer.main.get_command(import_module("agentpipe.cmds." + name.replace("-", "_")).app)
    found = []
    for verb, each in group.commands.items():
        options = [(parameter.opts[0], "".join(parameter.opts[1:]),
                    None if parameter.is_flag else kind(parameter.metavar or ""), parameter.help or "")
                   for parameter in each.params if parameter.opts[0].startswith("--") and parameter.name != "help"]
        found.append(Place(name, verb, options, "", (each.help or "").partition("\n")[0].rstrip(".")))
    return found


def commands(found: list[Place]) -> list[str]:
    """Their names."""
    return sorted({place.command for place in found})


def text(shell: str) -> str:
    """The completion of all commands for one shell, as it is installed with the package."""
    if shell not in FILES:
        raise errors.Failure(f"no completion for `{shell}`", errors.USAGE, remedy="one of " + ", ".join(FILES))
    with open(os.path.join(FOLDER, FILES[shell]), encoding="utf-8") as file:
        return file.read()


def written(shell: str) -> str:
    """The same, written anew out of the declarations."""
    return {"bash": bash, "zsh": zsh, "fish": fish}[shell](places())


def write() -> None:
    """Bring the installed files up to date: one for each command where a shell looks for the command's name."""
    for shell, path in FILES.items():
        folder = os.path.dirname(os.path.join(FOLDER, path))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(FOLDER, path), "w", encoding="utf-8") as file:
            file.write(written(shell))
        for name in commands(places()) if shell != "zsh" else ():
            link = os.path.join(folder, name + (".fish" if shell == "fish" else ""))
            if not os.path.lexists(link):
                os.symlink(os.path.basename(path), link)


def _table(found: list[Place]) -> str:
    """A case of sh for each place: o its options, v what values they take, w what its words are."""
    lines = []
    for place in found:
        options = " ".join(name for name, *_ in place.options) + " --help"
        values = [f"{each} {value}".rstrip() for name, short, value, _ in place.options if value is not None
                  for each in (name, short) if each]
        lines.append(f"    '{place.command} {place.verb}')".replace(" ')", "')"))
        lines.append(f"      o='{options}'")
        if values:
            lines.append("      v='" + "\n".join(values) + "'")
        if place.words:
            lines.append(f"      w='{place.words}'")
        lines.append("      ;;")
    for name in commands(found):
        verbs = [place.verb for place in found if place.command == name and place.verb]
        if verbs:
            lines += [f"    '{name}')", f"      o='--help --version' w='={' '.join(verbs)}'", "      ;;"]
    return "\n".join(lines)


COMMON = """  local verb='' word o='' v='' w='' kind='' known=''
  for word in "${before[@]}"; do
    case $word in -*) ;; *) verb=$word; break ;; esac
  done
  case $command in agent-task|agent-config) place="$command${verb:+ $verb}" ;; *) place=$command ;; esac
  case $place in
%s
  esac
  while read -r word known; do
    if [[ -n $word && $word == "$previous" ]]; then kind=${known:-none}; fi
  done <<<"$v"
"""


# bash breaks words at `:` and `=`, and leaves quotes and backslashes as they were typed
JOINED = """  while :; do
    if ((at > 1)) && [[ $current == : ]]; then
      begun=${COMP_WORDS[at-1]}: current='' at=$((at - 1))
    elif ((at > 2)) && [[ ${COMP_WORDS[at-1]} == : ]]; then
      begun=${COMP_WORDS[at-2]}:$begun at=$((at - 2))
    else
      break
    fi
  done
  if [[ $current == '=' ]]; then
    current=''
  elif ((at > 2)) && [[ ${COMP_WORDS[at-1]} == '=' ]]; then
    at=$((at - 1))
  fi
  if [[ $current == [\\"\\']* ]]; then
    quote=${current:0:1} current=${current:1}
  else
    current=${current//\\\\/}
  fi
  if ((at > 1)); then previous=${COMP_WORDS[at-1]}; fi
"""


def bash(found: list[Place]) -> str:
    """For bash >= 4, with or without the package bash-completion."""
    names = commands(found)
    return ("# Completion of agentpipe's commands for bash. Written by `agent-task completion bash`.\n"
            "_agentpipe() {\n"
            "  local current=${COMP_WORDS[COMP_CWORD]} previous='' command=${COMP_WORDS[0]##*/} place=''\n"
            "  local before=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\") at=$COMP_CWORD begun='' quote=''\n"
            + JOINED + COMMON % _table(found) + """  COMPREPLY=()
  if [[ -z $kind ]]; then
    if [[ $current == -* ]]; then
      mapfile -t COMPREPLY < <(compgen -W "$o" -- "$current")
      return
    fi
    kind=$w
  fi
  case $kind in
    '='*) mapfile -t COMPREPLY < <(compgen -W "${kind#=}" -- "$current") ;;
    ','*)
      compopt -o nospace 2>/dev/null
      if [[ $current == *,* ]]; then known=${current%,*},; fi
      mapfile -t COMPREPLY < <(compgen -P "$known" -W "${kind#,}" -- "${current##*,}")
      ;;
    '' | none) ;;
    *)
      for word in $kind; do
        if [[ $word == files ]]; then
          compopt -o filenames 2>/dev/null
          mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")
        else
          while IFS=$'\\t' read -r known _; do
            if [[ -z $quote ]]; then known=$(printf %q "$known"); fi
            COMPREPLY+=("${known#"$begun"}")
          done < <(agent-task complete "$word" "$begun$current" 2>/dev/null)
        fi
      done
      ;;
  esac
}
""" + f"complete -F _agentpipe {' '.join(names)}\n")


def zsh(found: list[Place]) -> str:
    """For zsh: a function of its fpath, or eval."""
    names = " ".join(commands(found))
    return (f"#compdef {names}\n"
            "# Completion of agentpipe's commands for zsh. Written by `agent-task completion zsh`.\n"
            "_agentpipe() {\n"
            "  local current=${words[CURRENT]} previous='' command=${words[1]:t} place='' line\n"
            "  local -a before=(\"${(@)words[2,CURRENT-1]}\") texts given\n"
            "  ((CURRENT > 2)) && previous=${words[CURRENT-1]}\n"
            "  if [[ $current == --*=* ]]; then\n"
            "    compset -P '*='\n"
            "    previous=${current%%=*} current=${current#*=}\n"
            "  fi\n"
            + COMMON % _table(found) + """  if [[ -z $kind ]]; then
    if [[ $current == -* ]]; then
      compadd -- ${(z)o}
      return
    fi
    kind=$w
  fi
  case $kind in
    '='*) compadd -- ${(z)${kind#=}} ;;
    ','*)
      compset -P '*,'
      compadd -S '' -- ${(z)${kind#,}}
      ;;
    '' | none) ;;
    *)
      for word in ${(z)kind}; do
        if [[ $word == files ]]; then
          _files
          continue
        fi
        given=() texts=()
        while IFS= read -r line; do
          given+=("${line%%$'\\t'*}") texts+=("${line/$'\\t'/  }")
        done < <(agent-task complete $word "$current" 2>/dev/null)
        compadd -l -d texts -a given
      done
      ;;
  esac
}
""" + f"""if [[ $funcstack[1] == _agentpipe ]]; then
  _agentpipe "$@"
else
  compdef _agentpipe {names}
fi
""")


def fish(found: list[Place]) -> str:
    """For fish."""
    lines = ["# Completion of agentpipe's commands for fish. Written by `agent-task completion fish`.",
             "if not set -q __agentpipe_completion", "set -g __agentpipe_completion 1"]
    for place in found:
        when = f" -n '__fish_seen_subcommand_from {place.verb}'" if place.verb else ""
        if place.verb:
            lines.append(f"complete -c {place.command} -f -n __fish_use_subcommand -a {place.verb}"
                         f" -d {_quoted(place.help)}")
        if "files" not in place.words:
            lines.append(f"complete -c {place.command} -f{when}")
        for word in place.words.split() if not place.words.startswith("=") else ():
            if word != "files":
                lines.append(f"complete -c {place.command}{when} -a '{_asked(word)}'")
        if place.words.startswith("="):
            lines.append(f"complete -c {place.command}{when} -a {_offered(place.words)}")
        for name, short, value, help in place.options:
            more = f" -l {short[2:]}" if short.startswith("--") else f" -s {short[1:]}" if short else ""
            if value is not None:
                more += {"": " -x", "files": " -r -F"}.get(value, " -x")
                if value and value != "files":
                    more += f" -a {_offered(value)}"
            lines.append(f"complete -c {place.command}{when} -l {name[2:]}{more} -d {_quoted(_first(help))}")
    return "\n".join([*lines, "end", ""])


def _offered(kind: str) -> str:
    """What fish is given for a kind of words."""
    if kind.startswith(","):
        return f"'(__fish_append , {kind[1:]})'"
    return _quoted(kind[1:]) if kind.startswith("=") else f"'{_asked(kind)}'"


def _asked(kind: str) -> str:
    return f"(agent-task complete {kind} 2>/dev/null)"


def _first(help: str) -> str:
    whole = re.split(r"[.;] ", help.replace("\n", " "))[0].rstrip(".")
    head = whole.partition(": ")[0]
    return head if len(head) > SHORT else whole  # "With --id: …" tells nothing without the rest


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


if __name__ == "__main__":
    write()
