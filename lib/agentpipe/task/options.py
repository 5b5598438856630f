"""The arguments and options that several verbs of agent-task have."""

from __future__ import annotations

from agentpipe.options import Argument, Flag

JSON = Flag("--json", "Print JSON, one object a line.")
TASK = Argument("TASK", "An id, its beginning, or a name.", required=True)
TASKS = Argument("TASK", "Ids, their beginnings, or names; - reads them from standard input.", many=True, required=True)
