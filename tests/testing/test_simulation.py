"""A simulated run comes to what a real one would, and leaves nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import InputError
from jubako.flow.engine.transitions import State
from jubako.flow.observer import TaskFailed
from jubako.flow.parameters import IntParameter
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.tasks.task import Task
from jubako.testing import FakeExecutor, RecordingObserver, simulate


class Part(Task):
    n = IntParameter()

    def output(self) -> Any:
        return LocalTarget(f"part-{self.n}")

    def run(self) -> None:
        raise AssertionError("nothing is run")


class Whole(Task):
    def requires(self) -> Any:
        return [Part(n) for n in range(3)]

    def output(self) -> Any:
        return LocalTarget("whole")


class Ring(Task):
    def requires(self) -> Any:
        return Ring()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_that_is_needed_runs_in_order_and_nothing_is_written(folder: Path) -> None:
    (folder / "part-1").touch()
    simulation = simulate([Whole()])
    assert simulation.executor.labels == ["Part(n=0)", "Part(n=2)", "Whole()"]
    assert [simulation.state_of(task) for task in (Whole(), Part(1))] == [State.DONE, State.COMPLETE]
    assert os.listdir(folder) == ["part-1"]


def test_attempts_end_as_the_script_says_and_retries_take_no_time() -> None:
    observer = RecordingObserver()
    script = {"Part(n=0)": ["failed", "ok"], "Part(n=2)": ["failed", "timeout"]}
    simulation = simulate([Whole()], FakeExecutor(script), observer=observer, attempts=2, retry_delay_s=3600)
    assert sorted(simulation.executor.labels) == [f"Part(n={n})" for n in (0, 0, 1, 2, 2)]
    assert [simulation.state_of(Part(n)) for n in range(3)] == [State.DONE, State.DONE, State.FAILED]
    assert simulation.state_of(Whole()) is State.STUCK
    assert len(observer.of(TaskFailed)) == 3


def test_what_a_run_refuses_is_refused() -> None:
    with pytest.raises(InputError, match="ring"):
        simulate([Ring()])
    with pytest.raises(InputError, match="workers=0"):
        simulate([Whole()], workers=0)
    with pytest.raises(KeyError):
        simulate([Part(0)]).state_of(Part(1))
