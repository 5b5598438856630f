"""The container that a task asks for, out of the options of `agent-task`."""

from __future__ import annotations

from collections.abc import Mapping

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = {"docker": "image", "docker_args": "arguments", "setup_script": "setup_shell_script"}


def shown(container: Mapping[str, Any]) -> str:
    """The arguments of `docker run`, without the values of secret variables."""
    import shlex

    from agentpipe.place import args_words, container_args
    from agentpipe.settings import config_show
    text = container.get("arguments") or ""
    try:
        return container_args.shown(args_words.parse(shlex.split(text)))
    except errors.Failure:  # of no form that docker knows
        words = shlex.split(text)
    except ValueError:  # a quote too many
        words = ["["]
    if words[0].startswith("["):  # where a word ends nobody knows; and a task's text is not parsed as a setting, which
        return config_show.MASK  # may include files and addresses
    masked = config_show.masked("container.arguments", words)
    return text if masked == words else shlex.join(masked)


def shown_words(words: list[str]) -> list[str]:
    """The words of those arguments one by one as they may be shown, to be typed back (typed_back.py)."""
    from agentpipe import secrets
    from agentpipe.settings import config_show
    return [secrets.shown(word) for word in config_show.masked("container.arguments", words)]


def shown_script(text: str) -> str:
    """A set-up script, without the values of secret variables."""
    from agentpipe import shell_secrets
    return shell_secrets.script_shown(text)


def without_secrets(container: Mapping[str, Any]) -> dict[str, str]:
    """What is said of a container, field by field, without the values of secret variables."""
    found = {field: str(value) for field, value in container.items() if value}
    masked = {"arguments": shown(container), "setup_shell_script": shown_script(found.get("setup_shell_script", ""))}
    return {field: masked.get(field, value) for field, value in found.items()}


def changed(values: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, str] | None:
    """`before` with what the options say, empty values taken out; None when they say nothing.

    A set-up script that begins with @ is the name of a file. Failure 66 when that is not there, 64 for an image that
    has blanks or arguments that cannot be split into words.
    """
    found = {field: values[option] for option, field in OPTIONS.items() if values.get(option) is not None}
    if not found:
        return None
    image = found.get("image", "")
    if image.startswith("-") or any(character.isspace() for character in image):
        raise errors.Failure(f"'{image}' is not the name of an image", errors.USAGE,
                             remedy="--docker IMAGE --docker-args 'ARGUMENTS OF docker run'")
    if found.get("arguments"):
        import shlex
        try:
            shlex.split(found["arguments"])
        except ValueError as error:
            raise errors.Failure(f"--docker-args cannot be split into words: {error}", errors.USAGE) from None
    script = found.get("setup_shell_script", "")
    if script.startswith("@"):
        try:
            with open(script[1:], encoding="utf-8") as file:
                found["setup_shell_script"] = file.read()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise errors.Failure(f"--setup-script {script}: {why}", errors.NOT_FOUND) from None
    return {field: value for field, value in {**(before or {}), **found}.items() if value}
