"""The runner's end of a worker: what it refuses, and how it ends. What jobs see is in tests/system/narrow_box."""

from __future__ import annotations

import os
import select
import signal

import pytest

from jubako.boxes.job import Finished, Job
from jubako.boxes.worker import Worker
from jubako.errors import BugError, HostError

pytestmark = pytest.mark.box
DEADLINE_S = 30


def job(name: str, call: str = "os:getpid") -> Job:
    return Job(name, f"Test({name})", call, b"")


def finish(worker: Worker) -> Finished:
    while select.select([worker], [], [], DEADLINE_S)[0]:
        for event in worker.receive():
            if isinstance(event, Finished):
                return event
    pytest.fail("the worker said nothing")


def test_job_may_be_submitted_before_the_worker_is_ready() -> None:
    with Worker.start() as worker:
        worker.submit(job("early"))
        assert worker.job is not None
        finished = finish(worker)
        assert worker.state is not None
        assert worker.state.mode == "fork"
        assert worker.job is None
    assert (finished.job_id, finished.outcome) == ("early", "failed")
    assert "takes no arguments" in finished.error


def test_second_job_at_once_is_our_mistake() -> None:
    with Worker.start() as worker:
        worker.submit(job("one"))
        with pytest.raises(BugError, match="two is submitted while one runs"):
            worker.submit(job("two"))


def test_worker_that_died_refuses_jobs_and_says_how_it_died() -> None:
    with Worker.start() as worker:
        worker.wait_until_ready(DEADLINE_S)
        os.kill(worker.pid, signal.SIGKILL)
        while worker.is_alive:
            select.select([worker], [], [], DEADLINE_S)
            assert worker.receive() == []
        with pytest.raises(HostError, match="was killed by signal 9"):
            worker.submit(job("late"))


def test_worker_whose_pipeline_cannot_be_loaded_answers_for_its_job() -> None:
    with Worker.start("no_such_module:load") as worker:
        worker.submit(job("one"))
        finished = finish(worker)
        assert (finished.job_id, finished.outcome) == ("one", "host")
        assert "the pipeline cannot be loaded: ModuleNotFoundError" in finished.error
        assert not worker.is_alive
        assert worker.state is not None
        assert "No module named 'no_such_module'" in worker.state.traceback
        with pytest.raises(HostError):
            worker.wait_until_ready(DEADLINE_S)


def test_worker_that_is_not_ready_in_time_is_said() -> None:
    with Worker.start("time:sleep") as worker, pytest.raises(TimeoutError):
        worker.wait_until_ready(0)


def test_closing_ends_a_running_job_and_may_be_repeated() -> None:
    worker = Worker.start()
    worker.submit(job("one", "signal:pause"))
    worker.close()
    worker.close()
    assert not worker.is_alive


def test_cancelling_what_does_not_run_does_nothing() -> None:
    with Worker.start() as worker:
        worker.cancel("nothing")
        worker.submit(job("one"))
        worker.cancel("another")
        assert finish(worker).job_id == "one"
