"""The query language of get_all, asked as the SDK, the agent and a person ask."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servertools import Server

from agentpipe.errors import ApiError
from agentpipe.server import fieldpaths, listquery, patterns, ranges

# last_metrics.md5("m").md5("v")
CURVE = "last_metrics.6f8f57715090da2632453988d9a1501b.9e3669d19b675bd57058fd4664205d2a"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Four tasks: alpha, beta, gamma and delta."""
    server = Server(tmp_path_factory.mktemp("query") / "agent.db")
    server.project = server("projects.create", name="lab/vision")["id"]
    server.named = {}
    for name, fields in {
        "alpha": {"tags": ["a"], "project": server.project, "hyperparams": {"Args": {"lr": {"value": "10"}}},
                  "runtime": {"_key": "K1", "n.m": 1}},
        "beta": {"tags": ["a", "b"], "hyperparams": {"Args": {"lr": {"value": "9"}}}, "comment": "Über"},
        "gamma": {"tags": ["b"], "system_tags": ["archived"], "type": "controller"},
        "delta": {},
    }.items():
        server.named[name] = server("tasks.create", {"name": name, "type": "training", **fields})["id"]
    for number, name in enumerate(("alpha", "beta", "gamma")):
        server("events.add_batch", {
            "type": "training_stats_scalar", "task": server.named[name], "metric": "m", "variant": "v",
            "iter": 10 * number, "value": 3 - number})
    server("tasks.enqueue", task=server.named["delta"])
    server("tasks.create", name="hidden itself", type="training", system_tags=["hidden"])
    return server


def names(server, body=None, **fields):
    asked = {**(body or {}), **fields, "only_fields": ["name"]}
    return [task["name"] for task in server("tasks.get_all", asked)["tasks"]]


@pytest.mark.parametrize("asked, expected", [
    ({}, "alpha beta gamma delta"),
    ({"id": []}, "alpha beta gamma delta"),
    ({"tags": None, "name": None}, "alpha beta gamma delta"),
    ({"name": "ta"}, "beta delta"),
    ({"name": "^ta$"}, ""),
    ({"name": "Alpha"}, ""),
    ({"name": "^(alpha|gamma)$"}, "alpha gamma"),
    ({"name": f"^{re.escape('alpha')}$"}, "alpha"),
    ({"comment": "^Ü"}, "beta"),
    ({"type": ["controller"]}, "gamma"),
    ({"type": "controller"}, "gamma"),
    ({"status": ["queued", "failed"]}, "delta"),
    ({"tags": ["a", "b"]}, "alpha beta gamma"),
    ({"tags": ["a", "-b"]}, "alpha"),
    ({"system_tags": ["-archived"]}, "alpha beta delta"),
    ({"tags": ["__$all", "a", "b"]}, "beta"),
    ({"tags": ["__$and", "a", "b"]}, "beta"),
    ({"tags": ["__$any", "a", "b"]}, "alpha beta gamma"),
    ({"tags": ["__$not", "a"]}, "gamma delta"),
    ({"tags": ["__$any", "a", "__$not", "b"]}, "alpha beta delta"),
    ({"tags": ["a", "__$not", "b"]}, "alpha"),
    ({"tags": ["__$all", "a", "__$nop", "-b"]}, "alpha"),
    ({"tags": [None]}, "delta"),
    ({"tags": [None, "a"]}, "alpha beta delta"),
    ({"filters": {"tags": {"any": {"include": ["a"]}, "all": {"exclude": ["b"]}}}}, "alpha"),
    ({"filters": {"tags": {"any": {"include": ["a"]}, "all": {"exclude": ["b"]}, "op": "or"}}},
     "alpha beta delta"),
    ({"filters": {"tags": {"all": {"include": "a", "exclude": None}}}}, "alpha beta"),
    ({"tags": ["zzz"], "filters": {"tags": {"all": {"include": ["a", "b"]}}}}, "beta"),
    ({"hyperparams.Args.lr.value": ["9"]}, "beta"),
    ({"runtime._key": "K1"}, "alpha"),
    ({"runtime.%_key": "K1"}, "alpha"),
    ({"runtime.n%2Em": 1}, "alpha"),
    ({"last_iteration": [10, None]}, "beta gamma"),
    ({"last_iteration": [5, 10]}, "beta"),
    ({"active_duration": [None, 3]}, "alpha beta gamma delta"),
    ({"active_duration": [0, None]}, ""),
    ({"status_changed": [">=2020-01-01", "<2021-01-01T00:00:00Z"]}, ""),
    ({"last_update": ">2020-01-01 00:00:00"}, "alpha beta gamma delta"),
    ({"last_update": ["2020-01-01", "2999-01-01"]}, "alpha beta gamma delta"),
    ({"last_update": [None]}, "alpha beta gamma delta"),
    ({"created": ["2999-01-01T00:00:00", None]}, ""),
    ({"_any_": {"fields": ["name", "comment"], "pattern": "BETA|über"}}, "beta"),
    ({"_all_": {"fields": ["runtime._key"], "pattern": "^k1$"}}, "alpha"),
    ({"_or_": {"fields": ["last_update", "last_change"], "datetime": [">2020-01-01"]}},
     "alpha beta gamma delta"),
    ({"shallow_search": False, "method": "get", "no_such": 7}, "alpha beta gamma delta"),
])
def test_conditions(server, asked, expected):
    assert names(server, asked) == expected.split()


def test_hidden_tasks_are_shown_on_demand_and_by_id(server):
    assert len(names(server, search_hidden=True)) == 5
    hidden = server("tasks.get_all", name="hidden itself", search_hidden=True)["tasks"][0]["id"]
    assert names(server, id=[hidden]) == ["hidden itself"]


def test_a_step_of_a_pipeline_whose_project_is_hidden_is_found_by_its_hash(server):
    """As the clearml package looks for one that has already run (cache_executed_step)."""
    project = server("projects.create", name="lab/.pipelines", system_tags=["hidden"])["id"]
    step = server("tasks.create", name="step", type="training", project=project, runtime={"pipeline_job_hash": "1f"})
    wanted = {"fields": ["runtime.pipeline_job_hash"], "pattern": "^1f$"}
    assert names(server, _all_=wanted, system_tags=["-archived"]) == ["step"]
    server("tasks.delete", task=step["id"], force=True)


def test_projects_and_those_below(server):
    lab = server("projects.get_all", name="^lab$")["projects"][0]["id"]
    assert names(server, project=[lab]) == []
    assert names(server, project=[lab], include_subprojects=True) == ["alpha"]
    assert names(server, project=[None]) == ["beta", "gamma", "delta"]


@pytest.mark.parametrize("endpoint, asked, field", [
    ("tasks.get_all", {"project": ["gone"]}, "tasks"), ("models.get_all", {"project": ["gone"]}, "models"),
    ("projects.get_user_names", {"projects": ["gone"]}, "users"),
    ("projects.get_hyper_parameters", {"project": "gone"}, "parameters"),
    ("projects.get_model_metadata_values", {"projects": ["gone"], "key": "k"}, "values")])
def test_a_project_that_is_gone_has_nothing_below_it_rather_than_everything(server, endpoint, asked, field):
    server("models.create", name="net", uri="x", metadata=[{"key": "k", "type": "str", "value": "v"}])
    assert server(endpoint, {**asked, "include_subprojects": True})[field] == []


def test_a_part_may_be_asked_for_by_where_it_starts(server):
    everything = names(server)
    for start, size in ((0, 2), (1, 2), (2, 1), (3, 500), (100, 1)):
        assert names(server, start=start, size=size) == everything[start:start + size]
        assert names(server, start=start, size=size, order_by=["-name"]) == \
            sorted(everything, reverse=True)[start:start + size]
    assert names(server, start=2) == everything[2:] and names(server, page=1, page_size=1) == everything[1:2]
    server.refused(12, "tasks.get_all", {"start": -1, "size": 1})
    server.refused(12, "tasks.get_all", {"start": 0, "size": 0})
    server.refused(12, "tasks.get_all", {"start": "x", "size": 1})


def test_the_runs_of_a_pipeline_are_found_as_the_clearml_package_asks_for_them(tmp_path):
    server = Server(tmp_path / "agent.db")
    for number in ("", " #2", " #10", " #x"):
        server.task("my pipe" + number)
    assert names(server, name=r"^my\ pipe( #[0-9]+)*$") == ["my pipe", "my pipe #2", "my pipe #10"]


@pytest.mark.parametrize("pattern, fits", [
    ("^alpha$", True), (r"^alph\.$", False), (".*lph.*", True), ("^(beta|alpha)$", True), ("(?i)^ALPHA", True),
    ("^.*lp.*$", True), (r"^al(ph)*a( #[0-9]+)*$", True), ("()*a*", True), ("alp|bet", True), ("[^x]*pha", True),
])
def test_ordinary_patterns_fit(server, pattern, fits):
    assert ("alpha" in names(server, name=pattern)) == fits


@pytest.mark.parametrize("pattern", [".*.*x", "^.*x.*y.*$", "a*a*b", "(?:ab){15000}c", "(?m)^.*a*x", "[ab]{30000}x"])
def test_no_pattern_takes_long_on_a_long_text(pattern):
    began = time.process_time()
    assert not patterns.compile_pattern(pattern).search("a" * 100_000)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("code, asked", [
    (21, {"name": "("}), (21, {"name": "(a+)+$"}), (21, {"name": "^(.*?a){10}b$"}),
    (21, {"name": "((a|b)*c?)*"}), (21, {"name": "(a[a-z]+)*$"}), (21, {"name": "(( #[0-9]+)*)*$"}),
    (21, {"name": "( #([0-9]+)+)*$"}), (21, {"_any_": {"fields": ["name"], "pattern": "(A[a-z]+)*"}}),
    (21, {"name": "(a|a)*b"}), (21, {"name": "(a|aa)*b"}), (21, {"name": "(?:a|.){30}b"}),
    (21, {"name": ".*.*.*.*=x"}), (21, {"name": "a?" * 30 + "a" * 30}), (21, {"name": "(a|a)" * 30 + "b"}),
    (21, {"_any_": {"fields": ["name"], "pattern": "*"}}),
    (16, {"tags": ["__$maybe", "a"]}), (16, {"tags": ["__$not"]}),
    (16, {"_any_": {"fields": ["name"]}}),
    (16, {"_any_": {"fields": ["name"], "pattern": "a", "datetime": ["b"]}}),
    (12, {"last_iteration": [1]}), (12, {"last_iteration": [None, None]}),
    (12, {"last_iteration": [1, 2, 3]}), (12, {"page": -1}), (12, {"page_size": 0}),
    (14, {"only_fields": ["no_such"]}), (14, {"order_by": "no_such"}),
    (12, {"hyperparams.a.b.c.d": ["x"]}), (12, {"name": 7}),
    # what could not be read would be no condition at all, and a script that removes what it finds would get everything
    (12, {"last_update": ["nonsense"]}), (12, {"status_changed": ["<2020-1-1"]}),
    (12, {"created": ["2020/01/01", None]}),
    (12, {"created": [">=2020-01-01", "<=2021-01-01"]}), (12, {"last_iteration": ["many", None]}),
    (12, {"_any_": {"fields": ["last_update"], "datetime": [">2020-01-01", "<soon"]}}),
    *((12, {"filters": {"tags": wrong}}) for wrong in (
        {"any": 5}, {"all": ["a"]}, {"any": {"include": 5}}, {"all": {"exclude": {"a": 1}}})),
    (12, {"_any_": {"fields": 5, "pattern": "a"}}), (12, {"_all_": {"fields": [["name"]], "pattern": "a"}}),
])
def test_what_is_wrong_is_refused(server, code, asked):
    server.refused(code, "tasks.get_all", asked)


@pytest.mark.parametrize("order, expected", [
    ("name", "alpha beta delta gamma"),
    (["-name"], "gamma delta beta alpha"),
    ("-last_iteration", "gamma beta"),
    ("hyperparams.Args.lr.value", "beta alpha"),
    ("-hyperparams.Args.lr.value", "alpha beta"),
    (["-type", "-name"], "delta beta alpha gamma"),
    ("-no_such", "alpha beta gamma delta"),
    (f"{CURVE}.value", "gamma beta alpha delta"),
    (f"-{CURVE}.max_value", "alpha beta gamma delta"),
])
def test_order(server, order, expected):
    found = names(server, order_by=order)
    assert found[:len(expected.split())] == expected.split()
    assert sorted(found) == ["alpha", "beta", "delta", "gamma"]


@pytest.mark.parametrize("order", [None, "name", "-last_iteration", "hyperparams.Args.lr.value"])
def test_pages_are_stable_and_complete(server, order):
    pages = [names(server, page=page, page_size=3, order_by=order) for page in range(3)]
    assert [len(page) for page in pages] == [3, 1, 0]
    assert [*pages[0], *pages[1]] == names(server, order_by=order)


def test_no_page_is_longer_than_500(tmp_path):
    server = Server(tmp_path / "agent.db")
    for number in range(510):
        server.task(f"task {number}")
    assert len(names(server)) == 500
    assert len(names(server, page_size=1000)) == 500
    assert len(names(server, page=1)) == 10
    assert len(names(server, id=[task["id"] for task in server("tasks.get_all", page=1)["tasks"]])) == 10


@pytest.mark.parametrize("fields, expected", [
    (["id"], {"id"}), (["runtime"], {"runtime": {"_key": "K1", "n.m": 1}}),
    (["runtime._key"], {"runtime": {"_key": "K1"}}), (["runtime._nothing"], {"runtime": {}}),
    (["runtime._key", "runtime"], {"runtime": {"_key": "K1", "n.m": 1}}),
    (["runtime.n%2Em"], {"runtime": {"n.m": 1}}),
    (["hyperparams.Args.lr"], {"hyperparams": {"Args": {"lr": {"value": "10"}}}}),
    (["script.binary", "started"], {"script": {"binary": "python"}}),
    (["models.output.model"], {"models": {"output": []}}),
    (["unique_metrics"], {"unique_metrics": ["m/v"]}),
    (["tags.*"], {"tags": ["a"]}),
])
def test_only_the_asked_fields(server, fields, expected):
    found = server("tasks.get_all", id=[server.named["alpha"]], only_fields=fields)["tasks"][0]
    if isinstance(expected, set):
        assert set(found) == expected
    else:
        assert found == expected


def test_fields_may_be_left_out(server):
    found = server("tasks.get_all", id=[server.named["alpha"]], only_fields=["-runtime", "-script.binary"])
    assert "runtime" not in found["tasks"][0]
    assert found["tasks"][0]["script"] == {"repository": "", "entry_point": ""}
    assert "unique_metrics" not in found["tasks"][0]


def test_paths_lead_through_lists(server):
    task = server.task("with models", models={"output": [{"model": "m1", "name": "x"}, {"model": "m2"}]},
                       system_tags=["hidden"])
    found = server("tasks.get_all", id=[task], only_fields=["models.output.model"])["tasks"]
    assert found == [{"models": {"output": [{"model": "m1"}, {"model": "m2"}]}}]


@given(st.text())
def test_an_escaped_key_is_one_step_of_a_path(key):
    document = {"runtime": {key: "here"}}
    path = "runtime." + fieldpaths.escape(key)
    assert fieldpaths.values(document, path) == ["here"]
    tree = {}
    fieldpaths.add_path(tree, path)
    assert fieldpaths.pick({**document, "other": 1}, tree) == document
    assert fieldpaths.leave_out(document, path) == {"runtime": {}}


TAG = st.sampled_from(["a", "b", "c"])


@given(have=st.lists(TAG), some=st.lists(TAG), none=st.lists(TAG), every=st.lists(TAG, min_size=1))
def test_groups_of_a_list_are_joined_by_and(have, some, none, every):
    asked = [*some, *(f"-{tag}" for tag in none), "__$all", *every]
    fits = listquery.condition("tags", asked)({"tags": have})
    # "__$all" is the first operator here, so the groups are ANDed
    assert fits == ((not some or bool(set(some) & set(have))) and not set(none) & set(have)
                    and set(every) <= set(have))


@given(st.datetimes())
def test_a_date_is_read_in_every_usual_form(moment):
    stored = moment.isoformat(timespec="microseconds") + "+00:00"
    forms = [moment.isoformat(), moment.isoformat() + "Z", moment.isoformat(" ") + "+00:00", stored]
    assert [ranges.moment(form) for form in forms] == [stored] * 4


def test_queues_by_name_and_tags(tmp_path):
    server = Server(tmp_path / "agent.db")
    server("queues.create", name="gpu.large", tags=["fast"])
    server("queues.create", name="k8s", system_tags=["k8s-glue"])

    def found(**asked):
        return [queue["name"] for queue in server("queues.get_all", asked)["queues"]]

    assert found() == ["default", "gpu.large"]
    assert found(search_hidden=True) == ["default", "gpu.large", "k8s"]
    assert found(name="k8s") == ["k8s"]
    assert found(name="^gpu.large$") == ["gpu.large"]
    assert found(tags=["fast"]) == ["gpu.large"]
    assert found(order_by="-name") == ["gpu.large", "default"]
    with pytest.raises(ApiError):
        found(only_fields=["no_such"])
    assert server("queues.get_all", id=[server.queue], only_fields=["id", "tags"]) == {
        "queues": [{"id": server.queue, "tags": []}]}


class TestProjects:
    @pytest.fixture
    def server(self, tmp_path):
        return Server(tmp_path / "agent.db")

    def found(self, server, **asked):
        return [project["name"] for project in server("projects.get_all", asked)["projects"]]

    def test_missing_parents_are_made(self, server):
        leaf = server("projects.create", name=" lab / vision//digits ", system_tags=["x"])["id"]
        project = server("projects.get_by_id", project=leaf)["project"]
        assert (project["name"], project["basename"]) == ("lab/vision/digits", "digits")
        assert self.found(server) == ["lab", "lab/vision", "lab/vision/digits"]
        assert len(project["path"]) == 2
        assert project["parent"] == project["path"][-1]

    def test_names(self, server):
        lab = server("projects.create", name="lab")["id"]
        server.refused(801, "projects.create", name="lab")
        # what is written otherwise cannot be found as it is written: Task.init would fail the second time
        assert [server("projects.create", name=name)["id"] for name in ("lab ", " lab", "/lab", "lab/")] == [lab] * 4
        server.refused(800, "projects.create", name="a")
        server.refused(12, "projects.create", name="lab/x")
        server.refused(409, "projects.create", name="/".join(["deep"] * 11))
        server.refused(401, "projects.get_by_id", project="nowhere")

    def test_the_sdk_looks_for_the_exact_whole_name(self, server):
        server("projects.create", name="my lab/vision")
        asked = {"name": "^my\\ lab/vision$", "only_fields": ["id"], "search_hidden": True}
        assert len(server("projects.get_all", asked)["projects"]) == 1

    def test_children_and_descendants(self, server):
        top = server("projects.create", name="lab")["id"]
        server("projects.create", name="lab/vision/digits")
        server("projects.create", name="other")
        assert self.found(server, parent=[top]) == ["lab/vision", "lab/vision/digits"]
        assert self.found(server, parent=[top], shallow_search=True) == ["lab/vision"]
        assert self.found(server, shallow_search=True) == ["lab", "other"]

    def test_hidden_ones_and_what_is_in_them(self, server):
        server("projects.create", name="lab/.pipelines", system_tags=["hidden"])
        inside = server("projects.create", name="lab/.pipelines/one")["id"]
        assert self.found(server) == ["lab"]
        assert len(self.found(server, search_hidden=True)) == 3
        assert self.found(server, id=[inside]) == ["lab/.pipelines/one"]

    def test_a_project_changes_with_its_tasks(self, server):
        project = server("projects.create", name="lab")["id"]
        task = server.task(project=project)
        server("tasks.started", task=task)
        assert server("projects.get_by_id", project=project)["project"]["last_update"] == server.get(
            task)["last_update"]


@pytest.mark.parametrize("name", ["a b/c-d.e(f)[x]{1}$^|*+?\\ü", "two\nlines", "...", "plain_9", "it's \"quoted\"; --"])
def test_a_name_as_the_package_asks_for_it_is_found_and_nothing_else(tmp_path, name):
    server = Server(tmp_path / "agent.db")
    task = server.task(name)
    server.task(name + "x")
    server.task("x" + name)
    found = server("tasks.get_all", name="^" + re.escape(name) + "$")["tasks"]
    assert [each["id"] for each in found] == [task]


def test_an_id_by_its_beginning_and_a_name_as_a_whole_are_looked_up_and_not_searched(tmp_path):
    """The same answers as by the conditions alone, out of the index."""
    from agentpipe.server import tasks_read
    call = Server(tmp_path / "agent.db")
    ids = [call("tasks.create", {"name": name, "type": "training"})["id"]
           for name in ("a.b (c)", "a.b (c) d", "aXb (c)")]
    found = call("tasks.get_all", {"_any_": {"fields": ["id"], "pattern": f"^{ids[1][:10]}"}, "only_fields": ["id"]})
    assert [task["id"] for task in found["tasks"]] == [ids[1]]
    found = call("tasks.get_all", {"name": r"^a\.b\ \(c\)$", "only_fields": ["id"]})
    assert [task["id"] for task in found["tasks"]] == [ids[0]]
    found = call("tasks.get_all", {"name": r"^a.b \(c\)$", "only_fields": ["id"]})  # a pattern, not a text
    assert [task["id"] for task in found["tasks"]] == [ids[0], ids[2]]
    assert tasks_read._whole_name(r"^a\.b\ \(c\)$") == "a.b (c)" and not tasks_read._whole_name("^a.b$")
    assert tasks_read._id_prefix({"fields": ["id"], "pattern": "^1f"}) == "1f"
    assert not tasks_read._id_prefix({"fields": ["id", "name"], "pattern": "^1f"})
