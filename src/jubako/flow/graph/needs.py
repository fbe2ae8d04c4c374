"""What a task that is not done still needs: all below it that is not done either, and what of that cannot be had.

Looked through breadth first, so the way to an obstacle is the shortest there is. Nothing is run and no event is
triggered; requires() is called once for each task that is not done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

from jubako.flow.engine.disabling import Verdict, describe_disabled
from jubako.flow.graph.graph import describe_cycle, is_external
from jubako.flow.graph.standing import Broken, Standing
from jubako.records import field, record

__all__ = ["Needs", "Obstacle", "find_needs"]

Kind = Literal["external", "disabled", "broken"]


@record
class Obstacle:
    """A task that is not done and cannot be made so by running tasks. `chain` leads to it, itself included."""

    kind: Kind
    chain: Sequence[Any]
    problem: str  # what is the matter with it, to follow its name; "" where it is an external task

    @property
    def task(self) -> Any:
        return self.chain[-1]


@record
class Needs:
    """`open` are the tasks below that are not done, the nearest first; `ring` names tasks that wait for each other."""

    open: Sequence[Any]
    obstacles: Sequence[Obstacle]
    ring: str = ""
    _above: dict[Any, Any] = field(default_factory=dict)

    def chain_to(self, task: Any) -> list[Any]:
        """The shortest way from the task that was asked about to one of `open`, both included."""
        return _chain(self._above, task)


def find_needs(task: Any, standing: Standing, judge: Callable[[Any], Verdict] = lambda task: Verdict()) -> Needs:
    """What `task`, which is not done, needs that is not done. `judge` tells who has failed too often."""
    above: dict[Any, Any] = {task: None}
    requires: dict[Any, list[Any]] = {}
    obstacles: list[Obstacle] = []
    queue = [task]
    start = 0
    while start < len(queue):
        wave = queue[start:]
        start = len(queue)
        for one, answer in zip(wave, standing.look(wave), strict=True):
            requires[one] = []
            if isinstance(answer, Broken):
                obstacles.append(Obstacle("broken", _chain(above, one), f"cannot be scheduled: {answer.sentence}"))
            elif answer:
                continue
            elif one.disabled:
                obstacles.append(Obstacle("disabled", _chain(above, one), "is disabled (its class says so)"))
            elif is_external(one):
                obstacles.append(Obstacle("external", _chain(above, one), ""))
            elif (until_s := judge(one).until_s) is not None:
                obstacles.append(Obstacle("disabled", _chain(above, one), describe_disabled(until_s)))
            else:
                required = standing.requirements(one)
                if isinstance(required, Broken):
                    problem = f"cannot be scheduled: {required.sentence}"
                    obstacles.append(Obstacle("broken", _chain(above, one), problem))
                    continue
                requires[one] = list(dict.fromkeys(required))
                for other in requires[one]:
                    if other not in above:
                        above[other] = one
                        queue.append(other)
    done = {one for one, answer in zip(queue, standing.look(queue), strict=True) if answer is True}
    waits = {one: [other for other in requires[one] if other not in done] for one in queue if one not in done}
    return Needs([one for one in queue[1:] if one not in done], obstacles, _find_ring(waits), above)


def _chain(above: dict[Any, Any], task: Any) -> list[Any]:
    chain = [task]
    while above[chain[-1]] is not None:
        chain.append(above[chain[-1]])
    return chain[::-1]


def _find_ring(waits: dict[Any, list[Any]]) -> str:
    """Names tasks that wait for each other in a ring; "" if none do."""
    left = {task: len(others) for task, others in waits.items()}
    dependents: defaultdict[Any, list[Any]] = defaultdict(list)
    for task, others in waits.items():
        for other in others:
            dependents[other].append(task)
    free = [task for task, count in left.items() if not count]
    for task in free:  # grows while it is walked
        del left[task]
        for other in dependents[task]:
            left[other] -= 1
            if not left[other]:
                free.append(other)
    if not left:
        return ""
    path: dict[Any, int] = {}
    task = next(iter(left))
    while task not in path:
        path[task] = len(path)
        task = next(other for other in waits[task] if other in left)
    ring = list(path)[path[task] :]
    return describe_cycle(range(len(ring)), ring)
