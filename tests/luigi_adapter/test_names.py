"""Every name of the table is in Luigi 3.8.1, and here at the same place; what is left out refuses by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jubako.luigi.left_out import MODULES_LEFT_OUT
from jubako.luigi.names import HOMES

HERE = Path(__file__).parent
COMPAT = HERE.parents[1] / "docs" / "compat.md"
Python = Callable[..., subprocess.CompletedProcess[str]]

# Members of Luigi's classes that are not here, by class; None: the class is another thing here, and the guide says so.
MEMBERS_LEFT_OUT: dict[str, set[str] | None] = {
    "FileSystemTarget": {"fs"},  # classes set it
    "TextFormat": {"wrapper_cls"},
    "MixedUnicodeBytesFormat": {"wrapper_cls"},
    "InputPipeProcessWrapper": {"create_subprocess"},
    "OutputPipeProcessWrapper": {"WRITES_BEFORE_FLUSH"},
    "InterfaceLogging": {"config"},
    "LuigiTomlParser": None,  # a parser of cfg files by its base, there
    "RunAnywayTarget": {"get_path", "temp_dir", "temp_time", "unique"},
    "Worker": {"dispatch_scheduler_message", "handle_interrupt", "set_worker_processes"},
    "TaskProcess": None,  # a process there; here, what a context is told
    "Scheduler": None,  # all of it is RPC
    "RemoteScheduler": None,
}


@pytest.fixture(scope="module")
def described(python: Python) -> tuple[Any, Any]:
    asked = json.dumps({module: list(names) for module, names in HOMES.items()})
    program = str(HERE / "names.py")
    theirs = python([program], input=asked)
    ours = python(["-m", "jubako.luigi", program], input=asked)
    return json.loads(theirs.stdout), json.loads(ours.stdout)


@pytest.mark.parametrize("module", HOMES)
def test_names_of_the_module_are_luigis(described: tuple[Any, Any], module: str) -> None:
    theirs, ours = described[0][module], described[1][module]
    assert list(ours) == list(HOMES[module])
    assert list(theirs) == list(HOMES[module])
    assert {name: facts["kind"] for name, facts in ours.items()} == {
        name: facts["kind"] for name, facts in theirs.items()
    }


@pytest.mark.parametrize("module", HOMES)
def test_members_of_the_modules_classes_are_luigis(described: tuple[Any, Any], module: str) -> None:
    missing = {}
    for name, theirs in described[0][module].items():
        exempt = MEMBERS_LEFT_OUT.get(name, set())
        if exempt is not None:
            left = set(theirs["members"]) - set(described[1][module][name]["members"]) - exempt
            if left:
                missing[name] = sorted(left)
    assert missing == {}


@pytest.mark.parametrize("module", MODULES_LEFT_OUT)
def test_module_that_is_left_out_is_one_of_luigis_and_refuses_with_what_to_use(module: str) -> None:
    import importlib.util

    installed = importlib.util.find_spec("luigi")
    assert installed is not None and installed.submodule_search_locations is not None
    place = Path(installed.submodule_search_locations[0]).joinpath(*module.split(".")[1:])
    is_there = place.with_suffix(".py").exists() or place.is_dir()
    assert is_there or module == "luigi.contrib.mrrunner"  # which the published wheel lacks
    assert module not in HOMES


def test_imports_say_what_is_left_out(python: Python) -> None:
    code = """
import jubako.luigi
jubako.luigi.install()
for text in ("import luigi.server", "import luigi.contrib.hdfs.target", "from luigi.contrib import gcs",
             "import luigi.nothing", "from luigi import Nothing", "import luigi.contrib.gcs as gcs"):
    try:
        exec(text)
    except ImportError as error:
        print(type(error).__name__, error)
"""
    lines = python(["-c", code]).stdout.splitlines()
    assert lines[0].startswith("ImportError luigi.server is not part of jubako: jubako has no scheduler server")
    assert lines[1].startswith("ImportError luigi.contrib.hdfs is not part of jubako: use jubako.StoreTarget")
    assert lines[2].startswith("ImportError ") and "gcs" in lines[2]
    assert lines[3] == "ModuleNotFoundError No module named 'luigi.nothing'"
    assert lines[4].startswith("ImportError cannot import name 'Nothing' from 'luigi'")
    assert lines[5].startswith("ImportError luigi.contrib.gcs is not part of jubako")


def test_install_takes_luigis_place_and_uninstall_gives_it_back(python: Python) -> None:
    code = """
import sys
import jubako.luigi
jubako.luigi.install()
jubako.luigi.install()
import luigi, luigi.util
from luigi.tools.range import RangeDaily
import jubako.flow.tasks.task
print(luigi.Task is jubako.flow.tasks.task.Task, luigi.util.requires.__module__, luigi.range.RangeDaily is RangeDaily)
print(luigi.__version__, luigi.date_interval.Week, "Week" in dir(luigi.date_interval), "util" in dir(luigi))
from luigi import *
print(ExternalTask is jubako.flow.tasks.task.ExternalTask, task.Task is Task, issubclass(Task, jubako.Task))
jubako.luigi.uninstall()
jubako.luigi.uninstall()
print([name for name in sys.modules if name.startswith("luigi")], jubako.Week)
import warnings; warnings.simplefilter("ignore")
import luigi
print("site-packages" in luigi.__file__)
try:
    jubako.luigi.install()
except jubako.InputError as error:
    print(error.message.partition(", from")[0], "|", error.hint)
"""
    assert python(["-c", code]).stdout.splitlines() == [
        "True jubako.flow.tasks.inheriting True",
        "3.8.1 <class 'luigi.date_interval.Week'> True True",
        "True True True",
        "[] <class 'jubako.flow.date_interval.Week'>",
        "True",
        "luigi is imported already | call jubako.luigi.install() before anything imports luigi, or run "
        "`python -m jubako.luigi`",
    ]


def test_what_cannot_be_made_here_says_so(python: Python) -> None:
    code = """
import jubako.luigi
jubako.luigi.install()
import luigi, luigi.scheduler
from jubako import InputError
for attempt in (luigi.RemoteScheduler, lambda: luigi.scheduler.Scheduler().add_task(),
                lambda: luigi.build([], worker_scheduler_factory=1)):
    try:
        attempt()
    except InputError as error:
        print(error.message)
try:
    raise luigi.RPCError("caught as existing code does")
except luigi.rpc.RPCError as error:
    print(error)
"""
    assert [line.partition(":")[0] for line in python(["-c", code]).stdout.splitlines()] == [
        "luigi.RemoteScheduler is not part of jubako",
        "Scheduler.add_task is not part of jubako",
        "worker_scheduler_factory is not part of jubako",
        "caught as existing code does",
    ]


def format_compat() -> str:
    """docs/compat.md: the table of names, which the tests above hold against Luigi."""
    lines = [
        "# Names of Luigi that jubako has",
        "",
        "Made from the table in `src/jubako/luigi/names.py`, every name of which is tested against Luigi 3.8.1;",
        "`python tests/luigi_adapter/test_names.py` writes it anew. What is not here, and what to use instead, is in",
        "[luigi.md](luigi.md).",
        "",
        "| module | names |",
        "|---|---|",
    ]
    for module, names in HOMES.items():
        public = [f"`{name}`" for name in names if not name.startswith("_") or name == "__version__"]
        if public:
            lines.append(f"| `{module}` | {', '.join(public)} |")
    return "\n".join([*lines, ""])


def test_page_of_names_is_the_table() -> None:
    assert COMPAT.read_text() == format_compat()


if __name__ == "__main__":
    COMPAT.write_text(format_compat())
    sys.exit()
