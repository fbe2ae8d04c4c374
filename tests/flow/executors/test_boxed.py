"""The pool of workers, with workers that only answer: who gets which job, what comes of deaths, messages, cancels."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from jubako.boxes.job import Finished, Job, JobEvent, Message
from jubako.boxes.job import Printed as JobPrinted
from jubako.errors import BugError, HostError
from jubako.flow.executors.boxed import BoxedExecutor
from jubako.flow.executors.executor import Ended, Order, Printed, Remarked, Said
from jubako.flow.executors.inside import BoxMessage
from jubako.flow.parameters import IntParameter
from jubako.flow.tasks.task import Task
from jubako.flow.tasks.task_reference import dump_references


class Does(Task):
    n = IntParameter(default=0)


class FakeWorker:
    """A worker whose answers are put in by hand."""

    def __init__(self) -> None:
        self.is_alive = True
        self.jobs: list[Job] = []
        self.cancelled: list[str] = []
        self.closed = 0
        self.notes: list[str] = []
        self.answers: list[JobEvent] = []
        self.refusal: HostError | None = None

    def wait_until_ready(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def fileno(self) -> int:
        return 100 + id(self) % 100

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)

    def receive(self) -> Sequence[JobEvent]:
        answers, self.answers = self.answers, []
        return answers

    def take_notes(self) -> Sequence[str]:
        notes, self.notes = self.notes, []
        return notes

    def close(self) -> None:
        self.closed += 1
        self.is_alive = False


@pytest.fixture
def workers() -> list[FakeWorker]:
    return []


@pytest.fixture
def executor(workers: list[FakeWorker]) -> BoxedExecutor:
    def start() -> FakeWorker:
        workers.append(FakeWorker())
        return workers[-1]

    return BoxedExecutor(start, 2)


def order(attempt_id: str, timeout_s: float | None = None) -> Order:
    job = Job(id=attempt_id, label=attempt_id, call="m:f", payload=b"")
    return Order(attempt_id, Does(), timeout_s=timeout_s, job=job)


def message(job_id: str, what: Any, value: Any) -> Message:
    return Message(job_id, pickle.dumps(BoxMessage(what, value)))


def test_free_worker_is_used_again(executor: BoxedExecutor, workers: list[FakeWorker]) -> None:
    executor.start(order("1"))
    executor.start(order("2"))
    assert [[job.id for job in worker.jobs] for worker in workers] == [["1"], ["2"]]
    workers[0].answers = [Finished("1", "ok", wall_s=1.5)]
    (ended,) = executor.poll()
    assert isinstance(ended, Ended) and (ended.outcome, ended.wall_s) == ("ok", 1.5)
    executor.start(order("3"))
    assert [job.id for job in workers[0].jobs] == ["1", "3"]


def test_everything_a_box_says_is_passed_on(executor: BoxedExecutor, workers: list[FakeWorker]) -> None:
    executor.start(order("1"))
    workers[0].notes = ["tasks run in fresh interpreters"]
    workers[0].answers = [JobPrinted("1", b"x"), message("1", "percentage", 5)]
    assert executor.poll() == [
        Remarked("1", "tasks run in fresh interpreters"),
        Printed("1", b"x"),
        Said("1", "percentage", 5),
    ]


def test_exception_comes_over_where_it_can(executor: BoxedExecutor, workers: list[FakeWorker]) -> None:
    executor.start(order("1"))
    workers[0].answers = [
        message("1", "raised", pickle.dumps(KeyError("k"))),
        Finished("1", "failed", error="KeyError: 'k'", traceback="T"),
    ]
    (ended,) = executor.poll()
    assert isinstance(ended, Ended) and isinstance(ended.exception, KeyError)
    assert (ended.error, ended.traceback) == ("KeyError: 'k'", "T")


def test_exception_that_cannot_be_made_again_is_left_out(executor: BoxedExecutor, workers: list[FakeWorker]) -> None:
    executor.start(order("1"))
    workers[0].answers = [message("1", "raised", b"not a pickle"), Finished("1", "failed", error="E")]
    (ended,) = executor.poll()
    assert isinstance(ended, Ended) and (ended.outcome, ended.exception) == ("failed", None)


def test_needs_are_tasks_of_this_process(executor: BoxedExecutor, workers: list[FakeWorker]) -> None:
    executor.start(order("1"))
    workers[0].answers = [message("1", "needs", dump_references([Does(4)])), Finished("1", "failed")]
    (ended,) = executor.poll()
    assert isinstance(ended, Ended) and (ended.outcome, ended.requirements) == ("needs", (Does(4),))


def test_needs_that_are_unknown_here_fail_the_attempt(executor: BoxedExecutor, workers: list[FakeWorker]) -> None:
    executor.start(order("1"))
    sent = dump_references([Does(4)]).replace(b"Does", b"Toes")
    workers[0].answers = [message("1", "needs", sent), Finished("1", "failed")]
    (ended,) = executor.poll()
    assert isinstance(ended, Ended) and ended.outcome == "failed"
    assert "Toes" in ended.error


def test_timeout_says_which_limit(executor: BoxedExecutor, workers: list[FakeWorker]) -> None:
    executor.start(order("1", timeout_s=2.5))
    workers[0].answers = [Finished("1", "timeout")]
    (ended,) = executor.poll()
    assert isinstance(ended, Ended) and ended.error == "it ran longer than 2.5 s"


def test_dead_worker_is_closed_and_replaced(executor: BoxedExecutor, workers: list[FakeWorker]) -> None:
    executor.start(order("1"))
    workers[0].is_alive = False
    workers[0].answers = [Finished("1", "host", error="it died")]
    (ended,) = executor.poll()
    assert isinstance(ended, Ended) and ended.outcome == "host"
    executor.start(order("2"))
    assert (workers[0].closed, [job.id for job in workers[1].jobs]) == (1, ["2"])


def test_worker_that_died_while_idle_is_not_given_a_job(executor: BoxedExecutor, workers: list[FakeWorker]) -> None:
    executor.warm_up(2)
    workers[0].is_alive = False
    executor.start(order("1"))
    assert (workers[0].jobs, workers[0].closed, [job.id for job in workers[1].jobs]) == ([], 1, ["1"])


def test_warm_up_starts_no_more_than_are_needed_and_tells_why_it_cannot(workers: list[FakeWorker]) -> None:
    def start() -> FakeWorker:
        workers.append(FakeWorker())
        workers[-1].refusal = HostError("no namespaces")
        return workers[-1]

    executor = BoxedExecutor(start, 8)
    with pytest.raises(HostError, match="no namespaces"):
        executor.warm_up(3)
    executor.close()
    assert [worker.closed for worker in workers] == [1, 1, 1]


def test_cancel_asks_and_kill_ends(executor: BoxedExecutor, workers: list[FakeWorker]) -> None:
    executor.start(order("1"))
    executor.cancel("1")
    executor.cancel("no such attempt", kill=True)
    assert (workers[0].cancelled, executor.poll()) == (["1"], [])
    executor.cancel("1", kill=True)
    (ended,) = executor.poll()
    assert isinstance(ended, Ended) and ended.outcome == "cancelled"
    assert workers[0].closed >= 1
    assert executor.filenos() == []


def test_order_without_a_job_is_our_bug(executor: BoxedExecutor) -> None:
    with pytest.raises(BugError, match="has no job"):
        executor.start(Order("1", Does()))
