"""What a task needs that is not done, and what of it cannot be had."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hypothesis import given
from hypothesis import strategies as st

from jubako.flow.graph.needs import find_needs
from jubako.flow.graph.standing import Standing
from jubako.flow.parameters import IntParameter
from jubako.flow.tasks.task import ExternalTask, Task


class Node(Task):
    number = IntParameter()
    needed: ClassVar[Mapping[int, Sequence[int]]] = {}
    done: ClassVar[frozenset[int]] = frozenset()

    def requires(self) -> list[Any]:
        return [Node(other) for other in self.needed.get(self.number, ())]

    def complete(self) -> bool:
        return self.number in self.done


class Given(ExternalTask):
    def complete(self) -> bool:
        return False


class Off(Task):
    disabled = True

    def complete(self) -> bool:
        return False


class Raising(Task):
    def complete(self) -> bool:
        return False

    def requires(self) -> Any:
        raise ValueError("no idea")


class Mixed(Task):
    def complete(self) -> bool:
        return False

    def requires(self) -> list[Any]:
        return [Deeper(), Off(), Raising()]


class Deeper(Task):
    def complete(self) -> bool:
        return False

    def requires(self) -> Any:
        return Given()


def find(task: Any) -> Any:
    return find_needs(task, Standing(lambda targets: [target.exists() for target in targets]))


def test_obstacles_come_nearest_first_with_the_way_to_them() -> None:
    needs = find(Mixed())
    assert [(obstacle.kind, [str(task) for task in obstacle.chain]) for obstacle in needs.obstacles] == [
        ("disabled", ["Mixed()", "Off()"]),
        ("broken", ["Mixed()", "Raising()"]),
        ("external", ["Mixed()", "Deeper()", "Given()"]),
    ]
    assert "ValueError: no idea" in needs.obstacles[1].problem
    assert [str(task) for task in needs.open] == ["Deeper()", "Off()", "Raising()", "Given()"]
    assert needs.ring == ""


def test_task_that_needs_nothing_has_no_open_needs(monkeypatch: Any) -> None:
    monkeypatch.setattr(Node, "needed", {1: [2], 2: [3]})
    monkeypatch.setattr(Node, "done", frozenset({2}))
    needs = find(Node(1))
    assert (list(needs.open), list(needs.obstacles), needs.ring) == ([], [], "")


@given(
    edges=st.dictionaries(st.integers(0, 8), st.lists(st.integers(0, 8), max_size=4)),
    done=st.frozensets(st.integers(1, 8)),
)
def test_open_needs_and_rings_are_those_that_walking_every_way_finds(
    edges: Mapping[int, list[int]], done: frozenset[int]
) -> None:
    Node.needed, Node.done = edges, done
    needs = find(Node(0))

    below: set[int] = set()
    rings = False

    def walk(number: int, way: tuple[int, ...]) -> None:
        nonlocal rings
        for other in edges.get(number, ()):
            if other in way:
                rings = True
            elif other not in done:
                below.add(other)
                walk(other, (*way, other))

    walk(0, (0,))
    assert {task.number for task in needs.open} == below
    assert bool(needs.ring) == rings
    for task in needs.open:
        chain = needs.chain_to(task)
        assert chain[0] == Node(0)
        assert all(after.number in edges[before.number] for before, after in itertools.pairwise(chain))
