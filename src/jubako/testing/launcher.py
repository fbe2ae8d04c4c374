"""A launcher of scheduled runs that runs nothing: they end when and how the test says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jubako.flow.schedules.schedule import Schedule

__all__ = ["FakeLauncher", "FakeRunning"]


class FakeRunning:
    """A run that goes on until `code` is set."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.interrupts = 0

    def fileno(self) -> int:
        return -1  # nobody waits for it

    def poll(self) -> int | None:
        return self.code

    def interrupt(self) -> None:
        self.interrupts += 1


class FakeLauncher:
    """Notes what was started, in order, as (name of the schedule, moment). `refusal` is raised instead, if set."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self.running: list[FakeRunning] = []
        self.refusal: OSError | None = None

    def start(self, schedule: Schedule, moment_s: int) -> FakeRunning:
        if self.refusal is not None:
            raise self.refusal
        self.started.append((schedule.name, moment_s))
        self.running.append(FakeRunning())
        return self.running[-1]
