"""What a schedule does now: pure. From what was looked at before, the time and what still runs, to what to start.

    firing ─── at most GRACE_S late ───── overlap: start │ queue │ dropped, "busy"
           └── later: missed ─────────── catch_up: queue │ dropped, "missed"
                                                     queue ─── one at a time, oldest first; over the limit: dropped

Moments are seconds since 1970. Time that goes back brings nothing up again: what was looked at stays looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from jubako.records import record

if TYPE_CHECKING:
    from jubako.flow.schedules.firings import Rule
    from jubako.flow.schedules.schedule import CatchUp, Overlap

__all__ = ["GRACE_S", "QUEUE_LIMIT", "Decision", "Dropped", "Progress", "decide"]

GRACE_S: Final = 60  # the scheduler looks twice as often: later than that, it or the machine did not run
QUEUE_LIMIT: Final = 100  # firings that wait at a time; a backfill is for more


@record
class Progress:
    """How far a schedule is: all firings up to `seen_s` were looked at; of these `waiting` are still to be started."""

    seen_s: int
    waiting: tuple[int, ...] = ()

    @property
    def settled_s(self) -> int:
        """Nothing up to here has to be looked at again after a restart."""
        return self.waiting[0] - 1 if self.waiting else self.seen_s


@record
class Dropped:
    """Firings that will not be started, from the first to the last of them."""

    why: Literal["missed", "busy", "limit"]
    moments: tuple[int, ...]


@record
class Decision:
    """What to do: start `start`, in order, say `dropped`, and go on from `progress`."""

    progress: Progress
    start: tuple[int, ...]
    dropped: tuple[Dropped, ...]


def decide(
    rule: Rule, progress: Progress, now_s: int, *, catch_up: CatchUp, overlap: Overlap, running: int
) -> Decision:
    """What is due at `now_s`, with `running` runs of this schedule going on."""
    due = tuple(rule.between(progress.seen_s, now_s))
    missed = tuple(moment for moment in due if now_s - moment > GRACE_S)
    kept = {"none": 0, "latest": 1, "all": len(missed)}[catch_up]
    waiting = [*progress.waiting, *missed[len(missed) - kept :]]
    dropped = [Dropped("missed", missed[: len(missed) - kept])]

    was_busy = running > 0 or bool(progress.waiting)
    start: list[int] = []
    busy: list[int] = []
    for moment in due[len(missed) :]:
        if overlap == "allow" and not waiting:
            start.append(moment)
        elif overlap == "skip" and (was_busy or start):
            busy.append(moment)
        else:
            waiting.append(moment)
            if not was_busy and not start:
                start.append(waiting.pop(0))
    dropped.append(Dropped("busy", tuple(busy)))

    if waiting and not running and not start:
        start.append(waiting.pop(0))
    over = max(0, len(waiting) - QUEUE_LIMIT)
    dropped.append(Dropped("limit", tuple(waiting[:over])))
    return Decision(
        Progress(max(progress.seen_s, now_s), tuple(waiting[over:])),
        tuple(start),
        tuple(each for each in dropped if each.moments),
    )
