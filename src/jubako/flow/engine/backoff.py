"""How long a task that has failed waits before it is tried again. A value; pure."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["NO_DELAY", "Backoff"]


class Backoff(NamedTuple):
    """`delay_s` before the second try, `factor` times as long before each further one, never more than `most_s`."""

    delay_s: float = 0.0
    factor: float = 1.0
    most_s: float = 3600.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after so many failures, the first being 1."""
        try:
            return min(self.most_s, self.delay_s * self.factor ** (failures - 1))
        except OverflowError:  # 10.0 ** 1000 is no float
            return self.most_s

    def find_fault(self) -> str:
        """What is wrong with the numbers, in words; empty if nothing is."""
        if self.delay_s < 0:
            return f"a delay of {self.delay_s} s is negative"
        if self.factor < 1:
            return f"a back-off factor of {self.factor} is less than 1"
        return f"a longest delay of {self.most_s} s is negative" if self.most_s < 0 else ""


NO_DELAY: Final = Backoff()
