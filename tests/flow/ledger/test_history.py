"""What history says of runs and attempts. That writing and reading fit together is in `test_ledger.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jubako.boxes.state import StateRoot, open_state_root
from jubako.boxes.transactions.database import open_database
from jubako.errors import HostError, InputError
from jubako.flow.ledger.history import History, open_history, suggest
from jubako.flow.ledger.ledger import AttemptRecord, Ledger
from jubako.flow.run.presence import hold_presence
from jubako.testing.clock import FakeClock
from jubako.testing.ledger import begin_fake_run, open_memory_ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with open_memory_ledger() as opened:
        yield opened


def record(ledger: Ledger, run_id: str, *attempts: AttemptRecord, status: str = "", pipeline: str = "p.py") -> None:
    run = begin_fake_run(ledger, run_id, pipeline)
    with run.transaction():
        run.record(attempts)
    if status:
        run.end(status, {"done": len(attempts)}, 60.0)


@pytest.mark.parametrize(
    ("status", "living", "outcome", "has_failed"),
    [
        ("SUCCESS", False, "ok", False),
        ("SUCCESS_WITH_RETRY", False, "ok", False),
        ("INCOMPLETE", False, "incomplete", True),
        ("MISSING_EXT", False, "incomplete", True),
        ("FAILED", False, "failed", True),
        ("REFUSED", False, "refused", True),
        ("BROKEN", False, "failed", True),
        ("INTERRUPTED", False, "interrupted", False),
        ("", True, "running", False),
        ("", False, "killed", True),
    ],
)
def test_outcome_of_a_run_is_one_word(
    ledger: Ledger, status: str, living: bool, outcome: str, has_failed: bool
) -> None:
    record(ledger, "r1", status=status)
    (run,) = History(ledger.connection, lambda run_id: living).list_runs()
    assert (run.outcome, run.has_failed) == (outcome, has_failed)


def test_runs_that_failed_are_found_behind_many_that_did_not(ledger: Ledger) -> None:
    record(ledger, "bad", status="FAILED")
    for number in range(5):
        record(ledger, f"good-{number}", status="SUCCESS")
    assert [run.run_id for run in History(ledger.connection).list_runs(failed=True, limit=1)] == ["bad"]


def test_run_is_found_by_the_start_or_the_last_part_of_its_id(ledger: Ledger) -> None:
    for run_id in ("20100101T000000-aaaa", "20100101T000001-bbbb"):
        record(ledger, run_id)
    history = History(ledger.connection)
    assert history.get_run("20100101T000001").run_id == "20100101T000001-bbbb"
    assert history.get_run("aaaa").run_id == "20100101T000000-aaaa"
    assert history.find_run("2009") is None
    assert history.find_run("") is None


def test_run_named_by_too_little_is_refused_with_those_it_could_be(ledger: Ledger) -> None:
    for run_id in ("20100101T000000-aaaa", "20100101T000001-bbbb"):
        record(ledger, run_id)
    with pytest.raises(InputError, match="2 runs have an id that starts with 2010") as caught:
        History(ledger.connection).get_run("2010")
    assert "20100101T000000-aaaa" in caught.value.hint


def test_id_that_begins_another_means_itself(ledger: Ledger) -> None:
    record(ledger, "r1")
    record(ledger, "r11")
    assert History(ledger.connection).get_run("r1").run_id == "r1"


def test_unknown_run_is_refused_with_what_there_is(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="no run x") as caught:
        History(ledger.connection).get_run("x")
    assert caught.value.hint == "nothing has been run yet"
    record(ledger, "20100101T000000-aaaa")
    with pytest.raises(InputError) as caught:
        History(ledger.connection).get_run("20100101T000000-aaab")
    assert "20100101T000000-aaaa" in caught.value.hint


def test_attempts_are_chosen_by_run_task_and_failure(ledger: Ledger) -> None:
    day, days = AttemptRecord("1", "Day_1", "Day(n=1)", "published"), AttemptRecord("2", "Days_1", "Days()", "timeout")
    record(ledger, "r1", day, days)
    record(ledger, "r2", AttemptRecord("1", "Day_2", "Day(n=2)", "conflict"))
    record(ledger, "r3", AttemptRecord("1", "Day_1", "Day(n=1)", "published"), pipeline="q.py")
    history = History(ledger.connection)

    def found(*words: str, **options: object) -> list[tuple[str, str]]:
        return [(a.run_id, a.label) for a in history.list_attempts(*words, **options)]  # type: ignore[arg-type]

    assert found("p.py", "Day") == [("r2", "Day(n=2)"), ("r1", "Day(n=1)")]
    assert found("p.py", "Day(n=1)") == found("p.py", "Day_1") == [("r1", "Day(n=1)")]
    assert found(run_id="r1") == [("r1", "Days()"), ("r1", "Day(n=1)")]
    assert found("p.py", failed=True) == [("r2", "Day(n=2)"), ("r1", "Days()")]
    assert history.list_families("p.py") == ["Day", "Days"]


def test_last_outcome_of_each_task_is_that_of_its_newest_attempt(ledger: Ledger) -> None:
    record(ledger, "r1", AttemptRecord("1", "D_1", "D(n=1)", "failed"), AttemptRecord("2", "D_2", "D(n=2)", "failed"))
    record(ledger, "r2", AttemptRecord("1", "D_1", "D(n=1)", "published"), AttemptRecord("2", "E_1", "E()", "failed"))
    assert History(ledger.connection).last_outcomes("p.py", "D") == {"D_1": "published", "D_2": "failed"}


def test_last_failures_are_of_tasks_whose_newest_attempt_failed(ledger: Ledger) -> None:
    record(ledger, "r1", AttemptRecord("1", "A", "A()", "failed"), AttemptRecord("2", "B", "B()", "failed", "it broke"))
    record(ledger, "r2", AttemptRecord("1", "A", "A()", "published"), AttemptRecord("2", "B", "B()", "cancelled"))
    found = History(ledger.connection).find_last_failures("p.py", ["A", "B", "C"])
    assert {task_id: (attempt.run_id, attempt.error) for task_id, attempt in found.items()} == {"B": ("r1", "it broke")}


def test_undeclared_writes_are_counted_by_run(ledger: Ledger) -> None:
    stray = AttemptRecord("1", "T_1", "T()", "published", undeclared=["/a", "/b"])
    record(ledger, "r1", stray, AttemptRecord("2", "T_2", "T()", "failed", undeclared=["/c"]))
    record(ledger, "r2", AttemptRecord("1", "T_1", "T()", "published"))
    assert History(ledger.connection).count_undeclared() == {"r1": 3}


def test_pipeline_is_found_also_when_its_file_is_gone(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "own_tasks.py"
    file.touch()
    record(ledger, "r1", pipeline=str(file))
    history = History(ledger.connection)
    assert history.find_pipeline(str(tmp_path)) == history.find_pipeline(str(file)) == str(file)
    file.unlink()
    assert history.find_pipeline(str(file)) == str(file)
    assert history.find_pipeline(str(tmp_path / "other.py")) is None


def test_open_run_is_running_while_its_lock_is_held_and_killed_when_not(tmp_path: Path) -> None:
    state = open_state_root(str(tmp_path / "state"))
    with closing(open_database(state.ledger_path, durability="relaxed")) as connection:
        run = begin_fake_run(Ledger(connection), "r1")
        run.leases.claim(["T_1"], FakeClock().moment())
        with hold_presence(state, "r1"), open_history(state.path) as history:
            assert history.get_run("r1").outcome == "running"
            assert {task: held.run_id for task, held in history.list_held("pipeline.py").items()} == {"T_1": "r1"}
        with open_history(state.path) as history:
            assert history.get_run("r1").outcome == "killed"
            assert history.list_held("pipeline.py") == {}


def test_history_of_nothing_is_empty_and_makes_nothing(tmp_path: Path) -> None:
    with open_history(str(tmp_path / "state")) as history:
        assert history.list_runs() == history.list_attempts() == []
    assert list(tmp_path.iterdir()) == []


def test_ledger_that_is_none_is_refused_with_its_name(tmp_path: Path) -> None:
    state = StateRoot(str(tmp_path))
    Path(state.ledger_path).write_text("something else, and long enough to be looked at" * 10)
    with pytest.raises(HostError, match=r"ledger\.sqlite is damaged"), open_history(state.path):
        pass


def test_nearest_names_are_suggested() -> None:
    assert suggest("Daliy", ["Daily", "Monthly"]) == "did you mean Daily?"
    assert suggest("x", ["Daily"]) == ""
