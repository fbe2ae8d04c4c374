"""`jubako why`: the answer as text, as data, and as an exit code. The reasons are in `tests/flow/explain`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jubako.flow.tasks.register import Register

from .conftest import Past, Said

Say = Callable[..., Said]
PIPELINE = """
from jubako import ExternalTask, LocalTarget, Parameter, Task

class Rates(ExternalTask):
    def output(self):
        return LocalTarget("rates.csv")

class Report(Task):
    name = Parameter(default="x")

    def requires(self):
        print("looking")
        return Rates()

    def output(self):
        return LocalTarget(f"{self.name}.html")

    def run(self):
        raise AssertionError
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    classes = list(Register._reg)
    path = tmp_path / f"why_{tmp_path.name.replace('-', '_')}.py"
    path.write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    yield str(path)
    Register._reg[:] = classes
    Register.clear_instance_cache()


def test_why_is_a_sentence_and_the_facts_below_it(past: Past, say: Say, file: str, tmp_path: Path) -> None:
    said = say("why", file, "Report")
    missing = f"Rates(), which is missing: {tmp_path}/rates.csv is not there, and no task makes it"
    assert said == Said(
        1, f"Report(name=x) cannot run: it needs {missing}.\n    Report(name=x) -> Rates()\n", "looking\n"
    )


def test_why_of_what_is_done_is_0_and_of_all_else_1(past: Past, say: Say, file: str) -> None:
    Path("rates.csv").touch()
    assert say("why", file, "Report").code == 1
    Path("x.html").touch()
    assert say("why", file, "Report").code == 0
    assert say("why", file, "Rates").code == 0


def test_why_for_programs_has_a_verdict_and_a_reason(past: Past, say: Say, file: str, tmp_path: Path) -> None:
    Path("rates.csv").touch()
    document = json.loads(say("why", file, "Report", "--name", "a\x1b", "--format", "json").out)
    assert (document["schema"], document["verdict"], document["reason"]) == ("jubako.why/1", "would_run", "missing")
    assert (document["chain"], document["to_run"]) == ([], 1)
    assert document["facts"] == [
        {
            "kind": "output",
            "text": f"not there: {tmp_path}/a\x1b.html",
            "path": f"{tmp_path}/a\x1b.html",
            "run": None,
        }
    ]
    assert r"a\x1b.html" in say("why", file, "Report", "--name", "a\x1b").out
    lines = say("why", file, "Report", "--format", "csv").out.splitlines()
    assert lines[0] == "kind,text,path,run"
    assert lines[1].startswith('answer,"Report(name=x) would run: ')


def test_why_changes_nothing_and_needs_no_history(
    say: Say, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUBAKO_STATE", str(tmp_path / "none"))
    assert say("why", file, "Report").code == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [Path(file).name]
    monkeypatch.setenv("JUBAKO_STATE", str(tmp_path))
    (tmp_path / "ledger.sqlite").write_text("no ledger, and long enough to be looked at " * 30)
    said = say("why", file, "Report")
    assert said.code == 3
    assert f"{tmp_path}/ledger.sqlite is damaged" in said.err


def test_why_without_a_task_lists_them(past: Past, say: Say, file: str) -> None:
    said = say("why", file)
    assert said.code == 2
    assert "which of these tasks?" in said.err
    assert "Report [--name TEXT]" in said.out


def test_why_knows_tasks_that_runs_with_the_same_option_leave_alone(past: Past, say: Say, file: str) -> None:
    Path("rates.csv").touch()
    assert say("run", file, "Report", "--box", "none").code == 1
    assert "would run: " in say("why", file, "Report").out
    assert "has failed too often and is disabled until " in say("why", file, "Report", "--disable-after", "1").out
    assert say("why", file, "Report", "--disable-after", "x").code == 2
