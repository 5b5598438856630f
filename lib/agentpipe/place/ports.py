"""Published ports of a task's container: moved where they are taken, and told to the `clearml` package."""

from __future__ import annotations

import os
import re

from agentpipe import errors
from agentpipe.place.args_words import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agentpipe.place.container_args import Args

# what engines say of a port that another has
TAKEN = ("port is already allocated", "address already in use")
LOWEST, HIGHEST = 10000, 60000  # where a free port is looked for, as clearml-agent's TcpPorts


class Taken(errors.Failure):
    """The engine has not started a container since these `ports` have been taken since they were looked at."""

    def __init__(self, failure: errors.Failure, ports: set[int]) -> None:
        super().__init__(failure.reason, failure.exit, failure.evidence, failure.remedy)
        self.ports = ports


def of_refusal(failure: errors.Failure) -> errors.Failure:
    """Taken for what an engine says of a port; else the same."""
    if not any(words in failure.evidence for words in TAKEN):
        return failure
    return Taken(failure, {int(number) for number in re.findall(r":(\d{1,5})\b(?!\.)", failure.evidence)})


def place(args: Args, is_taken: Callable[[str, int], bool]) -> None:
    """Move the ports that are taken, or outside agent.docker_args_allowed_port_range; note where they are to be found.

    On the host's own network nothing is published, and nothing to be done; UDP ports stay as they are.
    """
    if not any(option.name == "publish" for option in args.options) \
            or any(option.name == "network" and option.value in ("host", "none") for option in args.options):
        return
    from agentpipe.place import args_body, args_values
    allowed, given, pairs = allowed_range(), set[int](), []
    for at, option in enumerate(args.options):
        if option.name != "publish":
            continue
        try:
            port = args_values.Port(option.value)
        except ValueError as error:
            raise args_body.unreadable(option, error) from None
        if port.protocol != "tcp":
            continue
        if port.host is None:
            continue  # the engine takes a free one, which docker inspect tells
        first, last = port.host

        def is_free(each: int, ip: str = port.ip, given: set[int] = given) -> bool:
            inside = allowed is None or allowed[0] <= each <= allowed[1]
            return each not in given and inside and not is_taken(ip, each)
        if not all(is_free(each) for each in range(first, last + 1)):
            start = _free_row(last - first + 1, allowed or (LOWEST, HIGHEST - 1), is_free)
            if start is None:
                within = f" of {allowed[0]}-{allowed[1]} (agent.docker_args_allowed_port_range)" if allowed else ""
                args.notes.append(f"--publish {option.value} stays as it is: no other port{within} is free")
            else:
                port.host = (start, start + last - first)
                args.options[at] = Option("publish", port.text(), option.spelled)
                args.notes.append(f"--publish {option.value} is moved: it is now {port.text()}")
        given.update(range(port.host[0], port.host[1] + 1))
        pairs.append(port.mapping())
    args.runtime = {"_external_host_tcp_port_mapping": ",".join(pairs)} if pairs else {}
    address = host_address()
    if address:
        args.options.append(Option("env", f"CLEARML_AGENT_HOST_IP={address}", "--env"))


def taken(ip: str, port: int) -> bool:
    """Whether something listens on this port here."""
    import socket
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError:
            return True
    return False


def host_address() -> str | None:
    """This machine's address as others reach it: CLEARML_AGENT_FORCE_HOST_MACHINE_IP, or that of the way out."""
    forced = os.environ.get("CLEARML_AGENT_FORCE_HOST_MACHINE_IP")
    if forced:
        return forced
    import socket

    from agentpipe.settings import config
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # UDP: nothing is sent
            probe.connect((config.get("api.public_ip_ping", "8.8.8.8") or "", 1))
            return str(probe.getsockname()[0])
        except OSError:
            pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return None


def allowed_range() -> tuple[int, int] | None:
    """agent.docker_args_allowed_port_range. Failure 78 for what is no range."""
    from agentpipe.settings import config
    found = config.get_list("agent.docker_args_allowed_port_range")
    if not found:
        return None
    try:
        numbers = [int(each) for each in found]
    except ValueError:
        raise errors.Failure("agent.docker_args_allowed_port_range: two numbers are wanted, as [20000, 20100]",
                             errors.BAD_CONFIG) from None
    return min(numbers), max(numbers)


def _free_row(count: int, within: tuple[int, int], is_free: Callable[[int], bool]) -> int | None:
    """The first of `count` free ports in a row."""
    row = 0
    for port in range(within[0], within[1] + 1):
        row = row + 1 if is_free(port) else 0
        if row == count:
            return port - count + 1
    return None
