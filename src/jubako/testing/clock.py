"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from jubako.flow.clock import Moment

__all__ = ["FakeClock"]


class FakeClock:
    """Both clocks of `jubako.flow.clock.Clock`, moved by hand.

    >>> clock = FakeClock(wall_s=100.0)
    >>> clock.advance(5)
    >>> clock.wall_s(), clock.moment().monotonic_s
    (105.0, 5.0)
    """

    def __init__(self, *, wall_s: float = 0.0, monotonic_s: float = 0.0, boot_id: str = "boot-1") -> None:
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._boot_id = boot_id

    def wall_s(self) -> float:
        return self._wall_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def moment(self) -> Moment:
        return Moment(self._boot_id, self._monotonic_s)

    def advance(self, seconds: float) -> None:
        """Lets both clocks go on."""
        self._wall_s += seconds
        self._monotonic_s += seconds

    def sleep(self, seconds: float) -> None:
        """Puts the machine to sleep: the wall clock goes on, CLOCK_MONOTONIC does not."""
        self._wall_s += seconds

    def reboot(self, boot_id: str) -> None:
        """Starts the machine anew."""
        self._boot_id = boot_id
        self._monotonic_s = 0.0
