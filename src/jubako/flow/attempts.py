"""One attempt at one task, and what the run loop asks tasks before it starts one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jubako.flow.options import RunOptions
from jubako.records import record

if TYPE_CHECKING:
    from jubako.boxes.spec import Output, StagedOutput
    from jubako.boxes.transactions.signature import Signature

__all__ = ["Attempt", "Prepared", "get_timeout_s"]


@record(frozen=False)
class Prepared:
    """What was noted before an attempt started, so that its result can be published or thrown away."""

    outputs: tuple[Output, ...]
    other_targets: tuple[Any, ...]  # declared, and not files of this machine: looked at afterwards
    staged: tuple[StagedOutput, ...]
    expected: tuple[Signature | None, ...] = ()  # of `outputs`
    sent: tuple[tuple[Any, StagedOutput], ...] = ()  # declared targets in stores, which are sent before publishing
    inputs: tuple[tuple[str, Signature | None], ...] = ()
    kept_box: str = ""  # id of the box made for a failure; removed when it succeeds
    kept_fd: int = -1
    stages_undeclared: bool = False
    unmade: tuple[str, ...] = ()  # outputs that the box has not made, where that is no failure


class Attempt:
    """An attempt that has been started. `prepared` is what a box needs; None without one.

    `members` are the numbered tasks it stands for: its own, or those of a batch, of which `number` is the first one's.
    """

    __slots__ = ("id", "made_of", "members", "number", "prepared", "started_s", "task")

    def __init__(
        self, number: int, task: Any, id: str, started_s: float, members: Sequence[tuple[int, Any]] = ()
    ) -> None:
        self.number = number  # of the task
        self.members = tuple(members) or ((number, task),)
        self.task = task
        self.id = id
        self.started_s = started_s  # seconds since 1970
        self.prepared: Prepared | None = None
        self.made_of: dict[str, str] = {}  # by task id: what those are made of that track it

    @property
    def tasks(self) -> Sequence[Any]:
        """The task, and after it those that a batch stands for."""
        return [self.task, *(task for _, task in self.members if task != self.task)]

    @property
    def is_batch(self) -> bool:
        return len(self.members) > 1


def get_timeout_s(task: Any, options: RunOptions) -> float | None:
    """The task's time limit; None if it has none."""
    limit = options.timeout_s if task.worker_timeout is None else task.worker_timeout
    return float(limit) if limit else None
