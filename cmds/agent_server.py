"""agent-server: serve the store of this machine over the ClearML HTTP API."""

import os
import re
import sys

from agentpipe import cells, command, paths, stdio

EXAMPLES = """
  agent-server &
  agent-server --new-keys | agent-config init
  agent-server --host 0.0.0.0 --files-dir /data/files
"""

HERE = "127.0.0.1"
PORTS = {"port": 8008, "files_port": 8081}
LAST_PORT = 65535
# as clients reach it, with --new-keys
HOST = re.compile(r"(?:(?P<scheme>https?)://)?(?P<name>[\w.-]+|\[?[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\]?)/?")


def options():
    from agentpipe.options import Flag, Option
    return [
        Option("--host", "ADDRESS", "Where to listen. Default: 127.0.0.1, which only programs of this machine reach."),
        Option("--port", "PORT", "The API's port; 0 takes a free one. Default: 8008.", int),
        Option("--files-port", "PORT", "The files server's port. Default: 8081.", int),
        Option("--silent", "SECONDS", "Stop tasks that gave no sign of life for so long; 0: never.", int, 7200),
        Option("--files-dir", "DIR", "Where uploaded files are kept. Default: files/ beside the store."),
        Flag("--new-keys", "Print new keys as a block for clearml.conf, and exit. A server may run meanwhile, whose "
                           "addresses stand there; --host (https://NAME behind a TLS proxy) and the ports say others."),
        Option("--user", "NAME", "With --new-keys: whose keys they are. Default: yours."),
        Option("--label", "TEXT", "With --new-keys: what they are for."),
        Flag("--json", "Print one JSON object instead of text for people, once connections are accepted."),
        Flag("--verbose", "Say each request on standard error.", "-v"),
    ]


def check_options(values):
    """Values that cannot be meant: Failure 64."""
    from agentpipe import errors
    wrong, first = "", 1 if values["new_keys"] else 0
    for option, name in (("--port", "port"), ("--files-port", "files_port")):
        # the kernel would take what is left of it modulo 65536
        if values[name] is not None and not first <= values[name] <= LAST_PORT:
            wrong = f"{option} is {first} to {LAST_PORT}, not {values[name]}"
    host = values["host"] or ""
    if values["new_keys"] and host and not HOST.fullmatch(host):
        wrong = f"--host is a name or an address, with https:// before it or not, and no {cells.plain(host)}"
    elif "://" in host and not values["new_keys"]:
        wrong = f"--host is where to listen, and no {cells.plain(host)}, which goes with --new-keys"
    if values["silent"] < 0:
        wrong = f"--silent wants 0 or more seconds, not {values['silent']}"
    for option in ("user", "label"):
        if values[option] and not values["new_keys"]:
            wrong = f"--{option} goes with --new-keys"
    if wrong:
        raise errors.Failure(wrong, errors.USAGE, remedy="agent-server --help")


def work(values):
    """Serve, or print keys; the exit code."""
    from agentpipe.server import serving
    check_options(values)
    from agentpipe.server.writer import SharedStore
    store = SharedStore(paths.state("agent.db"))
    if values["new_keys"]:
        return print_keys(store, values)
    serving.needed()
    with serving.only_one(store):
        return serve(store, values)


def serve(store, values):
    """Both servers, until a signal comes."""
    from agentpipe.server import first_start, serving
    from agentpipe.server.files import Files
    from agentpipe.server.housekeeping import Housekeeper
    from agentpipe.server.http import Api
    from agentpipe.server.tokens import Tokens
    host = HERE if values["host"] is None else values["host"]
    ports = [default if values[name] is None else values[name] for name, default in PORTS.items()]
    sockets = [serving.listen(host, ports[0], "--port"), serving.listen(host, ports[1], "--files-port")]
    urls = [serving.url(host, each.getsockname()[1]) for each in sockets]
    serving.note_addresses(store, urls)
    first_start.make_queues(store)
    tokens = Tokens(store)
    api = Api(store, tokens, values["verbose"])
    files = Files(values["files_dir"] or paths.state("files"), tokens)
    said = {"pid": os.getpid(), "api_server": urls[0], "files_server": urls[1], "server_id": store.server_id,
            "store": store.path, "files_dir": files.root}
    housekeeper = Housekeeper(store, files, api.submit, values["silent"])
    try:
        housekeeper.start()
        serving.serve(list(zip([api, files], sockets, strict=True)), lambda: ready(store, said, values["json"]))
    finally:
        housekeeper.close()
        api.close()
    return 0


def ready(store, said, as_json):
    """The start-up lines; keys are made when there are none, and shown only to who started us."""
    from agentpipe.server import keys
    shown = as_json or os.isatty(1)
    first = not store.read(keys.exists)
    if first and shown:
        said = {**said, **new_keys(store, paths.owner(), "first")}
    if as_json:
        return print_json(said)
    lines = [f"agent-server: the API at {said['api_server']}, files at {said['files_server']}",
             f"agent-server: the store {said['store']}, files in {said['files_dir']}"]
    if first and shown:
        lines += ["agent-server: these keys are shown only now; this belongs into ~/clearml.conf:", "", block(said)]
    elif first:
        lines.append("agent-server: nobody has keys yet: agent-server --new-keys | agent-config init")
    if shown:
        stdio.put(("\n".join(lines) + "\n").encode())
    else:
        for line in lines:
            stdio.say(line)
    return None


def print_keys(store, values):
    """New keys on stdout, for the server that runs, at another address where options name one."""
    from agentpipe.server import serving
    urls = serving.addresses(store) or [serving.url(HERE, port) for port in PORTS.values()]
    host = HOST.fullmatch(values["host"]) if values["host"] else None
    urls = [serving.elsewhere(url, host["scheme"] if host else None, host["name"] if host else None, values[name])
            for url, name in zip(urls, PORTS, strict=True)]
    said = {"api_server": urls[0], "files_server": urls[1],
            **new_keys(store, values["user"] or paths.owner(), values["label"])}
    if values["json"]:
        print_json(said)
    else:
        stdio.put((block(said) + "\n").encode())
    return 0


def new_keys(store, name, label):
    """Keys of a user, as they are written into a configuration."""
    from agentpipe.server import keys
    key, secret = store.transaction(lambda db: keys.make(db, name, label))
    return {"access_key": key, "secret_key": secret}


def block(said):
    """What belongs into clearml.conf. There are no web pages."""
    from agentpipe.transport.server_hosts import without_pages
    return f"""api {{
    api_server: "{said['api_server']}"
    web_server: "{without_pages(said['api_server'])}"
    files_server: "{said['files_server']}"
    credentials {{
        "access_key" = "{said['access_key']}"
        "secret_key" = "{said['secret_key']}"
    }}
}}"""


def print_json(said):
    """One line for scripts."""
    import json
    stdio.put(json.dumps(said).encode() + b"\n")


def main():
    """The entry point."""
    def told():
        from agentpipe import options as parser
        return work(parser.read("agent-server", options(), sys.argv[1:], __doc__, EXAMPLES))

    # a stop is what a server is there for, however early it comes; new keys are printed or they are not
    ends = command.EXITS if "--new-keys" in sys.argv else dict.fromkeys(command.EXITS, 0)
    command.plain("agent-server", told, exits=ends)


if __name__ == "__main__":
    main()
