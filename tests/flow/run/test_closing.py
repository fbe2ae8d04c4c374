"""What became of every task, as groups: against Luigi's own reading of the same history."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.flow.engine.backoff import Backoff
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.engine_events import Elsewhere, Failed, Found, Planned, Published, Start, Stop
from jubako.flow.run.closing import group_tasks
from jubako.flow.summary import format_summary, get_status


class Node:
    """A task as both summaries want it."""

    task_family = "Node"

    def __init__(self, number: int, requires: list[Node]) -> None:
        self.number = number
        self.task_id = f"Node_{number:03}"
        self._needs = requires

    def get_params(self) -> list[Any]:
        return []

    def _requires(self) -> list[Node]:
        return self._needs

    def __str__(self) -> str:
        return self.task_id


class FakeWorker:
    """As much of a Luigi worker as its summary looks at."""

    _id = "me"
    _get_work_response_history: tuple[()] = ()
    _scheduled_tasks: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, history: list[tuple[Any, str, bool]]) -> None:
        self._add_task_history = history


@settings(max_examples=200)
@given(st.data(), st.randoms(use_true_random=False))
def test_groups_and_status_are_those_luigi_finds(luigi: Any, data: st.DataObject, chance: random.Random) -> None:
    from luigi import execution_summary as theirs

    size = data.draw(st.integers(1, 10))
    nodes: list[Node] = []
    standings = []
    for number in reversed(range(size)):
        below = data.draw(st.lists(st.sampled_from(nodes), max_size=3, unique=True)) if nodes else []
        standing = data.draw(st.sampled_from(["pending"] * 5 + ["complete", "missing", "broken"]))
        nodes.append(Node(number, below if standing == "pending" else []))
        standings.append(standing)
    nodes.reverse()
    standings.reverse()
    engine = Engine(slots=1)
    todo: list[Any] = []
    for node, standing in zip(nodes, standings, strict=True):
        needs = tuple(other.number for other in node._needs)
        todo += engine.handle(Found(node.number, standing, needs, attempts=2), 0.0)
    history: list[tuple[Any, str, bool]] = [
        (
            node,
            {"pending": "PENDING", "complete": "DONE", "missing": "PENDING", "broken": "UNKNOWN"}[standing],
            standing == "pending",
        )
        for node, standing in zip(nodes, standings, strict=True)
    ]
    todo += engine.handle(Planned(), 0.0)
    ever_failed = set()
    while todo:
        instruction = todo.pop(0)
        if isinstance(instruction, Start):
            if chance.random() < 0.3:
                ever_failed.add(instruction.task)
                history.append((nodes[instruction.task], "FAILED", True))
                todo += engine.handle(Failed(instruction.task), 0.0)
            else:
                history.append((nodes[instruction.task], "DONE", True))
                todo += engine.handle(Published(instruction.task), 0.0)
    groups = group_tasks(engine, nodes, ever_failed=ever_failed, disabled=(), held_elsewhere={})
    expected = theirs._summary_dict(FakeWorker(history))
    for name, members in expected.items():
        # A task whose dependency failed once, and then succeeded, is pending for another reason; Luigi names both.
        if name not in ("upstream_failure", "not_run"):
            assert {task.task_id for task in getattr(groups, name)} == {task.task_id for task in members}, name
    assert {task.task_id for task in groups.upstream_failure} <= {task.task_id for task in expected["upstream_failure"]}
    if not ever_failed - {task.number for task in groups.failed}:
        assert get_status(groups).name == theirs._tasks_status(expected).name
        assert format_summary(groups) == theirs.summary(FakeWorker(history))


def test_task_another_run_has_is_in_its_group() -> None:
    engine = Engine(slots=1)
    nodes = [Node(0, []), Node(1, [])]
    for node in nodes:
        engine.handle(Found(node.number), 0.0)
    engine.handle(Planned(), 0.0)
    engine.handle(Elsewhere(0, 9.0), 0.0)
    engine.handle(Stop(), 0.0)
    groups = group_tasks(engine, nodes, ever_failed=(), disabled=(), held_elsewhere={0: "run-7"})
    assert (groups.run_by_other_worker, groups.other_workers) == ([nodes[0]], {"run-7": 1})
    assert groups.not_run == [nodes[1]]


def test_task_that_was_to_be_tried_again_when_the_run_was_interrupted_has_failed() -> None:
    engine = Engine(slots=1, backoff=Backoff(60))
    nodes = [Node(0, []), Node(1, [])]
    engine.handle(Found(0, attempts=3), 0.0)
    engine.handle(Found(1), 0.0)
    engine.handle(Planned(), 0.0)
    engine.handle(Failed(0), 0.0)
    assert engine.wait_s(0) == 60
    engine.handle(Stop(), 0.0)
    groups = group_tasks(engine, nodes, ever_failed={0}, disabled=(), held_elsewhere={})
    assert groups.failed == [nodes[0]]
    assert get_status(groups).name == "FAILED"


def test_disabled_task_is_in_no_group() -> None:
    engine = Engine(slots=1)
    engine.handle(Found(0, "disabled"), 0.0)
    groups = group_tasks(engine, [Node(0, [])], ever_failed=(), disabled={0}, held_elsewhere={})
    assert "Did not schedule any tasks" in format_summary(groups)
