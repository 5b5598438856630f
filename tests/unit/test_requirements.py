"""What a task asks to be installed, as its owner wrote it."""

import os
import time

import pytest

from agentpipe import errors, untrusted
from agentpipe.capture import capture
from agentpipe.environment import lock_files, requirements
from agentpipe.job import Job


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """asked(pip=…, files={path: text}, **script) reads the requirements of such a task."""
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    code = tmp_path / "code"
    code.mkdir()

    def read(pip=None, files=(), pins=None, **script):
        for name, text in dict(files).items():
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            (code / name).write_text(text)
        task = tmp_path / os.urandom(4).hex()
        task.mkdir()
        line = {"task": {"script": {"requirements": {} if pip is None else {"pip": pip}, **script}},
                "fetch": {"code": str(code)}}
        if pins is not None:
            line["pins"] = pins
        return requirements.of_task(Job(line, str(task)))

    return read


def test_order_comments_blanks_and_case_make_no_difference(asked):
    tidy = asked("numpy==1.26\nscikit-learn>=1,<2\nrequests[security,socks]\n")
    untidy = asked("# Python 3.11\n\nrequests [socks, security]  # http\nScikit_Learn <2, >= 1\n\n"
                   "NumPy == 1.26\nnumpy==1.26")
    assert untidy.canonical() == tidy.canonical()


@pytest.mark.parametrize("other", [
    "numpy==1.27", "numpy", "numpy==1.26; python_version < '3.9'", "numpy[extra]==1.26",
    "numpy @ https://example.org/numpy.whl", "numpy==1.26\n--extra-index-url https://example.org/simple",
    "numpy==1.26\n--pre", "numpy==1.26 --hash=sha256:00",
])
def test_what_changes_the_outcome_makes_a_difference(asked, other):
    assert asked(other).canonical() != asked("numpy==1.26").canonical()


def test_a_list_and_a_text_are_the_same(asked):
    assert asked(["six", "numpy"]).packages == asked("six\nnumpy").packages == ["six", "numpy"]


@pytest.mark.parametrize("pip", [3, {"six": "1.17.0"}, ["six", 3], True])
def test_what_a_server_kept_that_is_no_list_is_refused_by_its_field(asked, pip):
    with pytest.raises(errors.Failure, match=r"script\.requirements\.pip is neither") as refused:
        asked(pip)
    assert refused.value.exit == errors.BAD_DATA


def test_lines_that_end_in_a_backslash_go_on(asked):
    assert asked("six==1.16 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nnumpy").packages == [
        "six==1.16 --hash=sha256:aa --hash=sha256:bb", "numpy"]


def test_without_a_record_every_requirements_file_down_to_the_script_counts(asked):
    found = asked(files={"requirements.txt": "one", "models/requirements.txt": "two",
                         "models/big/requirements.txt": "three", "other/requirements.txt": "four"},
                  working_dir="models", entry_point="big/train.py")
    assert found.packages == ["one", "two", "three"]


def test_an_empty_record_means_the_repository(asked):
    assert asked("\n  \n", files={"requirements.txt": "six"}).packages == ["six"]


def test_a_record_beats_the_repository(asked):
    assert asked("six", files={"requirements.txt": "numpy"}).packages == ["six"]


def test_the_repository_can_be_made_to_beat_the_record(asked, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__FORCE_REPO_REQUIREMENTS_TXT", "true")
    assert asked("six", files={"requirements.txt": "numpy"}).packages == ["numpy"]


def test_the_list_before_the_first_run_can_be_asked_for(asked, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__FORCE_ORIGINAL_REQUIREMENTS", "true")
    assert asked(requirements={"pip": "six==1.16.0", "org_pip": "six"}).packages == ["six"]


def test_a_receipt_beats_everything_but_comes_from_the_same_indexes(asked):
    found = asked("six\n--extra-index-url https://example.org/simple", pins={"packages": ["six==1.16.0"]})
    assert (found.packages, found.options) == (["six==1.16.0"], [("--extra-index-url", "https://example.org/simple")])


def test_a_file_in_a_file_is_read_beside_the_working_directory_or_itself(asked):
    found = asked("-r deps/all.txt", files={"deps/all.txt": "six\n-r more.txt\n-c limits.txt", "deps/more.txt": "numpy",
                                            "deps/limits.txt": "numpy<2"})
    assert (found.packages, found.constraints) == (["six", "numpy"], ["numpy<2"])


def test_a_list_that_others_name_again_and_again_is_read_once(asked):
    """Of forty that name the next one twice the last would be read 2 ** 40 times."""
    lists = {f"r{number}.txt": f"-r r{number + 1}.txt\n" * 2 for number in range(40)} | {"r40.txt": "six\n-r r0.txt\n"}
    found = asked("-r r0.txt\n-c r40.txt", files=lists)
    assert (found.packages, found.constraints) == (["six"], ["six"])


def test_lists_that_name_each_other_too_deeply_are_refused(asked):
    lists = {f"r{number}.txt": f"-r r{number + 1}.txt\n" for number in range(700)} | {"r700.txt": "six\n"}
    with pytest.raises(errors.Failure, match="names a list that names a list") as caught:
        asked("-r r0.txt", files=lists)
    assert caught.value.exit == errors.BAD_DATA


@pytest.mark.parametrize("marker", ["platform_machine ~= 'x'", "'a' == 'b'", "python_version >"])
def test_a_condition_of_a_folder_that_nobody_can_look_at_is_no_marker(asked, marker):
    with pytest.raises(errors.Failure, match="is no marker"):
        asked(f"./lib ; {marker}", files={"lib/setup.py": ""})


@pytest.mark.parametrize(("line", "words"), [
    ("-e file://lib[x]", "names a machine, lib"), ("lib @ file://lib", "names a machine"),
    ("-r file://[more.txt", "names a machine"), ("./l\0ib", "has a NUL byte"), ("-e file:///a%00b", "is no address")])
def test_a_line_that_names_no_file_is_refused_in_words(asked, line, words):
    with pytest.raises(errors.Failure, match=words) as caught:
        asked(f"six\n{line}", files={"lib/setup.py": ""})
    assert caught.value.exit == errors.BAD_DATA


def test_a_file_url_may_name_this_machine(asked, tmp_path):
    found = asked(f"-e file://localhost{tmp_path}/code/lib#egg=x", files={"lib/setup.py": ""})
    assert [each.path for each in found.projects] == [f"{tmp_path}/code/lib"]


@pytest.mark.parametrize("odd", [None, 1, [], {"name": "six"}])
def test_what_is_no_pin_of_a_receipt_is_refused(asked, odd):
    with pytest.raises(errors.Failure, match="holds what is no package") as caught:
        asked("six", pins={"packages": ["six==1.16.0", odd]})
    assert caught.value.exit == errors.BAD_DATA


def test_a_line_of_blanks_keeps_nobody_waiting(asked):
    began = time.monotonic()
    with pytest.raises(errors.Failure, match="is not a requirement"):
        asked("six==1.16.0" + " " * 100_000 + "x")
    assert time.monotonic() - began < 10


def test_what_pip_freezes_of_checkouts_limits_nothing(asked, tmp_path):
    (tmp_path / "limits.txt").write_text("-e git+https://me:pw0rd@example.org/a.git#egg=a\nsix<2\n-e .\n")
    found = asked(f"six\n-c {tmp_path}/limits.txt")
    assert (found.packages, found.constraints, found.projects) == (["six"], ["six<2"], [])
    assert found.notes[0] == (f"line 1 of {tmp_path}/limits.txt: '-e git+https://example.org/a.git#egg=a' is passed "
                              "over, it says no version")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_that_windows_wrote_is_read(asked, tmp_path, encoding):
    text = "# pinned\r\nsix==1.16.0 \\\r\n  ; python_version > '3'\r\n\r\nattrs\r\n"
    (tmp_path / "code" / "requirements.txt").write_bytes(text.encode(encoding))
    found = asked()
    assert [line.split()[0] for line in found.packages] == ["six==1.16.0", "attrs"]
    assert capture.requirements_text(str(tmp_path / "code" / "requirements.txt")) == text.replace("\r\n", "\n")


def test_what_is_not_utf8_is_not_sent_with_a_task(tmp_path):
    (tmp_path / "list").write_bytes(b"six # \xff\n")
    with pytest.raises(errors.Failure, match="not UTF-8: byte 7"):
        capture.requirements_text(str(tmp_path / "list"))


@pytest.mark.parametrize(("files", "named"), [
    ({"pyproject.toml": "[project]\nname = 'a'\n", "uv.lock": "", "environment.yml": ""}, "uv.lock"),
    ({"pyproject.toml": "[tool.ruff]\n", "src/environment.yml": ""}, "src/environment.yml"),
    ({"src/pyproject.toml": "[project]\nname = 'a'\n", "pyproject.toml": ""}, "src/pyproject.toml"),
    ({"pyproject.toml": "[tool.ruff]\n"}, ""), ({"uv.lock": ""}, "")])
def test_the_file_that_a_task_without_a_record_takes_its_packages_from(tmp_path, files, named):
    for name, text in {"src/train.py": "", **files}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert lock_files.named(str(tmp_path), str(tmp_path / "src")) == named


def test_files_that_name_each_other_end(asked):
    assert asked("-r a.txt", files={"a.txt": "six\n-r b.txt", "b.txt": "numpy\n-r a.txt"}).packages == ["six", "numpy"]


def test_a_folder_of_the_task_is_its_own_affair(asked):
    found = asked("-e .[fast]\n./lib\nsix", files={"pyproject.toml": "", "lib/setup.py": ""})
    assert found.packages == ["six"]
    assert [(os.path.basename(each.path), each.extras, each.editable) for each in found.projects] == [
        ("code", "fast", True), ("lib", "", False)]
    assert found.local_lines() == ["-e .[fast]", "./lib"]


def test_what_a_folder_depends_on_is_part_of_the_key_and_its_modules_are_not(asked):
    first = asked("-e .", files={"pyproject.toml": "a", "src/module.py": "1"}).canonical()
    assert asked("-e .", files={"src/module.py": "2"}).canonical() == first
    assert asked("-e .", files={"pyproject.toml": "b"}).canonical() != first


def test_a_wheel_in_the_repository_counts_by_its_content(asked):
    first = asked("./six.whl", files={"six.whl": "1"}).canonical()
    assert asked("./six.whl", files={"six.whl": "2"}).canonical() != first


@pytest.mark.parametrize(("line", "kept"), [
    ("numpy @ file:///home/conda/feedstock_root/build_artifacts/numpy_1649281/work", "numpy"),
    ("scikit-learn @ file:///tmp/scikit_learn-1.0.2-cp39-cp39-linux_x86_64.whl", "scikit-learn==1.0.2"),
    ("foo[bar] @ file:///tmp/foo-2.0.tar.gz ; python_version > '3'", "foo[bar]==2.0 ; python_version > '3'"),
])
def test_a_path_of_another_machine_keeps_its_name_and_version(asked, line, kept):
    found = asked(line)
    assert found.packages == [kept]
    assert "is not on this machine" in found.notes[0]


@pytest.mark.parametrize("files", [{"lib/pyproject.toml": "", "more.txt": "own @ file:./lib\n"},
                                   {"more/lib/pyproject.toml": "", "more/more.txt": "own @ file:./lib\n"}])
def test_a_named_folder_of_the_task_is_not_taken_from_an_index(asked, files):
    found = asked(f"-r {list(files)[1]}", files=files)
    assert (found.packages, [project.line for project in found.projects]) == ([], ["own @ file:./lib"])


def test_a_named_folder_that_the_task_lacks_is_not_taken_from_an_index(asked):
    with pytest.raises(errors.Failure, match=r"\./lib is not there"):
        asked("own @ file:./lib")


def test_an_editable_repository_is_installed_as_it_is(asked):
    assert asked("-e git+https://example.org/x.git@abc#egg=x").packages == [
        "x @ git+https://example.org/x.git@abc#egg=x"]


@pytest.mark.parametrize(("line", "read"), [
    ("-e git+git@example.org:me/x.git@abc#egg=x", "x @ git+ssh://git@example.org/me/x.git@abc#egg=x"),
    ("x @ git+git@example.org:me/x.git@abc", "x @ git+ssh://git@example.org/me/x.git@abc"),
    ("git+git@example.org:me/x.git", "git+ssh://git@example.org/me/x.git"),
])
def test_a_repository_by_ssh_as_pip_wrote_it_once_is_a_url(asked, line, read):
    assert asked(line).packages == [read]


def test_the_tasks_own_indexes_are_kept(asked):
    found = asked("-i https://a/simple\n--extra-index-url=https://b/simple\n-f https://c\n--no-index\nsix")
    assert found.options == [("--index-url", "https://a/simple"), ("--extra-index-url", "https://b/simple"),
                             ("--find-links", "https://c"), ("--no-index", "")]


@pytest.mark.parametrize(("line", "what", "word"), [
    ("numpy=1.22=py39", "'=1.22=py39' behind 'numpy'", "write numpy==1.22"),
    ("two words", "'words' behind 'two'", "NAME==VERSION"), ("six==", "'==' behind 'six'", "NAME==VERSION"),
    ("six[fast", "'[fast' behind 'six'", "write six[fast] instead of 'six[fast'"),
    ("six [a,b >=1 ; python_version > '3'", "'[a,b >=1' behind 'six'", "NAME==VERSION"),
    ("six=>1 ; python_version > '3'", "'=>1' behind 'six'", "write six>=1 ; python_version > '3' instead"),
    ("six[a,b>=1,<2", "'[a,b>=1,<2' behind 'six'", "write six[a,b]>=1,<2 instead"),
    ("six>=1,,<2", "',<2' behind 'six>=1,'", "NAME==VERSION"), ("@six", "@six", "NAME==VERSION"),
    ("--frobnicate", "--frobnicate is not known", "take '--frobnicate' out"),
])
def test_a_line_that_nobody_understands_is_refused_by_its_number(asked, line, what, word):
    with pytest.raises(errors.Failure) as caught:
        asked("six\n# comment\n" + line)
    assert caught.value.exit == errors.BAD_DATA
    assert "line 3 of the task's requirements" in caught.value.reason and what in caught.value.reason
    assert word in caught.value.remedy


@pytest.mark.parametrize("line", [
    "p @ ftp://h/p.whl", "ftp://h/p.whl", "p @ HTTPS://u:s3cret@h/p.whl", "-e git+ftp://h/p.git#egg=p", "-f ftp://h/",
    "p @ git+svn://h/p", "--extra-index-url=s3://h/simple"])
def test_what_nobody_can_fetch_is_refused_by_its_scheme(asked, line):
    with pytest.raises(errors.Failure, match=r"line 2 .*: nothing can be fetched by (git\+)?(ftp|HTTPS|s3|svn)://"
                       ) as caught:
        asked(f"six\n{line}")
    assert caught.value.exit == errors.BAD_DATA and "s3cret" not in str(caught.value) + caught.value.evidence


@pytest.mark.parametrize("line", [
    "p @ https://h/p.whl", "p @ git+ssh://git@h/p", "p @ git+git://h/p", "-f http://h/", "-i ${WHERE}/simple",
    "p @ hg+https://h/p", "-e svn+https://h/p#egg=p", "p @ git+file:///p"])
def test_what_somebody_can_fetch_is_left_to_him(asked, line):
    found = asked(line)
    assert found.packages or found.options


@pytest.mark.parametrize("line", ["-r nosuch.txt", "-e ./nosuch", "./nosuch.whl"])
def test_a_file_that_is_not_there_is_refused_by_its_name(asked, line):
    with pytest.raises(errors.Failure) as caught:
        asked(line)
    assert caught.value.exit == errors.NOT_FOUND
    assert "nosuch" in caught.value.reason
    assert "nosuch" in caught.value.remedy


def test_a_working_directory_outside_the_checkout_reads_nothing_there(asked, tmp_path):
    (tmp_path / "requirements.txt").write_text("evil")
    assert asked(working_dir="..", entry_point="train.py").packages == []
    assert asked(entry_point="../train.py").packages == []


@pytest.mark.parametrize("option", ["-r {}", "-c {}", "-r file://{}"])
@pytest.mark.parametrize("kind", ["device", "fifo", "folder", "large"])
def test_what_is_no_file_or_too_large_a_one_is_not_read(asked, tmp_path, option, kind):
    path = tmp_path / "list"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with open(path, "wb") as file:
            file.truncate(untrusted.LISTS + 1)
    with pytest.raises(errors.Failure) as caught:
        asked(option.format(path))
    words = f"it has more than {untrusted.LISTS} bytes" if kind == "large" else "it is no regular file"
    assert (caught.value.exit, caught.value.reason) == (errors.BAD_DATA, f"{path} cannot be used: {words}")


def test_a_package_that_is_a_fifo_is_refused(asked, tmp_path):
    os.mkfifo(tmp_path / "tea-1.0-py3-none-any.whl")
    with pytest.raises(errors.Failure, match="it is no regular file"):
        asked(str(tmp_path / "tea-1.0-py3-none-any.whl"))


@pytest.mark.parametrize("line", ["six" + " " * 3000 + "!", "six" + ">=1," * 40 + "!", "six" + ">=1 , " * 40 + "!",
                                  "./six" + " " * 3000 + "x", "six[a]" + " " * 3000 + "(>=1) b"])
def test_a_line_that_was_made_to_take_for_ever_is_refused_at_once(asked, line):
    began = time.process_time()
    with pytest.raises(errors.Failure, match="line 1 of the task's requirements"):
        asked(line)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(("line", "spelled"), [
    ("six ( >= 1 , < 2 )", "six<2,>=1"), ("six >=1 ,", "six>=1"), ("six [ a , b ] == 1", "six[a,b]==1"),
    ("six()", "six()"), ("six ==1   --hash=sha256:00   --hash=sha256:11", "six==1 --hash=sha256:00 --hash=sha256:11")])
def test_blanks_and_brackets_may_stand_where_pip_takes_them(asked, line, spelled):
    assert asked(line).canonical() == asked(spelled).canonical()


@pytest.mark.parametrize(("line", "path", "extras", "marker"), [
    ("./lib[b, a] ; python_version > '3'", "lib", "a,b", "python_version > '3'"), ("./lib", "lib", "", ""),
    ("-e './my lib' [a]", "my lib", "a", ""), ("./li[b]b", "li[b]b", "", ""), ("./lib;python_version>'3'", "lib", "",
                                                                               "python_version>'3'")])
def test_the_parts_of_a_folders_line(asked, line, path, extras, marker):
    found, = asked(line, files={f"{path}/pyproject.toml": ""}).projects
    assert (os.path.basename(found.path), found.extras, found.marker) == (path, extras, marker)
