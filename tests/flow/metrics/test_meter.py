"""What of a run is counted, and that a file that cannot be written changes nothing but a note."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jubako.errors import InputError
from jubako.flow.interrupts import Interrupts
from jubako.flow.metrics.meter import Meter
from jubako.flow.notices.hooks import CommandHook
from jubako.flow.observer import TaskFailed, TaskPublished
from jubako.flow.parameters import IntParameter
from jubako.flow.run.runner import run
from jubako.flow.targets.target import Target
from jubako.flow.tasks.task import Task
from jubako.testing import FakeClock

MADE: set[int] = set()


class Made(Target):
    def __init__(self, n: int) -> None:
        self.n = n

    def exists(self) -> bool:
        return self.n in MADE


class Work(Task):
    n = IntParameter()

    def output(self) -> Any:
        return Made(self.n)

    def run(self) -> None:
        if self.n == 13:
            raise ValueError("no rows")
        MADE.add(self.n)


@pytest.fixture(autouse=True)
def nothing_made() -> None:
    MADE.clear()


def count(path: Path, name: str, **labels: str) -> float:
    """The sum of all samples with this name and these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def finish(meter: Meter, error: BaseException) -> Any:
    with Interrupts(lambda: False) as interrupts:
        return meter.finish(None, error, interrupts)


def test_runs_are_counted_one_after_another(tmp_path: Path) -> None:
    path = tmp_path / "jubako.prom"
    for numbers in ([1, 2], [2, 3, 13]):
        run([Work(n) for n in numbers], box="none", state=str(tmp_path / "state"), metrics_file=str(path))
    assert count(path, "jubako_runs_total", outcome="success") == 1
    assert count(path, "jubako_runs_total", outcome="failure") == 1
    assert count(path, "jubako_run_duration_seconds_count") == 2
    assert count(path, "jubako_tasks_total", family="Work", status="done") == 3
    assert count(path, "jubako_tasks_total", family="Work", status="complete") == 1
    assert count(path, "jubako_tasks_total", family="Work", status="failed") == 1
    assert count(path, "jubako_task_attempts_total", outcome="done") == 3
    assert count(path, "jubako_task_attempts_total", outcome="failed") == 1
    assert count(path, "jubako_task_duration_seconds_count", family="Work") == 3
    assert count(path, "jubako_run_ended_timestamp_seconds", outcome="success") > 1_700_000_000
    families = text_string_to_metric_families(path.read_text())
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    assert labels == {"pipeline", "family", "outcome", "status", "le"}  # no parameters


def test_long_run_is_counted_while_it_goes_on(tmp_path: Path) -> None:
    path, clock = tmp_path / "jubako.prom", FakeClock()
    meter = Meter(str(path), "p", clock)
    meter.see(TaskPublished(Work(1), 0.5))
    assert not path.exists()
    clock.advance(15)
    meter.see(TaskFailed(Work(2), "no", again=True))
    assert count(path, "jubako_task_attempts_total") == 2
    assert finish(meter, KeyboardInterrupt()) == ()
    assert count(path, "jubako_task_attempts_total", outcome="retried") == 1
    assert count(path, "jubako_runs_total", outcome="interrupted") == 1
    assert count(path, "jubako_run_duration_seconds_sum") == 15


def test_what_could_not_be_added_is_added_with_what_comes(tmp_path: Path) -> None:
    folder, clock = tmp_path / "folder", FakeClock()
    folder.mkdir()
    path = folder / "jubako.prom"
    meter = Meter(str(path), "p", clock)
    folder.rename(tmp_path / "away")
    clock.advance(15)
    meter.see(TaskPublished(Work(1), 0.5))
    (tmp_path / "away").rename(folder)
    assert finish(meter, ValueError()) == ()
    assert count(path, "jubako_task_attempts_total") == 1
    assert count(path, "jubako_runs_total", outcome="failure") == 1


def test_file_that_cannot_be_written_in_the_end_is_a_note(tmp_path: Path) -> None:
    class Spoiling(Work):
        def run(self) -> None:
            (tmp_path / "jubako.prom").write_text("something else\n")
            super().run()

    result = run([Spoiling(1)], box="none", state=str(tmp_path / "s"), metrics_file=str(tmp_path / "jubako.prom"))
    assert result.everything_there
    (note,) = result.notes
    assert note.startswith(f"metrics are not all in {tmp_path}/jubako.prom: ")
    assert (tmp_path / "jubako.prom").read_text() == "something else\n"


def test_file_that_is_something_else_refuses_the_run_and_hooks_are_told(tmp_path: Path) -> None:
    (tmp_path / "other.prom").write_text("something else\n")
    hook = CommandHook(["sh", "-c", f"cat > {tmp_path}/told"])
    with pytest.raises(InputError, match="holds no metrics of jubako"):
        run([Work(1)], box="none", state=str(tmp_path / "s"), metrics_file=str(tmp_path / "other.prom"), notify=[hook])
    assert not MADE
    assert "holds no metrics of jubako" in (tmp_path / "told").read_text()
