"""What time it is, as the run loop is told it: the one place in `flow` that asks."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

__all__ = ["Clock", "Moment", "SystemClock"]


class Moment(NamedTuple):
    """A point in time that survives the machine sleeping: seconds of CLOCK_MONOTONIC within one boot."""

    boot_id: str
    monotonic_s: float


class Clock(Protocol):
    """Two clocks: one for people, one that only goes forward."""

    def wall_s(self) -> float:
        """Seconds since 1970."""

    def monotonic_s(self) -> float:
        """CLOCK_MONOTONIC: goes forward, and stands still while the machine sleeps."""

    def moment(self) -> Moment:
        """The same, with the boot it counts from."""


class SystemClock:
    """This machine's clocks."""

    def __init__(self) -> None:
        self._boot_id = _read_boot_id()

    def wall_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def moment(self) -> Moment:
        return Moment(self._boot_id, time.monotonic())


def _read_boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:  # not Linux, or /proc hidden: then only locks tell whether a run lives
        return ""
