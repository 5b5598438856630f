"""Bodies that no client of good faith sends: each endpoint refuses them in words, or takes them, and never breaks."""

import pytest
from servertools import Server

from agentpipe.errors import ApiError
from agentpipe.server import endpoints

# what may stand in a field: of every type, odd inside, and too large for where it goes
JUNK = ["", "x", "__$not", "-", "\ud800", "\0", "a" * 70_000, 0, -1, 1 << 62, 1 << 80, 0.5, float("nan"), float("inf"),
        1e308, True, [], [None], [1], [[]], ["x", None], [{}], [{"x": 1}], [{"task": {}}], {}, {"": 1}, {"x": None},
        {"x": {"y": []}}, {"any": 5}, {"x": [1]}]
# endpoints that read more than the declared fields, and what those may be
OPEN = ("get_all", "get_all_ex", "create", "edit", "update", "clone", "get_by_id_ex", "prepare_download_for_get_all")
COMMON = ["id", "ids", "task", "tasks", "name", "page", "page_size", "order_by", "only_fields", "scroll_id", "size",
          "filters", "_any_", "_all_", "status", "tags", "system_tags", "project", "parent", "created", "last_update",
          "hyperparams.a.b", "last_metrics.x", "runtime.x", "search_text", "metadata", "execution", "script", "models",
          "hyperparams", "configuration", "runtime", "container", "artifacts", "metrics", "add_or_update", "remove",
          "requirements", "labels", "design", "field_mappings", "items", "args", "entity_type"]
DEEP: list = []
for _ in range(60):
    DEEP = [DEEP]


@pytest.fixture
def server(tmp_path):
    found = Server(tmp_path / "agent.db")
    found.known = {
        "task": found.enqueued("known", hyperparams={
            "Args": {"lr": {"section": "Args", "name": "lr", "value": "1"}}}),
        "project": found("projects.create", name="known")["id"], "queue": found.queue,
        "model": found("models.create", name="known", uri="x")["id"]}
    found("workers.status_report", worker="known", timestamp=1, machine_stats={"cpu_usage": [1]})
    return found


def good(server, field, kind):
    """A value that an endpoint may take for a field."""
    known = {**server.known, "tasks": [server.known["task"]], "ids": [server.known["task"]], "type": "training"}
    plain = {str: "text", int: 1, float: 1.0, bool: True, list: [], dict: {}, endpoints.Texts: [],
             endpoints.Objects: []}
    return known.get(field, plain[kind])


@pytest.mark.parametrize("name", sorted(set(endpoints.known()) - {"server.endpoints"}))
def test_junk_in_one_field_after_the_other(server, name):
    found = endpoints.find(name)
    required = {field: good(server, field, kind) for field, kind in found.required.items()}
    fields = dict.fromkeys([*found.required, *found.optional, *(COMMON if name.endswith(OPEN) else ())])
    server.store.connection().execute("PRAGMA synchronous=OFF")
    for field in fields:
        for value in [*JUNK, DEEP]:
            try:
                answer = server(name, {**required, field: value})
            except ApiError as refused:
                assert 400 <= refused.code < 404, (field, value, refused.msg)
            except Exception as problem:
                told = f"{type(problem).__name__}: {problem}"
                raise AssertionError(f"{name} {field}={str(value)[:60]!r}: {told}") from problem
            else:
                for _ in getattr(answer, "chunks", ()):
                    pass
    assert server("debug.ping")["msg"] == "pong" and server("tasks.get_all")


KINDS = ["log", "training_stats_scalar", "training_stats_vector", "training_debug_image", "plot"]


@pytest.mark.parametrize("kind", KINDS)
def test_junk_in_events_and_whatever_was_taken_can_be_read(server, kind):
    server.store.connection().execute("PRAGMA synchronous=OFF")
    task = server.known["task"]
    event = {"type": kind, "task": task, "metric": "m", "variant": "v", "iter": 1, "value": 1.0, "msg": "x",
             "url": "u", "plot_str": "{}", "key": "k", "timestamp": 1}
    fields = [*event, "ts", "values", "worker", "level", "claim", "stream", "offset", "end", "model_event", "model",
              "allow_locked", "x_axis_label"]
    for field in fields:
        for value in [*JUNK, DEEP]:
            try:
                server("events.add_batch", [{**event, field: value}])
            except ApiError as refused:
                assert refused.subcode in (12, 131), (field, value, refused.msg)
            except Exception as problem:
                raise AssertionError(f"{field}={str(value)[:60]!r}: {type(problem).__name__}: {problem}") from problem
    for name, body in (("get_task_log", {}), ("get_task_events", {}), ("get_task_plots", {}),
                       ("scalar_metrics_iter_histogram", {}), ("get_task_latest_scalar_values", {}),
                       ("get_scalar_metrics_and_variants", {}),
                       ("get_debug_image_sample", {"metric": "m", "variant": "v"})):
        assert isinstance(server("events." + name, task=task, **body), dict)
    assert server("events.debug_images", metrics=[{"task": task}])["metrics"]
    assert server("events.get_task_metrics", tasks=[task])["metrics"]


@pytest.mark.parametrize(("name", "field"), [
    ("tasks.edit_hyper_params", "hyperparams"), ("tasks.delete_hyper_params", "hyperparams"),
    ("tasks.edit_configuration", "configuration"), ("tasks.add_or_update_artifacts", "artifacts"),
    ("tasks.delete_artifacts", "artifacts"), ("tasks.delete_models", "models"),
    ("models.add_or_update_metadata", "metadata"), ("pipelines.start_pipeline", "args"), ("workers.get_stats", "items"),
    ("organization.prepare_download_for_get_all", "field_mappings"), ("events.debug_images", "metrics")])
def test_junk_inside_of_lists_of_objects(server, name, field):
    keys = ["section", "name", "value", "key", "type", "mode", "uri", "field", "values", "aggregation", "task",
            "metric", "variants"]
    good_one = {"section": "s", "name": "n", "key": "k", "type": "output", "field": "name", "metric": "m",
                "task": server.known["task"]}
    found = endpoints.find(name)
    required = {each: good(server, each, kind) for each, kind in found.required.items()}
    for key in keys:
        for value in JUNK:
            try:
                server(name, {**required, "force": True, field: [{**good_one, key: value}]})
            except ApiError as refused:
                assert 400 <= refused.code < 404
            except Exception as problem:
                raise AssertionError(f"{key}={str(value)[:60]!r}: {type(problem).__name__}: {problem}") from problem
    assert server.get(server.known["task"])["id"]
    assert server("tasks.get_all")["tasks"] and server("models.get_all")["models"]


@pytest.mark.parametrize(("field", "inner"), [("execution", "artifacts"), ("models", "input"), ("models", "output")])
def test_junk_inside_of_a_task_is_refused_and_what_was_taken_keeps_nothing_from_being_done(server, field, inner):
    model = server.known["model"]
    for value in [*JUNK, *([each] for each in JUNK), {"model": model}, [{"model": model, "key": [], "mode": 1}]]:
        task = server.task()
        try:
            server("tasks.edit", {"task": task, field: {inner: value}})
        except ApiError as refused:
            assert refused.subcode == 12, (value, refused.msg)
        try:
            task = server("tasks.clone", task=task, execution_overrides={inner: value})["id"]
        except ApiError as refused:
            assert refused.subcode == 12, (value, refused.msg)
        for name in ("tasks.clone", "tasks.reset", "tasks.delete"):
            server(name, task=task, force=True)


@pytest.mark.parametrize("body", [
    {"execution": {"parameters": [1], "model_desc": 5, "model": "x", "docker_cmd": []}, "models": "x"},
    {"execution": {"parameters": "x", "model": "y"}, "output": {"model": "z"}, "models": [1]}])
def test_junk_of_an_old_client_goes_on_as_it_is(body):
    from agentpipe.server import versions
    assert isinstance(versions.incoming("tasks.create", (2, 4), body), dict)
