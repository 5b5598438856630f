"""The manifest is read, validated and written in one place."""

import json
import os

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe import errors, lines, manifest
from agentpipe.task import edits

TASK = {"task": {"script": {"repository": "https://example.org/r.git", "entry_point": "train.py"}}}


NAMES = ["task", "id", "script", "pull", "claim", "fetch", "code", "failed", "exit", "reason", "manifest", "place",
         "kind", "prefix"]


def refusal(line):
    with pytest.raises(errors.Failure) as caught:
        manifest.read(line)
    assert caught.value.exit == errors.BAD_DATA
    assert "\n" not in caught.value.reason
    return caught.value.reason


def test_a_byte_order_mark_is_passed_over():
    assert manifest.read(b"\xef\xbb\xbf" + json.dumps(TASK).encode()) == TASK


def test_a_hand_written_task_is_a_manifest():
    assert manifest.read(json.dumps(TASK).encode()) == TASK


@pytest.mark.parametrize(("value", "field"), [
    ({"task": {"script": {"repository": 3}}}, "task.script.repository"),
    ({"task": []}, "task must be"),
    ({"task": {"id": "../../etc"}}, "task.id"),
    ({"task": {"id": "a\n"}}, "task.id"),
    ({"task": {}, "pull": {"server": "s"}}, "pull"),
    ({"task": {}, "pull": {"server": "s", "claim": "../x"}}, "pull.claim"),
    ({"task": {}, "place": {"kind": "host", "prefix": "docker"}}, "place.prefix"),
    ({"task": {}, "fetch": {"code": "relative"}}, "fetch.code"),
    ({"task": {}, "fetch": {"code": "/a", "began": 1764532800.5}}, "fetch.began"),
    ({"task": {}, "patch": {"seconds": "2"}}, "patch.seconds"),
    ({"task": {}, "place": {"kind": "host", "setup": [{"began": None}]}}, "place.setup[0].seconds"),
    ({"task": {}, "env": {"python": None, "binary": ["bash"]}}, "env.binary"),
    ({"task": {}, "pins": {"packages": "six==1.17.0"}}, "pins.packages"),
    ({"manifest": 2, "task": {}}, "manifest"),
    ({"task": {}, "failed": {"exit": 0, "reason": "x"}}, "failed.exit"),
    ({}, "task is missing"),
])
def test_what_is_wrong_is_named(value, field):
    assert field in refusal(json.dumps(value).encode())


@pytest.mark.parametrize("line", [
    b"\xff\xfe", b'{"task":', b'{"task": {}} trailing', b'{"task": {"x": NaN}}',
    b'{"task": {"x": -1e999}}', b'{"task": {"x": "\\ud800"}}',
    b"[" * 100_000, b"[]", b"null", b'"task"', b"\x00",
])
def test_what_is_no_json_object_in_utf8_is_refused_in_one_line(line):
    refusal(line)


def test_a_failure_quotes_no_secret_of_ours(monkeypatch):
    monkeypatch.setenv("CI_TOKEN", "supersecretvalue")
    said = errors.Failure("no supersecretvalue", evidence="why: supersecretvalue", remedy="try supersecretvalue")
    failed = manifest.failure(said, "fetch")["failed"]
    assert [failed[key] for key in ("reason", "evidence", "remedy")] == [
        "no [REDACTED]", "why: [REDACTED]", "try [REDACTED]"]


def test_what_is_to_be_changed_has_no_password_of_the_task():
    told = errors.Failure("no", errors.BAD_DATA,
                          change=("--drop-package", "--extra-index https://u:s3cret@host/simple"))
    assert manifest.failure(told, "env")["failed"]["change"] == [
        "--drop-package", "--extra-index https://host/simple"]
    task = {"id": "a", "script": {"requirements": {"pip": "six\n--extra-index https://u:s3cret@host/simple\n"}}}
    assert edits.changed_requirements(task, {"drop_package": ["--extra-index https://host/simple"]}) == "six\n"


@pytest.mark.parametrize("line", ["-f https://u:s3cret@host/x.html", "--find-links=https://u:s3cret@host/x.html"])
def test_an_option_is_dropped_in_any_spelling_of_its_own(line):
    task = {"id": "a", "script": {"requirements": {"pip": f"{line}\nsix\n"}}}
    assert edits.changed_requirements(task, {"drop_package": ["--find-links https://host/x.html"]}) == "six\n"


def test_a_list_with_one_package_takes_the_place_of_no_project(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "own"\ndependencies = ["six", "attrs"]\n')
    task = {"id": "a", "script": {"entry_point": "train.py"}}
    with pytest.raises(errors.Failure, match=r"takes its packages from pyproject\.toml") as caught:
        edits._lists(str(tmp_path), task)
    assert "--checkout ." in caught.value.remedy
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "own"\ndependencies = []\n')
    assert edits._lists(str(tmp_path), task) == []
    (tmp_path / "requirements.txt").write_text("six\n")
    assert edits._lists(str(tmp_path), task) == ["six"]


def test_what_is_nested_deeper_than_it_could_be_written_is_refused():
    assert "nested too deeply" in refusal(b'{"task": {"x": ' + b"[" * 800 + b"]" * 800 + b"}}")
    manifest.read(b'{"task": {"x": ' + b"[[]," * 150 + b"1" + b"]" * 150 + b"}}")


def test_a_lone_surrogate_is_refused_in_a_big_line_too():
    refusal(b'{"task": {"x": "\\ud800", "y": "' + b"a" * (manifest.BIG + 1) + b'"}}')


@pytest.mark.parametrize("size", [10, manifest.BIG + 1])
def test_large_numbers_stay_what_they_are(size):
    line = {"task": {"script": {"diff": "a" * size}, "seed": 2 ** 70, "small": 0.1}}
    assert manifest.read(manifest.write(line)) == line
    assert b"1180591620717411303424" in manifest.write(line)


def test_the_schema_is_read_once(monkeypatch):
    manifest.read(b'{"task": {}}')
    monkeypatch.setattr(manifest, "schema", None)
    manifest.read(b'{"task": {}}')


def test_unknown_keys_pass_through():
    line = {**TASK, "site": {"rack": 7}, "task": {**TASK["task"], "new_field": [1, None]}}
    assert manifest.read(manifest.write(line)) == line


def test_a_diff_of_50_megabytes_passes():
    diff = "diff --git a/x b/x\n" + "+é line\n" * (50_000_000 // 9)
    line = {"task": {"script": {"diff": diff}}}
    assert manifest.read(manifest.write(line))["task"]["script"]["diff"] == diff


def test_a_stage_that_runs_again_drops_the_keys_of_later_stages():
    line = {**TASK, "place": {"kind": "host"}, "fetch": {"code": "/a"}, "patch": {}, "env": {}, "run": {},
            "pins": {"a": 1}}
    again = manifest.with_key(line, "fetch", {"code": "/b"})
    assert set(again) == {"manifest", "task", "place", "fetch", "pins"}
    assert again["fetch"] == {"code": "/b"}
    assert line["fetch"] == {"code": "/a"}


# (a last newline aside, which Python's `$` passes over in the reference implementation)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
                    | st.text().map(lambda text: text.rstrip("\n")),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4), max_leaves=12))
def test_our_verdict_is_that_of_the_reference_validator(value):
    valid = jsonschema.Draft7Validator(json.loads(manifest.schema())).is_valid(value)
    try:
        manifest.check(value)
        accepted = True
    except errors.Failure:
        accepted = False
    assert accepted == valid


def test_the_schema_uses_nothing_that_we_do_not_check():
    def keywords(each):
        if isinstance(each, dict):
            yield from each
            for name, inner in each.items():
                if name in ("properties", "definitions"):
                    for value in inner.values():
                        yield from keywords(value)
                elif name != "const":
                    yield from keywords(inner)
        elif isinstance(each, list):
            for inner in each:
                yield from keywords(inner)

    constrains = {"$ref", "anyOf", "const", "type", "pattern", "minimum", "maximum", "required", "properties",
                  "additionalProperties", "items"}
    describes = {"$schema", "$id", "title", "description", "definitions"}
    assert set(keywords(json.loads(manifest.schema()))) <= constrains | describes


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_in_another_way(line):
    try:
        manifest.read(line)
    except errors.Failure as failure:
        assert failure.exit == errors.BAD_DATA


@pytest.mark.parametrize(("source", "words"), [("/dev/zero", "holds no text"), ("endless", "line of more than 1 MiB")])
def test_what_never_ends_is_refused_before_memory_does(tmp_path, monkeypatch, source, words):
    monkeypatch.setattr(lines, "LONGEST", 1 << 20)
    (tmp_path / "endless").write_bytes(b'{"task":{}}\n' + b"x" * (4 << 20))
    found = lines.Input(os.open(tmp_path / source, os.O_RDONLY), source)
    read = []
    with pytest.raises(errors.Failure, match=words) as caught:
        read.extend(found)
    assert caught.value.exit == errors.BAD_DATA and caught.value.ends_input
    found.close()


def test_of_what_never_ends_no_more_is_given_back_than_a_line_may_have(monkeypatch):
    monkeypatch.setattr(lines, "LONGEST", 1 << 20)
    found = lines.Input(os.open("/dev/zero", os.O_RDONLY), "/dev/zero")
    assert found.give_back() == 0
    found.close()


def test_lines_of_any_number_may_be_longer_than_one_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST", 1 << 17)
    (tmp_path / "many").write_bytes((b"x" * 100_000 + b"\n") * 5)
    found = lines.Input(os.open(tmp_path / "many", os.O_RDONLY))
    assert len(list(found)) == 5
    found.close()
