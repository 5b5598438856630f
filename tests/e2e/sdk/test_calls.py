"""Every endpoint that the code of the real packages names is there, or is one that a free ClearML server lacks too."""

import re
from pathlib import Path

from agentpipe.server import endpoints

# `tasks.GetByIdRequest(…)`, and send_request("tasks", "get_by_id"), service="tasks", action="get_by_id"
CLASS = re.compile(r"\b([a-z]+)\.([A-Z]\w+)Request\b")
TEXT = re.compile(r"""send_request\(\s*["']([a-z]+)["'],\s*["']([a-z_]+)["']""")
WORDS = re.compile(r"""service=["']([a-z]+)["'],\s*action=["']([a-z_]+)["']""")
# of paid servers (data sets of frames, vaults, tokens of owners, the gateway), of the client itself
# ("service" is a variable, models.PreparedRequest one of requests')
LACKING = re.compile(r"(datasets|frames|dataviews|routers|async|service)\.|users\.get_vaults$|"
                     r"workers\.cluster_(report|unregister)$|models\.prepared$")


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_no_call_of_the_packages_is_missing(sdk_python):
    site = next(Path(sdk_python).parents[1].glob("lib/python*/site-packages"))
    found = set()
    for package in ("clearml", "clearml_agent"):
        for path in (site / package).rglob("*.py"):
            if "/services/" in str(path) or "_bridge" in path.name:
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            found |= {f"{service}.{snake(name)}" for service, name in CLASS.findall(text)}
            found |= {".".join(pair) for pattern in (TEXT, WORDS) for pair in pattern.findall(text)}
    assert len(found) > 60, found
    missing = sorted(name for name in found - set(endpoints.known()) if not LACKING.match(name))
    assert not missing, " ".join(missing)


# whose objects are everybody's on a server of one company, or are shared with who has no keys
FOR_STRANGERS = re.compile(r"\.(make_public|make_private|share)$|auth\.edit_user$")
ENDPOINT = re.compile(r'_service = "(\w+)"\s+_action = "(\w+)"')


def test_every_endpoint_of_the_packages_schema_is_there(sdk_python):
    site = next(Path(sdk_python).parents[1].glob("lib/python*/site-packages"))
    found = {".".join(pair) for path in site.glob("clearml/backend_api/services/v2_*/*.py")
             for pair in ENDPOINT.findall(path.read_text())}
    assert len(found) > 150, found
    missing = found - set(endpoints.known())
    assert not sorted(name for name in missing if not (LACKING.match(name) or FOR_STRANGERS.search(name)))


TELEMETRY = """
import time
from clearml import Task
from clearml.router.endpoint_telemetry import EndpointTelemetry
task = Task.init("demo/serving", "served", auto_connect_frameworks=False)
telemetry = EndpointTelemetry("digits", "net", report_statistics=False, endpoint_url="http://127.0.0.1:1/digits")
telemetry.on_request()
telemetry.on_response()
telemetry.container_status_report()
say(id=task.id)
task.close()
"""


def test_a_container_that_serves_a_model_is_told_of(run, server):
    done = run(TELEMETRY)
    assert "Failed" not in done.output
    [found] = server("serving.get_endpoints")["endpoints"]
    assert (found["endpoint"], found["model"], found["instances"], found["requests"]) == ("digits", "net", 1, 1)
    details = server("serving.get_endpoint_details", endpoint_url="http://127.0.0.1:1/digits")
    assert details["instances"][0]["reference"] == [{"type": "task", "value": done.id}]
