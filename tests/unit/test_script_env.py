"""What a script finds in its environment when an agent starts it."""

import json
import os
import shutil
import stat
import subprocess
import sys

import pytest

from agentpipe import errors, gpus, paths, secrets
from agentpipe.run import launch, script_env


def begun(tmp_path, task=None, options=None, **keys):
    """The launch of a small task in a checkout of its own."""
    code = tmp_path / "code"
    (code / "work").mkdir(parents=True, exist_ok=True)
    line = {"task": {"id": "t1", "script": {"entry_point": "src/train.py", "working_dir": "work"}, **(task or {})},
            "fetch": {"code": str(code)}, "patch": {}, "env": {"python": "/env/bin/python", "path": ["/env/bin"]},
            "pull": {"worker": "box:0", "claim": "c", "server": "s"}, **keys}
    return launch.of(line, str(tmp_path), options or {})


def test_it_has_what_the_clearml_package_expects_of_an_agent(tmp_path, monkeypatch):
    monkeypatch.setenv("CLEARML_API_HOST", "http://localhost:8008")
    env = begun(tmp_path).env
    for prefix in ("CLEARML", "TRAINS"):
        assert env[f"{prefix}_TASK_ID"] == "t1"
        assert env[f"{prefix}_WORKER_ID"] == "box:0"
        assert env[f"{prefix}_LOG_TASK_TO_BACKEND"] == "0"
        assert env[f"{prefix}_LOG_LEVEL"] == "INFO"
        assert env[f"{prefix}_CONFIG_FILE"] == str(tmp_path / "clearml.conf")
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_without_a_server_there_is_no_configuration_for_the_package(tmp_path):
    assert "CLEARML_CONFIG_FILE" not in begun(tmp_path).env
    script_env.write_conf(str(tmp_path))
    assert not (tmp_path / "clearml.conf").exists()


@pytest.mark.parametrize("name", [
    "CLEARML_TASK_ID", "TRAINS_TASK_ID", "CLEARML_PROC_MASTER_ID", "CLEARML_FORCE_MASTER_NODE", "CLEARML_OFFLINE_MODE",
    "CLEARML_MULTI_NODE_MASTER", "CLEARML_VCS_BRANCH", "CLEARML_AGENT_ABORT_CALLBACK_CMD", "PYTHONPATH", "VIRTUAL_ENV"])
def test_what_would_mislead_a_task_by_hand_is_not_passed_on(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "misleading")
    line = {"task": {"id": "local-1", "script": {"entry_point": "a.py"}}, "fetch": {"code": str(tmp_path)},
            "patch": {}, "env": {"python": "/env/bin/python"}}
    assert launch.of(line, str(tmp_path), {}).env.get(name) != "misleading"


def test_the_programs_of_our_own_virtual_environment_are_not_the_scripts(tmp_path, monkeypatch):
    ours, link = os.path.join(sys.prefix, "bin"), tmp_path / "link"
    assert sys.prefix != sys.base_prefix
    link.symlink_to(ours)
    monkeypatch.setenv("PATH", f"/first:{ours}/:{link}:/last")
    assert script_env.path({"path": ["/env/bin"]}) == "/env/bin:/first:/last"
    monkeypatch.setenv("PATH", ours)
    assert script_env.path({}) == os.defpath
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)  # installed for the whole machine
    assert script_env.path({}) == ours


@pytest.mark.parametrize("name", [
    "CLEARML_AGENT_HOST_IP", "CLEARML_NODE_ID", "CLEARML_DEFAULT_OUTPUT_URI", "CLEARML_CACHE_DIR", "MASTER_ADDR",
    "MASTER_PORT", "CLEARML_MULTI_NODE_MASTER_DEF_ADDR", "CLEARML_MULTI_NODE_SINGLE_TASK", "RANK", "SLURM_PROCID"])
def test_what_is_meant_for_the_package_is_passed_on(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "7")
    assert begun(tmp_path).env[name] == "7"


def test_log_level_is_the_options_then_the_environments(tmp_path, monkeypatch):
    monkeypatch.setenv("CLEARML_LOG_LEVEL", "WARNING")
    assert begun(tmp_path).env["CLEARML_LOG_LEVEL"] == "WARNING"
    assert begun(tmp_path, options={"log_level": "DEBUG"}).env["CLEARML_LOG_LEVEL"] == "DEBUG"


def test_a_c_locale_prints_utf8_all_the_same(tmp_path, monkeypatch):
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)
    assert begun(tmp_path).env["PYTHONIOENCODING"] == "utf-8"
    monkeypatch.setenv("LANG", "de_DE.ISO-8859-1")
    assert "PYTHONIOENCODING" not in begun(tmp_path).env


def test_the_configuration_has_the_server_and_the_packages_settings_and_nothing_of_the_agents(tmp_path, monkeypatch):
    conf = tmp_path / "user.conf"
    conf.write_text('api { api_server: "http://localhost:8008", credentials { access_key: "A", secret_key: "B" } }\n'
                    'agent { git_pass: "do-not-show" }\nsdk { storage { cache { default_base_dir: "/data" } } }\n'
                    'environment { X: "1" }\n')
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(conf))
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "from the environment")
    for name, value in {"AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "S", "AWS_DEFAULT_REGION": "eu-1",
                        "AZURE_STORAGE_ACCOUNT": "N", "AZURE_STORAGE_KEY": "B",
                        "GOOGLE_APPLICATION_CREDENTIALS": "/g.json"}.items():
        monkeypatch.setenv(name, value)
    script_env.write_conf(str(tmp_path))
    written = tmp_path / "clearml.conf"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    found = json.loads(written.read_text())
    assert found["api"]["api_server"] == "http://localhost:8008"
    assert found["api"]["credentials"] == {"access_key": "A", "secret_key": "from the environment"}
    assert found["sdk"]["storage"]["cache"]["default_base_dir"] == "/data"
    # a container has no variables of ours
    assert found["sdk"]["aws"]["s3"] == {"key": "K", "secret": "S", "region": "eu-1"}
    assert found["sdk"]["azure"]["storage"]["containers"] == [{"account_name": "N", "account_key": "B"}]
    assert found["sdk"]["google"]["storage"]["credentials_json"] == "/g.json"
    assert "do-not-show" not in written.read_text()
    secrets.forget_script(str(tmp_path))
    assert not written.exists()


@pytest.mark.parametrize(("server", "web"), [("http://h:9000", "http://h:9000/"), ("http://h:8008", "http://h:8080")])
def test_a_script_has_a_web_server_without_which_its_task_init_ends(tmp_path, monkeypatch, server, web):
    monkeypatch.setenv("CLEARML_API_HOST", server)
    script_env.write_conf(str(tmp_path))
    assert json.loads((tmp_path / "clearml.conf").read_text())["api"]["web_server"] == web
    monkeypatch.setenv("CLEARML_WEB_HOST", "http://pages")
    script_env.write_conf(str(tmp_path))
    assert json.loads((tmp_path / "clearml.conf").read_text())["api"]["web_server"] == "http://pages"


HYPERPARAMS = {"Environment": {"LEARN": {"section": "Environment", "name": "LEARN", "value": "0.1"},
                               "PYTHONPATH": {"value": "/more"}, "AGENT_TASK_DIR": {"value": "/elsewhere"},
                               "BAD=NAME": {"value": "x"}, "NOTHING": {"value": None}}}


def test_the_section_environment_becomes_variables_only_where_that_is_enabled(tmp_path, monkeypatch):
    assert "LEARN" not in begun(tmp_path, {"hyperparams": HYPERPARAMS}).env
    monkeypatch.setenv("CLEARML_AGENT__AGENT__ENABLE_TASK_ENV", "true")
    env = begun(tmp_path, {"hyperparams": HYPERPARAMS}).env
    assert env["LEARN"] == "0.1"
    assert env["PYTHONPATH"].endswith("/work/src:/more")
    assert env["AGENT_TASK_DIR"] == str(tmp_path)
    assert "BAD=NAME" not in env and "NOTHING" not in env


def test_pythonpath_is_working_folder_script_folder_and_extra(tmp_path, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_EXTRA_PYTHON_PATH", "/one:/two")
    code = str(tmp_path / "code")
    assert begun(tmp_path).env["PYTHONPATH"] == f"{code}/work:{code}/work/src:/one:/two"
    monkeypatch.setenv("CLEARML_AGENT__AGENT__FORCE_GIT_ROOT_PYTHON_PATH", "1")
    assert begun(tmp_path).env["PYTHONPATH"] == f"{code}:{code}/work/src:/one:/two"


def test_variables_in_a_modules_arguments_are_the_tasks(tmp_path, monkeypatch):
    monkeypatch.setenv("NPROC", "4")
    script = {"entry_point": "-m torch.run --n=$NPROC ${NPROC}x $UNKNOWN train.py"}
    assert begun(tmp_path, {"script": script}).argv == [
        "/env/bin/python", "-m", "torch.run", "--n=4", "4x", "$UNKNOWN", "train.py"]
    # an argument of a script is its own
    assert begun(tmp_path, {"script": {"entry_point": "train.py $NPROC"}}).argv[-1] == "$NPROC"


@pytest.mark.parametrize(("level", "flags"), [(0, []), (1, ["-O"]), (2, ["-OO"])])
def test_optimize(tmp_path, level, flags):
    assert begun(tmp_path, options={"optimize": level}).argv == ["/env/bin/python", *flags, "src/train.py"]


def test_a_place_gets_the_packages_variables_also_where_they_are_ours_too(tmp_path, monkeypatch):
    monkeypatch.setenv("CLEARML_AUTH_TOKEN", "tok")
    monkeypatch.setenv("SOMETHING", "of the host")
    launch.write_spec(str(tmp_path), begun(tmp_path).env, False)
    spec = (tmp_path / "spec").read_text()
    assert "export CLEARML_AUTH_TOKEN=tok\n" in spec
    assert "SOMETHING" not in spec
    secrets.forget_script(str(tmp_path))  # when the script is over
    assert not (tmp_path / "spec").exists()


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_variable_that_a_shell_keeps_for_itself_costs_no_other(tmp_path, monkeypatch, shell):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__ENABLE_TASK_ENV", "true")
    asked = {"UID": {"value": "7"}, "PPID": {"value": "7"}, "LEARN": {"value": "0.1"}}
    left = tmp_path / paths.BOX / secrets.SETUP
    left.mkdir(parents=True)
    (left / "before").write_bytes(b"EUID=0\0")
    (left / "environment").write_bytes(b"PPID=7\0UID=7\0")  # a set-up script said `export UID`
    launch.write_spec(str(tmp_path), begun(tmp_path, {"hyperparams": {"Environment": asked}}).env, True)
    os.symlink(shutil.which(shell), tmp_path / "sh")
    printed = subprocess.run([tmp_path / "sh", "-c", '. ./spec || exit 125; printf "%s" "$LEARN"'], cwd=tmp_path,
                             stdout=subprocess.PIPE)
    assert (printed.returncode, printed.stdout) == (0, b"0.1")


@pytest.mark.parametrize("variables", [{"A=B": "x"}, {"": "x"}, {"A\0": "x"}, {"A": "x\0y"}])
def test_a_variable_that_no_program_can_have_is_named(tmp_path, variables):
    with pytest.raises(errors.Failure, match="is none that a program can be given") as caught:
        begun(tmp_path, env={"python": "/env/bin/python", "variables": variables})
    assert caught.value.exit == errors.BAD_DATA


@pytest.mark.parametrize(("said", "meant"), [
    ("0,1", "0,1"), ("0-3", "0,1,2,3"), ("0,2-3,0", "0,2,3"), ("all", "all"), ("NONE", "none"), ("5", "5"),
    ("GPU-1a2b,MIG-3c", "GPU-1a2b,MIG-3c")])
def test_gpus_are_named_by_numbers_ranges_and_uuids(said, meant):
    assert gpus.parsed(said) == meant


@pytest.mark.parametrize("said", ["", "x", "3-1", "0:1", "0.1", "0,,1", "-1", "0;rm"])
def test_what_is_no_gpu_is_refused(said):
    with pytest.raises(errors.Failure) as caught:
        gpus.parsed(said)
    assert caught.value.exit == errors.USAGE


@pytest.mark.parametrize(("environ", "seen"), [
    ({}, None), ({"NVIDIA_VISIBLE_DEVICES": "all"}, None), ({"NVIDIA_VISIBLE_DEVICES": "0,1"}, ["0", "1"]),
    ({"CUDA_VISIBLE_DEVICES": ""}, []), ({"NVIDIA_VISIBLE_DEVICES": "none"}, []),
    ({"NVIDIA_VISIBLE_DEVICES": "4,5", "CUDA_VISIBLE_DEVICES": "1"}, ["1"]),
    ({"NVIDIA_VISIBLE_DEVICES": "2", "CUDA_VISIBLE_DEVICES": "all"}, ["2"])])
def test_what_is_visible(environ, seen):
    assert gpus.visible(environ) == seen
    if seen is not None and "CUDA_VISIBLE_DEVICES" not in environ:
        wanted = gpus.variables(",".join(seen) or gpus.NONE)
        assert gpus.visible(wanted) == seen


def test_a_device_plugins_folder_names_the_gpus(tmp_path):
    for name in ("GPU-a", "GPU-b"):
        (tmp_path / name).touch()
    assert gpus.visible({"NVIDIA_VISIBLE_DEVICES": str(tmp_path)}) == ["GPU-a", "GPU-b"]
    assert gpus.visible({"NVIDIA_VISIBLE_DEVICES": str(tmp_path / "none")}) == []


def test_the_scripts_environment_hides_gpus_from_cuda(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", {**os.environ, **gpus.variables(gpus.parsed("1-2"))})
    env = begun(tmp_path).env
    assert env["CUDA_VISIBLE_DEVICES"] == env["NVIDIA_VISIBLE_DEVICES"] == "1,2"
