"""What a task's container is started with: the task's arguments and the operator's, filtered and put together.

As clearml-agent does it (_get_docker_cmd, docker_args.py of 3.0.3), except that an option is known by what it is,
however it was spelled: `-v`, `--net=host` and `-itv` fit the settings that name volume and network.
"""

from __future__ import annotations

import os
import re

from agentpipe import errors
from agentpipe.place import args_files, args_words
from agentpipe.place.args_words import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.place.decide import Container

FORBIDDEN = ["entrypoint"]
PROTECTED = ["privileged", "security-opt", "network", "ipc"]
# beside those that secret_names.py knows
SECRET_NAMES = {"AZURE_STORAGE_KEY", "CLEARML_AUTH_TOKEN"}
# options whose value is NAME=VALUE
NAMED = {"env", "label", "annotation", "log-opt", "storage-opt"}
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Args:
    """`options` in the order in which they count; `notes` for the task's log; `operators`, those of them that are not
    the task's; `runtime` for the task's section of that name (which ports were published)."""

    def __init__(self, options: list[Option], notes: list[str], operators: Sequence[Option] = ()) -> None:
        self.options, self.notes, self.operators = options, notes, operators
        self.runtime: dict[str, str] = {}

    @property
    def words(self) -> list[str]:
        """The words for `docker run`; secrets are in them."""
        return args_words.words(self.options)

    @property
    def asks_for_packages(self) -> bool:
        """Whether they bring CLEARML_APT_INSTALL, by a file of variables too."""
        from agentpipe.place import args_body
        made = args_body.of(option for option in self.options if option.name in ("env", "env-file"))
        return any(line.startswith("CLEARML_APT_INSTALL=") for line in made.config["Env"])

    def shown(self) -> str:
        """The words for people, without secrets."""
        return shown(self.options)


def arguments(job: Job, container: Container, taken: Callable[[str, int], bool] | None = None) -> Args:
    """All arguments of this task's container. `taken(ip, port)` says whether a port of this machine is in use.

    Failure 65 for the task's that cannot be meant, 78 for the operator's.
    """
    from agentpipe.place import ports
    from agentpipe.settings import config
    notes: list[str] = []
    own = args_words.parse(container.arguments, "the container's arguments",
                           errors.BAD_DATA if container.own else errors.BAD_CONFIG)
    if container.own:
        own = _allowed(own, notes)
    own = _with_host_environment(own, not container.own or config.flag("agent.docker_allow_host_environ"), notes)
    own = _not_forbidden(own, notes)
    operators = _not_forbidden(_with_host_environment(_operators(job), True, notes), notes)
    if container.own:
        args_files.check(job, own, operators)
    options = _together(own, operators)
    found = Args(options, notes, operators if container.own else options)
    if any(option.name in ("tty", "interactive") and option.value == "true" for option in options):
        notes.append("--tty and --interactive have no effect: a task's script has no terminal")
    if any(option.name == "workdir" for option in options):
        notes.append("--workdir has no effect on the task's script, which starts in its working_dir")
    if any(option.name == "stop-signal" for option in options):
        notes.append("--stop-signal has no effect: docker stop tells the script by TERM")
    ports.place(found, taken or ports.taken)
    return found


def api(args: Args) -> Any:
    """The container as the Engine API takes it (args_body.Create). Failure 78 for what of the operator's cannot be
    meant, 65 for the task's."""
    from agentpipe.place import args_body
    args_body.of(args.operators, errors.BAD_CONFIG)
    return args_body.of(args.options)


def name(job: Job, worker: str = "") -> str:
    """A name for the container, by agent.docker_container_name_format or `clearml-id-TASK-…`."""
    import secrets

    from agentpipe.settings import config
    task = re.sub(r"[^a-zA-Z0-9._-]", "-", job.task["id"])
    given = config.get("agent.docker_container_name_format")
    if given:
        fields = config.section("agent.docker_container_name_format_fields")
        values = {key: config.at(job.task, str(path).split(".")) for key, path in fields.items()}
        try:
            found = given.format(**{**values, "task_id": task, "worker_id": re.sub(r"[^a-zA-Z0-9._-]", "-", worker),
                                    "rand_string": secrets.token_hex(16)})
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            why = f"no field is called {error.args[0]}" if isinstance(error, KeyError) else str(error)
            job.say(f"agent.docker_container_name_format cannot be used: {why}")
        else:
            if re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", found):
                return found
            job.say(f"agent.docker_container_name_format gives '{found}', which cannot be a container's name")
    return f"clearml-id-{task}-{secrets.token_hex(4)}"


def labels(worker: str, parent: str = "") -> dict[str, str]:
    """The labels that clearml-agent puts on its containers, and the operator's."""
    from agentpipe.settings import config
    found = {"clearml-worker-id": worker, "clearml-parent-worker-id": parent or worker} if worker else {}
    for label in config.get_list("", None, "CLEARML_AGENT_EXTRA_DOCKER_LABELS"):
        key, _, value = label.partition("=")
        found[key] = value
    return found


def shown(options: list[Option]) -> str:
    """Options as a command line for the log: values of secret variables (secret also where --env X=$Y has brought it)
    and labels, of options of log drivers and volumes, and what is secret in addresses are hidden
    (agent.hide_docker_command_env_vars)."""
    import shlex

    from agentpipe.settings import config, own_secrets
    hidden = "agent.hide_docker_command_env_vars."
    more = config.get_list("", None, "CLEARML_AGENT_DOCKER_ARGS_HIDE_ENV")
    if not more and not config.flag(hidden + "enabled", True):
        return shlex.join(args_words.words(options))
    names = {*SECRET_NAMES, *more, *config.get_list(hidden + "extra_keys")}
    urls = config.flag(hidden + "parse_embedded_urls", True)
    ours = own_secrets.known() if any(option.name in NAMED for option in options) else set[str]()
    return shlex.join(args_words.words([Option(option.name, _masked(option, names, ours, urls), "")
                                        for option in options]))


def _masked(option: Option, names: set[str], ours: set[str], in_urls: bool) -> str:
    from agentpipe import urls
    from agentpipe.secret_names import is_secret_name
    from agentpipe.settings import config_show

    def is_secret(key: str, value: str) -> bool:
        return key in names or is_secret_name(key) or any(secret in value for secret in ours)
    key, equals, value = option.value.partition("=")
    if option.name in NAMED and equals and is_secret(key, value):
        return f"{key}={config_show.MASK}"
    text = option.value
    if option.name == "mount":
        text = re.sub(r'[^,"]+', lambda field: _field_masked(field[0], is_secret), text)
    return urls.masked(text, config_show.MASK) if in_urls else text


def _field_masked(field: str, is_secret: Callable[[str, str], bool]) -> str:
    """A field of --mount, as password=… is of type=volume,"volume-opt=o=username=me,password=…"."""
    from agentpipe.settings import config_show
    *names, value = field.split("=")
    for count, name in enumerate(names, 1):
        if is_secret(name, "=".join([*names[count:], value])):
            return "=".join([*names[:count], config_show.MASK])
    return field


def _operators(job: Job) -> list[Option]:
    """CLEARML_AGENT_EXTRA_DOCKER_ARGS, else agent.extra_docker_arguments, templates filled."""
    from agentpipe.settings import config
    words = config.get_list("agent.extra_docker_arguments", None, "CLEARML_AGENT_EXTRA_DOCKER_ARGS")
    if any("CLEARML_" in word for word in words):
        from agentpipe import templates
        values = templates.of_job(job)
        words = [templates.resolve(word, values) for word in words]
    return args_words.parse(words, "agent.extra_docker_arguments", errors.BAD_CONFIG)


def _allowed(own: list[Option], notes: list[str]) -> list[Option]:
    """Those of the task that agent.docker_args_filters lets through; all when there are no filters."""
    patterns = filters()
    if not patterns:
        return own
    kept = [option for option in own if any(pattern.match(option.spelled) for pattern in patterns)]
    _note(notes, own, kept, "agent.docker_args_filters does not let the task use")
    return kept


def filters() -> list[re.Pattern[str]]:
    """agent.docker_args_filters. Failure 78 for what is no regular expression."""
    from agentpipe.settings import config
    try:
        return [re.compile(each) for each
                in config.get_list("agent.docker_args_filters", None, "CLEARML_AGENT_DOCKER_ARGS_FILTERS")]
    except re.error as error:
        raise errors.Failure(f"agent.docker_args_filters: {error}", errors.BAD_CONFIG) from None


def check_operators() -> None:
    """Failure 78 for arguments of the operator with which no container can be made, but for those that take a value
    from a task: they are looked at when there is one."""
    from agentpipe.place import args_body
    from agentpipe.settings import config
    for key, *variables in (("agent.default_docker.arguments",),
                            ("agent.extra_docker_arguments", "CLEARML_AGENT_EXTRA_DOCKER_ARGS")):
        words = config.get_list(key, None, *variables)
        if any(word.startswith("${") for word in words):
            continue
        options = args_words.parse(words, key, errors.BAD_CONFIG)
        args_body.of((option for option in _not_forbidden(options, []) if "${CLEARML_" not in option.value),
                     errors.BAD_CONFIG)


def _not_forbidden(options: list[Option], notes: list[str]) -> list[Option]:
    from agentpipe.settings import config
    names = {args_words.canonical(each) for each in config.get_list("agent.forbidden_docker_args", FORBIDDEN)}
    kept = [option for option in options if option.name not in {*names, "entrypoint"}]
    _note(notes, options, kept, "left out, because they are forbidden here (agent.forbidden_docker_args):")
    return kept


def _together(own: list[Option], operators: list[Option]) -> list[Option]:
    """Both, those of the operator first; of the protected ones only those of who takes precedence."""
    from agentpipe.settings import config
    protected = {args_words.canonical(each) for each in config.get_list("agent.protected_docker_extra_args", PROTECTED)}
    first, second = operators, own
    if not config.flag("agent.docker_args_extra_precedes_task", True):
        first, second = own, operators
    decided = protected & {option.name for option in first}
    return first + [option for option in second if option.name not in decided]


def _with_host_environment(options: list[Option], allowed: bool, notes: list[str]) -> list[Option]:
    """--env X=$Y and --env X, files of variables too, with the values of this process; the task's only where the
    operator allows it."""
    found = []
    for option in args_files.taking_over(options, allowed):
        key, equals, value = option.value.partition("=")
        if option.name != "env":
            found.append(option)
        elif not equals and not allowed:
            notes.append(f"--env {key} is left out: tasks may not read variables of this machine "
                         "(agent.docker_allow_host_environ)")
        elif not equals:
            if key in os.environ:  # as docker run: one that is not set stays unset
                found.append(Option("env", f"{key}={os.environ[key]}", option.spelled))
        else:
            text = _VARIABLE.sub(_from_environment, value) if allowed else value
            found.append(Option("env", f"{key}={text}", option.spelled))
    return found


def _from_environment(match: re.Match[str]) -> str:
    return os.environ.get(match[1] or match[2], match[0])


def _note(notes: list[str], before: list[Option], after: list[Option], words: str) -> None:
    gone = dict.fromkeys(f"--{option.name}" for option in before if option not in after)
    if gone:
        notes.append(f"{words} {', '.join(gone)}")
