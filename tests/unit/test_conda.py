"""Conda environments out of a real channel of this machine, without conda."""

import asyncio
import base64
import contextlib
import functools
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest
import rattler_build
import wheelhouse
from env_machine import python, run
from rattler.index import index_fs
from slow_line import SlowLine

from agentpipe import errors
from agentpipe.cmds import agent_env
from agentpipe.environment import conda_files, env_cache, installed
from agentpipe.environment.installers import rattler_work
from agentpipe.place import apart
from agentpipe.settings import config

KEY = "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__"
VERSION = "{}.{}".format(*sys.version_info[:2])
WHOLE = "{}.{}.{}".format(*sys.version_info[:3])


class Channel:
    """A folder with packages; `add` indexes it anew."""

    def __init__(self, folder):
        self.path = pathlib.Path(folder)
        self.tree = self.path.parent / "trees"

    def add(self, name, version, files, subdir="noarch", depends=(), **more):
        tree = self.tree / f"{name}-{version}"
        for path, text in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(text, pathlib.Path):
                os.symlink(text, tree / path)
            else:
                (tree / path).write_text(text)
        (self.path / subdir).mkdir(parents=True, exist_ok=True)
        rattler_build.assemble_package(name, version, subdir, "0", self.path / subdir, files_dir=tree,
                                       depends=list(depends), **more)

    def index(self):
        asyncio.run(index_fs(self.path))

    def module(self, name, version, depends=("python",)):
        record = f"{name}-{version}.dist-info"
        files = {f"{name}.py": f"version = {version!r}\n", f"{record}/INSTALLER": "conda",
                 f"{record}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
        files[f"{record}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{record}/RECORD"])
        self.add(name, version, {f"site-packages/{path}": text for path, text in files.items()}, depends=depends,
                 noarch="python")


@pytest.fixture
def channel(machine, monkeypatch):
    """python (this one, in a prefix of its own), beans 1.0 and 2.0, a tool; conda is the manager."""
    real = pathlib.Path(os.path.realpath(sys.executable))
    found = Channel(os.path.join(machine.folder, "channel"))
    site = f"lib/python{VERSION}/site-packages/README"
    found.add("python", WHOLE, {"bin/python": real, f"bin/python{VERSION}": real, site: "",
                                "lib/python3.1": pathlib.Path(f"python{VERSION}"),  # as all have it since 3.10
                                "pyvenv.cfg": f"home = {real.parent}\nversion = {WHOLE}\n"}, subdir="linux-64")
    found.module("beans", "1.0")
    found.module("beans", "2.0")
    activate = "export TOOL_HOME=$CONDA_PREFIX/tool\n"
    found.add("tool", "1.0", {"share/tool/data": "x", "etc/conda/activate.d/tool.sh": activate}, depends=["beans"],
              noarch="generic")
    found.index()
    monkeypatch.setenv(KEY + "TYPE", "conda")
    monkeypatch.setenv(KEY + "CONDA_CHANNELS", json.dumps([found.path.as_uri()]))
    return found


def env_of(machine, pip=None, files=(), **record):
    if pip is not None:
        record["pip"] = pip
    job = machine.job(requirements=record or None, files=files)
    return agent_env.work(job)


def test_a_conda_section_is_solved_and_installed(machine, channel):
    env = env_of(machine, "tea==1.0", conda="tool\n# a comment\nbeans == 1.0\n")
    assert env["installer"] == "conda"
    assert python(env, "import beans, tea; print(beans.version, tea.version)") == "1.0 1.0"
    assert {"beans==1.0", "tea==1.0"} <= set(env["packages"])
    assert "after the rest" not in "".join(machine.said)
    assert env["variables"]["TOOL_HOME"] == env["variables"]["CONDA_PREFIX"] + "/tool"
    assert env["version"] == WHOLE
    assert env_of(machine, "tea==1.0", conda="beans == 1.0\ntool\n")["cached"]


def replace_beans(channel):
    """The path of beans 1.0, which is another file than the channel's list says."""
    path = channel.path / "noarch" / "beans-1.0-0.conda"
    path.unlink()
    (channel.tree / "beans-1.0/site-packages/evil.py").write_text("")
    channel.module("beans", "1.0")
    return path


def test_a_file_that_was_replaced_behind_its_channel_s_list_is_refused(machine, channel):
    path = replace_beans(channel)
    with pytest.raises(errors.Failure, match=rf"^beans: {path} is not the file whose hash the channel lists") as caught:
        env_of(machine, conda="beans==1.0")
    assert caught.value.exit == errors.BAD_DATA
    assert python(env_of(machine, conda="beans==2.0"), "import beans; print(beans.version)") == "2.0"


def test_variables_that_packages_and_the_environment_record_are_set(machine, channel, made, monkeypatch):
    channel.add("vars", "1.0", {"etc/conda/env_vars.d/vars.json": '{"OF_PACKAGE": "yes"}',
                                "etc/conda/activate.d/vars.sh": "export SEEN=$OF_PACKAGE\n"}, noarch="generic")
    channel.index()
    with monkeypatch.context() as patched:
        patched.setenv(KEY + "TYPE", "conda")
        told = env_of(machine, "", conda="vars")["variables"]
    assert (told["OF_PACKAGE"], told["SEEN"]) == ("yes", "yes")
    state = {"version": 1, "env_vars": {"OWN": "set", "GONE": "***unset***", "WRONG=": "x"}}
    pathlib.Path(made, "conda-meta", "state").write_text(json.dumps(state))
    monkeypatch.setenv("CLEARML_CONDA_ENV_PACKAGE", made)
    told = env_of(machine, "beans")["variables"]
    assert told["OWN"] == "set" and not {"GONE", "WRONG="} & set(told)


def test_a_link_to_the_folder_of_packages_is_not_taken_for_it(tmp_path):
    found = tmp_path / "lib" / "python3.11" / "site-packages"
    found.mkdir(parents=True)
    for name in ("python3.1", "python3", *"abcdefghijklm"):  # a folder is listed in no order
        (tmp_path / "lib" / name).symlink_to("python3.11")
    assert installed.site_packages(str(tmp_path)) == str(found)


def test_what_a_task_installs_stays_in_its_overlay(machine, channel):
    env = env_of(machine, "", conda="beans==1.0")
    assert python(env, "import sys; print(sys.prefix)") == env["overlay"]
    assert env["path"][1] == env["variables"]["CONDA_PREFIX"] + "/bin"


def test_pip_and_other_scripts_start_the_tasks_own_python(machine, channel):
    env = env_of(machine, "tea==1.0", conda="beans==1.0")
    prefix = env["variables"]["CONDA_PREFIX"]
    before = installed.packages(prefix, set())
    pip = run(env, "sh", "-c", f"command -v pip && pip install -q --no-index -f {machine.index} tea==2.0")
    assert pip == os.path.join(env["overlay"], "bin", "pip")
    assert installed.packages(prefix, set()) == before
    assert python(env, "import tea; print(tea.version)") == run(env, "tea").split()[1] == "2.0"


def test_a_pip_list_comes_from_the_channel_as_far_as_it_knows_it(machine, channel):
    env = env_of(machine, "beans==1.0\ntea==2.0")
    assert python(env, "import beans, tea; print(beans.version, tea.version)") == "1.0 2.0"
    assert "tea is not in the conda channels" in "".join(machine.said)
    assert sorted(pin["name"] for pin in env["pins"] if pin.get("conda")) == ["beans", "python"]
    assert [pin["sha256"] for pin in env["pins"] if pin["name"] == "tea"] != []


def test_an_empty_section_means_pip_alone(machine, channel):
    env = env_of(machine, "tea==1.0", conda="")
    assert (env["installer"], env["packages"]) == ("uv", ["tea==1.0"])


def test_an_environment_file_of_the_repository(machine, channel, monkeypatch):
    text = f"channels:\n  - {channel.path.as_uri()}\ndependencies:\n  - beans=1\n  - pip:\n    - tea<2\n"
    assert "tea==1.0" in env_of(machine, files={"environment.yml": text})["packages"]
    # also where conda is not the manager, when there is nothing else
    monkeypatch.delenv(KEY + "TYPE")
    monkeypatch.delenv(KEY + "CONDA_CHANNELS")
    env = env_of(machine, files={"environment.yml": text})
    assert (env["cached"], env["installer"]) == (True, "conda")
    assert env_of(machine, files={"environment.yml": text, "requirements.txt": "tea"})["installer"] == "uv"


def test_the_variables_of_an_environment_are_the_scripts_also_by_a_receipt(machine, channel):
    text = "dependencies: [beans]\nvariables:\n  MODE: fast\n  THREADS: 4\n"
    env = env_of(machine, files={"environment.yml": text})
    assert (env["variables"]["MODE"], env["variables"]["THREADS"]) == ("fast", "4")
    other = env_of(machine, files={"environment.yml": text.replace("fast", "slow")})
    assert (other["cached"], other["variables"]["MODE"]) == (False, "slow")
    pins = {"packages": env["pins"], "python": env["version"]}
    again = agent_env.work(machine.job(files={"environment.yml": text}, pins=pins))
    assert (again["variables"]["MODE"], again["pins"]) == ("fast", env["pins"])


@pytest.mark.parametrize(("text", "word"), [
    ("dependencies: [nosuchbean]", "no conda package nosuchbean"),
    ("dependencies: [beans=1.0, beans=2.0]", "contradict each other"),
    ('dependencies: ["beans=="]', "a conda package is not understood"),
    ("dependencies:\n- [beans\n", "is not YAML: line 3"), ("[" * 20_000, "it is nested too deeply"),
    ("- beans", "not a conda environment"),
    ("dependencies: [beans, pip: [tea==99]]", "no such version: tea==99"),
    ("dependencies: [beans: 1.0]", "'beans' has a value, which only `pip` has"),
    ("dependancies: [beans]", "'dependancies' is no section of it"),
])
def test_a_package_that_a_file_of_the_repository_names_is_mended_there(machine, channel, text, word):
    with pytest.raises(errors.Failure, match=word) as caught:
        env_of(machine, files={"environment.yml": text})
    assert caught.value.change == errors.CODE_ANEW


def test_an_environment_file_names_files_beside_itself(machine, channel):
    text = "dependencies:\n  - beans\n  - pip:\n    - -r more.txt\n"
    job = machine.job(files={"model/environment.yml": text, "model/more.txt": "tea<2", "model/src/train.py": ""},
                      working_dir="model/src")
    assert "tea==1.0" in agent_env.work(job)["packages"]


def test_an_exported_environment_is_replayed_build_for_build(machine, channel):
    exported = {"channels": [channel.path.as_uri()], "dependencies": ["beans=1.0=0", f"python={WHOLE}=0",
                                                                       {"pip": ["milk==1.0"]}]}
    env = env_of(machine, "tea", conda="beans", conda_env_json=json.dumps(exported))
    assert {"beans==1.0", "milk==1.0", "tea==1.0"} <= set(env["packages"])


def test_a_receipt_brings_the_same_though_newer_ones_came_and_refuses_what_was_replaced(machine, channel, monkeypatch):
    env = env_of(machine, "tea==1.0", conda="beans")
    assert "beans==2.0" in env["packages"]
    channel.module("beans", "3.0")
    channel.index()
    monkeypatch.setenv("AGENT_HOME", os.path.join(machine.folder, "other"))
    again = machine.task("tea", pins={"packages": env["pins"], "python": env["version"]})
    assert (again["packages"], again["cached"]) == (env["packages"], False)
    wrong = [{**pin, "sha256": "0" * 64} if pin["name"] == "beans" else pin for pin in env["pins"]]
    with pytest.raises(errors.Failure) as caught:
        machine.task("tea", pins={"packages": wrong})
    assert (caught.value.exit, "beans" in caught.value.reason) == (errors.BAD_DATA, True)


def test_nothing_is_written_back_unless_that_is_asked_for(machine, channel, monkeypatch):
    told = []
    for flag in ("", "true"):
        monkeypatch.setenv(KEY + "CONDA_FULL_ENV_UPDATE", flag)
        job = machine.job(requirements={"pip": "tea==1.0", "conda": "beans==1.0"})
        job.tell = lambda endpoint, body: told.append(body["requirements"])
        agent_env.work(job)
    assert len(told) == 1
    assert told[0]["org_conda"] == "beans==1.0" and "beans=1.0=0" in told[0]["conda"]


@pytest.mark.parametrize(("conda", "code", "word"), [
    ("nosuchbean", 66, "nosuchbean"), ("beans>=9", 66, "beans"), ("beans=1.0\nbeans=2.0", 65, "contradict"),
])
def test_what_conda_cannot_install_is_named(machine, channel, conda, code, word):
    with pytest.raises(errors.Failure) as caught:
        env_of(machine, "", conda=conda)
    assert (caught.value.exit, word in caught.value.reason) == (code, True), caught.value.reason
    assert caught.value.remedy
    assert machine.builds() == []


@pytest.mark.parametrize(("address", "code", "word"), [
    ("http://127.0.0.1:9/channel", errors.UNAVAILABLE, "cannot be used"),
    ("file:///nowhere/channel", errors.NOT_FOUND, "there is no such conda channel"),
])
def test_a_channel_that_is_not_there(machine, channel, monkeypatch, address, code, word):
    monkeypatch.setenv(KEY + "CONDA_CHANNELS", json.dumps([address]))
    with pytest.raises(errors.Failure, match=word) as caught:
        env_of(machine, "", conda="beans")
    assert caught.value.exit == code


def test_what_there_is_of_a_missing_conda_package_is_named(machine, channel):
    with pytest.raises(errors.Failure, match=r"no conda package beans 9\.\* in .*; there is beans=2\.0 "):
        env_of(machine, "", conda="beans=9")
    exported = json.dumps({"dependencies": ["beans=1.0=nosuchbuild"]})
    with pytest.raises(errors.Failure, match=r"no conda package beans ==1\.0 nosuchbuild in") as caught:
        env_of(machine, "", conda_env_json=exported)
    assert caught.value.exit == errors.NOT_FOUND


def test_a_python_that_no_channel_has_is_mended_in_the_task(machine, channel):
    with pytest.raises(errors.Failure, match=rf"no conda package python 3\.1\.\* .*there is python={WHOLE}") as caught:
        agent_env.work(machine.job(requirements={"conda": "beans"}, binary="python3.1"))
    assert (caught.value.change, "--python" in caught.value.remedy) == (("--python", VERSION), True)


def test_a_channel_that_a_single_package_names_is_asked_too(machine, channel, monkeypatch):
    monkeypatch.setenv(KEY + "CONDA_CHANNELS", json.dumps([other(channel).as_uri()]))
    env = env_of(machine, "", conda=f"{channel.path.as_uri()}::beans=1.0\npeas\n{channel.path.as_uri()}::python")
    assert {"beans==1.0", "peas==1.0"} <= set(env["packages"])


def other(channel):
    """The folder of a second channel, which has peas."""
    found = Channel(channel.path.parent / "other")
    found.tree = found.path.parent / "other-trees"
    found.module("peas", "1.0", depends=())
    found.index()
    return found.path


def test_conda_requirements_on_a_machine_without_conda_are_said_to_be_passed_over(machine, channel, monkeypatch):
    monkeypatch.delenv(KEY + "TYPE")
    assert env_of(machine, conda="beans")["installer"] == "uv"
    assert "the task's conda requirements are passed over" in "".join(machine.said)


def test_what_pip_has_put_in_the_place_of_a_package_of_conda_is_no_damage(machine, channel):
    wheelhouse.wheel(machine.index, "beans", "3.0")
    env = env_of(machine, "beans==3.0", conda="tool\nbeans==1.0")
    assert python(env, "import beans; print(beans.version)") == "3.0"
    (entry, files), = env_cache.verify()
    assert files == [] and installed.whole(entry["path"])


@pytest.mark.parametrize("path", ["share/tool/data", f"lib/python{VERSION}/site-packages/beans.py"])
def test_after_a_power_cut_a_conda_environment_is_looked_over_too(machine, channel, monkeypatch, path):
    from agentpipe import processes
    prefix = env_of(machine, "", conda="tool")["variables"]["CONDA_PREFIX"]
    monkeypatch.setattr(processes, "boot_id", lambda: "another")
    assert env_of(machine, "", conda="tool")["cached"]
    monkeypatch.setattr(processes, "boot_id", lambda: "a third one")
    os.unlink(os.path.join(prefix, "outlived"))
    os.truncate(os.path.join(prefix, path), 0)
    env = env_of(machine, "", conda="tool")
    assert not env["cached"] and env["variables"]["CONDA_PREFIX"] != prefix
    assert env_cache.verify()[0][1] == []  # the cache of conda's packages was damaged with it


def test_what_a_packages_own_script_has_changed_is_no_damage_of_a_power_cut(machine, channel, monkeypatch):
    from agentpipe import processes
    from agentpipe.environment.installers import conda
    create = conda.create

    def with_script(job, wish, folder, asked):
        found = create(job, wish, folder, asked)
        os.truncate(os.path.join(folder, "share", "tool", "data"), 5)
        return found
    monkeypatch.setattr(conda, "create", with_script)
    env_of(machine, "", conda="tool")
    monkeypatch.setattr(processes, "boot_id", lambda: "another")
    assert env_of(machine, "", conda="tool")["cached"]


def test_damage_is_found_in_conda_packages_too(machine, channel):
    env_of(machine, "", conda="tool")
    (entry, files), = env_cache.verify()
    assert files == []
    with open(os.path.join(entry["path"], "share", "tool", "data"), "w") as file:
        file.write("y")
    assert env_cache.verify()[0][1] == ["share/tool/data"]


@pytest.mark.parametrize(("line", "spec"), [
    ("numpy == 1.26.4", "numpy~=1.26.4"), ("numpy=1.26=py311_0", "numpy=1.26=py311_0"), ("torch >= 2", "pytorch>=2"),
    ("numpy", "numpy"), ("conda-forge::numpy=1.2", "conda-forge::numpy=1.2"),
])
def test_a_recorded_line_as_conda_reads_it(line, spec):
    assert conda_files.spec(line) == spec


# ---- environments that somebody has made

@pytest.fixture
def made(machine, channel, monkeypatch):
    """The folder of a conda environment with beans 1.0, and conda no manager."""
    env = env_of(machine, "", conda="beans==1.0")
    monkeypatch.delenv(KEY + "TYPE")
    return env["variables"]["CONDA_PREFIX"]


def test_a_folder_is_used_as_it_is_and_nothing_is_installed(machine, made, monkeypatch):
    monkeypatch.setenv("CLEARML_CONDA_ENV_PACKAGE", made)
    env = env_of(machine, "beans==2.0\ntea")
    assert (env["base"], env["installer"]) == (None, "none")
    assert python(env, "import beans; print(beans.version)") == "1.0"
    assert env["variables"]["CONDA_PREFIX"] == made
    assert "lacks tea" in "".join(machine.said)


def test_an_archive_is_unpacked_once(machine, made, monkeypatch):
    import subprocess
    unpack = os.path.join(made, "bin", "conda-unpack")
    with open(unpack, "w") as file:
        file.write("import os, sys\nopen(os.path.join(os.path.dirname(sys.argv[0]), 'unpacked'), 'a').write('x')\n")
    archive = os.path.join(machine.folder, "packed.tar.gz")
    subprocess.run(["tar", "-czf", archive, "-C", made, "."], check=True)
    monkeypatch.setenv("CLEARML_CONDA_ENV_PACKAGE", archive)
    env = env_of(machine, "beans")
    assert python(env, "import beans; print(beans.version)") == "1.0"
    prefix = env["variables"]["CONDA_PREFIX"]
    assert env_of(machine, "beans")["variables"]["CONDA_PREFIX"] == prefix
    # as a stage leaves it that is killed while it unpacks
    published, = [path for path in pathlib.Path(prefix).parent.iterdir() if path.is_symlink()]
    published.unlink()
    env = env_of(machine, "beans")
    assert not os.path.exists(prefix) and env["variables"]["CONDA_PREFIX"].startswith(f"{published}.")
    with open(os.path.join(env["variables"]["CONDA_PREFIX"], "bin", "unpacked")) as file:
        assert file.read() == "x"


def test_an_image_may_be_the_path_of_one(machine, made, monkeypatch):
    monkeypatch.setenv(KEY + "CONDA_ENV_AS_BASE_DOCKER", "true")
    job = machine.job("beans")
    job.manifest["task"]["container"] = {"image": f"{made} --ipc=host"}
    assert agent_env.work(job)["variables"]["CONDA_PREFIX"] == made


@pytest.mark.parametrize(("path", "code"), [("/nosuch/env.tar.gz", errors.NOT_FOUND), ("/usr", errors.NOT_FOUND),
                                            (__file__, errors.BAD_DATA)])
def test_what_is_no_environment_is_refused_as_whose_word_it_is(machine, monkeypatch, path, code):
    job = machine.job("beans")
    job.manifest["task"]["container"] = {"image": path}
    monkeypatch.setenv(KEY + "CONDA_ENV_AS_BASE_DOCKER", "true")
    with pytest.raises(errors.Failure, match=f"^{path}.* the task names it as its image") as caught:
        agent_env.work(job)
    assert (caught.value.exit, caught.value.of_machine) == (code, False)
    monkeypatch.setenv("CLEARML_CONDA_ENV_PACKAGE", path)
    with pytest.raises(errors.Failure, match=f"^CLEARML_CONDA_ENV_PACKAGE: {path}") as caught:
        env_of(machine, "beans")
    assert (caught.value.exit, caught.value.of_machine) == (errors.BAD_CONFIG, True)


def test_condas_base_is_used_in_places_only(machine, monkeypatch):
    monkeypatch.setenv(KEY + "USE_CONDA_BASE_ENV", "true")
    assert env_of(machine, "tea")["installer"] == "uv"
    assert "is for containers" in "".join(machine.said)


def test_without_the_extra_the_remedy_is_to_install_it(machine, channel, monkeypatch):
    monkeypatch.setitem(sys.modules, "rattler", None)
    with pytest.raises(errors.Failure) as caught:
        env_of(machine, "", conda="beans")
    assert (caught.value.exit, "agentpipe[conda]" in caught.value.remedy) == (errors.UNAVAILABLE, True)


def test_in_a_place_what_is_missing_goes_into_condas_base(machine, made, monkeypatch):
    monkeypatch.setenv(KEY + "USE_CONDA_BASE_ENV", "true")
    monkeypatch.setenv("CONDA_PREFIX", made)
    job = machine.job("beans\ntea==1.0", place={"kind": "test", "prefix": ["env"]})
    env = agent_env.work(job)
    assert env["python"] == f"{made}/bin/python"
    assert set(env["packages"]) == {"beans==1.0", "tea==1.0"}
    assert python({**env, "overlay": made}, "import tea; print(tea.version)") == "1.0"


def test_a_target_holds_a_conda_environment_of_its_own(machine, channel):
    target = os.path.join(machine.folder, "built")
    job = machine.job(requirements={"conda": "tool", "pip": "tea==1.0"}, options={"target": target})
    env = agent_env.work(job)
    assert env["python"] == f"{target}/env/bin/python" and machine.builds() == []
    assert env["variables"]["TOOL_HOME"] == f"{target}/env/tool"
    assert python(env, "import beans, tea; print(tea.version)") == "1.0"


def test_staging_leaves_condas_packages_to_its_own_cache(machine, channel):
    job = machine.job(requirements={"conda": "beans", "pip": "tea==1.0"}, options={"stage_only": True})
    env = agent_env.work(job)
    assert env["overlay"] is None
    assert os.listdir(os.path.join(machine.folder, "home", "cache", "wheels")) == ["tea-1.0-py3-none-any.whl"]


# conda's words for `create`, answered by rattler: no conda can be had where these tests run
PROGRAM = """#!{python}
import argparse, asyncio, json, os, pathlib, re, sys
import rattler
parser = argparse.ArgumentParser()
for word in ("create", "specs"):
    parser.add_argument(word, nargs="*" if word == "specs" else None)
for flag in ("--yes", "--quiet", "--override-channels"):
    parser.add_argument(flag, action="store_true")
parser.add_argument("--prefix")
parser.add_argument("--file")
parser.add_argument("--channel", action="append", default=[])
said = parser.parse_intermixed_args()
assert said.create == "create" and said.yes and said.quiet and not os.path.exists(said.prefix), sys.argv
specs, channels = said.specs, said.channel
named = json.load(open(os.environ["CONDARC"])) if "CONDARC" in os.environ else {{"custom_multichannels": {{}}}}
channels = [url for each in channels for url in named["custom_multichannels"].get(each, [each])]
if said.file:
    urls = open(said.file).read().split()[1:]
    channels = list({{url.rpartition("/")[0].rpartition("/")[0] for url in urls}})
    names = [url.rpartition("/")[2].rsplit(".", 1)[0] for url in urls]
    specs = [re.sub(r"(.+)-([^-]+)-([^-]+)$", r"\\1=\\2=\\3", name) for name in names]
async def main():
    records = await rattler.solve([rattler.Channel(each) for each in channels],
                                  [rattler.MatchSpec(each) for each in specs], platforms=["linux-64", "noarch"])
    await rattler.install(records, target_prefix=said.prefix, cache_dir=pathlib.Path(sys.argv[0] + "-cache"),
                          show_progress=False)
status = 0
try:
    asyncio.run(main())
except Exception as error:
    missing = re.search(r"No candidates were found for ([A-Za-z0-9._-]+)", str(error))
    print(f"PackagesNotFoundError: not available:\\n\\n  - {{missing[1]}}\\n" if missing else repr(error))
    status = 1
sys.stdout.flush()
os._exit(status)  # as command.leave() does
"""


@pytest.fixture
def program(channel, machine, monkeypatch):
    path = pathlib.Path(machine.folder, "mamba")
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("AGENT_CONDA", str(path))
    return path


def test_the_users_own_conda_installs_where_it_is_named(machine, channel, program, monkeypatch):
    env = env_of(machine, "beans==1.0\ntea==2.0")  # of a pip list what the channels do not know comes by pip
    assert python(env, "import beans, tea; print(beans.version, tea.version)") == "1.0 2.0"
    assert f"with {program} (AGENT_CONDA)" in "".join(machine.said)
    pins = {pin["name"]: pin for pin in env["pins"] if pin.get("conda")}
    assert set(pins) == {"beans", "python"} and all(len(pin["sha256"]) == 64 for pin in pins.values())
    monkeypatch.setenv("AGENT_HOME", os.path.join(machine.folder, "other"))
    again = machine.task("", pins={"packages": env["pins"], "python": env["version"]})
    assert again["packages"] == env["packages"]
    with pytest.raises(errors.Failure, match="no conda package nosuch") as caught:
        env_of(machine, "", conda="nosuch")
    assert caught.value.exit == errors.NOT_FOUND


def test_what_a_container_writes_is_not_condas_cache_and_nothing_of_it_runs_on_the_host(machine, program, monkeypatch):
    """By rattler, also where AGENT_CONDA names another. Here it need not be made to stand still by its engine."""
    monkeypatch.setattr(apart, "still", lambda job: contextlib.nullcontext())
    client = pathlib.Path(machine.folder, "client")
    client.write_text('#!/bin/sh\nshift; [ "$1" != -u ] || shift 2; shift\nexec "$@"\n')
    client.chmod(0o755)
    job = machine.job(requirements={"conda": "tool", "pip": ""}, place={
        "kind": "docker", "prefix": [str(client), "exec", "c"], "container": "c", "image": "i", "image_id": "sha256:i",
        "environments": apart.make()})
    for name in ("box", "env"):
        os.mkdir(job.path(name))
    env = agent_env.work(job)
    assert python(env, "import beans; print(beans.version)") == "2.0"
    assert "AGENT_CONDA" not in "".join(machine.said)
    files = [path for path in pathlib.Path(job.manifest["place"]["environments"]).rglob("*")
             if path.is_file() and not path.is_symlink()]
    assert [path for path in files if path.match("share/tool/data")]
    assert not [path for path in files if path.stat().st_nlink > 1]
    assert not env_of(machine, "", conda="tool")["cached"]
    assert f"with {program} (AGENT_CONDA)" in "".join(machine.said)


@pytest.mark.parametrize("name, value", [("CUDA_VERSION", "12.4"), ("CONDA_OVERRIDE_GLIBC", "2.17")])
def test_what_the_solver_sees_of_a_machine_is_part_of_the_key(machine, channel, monkeypatch, name, value):
    before = env_of(machine, "", conda="beans==1.0")
    assert env_of(machine, "", conda="beans==1.0")["base"] == before["base"]
    monkeypatch.setenv(name, value)
    config.reload()
    assert env_of(machine, "", conda="beans==1.0")["base"] != before["base"]


def test_a_package_that_needs_cuda_comes_where_there_is_one(machine, channel, monkeypatch):
    channel.add("gpu", "1.0", {"share/gpu": "x"}, depends=["__cuda >=12"], noarch="generic")
    channel.index()
    with pytest.raises(errors.Failure, match=r"need CUDA >=12, and this machine has none"):
        env_of(machine, "", conda="gpu")
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "12.4")
    assert "gpu" in {pin["name"] for pin in env_of(machine, "", conda="gpu")["pins"]}


@pytest.fixture
def guarded(machine, channel, monkeypatch):
    """The channel over HTTP, for those who know the password."""
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.headers.get("Authorization") != "Basic dTpzM2NyZXQ=":
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.end_headers()
                return
            del self.headers["If-Modified-Since"]  # rattler does not take this server's 304 for an answer
            super().do_GET()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass
    handler = functools.partial(Handler, directory=str(channel.path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv(KEY + "CONDA_CHANNELS", json.dumps([f"http://u:s3cret@127.0.0.1:{server.server_port}"]))
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_that_a_server_has_replaced_is_refused(machine, channel, guarded):
    replace_beans(channel)
    with pytest.raises(errors.Failure, match=r"^beans: http://\S+/noarch/beans-1\.0-0\.conda is not the") as caught:
        env_of(machine, conda="beans=1.0")
    assert caught.value.exit == errors.BAD_DATA


def test_a_channels_password_is_recorded_nowhere(machine, guarded, monkeypatch):
    monkeypatch.setenv("HOME", os.path.join(machine.folder, "home"))
    env = env_of(machine, "", conda="beans==1.0")
    assert "s3cret" not in json.dumps(env) + "".join(machine.said)
    assert {pin["source"].rpartition("/")[0].rpartition("/")[0] for pin in env["pins"] if pin.get("conda")} == {guarded}
    again = machine.task("", pins={"packages": env["pins"], "python": env["version"]})  # of a receipt, too
    assert again["packages"] == env["packages"]
    with pytest.raises(errors.Failure, match="no conda package nosuch") as caught:
        env_of(machine, "", conda="nosuch")
    assert "s3cret" not in caught.value.reason + caught.value.evidence
    files = [path for path in pathlib.Path(machine.folder).rglob("*") if path.is_file()]
    holders = [path.parent for path in files if b"s3cret" in path.read_bytes()]
    assert all(folder.name == "conda-channels" and folder.stat().st_mode & 0o077 == 0 for folder in holders)


def test_a_channel_that_wants_a_password_refuses_access(machine, guarded, monkeypatch):
    monkeypatch.setenv(KEY + "CONDA_CHANNELS", json.dumps([guarded]))
    with pytest.raises(errors.Failure, match=r"a conda channel refuses access: .*401") as caught:
        env_of(machine, "", conda="beans")
    assert caught.value.exit == errors.NO_PERMISSION


def test_offline_no_channel_is_asked(machine, channel, guarded, monkeypatch):
    asked = []
    send = http.server.SimpleHTTPRequestHandler.send_head
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "send_head",
                        lambda handler: asked.append(handler.path) or send(handler))
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    with pytest.raises(errors.Failure, match="not in this machine's cache, and AGENT_OFFLINE is set") as caught:
        env_of(machine, "", conda="beans==1.0")
    assert (caught.value.exit, asked) == (errors.UNAVAILABLE, [])
    monkeypatch.delenv("AGENT_OFFLINE")
    env_of(machine, "", conda="beans==1.0")
    assert asked
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    asked.clear()
    assert "beans==1.0" in env_of(machine, "", conda="beans>=1,<2")["packages"]  # from what came
    with pytest.raises(errors.Failure, match=r"not in this machine's cache, and AGENT_OFFLINE is set: beans-2\.0"):
        env_of(machine, "", conda="beans==2.0")
    assert asked == []


@pytest.mark.parametrize("most, what", [(0, "solving the conda packages"), (300_000, "installing")])
@pytest.mark.parametrize("stalls", [1, 99])
def test_a_channel_that_falls_silent_is_asked_again_and_given_up(machine, channel, guarded, monkeypatch, most, what,
                                                                 stalls):
    # whoever is to come in time has some, also on a machine that has much else to do
    monkeypatch.setattr(rattler_work, "SILENCE", 5.0 if stalls == 1 else 2.0)
    monkeypatch.setattr(rattler_work, "LOOK", 0.1)
    channel.add("big", "1.0", {"share/big": base64.b64encode(os.urandom(600_000)).decode()}, noarch="generic")
    channel.index()
    with SlowLine(int(guarded.rpartition(":")[2]), most=most, stalls=stalls) as line:
        monkeypatch.setenv(KEY + "CONDA_CHANNELS", json.dumps([f"http://u:s3cret@{line.host}"]))
        if stalls == 1:
            assert "big" in {pin["name"] for pin in env_of(machine, "", conda="big")["pins"]}
        else:
            with pytest.raises(errors.Failure, match=f"{what}.*: a channel has stopped sending") as refused:
                env_of(machine, "", conda="big")
            assert refused.value.exit == errors.UNAVAILABLE
    assert f"{what}" in (again := [text for text in machine.said if "asking again" in text])[0]
    assert len(again) == min(stalls, 2)


def test_a_channel_that_is_slow_is_waited_for(machine, channel, guarded, monkeypatch):
    monkeypatch.setattr(rattler_work, "SILENCE", 4.0)
    monkeypatch.setattr(rattler_work, "LOOK", 0.1)
    channel.add("big", "1.0", {"share/big": base64.b64encode(os.urandom(60_000)).decode()}, noarch="generic")
    channel.index()
    began = time.monotonic()
    with SlowLine(int(guarded.rpartition(":")[2]), size=3000, pause=0.3) as line:
        monkeypatch.setenv(KEY + "CONDA_CHANNELS", json.dumps([f"http://u:s3cret@{line.host}"]))
        env_of(machine, "", conda="big")
    assert time.monotonic() - began > 4.5 and "asking again" not in "".join(machine.said)


def test_receipts_without_hashes_that_name_other_builds_are_not_one(machine):
    def canonical(version):
        found = conda_files.Wanted("", [], [], [])
        found.exact = [{"name": "beans", "version": version, "build": "0"}]
        return found.canonical()
    assert canonical("1.0") != canonical("2.0")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_environment_file_that_windows_wrote_is_read(tmp_path, encoding):
    (tmp_path / "environment.yml").write_text("dependencies:\r\n- beans=1.0\r\n", encoding=encoding)
    assert conda_files.of_file(str(tmp_path / "environment.yml"), str(tmp_path)).specs == ["beans=1.0"]


@pytest.mark.parametrize("line", ['"A=B": x', '"": x', '"A\\0": x', 'A: "x\\0"'])
def test_a_variable_that_no_program_can_have_is_refused(tmp_path, line):
    (tmp_path / "environment.yml").write_text("dependencies: [beans]\nvariables: {" + line + "}\n")
    with pytest.raises(errors.Failure, match="cannot be one of a program's") as refused:
        conda_files.of_file(str(tmp_path / "environment.yml"), str(tmp_path))
    assert refused.value.exit == errors.BAD_DATA


def test_an_environment_file_whose_aliases_come_to_a_gigabyte_is_refused(tmp_path):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]", *(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]"
                                                        for before, name in zip("abcdefgh", "bcdefghi", strict=True))]
    for text in ("dependencies: [*i]", "channels: [*i]", "dependencies: [{pip: [*i]}]"):
        (tmp_path / "environment.yml").write_text("\n".join([*lines, text]))
        with pytest.raises(errors.Failure, match="is neither a text nor a number") as refused:
            conda_files.of_file(str(tmp_path / "environment.yml"), str(tmp_path))
        assert refused.value.exit == errors.BAD_DATA


def test_a_channels_password_is_in_no_argv_of_the_users_own_conda(machine, guarded, program):
    job = machine.job(requirements={"pip": "", "conda": "beans==1.0"})
    argvs, real = [], job.run
    job.run = lambda argv, **rest: (argvs.append(argv), real(argv, **rest))[1]
    env = agent_env.work(job)
    assert python(env, "import beans; print(beans.version)") == "1.0"
    assert "agentpipe-0" in str(argvs) and "s3cret" not in str(argvs) + json.dumps(env)
    assert os.stat(job.path("condarc.yml")).st_mode & 0o077 == 0
    again = machine.task("", pins={"packages": env["pins"], "python": env["version"]})
    assert again["packages"] == env["packages"]


@pytest.mark.parametrize("text, shown", [
    ("https://u:p@host/ch", "https://host/ch"), ("https://host/t/tk-1/ch and x", "https://host/ch and x"),
    ("https://host/ch", "https://host/ch"), ("conda-forge", "conda-forge")])
def test_a_channel_for_people(text, shown):
    assert conda_files.shown(text) == shown


def test_a_command_that_has_used_rattler_leaves_its_threads_no_interpreter_that_is_taken_down():
    # under load one of thirty ended with -11: they let go of their results when the interpreter was gone
    words = ("import atexit, rattler; from agentpipe import command; atexit.register(print, 'taken down');"
             "command.plain('agent-env', lambda: print('done') or 3)")
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "done\n")


def test_a_conda_that_is_not_there_is_said(machine, channel, monkeypatch):
    for program, word in (("/nowhere/mamba", "is no program here"), ("/bin/true", "has made no environment")):
        monkeypatch.setenv("AGENT_CONDA", program)
        with pytest.raises(errors.Failure, match=f"AGENT_CONDA={program} {word}") as caught:
            env_of(machine, "", conda="beans")
        assert caught.value.exit == errors.BAD_CONFIG
