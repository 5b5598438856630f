"""What is done in a container before a task's environment is built, in clearml-agent's order.

The operator's first script, system packages (or the operator's own init script), the operator's last script, the
task's. Each is a file, run as a script: several lines, `if` and comments mean what they mean. What one exports is seen
by the next and by the task's script. One that fails is said and passed over, as clearml-agent does in silence;
AGENT_SETUP_ERRORS=stop ends the task instead.
"""

from __future__ import annotations

import os
import time

from agentpipe import errors, paths, secrets, trees, units, untrusted
from agentpipe.place import entrypoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.place.decide import Container

FOLDER = secrets.SETUP
OF_TASK = "4-task"  # the step that is the task's own script
# of the shell that runs the steps, not of the task
NOT_PASSED_ON = {"PWD", "OLDPWD", "SHLVL", "_", "HOME", "USER", "LOGNAME", "HOSTNAME", "TERM", "DEBIAN_FRONTEND",
                 "CLEARML_APT_INSTALL"}
OPENCV = "libsm6 libxext6 libxrender-dev libglib2.0-0"

# $1 the folder of the steps, $2 that of what they leave, $3 the step, $4 stop or go. Between the steps `exports`
# carries what they export; `environment` is the same as the kernel has it, for us. HOME and its like are those of the
# step's own user.
RUN = r"""
[ -n "$BASH_VERSION" ] || ! command -v bash >/dev/null 2>&1 || exec bash "$0" "$@"
exec 2>&1  # in one stream they keep their order
agent_folder=$1 agent_left=$2 agent_step=$3 agent_errors=$4
agent_home=$HOME agent_user=$USER agent_logname=$LOGNAME agent_cat=$(command -v cat)
[ -s "$agent_left/before" ] || cat /proc/self/environ >"$agent_left/before"
[ ! -s "$agent_left/exports" ] || . "$agent_left/exports"
HOME=$agent_home
[ -z "$agent_user" ] || USER=$agent_user
[ -z "$agent_logname" ] || LOGNAME=$agent_logname
agent_leave() {  # whatever the script has made of PATH, and its `set -x` ends with it
  set +x
  [ -z "${BASH_VERSION:-}" ] || trap - ERR
  export -p >"$agent_left/exports"
  "$agent_cat" /proc/self/environ >"$agent_left/environment"
}
trap '{ agent_leave; } 2>/dev/null' EXIT
if [ "$agent_errors" = stop ]; then
  set -e
elif [ -n "$BASH_VERSION" ]; then
  agent_failed() {
    case $3 in ". \"\$agent_"*) ;; *) echo "set-up: line $2 of $agent_step ended with $1: $3" ;; esac
  }
  trap '{ agent_failed $? $LINENO "$BASH_COMMAND"; } 2>/dev/null' ERR
fi
set --
{  # read as a whole, before a script may say `set -v`
  . "$agent_folder/$agent_step"
  # a script may have put a trap of its own in the place of ours
  { agent_status=$?; set +v; agent_leave; exit "$agent_status"; } 2>/dev/null
}
"""

# As root. The packages are asked for together; where that fails one by one, so that one wrong name does not cost all.
# A list of what there is that is younger than a day is used first: it is kept with the packages, between tasks.
PACKAGES = r"""
[ -z "$BASH_VERSION" ] || trap - ERR
set -- $CLEARML_APT_INSTALL @MORE@
[ $# -gt 0 ] || exit 0
agent_try() {
  if agent_install "$@"; then return 0; fi
  [ $# -gt 1 ] || return 1
  agent_bad=
  for agent_each in "$@"; do agent_install "$agent_each" || agent_bad="$agent_bad $agent_each"; done
  [ -n "$agent_bad" ] || return 0
  echo "these could not be installed:$agent_bad"
  return 1
}
if command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  agent_missing=
  for agent_each in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$agent_each" 2>/dev/null)" = installed ] ||
      agent_missing="$agent_missing $agent_each"
  done
  [ -n "$agent_missing" ] || { echo "the image has them: $*"; exit 0; }
  agent_install() { apt-get install -y "$@"; }
  # images of Debian throw packages away once they are installed
  [ ! -e /etc/apt/apt.conf.d/docker-clean ] || [ ! -w /etc/apt/apt.conf.d/docker-clean ] ||
    echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' >/etc/apt/apt.conf.d/docker-clean
  agent_lists=$(find /var/lib/apt/lists -name '*Packages*' -mmin -1440 2>/dev/null | head -n 1)
  if [ -n "$agent_lists" ] && agent_install $agent_missing; then exit 0; fi
  apt-get update
  agent_try $agent_missing
elif command -v dnf >/dev/null; then
  agent_install() { dnf install -y --setopt=keepcache=1 "$@"; }
  agent_try "$@"
elif command -v microdnf >/dev/null; then
  agent_install() { microdnf install -y "$@"; }
  agent_try "$@"
elif command -v yum >/dev/null; then
  agent_install() { yum install -y "$@"; }
  agent_try "$@"
elif command -v apk >/dev/null; then
  agent_install() { apk add --update-cache --cache-dir /var/cache/apk "$@"; }
  agent_try "$@"
elif command -v zypper >/dev/null; then
  agent_install() { zypper --non-interactive install "$@"; }
  agent_try "$@"
else
  echo "this image has neither apt-get nor dnf, microdnf, yum, apk or zypper: not installed: $*"
  exit 66
fi
"""


# The same for an image without Python. pip is for the scripts that follow; its compilers are not wanted.
PYTHON = PACKAGES.replace("set -- $CLEARML_APT_INSTALL @MORE@", """set -- python3 python3-pip
command -v apt-get >/dev/null || ! command -v apk >/dev/null || set -- python3 py3-pip""") \
    .replace("apt-get install -y", "apt-get install -y --no-install-recommends")


class Step:
    """One script: `name` is its file's, `words` say whose it is, `as_root` whether it needs root inside."""

    def __init__(self, name: str, words: str, text: str, as_root: bool = False) -> None:
        self.name, self.words, self.text, self.as_root = name, words, text, as_root


def steps(container: Container, asks_for_packages: bool = True) -> list[Step]:
    """The steps for this container, those that are empty left out. `asks_for_packages`: whether the container may have
    CLEARML_APT_INSTALL in its environment."""
    from agentpipe.settings import config
    found = [Step("1-preprocess", "agent.docker_preprocess_bash_script", _lines("agent.docker_preprocess_bash_script"))]
    init = _lines("agent.docker_init_bash_script")
    if init:
        found.append(Step("2-init", "agent.docker_init_bash_script", _filled(init)))
    elif not os.environ.get("CLEARML_AGENT_SKIP_CONTAINER_APT"):
        if container.lacks_python:
            found.append(Step("2-python", "Python, which the image lacks", PYTHON, as_root=True))
        more = OPENCV if config.flag("agent.docker_install_opencv_libs") else ""
        if more or asks_for_packages or found[0].text.strip():
            found.append(Step("2-packages", "system packages", PACKAGES.replace("@MORE@", more), as_root=True))
    found.append(Step("3-extra", "agent.extra_docker_shell_script", _lines("agent.extra_docker_shell_script")))
    found.append(Step(OF_TASK, "the task's set-up script", container.setup_script.replace("\r\n", "\n")))
    return [step for step in found if step.text.strip()]


def wants_packages(container: Container, asks_for_packages: bool) -> bool:
    """Whether a shared cache of system packages is of use: a step installs some, or a script names their manager."""
    texts = [container.setup_script, _lines("agent.docker_preprocess_bash_script"),
             _lines("agent.docker_init_bash_script"), _lines("agent.extra_docker_shell_script")]
    return any(name in text for text in texts for name in ("apt", "dnf", "yum", "apk", "zypper")) \
        or container.lacks_python is not False \
        or any(step.name == "2-packages" for step in steps(container, asks_for_packages))


def run(job: Job, container: Container, prefix: list[str], root_prefix: list[str],
        asks_for_packages: bool = False) -> list[dict[str, Any]]:
    """Run all steps in the container that the prefixes enter, as its own user and as root; what came of each.

    `asks_for_packages` as in steps(). Failure 65 or 66 for a step that fails, with AGENT_SETUP_ERRORS=stop.
    """
    wanted = steps(container, asks_for_packages)
    if not wanted:
        return []
    folder, left = _prepare(job, wanted)
    stop = os.environ.get("AGENT_SETUP_ERRORS", "") == "stop"
    done = []
    for step in wanted:
        job.say(f"set-up: {step.words}")
        at, began = units.iso(time.time()), time.monotonic()
        status, said = _run(job, [*(root_prefix if step.as_root else prefix), "sh", os.path.join(folder, "run"), folder,
                                  left, step.name, "stop" if stop else "go"])
        done.append({"step": step.name, "exit": status, "began": at, "seconds": round(time.monotonic() - began, 3)})
        if status == 0:
            job.say(f"set-up: {step.words}: done in {done[-1]['seconds']:.1f} s")
            continue
        if not _can_be_entered(job, prefix):
            raise errors.Failure(f"the container is gone, or its engine does not answer, since {step.words} ran",
                                 errors.UNAVAILABLE, said[-4000:],
                                 "look at the engine's own log, then run the task again")
        reason = f"{step.words} ended with {status}"
        if stop:
            raise errors.Failure(reason, errors.NOT_FOUND if step.as_root else errors.BAD_DATA, said[-4000:],
                                 f"mend it{': agent-task edit --setup-script TEXT' if step.name == OF_TASK else ''}, "
                                 "or unset AGENT_SETUP_ERRORS to go on in spite of it")
        _loudly(job, f"{reason}: passed over, as ClearML Agent does (AGENT_SETUP_ERRORS=stop would end the task)")
    return done


def environment(directory: str) -> dict[str, str | None]:
    """What the steps have exported, for the task's script; None for a variable that they, or we, took away."""
    before, after = _environ(directory, "before"), _environ(directory, "environment")
    if not after:
        return {}
    found: dict[str, str | None] = {name: value for name, value in after.items()
                                    if before.get(name) != value and name not in NOT_PASSED_ON}
    found.update({name: None for name in before if name not in after and name not in NOT_PASSED_ON})
    if "CLEARML_APT_INSTALL" in before:
        found["CLEARML_APT_INSTALL"] = None
    return found


def _run(job: Job, argv: list[str]) -> tuple[int, str]:
    from agentpipe import tools
    try:
        return 0, job.run(argv, loud=True)
    except tools.ToolFailed as failed:
        return failed.status or 1, failed.output


def _can_be_entered(job: Job, prefix: list[str]) -> bool:
    from agentpipe import tools
    try:
        job.run([*prefix, "sh", "-c", "exit 0"], timeout=60)
    except tools.ToolFailed:
        return False
    return True


def _prepare(job: Job, wanted: list[Step]) -> tuple[str, str]:
    """The folder with the scripts, which the container's user can read, and that of what they leave, in files that any
    user can write."""
    folder, left = job.path(FOLDER), os.path.join(paths.box(job.directory), FOLDER)
    for each in {folder, left}:
        trees.discard(each)
        os.mkdir(each, 0o755)
    for name, text in [("run", RUN), *((step.name, step.text) for step in wanted)]:
        _write(job.directory, name, text, 0o644)
    for name in secrets.LEFT:
        _write(paths.box(job.directory), name, "", 0o666)
    return folder, left


def _write(directory: str, name: str, text: str, mode: int) -> None:
    fd = untrusted.opened(directory, f"{FOLDER}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text if text.endswith("\n") else text + "\n" if text else "")
        os.fchmod(fd, mode)


def _environ(directory: str, name: str) -> dict[str, str]:
    try:
        said = untrusted.read(paths.box(directory), f"{FOLDER}/{name}", entrypoint.LIMIT)
        pairs = [each.partition(b"=") for each in said.split(b"\0") if b"=" in each]
    except OSError:
        return {}
    return {os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs}


def _lines(key: str) -> str:
    """A script of the configuration: one text, or a list of lines."""
    from agentpipe.settings import config
    found = config.value(key)
    if isinstance(found, str) and found.lstrip().startswith("["):
        found = config.parsed(found)
    return "\n".join(map(str, found)) if isinstance(found, list) else str(found or "")


def _filled(text: str) -> str:
    """The placeholders of clearml-agent's own script; braces stand doubled in one that knows of them."""
    try:
        return text.format(python_single_digit="python3", python="python3")
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        return text.replace("{python_single_digit}", "python3")


def _loudly(job: Job, line: str) -> None:
    from agentpipe import stdio
    rule = "!" * 20
    job.say(f"{rule}\nset-up: {line}\n{rule}")
    if not job.watched:
        stdio.say(f"agent-prepare: {line}")
