"""Calls owed after publishing."""

from __future__ import annotations

from jubako.flow.executors.executor import Ended
from jubako.flow.ledger.ledger import AttemptRecord, LedgerRun
from jubako.flow.parameters import IntParameter, Parameter, ParameterVisibility, values_from
from jubako.flow.run.owed import OwedCalls, dump_owed
from jubako.flow.tasks.task import Task
from jubako.testing import FakeExecutor, begin_fake_run, open_memory_ledger


class Plain(Task):
    pass


class Confides(Task):
    n = IntParameter()
    token = Parameter(visibility=ParameterVisibility.PRIVATE)

    def after_publish(self) -> None:
        raise AssertionError("the executor is a fake")


class Tells(Task):
    n = IntParameter()

    def after_publish(self) -> None:
        raise AssertionError("the executor is a fake")


def owe(run: LedgerRun, *tasks: Task, payload: bytes | None = None) -> None:
    with run.transaction():
        for number, task in enumerate(tasks):
            record = AttemptRecord(f"{task.task_id}-{number}", task.task_id, str(task), "published")
            run.record([record])
            run.owe(record, payload or dump_owed(task) or b"", 0.0)


def end_all(calls: OwedCalls, executor: FakeExecutor) -> None:
    for event in executor.poll():
        assert isinstance(event, Ended)
        calls.end(event)


def test_only_tasks_with_the_method_are_owed_one() -> None:
    assert dump_owed(Plain()) is None
    assert dump_owed(Tells(1)) is not None


def test_calls_are_made_a_few_at_a_time_and_struck_out() -> None:
    with open_memory_ledger() as ledger:
        run, executor = begin_fake_run(ledger), FakeExecutor()
        owe(run, Tells(1), Tells(2), Tells(3))
        calls = OwedCalls(run, lambda: executor, limit=2)
        calls.look()
        calls.look()
        assert executor.labels == ["Tells(n=1)", "Tells(n=2)"]
        assert [order.action for order in executor.orders] == ["after_publish"] * 2
        end_all(calls, executor)
        assert (executor.labels[2:], calls.is_busy) == (["Tells(n=3)"], True)
        end_all(calls, executor)
        assert (run.list_owed(), calls.is_busy, calls.errors) == ([], False, [])


def test_call_that_fails_stays_owed_and_is_not_made_twice_in_a_run() -> None:
    with open_memory_ledger() as ledger:
        run, executor = begin_fake_run(ledger), FakeExecutor({"Tells(n=1)": ["failed"]})
        owe(run, Tells(1))
        calls = OwedCalls(run, lambda: executor, limit=2)
        calls.look()
        end_all(calls, executor)
        calls.look()
        assert len(executor.orders) == 1
        assert [(owed.tries, owed.error) for owed in run.list_owed()] == [(1, "it was to end failed")]
        assert "called again by the next run" in calls.errors[0].sentence


def test_stopped_calls_stay_owed() -> None:
    with open_memory_ledger() as ledger:
        run, executor = begin_fake_run(ledger), FakeExecutor(by_hand=True)
        owe(run, Tells(1), Tells(2))
        calls = OwedCalls(run, lambda: executor, limit=1)
        calls.look()
        calls.stop()
        (attempt_id,) = calls.running
        executor.end(attempt_id, "cancelled")
        end_all(calls, executor)
        assert not calls.is_busy
        assert len(run.list_owed()) == 2


def test_payload_that_means_nothing_here_is_said() -> None:
    with open_memory_ledger() as ledger:
        run = begin_fake_run(ledger)
        owe(run, Tells(1), payload=b"no pickle")
        calls = OwedCalls(run, FakeExecutor, limit=1)
        calls.look()
        assert "cannot be made again" in calls.errors[0].sentence
        assert len(run.list_owed()) == 1


def test_call_that_was_just_owed_is_made_on_the_very_task() -> None:
    with open_memory_ledger() as ledger:
        run, executor = begin_fake_run(ledger), FakeExecutor()
        task = Confides(1, "hunter2")
        owe(run, task)
        OwedCalls(run, lambda: executor, limit=2).look([task])
        assert executor.orders[0].task is task


def test_concealed_value_is_not_written_down_and_comes_from_settings_later() -> None:
    assert b"hunter2" not in (dump_owed(Confides(1, "hunter2")) or b"hunter2")
    with open_memory_ledger() as ledger:
        run, executor = begin_fake_run(ledger), FakeExecutor()
        owe(run, Confides(1, "hunter2"))
        with values_from({("Confides", "token"): "of today"}):
            OwedCalls(run, lambda: executor, limit=2).look([Tells(1), None])
        assert executor.orders[0].task.token == "of today"
        lost = OwedCalls(run, lambda: executor, limit=2)
        lost.look()
        assert "Confides conceals token, which was not written down" in lost.errors[0].sentence
        assert len(run.list_owed()) == 1
