"""agent-server: serve the store of this machine over the ClearML HTTP API."""

import os
import sys

from agentpipe import command, paths, stdio

EXAMPLES = """
  agent-server &
  agent-server --new-keys | agent-config init
  agent-server --host 0.0.0.0 --files-dir /data/files
"""

DEFAULTS = {"host": "127.0.0.1", "port": 8008, "files_port": 8081}
LAST_PORT = 65535


def options():
    from agentpipe.options import Flag, Option
    return [
        Option("--host", "ADDRESS", "Where to listen. Only programs of this machine reach the default.",
               default=DEFAULTS["host"]),
        Option("--port", "PORT", "The API's port; 0 takes a free one.", int, DEFAULTS["port"]),
        Option("--files-port", "PORT", "The files server's port.", int, DEFAULTS["files_port"]),
        Option("--silent", "SECONDS", "Stop tasks that gave no sign of life for so long; 0: never.", int, 7200),
        Option("--files-dir", "DIR", "Where uploaded files are kept. Default: files/ beside the store."),
        Flag("--new-keys", "Print new keys as a block for clearml.conf, and exit. A server may run meanwhile."),
        Option("--user", "NAME", "With --new-keys: whose keys they are. Default: yours."),
        Option("--label", "TEXT", "With --new-keys: what they are for."),
        Flag("--json", "Print one JSON object instead of text for people, once connections are accepted."),
        Flag("--verbose", "Say each request on standard error.", "-v"),
    ]


def check_options(values):
    """Values that cannot be meant: Failure 64."""
    from agentpipe import errors
    wrong = ""
    for option, name in (("--port", "port"), ("--files-port", "files_port")):
        if not 0 <= values[name] <= LAST_PORT:  # the kernel would take what is left of it modulo 65536
            wrong = f"{option} is 0 to {LAST_PORT}, not {values[name]}"
    if values["silent"] < 0:
        wrong = f"--silent wants 0 or more seconds, not {values['silent']}"
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
    from agentpipe.server import serving
    from agentpipe.server.files import Files
    from agentpipe.server.housekeeping import Housekeeper
    from agentpipe.server.http import Api
    from agentpipe.server.tokens import Tokens
    host = values["host"]
    sockets = [serving.listen(host, values["port"], "--port"),
               serving.listen(host, values["files_port"], "--files-port")]
    urls = [serving.url(host, each.getsockname()[1]) for each in sockets]
    serving.note_addresses(store, urls)
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
    """New keys on stdout, for the server that runs unless options name another address."""
    from agentpipe.server import serving
    asked = any(values[name] != DEFAULTS[name] for name in DEFAULTS)
    urls = [] if asked else serving.addresses(store)
    if not urls:
        urls = [serving.url(values["host"], values[name]) for name in ("port", "files_port")]
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
    """What belongs into clearml.conf. There are no web pages; clearml-init wants three addresses that differ."""
    return f"""api {{
    api_server: "{said['api_server']}"
    web_server: "{said['api_server']}/"
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
