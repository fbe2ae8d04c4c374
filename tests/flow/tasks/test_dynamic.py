"""Requirements found out at run time, and quicker ways to ask for them."""

from __future__ import annotations

from typing import Any

from jubako.flow.parameters import IntParameter
from jubako.flow.targets.mock import MockTarget
from jubako.flow.tasks.dynamic import DynamicRequirements
from jubako.flow.tasks.task import Task


class Leaf(Task):
    n = IntParameter()

    def output(self) -> Any:
        return MockTarget(f"dynamic-{self.n}")

    def complete(self) -> bool:
        return self.n < 3


def test_requirements_are_flat_and_have_paths_in_their_structure() -> None:
    found = DynamicRequirements({"a": Leaf(1), "b": [Leaf(2)]})
    assert found.flat_requirements == [Leaf(1), Leaf(2)]
    assert (found.paths["a"].path, found.paths["b"][0].path) == ("dynamic-1", "dynamic-2")
    assert found.paths is found.paths


def test_complete_asks_every_task_or_the_function_it_was_given() -> None:
    assert DynamicRequirements([Leaf(1), Leaf(2)]).complete()
    assert not DynamicRequirements([Leaf(1), Leaf(3)]).complete()
    assert DynamicRequirements([Leaf(9)]).complete(lambda task: True)


def test_custom_complete_is_given_the_function_that_asks() -> None:
    found = DynamicRequirements([Leaf(1), Leaf(9)], lambda complete: complete(Leaf(1)))
    assert found.complete()
    assert not found.complete(lambda task: False)
