"""A file of the repository that is broken is told with its line, and not the line that reads it."""

from __future__ import annotations

import sys
from pathlib import Path

import failing
import pytest

JSON = '{\n "a": 1\n "b": 2\n}\n'


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 12345\n"
# torch 2.13
TORCH = """Traceback (most recent call last):
  File "/s/tasks/1f3c.1/code/t.py", line 2, in <module>
    model = torch.load(path)
  File "/e/lib/python3.12/site-packages/torch/serialization.py", line 1548, in load
    raise pickle.UnpicklingError(_get_wo_message(str(e))) from None
_pickle.UnpicklingError: Weights only load failed. In PyTorch 2.6, we changed the default value of the `weights_only` \
succeed, but it can result in arbitrary code execution. Do it only if you got the file from a trusted source.
Please file an issue with the following so that we can make `weights_only=True` compatible with your use case: \
WeightsUnpickler error: Unsupported operand %s

Check the documentation of torch.load to learn more about types accepted by default with weights_only https://pytorch\
.org/docs/stable/generated/torch.load.html.
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


@pytest.mark.parametrize(("files", "entry", "at", "said"), [
    ({"t.py": "import json\njson.load(open('c.json'))\n", "c.json": JSON}, "t.py", "c.json:3",
     "JSON: Expecting ',' delimiter"),
    # by the command line, of two that are broken in the same way; read as text
    ({"t.py": "import json, sys\njson.loads(open(sys.argv[1].partition('=')[2]).read())\n", "conf/c.json": JSON,
      "d.json": JSON}, "t.py --c=conf/c.json", "conf/c.json:3", "JSON: Expecting ',' delimiter"),
    # by a name in the line that reads it
    ({"t.py": "import json\nimport pathlib as p\njson.loads((p.Path('conf') / 'c.json').read_text())\n",
      "conf/c.json": JSON, "d.json": JSON}, "t.py", "conf/c.json:3", "JSON: Expecting ',' delimiter"),
    # named nowhere: the only one that fails so
    ({"t.py": "import json\nfor n in 'ab': json.load(open(n + '.json'))\n", "a.json": "{}", "b.json": JSON,
      "c.json": "{"}, "t.py", "b.json:3", "JSON: Expecting"),
    ({"t.py": "import json\nfor line in open('c.jsonl'): json.loads(line)\n", "c.jsonl": '{"a": 1}\n{"a"}\n'}, "t.py",
     "c.jsonl:2", "JSON: Expecting ':' delimiter"),
    ({"t.py": "import yaml\nyaml.safe_load(open('c.yaml'))\n", "c.yaml": "a: [1, 2\nb: 3\n"}, "t.py", "c.yaml:2",
     "YAML: expected ',' or ']', but got ':' (while parsing a flow sequence, line 1)"),
    ({"t.py": "import yaml\nyaml.safe_load(open('c.yaml').read())\n", "c.yaml": "a: 1\nb: x: 3\n", "d.yaml": "a: b: c"},
     "t.py", "c.yaml:2", "YAML: mapping values are not allowed here"),
    ({"t.py": "import configparser\nconfigparser.ConfigParser().read('c.ini')\n", "c.ini": "[a]\nx\n"}, "t.py",
     "c.ini:2", "INI: Source contains parsing errors: 'c.ini'"),
    ({"t.py": "import configparser\nconfigparser.ConfigParser().read('c.ini')\n", "c.ini": "x\n"}, "t.py", "c.ini:1",
     "INI: File contains no section headers.")])
def test_the_line_of_the_file_that_is_broken(files: dict[str, str], entry: str, at: str, said: str) -> None:
    found = failing.told(files, entry)
    assert found["reason"].startswith(f"{at} cannot be read as {said}")
    assert f"mend {at} in your checkout" in found["advice"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no tomllib")
@pytest.mark.parametrize(("text", "line"), [("a = 1\nb = \n", 2), ("a = 1\nb = [1,\n", 3)])
def test_a_line_of_toml(text: str, line: int) -> None:
    files = {"t.py": "import tomllib\ntomllib.load(open('c.toml', 'rb'))\n", "c.toml": text, "good.toml": "a = 1\n"}
    assert failing.told(files, "t.py")["reason"].startswith(f"c.toml:{line} cannot be read as TOML: Invalid ")


@pytest.mark.parametrize("files", [
    {"t.py": "import json\njson.loads('{')\n", "c.json": JSON},  # another text
    {"t.py": "import json\njson.loads('<html>')\n", "c.json": ""},
    {"t.py": "import json\nfor n in 'ab': json.load(open(n + '.json'))\n", "a.json": JSON, "b.json": JSON},  # which?
    {"t.py": "import json\ntry: json.load(open('c.json'))\nexcept ValueError as e: raise KeyError('x') from e\n",
     "c.json": JSON}])
def test_of_another_text_or_one_of_several_only_the_line_that_reads_is_known(files: dict[str, str]) -> None:
    reason, line = failing.told(files, "t.py")["reason"], 3 if "KeyError" in files["t.py"] else 2
    assert "cannot be read" not in reason and f", at t.py:{line} " in reason


def test_a_pointer_of_git_lfs_is_no_pickle() -> None:
    files = {"t.py": "import pickle\npickle.load(open('m/b.pkl', 'rb'))\n", "m/a.pkl": POINTER, "m/b.pkl": POINTER}
    found = failing.told(files, "t.py")
    assert found["reason"] == "m/b.pkl is kept in Git LFS, and only its pointer came (exit 1)"
    assert "git lfs install" in found["advice"] and found["remedy"] is None
    found = failing.told({"t.py": "import sys\nfloat(open(sys.argv[1]).read())\n", "n.txt": POINTER}, "t.py n.txt")
    assert found["reason"].startswith("n.txt is kept in Git LFS")
    found = failing.told({"t.py": "import sys\nnosuch\n", "n.txt": POINTER}, "t.py n.txt")
    assert found["reason"].startswith("NameError: ")  # it has not come to that file
    found = failing.told({**files, "m/a.pkl": "v", "m/b.pkl": "v", "n.txt": ""}, "t.py")
    assert "UnpicklingError" in found["reason"]


def test_a_pointer_of_git_lfs_is_no_checkpoint_no_json_and_no_table() -> None:
    failing.checkout({"t.py": "import torch\nmodel = torch.load(path)\n", "m/model.pt": POINTER})
    assert failing.of(TORCH % 118, "t.py")["reason"].startswith("m/model.pt is kept in Git LFS")
    assert "UnpicklingError" in failing.of(TORCH % 149, "t.py")["reason"]
    files = {"t.py": "import json\nfor n in 'wv': json.load(open(n + '.json'))\n", "w.json": POINTER}
    assert failing.told(files, "t.py")["reason"].startswith("w.json is kept in Git LFS")
    files = {"t.py": "import csv, sys\nrow = next(csv.DictReader(open(sys.argv[1])))\nrow['label']\n", "w.csv": POINTER}
    assert failing.told(files, "t.py w.csv")["reason"].startswith("w.csv is kept in Git LFS")


def test_a_pointer_that_is_only_spoken_of_is_no_cause() -> None:
    for code in (f"print({POINTER!r})\nraise ValueError('version https://git-lfs')\n", "row\n"):
        reason = failing.told({"t.py": code, "w.csv": POINTER}, "t.py w.csv" if code == "row\n" else "t.py")["reason"]
        assert "Git LFS" not in reason and "at t.py:" in reason


def test_a_pointer_that_was_read_above_the_line_that_fails_is_told_beside_what_it_says() -> None:
    code = "import csv\nrows = [*csv.DictReader(open('data/w.csv'))]\nprint(rows[0]['label'])\n"
    found = failing.told({"t.py": code, "data/w.csv": POINTER}, "t.py")
    assert found["reason"] == ("KeyError: 'label', at t.py:3: data/w.csv is kept in Git LFS, and only its pointer came "
                               "(exit 1)")
    for other in (code.replace("rows[0]['label']", "nothing"), "{}['label']\n" + code):
        assert "Git LFS" not in failing.told({"t.py": other}, "t.py")["reason"]
    found = failing.told({"t.py": code, "data/w.csv": "a\n1\n"}, "t.py")
    assert found["reason"] == "KeyError: 'label', at t.py:3 (exit 1)"
