"""Waits for a box to end, and ends it when its time, its processor time, its memory or its disk is used up.

Time: the command gets TERM, as if somebody had sent it to jubako, and after the grace all of the box is killed. The
others: all of the box is killed at once. Nobody tells a process that an account or a directory has grown, so each is
looked at as often as it could matter.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

from jubako.boxes.resources.disk import find_open_files, measure_deleted, measure_directories
from jubako.boxes.resources.tree import read_tree
from jubako.kernel.process import pidfd_open, pidfd_send_signal
from jubako.kernel.process_tree import find_tree
from jubako.kernel.signals import signal
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import TypeAlias

    from jubako.boxes.limits import Limits
    from jubako.boxes.resources.plan_limits import Added
    from jubako.boxes.resources.usage import Stopped

__all__ = ["Look", "Stop", "Watch", "look_at_account", "look_at_disk", "look_at_tree"]

Look: TypeAlias = "Callable[[int], tuple[Stopped, float]]"

_LEAST_PAUSE_S = 0.02
_LOOK_PAUSE_S = 0.1
_LOOK_SHARE = 10  # of the processor time that a look takes, so that a large box does not keep one busy


@record
class Stop:
    """Who ended the box, "" for itself; and the seconds its processes had used when they were killed, which the kernel
    forgets with a pid 1 that is killed."""

    why: Stopped
    user_s: float = 0.0
    system_s: float = 0.0


@record
class Watch:
    """What to look at. A look says what is used up by now, "" if nothing is, and how long that holds for sure."""

    limits: Limits
    looks: tuple[Look, ...] = ()

    def wait(self, pid: int, hand_down: Callable[[int], None]) -> Stop:
        """Waits until the child `pid` has ended (it is still to be reaped) or is killed here; says whose doing it was.

        `hand_down` passes a signal on to the command.
        """
        ended = pidfd_open(pid)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        try:
            return self._watch(poll, pid, ended, hand_down)
        finally:
            os.close(ended)

    def _watch(self, poll: select.poll, pid: int, ended: int, hand_down: Callable[[int], None]) -> Stop:
        stopped: Stopped = ""
        now = time.monotonic()
        deadline = None if self.limits.wall_s is None else now + self.limits.wall_s
        due = dict.fromkeys(self.looks, now)
        while True:
            if deadline is not None and now >= deadline:
                if stopped:
                    return _kill(pid, ended, stopped)
                stopped = "wall"
                deadline = now + self.limits.grace_s
                hand_down(signal.SIGTERM)
            for look in [look for look, at in due.items() if at <= now]:
                before_s = time.thread_time()
                used_up, holds_s = look(pid)
                if used_up:
                    return _kill(pid, ended, stopped or used_up)
                cost_s = time.thread_time() - before_s
                due[look] = time.monotonic() + max(holds_s, _LEAST_PAUSE_S, cost_s * _LOOK_SHARE)
            next_at = min([*due.values(), *(() if deadline is None else (deadline,))], default=None)
            if poll.poll(None if next_at is None else max(0.0, next_at - time.monotonic()) * 1000):
                return Stop(stopped)
            now = time.monotonic()


def look_at_account(limit_s: float, processors: int, read_cpu_s: Callable[[], float]) -> Look:
    """Looks at a group's account of processor time, which goes by at most `processors` times as fast as time."""

    def look(_pid: int) -> tuple[Stopped, float]:
        left_s = limit_s - read_cpu_s()
        return ("cpu" if left_s <= 0 else "", left_s / processors)

    return look


def look_at_tree(limits: Limits, added: Collection[Added], own_processes: int) -> Look:
    """Adds up what the box's processes use."""

    def look(pid: int) -> tuple[Stopped, float]:
        account = read_tree(pid, own_processes, with_memory="memory" in added)
        if "cpu" in added and limits.cpu_s is not None and account.user_s + account.system_s >= limits.cpu_s:
            return "cpu", 0.0
        if limits.memory_bytes is not None and account.memory_bytes > limits.memory_bytes:
            return "memory", 0.0
        return "", _LOOK_PAUSE_S

    return look


def look_at_disk(limit_bytes: int, directories: Sequence[str]) -> Look:
    """Measures what the box has written: what lies there, and what its processes alone still hold."""
    ours = find_open_files()

    def look(pid: int) -> tuple[Stopped, float]:
        taken = measure_directories(directories)
        if taken <= limit_bytes:
            taken += measure_deleted(find_tree(pid), ours)
        return ("disk" if taken > limit_bytes else "", _LOOK_PAUSE_S)

    return look


def _kill(pid: int, ended: int, why: Stopped) -> Stop:
    account = read_tree(pid, 0, with_memory=False)
    with suppress(ProcessLookupError):  # it has ended
        pidfd_send_signal(ended, signal.SIGKILL)
    return Stop(why, account.user_s, account.system_s)
