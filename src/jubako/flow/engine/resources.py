"""Named resources as counts with a queue each: who takes what, who waits, who is woken when something comes back.

A task takes all it needs or nothing, and waits at the first resource that is short, in the order of its entry
(-priority, number). Nobody is overtaken there by somebody less important, so a big need is not starved by small ones.
As many are woken as would fit; whoever then finds another resource short waits there, and makes way here. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush

__all__ = ["Entry", "Needs", "Resources"]

Entry = tuple[float, int]  # -priority, number of the task
Needs = tuple[tuple[str, int], ...]  # (resource, amount)


class Resources:
    """What is left of each resource. One without a stated capacity has 1."""

    def __init__(self, capacities: Mapping[str, int]) -> None:
        self._capacities = dict(capacities)
        self._used: dict[str, int] = {}
        self._waiters: dict[str, list[tuple[Entry, int]]] = {}

    def is_too_much(self, needs: Needs) -> bool:
        """True if a resource could never suffice."""
        return any(amount > self._capacities.get(name, 1) for name, amount in needs)

    def take(self, entry: Entry, needs: Needs) -> list[Entry] | None:
        """Takes all of `needs` (None), or queues `entry`; then those that may have a go at what it leaves free."""
        short = next(((name, amount) for name, amount in needs if self._is_short(name, amount, entry)), None)
        if short is None:
            for name, amount in needs:
                self._used[name] = self._used.get(name, 0) + amount
            return None
        heappush(self._waiters.setdefault(short[0], []), (entry, short[1]))
        return [woken for name, _ in needs if name != short[0] for woken in self._wake(name)]

    def give_back(self, needs: Needs) -> list[Entry]:
        """Gives `needs` back; who may have a go at them now."""
        for name, amount in needs:
            self._used[name] -= amount
        return [woken for name, _ in needs for woken in self._wake(name)]

    def _is_short(self, name: str, amount: int, entry: Entry) -> bool:
        """True when `amount` is not there, or somebody more important waits for it."""
        waiters = self._waiters.get(name)
        if waiters and waiters[0][0] < entry:
            return True
        return self._left(name) < amount

    def _left(self, name: str) -> int:
        return self._capacities.get(name, 1) - self._used.get(name, 0)

    def _wake(self, name: str) -> list[Entry]:
        """Takes the first waiters off the queue, as many as would fit."""
        waiters, left = self._waiters.get(name), self._left(name)
        woken = []
        while waiters and waiters[0][1] <= left:
            entry, amount = heappop(waiters)
            left -= amount
            woken.append(entry)
        return woken
