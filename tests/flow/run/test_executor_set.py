"""Which executor a task goes to."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.flow.options import RunOptions
from jubako.flow.run.executor_set import ExecutorSet
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.targets.mock import MockTarget
from jubako.flow.tasks.task import Task, WrapperTask


class Files(Task):
    def output(self) -> Any:
        return [LocalTarget("/nowhere/a")]

    def run(self) -> None:
        pass


class Limited(Files):
    worker_timeout = 5


class InMemory(Task):
    def output(self) -> Any:
        return [LocalTarget("/nowhere/b"), MockTarget("b")]

    def run(self) -> None:
        pass


class Wrapper(WrapperTask):
    pass


def no_worker() -> Any:
    raise AssertionError("choosing starts no worker")


def choose(task: Task, mode: Any, workers: int) -> str:
    executors = ExecutorSet(mode, RunOptions(workers=workers), lambda _: False, no_worker, hidden="/nowhere")
    try:
        return type(executors.choose(task)).__name__
    finally:
        executors.close()


@pytest.mark.parametrize(
    ("task", "mode", "workers", "expected"),
    [
        (Files(), "host", 1, "BoxedExecutor"),
        (Limited(), "host", 2, "BoxedExecutor"),
        (InMemory(), "host", 2, "InProcessExecutor"),
        (Wrapper(), "host", 2, "InProcessExecutor"),
        (Files(), "none", 1, "InProcessExecutor"),
        (Limited(), "none", 1, "ForkedExecutor"),
        (Files(), "none", 2, "ForkedExecutor"),
        (InMemory(), "none", 2, "InProcessExecutor"),
    ],
    ids=str,
)
def test_choose(task: Task, mode: str, workers: int, expected: str) -> None:
    assert choose(task, mode, workers) == expected


def test_only_what_is_needed_lives() -> None:
    executors = ExecutorSet("none", RunOptions(workers=2), lambda _: False, no_worker, hidden="/nowhere")
    assert executors.living == [executors.in_process]
    forked = executors.choose(Files())
    assert executors.living == [executors.in_process, forked]
    assert executors.for_owed() is forked


def test_interrupt_may_be_raised_once_while_a_task_runs_here() -> None:
    executors = ExecutorSet("none", RunOptions(), lambda _: False, no_worker, hidden="/nowhere")
    executors.in_process.is_running = True
    assert (executors.may_interrupt(), executors.may_interrupt()) == (True, False)
