"""The words of `docker run` as options with their values, spelled as its own parser (pflag) takes them."""

from __future__ import annotations

from collections.abc import Mapping

from agentpipe import errors

# those that take no value; with their short names
SWITCHES = {"detach": "d", "disable-content-trust": "", "init": "", "interactive": "i", "no-healthcheck": "",
            "oom-kill-disable": "", "privileged": "", "publish-all": "P", "quiet": "q", "read-only": "", "rm": "",
            "sig-proxy": "", "tty": "t", "use-api-socket": ""}
# `docker run --help` of 28.2
VALUED = dict.fromkeys("""
add-host annotation blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile cpu-count
cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpus cpuset-cpus cpuset-mems detach-keys device
device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops dns dns-option dns-search
domainname entrypoint env-file expose gpus group-add health-cmd health-interval health-retries health-start-interval
health-start-period health-timeout io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory label-file link
link-local-ip log-driver log-opt mac-address memory-reservation memory-swap memory-swappiness mount name network
network-alias oom-score-adj pid pids-limit platform pull restart runtime security-opt shm-size stop-signal
stop-timeout storage-opt sysctl tmpfs ulimit userns uts volume-driver volumes-from""".split(), "")  # noqa: SIM905
VALUED |= {"attach": "a", "cpu-shares": "c", "env": "e", "hostname": "h", "label": "l", "memory": "m", "publish": "p",
           "user": "u", "volume": "v", "workdir": "w"}
ALIASES = {"net": "network", "net-alias": "network-alias", "dns-opt": "dns-option"}
# what users of Apptainer write, as docker run says it
OF_APPTAINER = {"--nv": "--gpus all", "--rocm": "--gpus all", "--bind": "-v SOURCE:TARGET", "-B": "-v SOURCE:TARGET"}
_SHORT = {short: name for name, short in {**SWITCHES, **VALUED}.items() if short}
OF_OPERATOR = "agent.extra_docker_arguments, agent.default_docker.arguments, --docker"
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


class Option:
    """One option: its long `name`, `value` ("true" or "false" of a switch), and `spelled`, as a filter sees it.

    `environ`: the variables that a file of variables may take over by their names alone; None: those of this process.
    """

    __slots__ = ("environ", "name", "spelled", "value")

    def __init__(self, name: str, value: str, spelled: str, environ: Mapping[str, str] | None = None) -> None:
        self.name, self.value, self.spelled, self.environ = name, value, spelled, environ

    def __repr__(self) -> str:
        return f"--{self.name}={self.value}"


def parse(words: list[str], whose: str = "the container's arguments", exit: int = errors.BAD_DATA) -> list[Option]:
    """The options that these words are. A Failure names the word that `docker run` would not take as an option."""
    found: list[Option] = []
    rest = list(words)
    if any("\0" in word for word in rest):
        raise _refused(f"{whose}: they have a NUL byte, which no program can be given", exit)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and len(word) > 2:
            found.append(_long(word, rest, whose, exit))
        elif word.startswith("-") and len(word) > 1 and word != "--":
            found += _short(word, rest, whose, exit)
        else:
            raise _refused(f"{whose}: '{word}' belongs to no option", exit,
                           "write options only, --opt value or --opt=value: image and command stand elsewhere")
    return found


def canonical(name: str) -> str:
    """The long name that a setting means by `net`, `-v` or `--env`."""
    bare = name.strip().lstrip("-")
    return _SHORT.get(bare) or ALIASES.get(bare, bare)


def words(options: list[Option]) -> list[str]:
    """The options as words again."""
    found: list[str] = []
    for option in options:
        if option.name in SWITCHES:
            found.append(f"--{option.name}" if option.value == "true" else f"--{option.name}=false")
        else:
            found += [f"--{option.name}", option.value]
    return found


def _long(word: str, rest: list[str], whose: str, exit: int) -> Option:
    given, equals, value = word[2:].partition("=")
    name = ALIASES.get(given, given)
    if name in SWITCHES:
        return Option(name, _switch(word, value, whose, exit) if equals else "true", word)
    if name not in VALUED:
        raise _unknown(f"--{given}", whose, exit)
    return Option(name, value if equals else _next(word, rest, whose, exit), word)


def _short(word: str, rest: list[str], whose: str, exit: int) -> list[Option]:
    """-e A=1, -eA=1, -e=A=1, and switches together: -it, -itv /a:/b."""
    found: list[Option] = []
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        name = _SHORT.get(letter)
        if name is None:
            raise _unknown(f"-{letter}", whose, exit)
        spelled = word if len(word) == 2 or (not found and name in VALUED) else f"-{letter}"
        if name in VALUED:
            value = letters or _next(f"-{letter}", rest, whose, exit)
            if letters.startswith("=") and letters != "=":
                value = letters[1:]
            return [*found, Option(name, value, spelled)]
        if letters.startswith("="):
            return [*found, Option(name, _switch(word, letters[1:], whose, exit), spelled)]
        found.append(Option(name, "true", spelled))
    return found


def _next(word: str, rest: list[str], whose: str, exit: int) -> str:
    if not rest:
        raise _refused(f"{whose}: {word} wants a value", exit)
    return rest.pop(0)


def _switch(word: str, value: str, whose: str, exit: int) -> str:
    if value not in TRUE + FALSE:
        raise _refused(f"{whose}: {word}: true or false is wanted", exit)
    return "true" if value in TRUE else "false"


def _unknown(option: str, whose: str, exit: int) -> errors.Failure:
    meant = OF_APPTAINER.get(option)
    return _refused(f"{whose}: {option} is no option of docker run", exit,
                    f"{meant}, which Apptainer gets as its {option}" if meant else "")


def _refused(reason: str, exit: int, remedy: str = "") -> errors.Failure:
    return errors.Failure(reason, exit, remedy=remedy or mend(exit))


def mend(exit: int) -> str:
    """What to do about arguments that are not docker's: the command that changes a task's (65), or where else they
    stand."""
    whose = "agent-task edit --docker-args" if exit == errors.BAD_DATA else OF_OPERATOR
    return f"mend the arguments of the container (docker run --help): {whose}"
