"""serving.*: what containers that serve models say, and how it is told."""

import pytest
from servertools import Server

from agentpipe.errors import ApiError
from agentpipe.server import model_serving

MODEL = {"endpoint_name": "digits", "model_name": "net", "model_version": "3", "input_type": "str",
         "reference": [{"type": "task", "value": "t"}]}


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def report(server, container, url="http://h:1/digits", **load):
    server("serving.container_status_report", {"container_id": container, "endpoint_url": url, **MODEL, **load})


def test_containers_of_one_address_are_told_together(server):
    server("serving.register_container", {"container_id": "one", **MODEL})
    [loading] = server("serving.get_loading_instances")["instances"]
    assert [loading[field] for field in ("id", "endpoint", "model", "model_version")] == ["one", "digits", "net", "3"]
    report(server, "one", uptime_sec=10, requests_num=3, requests_min=2, latency_ms=1.5,
           machine_stats={"cpu_usage": [1.0, 2.0], "gpu_usage": []})
    report(server, "two", uptime_sec=40, requests_num=4, requests_min=3, latency_ms=4)
    assert server("serving.get_loading_instances")["instances"] == []
    [found] = server("serving.get_endpoints")["endpoints"]
    assert {key: value for key, value in found.items() if key != "last_update"} == {
        "endpoint": "digits", "model": "net", "url": "http://h:1/digits", "instances": 2, "uptime_sec": 40,
        "requests": 7, "requests_min": 2.5, "latency_ms": 2}
    details = server("serving.get_endpoint_details", endpoint_url="http://h:1/digits")
    assert [each["id"] for each in details["instances"]] == ["one", "two"]
    assert details["instances"][0]["cpu_count"] == 2 and details["instances"][0]["reference"] == MODEL["reference"]
    server("serving.unregister_container", container_id="one")
    assert server("serving.get_endpoints")["endpoints"][0]["instances"] == 1


def test_one_without_a_report_is_gone_after_its_timeout(server, monkeypatch):
    server("serving.register_container", {"container_id": "one", "timeout": 30, **MODEL})
    report(server, "one")
    at = model_serving.time.time()
    monkeypatch.setattr(model_serving.time, "time", lambda: at + 31)
    assert server("serving.get_endpoints") == {"endpoints": []}
    assert "no instance" in server.refused(12, "serving.get_endpoint_details", endpoint_url="http://h:1/digits")


@pytest.mark.parametrize("name", ["server.config", "server.get_stats"])
def test_what_is_an_administrators_is_refused_to_everybody_else(server, name):
    with pytest.raises(ApiError) as caught:
        server(name)
    assert (caught.value.code, caught.value.subcode) == (403, 20)
