"""What the ledger says of runs afterwards, as history shows it."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.errors import InputError
from jubako.flow.ledger.history import open_history

PIPELINE = """
class Round(Task):
    def requires(self):
        return Round()

class Owing(Task):
    def output(self):
        return LocalTarget("owing.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write("x")

    def after_publish(self):
        raise ConnectionError("no route to host")

class Breaking(WrapperTask):
    def requires(self):
        raise KeyboardInterrupt
"""


def outcomes(world: Any) -> list[tuple[str, str]]:
    with open_history(str(world.state)) as history:
        return [(run.asked, run.outcome) for run in history.list_runs()]


def test_run_that_was_refused_or_broken_off_has_ended_and_was_not_killed(world: Any) -> None:
    world.write(PIPELINE)
    with pytest.raises(InputError, match="ring"):
        world.run(world.Round(), box="none")
    with pytest.raises(KeyboardInterrupt):
        world.run(world.Breaking(), box="none")
    assert outcomes(world) == [("Breaking()", "interrupted"), ("Round()", "refused")]


def test_run_that_still_owes_a_call_is_incomplete_though_no_task_failed(world: Any) -> None:
    world.write(PIPELINE)
    result = world.run(world.Owing(), box="none")
    assert not result
    assert outcomes(world) == [("Owing()", "incomplete")]
    with open_history(str(world.state)) as history:
        assert list(history.list_owed(world.pipeline.file).values()) == ["ConnectionError: no route to host"]
