"""Settings files: read as Luigi reads them, asked in its order, with its warnings and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

Python = Callable[..., CompletedProcess[str]]

CFG = """
[DEFAULT]
common = 9
[Settings]
name = of the file
path = ${HOME_OF}/data
both = %(name)s and ${HOME_OF}
number-of-days = 12
yes = true
real = 1.5
unknown = 1
[numbers]
a = 1
b = 2
"""

TOML = """
[Settings]
name = "of the file"
number_of_days = 12
yes = true
table = {a = {b = 1}}
"""

ASK = """
import json, sys, warnings, datetime
caught = []
warnings.showwarning = lambda message, category, *rest: caught.append(f"{category.__name__}: {message}")
warnings.simplefilter("always")
import luigi
from luigi import configuration

def ask(function):
    try:
        return repr(function())
    except Exception as error:
        return f"{type(error).__name__}: {error}"

class Settings(luigi.Config):
    name = luigi.Parameter(default="default")
    path = luigi.Parameter(default="")
    number_of_days = luigi.IntParameter(default=0)
    yes = luigi.BoolParameter()
    table = luigi.DictParameter(default={})
    list = luigi.ListParameter(default=[])

config = configuration.get_config()
answers = [
    ask(lambda: config.get("Settings", "name")),
    ask(lambda: config.get("Settings", "path")),
    ask(lambda: config.get("Settings", "both", "default")),
    ask(lambda: config.get("Settings", "nothing", "default")),
    ask(lambda: config.get("Settings", "nothing")),
    ask(lambda: config.get("Nobody", "nothing")),
    ask(lambda: config.get("Nobody", "common")),
    ask(lambda: config.getint("Settings", "number_of_days")),
    ask(lambda: config.getint("Settings", "nothing", 3)),
    ask(lambda: config.getint("Settings", "nothing", None)),
    ask(lambda: config.getfloat("Settings", "real", 0.5)),
    ask(lambda: config.getboolean("Settings", "yes")),
    ask(lambda: config.getboolean("Settings", "nothing", False)),
    ask(lambda: sorted(config.getintdict("numbers").items())),
    ask(lambda: config.getintdict("Nobody")),
    ask(lambda: config.has_option("Settings", "number_of_days")),
    ask(lambda: config.has_option("Settings", "nothing")),
    ask(lambda: config["Settings"]["name"]),
    ask(lambda: str(Settings())),
    ask(lambda: Settings().table.get("a")),
    ask(lambda: (config.set("New", "option", "value"), config.get("New", "option"))[1]),
    ask(lambda: configuration.add_config_path("not/there.cfg")),
]
print(json.dumps([answers, sorted(set(caught))]))
"""


@pytest.fixture
def ask_both(python: Python, tmp_path: Path) -> Callable[..., tuple[Any, Any]]:
    """What both say to the questions above with these files in the working directory."""

    def both(files: dict[str, str], **environment: str) -> tuple[Any, Any]:
        for name, text in {**files, "ask.py": ASK}.items():
            (tmp_path / name).write_text(text)
        results = [
            python([*words, "ask.py"], cwd=tmp_path, HOME_OF="/home/of", **environment)
            for words in ([], ["-m", "jubako.luigi"])
        ]
        theirs, ours = (json.loads(result.stdout.splitlines()[-1]) for result in results)
        return theirs, ours

    return both


def test_cfg_file_is_read_as_by_luigi(ask_both: Callable[..., tuple[Any, Any]]) -> None:
    theirs, ours = ask_both({"luigi.cfg": CFG, "client.cfg": "[Other]\noption = 1\n"})
    assert ours[0] == theirs[0]
    assert [text for text in theirs[1] if "onfig" in text] == ours[1]
    assert any("'unknown' with value '1' that is not consumed" in text for text in ours[1])
    assert any("named 'client.cfg' are deprecated" in text for text in ours[1])
    assert "'/home/of/data'" in ours[0]


def test_old_files_are_read_and_later_ones_win(ask_both: Callable[..., tuple[Any, Any]]) -> None:
    files = {"client.cfg": "[Settings]\nname = old\npath = old\n", "luigi.cfg": "[Settings]\nname = new\n"}
    theirs, ours = ask_both({**files, "more.cfg": "[Settings]\nnumber_of_days = 4\n"}, LUIGI_CONFIG_PATH="more.cfg")
    assert ours[0] == theirs[0]
    assert "'new'" in ours[0] and "'old'" in ours[0] and "4" in ours[0]


def test_missing_variable_is_refused_as_by_luigi(ask_both: Callable[..., tuple[Any, Any]]) -> None:
    theirs, ours = ask_both({"luigi.cfg": "[Settings]\nname = ${NOT_SET_AT_ALL}\n"})
    assert ours[0][:18] == theirs[0][:18]
    assert ours[0][18].removeprefix("InvalidParameterException").startswith(theirs[0][18].removeprefix("ValueError"))
    assert "nonexisting environment variable NOT_SET_AT_ALL" in ours[0][0]


def test_toml_file_keeps_types(python: Python, tmp_path: Path) -> None:
    """Luigi's needs a package for this, so this one is not compared."""
    (tmp_path / "luigi.toml").write_text(TOML)
    (tmp_path / "ask.py").write_text(ASK)
    result = python(["-m", "jubako.luigi", "ask.py"], cwd=tmp_path, LUIGI_CONFIG_PARSER="toml")
    answers, _ = json.loads(result.stdout.splitlines()[-1])
    assert answers[0] == "'of the file'"
    assert answers[4:6] == ["KeyError: 'nothing'", "KeyError: 'Nobody'"]
    assert answers[7:10] == ["12", "3", "None"]
    assert answers[18] == repr(
        'Settings(name=of the file, path=, number_of_days=12, yes=True, table={"a": {"b": 1}}, list=[])'
    )
    assert answers[19] == "{'b': 1}"
