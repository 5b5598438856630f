"""What is told of imports that find another file than is meant, or no package around them."""

from __future__ import annotations

from pathlib import Path

import failing
import pytest


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


@pytest.mark.parametrize(("files", "entry", "file", "module"), [
    ({"t.py": "import yaml; yaml.safe_load('a')\n", "yaml.py": ""}, "t.py", "yaml.py", "yaml"),
    ({"t.py": "from yaml import safe_load\n", "yaml.py": ""}, "t.py", "yaml.py", "yaml"),
    ({"t.py": "import yaml; yaml.safe_load('a')\n", "yaml/__init__.py": ""}, "t.py", "yaml", "yaml"),
    ({"a/t.py": "import shelve; shelve.Shelf\n", "a/shelve.py": ""}, "a/t.py", "a/shelve.py", "shelve"),
    ({"shelve.py": "import shelve\nshelve.open\n"}, "shelve.py", "shelve.py", "shelve"),
    ({"t.py": "import yaml.nodes\n", "yaml.py": ""}, "t.py", "yaml.py", "yaml")])
def test_a_file_of_the_repository_that_stands_in_a_modules_place(files: dict[str, str], entry: str, file: str,
                                                                 module: str) -> None:
    found = failing.told(files, entry, script={"requirements": {"pip": "PyYAML==6.0\n"}})
    assert found["reason"] == f"{file} of the repository stands in the place of the module {module} (exit 1)"
    assert f"git mv {file} {'a/' if '/s' in file else ''}own_{Path(file).name}; then agent-task edit" in found["advice"]


@pytest.mark.parametrize(("module", "said", "repository", "asked"), [
    ("mypkg", "AttributeError: module 'mypkg' has no attribute 'x'", "r", "mypkg==0.1"),
    ("mypkg", "AttributeError: module 'mypkg' has no attribute 'x'", "r", "-e git+https://h/mypkg.git#egg=mypkg"),
    ("einops", "AttributeError: module 'einops' has no attribute 'x'", "einops", "einops==0.8"),
    ("yaml", "ImportError: cannot import name 'x' from 'yaml' (/e/lib/python3.11/site-packages/yaml/__init__.py)", "r",
     "PyYAML==6.0"),
    ("types", "ImportError: cannot import name 'x' from 'types' (/usr/lib/python3.11/types.py)", "r", "six")])
def test_the_repositorys_own_package_and_an_installed_one_are_in_nobodys_place(module: str, said: str, repository: str,
                                                                               asked: str) -> None:
    failing.checkout({"t.py": "", f"{module}.py": ""})
    found = failing.of(f'  File "/s/tasks/1f3c.1/code/t.py", line 2, in <module>\n{said}\n', "t.py", script={
        "repository": f"https://git.example.org/{repository}.git", "requirements": {"pip": asked}})
    assert found["reason"] == f"{said}, at t.py:2 (exit 1)"


def test_a_module_of_ones_own_without_such_a_name_stands_in_nobodys_place() -> None:
    found = failing.told({"t.py": "import helpers\nhelpers.no\n", "helpers.py": ""}, "t.py")
    assert found["reason"] == "AttributeError: module 'helpers' has no attribute 'no', at t.py:2 (exit 1)"


@pytest.mark.parametrize(("files", "entry", "folder", "options"), [
    ({"pkg/train.py": "from .h import x\nimport sys\nassert sys.argv[1:] == ['--k', 'a b']\n", "pkg/h.py": "x = 1"},
     "pkg/train.py --k 'a b'", ".", "--entry-point '-m pkg.train --k '\"'\"'a b'\"'\"''"),
    ({"pkg/train.py": "from . import h\n", "pkg/h.py": ""}, "train.py", "pkg",
     "--working-dir . --entry-point '-m pkg.train'"),
    ({"a/pkg/sub/train.py": "from ..h import x\n", "a/pkg/h.py": "x = 1"}, "pkg/sub/train.py", "a",
     "--entry-point '-m pkg.sub.train'"),
    ({"a/pkg/sub/train.py": "from ..h import x\n", "a/pkg/h.py": "x = 1"}, "train.py", "a/pkg/sub",
     "--working-dir a --entry-point '-m pkg.sub.train'")])
def test_a_script_of_a_package_is_run_as_a_module_of_it(files: dict[str, str], entry: str, folder: str,
                                                        options: str) -> None:
    found = failing.told(files, entry, folder)
    assert "is run by its path, and from ." in found["reason"]
    assert found["remedy"] == f"agent-task edit 1f3c {options} && agent-task enqueue 1f3c"
    assert failing.again(found, folder) == (0, "")


@pytest.mark.parametrize(("files", "entry", "folder", "options"), [
    ({"sub/t.py": "import h, sys\nassert sys.argv[1:] == ['a b']\n", "sub/h.py": ""}, "-m sub.t 'a b'", ".",
     "--entry-point 'sub/t.py '\"'\"'a b'\"'\"''"),
    ({"pkg/__main__.py": "import h\n", "pkg/h.py": ""}, "-m pkg", ".", "--entry-point pkg/__main__.py"),
    ({"a/pkg/t.py": "import h\n", "lib/h.py": ""}, "-m pkg.t", "a", "--working-dir lib --entry-point ../a/pkg/t.py"),
    ({"sub/t.py": "open('d/x')\n", "d/x": ""}, "-m t", "sub", "--working-dir . --entry-point sub/t.py"),
    ({"a/pkg/t.py": "from . import h\nopen('d/x')\n", "a/pkg/h.py": "", "d/x": ""}, "-m pkg.t", "a",
     "--working-dir . --entry-point '-m a.pkg.t'")])
def test_a_module_that_is_to_run_elsewhere_is_found_there(files: dict[str, str], entry: str, folder: str,
                                                          options: str) -> None:
    found = failing.told(files, entry, folder)
    assert found["remedy"] == f"agent-task edit 1f3c {options} && agent-task enqueue 1f3c"
    assert failing.again(found, folder) == (0, "")


def test_a_module_of_a_package_stays_one_though_its_neighbour_is_not_found() -> None:
    found = failing.told({"pkg/t.py": "from . import a\nimport h\n", "pkg/a.py": "", "pkg/h.py": ""}, "-m pkg.t")
    assert "the module h is in the repository, below pkg" in found["reason"] and found["remedy"] is None
    assert "import it as its package has it in your checkout, and there: agent-task edit 1f3c" in found["advice"]


@pytest.mark.parametrize(("line", "alone"), [("from .h import x", "from h import x"), ("from . import h", "import h")])
def test_a_script_in_no_folder_is_in_no_package(line: str, alone: str) -> None:
    found = failing.told({"train.py": f"{line}\n", "h.py": "x = 1\n"}, "train.py")
    assert found["remedy"] is None
    assert f"it stands in no folder that could be its package: {alone}; mend train.py:1" in found["advice"]
    # imported by its path, from elsewhere
    found = failing.told({"t.py": "import h\n", "h.py": f"{line}\n"}, "t.py")
    assert found["reason"].startswith("ImportError: attempted relative import with no known parent package, at h.py:1")


@pytest.mark.parametrize(("said", "package", "certain"), [
    # recorded with pandas 3.1
    ("ImportError: Unable to find a usable engine; tried using: 'pyarrow', 'fastparquet'.\nA suitable version of "
     "pyarrow or fastparquet is required for parquet support.\nTrying to import the above resulted in these errors:\n"
     " - `Import pyarrow` failed. pyarrow is required for parquet support. Use pip, conda, or your preferred package "
     "management tool to install the pyarrow package.\n", "pyarrow", True),
    ("ImportError: Please install tqdm: pip install tqdm", "tqdm", True),
    ("tqdm is required, run `pip install tqdm`", "tqdm", True),
    ("ImportError: run pip install 'ray[tune]'", "ray[tune]", True),
    ("RuntimeError: please run pip install tqdm.", "tqdm", True),
    ("ImportError: run pip install some-strangers-name", "some-strangers-name", False)])
def test_a_package_that_is_asked_for_in_words(said: str, package: str, certain: bool) -> None:
    found = failing.of(f"loading\n{said}", "t.py")
    command = failing.of("ModuleNotFoundError: No module named 'six'", "t.py")["remedy"].replace(
        "six", f"'{package}'" if "[" in package else package)
    assert found["remedy"] == (command if certain else None)
    assert certain or found["advice"] == f"look up first that {package} is the package that is meant: {command}"
    asked = failing.of(f"loading\n{said}", "t.py", script={"requirements": {"pip": f"{package}\n"}})
    assert asked["remedy"] is None and "--package" not in asked["advice"]


@pytest.mark.parametrize("said", [
    "[notice] To update, run: pip install --upgrade pip", "ImportError: please pip install git+https://h/o/CLIP.git",
    "ImportError: pip install the extras first", "Tip: pip install rich for charts",
    "ValueError: no such rate\nTip: pip install rich for charts"])
def test_what_names_no_package_or_is_only_a_tip_is_no_wish(said: str) -> None:
    assert "--package" not in str(failing.of(said, "t.py"))


def test_a_version_that_is_asked_for_in_words() -> None:
    found = failing.of("RuntimeError: try pip install numpy==1.26", "t.py", script={"requirements": {"pip": "numpy\n"}})
    assert "--package numpy==1.26 " in found["remedy"]
