"""Settings: a flag, then the environment, then clearml.conf, then the default."""

import os


def get(key: str, default: str | None = None, *variables: str) -> str | None:
    """The value of a `clearml.conf` key ("agent.default_python") as text.

    `variables` are the named environment variables that stand for it (CLEARML_AGENT_GIT_USER …), looked at first;
    then CLEARML_AGENT__AGENT__DEFAULT_PYTHON, the spelling that sets any key (as in ClearML Agent).
    """
    for name in (*variables, *(["CLEARML_AGENT__" + key.upper().replace(".", "__")] if key else [])):
        value = os.environ.get(name)
        if value:
            return value
    return default


def flag(key: str, default: bool = False, *variables: str) -> bool:
    """The same as a yes or no: 1, true, yes, on (in any case) are yes."""
    value = get(key, None, *variables)
    return default if value is None else value.strip().lower() in {"1", "true", "yes", "on"}
