"""What is said of external tasks that are not there."""

from __future__ import annotations

from pathlib import Path

from jubako.flow.graph.missing import describe_missing
from jubako.flow.parameters import IntParameter, ListParameter
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.tasks.task import ExternalTask

NOTHING: list[str] = []


class Files(ExternalTask):
    number = IntParameter(default=0)
    paths = ListParameter(default=NOTHING)

    def __str__(self) -> str:
        return f"Files({self.number})"

    def output(self) -> list[LocalTarget]:
        return [LocalTarget(path) for path in self.paths]


def test_missing_file_is_named_with_its_task(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    (sentence,) = describe_missing([Files(paths=[str(there), str(gone)])])
    assert sentence == f"Files(0): {gone} is not there, and no task makes it"


def test_missing_files_are_counted(tmp_path: Path) -> None:
    (sentence,) = describe_missing([Files(paths=[str(tmp_path / name) for name in "abc"])])
    assert sentence == f"Files(0): {tmp_path / 'a'} and 2 more are not there, and no task makes them"


def test_task_without_files_is_not_complete() -> None:
    assert describe_missing([Files()]) == ["Files(0): it is not complete, and has no run() that could make it so"]


def test_of_many_tasks_the_first_are_named() -> None:
    lines = describe_missing([Files(number=number) for number in range(105)])
    assert [line.partition(":")[0] for line in lines[:5]] == [f"Files({number})" for number in range(5)]
    assert lines[5:] == ["and 100 more tasks whose outputs are not there and no task makes"]
