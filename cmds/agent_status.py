"""agent-status: show queues, workers, running tasks and GPUs, live on a terminal, as JSON in a pipe."""

import os
import sys

from agentpipe import command, stdio, units

PATIENCE_S = 3.0  # with a server that is away: whoever watches wants to see that
EXAMPLES = """
  agent-status
  agent-status --once
  agent-status | jq '.queues[] | select(.waiting > 0)'
"""


def options():
    from agentpipe.options import Flag, Option
    return [
        Flag("--once", "Print it once, as text."),
        Flag("--json", "Print it once, as JSON; so it does where standard output is no terminal."),
        Option("--interval", "SECONDS", "How often a server is asked; the store of this machine is looked at when it "
                                        "has changed. Default: 1, of a server that is not ours 5.", float),
    ]


def show(values):
    """Show it, once or until its reader has seen enough; the exit code."""
    from agentpipe import errors
    from agentpipe.status import overview
    from agentpipe.transport import api
    if values["interval"] is not None and not values["interval"] >= 0.2:
        raise errors.Failure("--interval wants 0.2 or more", errors.USAGE, remedy="agent-status --help")
    looker = overview.Looker(api.connect(patience=PATIENCE_S))
    if values["json"] or (not os.isatty(1) and not values["once"]):
        import json
        stdio.put(json.dumps(looker.look()).encode() + b"\n")
        return 0
    if values["once"] or not os.isatty(1):
        stdio.put(text(looker.look()).encode("utf-8", "replace"))
        return 0
    from agentpipe.status import screen
    with screen.Screen() as shown:
        live(shown, looker, values["interval"] or (1.0 if looker.api.ours else 5.0))
    return 0


def text(seen):
    """The screen without a terminal's height."""
    import shutil

    from agentpipe.status import status_view
    from agentpipe.task import output
    width = shutil.get_terminal_size((100, 24)).columns
    return "\n".join(status_view.lines(seen, width, colour=output.coloured())) + "\n"


def live(shown, looker, interval):
    """Draw once a second, since ages grow; look when something may have changed, each `interval` at the most."""
    import shutil
    import time

    from agentpipe.status import status_view
    from agentpipe.task import output
    seen, mark, asked = None, None, 0.0

    def silent():
        silent_for = units.duration(time.monotonic() - now)
        trouble = f"{getattr(looker.api, 'host', 'the store of this machine')} has not answered for {silent_for}"
        draw({**seen, "trouble": trouble}) if seen else shown.draw([trouble])

    def draw(what):
        size = shutil.get_terminal_size()
        shown.draw(status_view.lines(now_is(what), size.columns, size.lines, output.coloured()))

    while True:
        now = time.monotonic()
        if seen is None or (now - asked >= interval and (not looker.api.embedded or looker.api.changed(mark) != mark)):
            mark = looker.api.changed(mark) if looker.api.embedded else None
            with shown.can_be_left(silent):
                seen = looked(looker, seen)
            asked = time.monotonic()
        elif seen["gpus"]:
            seen["gpus"] = looker.gpus()
        draw(seen)
        if shown.wait(1.0) == "quit":
            return


def looked(looker, before):
    """What is there now; of a server that has gone away what was there before, and that it has."""
    from agentpipe import errors
    try:
        return looker.look()
    except (errors.Failure, errors.ApiError) as error:
        if before is None:
            raise
        return {**before, "trouble": str(error)}


def now_is(seen):
    """What was seen, under the present time."""
    import time

    return {**seen, "now": units.iso(time.time())}


def main():
    """The entry point."""
    def work():
        from agentpipe import options as parser
        return show(parser.read("agent-status", options(), sys.argv[1:], __doc__, EXAMPLES))

    command.plain("agent-status", work)


if __name__ == "__main__":
    main()
