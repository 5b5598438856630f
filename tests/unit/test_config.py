"""Where a value comes from: variables, clearml.conf in all that HOCON allows, and what counts as no choice."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agentpipe import errors, redact
from agentpipe.configure import config_check, config_init
from agentpipe.environment import env_cache
from agentpipe.place import container_args
from agentpipe.settings import checks, config, config_file, config_show, own_secrets


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """Write a clearml.conf in a home of its own."""
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))

    def write(text, name="clearml.conf"):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        config.reload()
        return path
    config.reload()
    return write


def kept(agent_home):
    return list((agent_home / "cache" / "config").iterdir())


# --- precedence -------------------------------------------------------------------------------------------------------

def test_without_a_file_the_default_counts(conf, agent_home):
    assert config.get("agent.default_python", "3.11") == "3.11"
    assert config.origin("agent.default_python") == (None, "default")
    assert not agent_home.exists()


def test_variables_come_before_the_file_named_ones_first(conf, monkeypatch):
    path = conf("api.api_server: http://file:8008")
    assert config.origin("api.api_server") == ("http://file:8008", str(path))
    monkeypatch.setenv("CLEARML_AGENT__API__API_SERVER", "http://any:8008")
    assert config.origin("api.api_server") == ("http://any:8008", "CLEARML_AGENT__API__API_SERVER")
    monkeypatch.setenv("TRAINS_API_HOST", "http://old:8008")
    assert config.origin("api.api_server") == ("http://old:8008", "TRAINS_API_HOST")
    monkeypatch.setenv("CLEARML_API_HOST", "http://named:8008")
    assert config.origin("api.api_server") == ("http://named:8008", "CLEARML_API_HOST")
    monkeypatch.setenv("MINE", "http://mine:8008")
    assert config.get("api.api_server", None, "MINE") == "http://mine:8008"


@pytest.mark.parametrize("text", [
    'api.api_server: "http://file:8008"\ninclude "creds.conf"', 'api {\n  include "creds.conf"\n}'])
def test_of_an_included_key_the_file_that_sets_it_is_named(conf, text):
    within = "credentials.access_key: KEY" if text.startswith("api {") else "api.credentials.access_key: KEY"
    path = conf(text + "\nagent.default_python: 3.11")
    creds = path.parent / "creds.conf"
    creds.write_text(within)
    config.reload()
    assert config.origin("api.credentials.access_key") == ("KEY", str(creds))
    assert config.origin("agent.default_python")[1] == str(path)


def test_of_several_files_the_one_that_counts_is_named(conf, monkeypatch, tmp_path):
    old, new = conf("agent { git_user: old, worker_name: box }", "trains.conf"), conf("agent.git_user: new")
    (tmp_path / "more/default").mkdir(parents=True)
    (tmp_path / "more/default/agent.conf").write_text("git_pass: p\nworker_name: a\n")
    monkeypatch.setenv("CLEARML_CONFIG_PATH", str(tmp_path / "more"))
    rows = {name: origin for name, _, origin in config_show.found("agent")}
    assert rows == {"agent.git_user": str(new), "agent.worker_name": str(old),
                    "agent.git_pass": str(tmp_path / "more/default/agent.conf")}
    conf("agent.task_ping_interval_sec: often", "trains.conf")
    with pytest.raises(errors.Failure, match=r"task_ping_interval_sec in .*/trains\.conf is no number"):
        checks.check_values()


def test_a_file_of_a_folder_of_sections_is_not_read_as_it_was_kept_without_one(conf, monkeypatch, tmp_path):
    conf("")
    os.unlink(os.path.join(os.environ["HOME"], "clearml.conf"))
    file = tmp_path / "more/default/agent.conf"
    file.parent.mkdir(parents=True)
    file.write_text("git_user: me\n")
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(file))
    config.reload()
    assert config.get("agent.git_user") is None
    monkeypatch.delenv("CLEARML_CONFIG_FILE")
    monkeypatch.setenv("CLEARML_CONFIG_PATH", str(tmp_path / "more"))
    config.reload()
    assert config.get("agent.git_user") == "me"


@pytest.mark.parametrize("secret", ["abcDEF123", "ab=cd:e+F{1", "x!XT_G-#vs&(=)", "ends="])
def test_a_secret_alone_may_have_any_character(secret):
    assert config_init.parsed(secret + "\n") == {"secret_key": secret}
    for text in ("two words", "a: b"):
        with pytest.raises(errors.Failure, match="holds no credentials"):
            config_init.parsed(text)


def test_what_is_written_is_the_file_that_is_read(conf, monkeypatch, tmp_path):
    monkeypatch.setenv("TRAINS_CONFIG_FILE", str(tmp_path / "old.conf"))
    given = {**dict.fromkeys(config_init.KEYS[:3], "http://127.0.0.1:8008"), "access_key": "K", "secret_key": "S"}
    monkeypatch.setattr(config_init, "pasted", lambda ask: given)
    config_init.init({}, try_keys=False)
    assert config.files() == [str(tmp_path / "old.conf")]
    assert config.get("api.credentials.access_key") == "K"


@pytest.mark.parametrize(("address", "web"), [
    ("http://h:9000", "http://h:9000/"), ("https://lab.example.org", "https://lab.example.org/"),
    ("http://h:8008", "http://h:8080"), ("https://api.h.org", "https://app.h.org")])
def test_init_writes_a_web_server_and_says_what_it_does_not_know(conf, monkeypatch, capfd, address, web):
    given = {"api_server": address, "access_key": "K", "secret_key": "S"}
    monkeypatch.setattr(config_init, "pasted", lambda ask: given)
    config_init.init({}, try_keys=False)
    config.reload()
    assert config.get("api.web_server") == web
    said = capfd.readouterr().err
    assert ("--web-server" in said) is ("--files-server" in said) is web.endswith("/")


def test_an_empty_answer_to_init_is_none(monkeypatch):
    monkeypatch.setattr(config_init, "_line", lambda prompt: "")
    with pytest.raises(errors.Failure, match="no answer"):
        config_init.asked({})


def test_a_byte_order_mark_is_told_with_what_removes_it(conf):
    conf("\ufeffapi { api_server: x }\n")
    with pytest.raises(errors.Failure, match="byte order mark") as caught:
        config.get("api.api_server")
    subprocess.run(["sh", "-c", caught.value.remedy], check=True)
    config.reload()
    assert config.get("api.api_server") == "x"


def test_a_file_of_a_folder_that_is_gone_is_not_there(conf, monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setenv("CLEARML_CONFIG_FILE", "my.conf")
    with pytest.raises(errors.Failure, match="there is no such file"):
        config.files()
    assert own_secrets.hidden("as it is") == "as it is"


def test_an_empty_variable_is_none(conf, monkeypatch):
    conf("agent.worker_name: box")
    monkeypatch.setenv("CLEARML_WORKER_NAME", "")
    assert config.get("agent.worker_name") == "box"


def test_a_variable_may_hold_a_whole_section_or_a_list(conf, monkeypatch):
    conf("agent.package_manager.force_upgrade: true")
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER", '{type: uv, post_packages: ["horovod"]}')
    assert config.get("agent.package_manager.type") == "uv"
    assert config.get_list("agent.package_manager.post_packages") == ["horovod"]
    assert config.flag("agent.package_manager.force_upgrade")
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE", "poetry")
    assert config.get("agent.package_manager.type") == "poetry"
    assert config.section("agent.package_manager") == {
        "type": "poetry", "post_packages": ["horovod"], "force_upgrade": True}


@pytest.mark.parametrize("empty", ["[]", '""'])
def test_an_empty_list_in_the_file_is_a_choice_and_no_default_takes_its_place(conf, empty):
    conf(f"agent.protected_docker_extra_args: {empty}\nagent.worker_name: \"\"\nsdk.aws.s3.credentials: []")
    assert config.get_list("agent.protected_docker_extra_args", ["privileged"]) == []
    assert config.get("agent.worker_name", "box") == "box"  # of a text it is none
    # what clearml-agent has written there is not
    assert config.get_list("sdk.aws.s3.credentials", ["one"]) == ["one"]


def test_a_tree_that_an_older_version_kept_is_not_believed(conf, agent_home):
    conf("agent.post_packages: []")
    config.get_list("agent.post_packages")
    kept, = (agent_home / "cache" / "config").iterdir()
    lines = kept.read_text().split("\n")
    kept.write_text("\n".join([lines[0].replace(f'"format": {config_file.FORMAT}', '"format": 1'), "{}", *lines[2:]]))
    config.reload()
    assert config.get_list("agent.post_packages", ["horovod"]) == []


@pytest.mark.parametrize(("text", "expected"), [
    ('["a", "b c"]', ["a", "b c"]), ("[a, b]", ["a", "b"]), ("a b", ["a", "b"]), ("'a b' c", ["a b", "c"]),
    ("a", ["a"])])
def test_a_list_in_a_variable(conf, monkeypatch, text, expected):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__X", text)
    assert config.get_list("agent.x") == expected


def test_a_list_with_a_quote_that_nothing_closes_is_refused_with_its_name(conf, monkeypatch):
    path = conf("""agent.extra_docker_arguments: "-e 'X" """)
    with pytest.raises(errors.Failure, match=r"agent\.extra_docker_arguments in .* cannot be split") as caught:
        config.get_list("agent.extra_docker_arguments")
    assert caught.value.exit == errors.BAD_CONFIG and str(path) in caught.value.reason
    monkeypatch.setenv("CLEARML_AGENT_EXTRA_DOCKER_LABELS", "'X")
    with pytest.raises(errors.Failure, match="DOCKER_LABELS cannot be split into words"):
        container_args.labels("box")


def test_values_of_the_file_have_their_types(conf):
    conf('agent { a: true, b: 1.5, c: [x, "y z"], d { e: null, f: "" }, "g": """three\nlines""" }')
    assert (config.flag("agent.a"), config.get("agent.b")) == (True, "1.5")
    assert config.get_list("agent.c") == ["x", "y z"]
    assert config.get("agent.d.e", "none") == config.get("agent.d.f", "none") == "none"
    assert config.get("agent.g") == "three\nlines"
    assert config.get_list("agent.nothing", ["default"]) == ["default"]
    assert config.get_list("agent.b") == ["1.5"]


@pytest.mark.parametrize("wrong", ["often", "nan", "inf", "true"])
def test_what_should_be_a_number_and_is_none_is_refused_with_its_name(conf, monkeypatch, wrong):
    monkeypatch.setenv("CLEARML_AGENT_STATUS_REPORT_FREQ_SEC", wrong)
    with pytest.raises(errors.Failure, match=f"CLEARML_AGENT_STATUS_REPORT_FREQ_SEC is no number: {wrong}") as caught:
        checks.check_values()
    assert caught.value.exit == errors.BAD_CONFIG
    monkeypatch.delenv("CLEARML_AGENT_STATUS_REPORT_FREQ_SEC")
    conf(f'api.http.retries.total: "{wrong}"')
    with pytest.raises(errors.Failure, match=r"api\.http\.retries\.total in .*clearml\.conf is no number"):
        checks.check_values()
    conf("")
    monkeypatch.setenv("AGENT_HOOK_TIMEOUT", wrong)
    with pytest.raises(errors.Failure, match=f"AGENT_HOOK_TIMEOUT is no number: {wrong}"):
        checks.check_values()
    monkeypatch.setenv("AGENT_HOOK_TIMEOUT", "")
    conf('agent.task_ping_interval_sec: 12.5, api.http.retries.total: ""')
    checks.check_values()
    assert (config.number(*config.TASK_PING), config.number("api.http.retries.total", 7)) == (12.5, 7)


@pytest.mark.parametrize("name", [*checks.OF_STAGES, "CLEARML_AGENT_STATUS_REPORT_FREQ_SEC",
                                  "CLEARML_AGENT__AGENT__TASK_PING_INTERVAL_SEC",
                                  "CLEARML_AGENT__AGENT__ABORT_CALLBACK_MAX_TIMEOUT"])
def test_a_number_below_0_is_refused_before_a_task_meets_it(monkeypatch, name):
    monkeypatch.setenv(name, "-3")
    with pytest.raises(errors.Failure, match=f"^{name} is below 0: -3 ") as caught:
        checks.check_values()
    assert caught.value.exit == errors.BAD_CONFIG
    monkeypatch.setenv(name, "0")
    checks.check_values()


def test_every_wrong_number_is_named_at_once(conf):
    conf("agent.venvs_cache { max_entries: lots, lock_timeout: -1 }, api.http { max_req_size: much, retries.total: x }")
    said = [str(each).partition(" in ")[0] for each in checks.wrong_values()]
    assert said == ["api.http.max_req_size", "api.http.retries.total", "agent.venvs_cache.max_entries"]


@pytest.mark.parametrize("name", ["CLEARML_AGENT__AGENT__PACKAGE_MANAGER__SYSTEM_SITE_PACKAGES", "CPU_ONLY",
                                  "CLEARML_AGENT_FORCE_UV", "CLEARML_AGENT_DISABLE_SSH_MOUNT",
                                  "AGENT_OFFLINE", "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL",
                                  "CLEARML_AGENT_FORCE_SYSTEM_SITE_PACKAGES"])
def test_a_yes_or_no_that_is_neither_is_refused_before_a_task_meets_it(monkeypatch, name):
    monkeypatch.setenv(name, "banana")
    with pytest.raises(errors.Failure, match=f"^{name} is neither yes nor no: banana ") as caught:
        checks.check_values()
    assert caught.value.exit == errors.BAD_CONFIG
    for told in ("No", "1", " "):
        monkeypatch.setenv(name, told)
        checks.check_values()


@pytest.mark.parametrize(("name", "wrong", "words", "right"), [
    ("CUDA_VERSION", "banana", "no version of CUDA", ["12.1", "12", "0", "cuda-12.1"]),
    ("CLEARML_AGENT__AGENT__CUDA_VERSION", "12.x", "no version of CUDA", ["121", "12.1.1_530.30"]),
    ("CLEARML_AGENT__AGENT__FORCE_GIT_SSH_PORT", "abc", "no port", ["2222", ""]),
    ("CLEARML_AGENT__AGENT__FORCE_GIT_SSH_PORT", "65536", "no port", ["65535"]),
    ("CLEARML_AGENT__AGENT__FORCE_GIT_SSH_PORT", "0", "no port", ["1"]),
    ("CLEARML_AGENT__AGENT__GIT_FETCH_ARGS", "[--tags, --jobs=4]", "no options of git fetch",
     ["--tags --jobs=4", '["--tags", "--jobs=4"]', "--depth 1", ""]),
    ("CLEARML_AGENT_SSH_URL_REPLACEMENT_SCHEME", "htp", "neither http nor https", ["HTTP", "https"]),
    ("CLEARML_AGENT__AGENT__TRANSLATE_SSL_REPLACEMENT_SCHEME", "ssh", "neither http nor https", ["http", ""])])
def test_what_has_a_form_of_its_own_is_refused_before_a_task_meets_it(monkeypatch, name, wrong, words, right):
    monkeypatch.setenv(name, wrong)
    with pytest.raises(errors.Failure, match=f"^{name} is {words}: {re.escape(wrong)} ") as caught:
        checks.check_values()
    assert caught.value.exit == errors.BAD_CONFIG
    for told in right:
        monkeypatch.setenv(name, told)
        checks.check_values()


def test_every_yes_or_no_that_is_read_is_looked_at_before():
    read = set()
    for folder in ("lib/agentpipe", "cmds"):
        for path in (Path(__file__).parents[2] / folder).rglob("*.py"):
            read |= set(re.findall(r'(?:config|settings)\.flag\((?:\w+ \+ )?"([\w.]+)"', path.read_text()))
    listed = [key for key, *_ in checks.FLAGS]
    assert len(read) > 30 and not [each for each in read if not any(key.endswith(each) for key in listed)]


def test_a_number_below_0_stays_where_it_means_something(conf):
    conf("agent.venvs_cache { free_space_threshold_gb: -1, lock_timeout: -1, max_entries: 3 }")
    assert (env_cache.limits().free_gb, env_cache.lock_timeout()) == (-1, -1)
    conf("agent.venvs_cache.max_entries: -3")
    with pytest.raises(errors.Failure, match=r"agent\.venvs_cache\.max_entries in .* is below 0: -3"):
        env_cache.limits()


# --- the files --------------------------------------------------------------------------------------------------------

def test_the_named_file_is_the_only_one(conf, tmp_path, monkeypatch):
    conf("agent.a: home")
    other = tmp_path / "other.conf"
    other.write_text("agent.b: other")
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(other))
    assert (config.get("agent.a"), config.get("agent.b")) == (None, "other")


def test_a_named_file_that_is_not_there_is_said(conf, monkeypatch):
    monkeypatch.setenv("CLEARML_CONFIG_FILE", "/nowhere.conf")
    with pytest.raises(errors.Failure) as caught:
        config.get("agent.a")
    assert caught.value.exit == errors.BAD_CONFIG
    assert "/nowhere.conf" in caught.value.reason


def test_the_old_file_counts_less_than_the_new_one(conf):
    conf("agent { a: old, b: old }", "trains.conf")
    conf("agent { a: new }")
    assert (config.get("agent.a"), config.get("agent.b")) == ("new", "old")


def test_a_folder_of_files_counts_less_than_the_users(conf, tmp_path, monkeypatch):
    conf("extra/default/agent.conf", "x")
    conf("a: folder\nb: folder", "extra/default/agent.conf")
    conf("agent.a: user")
    monkeypatch.setenv("CLEARML_CONFIG_PATH", os.path.join(os.environ["HOME"], "extra"))
    assert (config.get("agent.a"), config.get("agent.b")) == ("user", "folder")


def test_includes_substitutions_and_the_environment(conf, monkeypatch):
    conf("agent { cache: ${base}/pip, git_user: ${?WHO} }", "parts/agent.conf")
    monkeypatch.setenv("WHO", "ann")
    conf('base: /data\ninclude "parts/agent.conf"\nagent.venvs_dir: ${base}"/venvs"\nagent.host: ${HOST_OF_TEST}')
    monkeypatch.setenv("HOST_OF_TEST", "box")
    assert config.get("agent.cache") == "/data/pip"
    assert config.get("agent.git_user") == "ann"
    assert config.get("agent.venvs_dir") == "/data/venvs"
    assert config.get("agent.host") == "box"


def test_an_include_from_the_network_has_a_time_limit(conf, monkeypatch):
    monkeypatch.setattr(config_file, "URL_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        conf(f'agent.a: 1\ninclude url("http://127.0.0.1:{silent.getsockname()[1]}/more.conf")')
        with pytest.raises(errors.Failure) as caught:
            config.get("agent.a")
    assert caught.value.exit == errors.BAD_CONFIG
    assert "timed out" in caught.value.reason


@pytest.mark.parametrize("include", ['package("x")', 'package("no_such_package:x.conf")', 'url("nonsense")'])
def test_an_include_that_is_none_is_one_line(conf, include):
    """Also where the last resort of a command looks for the secrets of that very file."""
    path = conf(f"agent.a: 1\ninclude {include}")
    with pytest.raises(errors.Failure, match=f"^{path}: what it includes cannot be read: ") as caught:
        config.get("agent.a")
    assert caught.value.exit == errors.BAD_CONFIG
    done = subprocess.run([sys.executable, "-m", "agentpipe.cmds.agent_config", "check", "configuration"],
                          capture_output=True, text=True)
    assert done.returncode == errors.BAD_CONFIG and len(done.stdout.splitlines()) == 1 and not done.stderr


def test_the_words_of_a_failure_do_not_fail_themselves(conf, monkeypatch):
    def broken(paths):
        raise KeyError(paths)
    conf("agent.a: 1")
    monkeypatch.setattr(config_file, "load", broken)
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef123")
    assert own_secrets.hidden("KeyError: hf_abcdef123") == "KeyError: [REDACTED]"


# --- what is kept -----------------------------------------------------------------------------------------------------

def no_parser(monkeypatch):
    def parse(path):
        raise AssertionError(f"{path} was parsed again")
    monkeypatch.setattr(config_file, "parse_file", parse)


def test_the_next_process_need_not_parse(conf, agent_home, monkeypatch):
    conf("agent.git_pass: hush")
    assert config.get("agent.git_pass") == "hush"
    file, = kept(agent_home)
    assert file.stat().st_mode & 0o777 == 0o600
    config.reload()
    no_parser(monkeypatch)
    assert config.get("agent.git_pass") == "hush"


@pytest.mark.parametrize("change", ["file", "include", "new include", "glob", "environment", "damaged"])
def test_it_is_parsed_again_when_anything_has_changed(conf, agent_home, monkeypatch, change):
    conf("agent.b: 1", "parts/b.conf")
    text = 'agent.a: 1\nagent.c: ${?CHANGING}\ninclude "parts/b.conf"\ninclude "parts/late.conf"\ninclude "more/*.conf"'
    conf("agent.d: 1", "more/d.conf")
    conf(text)
    assert (config.get("agent.a"), config.get("agent.b"), config.get("agent.d")) == ("1", "1", "1")
    if change == "file":
        conf(text.replace("agent.a: 1", "agent.a: 22"))
        assert config.get("agent.a") == "22"
    elif change == "include":
        conf("agent.b: 22", "parts/b.conf")
        assert config.get("agent.b") == "22"
    elif change == "new include":
        conf("agent.late: 22", "parts/late.conf")
        assert config.get("agent.late") == "22"
    elif change == "glob":
        conf("agent.e: 22", "more/e.conf")
        assert config.get("agent.e") == "22"
    elif change == "environment":
        monkeypatch.setenv("CHANGING", "22")
        config.reload()
        assert config.get("agent.c") == "22"
    else:
        kept(agent_home)[0].write_text("{}\n")
        config.reload()
        assert config.get("agent.a") == "1"


def test_what_is_written_while_it_is_parsed_counts_for_the_next_process(conf, agent_home, monkeypatch):
    parse = config_file.parse_file

    def parse_and_edit(path):
        found = parse(path)
        conf("agent.a: 22")
        return found

    conf("agent.a: 1")
    with monkeypatch.context() as during:
        during.setattr(config_file, "parse_file", parse_and_edit)
        assert config.get("agent.a") == "1"
    config.reload()
    assert config.get("agent.a") == "22"


def test_a_cache_that_cannot_be_written_is_no_matter(conf, agent_home, monkeypatch):
    (agent_home / "cache").mkdir(parents=True)
    (agent_home / "cache" / "config").write_text("in the way")
    conf("agent.a: 1")
    assert config.get("agent.a") == "1"


# --- mistakes ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "line"), [
    ('api {\n  api_server: "http://a:8008"\nagent {\n  a: 1\n}\n', None),
    ('api {\n  key: "unfinished\n}\n', 2),
    ("agent.a: [1, 2\nagent.b: 3\n", None),
    ("agent.a: 1\nagent.b: ${nobody.knows}\n", 2),
    ("[1, 2]", 1),
    ('api {\n  credentials {\n    "access_key" = "A"\n    "secret_key = "s3cret-of-mine"\n  }\n}\n', 4),
    ('api {\n  credentials {\n    secret_key "s3cret-of-mine\n  }\n}\n', None),
])
def test_a_mistake_is_one_line_that_names_file_and_line(conf, text, line):
    path = conf(text)
    with pytest.raises(errors.Failure) as caught:
        config.get("agent.a")
    assert caught.value.exit == errors.BAD_CONFIG
    assert caught.value.reason.startswith(f"{path}:{line or ''}")
    assert "\n" not in caught.value.reason and len(caught.value.reason) < 200 and "s3cret" not in str(caught.value)


def test_a_mistake_in_an_included_file_names_that_file(conf):
    part = conf("\n\na: {\n", "part.conf")
    conf('agent.a: 1\ninclude "part.conf"\n')
    with pytest.raises(errors.Failure) as caught:
        config.get("agent.a")
    assert caught.value.reason.startswith(f"{part}:")


# --- what clearml-agent init wrote is no choice -----------------------------------------------------------------------

def test_the_peers_defaults_count_as_not_set(conf):
    defaults = config_file._peer_defaults()
    tree = {}
    for key, values in defaults.items():
        if not key.startswith("_"):
            config_file.put(tree, key.split("."), values[-1])
    conf(json.dumps(tree))
    assert config.trees()[0] == {}
    assert config.get("agent.package_manager.type", "ours") == "ours"
    whole = config.section("agent", whole=True)
    assert whole["package_manager"]["type"] == "pip"


def test_of_every_version(conf):
    conf('agent.default_docker.image: "nvidia/cuda:10.1-runtime-ubuntu18.04"')
    assert config.get("agent.default_docker.image") is None
    conf('agent.default_docker.image: "nvidia/cuda:10.1-mine"')
    assert config.get("agent.default_docker.image") == "nvidia/cuda:10.1-mine"


def test_a_variable_is_always_a_choice(conf, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE", "pip")
    assert config.get("agent.package_manager.type") == "pip"


def test_of_the_match_rules_those_of_the_user_stay(conf):
    rules = config_file._peer_defaults()["agent.default_docker.match_rules"][-1]
    mine = {"image": "mine", "match": {"script": {"binary": "python3.11$"}}}
    conf(json.dumps({"agent": {"default_docker": {"match_rules": [*rules, mine]}}}))
    assert config.value("agent.default_docker.match_rules") == [mine]


def test_one_is_not_true(conf):
    conf("agent.apply_environment: 1")
    assert config.get("agent.apply_environment") == "1"


# --- secrets ----------------------------------------------------------------------------------------------------------

SECRET = """
api.credentials { access_key: KEY, secret_key: s3cr3t-one }
agent { git_pass: s3cr3t-two, enable_git_ask_pass: true, worker_name: box
        package_manager.extra_index_url: ["https://ann:s3cr3t-three@example.org/simple"] }
sdk.aws.s3.credentials: [{bucket: b, key: k, secret: s3cr3t-four}]
environment { MY_VAR: s3cr3t-five }
api.auth.token_expiration_threshold_sec: 77
"""


def test_show_masks_every_secret_and_nothing_else(conf, capfd):
    conf(SECRET)
    assert config_show.show("", False, False) == 0
    out = capfd.readouterr().out
    assert "s3cr3t" not in out
    assert out.count(config_show.MASK) == 5
    for shown in ("KEY", "worker_name = box", "enable_git_ask_pass = true", "https://ann:****", "bucket", "= 77"):
        assert shown in out


@pytest.mark.parametrize(("url", "shown"), [
    ("https://u:s3/cr3t@h.example/simple", "https://u:********@h.example/simple"),
    ("https://u:/s3cr3t@h.example/simple", "https://u:********@h.example/simple"),
    ("https://u:s3cr3t@h.example/a@1", "https://u:********@h.example/a@1"),
    ("https://h.example/a?v=1&private_token=s3cr3t", "https://h.example/a?v=1&private_token=[REDACTED]"),
    ("https://h.example:8080/a@1", "https://h.example:8080/a@1"), ("ssh://git@h.example/a", "ssh://git@h.example/a")])
def test_of_an_address_the_secret_is_masked_and_nothing_else(url, shown):
    assert config_show.masked("agent.package_manager.extra_index_url", [url]) == [shown]


def test_secret_variables_among_dockers_arguments_are_masked(conf, capfd):
    conf('agent.extra_docker_arguments: ["-e", "MY_TOKEN=s3cr3t", "--env=DB_PASSWORD=s3cr3t", '
         '"-e", "LEVEL=3", "-v", "/a:/b"]')
    assert config_show.show("agent.extra_docker_arguments") == 0
    out = capfd.readouterr().out
    assert "s3cr3t" not in out
    assert "LEVEL=3" in out and "MY_TOKEN=" in out and "/a:/b" in out


@pytest.mark.parametrize("key", ["extra_docker_arguments", "default_docker.arguments", "default_docker.image"])
@pytest.mark.parametrize("words", [
    "-e HF_TOKEN=s3cr3t -e LEVEL=3", "--env HF_TOKEN='s3cr3t one' -e LEVEL=3", "-eHF_TOKEN=s3cr3t -eLEVEL=3",
    "-ite HF_TOKEN=s3cr3t -e=LEVEL=3", "--env=HF_TOKEN=s3cr3t -e LEVEL=3 -e U=https://me:s3cr3t@example.org/",
    '["-e", "HF_TOKEN=s3cr3t", "-e", "LEVEL=3"]'])
def test_they_are_masked_in_a_text_too(conf, capfd, monkeypatch, key, words):
    for text in (f"agent.{key}: {json.dumps(words)}", ""):
        conf(text)
        assert config_show.show(f"agent.{key}") == 0
        out = capfd.readouterr().out
        assert "s3cr3t" not in out and "LEVEL=3" in out and "HF_TOKEN=****" in out
        monkeypatch.setenv("CLEARML_AGENT__AGENT__" + key.upper().replace(".", "__"), words)


def test_arguments_that_are_no_words_are_masked_as_a_whole(conf, capfd):
    conf('agent { default_docker { image: "a:1", arguments: "-e HF_TOKEN=\'s3cr3t" }\n'
         '        extra_docker_arguments: "[-e, HF_TOKEN=s3cr3t" }')
    config_show.show("agent")
    out = capfd.readouterr().out
    assert "image = a:1 " in out and "s3cr3t" not in out


def test_a_pattern_of_the_users_hides_more(conf, capfd):
    conf("agent { sanitize_config_printout.hide_secrets: [worker], worker_name: box }")
    config_show.show("agent.worker_name")
    assert "box" not in capfd.readouterr().out


def test_secrets_of_the_file_are_masked_in_logs(conf):
    conf(SECRET)
    redactor = redact.Redactor(own_secrets.known())
    assert redactor.text("s3cr3t-one s3cr3t-two s3cr3t-five") == "[REDACTED] [REDACTED] [REDACTED]"


def test_secrets_of_digits_alone_are_masked(conf, capfd):
    conf("agent.git_pass: 12345678, environment { PIN: 654321, DEBUG: true }\n"
         "api.auth.request_token_expiration_sec: 999999")
    config_show.show("")
    shown = capfd.readouterr().out
    assert "12345678" not in shown and "654321" not in shown
    assert "environment.DEBUG = true" in shown and "999999" in shown
    assert "12345678" in own_secrets.known() and not {"999999", "654321"} & own_secrets.known()


@pytest.mark.parametrize("given", ['["-e", "A_TOKEN=s3cr3t one", "--env=B_KEY=s3cr3t-2"]',
                                   "-e A_TOKEN='s3cr3t one' --env=B_KEY=s3cr3t-2"])
def test_secrets_that_an_operator_gives_containers_are_masked_in_logs(conf, monkeypatch, given):
    quoted = given if given.startswith("[") else f'"{given}"'
    for text in (f"agent.extra_docker_arguments: {quoted}", f"agent.default_docker.arguments: {quoted}",
                 f"agent.default_docker.match_rules: [{{image: a, arguments: {quoted}, match.tags: [x]}}]"):
        conf(text)
        assert {"s3cr3t one", "s3cr3t-2"} <= own_secrets.known()
    conf("")
    assert not {"s3cr3t one", "s3cr3t-2"} & own_secrets.known()
    monkeypatch.setenv("CLEARML_AGENT_EXTRA_DOCKER_ARGS", given)
    assert {"s3cr3t one", "s3cr3t-2"} <= own_secrets.known()
    monkeypatch.setenv("CLEARML_AGENT_EXTRA_DOCKER_ARGS", "-e A_TOKEN=s3cr3t-3 '")
    assert own_secrets.hidden("s3cr3t-3") == "[REDACTED]"


@pytest.mark.parametrize("key", ["extra_docker_shell_script", "docker_preprocess_bash_script",
                                 "docker_init_bash_script"])
@pytest.mark.parametrize("script", ['["export A_TOKEN=s3cr3t-1", "echo x"]', '"export A_TOKEN=s3cr3t-1; echo x"'])
def test_secrets_in_an_operator_s_script_are_masked(conf, capfd, key, script):
    conf(f"agent.{key}: {script}")
    assert "s3cr3t-1" in own_secrets.known()
    config_show.show("agent")
    out = capfd.readouterr().out
    assert "s3cr3t" not in out and "export A_TOKEN=" in out and "echo x" in out
    conf(f"agent.{key}: null")
    config_show.show("agent", all_values=True)
    assert f"agent.{key} = null" in capfd.readouterr().out


def test_so_are_those_of_a_rule_s_script_and_of_a_variable_s(conf, monkeypatch, capfd):
    conf('agent.default_docker.match_rules: [{image: a, setup_shell_script: "export A_TOKEN=s3cr3t-1; echo x"}]')
    assert "s3cr3t-1" in own_secrets.known()
    config_show.show("agent")
    assert "s3cr3t" not in capfd.readouterr().out
    conf("")
    for script in ('["export A_TOKEN=s3cr3t-2;make"]', "export A_TOKEN=s3cr3t-2;make"):
        monkeypatch.setenv("CLEARML_AGENT__AGENT__EXTRA_DOCKER_SHELL_SCRIPT", script)
        assert "s3cr3t-2" in own_secrets.known()


def test_secrets_in_a_list_of_logins_are_masked_too(conf):
    conf('agent.git.extra_credentials: [{user: me, pass: s3cr3t-of-one, host: h}, {user: u, password: s3cr3t-two}]')
    assert {"s3cr3t-of-one", "s3cr3t-two"} <= own_secrets.known()


# --- variables and files for tasks ------------------------------------------------------------------------------------

def test_variables_and_files_of_the_file_are_there_for_tasks(conf, monkeypatch):
    monkeypatch.setenv("FROM_CONF", "before")
    conf('environment { FROM_CONF: "yes", NUMBER: 5 }\n'
         'files { a { path: "~/.a/config", contents: "text\\n", mode: 0640 }\n'
         '        b { path: "~/b.json", contents { x: [1, 2] }, target_format: json }\n'
         '        c { path: "~/c.bin", contents: "AP8=", format: base64, target_format: bytes } }')
    config.apply()
    assert (os.environ["FROM_CONF"], os.environ.pop("NUMBER")) == ("yes", "5")
    home = Path(os.environ["HOME"])
    assert (home / ".a/config").read_text() == "text\n"
    assert (home / ".a/config").stat().st_mode & 0o777 == 0o640
    assert json.loads((home / "b.json").read_text()) == {"x": [1, 2]}
    assert (home / "b.json").stat().st_mode & 0o777 == 0o600
    assert (home / "c.bin").read_bytes() == b"\x00\xff"


def test_a_file_that_cannot_be_written_is_named_by_its_entry(conf):
    os.mkdir(os.path.join(os.environ["HOME"], "full"))
    conf('files.a { path: "~/full/' + 255 * "x" + '", contents: x }')  # with a temporary's ending it is too long a name
    with pytest.raises(errors.Failure, match=r"^files\.a: cannot write .*: File name too long$") as caught:
        config.apply()
    assert caught.value.exit == errors.CANNOT_CREATE


def test_a_configuration_that_cannot_be_written_names_the_option_that_helps(tmp_path):
    keys = dict.fromkeys(config_init.KEYS, "x")
    with pytest.raises(errors.Failure, match="agent-config init --file FILE"):
        config_init.write(str(tmp_path / "none" / "clearml.conf"), keys, {})


def test_they_can_be_switched_off(conf, monkeypatch):
    conf('environment.FROM_CONF: "yes"\nfiles.a { path: "~/a", contents: x }\nagent.apply_files: false')
    monkeypatch.setenv("CLEARML_AGENT_ENABLE_ENV_CONFIG_SECTION", "0")
    config.apply()
    assert "FROM_CONF" not in os.environ
    assert not os.path.exists(os.path.join(os.environ["HOME"], "a"))


def test_a_file_that_is_there_stays_when_it_is_not_to_be_overwritten(conf):
    path = conf("mine", "a")
    conf('files.a { path: "~/a", contents: theirs, overwrite: false }')
    config.apply()
    assert path.read_text() == "mine"


@pytest.mark.parametrize(("entry", "word"), [
    ('{ path: "/etc/agentpipe-test", contents: x }', "outside"), ("{ contents: x }", "no path"),
    ('{ path: "~/x", contents: "?", format: base64 }', "base64"),
    ('{ path: "~/x", contents: x, target_format: yaml }', "no section"),
    ('{ path: "~/x", contents: x, mode: "0999" }', "octal"), ('{ path: "~/x", contents: x, mode: "-1" }', "octal")])
def test_a_wrong_entry_is_said_before_any_file_is_written(conf, entry, word):
    conf('files { "a" { path: "~/a", contents: x }, bad ' + entry + " }")
    with pytest.raises(errors.Failure, match=word) as caught:
        config.apply()
    assert caught.value.exit == errors.BAD_CONFIG
    wrong, = (each for each in config_check.files() if each.level == "wrong")
    assert re.search(word, wrong.text) and wrong.exit == errors.BAD_CONFIG
    assert os.listdir(os.environ["HOME"]) == ["clearml.conf"]


@pytest.mark.parametrize(("text", "word"), [
    ("environment: 5", "environment is no section: 5"), ("files: [1]", "files is no section"),
    ("api = 5", "api is no section: 5"), ("agent: yes", "agent is no section"),
    ('environment { "A=B": 1 }', "'A=B' can be no variable")])
def test_what_is_no_section_or_no_variable_is_refused(conf, text, word):
    conf(text)
    with pytest.raises(errors.Failure, match=word) as caught:
        config.apply()
    assert caught.value.exit == errors.BAD_CONFIG


@pytest.mark.parametrize("text", [
    "agent.task_ping_interval_sec: often", 'agent.uptime: ["25 MON"]', 'environment { "A=B": 1 }'])
def test_the_doctor_refuses_what_a_pull_does(conf, text):
    conf(text)
    assert [(each.level, each.exit) for each in config_check._guarded("configuration", config_check.files)][-1] == (
        "wrong", errors.BAD_CONFIG)


def test_the_doctor_reads_paths_as_a_pull_and_changes_nothing(conf, monkeypatch):
    conf('environment.MY_DIR: there\nfiles.a { path: "~/$MY_DIR/a", contents: x, mode: 0640 }').chmod(0o600)
    assert {each.level for each in config_check.files()} == {"ok"}
    assert "MY_DIR" not in os.environ and os.listdir(os.environ["HOME"]) == ["clearml.conf"]
    monkeypatch.setenv("MY_DIR", "")
    config.apply()
    assert (Path(os.environ["HOME"]) / "there/a").read_text() == "x"
