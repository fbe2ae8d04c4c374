"""Parameters that name a task class or a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from jubako.flow.parameters import PathParameter, TaskParameter
from jubako.flow.tasks.register import TaskClassAmbigiousException, TaskClassNotFoundException
from jubako.flow.tasks.task import Task


def test_task_parameter_reads_and_writes_families() -> None:
    class Nested(Task):
        task_namespace = "deep.er"

    assert TaskParameter().parse("deep.er.Nested") is Nested
    assert TaskParameter().serialize(Nested) == "deep.er.Nested"


def test_unknown_task_is_refused_with_suggestions() -> None:
    class DailySummary(Task):
        pass

    with pytest.raises(TaskClassNotFoundException, match=r"No task DailySumary\. Did you mean:\nDailySummary"):
        TaskParameter().parse("DailySumary")


def test_ambiguous_task_is_refused_with_places() -> None:
    def define() -> type[Task]:
        class Twice(Task):
            pass

        return Twice

    define(), define()
    with pytest.raises(TaskClassAmbigiousException, match="Task 'Twice' is ambiguous") as caught:
        TaskParameter().parse("Twice")
    assert __name__ in caught.value.hint


def test_path_parameter_resolves_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert PathParameter(absolute=True).normalize("a") == tmp_path / "a"
    assert PathParameter(exists=True).normalize(tmp_path) == tmp_path
    with pytest.raises(ValueError, match=f"The path {tmp_path}/gone does not exist."):
        PathParameter(exists=True).normalize(tmp_path / "gone")
