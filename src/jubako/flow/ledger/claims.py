"""Claiming leases ahead: tasks that take microseconds must not cost a database commit each.

The first claim takes one lease; while batches are used up quickly, each takes twice as many of the tasks that would
start next, up to a limit. A run whose tasks take long holds hardly more leases than it has workers, so that two runs
of one pipeline share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from jubako.flow.clock import Moment
from jubako.flow.ledger.lease import Leases

__all__ = ["Claims"]

_MOST: Final = 256
_QUICK_S: Final = 0.05


class Claims:
    """What this run may start. `upcoming(limit)` gives the ids of tasks that would start next."""

    def __init__(self, leases: Leases, upcoming: Callable[[int], Iterable[str]]) -> None:
        self._leases = leases
        self._upcoming = upcoming
        self._ahead = 0
        self._last_s = float("-inf")

    def claim(self, task_id: str, now: Moment) -> str | None:
        """Makes the task ours; None if it is, or the id of the run that has it."""
        if task_id in self._leases.tokens:
            return None
        quick = now.monotonic_s - self._last_s < _QUICK_S
        self._ahead = min(max(1, self._ahead * 2), _MOST) if quick else 0
        self._last_s = now.monotonic_s
        claim = self._leases.claim(dict.fromkeys((task_id, *self._look_ahead())), now)
        return claim.holders.get(task_id)

    def _look_ahead(self) -> Iterable[str]:
        """What to claim along with a task. While what comes next is ours most of the rest is too: then nothing."""
        if self._ahead > 1 and not self._leases.tokens.keys().isdisjoint(self._upcoming(1)):
            return ()
        return self._upcoming(self._ahead)
