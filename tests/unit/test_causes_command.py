"""What click, typer, Fire and Hydra say of a command line, and argparse of numbers of values; what is meant runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import failing
import pytest

TEXTS = dict(re.findall(r"^== (\w+)\n(.*?)\n(?=\n== |\Z)",
                        (Path(__file__).parent / "data" / "cli_failures.txt").read_text(), re.S | re.M))
CLICK = """import click
@click.group()
def main(): pass
@main.command()
@click.option("--lr", type=float, required=True)
@click.option("--opt", "-o", type=click.Choice(["adam", "sgd"]))
@click.option("--config", type=click.File())
@click.option("--fast", is_flag=True)
@click.argument("data", type=click.Path(exists=True))
def fit(lr, opt, config, fast, data): pass
@main.command()
def test(): pass
main()
"""
TYPER = """import enum, typer
class Opt(str, enum.Enum):
    adam = "adam"
    sgd = "sgd"
app = typer.Typer()
@app.command()
def fit(lr: float = typer.Option(...), opt: Opt = Opt.adam, conf: typer.FileText = typer.Option(None)): pass
@app.command()
def evaluate(what: str):
    given = {"a": what}
    print(given["lr"])
app()
"""
ARGPARSE = """import argparse
p = argparse.ArgumentParser()
p.add_argument("--data")
p.add_argument("--lr", type=float)
p.add_argument("--layers", nargs=2, type=int)
p.add_argument("--many", nargs="+")
p.add_argument("--cuda", action="store_true")
p.add_argument("--conf", type=argparse.FileType())
p.parse_args()
"""
SUB = """import argparse
p = argparse.ArgumentParser()
fit = p.add_subparsers().add_parser("fit")
fit.add_argument("--epochs")
p.parse_args()
"""
FILES = {"sub.py": SUB, "click_.py": CLICK, "typer_.py": TYPER, "arg.py": ARGPARSE, "data/config.yaml": ""}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


@pytest.mark.parametrize(("entry", "reason"), [
    ("click_.py fti --lr 1 data", "the script has no command fti; fit may be meant"),
    ("click_.py fit --lrr 1 data", "the script has no option --lrr; --lr may be meant"),
    ("click_.py fit --lr 1 --opt adma data", "--opt/-o takes no adma, but adam, sgd; adam may be meant"),
    ("click_.py fit --lr 1 -o adma data", "--opt/-o takes no adma, but adam, sgd; adam may be meant"),
    ("click_.py fit --lr 1 dta/config.yaml", "there is no dta/config.yaml where the script runs; data/config.yaml may"),
    ("click_.py fit --lr 1 --config conf.yaml data", "there is no conf.yaml where the script runs; data/config.yaml"),
    ("click_.py fit --lr 1 --fast=true data", "the option --fast takes no value"),
    ("typer_.py fti --lr 1", "the script has no command fti; fit may be meant"),
    ("typer_.py fit --lrr 1", "the script has no option --lrr; --lr may be meant"),
    ("typer_.py fit --lr 1 --opt adma", "--opt takes no adma, but adam, sgd; adam may be meant"),
    ("typer_.py fit --lr 1 --conf ../code/dataa/config.yaml", "there is no ../code/dataa/config.yaml where the script"),
    ("sub.py fit --epohcs 3", "the script has no option --epohcs; --epochs may be meant"),
    ("arg.py --conf dta/config.yaml", "there is no dta/config.yaml where the script runs; data/config.yaml may"),
    ("arg.py --lr -inf", "the script does not take that --lr: expected one argument"),
    ("arg.py --layers '3 4' --lr 1", "the script does not take that --layers: expected 2 arguments"),
    ("arg.py --cuda=true --lr 1", "the option --cuda takes no value"),
    ("arg.py --cuda=False --lr 1", "the option --cuda takes no value"),
    ("arg.py --cuda True --lr 1", "the script takes no argument True, and its option before it no value")])
def test_what_is_meant_runs(entry: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = failing.told(FILES, entry)
    assert found["reason"].startswith(reason)
    assert failing.again(found) == (0, "")


def test_an_option_of_another_script_and_an_argument_behind_a_value_are_not_what_is_meant() -> None:
    for entry, reason in (("arg.py --epohcs 3", "the script has no option --epohcs (exit 2)"),
                          ("arg.py --data=a true", "the script takes no argument true (exit 2)")):
        found = failing.told(FILES, entry)
        assert (found["reason"], found["remedy"]) == (reason, None)


@pytest.mark.parametrize(("entry", "reason", "filled"), [
    ("arg.py --data", "the script does not take that --data: expected one argument", "arg.py --data …"),
    ("arg.py --data --lr 3", "the script does not take that --data: expected one argument", "arg.py --data … --lr 3"),
    ("arg.py --layers 3 --lr 1", "the script does not take that --layers: expected 2", "arg.py --layers 3 … --lr 1"),
    ("arg.py --many", "the script does not take that --many: expected at least one argument", "arg.py --many …"),
    ("click_.py fit data --lr", "the script does not take that --lr: it requires an", "click_.py fit data --lr …"),
    ("typer_.py fit", "the script wants --lr", "typer_.py fit --lr …"),
    ("arg.py --data -k", "the script does not take that --data: expected one", "arg.py --data=-k")])
def test_what_only_its_owner_knows_is_left_open_where_it_belongs(entry: str, reason: str, filled: str) -> None:
    found = failing.told(FILES, entry)
    assert found["reason"].startswith(reason) and found["remedy"] is None
    command = re.search(r"agent-task edit 1f3c (.+) && agent-task enqueue 1f3c", found["advice"])
    assert command and shlex.split(command[1]) == ["--entry-point", filled]
    assert failing.run(filled.replace("…", "3"))[0] == 0


@pytest.mark.parametrize("entry", ["arg.py --cuda=3", "click_.py nothing", "typer_.py fit --lr x"])
def test_what_nobody_knows_is_words(entry: str) -> None:
    found = failing.told(FILES, entry)
    assert found["remedy"] is None and "1f3c" in found["advice"]


def test_an_exception_that_rich_has_framed_is_told_with_its_line() -> None:
    found = failing.told(FILES, "typer_.py evaluate x")
    assert found["reason"] == "KeyError: 'lr', at typer_.py:11 (exit 1)" and "mend typer_.py:11" in found["advice"]


FIRE = {"train.py": "import fire\ndef fit(lr=0.1, steps=3): print('fit', lr, steps)\nfire.Fire({'fit': fit})\n"}
HYDRA: dict[str, str] = {
    "train.py": '@hydra.main(config_path="conf", config_name="confg", version_base=None)\n',
    "conf/config.yaml": "defaults: [{model: resnet}, _self_]\nlr: 0.1\nopt: {width: 3}\n",
    "conf/model/resnet.yaml": "depth: 3\n", "conf/model/vit.yaml": "depth: 3\n"}


def given(name: str, files: dict[str, str], entry: str) -> dict[str, Any]:
    failing.checkout(files)
    return failing.of(TEXTS[name], entry)


@pytest.mark.parametrize(("name", "files", "entry", "reason", "right"), [
    ("fire_command", FIRE, "train.py fti --lr 1", "the script has no command fti; fit may be meant",
     "train.py fit --lr 1"),
    ("fire_flag", FIRE, "train.py fit --lrr 0.2 --steps 4", "the script has no option --lrr; --lr may be meant",
     "train.py fit --lr 0.2 --steps 4"),
    ("hydra_key", HYDRA, "train.py opt.widht=5 lr=2", "the configuration has no opt.widht; opt.width may be meant",
     "train.py opt.width=5 lr=2"),
    ("hydra_group", HYDRA, "train.py mdel=resnet", "the configuration has no mdel; model may be meant",
     "train.py model=resnet"),
    ("hydra_option", HYDRA, "train.py model=resnt", "model takes no resnt, but resnet, vit; resnet may be meant",
     "train.py model=resnet"),
    ("hydra_config", HYDRA, "train.py --config-name confg", "there is no configuration confg; config may be meant",
     "train.py --config-name config"),
    ("hydra_there", HYDRA, "train.py +lr=3", "the configuration has lr already, which + adds", "train.py lr=3")])
def test_a_key_that_is_meant_is_in_the_message_or_in_the_repository(name: str, files: dict[str, str], entry: str,
                                                                    reason: str, right: str) -> None:
    found = given(name, files, entry)
    assert found["reason"].startswith(reason)
    assert found["remedy"] == f"agent-task edit 1f3c --entry-point {shlex.quote(right)} && agent-task enqueue 1f3c"


@pytest.mark.parametrize(("name", "files", "entry", "reason", "words"), [
    ("fire_missing", FIRE, "train.py --lr 1", "the script wants --data", "--entry-point 'train.py --lr 1 --data …'"),
    ("fire_surplus", FIRE, "train.py x 1 2 3", "Could not consume arg: 3", "change the arguments in"),
    ("hydra_config", HYDRA, "train.py lr=2", "there is no configuration confg; config may be meant, at train.py:1",
     "mend train.py:1"),
    ("hydra_key", {"train.py": ""}, "train.py opt.widht=5", "the configuration has no opt.widht",
     "where it is new: +opt.widht=…"),
    ("hydra_grammar", HYDRA, "train.py 'opt.width=[1,'",
     "Hydra does not understand an override: no viable alternative at input '[1,'", "change the arguments in"),
    ("hydra_raised", HYDRA, "train.py lr=0", "ZeroDivisionError: division by zero, at train.py:5", "mend train.py:5")])
def test_what_is_not_in_them_is_words(name: str, files: dict[str, str], entry: str, reason: str, words: str) -> None:
    found = given(name, files, entry)
    assert found["reason"].startswith(reason) and words in found["advice"] and found["remedy"] is None


@pytest.mark.parametrize("name", [name for name in TEXTS if name.startswith("hydra")])
def test_how_to_see_more_is_no_reason(name: str) -> None:
    assert "HYDRA_FULL_ERROR" not in failing.of(TEXTS[name], "train.py")["reason"]


def test_fire_is_given_its_value_with_an_equals_sign() -> None:
    failing.checkout(FIRE)
    found = failing.of(TEXTS["fire_flag"].replace("--lrr", "--lrr=0.2"), "train.py fit --lrr=0.2 --steps 4")
    assert found["reason"].startswith("the script has no option --lrr; --lr may be meant")
    assert "'train.py fit --lr=0.2 --steps 4'" in found["remedy"]
