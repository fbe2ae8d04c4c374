"""The life of a task in a run, as a table: state and cause in, state out. Every pair that is not here is refused.

                              ┌────────────── DUE ──────────────┐
    FREE ──> READY ── START ──> RUNNING ── RETRY, ELSEWHERE ──> DELAYED
      ^       │ ^                 │
      │   TAKEN RELEASED          ├── RAN ──> RAN ── PUBLISHED ──> DONE
      │       v │                 ├── PUBLISHED (unboxed) ───────> DONE
    WAITING  BLOCKED              ├── FAIL ──> FAILED
      ^ │                         ├── CANCEL ──> STOPPED
      │ ├ UPSTREAM ──> STUCK      └── THERE ──> COMPLETE   (another run made it meanwhile)
      │ └ BREAK ──> UNSCHEDULED   (dynamic dependencies that form a ring)
      └────────── YIELD (dynamic dependencies) ───── RUNNING

`docs` and the tests read this table; `flow.engine.engine` runs on it. It knows nothing of tasks, time or executors.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

__all__ = [
    "BLAME_DENIED",
    "BLAME_FAILED",
    "BLAME_MISSING",
    "BLAME_SCHEDULING",
    "BLAME_SCHEDULING_DIRECT",
    "TERMINAL",
    "TRANSITIONS",
    "Cause",
    "State",
    "format_table",
]


class State(IntEnum):
    """Where a task stands. An IntEnum because its hash is computed in C: a run looks states up a million times."""

    NEW = 0  # named as a dependency, not described yet
    WAITING = 1  # a dependency is not done yet
    READY = 2  # could start now
    BLOCKED = 3  # a resource it needs is taken
    DELAYED = 4  # waits for a moment: a retry, or another run that has it
    RUNNING = 5  # an executor has it
    RAN = 6  # its work ended well; nothing of it is published yet
    DONE = 7  # published; what depends on it may start
    COMPLETE = 8  # was there before, nothing to do
    MISSING = 9  # external, and not there
    UNSCHEDULED = 10  # requires(), output() or complete() raised
    DENIED = 11  # disabled, or needs more of a resource than exists
    FAILED = 12  # tried as often as allowed
    STUCK = 13  # something it depends on cannot be had
    STOPPED = 14  # the run was interrupted while it ran
    JOINED = 15  # it runs as part of a batch, in the place of another task


class Cause(IntEnum):
    """What moves a task."""

    DEPEND = 0  # described, with unfinished dependencies
    FREE = 1  # no unfinished dependency (any more)
    THERE = 2  # it is complete without our running it
    NOT_THERE = 3  # external, and not complete
    BREAK = 4  # describing it raised, or it turned out to wait for itself
    DENY = 5  # it is disabled, or a resource cannot ever suffice
    UPSTREAM = 6  # a dependency cannot be had
    TAKEN = 7  # a resource is used up
    RELEASED = 8  # a resource came back
    START = 9
    RAN = 10
    PUBLISHED = 11
    FAIL = 12
    RETRY = 13
    ELSEWHERE = 14  # another run holds its lease
    DUE = 15  # the moment it waited for has come
    YIELD = 16  # run() asked for tasks that are not done
    CANCEL = 17
    JOIN = 18  # a task of its kind was started and takes it along


_S, _C = State, Cause

TRANSITIONS: Final[Mapping[tuple[State, Cause], State]] = MappingProxyType(
    {
        (_S.NEW, _C.DEPEND): _S.WAITING,
        (_S.NEW, _C.FREE): _S.READY,
        (_S.NEW, _C.THERE): _S.COMPLETE,
        (_S.NEW, _C.NOT_THERE): _S.MISSING,
        (_S.NEW, _C.BREAK): _S.UNSCHEDULED,
        (_S.NEW, _C.DENY): _S.DENIED,
        (_S.WAITING, _C.FREE): _S.READY,
        (_S.WAITING, _C.UPSTREAM): _S.STUCK,
        (_S.WAITING, _C.BREAK): _S.UNSCHEDULED,
        (_S.READY, _C.TAKEN): _S.BLOCKED,
        (_S.BLOCKED, _C.RELEASED): _S.READY,
        (_S.READY, _C.START): _S.RUNNING,
        (_S.RUNNING, _C.RAN): _S.RAN,
        (_S.RUNNING, _C.PUBLISHED): _S.DONE,
        (_S.RUNNING, _C.FAIL): _S.FAILED,
        (_S.RUNNING, _C.RETRY): _S.DELAYED,
        (_S.RUNNING, _C.ELSEWHERE): _S.DELAYED,
        (_S.RUNNING, _C.THERE): _S.COMPLETE,
        (_S.RUNNING, _C.YIELD): _S.WAITING,
        (_S.RUNNING, _C.CANCEL): _S.STOPPED,
        (_S.RAN, _C.PUBLISHED): _S.DONE,
        (_S.RAN, _C.FAIL): _S.FAILED,
        (_S.RAN, _C.RETRY): _S.DELAYED,
        (_S.RAN, _C.CANCEL): _S.STOPPED,
        (_S.DELAYED, _C.DUE): _S.READY,
        (_S.READY, _C.JOIN): _S.JOINED,
        (_S.JOINED, _C.PUBLISHED): _S.DONE,
        (_S.JOINED, _C.FAIL): _S.FAILED,
        (_S.JOINED, _C.RETRY): _S.DELAYED,
        (_S.JOINED, _C.ELSEWHERE): _S.DELAYED,
        (_S.JOINED, _C.THERE): _S.COMPLETE,
        (_S.JOINED, _C.YIELD): _S.WAITING,
        (_S.JOINED, _C.CANCEL): _S.STOPPED,
    }
)

TERMINAL: Final[frozenset[State]] = frozenset(State) - {source for source, _ in TRANSITIONS}

# Why a task is STUCK, as bits: one task can be stuck for several reasons. They travel down the edges once.
BLAME_FAILED: Final = 1
BLAME_MISSING: Final = 2
BLAME_SCHEDULING_DIRECT: Final = 4  # Luigi names only the direct dependents of a task whose scheduling failed
BLAME_SCHEDULING: Final = 8
BLAME_DENIED: Final = 16


def format_table() -> str:
    """The table as Markdown, in the order it is written, for the docs."""
    rows = [f"| {source.name} | {cause.name} | {target.name} |" for (source, cause), target in TRANSITIONS.items()]
    return "\n".join(["| from | cause | to |", "|---|---|---|", *rows, ""])
