"""Secrets do not reach the log, however the output is cut into reads."""

import json
import re
from itertools import pairwise
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe import secrets
from agentpipe.redact import MASK, Redactor, secrets_in
from agentpipe.shell_secrets import script_shown, script_variables, task_secrets
from agentpipe.urls import without_query_secrets

letters = st.text("ab\n", min_size=1, max_size=5).map(str.encode)


@given(st.lists(letters, min_size=1, max_size=4), st.text("ab\nc", max_size=40).map(str.encode),
       st.lists(st.integers(0, 40), max_size=6))
def test_any_cut_gives_what_replacing_in_the_whole_gives(secrets: list[bytes], text: bytes,
                                                         cuts: list[int]) -> None:
    longest_first = sorted(set(secrets), key=lambda secret: -len(secret))
    whole = re.sub(b"|".join(map(re.escape, longest_first)), MASK, text)
    redactor = Redactor(secrets)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [redactor.feed(text[begin:end]) for begin, end in pairwise(edges)]
    assert b"".join(pieces) + redactor.flush() == whole


def test_the_begin_of_a_secret_waits_for_its_rest() -> None:
    redactor = Redactor(["hunter2!"])
    assert redactor.feed(b"password: hun") == b"password: "
    assert redactor.feed(b"ter2!\n") == MASK + b"\n"


def test_a_begin_that_leads_nowhere_comes_out_in_the_end() -> None:
    redactor = Redactor(["hunter2!"])
    assert redactor.feed(b"hun") + redactor.flush() == b"hun"


def test_without_secrets_nothing_is_touched() -> None:
    assert Redactor().replace(b"any\xff\n", False) == (b"any\xff\n", 5)


@pytest.mark.parametrize(("name", "value", "secret"), [
    ("CLEARML_API_SECRET_KEY", "k3y-of-the-server", "k3y-of-the-server"),
    ("CLEARML_AGENT_GIT_PASS", "tokentoken", "tokentoken"),
    ("HF_TOKEN", "hf_abcdef", "hf_abcdef"),
    ("HF_TOKEN", "hf_abcdef\n", "hf_abcdef"),
    ("OPENAI_KEY", "sk-proj-abcdef", "sk-proj-abcdef"),
    ("PRIV_KEY", "QWxhZGRpbjpvcGVuc2VzYW1l", "QWxhZGRpbjpvcGVuc2VzYW1l"),
    ("MY_PASSPHRASE", "correct horse", "correct horse"), ("AZURE_CREDENTIALS", '{"id": "1"}', '{"id": "1"}'),
    ("DB_PASS", "hunter22", "hunter22"), ("MYSQL_PWD", "hunter22", "hunter22"), ("MYAPIKEY_2", "keykey", "keykey"),
    ("PIP_INDEX_URL", "https://me:s3cr3t-pw@pypi.example/simple", "s3cr3t-pw"),
    ("PIP_INDEX_URL", "https://me:p@ss@word@pypi.example/simple", "p@ss@word"),
    ("PIP_INDEX_URL", "https://me:pa/ss/word@pypi.example/simple", "pa/ss/word"),
    ("PIP_INDEX_URL", "https://pypi.example/simple?private_token=s3cr3t-pw", "s3cr3t-pw"),
    ("SETTINGS", '{"url": "https://me:s3cr3t-pw@pypi.example", "mail": "a@b"}', "s3cr3t-pw"),
])
def test_secrets_are_known_by_their_variable(name: str, value: str, secret: str) -> None:
    assert secret in secrets_in({name: value})


@pytest.mark.parametrize(("name", "value"), [
    ("HF_TOKEN", "none"), ("TOKENIZERS_PARALLELISM", "parallel"), ("GIT_TOKEN_FILE", "secret-file"),
    ("METRIC_KEY", "val_loss"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("PUBLIC_KEY", "ssh-ed25519 AAAA"),
    ("OLDPWD", "work/here"), ("COMPASS", "north-west"), ("MONKEY", "chimpanzee-1"),
    ("SSH_PRIVATE_KEY", "/run/keys/id_ed25519"), ("URL", "https://host.example/path@version"),
    ("URL", "ssh://host:organisation/repo.git@v1"), ("URL", "https://{host}:{the_port}/x@y/z"),
])
def test_ordinary_values_are_not_masked(name: str, value: str) -> None:
    assert secrets_in({name: value}) == set()


def test_a_password_is_masked_as_it_stands_in_a_url_too() -> None:
    assert "p%40ss%2Fword" in secrets_in({"DB_PASSWORD": "p@ss/word"})


@pytest.mark.parametrize("secret", ["pä'ss\"w/o rd\\\n+end!", "a b&c=d", "-----BEGIN\nabc\n-----END"])
def test_a_secret_is_masked_as_programs_write_it(secret: str) -> None:
    redactor = Redactor(secrets_in({"DB_PASSWORD": secret}))
    for written in (secret, json.dumps({"p": secret}), json.dumps([secret], ensure_ascii=False), repr(secret),
                    repr([secret.encode()]), quote(secret), quote(secret, safe=""), urlencode({"p": secret})):
        shown = redactor.text(f"said {written} here")
        assert MASK.decode() in shown and not set(re.findall(r"\w+", shown)) & {"ss", "end", "rd", "c", "d", "abc"}


def test_the_secrets_that_a_task_carries_are_known() -> None:
    task = {"script": {"repository": "https://ci:gl-pass-1@git.example/a.git",
                       "requirements": {"pip": ["a @ https://ghp_0123456789abcdef@git.example/b.zip", "numpy"]}},
            "container": {"image": "python", "arguments": "-e NGC_API_KEY=ngc-key-1 --shm-size=8g"},
            "hyperparams": {"Environment": {"WANDB_API_KEY": {"value": "wandb-key-1"}, "MODE": {"value": "online"}}}}
    assert task_secrets(task) == {"gl-pass-1", "ghp_0123456789abcdef", "ngc-key-1", "wandb-key-1"}
    assert task_secrets({"script": None}) == set()


@pytest.mark.parametrize("words", [
    "-e A_TOKEN=secret-1", "--env A_TOKEN=secret-1", "--env=A_TOKEN=secret-1", "-eA_TOKEN=secret-1",
    "-ite=A_TOKEN=secret-1", "-e 'A_TOKEN=secret-1'", "-e A_TOKEN='secret-1' -m 1g",
    "-e B='a b' --env=A_TOKEN=secret-1",
    "-ePASS=secret-1", "--log-opt token=secret-1"])
def test_a_secret_of_the_container_s_arguments_is_known_however_it_is_spelled(words: str) -> None:
    assert task_secrets({"container": {"arguments": words}}) == {"secret-1"}
    assert task_secrets({"execution": {"docker_cmd": f"python:3 {words}"}}) == {"secret-1"}


def test_a_secret_of_the_container_s_arguments_may_have_blanks() -> None:
    assert "a b c d" in task_secrets({"container": {"arguments": "-e A_TOKEN='a b c d'"}})


def test_a_variable_that_the_container_s_arguments_set_twice_has_two_secrets() -> None:
    words = "-e A_TOKEN=secret-1 --env A_TOKEN='secret 2' --env=A_TOKEN=secret-3"
    assert {"secret-1", "secret 2", "secret-3"} <= task_secrets({"container": {"arguments": words}})


@pytest.mark.parametrize(("script", "known"), [
    ("export HF_TOKEN=secret-1; make", {"secret-1"}), ("A_KEY='a b $x'; export A_KEY", {"a b $x"}),
    ('(B_TOKEN=secret-1)\nexport C_TOKEN="secret-2"', {"secret-1", "secret-2"}),
    ("HF_TOKEN=secret-1;make\nB_TOKEN='secret;2'&&make", {"secret-1", "secret;2"}),
    (r"A_TOKEN=secret\;\&&&B_TOKEN=secret-2", {"secret;&", "secret-2"}),
    ("if a; then A_TOKEN=secret-1\nelse A_TOKEN=secret-2; fi", {"secret-1", "secret-2"}),
    ('echo "export A_TOKEN=secret-1" >>~/.bashrc; echo "done"', {"secret-1"}),
    ("cat >.env <<END\nA_TOKEN=secret;1&<2>\nEND", {"secret;1&<2>"}),
    ('echo "A_TOKEN=secret-1" >.env\nexport B_TOKEN=secret-2;C_TOKEN=secret-3\necho "done"',
     {"secret-1", "secret-2", "secret-3"}),
    (r'A_TOKEN=s\$cret\ 1 B_TOKEN="s\"cret$2"; C_TOKEN="s\"cret\$3"', {"s$cret 1", 's"cret$3'}),
    ('export A_TOKEN="${A_TOKEN:-secret-1}"\n: ${B_TOKEN:=secret-2}', {"secret-1", "secret-2"}),
    (r"""A_TOKEN=$'it\'s\tse\x63\162et $1\n'; B_TOKEN=$'\303\xa9secret' C_TOKEN=$"secret 2" """,
     {"it's\tsecret $1", "ésecret", "secret 2"}),
    ("read -r A_TOKEN <<<secret-1\nIFS= read B_TOKEN <<< 'secret 2' && docker login --password-stdin<<<secret-3;x",
     {"secret-1", "secret 2", "secret-3"}),
    ("read -r LINE <<<plain-text; tr a-z A-Z <<< 'token text' && docker login --password-stdin <<<$A_TOKEN", set()),
    (r'export HF_TOKEN=$(cat /run/token) D_TOKEN="$HF_TOKEN" E_TOKEN=\$HF_TOKEN', set()),
    ("export HF_TOKEN= MODE=online", set())])
def test_what_a_set_up_script_gives_a_secret_variable_is_known(script: str, known: set[str]) -> None:
    found = task_secrets({"container": {"setup_shell_script": script}})
    assert known <= found and bool(found) == bool(known)


@pytest.mark.parametrize("line", [
    "A_TOKEN=secret-{};", 'echo "A_TOKEN=secret-{}";', "A_TOKEN=secret-{}|b=c$", "A_TOKEN='{}1';",
    "A_TOKEN=${{B_TOKEN:-secret-{}}}", "read A_TOKEN<<<secret-{};"])
def test_a_set_up_script_in_one_line_of_secrets_is_read_in_one_go(line: str) -> None:
    script = "".join(line.format(number) for number in range(100000, 100500))
    values = [value for _, value in script_variables(script)]
    assert {"secret-100000", "secret-100499"} <= set(values) or {"1000001", "1004991"} <= set(values)
    assert sum(map(len, values)) < 9 * len(script)
    shown = script_shown(script)
    assert "1004" not in shown and shown.count(MASK.decode()) > 400


@pytest.mark.parametrize(("script", "shown"), [
    ("A_TOKEN=secret-1;B=c;B_TOKEN='secret 2';make", "A_TOKEN=[REDACTED];B_TOKEN=[REDACTED]"),
    ("read A_TOKEN <<<'secret 1' && make", "read A_TOKEN <<<[REDACTED] && make"),
    ('echo "A_TOKEN=secret-1"; echo "B_TOKEN=secret-2";make',
     'echo "A_TOKEN=[REDACTED]"; echo "B_TOKEN=[REDACTED]";make'),
    (r"A_TOKEN=$'it\'s secret' make", "A_TOKEN=[REDACTED] make")])
def test_a_set_up_script_is_shown_without_its_secrets(script: str, shown: str) -> None:
    assert script_shown(script) == shown


@pytest.mark.parametrize(("printed", "shown"), [
    ("clone https://user:longpassword1@host/x.git", "clone https://user:[REDACTED]@host/x.git"),
    ("redis://:pw@cache:6379", "redis://:[REDACTED]@cache:6379"),
    ("postgresql+psycopg2://u:p%40ss:w@db/x and ftp://a:b@c", "postgresql+psycopg2://u:[REDACTED]@db/x and "
                                                              "ftp://a:[REDACTED]@c"),
    ("https://ghp_0123456789abcdef@github.com/x", "https://[REDACTED]@github.com/x"),
    ("https://user:p@ssw0rd@host/x", "https://user:[REDACTED]@host/x"),
    ("[\"https://user:word@host\",\"me@host\"]", "[\"https://user:[REDACTED]@host\",\"me@host\"]"),
    ("ssh://git@host:22/x docker://ubuntu:20.04@sha256:abc https://medium.com/@someone/a:b@c http://host:80/a@b", None),
    ("time 12:30 me@example.org C://windows", None),
])
def test_passwords_in_urls_are_masked_though_nobody_knew_them(printed: str, shown: str | None) -> None:
    assert Redactor().text(printed) == (shown or printed)


@given(st.text("a:/@s \n", max_size=40).map(str.encode), st.lists(st.integers(0, 40), max_size=6))
def test_any_cut_of_a_url_gives_what_masking_in_the_whole_gives(text: bytes, cuts: list[int]) -> None:
    text = text.replace(b"a", b"aaaaaaaaaaaaaaaaaa").replace(b"s", b"sha256")
    whole = Redactor().replace(text, True)[0]
    redactor = Redactor()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [redactor.feed(text[begin:end]) for begin, end in pairwise(edges)]
    assert b"".join(pieces) + redactor.flush() == whole


def test_a_query_that_ends_in_many_marks_is_looked_through_in_no_time() -> None:
    text = "http://host/?a=" + ")" * 200_000 + "x"
    assert without_query_secrets(text) == text
    assert without_query_secrets("(see http://h/?private_token=abc.d).") == "(see http://h/?private_token=[REDACTED])."


def test_nothing_that_may_hold_a_password_stays_after_an_end(tmp_path):
    for name in (*secrets.LISTS, secrets.FILE, "log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("https://me:pw@host/r")
    secrets.forget(str(tmp_path))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["log"]
    secrets.forget(str(tmp_path / "none"))
