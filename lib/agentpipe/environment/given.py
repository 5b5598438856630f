"""Environments that are not ours to make: built by an operator's script, or used as they are found."""

from __future__ import annotations

import json
import os

from agentpipe import errors, files, paths, secrets, untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.environment.discovery import Interpreter
    from agentpipe.environment.image_packages import Packages
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

    Value = dict[str, Any]

AS_IS = ("auto", "never", "always")
# of a Python, as it is started: where a virtual environment has its own packages
ASK = ("import json, sys, sysconfig; own = sys.prefix != getattr(sys, 'base_prefix', sys.prefix); "
       "print(json.dumps(sorted({sysconfig.get_path('purelib'), sysconfig.get_path('platlib')}) if own else []))")


def as_is(job: Job) -> str:
    """--as-is, or AGENT_AS_IS, or "auto"; 64 or 78 for what is none of them."""
    asked = job.option("as_is") or os.environ.get("AGENT_AS_IS") or "auto"
    if asked not in AS_IS:
        raise errors.Failure(f"--as-is is {', '.join(AS_IS)}, not {asked}",
                             errors.USAGE if job.option("as_is") else errors.BAD_CONFIG, remedy="agent-env --help")
    return asked


def custom_build(job: Job) -> Value | None:
    """What the operator's script made in the place of our environment; None: there is none, or it leaves that to us.

    agent.custom_build_script, with clearml-agent's variables. It answers in the file CLEARML_CUSTOM_BUILD_OUTPUT with
    the absolute paths `binary`, `entry_point` and `working_dir`. Its own failure is the task's, with its exit code.
    """
    from agentpipe.settings import config
    told = config.get("agent.custom_build_script", None, "CLEARML_AGENT_CUSTOM_BUILD_SCRIPT")
    if not told:
        return None
    script = os.path.expandvars(os.path.expanduser(told))
    if not os.path.isfile(script):
        raise errors.Failure(f"the custom build script {script} is not there", errors.BAD_CONFIG,
                             remedy="correct agent.custom_build_script, or take it out")
    if job.option("dry_run"):
        job.say(f"would run the custom build script {script}")
        return {}
    answer = os.path.join(paths.box(job.directory), "custom-build.json")
    if os.path.lexists(answer):
        os.unlink(answer)
    job.say(f"custom build: {script}")
    _run_build(job, script, answer)
    return _built(job, script, answer)


def _run_build(job: Job, script: str, answer: str) -> None:
    import shlex

    from agentpipe import tools
    from agentpipe.environment import requirements
    code, folder = requirements.folders(job)
    patch, asked = job.manifest.get("patch") or {}, job.task.get("script") or {}
    entry = str(patch.get("entry_point") or asked.get("entry_point") or "")
    variables = {"CLEARML_CUSTOM_BUILD_TASK_CONFIG_JSON": json.dumps(job.task),
                 "CLEARML_TASK_SCRIPT_ENTRY": entry, "CLEARML_TASK_WORKING_DIR": folder,
                 "CLEARML_VENV_PATH": job.path("env"), "CLEARML_GIT_ROOT": code, "CLEARML_CUSTOM_BUILD_OUTPUT": answer}
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    files.publish(job.path(secrets.BUILD), exports.encode("utf-8", "surrogateescape"))
    start = [script] if os.access(script, os.X_OK) else ["bash", script]
    try:
        job.run([*job.prefix, "sh", "-c", '. "$0" && exec "$@"', job.path(secrets.BUILD), *start], cwd=folder,
                loud=True)
    except tools.ToolFailed as failed:
        code_ = failed.status if failed.status and 0 < failed.status < 256 else 128 - (failed.status or -1)
        failure = errors.Failure(f"the custom build script {script} failed with {failed.status}", code_,
                                 failed.output[-4000:], "see the task's set-up log for its words")
        failure.of_machine = False  # its codes are its own: a 75 or 78 need not mean what ours do
        raise failure from None


def _built(job: Job, script: str, answer: str) -> Value | None:
    """Its answer as the value of `env`; one that is missing or wrong is said, and the build is ours."""
    try:
        found = untrusted.value(*os.path.split(answer))
        binary, entry, folder = (found[name] for name in ("binary", "entry_point", "working_dir"))
        wrong = next((name for name in ("binary", "entry_point", "working_dir")
                      if not os.path.isabs(found[name]) or not (job.prefix or os.path.exists(found[name]))), "")
    except (OSError, ValueError, KeyError, TypeError):
        job.say(f"{script} left no answer in CLEARML_CUSTOM_BUILD_OUTPUT, or not all of it: building as always")
        return None
    if wrong:
        job.say(f"{script} answered with a {wrong} that is not there ({found[wrong]}): building as always")
        return None
    from agentpipe.code.entry import is_python
    python = binary if is_python(binary) else None
    return {"python": python, "version": None, "base": None, "overlay": None, "cached": False, "packages": [],
            "pins": None, "installer": "custom", "reason": f"built by {script}", "path": [os.path.dirname(binary)],
            "binary": binary, "entry_point": entry, "working_dir": folder}


def nothing_installed() -> bool:
    """CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL: the interpreter as it is, and nothing is written back."""
    from agentpipe.settings import config
    return config.flag("", False, "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL")


def installed_into() -> str:
    """CLEARML_AGENT_SKIP_PIP_VENV_INSTALL: the Python whose environment gets what is missing ("python": the usual)."""
    from agentpipe.settings import config
    told = os.environ.get("CLEARML_AGENT_SKIP_PIP_VENV_INSTALL", "").strip()
    if not told or told.lower() in config.NO:
        return ""
    return "python" if told.lower() in config.YES else os.path.expanduser(told)


def value(python: str, packages: Packages, version: str, reason: str, asked: Requirements | None = None) -> Value:
    """The value of `env` for a Python that is used without an overlay."""
    from agentpipe.environment import image_packages
    lines = image_packages.named(packages, asked.names() if asked else set())
    return {"python": python, "version": version, "base": None, "overlay": None, "cached": True, "installer": "none",
            "reason": reason, "packages": lines, "pins": lines, "path": [os.path.dirname(python)]}


def folders(job: Job, python: str) -> list[str]:
    """Where the virtual environment of this Python, if it is one's, has its packages; 66 when it is no Python."""
    from agentpipe.environment import image_packages
    said = ""

    def ask() -> str:
        nonlocal said
        said = job.run([*job.prefix, python, "-B", "-c", ASK], check=False, timeout=60, env=_plain())
        return image_packages.answer_in(said, "[")
    of_task = python.startswith((job.directory + os.sep, paths.cache() + os.sep))
    answer = ask() if of_task else image_packages.remembered(job, "folders of", python, ask)
    if not answer:
        raise errors.Failure(f"{python} is not a Python that can be used", errors.NOT_FOUND, said[-2000:],
                             f"name another interpreter than {python}")
    found: list[str] = json.loads(answer)
    return found


def activated(job: Job, interpreter: Interpreter) -> tuple[str, list[str]]:
    """(the Python that an image's PATH has first, where the virtual environment of that has its packages)."""
    from agentpipe.environment import interpreters
    from agentpipe.settings import config
    python = interpreters.own_path(job, interpreter)
    if not config.flag("agent.docker_use_activated_venv", True):
        return str(interpreter["executable"]), []
    found = folders(job, python)
    return (python, found) if found else (str(interpreter["executable"]), [])


def base_of(interpreter: Interpreter, behind: list[str], packages: Packages, asked: Requirements) -> Value:
    """A base for an overlay that has nothing of its own: the interpreter's packages, and those of its environment."""
    from agentpipe.environment import image_packages
    major, minor = interpreter["version"].split(".")[:2]
    lines = image_packages.named(packages, asked.names())
    return {"key": None, "directory": "", "interpreter": interpreter, "system": True, "behind": behind,
            "site": f"lib/python{major}.{minor}/site-packages", "scripts": [], "folders": [], "links": [],
            "packages": lines, "pins": lines, "below": lines, "installer": "none",
            "pip": bool(image_packages.named(packages, {"pip"}))}


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items()
            if not name.startswith("PYTHON") and name != "__PYVENV_LAUNCHER__"}
