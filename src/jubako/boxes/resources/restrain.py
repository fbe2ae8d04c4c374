"""What a process does to itself, or what is done to one from outside, so that it keeps a plan of limits.

A command's pid 1 joins the groups before anything else, and bounds the command it starts, not itself: it must be able
to end the box (`Restraint`). A task's child is bound from outside, while it waits to be told what to do (`restrain`).
"""

from __future__ import annotations

import os
import resource

from jubako.boxes.resources.groups import join_groups
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.resources.plan_limits import LimitPlan

__all__ = ["Restraint", "bound_process", "restrain"]

_FIELDS = {name: getattr(resource, name) for name in ("RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE")} | {
    "RLIMIT_NPROC": resource.RLIMIT_NPROC
}


@record
class Restraint:
    """A plan, for the processes of a command's box. Needs nothing imported: their view may hide Python's files."""

    plan: LimitPlan

    def join(self) -> None:
        """Moves this process, and all it will start, into the groups."""
        join_groups(self.plan.groups)

    def bound(self) -> None:
        """Bounds this process, and what it becomes."""
        bound_process(self.plan)


def bound_process(plan: LimitPlan, pid: int = 0) -> None:
    """Sets the resource limits and the affinity of a process, by default this one; what it starts inherits them.

    A limit that is set lower already stays.
    """
    for one in plan.resource_limits:
        _soft, hard = resource.prlimit(pid, _FIELDS[one.name])
        if hard != resource.RLIM_INFINITY:
            resource.prlimit(pid, _FIELDS[one.name], (min(one.soft, hard), min(one.hard, hard)))
        else:
            resource.prlimit(pid, _FIELDS[one.name], (one.soft, one.hard))
    if plan.processors is not None:
        os.sched_setaffinity(pid, sorted(os.sched_getaffinity(pid))[: plan.processors])


def restrain(plan: LimitPlan, pid: int) -> None:
    """Moves a process of another box into its groups and bounds it."""
    join_groups(plan.groups, pid)
    bound_process(plan, pid)
