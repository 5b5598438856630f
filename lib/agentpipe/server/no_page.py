"""What a browser is told that asks for ClearML's web page: there is none, and which commands show the same.

Whatever uses the clearml package prints the address of such a page.
"""

import re

PAGE = re.compile(r"/(?:projects|pipelines|datasets)/.")
TASK = re.compile(r"/(?:tasks|experiments)/([0-9a-f]{32})(?:/|$)")


def told(method: str, path: str, accept: str) -> str:
    """The line for who asks for a page; "" for who calls the API."""
    if method not in ("GET", "HEAD") or not (PAGE.match(path) or "text/html" in accept):
        return ""
    found = TASK.search(path)
    task = found[1] if found else "ID"
    return (f"This server has no web page. In a terminal: agent-task show {task}, agent-task log {task}, "
            f"agent-task plot {task}; agent-task list\n")
