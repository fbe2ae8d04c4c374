"""Tasks that find out while running what they need."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.flow.observer import TaskStarted
from jubako.flow.summary import RunStatus

MODES = [
    pytest.param({"box": "none"}, id="in-process"),
    pytest.param({"box": "none", "workers": 2}, id="forked"),
    pytest.param({"workers": 2}, id="boxed", marks=pytest.mark.box),
]

PIPELINE = """
class Part(Task):
    n = IntParameter()

    def output(self):
        return LocalTarget(f"part-{self.n}.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write(str(self.n))

class Whole(Task):
    def output(self):
        return LocalTarget("whole.txt")

    def run(self):
        with open("begun.txt", "a") as file:
            file.write("x")
        total = 0
        for first in (0, 2):
            targets = yield [Part(first), Part(first + 1)]
            for target in targets:
                with target.open() as file:
                    total += int(file.read())
        with self.output().open("w") as file:
            file.write(str(total))
"""


@pytest.mark.parametrize("options", MODES)
def test_what_run_yields_is_made_and_its_targets_come_back(world: Any, options: dict[str, Any]) -> None:
    world.write(PIPELINE)
    result = world.run(world.Whole(), **options)
    assert result.errors == ()
    assert result.counts["done"] == 5
    assert world.read("whole.txt") == "6"


def test_run_is_resumed_in_this_process_and_repeated_from_the_top_elsewhere(world: Any) -> None:
    world.write(PIPELINE)
    world.run(world.Whole(), box="none")
    assert world.read("begun.txt") == "x"
    for name in world.files():
        (world.folder / name).unlink()
    world.run(world.Whole(), box="none", workers=2)
    assert world.read("begun.txt") == "xxx"


@pytest.mark.box
def test_attempt_that_was_put_off_leaves_nothing(world: Any) -> None:
    world.write(PIPELINE)
    result = world.run(world.Whole(), keep_failed=True)
    assert "begun.txt" not in world.files()
    assert [str(event.task) for event in world.seen.of(TaskStarted)].count("Whole()") == 3
    assert list((world.state / "boxes").iterdir()) == []
    assert result.kept == {}


@pytest.mark.parametrize("options", MODES)
def test_dynamic_requirement_that_fails_gives_the_task_up(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Bad(Task):
            def output(self):
                return LocalTarget("bad.txt")

            def run(self):
                raise ValueError("bad")

        class Needs(Task):
            def output(self):
                return LocalTarget("needs.txt")

            def run(self):
                yield Bad()
                raise AssertionError("never")
        """
    )
    result = world.run(world.Needs(), **options)
    assert result.status is RunStatus.FAILED
    assert [error.label for error in result.errors] == ["Bad()"]
    assert result.counts["pending"] == 1


@pytest.mark.parametrize("options", MODES)
def test_dynamic_requirement_without_outputs_runs_once(world: Any, options: dict[str, Any]) -> None:
    """Its complete() is never true; in a process of its own the task cannot know that it has run."""
    world.write(
        """
        class Silent(Task):
            def run(self):
                pass

        class Needs(Task):
            def output(self):
                return LocalTarget("needs.txt")

            def run(self):
                yield Silent()
                with self.output().open("w"):
                    pass
        """
    )
    result = world.run(world.Needs(), **options)
    if options.get("box") == "none":
        assert result
    else:
        (error,) = result.errors
        assert error.sentence.startswith("run() asks for Silent() again and again")
    assert [str(event.task) for event in world.seen.of(TaskStarted)].count("Silent()") == 1


@pytest.mark.parametrize("options", MODES)
def test_ring_of_dynamic_requirements_is_named(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Ring(Task):
            n = IntParameter()

            def output(self):
                return LocalTarget(f"ring-{self.n}.txt")

            def run(self):
                yield Ring(1 - self.n)
        """
    )
    result = world.run(world.Ring(0), **options)
    assert not result
    assert "in a ring: Ring(n=0) -> Ring(n=1) -> Ring(n=0)" in result.errors[0].sentence


@pytest.mark.parametrize("options", MODES)
def test_dynamic_requirement_that_is_no_task_fails_the_task(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Wrong(Task):
            def output(self):
                return LocalTarget("wrong.txt")

            def run(self):
                yield "not a task"
        """
    )
    result = world.run(world.Wrong(), **options)
    assert [error.label for error in result.errors] == ["Wrong()"]


@pytest.mark.parametrize("options", MODES)
def test_dynamic_requirement_whose_output_clashes_fails_the_task(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Same(Task):
            n = IntParameter()

            def output(self):
                return LocalTarget("same.txt")

            def run(self):
                raise AssertionError("never")

        class Needs(Task):
            def output(self):
                return LocalTarget("needs.txt")

            def run(self):
                yield [Same(1), Same(2)]
        """
    )
    result = world.run(world.Needs(), **options)
    assert any("both make" in error.sentence for error in result.errors if error.label == "Needs()")
    assert world.files() == {}
