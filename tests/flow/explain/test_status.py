"""What dated tasks stand at: what is there, against what the ledger says."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako.flow.engine.disabling import Verdict
from jubako.flow.explain.status import Recorded, States, Stretch, join_stretches
from jubako.flow.ledger.history import History
from jubako.flow.ledger.ledger import AttemptRecord, Ledger
from jubako.flow.ledger.partitions import find_partition
from jubako.flow.parameters import DateParameter, IntParameter, Parameter
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.tasks.task import ExternalTask, Task, WrapperTask
from jubako.testing.clock import FakeClock
from jubako.testing.ledger import begin_fake_run, open_memory_ledger

FOLDER = Path()


class Day(Task):
    date = DateParameter()
    city = Parameter(default="Oslo", significant=False)

    def output(self) -> LocalTarget:
        return LocalTarget(str(FOLDER / f"{self.date}"))

    def run(self) -> None:
        raise AssertionError


class Given(ExternalTask):
    date = DateParameter()

    def output(self) -> LocalTarget:
        return LocalTarget(str(FOLDER / f"{self.date}"))


class Wrapped(WrapperTask):
    date = DateParameter()

    def requires(self) -> Given:
        return Given(date=self.date)


class Broken(Day):
    def complete(self) -> bool:
        raise ConnectionError("no route to host")


class TwoDates(Task):
    date = DateParameter()
    as_of = DateParameter()

    def output(self) -> LocalTarget:
        return LocalTarget(str(FOLDER / f"{self.date}"))

    def run(self) -> None:
        raise AssertionError


def day(number: int) -> datetime.date:
    return datetime.date(2010, 3, number)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(globals(), "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with open_memory_ledger() as opened:
        yield opened


def record(ledger: Ledger, tasks: list[Task], outcome: str, run_id: str = "r1") -> None:
    run = begin_fake_run(ledger, run_id, "p.py")
    with run.transaction():
        run.record(
            [AttemptRecord("1", task.task_id, str(task), outcome, partition=find_partition(task)) for task in tasks]
        )


def states(ledger: Ledger, tasks: list[Any], *, living: Callable[[str], bool] = lambda _: False) -> list[str]:
    return list(States(History(ledger.connection, living), "p.py", tasks[0].get_task_family()).look(tasks))


def test_state_is_what_is_there_and_what_was_recorded(ledger: Ledger, folder: Path) -> None:
    days = [Day(date=day(number)) for number in range(1, 7)]
    for number in (1, 2, 3):
        (folder / str(day(number))).touch()
    record(ledger, [days[0], days[3]], "published")
    record(ledger, [days[1], days[4]], "failed", "r2")
    assert states(ledger, days) == ["done", "unrecorded", "unrecorded", "gone", "failed", "missing"]


def test_state_of_what_a_living_run_has_is_running_until_it_is_there(ledger: Ledger, folder: Path) -> None:
    days = [Day(date=day(1)), Day(date=day(2))]
    (folder / str(day(1))).touch()
    run = begin_fake_run(ledger, "r1", "p.py")
    run.leases.claim([task.task_id for task in days], FakeClock().moment())
    assert states(ledger, days, living=lambda run_id: run_id == "r1") == ["unrecorded", "running"]
    assert states(ledger, days) == ["unrecorded", "missing"]


def test_state_of_what_owes_a_call_is_owed(ledger: Ledger, folder: Path) -> None:
    task = Day(date=day(1))
    (folder / str(day(1))).touch()
    run = begin_fake_run(ledger, "r1", "p.py")
    attempt = AttemptRecord("1", task.task_id, str(task), "published", partition=find_partition(task))
    with run.transaction():
        run.record([attempt])
        run.owe(attempt, b"", 1.0)
    assert states(ledger, [task]) == ["owed"]


def test_state_of_what_no_task_makes_is_done_without_a_record(ledger: Ledger, folder: Path) -> None:
    (folder / str(day(1))).touch()
    assert states(ledger, [Given(date=day(1)), Given(date=day(2))]) == ["done", "missing"]
    assert states(ledger, [Wrapped(date=day(1)), Wrapped(date=day(2))]) == ["done", "missing"]


def test_state_of_a_disabled_task_is_disabled_unless_it_is_there(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Day, "disabled", True)
    (folder / str(day(1))).touch()
    record(ledger, [Day(date=day(1))], "published")
    assert states(ledger, [Day(date=day(1)), Day(date=day(2))]) == ["done", "disabled"]


def test_state_of_what_has_failed_too_often_is_disabled_unless_it_is_there(ledger: Ledger, folder: Path) -> None:
    days = [Day(date=day(number)) for number in (1, 2, 3)]
    (folder / str(day(1))).touch()
    history = History(ledger.connection)
    judge = {days[0]: Verdict(0, 5.0), days[1]: Verdict(0, 5.0), days[2]: Verdict(1)}.__getitem__
    assert States(history, "p.py", "Day", judge).look(days) == ["unrecorded", "disabled", "missing"]


def test_state_of_a_task_that_cannot_be_asked_is_broken(ledger: Ledger, folder: Path) -> None:
    assert states(ledger, [Broken(date=day(1))]) == ["broken"]
    assert States(History(ledger.connection), "p.py", "Broken").look([]) == []


def test_state_of_a_task_with_two_dates_is_known_from_its_attempts(ledger: Ledger, folder: Path) -> None:
    tasks: list[Any] = [TwoDates(date=day(number), as_of=day(9)) for number in (1, 2, 3)]
    record(ledger, tasks[:1], "timeout")
    record(ledger, tasks[1:2], "published", "r2")
    assert states(ledger, tasks) == ["failed", "gone", "missing"]
    assert Recorded(History(ledger.connection), "p.py", "TwoDates").find_ends(tasks[0]) is None


class Other(Task):
    date = DateParameter(interval=3)
    number = IntParameter(default=1)


def test_recorded_ends_are_those_of_the_same_other_parameters(ledger: Ledger) -> None:
    record(ledger, [Other(date=day(3)), Other(date=day(20)), Other(date=day(30), number=2)], "published")
    recorded = Recorded(History(ledger.connection), "p.py", "Other")
    first, last = Other(date=day(3)).date, Other(date=day(20)).date
    assert recorded.find_ends(Other(date=day(9))) == (first, last)
    assert recorded.find_ends(Other(date=day(9), number=3)) is None


def test_neighbours_in_one_state_are_one_stretch() -> None:
    found = join_stretches([1, 2, 3, 5], ["done", "done", "failed", "failed"])
    assert found == [Stretch(1, 2, "done", 2), Stretch(3, 5, "failed", 2)]
