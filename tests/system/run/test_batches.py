"""Tasks that run as one: one run(), one place in the history of each, and truth about those that were not made."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from jubako.flow.observer import TaskFailed, TaskPublished, TaskStarted

PIPELINE = """
class Make(Task):
    names = ListParameter(batch_method=lambda lists: sum(lists, ()))
    kind = Parameter(default="a")
    box = Box(binds=[SHARED])

    def output(self):
        return [LocalTarget(f"{self.kind}-{name}.txt") for name in self.makes()]

    def makes(self):
        return self.names

    def run(self):
        with open(f"{SHARED}/runs", "a") as file:
            file.write(f"{''.join(self.names)}-{self.kind} ")
        if self.kind == "wrong":
            raise ValueError("as ever")
        for target in self.output():
            with target.open("w") as file:
                file.write("made")

class Single(Make):
    def makes(self):
        return self.names[-1:]

class Limited(Make):
    max_batch_size = 2

class All(WrapperTask):
    of = Parameter(default="Make")
    kinds = ListParameter(default=["a"])

    def requires(self):
        return [globals()[self.of]([name], kind) for kind in self.kinds for name in "wxyz"]
"""


@pytest.fixture(
    params=[
        pytest.param({"box": "none"}, id="in-process"),
        pytest.param({"box": "none", "workers": 2}, id="forked"),
        pytest.param({"box": "host"}, id="boxed", marks=pytest.mark.box),
    ]
)
def mode(request: pytest.FixtureRequest, world: Any) -> Any:
    world.write(f"SHARED = {str(world.shared)!r}\n{PIPELINE}")
    return request.param


def runs_of(world: Any) -> list[str]:
    return sorted((world.shared / "runs").read_text().split())


def history_of(world: Any) -> list[tuple[str, str]]:
    with sqlite3.connect(world.state / "ledger.sqlite") as connection:
        return sorted(connection.execute("SELECT label, outcome FROM attempts WHERE label NOT LIKE 'All%'"))


def test_tasks_that_differ_in_a_batched_parameter_run_once(world: Any, mode: Any) -> None:
    result = world.run(world.All(kinds=["a", "b"]), **mode)
    assert result, result.format_report()
    assert runs_of(world) == ["wxyz-a", "wxyz-b"]
    assert len(world.files()) == 8
    labels = [f'Make(names=["{name}"], kind={kind})' for kind in "ab" for name in "wxyz"]
    assert sorted(str(task) for task in result.groups.completed if task.task_family == "Make") == sorted(labels)
    batches = [f'Make(names=["w", "x", "y", "z"], kind={kind})' for kind in "ab"]
    assert history_of(world) == sorted((label, "published") for label in (*batches, *labels))
    for kind in (TaskStarted, TaskPublished):
        assert sorted(str(e.task) for e in world.seen.of(kind) if e.task.task_family == "Make") == sorted(labels)
    assert world.run(world.All(kinds=["a", "b"]), **mode).counts["done"] == 0


def test_no_more_run_as_one_than_the_class_allows(world: Any, mode: Any) -> None:
    assert world.run(world.All(of="Limited"), **mode)
    assert runs_of(world) == ["wx-a", "yz-a"]


def test_failure_is_that_of_all_of_them_and_they_are_tried_again_together(world: Any, mode: Any) -> None:
    result = world.run(world.All(kinds=["wrong"]), attempts=2, **mode)
    assert not result
    assert runs_of(world) == ["wxyz-wrong", "wxyz-wrong"]
    assert [error.sentence for error in result.errors] == ["ValueError: as ever"] * 4
    assert [event.again for event in world.seen.of(TaskFailed)] == [True] * 4 + [False] * 4
    assert [outcome for _, outcome in history_of(world)] == ["failed"] * 10


def test_member_that_was_not_made_has_failed(world: Any, mode: Any) -> None:
    result = world.run(world.All(of="Single"), **mode)
    assert not result
    assert runs_of(world) == ["wxyz-a"]
    assert list(world.files()) == ["a-z.txt"]
    sentence = 'it ran as a part of Single(names=["w", "x", "y", "z"], kind=a), which did not make it'
    assert [(error.label, error.sentence) for error in result.errors] == [
        (f'Single(names=["{name}"], kind=a)', sentence) for name in "wxy"
    ]
    assert [str(task) for task in result.groups.completed] == ['Single(names=["z"], kind=a)']
