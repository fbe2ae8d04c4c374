"""`jubako backfill`: what is run again, what is left out, and how both are accounted for."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jubako.flow.tasks.register import Register

from .conftest import Past, Said

Say = Callable[..., Said]
SOURCE = str(Path(__file__).parents[2] / "src")
PIPELINE = """
import os
from pathlib import Path
from jubako import DateHourParameter, DateParameter, LocalTarget, MonthParameter, Parameter, Task

class Day(Task):
    date = DateParameter()

    def output(self):
        return LocalTarget(f"days/{self.date}")

    def run(self):
        if os.path.exists(f"bad-{self.date}"):
            raise ValueError("it is bad")
        with self.output().open("w") as file:
            file.write(Path("version").read_text())

class Month(Task):
    month = MonthParameter()

    def requires(self):
        return [Day(self.month.replace(day=n)) for n in (1, 2, 3)]

    def output(self):
        return LocalTarget(f"months/{self.month:%Y-%m}")

    def run(self):
        with self.output().open("w") as file:
            file.write(Path("version").read_text())

class Keyed(Task):
    key = Parameter()

    def requires(self):
        return Month()

class Hour(Task):
    hour = DateHourParameter()

    def output(self):
        return LocalTarget(f"hours/{self.hour}")
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    classes = list(Register._reg)
    path = tmp_path / f"backfill_{tmp_path.name.replace('-', '_')}.py"
    path.write_text(PIPELINE)
    (tmp_path / "version").write_text("one")
    monkeypatch.chdir(tmp_path)
    yield str(path)
    Register._reg[:] = classes
    Register.clear_instance_cache()


@pytest.fixture
def days(past: Past, say: Say, file: str) -> Callable[..., Said]:
    """Backfills 1 to 5 March, unboxed, with further options."""
    words = ("--from", "2010-03-01", "--to", "2010-03-06", "--box", "none", "--durability", "relaxed")
    return lambda *options: say("backfill", file, "Day", *words, *options)


def account(said: Said) -> str:
    return next(line for line in said.out.splitlines() if " wanted = " in line).partition(": ")[2]


def versions() -> dict[str, str]:
    return {path.name[-2:]: path.read_text() for path in sorted(Path("days").iterdir())}


def test_redo_failed_runs_what_failed_and_says_what_it_leaves(days: Callable[..., Said]) -> None:
    for day in ("02", "04"):
        Path(f"bad-2010-03-{day}").touch()
    said = days()
    assert (said.code, account(said)) == (1, "5 wanted = 3 run + 2 failed")
    for day in ("02", "04"):
        Path(f"bad-2010-03-{day}").unlink()
    Path("days/2010-03-01").unlink()
    Path("days/2010-03-04").write_text("by hand")
    dry = days("--redo", "failed", "--dry-run")
    assert dry.out.splitlines() == [
        "Day 2010-03-01...2010-03-05: 5 wanted, 3 done before, 1 to run (2010-03-02), 1 missing and not asked for",
        "    2010-03-02",
    ]
    said = days("--redo", "failed")
    assert (said.code, account(said)) == (0, "5 wanted = 3 done before + 1 run + 1 missing and not asked for")
    said = days("--redo", "failed")
    assert (said.code, account(said)) == (0, "5 wanted = 4 done before + 1 missing and not asked for")


def test_redo_all_runs_again_what_is_done_and_replaces_it(days: Callable[..., Said]) -> None:
    days()
    Path("version").write_text("two")
    Path("days/2010-03-03").unlink()
    said = days("--redo", "all")
    assert (said.code, account(said)) == (0, "5 wanted = 5 run")
    assert versions() == dict.fromkeys(("01", "02", "03", "04", "05"), "two")


def test_redo_all_that_fails_keeps_what_was_there(days: Callable[..., Said]) -> None:
    days()
    Path("version").write_text("two")
    Path("bad-2010-03-02").touch()
    said = days("--redo", "all")
    assert (said.code, account(said)) == (1, "5 wanted = 4 run + 1 failed")
    assert versions()["02"] == "one"


@pytest.mark.parametrize(("options", "made"), [((), ["01", "02"]), (("--newest-first",), ["04", "05"])])
def test_limit_runs_so_many_and_the_rest_is_over_it(
    days: Callable[..., Said], options: tuple[str, ...], made: list[str]
) -> None:
    said = days("--limit", "2", *options)
    assert (said.code, account(said)) == (1, "5 wanted = 2 run + 3 over the limit")
    assert list(versions()) == made
    said = days("--limit", "3", *options)
    assert (said.code, account(said)) == (0, "5 wanted = 2 done before + 3 run")


def test_limit_and_redo_are_in_the_plan_for_programs(days: Callable[..., Said]) -> None:
    days("--limit", "2")
    plan = json.loads(days("--redo", "all", "--limit", "3", "--dry-run", "--format", "json").out)
    assert (plan["wanted"], plan["done_before"], plan["to_run"], plan["over_limit"]) == (5, 0, 3, 2)
    assert plan["spans"] == ["2010-03-01...2010-03-03"]
    ran = json.loads(days("--limit", "1", "--format", "json").out)["backfill"]
    assert (ran["done_before"], ran["run"], ran["over_limit"], ran["not_asked"]) == (2, 1, 2, 0)


@pytest.mark.box
def test_redo_all_in_boxes_publishes_in_place_of_what_is_there(days: Callable[..., Said], tmp_path: Path) -> None:
    days()
    Path("version").write_text("two")
    words = [
        "backfill",
        next(str(p) for p in tmp_path.glob("*.py")),
        "Day",
        "--from",
        "2010-03-01",
        "--to",
        "2010-03-03",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "jubako", *words, "--redo", "all", "--durability", "relaxed"],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert versions() == {"01": "two", "02": "two", "03": "one", "04": "one", "05": "one"}
    assert [name for name in os.listdir("days") if name.startswith(".")] == []


def test_downstream_runs_what_depends_on_the_range_and_with_redo_all_again(days: Callable[..., Said]) -> None:
    dry = days("--downstream", "--dry-run")
    assert dry.out.splitlines()[2:] == ["downstream: 1 Month", "    Month(month=2010-03)"]
    assert dry.err.startswith("note: Keyed is not looked at: ")
    said = days("--downstream")
    assert (said.code, account(said)) == (0, "5 wanted = 5 run")
    assert "downstream: 1 Month" in said.out
    assert Path("months/2010-03").read_text() == "one"
    assert json.loads(days("--downstream", "--dry-run", "--format", "json").out)["downstream"] == []
    Path("version").write_text("two")
    assert days("--downstream", "--redo", "all").code == 0
    assert Path("months/2010-03").read_text() == "two"


@pytest.mark.parametrize("options", [("--limit", "2"), ("--redo", "failed")])
def test_downstream_of_a_part_of_the_range_is_refused(days: Callable[..., Said], options: tuple[str, ...]) -> None:
    said = days("--downstream", *options)
    assert said.code == 2
    assert "--downstream runs what needs the whole range" in said.err


def test_very_long_range_is_refused_where_nobody_can_be_asked(past: Past, say: Say, file: str) -> None:
    words = ("backfill", file, "Hour", "--from", "2000-01-01T00", "--to", "2020-01-01T00", "--box", "none")
    said = say(*words)
    assert said.code == 2
    assert "Hour from 2000-01-01T00 to 2020-01-01T00 are 175,320 tasks" in said.err
    assert "--yes" in said.err
    assert past.ledger.connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_very_long_range_is_asked_about_on_a_terminal(past: Past, file: str) -> None:
    words = ["backfill", file, "Hour", "--from", "2000-01-01T00", "--to", "2020-01-01T00", "--box", "none"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jubako", *words],
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    asked = b""
    while b"[y/N]" not in asked:
        asked += os.read(ours, 1000)
    os.write(ours, b"n\n")
    assert process.wait(timeout=30) == 130
    os.close(ours)
    assert b"175,320 tasks. Go on?" in asked


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--pause", "r9"), "there is no run r9"),
        (("--pause", "r1"), "run r1 is over"),
        (("--pause", "r1", "--resume", "r1"), "stand alone"),
        (("--list", "FILE"), "stand alone"),
        ((), "Missing argument 'PIPELINE'"),
        (("FILE", "Day", "--to", "2010-03-01"), "Missing option '--from'"),
        (("FILE", "Day", "--from", "2010-03-01"), "Missing option '--to'"),
    ],
)
def test_control_of_what_does_not_run_or_of_several_is_refused(
    past: Past, say: Say, file: str, words: tuple[str, ...], sentence: str
) -> None:
    past.record("r1", "p.py")
    said = say("backfill", *(file if word == "FILE" else word for word in words))
    assert (said.code, said.out) == (2, "")
    assert sentence in said.err


def test_list_without_a_running_backfill_says_so(past: Past, say: Say, days: Callable[..., Said]) -> None:
    days()
    assert say("backfill", "--list") == Said(0, "", "No backfill is running.\n")
    assert json.loads(say("backfill", "--list", "--format", "json").out)["backfills"] == []
    assert say("history").out.splitlines()[1].endswith("backfill Day 2010-03-01...2010-03-05")


def test_backfill_of_stale_dates_says_itself_what_is_run_again(past: Past, say: Callable[..., Said], file: str) -> None:
    line = ("backfill", file, "Day", "--from", "2010-01-01", "--to", "2010-01-03", "--stale")
    for more in (("--redo", "all"), ("--limit", "1")):
        said = say(*line, *more)
        assert (said.code, "--stale says itself what is run again: not with --limit or --redo" in said.err) == (2, True)
    said = say(*line, "--dry-run")
    assert said.code == 0
    assert "no task here tracks changes" in said.err
