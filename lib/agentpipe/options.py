"""A command's options: declared once as light data, read without a parser where that is easy, by typer otherwise.

Importing typer costs six times what Python itself costs to start, so the frequent spellings (`agent-pull gpu`,
`--wait`, `--owner 12`) are read here. Whatever is not plain (help, a mistake, an abbreviation) goes to typer, which
also writes the help from the same declarations; so do man pages and completion, which a test compares with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs 6 ms at run time
    from typing import Any


class Argument:
    """Words without a dash; `many` takes all of them as a list, `dest` is its name where that is not the metavar.

    `filled`: an empty one, as a variable of a script gives that is not set, is refused: it would mean another thing.
    """

    __slots__ = ("dest", "filled", "help", "many", "metavar", "required")

    def __init__(self, metavar: str, help: str, many: bool = False, required: bool = False, dest: str = "",
                 filled: bool = False) -> None:
        self.metavar, self.help, self.many, self.required, self.filled = metavar, help, many, required, filled
        self.dest = dest or metavar.lower()


class Option:
    """`--name VALUE`; `kind` is the value's type, `many` lets it stand several times (a list), `filled` as above."""

    __slots__ = ("default", "dest", "filled", "help", "kind", "many", "metavar", "name", "short")

    def __init__(self, name: str, metavar: str, help: str, kind: type = str, default: Any = None,
                 many: bool = False, short: str = "", filled: bool = False) -> None:
        self.name, self.metavar, self.help, self.kind = name, metavar, help, kind
        self.default, self.many, self.short, self.filled = default, many, short, filled
        self.dest = name.lstrip("-").replace("-", "_")


class Flag:
    """`--name`, true when it stands there."""

    __slots__ = ("dest", "help", "name", "short")

    def __init__(self, name: str, help: str, short: str = "") -> None:
        self.name, self.help, self.short = name, help, short
        self.dest = name.lstrip("-").replace("-", "_")


Declared = Sequence[Argument | Option | Flag]


def parse(declared: Declared, argv: Sequence[str]) -> dict[str, Any] | None:
    """The values by `dest`, or None when only typer can tell what is meant."""
    named = {name: item for item in declared if not isinstance(item, Argument)
             for name in (item.name, item.short) if name}
    values: dict[str, Any] = {item.dest: _nothing(item) for item in declared}
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word == "--":
            words += rest
            break
        if word == "-" or not word.startswith("-"):
            words.append(word)
            continue
        name, equals, value = word.partition("=")
        item = named.get(name)
        if equals and not name.startswith("--"):
            return None
        if isinstance(item, Flag) and not equals:
            values[item.dest] = True
        elif isinstance(item, Option):
            try:
                converted = item.kind(value if equals else next(rest))
            except (ValueError, StopIteration):
                return None
            if item.many:
                values[item.dest].append(converted)
            else:
                values[item.dest] = converted
        else:
            return None
    return _with_words(declared, words, values)


def typer_app(name: str, declared: Declared, run: Callable[[dict[str, Any]], Any], help: str, examples: str) -> Any:
    """A typer application that parses the same declarations, calls run(values) and writes the help."""
    import inspect
    from typing import Annotated

    import typer

    def command(**values: Any) -> Any:
        return run({key: list(value) if isinstance(value, tuple) else value for key, value in values.items()})

    parameters = []
    for item in declared:
        kind: Any
        if isinstance(item, Argument):
            kind = list[str] if item.many else str
            extra: Any = typer.Argument(help=item.help, metavar=item.metavar + ("…" if item.many else ""),
                                        show_default=False)
            default: Any = inspect.Parameter.empty if item.required else _nothing(item)
        elif isinstance(item, Flag):
            kind, default = bool, False
            extra = typer.Option(item.name, *filter(None, [item.short]), help=item.help)
        else:
            kind = list[item.kind] if item.many else item.kind  # type: ignore[name-defined]
            default = _nothing(item)
            extra = typer.Option(item.name, *filter(None, [item.short]), help=item.help, metavar=item.metavar,
                                 show_default=item.default is not None)
        if default is None:
            kind = kind | None
        parameters.append(inspect.Parameter(item.dest, inspect.Parameter.KEYWORD_ONLY, default=default,
                                            annotation=Annotated[kind, extra]))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = help
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    epilog = "\b\nExamples:\n" + examples.strip("\n") if examples.strip() else None
    app.command(name, help=help, epilog=epilog, context_settings={"help_option_names": ["-h", "--help"]})(command)
    return app


def read(name: str, declared: Declared, argv: Sequence[str], help: str, examples: str) -> dict[str, Any]:
    """The values of a command line; a mistake is a Failure (64), help ends the process (0)."""
    values = parse(declared, argv)
    if values is None:
        values = _by_typer(name, declared, argv, help, examples)
    for item in declared:
        if not isinstance(item, Flag) and item.filled:
            _refuse_empty(item, values[item.dest])
    return values


def _by_typer(name: str, declared: Declared, argv: Sequence[str], help: str, examples: str) -> dict[str, Any]:
    if list(argv) == ["--version"]:
        from importlib.metadata import version

        from agentpipe import stdio
        stdio.put(f"{name} {version('agentpipe')}\n".encode())
        raise SystemExit(0)
    found: list[dict[str, Any]] = []
    app = typer_app(name, declared, found.append, help, examples)
    try:
        app(list(argv), prog_name=name, standalone_mode=False)
    except Exception as error:
        # typer's usage errors are click's, or since 0.26 its own copy of them: known by what they can do
        if not hasattr(error, "format_message"):
            raise
        from agentpipe import errors
        if " " not in name:  # a verb's may be a script's own
            refuse_configuration(argv)
        raise errors.Failure(error.format_message(), errors.USAGE, remedy=f"{name} --help") from None
    if not found:
        raise SystemExit(0)
    return found[0]


def _refuse_empty(item: Argument | Option, given: Any) -> None:
    if any(not word.strip() for word in (given if item.many else [given]) if word is not None):
        from agentpipe import errors
        what = item.name if isinstance(item, Option) else f"a {item.metavar}"
        raise errors.Failure(f"{what} is empty", errors.USAGE, remedy="is the variable set that it comes from?")


def common() -> list[Argument | Flag]:
    """What every stage takes."""
    return [
        Argument("FILE", "Manifests, one JSON object a line; - or nothing is standard input.", many=True),
        Flag("--dry-run", "Say what would be done; change nothing."),
        Flag("--schema", "Print the JSON Schema of the manifest and exit."),
        Flag("--verbose", "Show the set-up log on standard error, also when that is no terminal.", "-v"),
        Flag("--quiet", "Show nothing but errors.", "-q"),
    ]


def refuse_configuration(argv: Sequence[str]) -> None:
    """Say of the peer's option for another clearml.conf what is there instead (it has to reach every stage)."""
    from agentpipe import errors
    for word in argv:
        option, _, path = word.partition("=")
        if option == "--config-file":
            raise errors.Failure(f"no option {option}: a variable names the file, for every stage of a pipeline",
                                 errors.USAGE, remedy=f"export CLEARML_CONFIG_FILE={path or 'FILE'}")


def _nothing(item: Argument | Option | Flag) -> Any:
    if isinstance(item, Flag):
        return False
    if item.many:
        return []
    return item.default if isinstance(item, Option) else None


def _with_words(declared: Declared, words: list[str], values: dict[str, Any]) -> dict[str, Any] | None:
    for item in declared:
        if isinstance(item, Argument):
            if item.many:
                values[item.dest], words = words, []
            elif words:
                values[item.dest], words = words[0], words[1:]
            if item.required and not values[item.dest]:
                return None
    return None if words else values
