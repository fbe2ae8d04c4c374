"""The executor that is this process."""

from __future__ import annotations

from typing import Any

from jubako.flow.executors.executor import Ended, Order, Said
from jubako.flow.executors.in_process import InProcessExecutor
from jubako.flow.parameters import IntParameter
from jubako.flow.tasks.task import Task


class Does(Task):
    n = IntParameter(default=0)

    def run(self) -> Any:
        assert self.set_status_message is not None
        self.set_status_message(f"{self.n}")


def test_poll_runs_one_order_and_tells_all_of_it() -> None:
    executor = InProcessExecutor(lambda task: False)
    executor.start(Order("1", Does(1)))
    executor.start(Order("2", Does(2)))
    said, ended = executor.poll()
    assert said == Said("1", "message", "1")
    assert isinstance(ended, Ended) and (ended.attempt_id, ended.outcome, ended.handlers_called) == ("1", "ok", True)
    assert executor.is_ready
    assert [event.attempt_id for event in executor.poll()] == ["2", "2"]
    assert not executor.is_ready


def test_cancel_takes_back_what_has_not_begun() -> None:
    executor = InProcessExecutor(lambda task: False)
    executor.start(Order("1", Does(1)))
    executor.cancel("1")
    executor.cancel("no such attempt")
    (ended,) = executor.poll()
    assert isinstance(ended, Ended) and ended.outcome == "cancelled"


def test_is_running_is_true_only_while_a_task_is() -> None:
    executor = InProcessExecutor(lambda task: False)
    seen = []

    class Looks(Task):
        def run(self) -> None:
            seen.append(executor.is_running)

    executor.start(Order("1", Looks()))
    executor.poll()
    assert (seen, executor.is_running) == ([True], False)


def test_close_ends_generators_that_wait() -> None:
    executor = InProcessExecutor(lambda task: False)
    seen = []

    class Waits(Task):
        def run(self) -> Any:
            try:
                yield Does(9)
            finally:
                seen.append("closed")

    executor.start(Order("1", Waits()))
    (ended,) = executor.poll()
    assert isinstance(ended, Ended) and list(ended.requirements) == [Does(9)]
    executor.close()
    assert seen == ["closed"]


def test_after_publish_is_called_instead_of_run() -> None:
    seen = []

    class Tells(Task):
        def run(self) -> None:
            seen.append("run")

        def after_publish(self) -> None:
            seen.append("after_publish")

    executor = InProcessExecutor(lambda task: False)
    executor.start(Order("1", Tells(), action="after_publish"))
    executor.poll()
    assert seen == ["after_publish"]
