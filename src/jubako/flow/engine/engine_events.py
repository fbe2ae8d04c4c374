"""What the engine is told and what it answers, as named tuples: a run makes millions of them.

Found* Planned      what there is to do, and that all of it is known
Ran Published Failed Yielded There Elsewhere Cancelled      what became of a task that was started
Entangled           a waiting task turned out to wait for itself
Tick Stop           time has passed; no more is to be started

Start GiveUp        the answers
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from jubako.flow.engine.backoff import Backoff

__all__ = [
    "Cancelled",
    "Elsewhere",
    "Entangled",
    "Event",
    "Failed",
    "Found",
    "GiveUp",
    "Instruction",
    "Pause",
    "Planned",
    "Published",
    "Ran",
    "Resume",
    "Standing",
    "Start",
    "Stop",
    "There",
    "Tick",
    "Yielded",
]

Standing = Literal["pending", "complete", "missing", "broken", "disabled"]


class Found(NamedTuple):
    """A task was explored. Dependencies may be numbers that are found later."""

    task: int
    standing: Standing = "pending"
    dependencies: tuple[int, ...] = ()
    priority: float = 0
    needs: tuple[tuple[str, int], ...] = ()  # (resource, amount); a resource without a stated capacity has 1
    attempts: int = 1  # how often it may be tried
    backoff: Backoff | None = None  # how long it waits before it is tried again; None: as the run says
    group: int = -1  # those of one group may run as one; -1: it runs alone
    most: int = 1  # how many of its group may run as one


class _OfRun(NamedTuple):
    """Base of events that name no task."""


class _OfTask(NamedTuple):
    """Base of events that name a task and nothing else."""

    task: int


class Planned(_OfRun):
    """Everything asked for so far was found: work may be handed out."""

    __slots__ = ()


class Ran(_OfTask):
    """The work ended well and its slot is free; publishing is under way."""

    __slots__ = ()


class Published(_OfTask):
    """The result is where others see it."""

    __slots__ = ()


class Failed(NamedTuple):
    """An attempt failed. `again` gives one more attempt than was allowed (a conflict's second chance)."""

    task: int
    again: bool = False


class Elsewhere(NamedTuple):
    """Another run holds the task's lease; ask again at `until_s`."""

    task: int
    until_s: float


class There(_OfTask):
    """Another run completed the task meanwhile."""

    __slots__ = ()


class Yielded(NamedTuple):
    """run() asked for these; the attempt is discarded and repeated when they are done."""

    task: int
    dependencies: tuple[int, ...]


class Entangled(_OfTask):
    """A waiting task turned out to wait for itself, because of what was asked for while running."""

    __slots__ = ()


class Cancelled(_OfTask):
    """The attempt was cut short because the run is being interrupted."""

    __slots__ = ()


class Tick(_OfRun):
    """Time has passed."""

    __slots__ = ()


class Stop(_OfRun):
    """Start nothing more; what runs may end."""

    __slots__ = ()


class Pause(_OfRun):
    """Start nothing until `Resume`; what runs may end."""

    __slots__ = ()


class Resume(_OfRun):
    """Go on after `Pause`."""

    __slots__ = ()


Event = (
    Found
    | Planned
    | Ran
    | Published
    | Failed
    | Elsewhere
    | There
    | Yielded
    | Entangled
    | Cancelled
    | Tick
    | Stop
    | Pause
    | Resume
)


class Start(NamedTuple):
    """Give the task to an executor, as one with `others`. They run until an event says otherwise, for each of them."""

    task: int
    others: tuple[int, ...] = ()


class GiveUp(NamedTuple):
    """The task cannot run any more because `because` cannot be had. Said once per task."""

    task: int
    because: int


Instruction = Start | GiveUp
