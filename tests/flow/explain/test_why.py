"""Why tasks would run or not: each reason once, with what it says."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako.flow.engine.disabling import Disabling, Limit
from jubako.flow.explain.why import Why, explain_task
from jubako.flow.ledger.history import History
from jubako.flow.ledger.ledger import AttemptRecord, Ledger
from jubako.flow.ledger.partitions import find_partition
from jubako.flow.parameters import DateParameter
from jubako.flow.ranges.range import RangeDaily
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.targets.target import Target
from jubako.flow.tasks.task import ExternalTask, Task, WrapperTask
from jubako.testing.clock import FakeClock
from jubako.testing.ledger import begin_fake_run, open_memory_ledger

FOLDER = Path()


class Raw(ExternalTask):
    date = DateParameter()

    def output(self) -> LocalTarget:
        return LocalTarget(str(FOLDER / f"raw-{self.date}"))


class Day(Task):
    date = DateParameter()

    def requires(self) -> Any:
        return Raw(date=self.date)

    def output(self) -> LocalTarget:
        return LocalTarget(str(FOLDER / f"day-{self.date}"))

    def run(self) -> None:
        raise AssertionError


class Report(Task):
    def requires(self) -> list[Day]:
        return [Day(date=datetime.date(2010, 3, number)) for number in (1, 2)]

    def output(self) -> dict[str, LocalTarget]:
        return {"html": LocalTarget(str(FOLDER / "report")), "text": LocalTarget(str(FOLDER / "text"))}

    def run(self) -> None:
        raise AssertionError


class All(WrapperTask):
    def requires(self) -> Report:
        return Report()


class Nothing(Task):
    def run(self) -> None:
        raise AssertionError


class Raising(Day):
    def output(self) -> LocalTarget:
        raise ConnectionError("no route to host")


class Round(Task):
    def requires(self) -> Any:
        return Round()

    def complete(self) -> bool:
        return False


DAY = Day(date=datetime.date(2010, 3, 1))


class Case:
    """A folder, a ledger, and the question."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder = folder
        self.ledger = ledger

    def put(self, *names: str) -> None:
        for name in names:
            (self.folder / name).touch()
            os.utime(self.folder / name, (1_000_000.0, 1_000_000.0))

    def record(self, task: Any, outcome: str, run_id: str = "r1", error: str = "") -> None:
        run = begin_fake_run(self.ledger, run_id, "p.py")
        attempt = AttemptRecord(
            "1", task.task_id, str(task), outcome, error, 1_000_000.0, partition=find_partition(task)
        )
        with run.transaction():
            run.record([attempt])

    def ask(self, task: Any, living: Callable[[str], bool] = lambda _: False) -> Why:
        return explain_task(task, History(self.ledger.connection, living), "p.py", lambda seconds: f"at {seconds:.0f}")

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    monkeypatch.setitem(globals(), "FOLDER", tmp_path)
    with open_memory_ledger() as ledger:
        yield Case(tmp_path, ledger)


def said(answer: Why) -> tuple[str, str, str]:
    return answer.verdict, answer.reason, answer.sentence


def test_done_and_recorded_names_the_run_that_made_it(case: Case) -> None:
    case.put("day-2010-03-01")
    case.record(DAY, "published")
    answer = case.ask(DAY)
    assert said(answer) == ("done", "complete", f"{DAY} is done: made by run r1 (at 1000000)")
    assert [fact.text for fact in answer.facts] == [f"there since at 1000000: {case.path('day-2010-03-01')}"]


def test_output_changed_after_its_run_is_said_to_be(case: Case) -> None:
    case.put("day-2010-03-01")
    case.record(DAY, "published")
    os.utime(case.folder / "day-2010-03-01", (1_000_060.0, 1_000_060.0))
    (fact,) = case.ask(DAY).facts
    assert fact.text.endswith(", changed after that run by something else")


def test_done_and_made_by_something_else(case: Case) -> None:
    case.put("day-2010-03-01")
    answer = case.ask(DAY)
    assert answer.reason == "made_elsewhere"
    assert answer.sentence.endswith("and no run is known to have made it: something else did")
    case.record(DAY, "failed", error="it broke\nbadly")
    answer = case.ask(DAY)
    assert answer.reason == "made_elsewhere"
    assert answer.sentence == f"{DAY} is done, though no attempt at it has succeeded: something else made what is there"
    assert answer.facts[-1].text == "failed in run r1 (at 1000000): it broke"


def test_done_and_run_again_in_vain_is_still_what_the_first_run_made(case: Case) -> None:
    case.put("day-2010-03-01")
    case.record(DAY, "published")
    case.record(DAY, "failed", "r2", error="it broke")
    answer = case.ask(DAY)
    assert said(answer) == (
        "done",
        "complete",
        f"{DAY} is done: made by run r1 (at 1000000); a later attempt failed, and left it as it was",
    )
    assert answer.facts[-1].text == "failed in run r2 (at 1000000): it broke"


class Elsewhere(Target):
    """Something that is no file of this machine."""

    def exists(self) -> bool:
        raise ConnectionError("no route to host")

    def __str__(self) -> str:
        return "table sales"


class Stored(Task):
    def output(self) -> Elsewhere:
        return Elsewhere()

    def complete(self) -> bool:
        return False

    def run(self) -> None:
        raise AssertionError


def test_target_that_cannot_be_asked_is_a_fact_and_no_defect(case: Case) -> None:
    answer = case.ask(Stored())
    assert answer.sentence == "Stored() would run: it is not complete, and was never made"
    assert [fact.text for fact in answer.facts] == ["cannot be asked, ConnectionError: no route to host: table sales"]


def test_done_by_a_run_whose_attempts_are_forgotten(case: Case) -> None:
    case.put("day-2010-03-01")
    case.record(DAY, "published")
    case.ledger.connection.execute("DELETE FROM attempts")
    assert said(case.ask(DAY))[2] == f"{DAY} is done: made by a run that history has forgotten"
    (case.folder / "day-2010-03-01").unlink()
    case.put("raw-2010-03-01")
    answer = case.ask(DAY)
    assert answer.reason == "gone"
    assert "a run made it that history has forgotten, and it was deleted since" in answer.sentence


def test_done_that_owes_a_call_says_so(case: Case) -> None:
    case.put("day-2010-03-01")
    run = begin_fake_run(case.ledger, "r1", "p.py")
    attempt = AttemptRecord("1", DAY.task_id, str(DAY), "published")
    with run.transaction():
        run.record([attempt])
        run.owe(attempt, b"", 1.0)
    run.settle_owed(run.list_owed()[0].number, "no route to host")
    assert "after_publish() has not succeeded yet: no route to host" in case.ask(DAY).facts[-1].text


def test_external_and_wrapper_are_done_as_what_they_are(case: Case) -> None:
    case.put("raw-2010-03-01", "report", "text")
    assert case.ask(Raw(date=DAY.date)).sentence == f"{Raw(date=DAY.date)} is there; no task makes it"
    assert case.ask(All()).sentence == "All() is done: all it stands for is done (1 task)"


def test_missing_output_that_was_never_made(case: Case) -> None:
    case.put("raw-2010-03-01")
    answer = case.ask(DAY)
    sentence = f"{DAY} would run: {case.path('day-2010-03-01')} is not there, and was never made"
    assert said(answer) == ("would_run", "missing", sentence)
    assert answer.to_run == 1


def test_missing_output_that_a_run_had_made_is_gone(case: Case) -> None:
    case.put("raw-2010-03-01")
    case.record(DAY, "published")
    answer = case.ask(DAY)
    assert answer.reason == "gone"
    assert answer.sentence.endswith("is not there any more: run r1 (at 1000000) made it, and it was deleted since")


def test_missing_output_of_a_failed_attempt_has_its_error(case: Case) -> None:
    case.put("raw-2010-03-01")
    case.record(DAY, "published")
    case.record(DAY, "timeout", "r2", error="took longer than 5 s\nand more")
    case.record(DAY, "cancelled", "r3")
    answer = case.ask(DAY)
    assert answer.reason == "failed"
    assert answer.sentence.endswith("since the last attempt failed, in run r2 (at 1000000): took longer than 5 s")


def test_several_outputs_missing_are_counted(case: Case) -> None:
    case.put("day-2010-03-01", "day-2010-03-02")
    assert f"{case.path('report')} and 1 more output are not there" in case.ask(Report()).sentence
    case.put("report")
    assert f"would run: {case.path('text')} is not there" in case.ask(Report()).sentence


def test_external_input_that_is_missing_is_named_with_the_way_to_it(case: Case) -> None:
    case.put("raw-2010-03-01")
    answer = case.ask(All())
    raw = Raw(date=datetime.date(2010, 3, 2))
    assert said(answer) == (
        "cannot",
        "external_missing",
        f"All() cannot run: it needs {raw}, which is missing: {case.path('raw-2010-03-02')} is not there, "
        "and no task makes it",
    )
    assert [str(task) for task in answer.chain] == ["All()", "Report()", "Day(date=2010-03-02)", str(raw)]
    assert answer.facts[0].text == f"All() -> Report() -> Day(date=2010-03-02) -> {raw}"
    answer = case.ask(raw)
    assert answer.sentence.startswith(f"{raw} is missing: ")


def test_several_missing_inputs_are_all_counted(case: Case) -> None:
    answer = case.ask(Report())
    assert [fact.kind for fact in answer.facts] == ["chain", "need"]
    assert "raw-2010-03-02 is not there" in answer.facts[1].text


def test_needs_that_can_be_made_are_counted_and_the_failed_one_is_named(case: Case) -> None:
    case.put("raw-2010-03-01", "raw-2010-03-02")
    second = Day(date=datetime.date(2010, 3, 2))
    case.record(second, "failed", error="it broke")
    answer = case.ask(Report())
    assert said(answer) == (
        "would_run",
        "after_others",
        f"Report() would run, after 2 tasks that it needs, {DAY} among them: they are not done either",
    )
    assert answer.to_run == 3
    assert [fact.text for fact in answer.facts[:2]] == [
        f"Report() -> {second}",
        f"{second} failed last time: it broke",
    ]
    case.put("day-2010-03-02")
    assert case.ask(Report()).sentence == f"Report() would run, after {DAY}: it is not done either"


def test_task_that_a_living_run_has_is_being_made(case: Case) -> None:
    case.put("raw-2010-03-01", "raw-2010-03-02")
    run = begin_fake_run(case.ledger, "r1", "p.py")
    run.leases.claim([DAY.task_id], FakeClock().moment())
    answer = case.ask(DAY, living=lambda _: True)
    assert (answer.verdict, answer.reason) == ("running", "running")
    assert f"{DAY} is being made: run r1 (pid 1, since at " in answer.sentence
    assert f"{DAY} is being made: run r1" in case.ask(Report(), living=lambda _: True).facts[0].text
    assert case.ask(DAY).verdict == "would_run"


def test_task_that_has_failed_too_often_cannot_run_until_then(case: Case) -> None:
    case.put("raw-2010-03-01", "raw-2010-03-02")
    case.record(DAY, "failed")
    history = History(case.ledger.connection)

    def ask(task: Any, now_s: float) -> Why:
        limit = Limit(after=1, for_s=100.0)
        judge = Disabling(lambda: history.list_endings("p.py"), limit, now_s).judge
        return explain_task(task, history, "p.py", str, judge)

    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(1_000_100.0))
    answer = ask(DAY, 1_000_099.0)
    assert said(answer) == ("cannot", "disabled", f"{DAY} has failed too often and is disabled until {until}")
    needing = ask(Report(), 1_000_099.0)
    assert needing.sentence == (
        f"Report() cannot run: it needs {DAY}, which has failed too often and is disabled until {until}"
    )
    assert needing.chain == [Report(), DAY]
    assert ask(DAY, 1_000_101.0).reason == "failed"
    assert case.ask(DAY).reason == "failed"
    assert history.list_endings("other.py") == {}


def test_disabled_broken_and_circular_tasks_cannot_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(case.ask(Raising(date=DAY.date)))[:2] == ("cannot", "broken")
    assert "ConnectionError: no route to host" in case.ask(Raising(date=DAY.date)).sentence
    answer = case.ask(Round())
    assert said(answer)[:2] == ("cannot", "ring")
    assert "Round() -> Round()" in answer.sentence
    monkeypatch.setattr(Day, "disabled", True)
    assert said(case.ask(DAY)) == ("cannot", "disabled", f"{DAY} is disabled (its class says so)")
    assert case.ask(Report()).sentence == f"Report() cannot run: it needs {DAY}, which is disabled (its class says so)"


def test_task_without_outputs_is_never_done(case: Case) -> None:
    assert said(case.ask(Nothing())) == (
        "would_run", "no_outputs", "Nothing() would run: it has no outputs, so it is never done",
    )  # fmt: skip


def a_range(**options: Any) -> Any:
    march = {"start": datetime.date(2010, 3, 1), "stop": datetime.date(2010, 3, 11)}
    return RangeDaily(of=Day, now=1268611200, **march, **options)  # 2010-03-15


def test_range_says_what_it_leaves_out_and_why(case: Case) -> None:
    case.put("day-2010-03-08")
    answer = case.ask(a_range(days_back=9, task_limit=2))
    assert said(answer)[:2] == ("would_run", "missing")
    assert answer.sentence.endswith(
        "would run: 10 wanted = 1 done + 2 would run + 5 outside its window + 2 over its limit"
    )
    assert [fact.text for fact in answer.facts] == [
        "5 of Day outside its window (days back 9, days forward 0): 2010-03-01...2010-03-05",
        "2 of Day over its limit (2): 2010-03-09...2010-03-10",
    ]


def test_range_whose_window_is_done_and_not_the_rest_is_not_done(case: Case) -> None:
    case.put("day-2010-03-09", "day-2010-03-10")
    answer = case.ask(a_range(days_back=6))
    assert said(answer)[:2] == ("incomplete", "left_out")
    assert answer.sentence.endswith("looks done and is not whole: 10 wanted = 2 done + 8 outside its window")
    case.put(*(f"day-2010-03-{number:02}" for number in range(1, 9)))
    answer = case.ask(a_range(days_back=99))
    assert said(answer)[:2] == ("done", "complete")


class Ranged(WrapperTask):
    def requires(self) -> Any:
        return a_range(days_back=6)


def test_task_that_needs_a_range_says_what_that_leaves_out(case: Case) -> None:
    case.put(*(f"raw-2010-03-{number:02}" for number in range(1, 11)))
    answer = case.ask(Ranged())
    assert answer.reason == "after_others"
    assert [fact.text for fact in answer.facts] == [
        "8 of Day outside its window (days back 6, days forward 0): 2010-03-01...2010-03-08"
    ]
