"""`jubako status`: the calendar, its legend, and the same as intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jubako.flow.ledger.ledger import AttemptRecord
from jubako.flow.ledger.partitions import Partition
from jubako.flow.tasks.register import Register

from .conftest import Past, Said

Say = Callable[..., Said]
PIPELINE = """
from jubako import DateParameter, LocalTarget, Parameter, ParameterVisibility, Task

class Day(Task):
    date = DateParameter()
    city = Parameter(default="Oslo")
    key = Parameter(default="", visibility=ParameterVisibility.PRIVATE)

    def output(self):
        return LocalTarget(f"days/{self.city}-{self.date}")

    def run(self):
        raise AssertionError

class Undated(Task):
    pass
"""
FIRST = 14669  # 2010-03-01 in days from 1970


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    classes = list(Register._reg)
    path = tmp_path / f"status_{tmp_path.name.replace('-', '_')}.py"
    path.write_text(PIPELINE)
    (tmp_path / "days").mkdir()
    monkeypatch.chdir(tmp_path)
    yield str(path)
    Register._reg[:] = classes
    Register.clear_instance_cache()


@pytest.fixture
def march(past: Past, file: str) -> Past:
    """1 and 2 March made, 2 and 3 gone or failed since, 4 made by somebody else."""
    for number, outcome in enumerate(("published", "published", "failed")):
        partition = Partition("Day", "city=Oslo", "date", "day", FIRST + number)
        past.record(f"r{number}", file, AttemptRecord("1", f"D{number}", "Day()", outcome, partition=partition))
    for number in (1, 4):
        Path("days", f"Oslo-2010-03-0{number}").touch()
    return past


def test_calendar_has_a_letter_a_day_and_a_legend_with_counts(march: Past, say: Say, file: str) -> None:
    said = say("status", file, "Day", "--month", "2010-03")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "2010-03",
        "    M T W T F S S",
        " 1  # ? X + . . .",
        " 8  . . . . . . .",
        "15  . . . . . . .",
        "22  . . . . . . .",
        "29  . . .",
        "",
        "#  done                          1",
        "+  there, not recorded as done   1  2010-03-04",
        ".  missing                      27  2010-03-05...2010-03-31",
        "?  recorded done, gone since     1  2010-03-02",
        "X  failed                        1  2010-03-03",
    ]


def test_without_a_range_all_that_is_recorded_is_shown(march: Past, say: Say, file: str) -> None:
    assert say("status", file, "Day", "--format", "csv").out.splitlines() == [
        "from,to,state,count",
        "2010-03-01,2010-03-01,done,1",
        "2010-03-02,2010-03-02,gone,1",
        "2010-03-03,2010-03-03,failed,1",
    ]


def test_status_for_programs_is_intervals_and_counts(march: Past, say: Say, file: str) -> None:
    document = json.loads(
        say("status", file, "Day", "--from", "2010-03-03", "--to", "2011-03-03", "--format", "json").out
    )
    assert document == {
        "schema": "jubako.status/1",
        "task": "Day",
        "parameter": "date",
        "parameters": {},
        "wanted": 365,
        "counts": {"failed": 1, "unrecorded": 1, "missing": 363},
        "intervals": [
            {"from": "2010-03-03", "to": "2010-03-03", "state": "failed", "count": 1},
            {"from": "2010-03-04", "to": "2010-03-04", "state": "unrecorded", "count": 1},
            {"from": "2010-03-05", "to": "2011-03-02", "state": "missing", "count": 363},
        ],
    }


def test_other_parameters_have_a_calendar_of_their_own(march: Past, say: Say, file: str) -> None:
    said = say("status", file, "Day", "--city", "Rome", "--key", "s3cret", "--month", "2010-03", "--format", "json")
    assert json.loads(said.out)["counts"] == {"missing": 31}
    assert json.loads(said.out)["parameters"] == {"city": "Rome"}
    assert "s3cret" not in said.out


def test_more_cells_than_can_be_seen_are_said_to_be_coarser(past: Past, say: Say, file: str) -> None:
    said = say("status", file, "Day", "--from", "2000-01-01", "--to", "2020-01-01")
    assert "There are too many days: each letter is a month, and the worst in it." in said.out
    assert ".  missing  7,305  2000-01-01...2019-12-31" in said.out


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        ("Day", "nothing of Day with these parameters is recorded", "--month or --year"),
        ("Day --month 2010-13", "--month '2010-13' can't be read", "YYYY-MM"),
        ("Day --month 2010-03 --year 2010", "one of --from and --to, --month, or --year", "--help"),
        ("Day --from 2010-03-0x", "can't be read: its form is not YYYY-MM-DD", ""),
        ("Day --date 2010-03-01 --month 2010-03", "was given", "only one"),
        ("Undated --month 2010-03", "Undated has no parameter for a date", "DateParameter"),
        ("Dya --month 2010-03", "there is no task 'Dya'", "did you mean Day"),
    ],
)
def test_what_cannot_be_shown_is_refused(past: Past, say: Say, file: str, words: str, sentence: str, hint: str) -> None:
    said = say("status", file, *words.split())
    assert (said.code, said.out) == (2, "")
    assert sentence in said.err
    assert hint in said.err.partition("\n")[2]


def test_status_without_a_task_lists_them(past: Past, say: Say, file: str) -> None:
    said = say("status", file)
    assert said.code == 2
    assert said.out.startswith("Day --date YYYY-MM-DD [--city TEXT]")
