"""The limits of one attempt at a task, kept from outside: by the foreman, on the child that waits to be told its call.

The child is moved into the attempt's control groups and bounded before it hears what it is to do, so no code of the
pipeline runs without. What it was forked from stays out: memory that it shares with the zygote counts in no group.
"""

from __future__ import annotations

import os

from jubako.boxes.limits import Limits
from jubako.boxes.resources.facts import read_limit_facts
from jubako.boxes.resources.groups import make_groups, read_cpu_s, read_groups, sweep_groups
from jubako.boxes.resources.plan_limits import LimitPlan, plan_limits
from jubako.boxes.resources.restrain import restrain
from jubako.boxes.resources.tree import TreeAccount, read_tree
from jubako.boxes.resources.usage import Ending, describe_exceeded
from jubako.errors import HostError
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.process_tree import find_tree
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from jubako.boxes.job import Job
    from jubako.boxes.resources.groups import Readings
    from jubako.boxes.resources.usage import Stopped

__all__ = ["TaskLimits", "limit_task"]

_OWN_IN_USER_NAMESPACE = 2  # foreman and zygote; the supervisor is outside
_LOOK_PAUSE_S = 0.1
_LEAST_PAUSE_S = 0.02


@record(frozen=False)
class TaskLimits:
    """What keeps one attempt to its limits. Use it with `with`: its groups are there meanwhile."""

    limits: Limits
    plan: LimitPlan
    processors: int
    zygote: int  # its pid, as this process sees it
    record_path: str
    _before: TreeAccount | None = None  # what the zygote's earlier children have used
    _readings: Readings | None = None

    def __enter__(self) -> Self:
        try:
            make_groups(self.plan.groups, self.record_path)
        except HostError:
            if any(group.settings for group in self.plan.groups):
                raise
            self.plan = replace(self.plan, groups=())  # they would only have measured
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sweep_groups(self.record_path)

    def restrain_child(self) -> None:
        """Restrains the zygote's child, which has its view and waits for its call. HostError where that fails."""
        self._before = read_tree(self.zygote, 1, with_memory=False)
        children = find_tree(self.zygote)[1:]
        try:
            for pid in children:
                restrain(self.plan, pid)
        except OSError as error:
            raise HostError(f"the limits of a task cannot be set: {error}") from error

    def look(self) -> tuple[Stopped, float]:
        """What is used up by now, "" if nothing is, and how long that holds for sure."""
        if self.plan.adds_up:
            account = read_tree(self.zygote, 1, with_memory="memory" in self.plan.adds_up)
            before = self._before or TreeAccount(0.0, 0.0, 0)
            cpu_s = account.user_s + account.system_s - before.user_s - before.system_s
            if "cpu" in self.plan.adds_up and self.limits.cpu_s is not None and cpu_s >= self.limits.cpu_s:
                return "cpu", 0.0
            if self.limits.memory_bytes is not None and account.memory_bytes > self.limits.memory_bytes:
                return "memory", 0.0
            return "", _LOOK_PAUSE_S
        if self.plan.reads_account and self.limits.cpu_s is not None:
            left_s = self.limits.cpu_s - read_cpu_s(self.plan.groups)
            return ("cpu" if left_s <= 0 else "", max(_LEAST_PAUSE_S, left_s / self.processors))
        return "", float("inf")

    def describe(self, exit_status: int, stopped: Stopped) -> str:
        """Which limits were met, as a part of a sentence about the task; "" for none. Nothing of it runs any more."""
        self._readings = read_groups(self.plan.groups, 0) if self.plan.groups else None
        said = describe_exceeded(self.limits, Ending(exit_status, stopped), self._readings, "it")
        return "; ".join(one.removeprefix("it ") for one in said)

    @property
    def peak_bytes(self) -> int:
        """Of all processes together; 0 where nobody has counted it."""
        return (self._readings.peak_memory_bytes or 0) if self._readings is not None else 0


def limit_task(job: Job, scratch_root: str, zygote: int, *, own_user_namespace: bool) -> TaskLimits:
    """The limits of `job`, planned. HostError for one that nobody would keep, or that is none of a task's."""
    limits = job.box.limits
    if not isinstance(limits, Limits):
        raise HostError(f"limits={limits!r} is not a jubako.Limits(...)")
    if limits.disk_bytes is not None:
        raise HostError(
            "disk_bytes is a limit of commands, and none of a task's",
            hint="Box(scratch_size_bytes=...) limits what a task writes beside its outputs",
        )
    facts = read_limit_facts(
        read_mount_table(),
        own_user_namespace=own_user_namespace,
        own_processes=0,
        own_counted=_OWN_IN_USER_NAMESPACE,
    )
    # Runs of two state roots may be called alike; of this process's name there is one as long as it lives.
    name = f"jubako-{os.path.basename(scratch_root)}-{job.id}-{os.getpid()}".replace("/", "-")
    plan = plan_limits(limits, facts, name)
    return TaskLimits(limits, plan, facts.processors, zygote, os.path.join(scratch_root, f"{job.id}.groups"))
