"""The limits of one command's box: planned, its groups made and removed, and what it used.

Imported for boxes that have limits alone.
"""

from __future__ import annotations

import os

from jubako.boxes.limits import Limits
from jubako.boxes.resources.disk import measure_directories
from jubako.boxes.resources.facts import read_limit_facts
from jubako.boxes.resources.groups import RECORD_NAME, make_groups, read_cpu_s, read_groups, sweep_groups
from jubako.boxes.resources.plan_limits import LimitPlan, plan_limits
from jubako.boxes.resources.restrain import Restraint
from jubako.boxes.resources.usage import Ending, Usage, describe_exceeded, make_usage
from jubako.boxes.resources.watch import Watch, look_at_account, look_at_disk, look_at_tree
from jubako.errors import HostError, InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from jubako.boxes.commands.supervise import Ended
    from jubako.boxes.resources.groups import Readings
    from jubako.boxes.resources.watch import Look
    from jubako.kernel.mount_table import Mount

__all__ = ["Limited", "limit_box"]

_OWN_IN_GROUP = 1  # pid 1
_OWN_IN_USER_NAMESPACE = 2  # and the process that made the namespace


@record(frozen=False)
class Limited:
    """What keeps a box to its limits. Use it with `with`: the groups are there meanwhile."""

    limits: Limits
    plan: LimitPlan
    watch: Watch
    uppers: tuple[str, ...]
    record_path: str
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
        try:
            if kind is None and self.plan.groups:
                self._readings = read_groups(self.plan.groups, _OWN_IN_GROUP)
        finally:
            sweep_groups(self.record_path)  # where somebody is in it, in the kernel's eyes, a later start does it

    @property
    def restraint(self) -> Restraint:
        """For pid 1."""
        return Restraint(self.plan)

    def describe(self, ended: Ended) -> tuple[str, ...]:
        """A sentence for each limit that was met, when the box has ended."""
        return describe_exceeded(self.limits, _ending(ended), self._readings, "the command")

    def measure(self, ended: Ended) -> Usage:
        """What the box used, when it has ended."""
        return make_usage(_ending(ended), self._readings, measure_directories(self.uppers))


def _ending(ended: Ended) -> Ending:
    return Ending(
        exit_status=ended.exit_status,
        stopped=ended.stopped,
        wall_s=ended.wall_s,
        user_s=ended.user_s,
        system_s=ended.system_s,
        peak_bytes=ended.peak_bytes,
    )


def limit_box(
    limits: Limits, mounts: Sequence[Mount], directory: str, uppers: Sequence[str], *, own_user_namespace: bool
) -> Limited:
    """The limits of the box whose files are in `directory`, planned. HostError for one that nobody would keep."""
    if not isinstance(limits, Limits):
        raise InputError(f"limits={limits!r} is not a jubako.Limits(...)")
    facts = read_limit_facts(
        mounts,
        own_user_namespace=own_user_namespace,
        own_processes=_OWN_IN_GROUP,
        own_counted=_OWN_IN_USER_NAMESPACE,
    )
    own_processes = _OWN_IN_USER_NAMESPACE if own_user_namespace else _OWN_IN_GROUP
    plan = plan_limits(limits, facts, f"jubako-{os.path.basename(directory)}")
    looks: list[Look] = []
    if plan.reads_account and limits.cpu_s is not None:
        looks.append(look_at_account(limits.cpu_s, facts.processors, lambda: read_cpu_s(plan.groups)))
    if plan.adds_up:
        looks.append(look_at_tree(limits, plan.adds_up, own_processes))
    if limits.disk_bytes is not None:
        looks.append(look_at_disk(limits.disk_bytes, uppers))
    watch = Watch(limits, tuple(looks))
    return Limited(limits, plan, watch, tuple(uppers), os.path.join(directory, RECORD_NAME))
