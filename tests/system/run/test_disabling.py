"""Tasks that fail too often are left alone by later runs, until their time is over or somebody insists."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.flow.clock import SystemClock
from jubako.flow.observer import TaskFound
from jubako.flow.run.runner import run

PIPELINE = """
class Fails(Task):
    def output(self):
        return LocalTarget("never.txt")

    def run(self):
        with open(f"{SHARED}/tries", "a") as file:
            file.write("x")
        raise ValueError("as ever")

class Needs(Task):
    def requires(self):
        return Fails()

    def output(self):
        return LocalTarget("never either.txt")
"""


class Later(SystemClock):
    """What a clock shows after some time."""

    def __init__(self, by_s: float) -> None:
        super().__init__()
        self._by_s = by_s

    def wall_s(self) -> float:
        return super().wall_s() + self._by_s


@pytest.fixture
def mode(world: Any) -> Any:
    world.write(f"SHARED = {str(world.shared)!r}\n{PIPELINE}")
    return {"box": "none"}  # in boxes the ledger is told of failures by the same line


def count_tries(world: Any) -> int:
    file = world.shared / "tries"
    return len(file.read_text()) if file.exists() else 0


def test_task_that_fails_too_often_is_left_alone_for_a_while(world: Any, mode: Any) -> None:
    policy = {**mode, "disable_after": 3}
    assert not world.run(world.Needs(), attempts=2, **policy)
    assert count_tries(world) == 2
    assert not world.run(world.Needs(), attempts=2, **policy)
    assert count_tries(world) == 3  # the third disables it, also for the run it happens in
    result = world.run(world.Needs(), attempts=2, **policy)
    assert not result
    assert count_tries(world) == 3
    (note,) = result.notes
    assert note.startswith("Fails() has failed too often and is disabled until 2")
    assert [found.standing for found in world.seen.of(TaskFound)] == ["pending", "disabled"]
    assert not world.run(world.Needs(), **{**policy, "disable_after": 0})
    assert count_tries(world) == 4
    later = Later(86_400)
    run([world.Needs()], pipeline=world.pipeline, state=str(world.state), durability="relaxed", clock=later, **policy)
    assert count_tries(world) == 5


def test_task_may_say_itself_how_often_it_may_fail(world: Any, mode: Any) -> None:
    world.Fails.disable_after = 1
    for _ in range(3):
        assert not world.run(world.Needs(), **mode)
    assert count_tries(world) == 1
