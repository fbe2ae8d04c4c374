"""Structures of tasks and targets: walking them keeps order and shape."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.flow.parameters import IntParameter
from jubako.flow.targets.mock import MockTarget
from jubako.flow.tasks.nesting import flatten, flatten_output, getpaths
from jubako.flow.tasks.task import Task, WrapperTask


class Leaf(Task):
    n = IntParameter()

    def output(self) -> Any:
        return MockTarget(f"leaf-{self.n}")


class Twice(WrapperTask):
    def requires(self) -> Any:
        yield Leaf(1)
        yield [Leaf(2), Inner()]


class Inner(WrapperTask):
    def requires(self) -> Any:
        return {"again": Leaf(1), "more": Leaf(3)}


def test_flatten_takes_anything_apart() -> None:
    assert flatten({"a": "foo", "b": ["bar", ("x", None)], "c": (n for n in (1, 2))}) == ["foo", "bar", "x", 1, 2]
    assert (flatten("foo"), flatten(42), flatten(None), flatten([])) == (["foo"], [42], [], [])


def test_getpaths_keeps_the_structure() -> None:
    found = getpaths({"a": Leaf(1), "b": [Leaf(2), (Leaf(3),)], "c": (Leaf(n) for n in (4,))})
    assert found["a"].path == "leaf-1"
    assert [type(found["b"]), type(found["b"][1]), type(found["c"])] == [list, tuple, list]
    assert found["c"][0].path == "leaf-4"


def test_getpaths_refuses_what_is_no_task() -> None:
    with pytest.raises(TypeError, match="Cannot map 5 to Task/dict/list"):
        getpaths([5])


def test_flatten_output_looks_through_tasks_without_outputs_once() -> None:
    assert [target.path for target in flatten_output(Twice())] == ["leaf-1", "leaf-2", "leaf-3"]


def test_flatten_output_of_a_task_is_its_own_outputs() -> None:
    assert [target.path for target in flatten_output(Leaf(7))] == ["leaf-7"]
