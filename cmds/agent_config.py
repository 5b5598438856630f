"""agent-config: write a configuration, show each value with where it came from, and check that everything works."""

import sys
from typing import Annotated

import typer

from agentpipe import command, errors, stdio

app = typer.Typer(help=__doc__, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]})
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EPILOG = "\b\nExamples:\n"


@app.command(short_help="Write a clearml.conf that works.", epilog=EPILOG + """  agent-config init
  agent-config init < credentials-copied-from-the-web-page
  agent-server --new-keys | agent-config init
  CLEARML_API_SECRET_KEY=… agent-config init --api-server https://api.example.org --access-key KEY""")
def init(
    api_server: Annotated[str, typer.Option(metavar="URL", help="The API server (port 8008), not the web page.")] = "",
    web_server: Annotated[str, typer.Option(metavar="URL", help="Default: derived from the API server.")] = "",
    files_server: Annotated[str, typer.Option(metavar="URL", help="Default: derived from the API server.")] = "",
    access_key: Annotated[str, typer.Option(metavar="KEY", help="The public half of the credentials; the secret half "
                                            "comes from CLEARML_API_SECRET_KEY or standard input.")] = "",
    file: Annotated[str, typer.Option("--file", metavar="FILE", help="Where to write. Default: CLEARML_CONFIG_FILE, "
                                      "else ~/clearml.conf.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="Write it without trying the keys.")] = False,
) -> None:
    """Write a clearml.conf that works: asks at a terminal, else reads ClearML's credentials block."""
    from agentpipe.configure import config_init
    given = {"api_server": api_server, "web_server": web_server, "files_server": files_server,
             "access_key": access_key}
    config_init.init(given, file, not yes and sys.stdin.isatty(), not no_check)


@app.command(short_help="Show what is set and where it came from.", epilog=EPILOG + """  agent-config show
  agent-config show agent.package_manager
  agent-config show --json api.api_server""")
def show(
    key: Annotated[str, typer.Argument(metavar="KEY", show_default=False, help="A key or a section.")] = "",
    all_values: Annotated[bool, typer.Option("--all", help="Also what the files set to clearml-agent's own default, "
                                             "which counts as not set.")] = False,
    as_json: Json = False,
) -> int:
    """Show what is set and where it came from; secrets are masked. Exits 1 when KEY is not set."""
    from agentpipe.settings import config_show
    return config_show.show(key, all_values, as_json)


@app.command(short_help="Look whether this machine has what it needs, and say what to do.",
             epilog=EPILOG + """  agent-config check
  agent-config check configuration server || exit""")
def check(
    parts: Annotated[list[str] | None, typer.Argument(metavar="PART", show_default=False, help="Only these: "
                     "configuration, hooks, server, disk, programs, python, containers, gpu.")] = None,
    as_json: Json = False,
) -> int:
    """Look at configuration, hooks, server, credentials, clock, disks, tools, containers and GPUs; say what is wrong
    and what to do."""
    from agentpipe.configure import config_check
    return config_check.check(parts or [], as_json)


def main() -> None:
    """The entry point."""
    # it shows which variable a value came from
    command.plain("agent-config", lambda: run(sys.argv[1:]), renaming=False)


def run(argv: list[str]) -> int:
    """Do what a command line says; the exit code."""
    if argv == ["--version"]:
        from importlib.metadata import version
        stdio.put(f"agent-config {version('agentpipe')}\n".encode())
        return 0
    try:
        done = app(argv or ["--help"], prog_name="agent-config", standalone_mode=False)
        return done or (0 if argv else errors.USAGE)
    except (typer.Abort, EOFError):  # Ctrl-D at a question
        return 130
    except SystemExit:  # typer's, which exits 1 at this alone
        raise BrokenPipeError from None
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise errors.Failure(error.format_message(), errors.USAGE, remedy="agent-config --help") from None


if __name__ == "__main__":
    main()
