"""When a cron expression fires in a time zone: moments, as seconds since 1970. Pure.

Local times are named by `cron`; each becomes a moment as long as the zone's offset stays what it is. Where clocks are
changed it depends on how the expression is written, as with Debian's cron:

    "30 2 * * *"      at fixed times   a time that is skipped fires at the change, once however many are skipped;
                                       a time that comes twice fires the first time
    "*/30 * * * *"    how often        what clocks show is what counts: skipped times don't fire, repeated ones do again
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from jubako.flow.schedules.time_zone import find_change, is_repeated, local_time, offset_s
from jubako.records import record

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from jubako.flow.schedules.cron import Cron

__all__ = ["Rule"]

_EPOCH: Final = datetime.datetime(1970, 1, 1)
_SECOND: Final = datetime.timedelta(seconds=1)


@record
class Rule:
    """When something fires."""

    cron: Cron
    zone: ZoneInfo

    @property
    def text(self) -> str:
        """The rule in words: "0 6 * * * Asia/Tokyo". Two rules with one text are the same rule."""
        return f"{self.cron.text} {self.zone.key}"

    def find_after(self, after_s: int) -> int | None:
        """The first firing later than `after_s`; None if there is none in the next 50 years."""
        moment_s, offset = after_s, offset_s(self.zone, after_s)
        local = local_time(after_s, offset)
        while (match := self.cron.find_after(local)) is not None:
            firing_s = int((match - _EPOCH).total_seconds()) - offset
            change_s = find_change(self.zone, moment_s, firing_s)
            if change_s is None:
                if not (self.cron.is_at_fixed_times and is_repeated(self.zone, firing_s)):
                    return firing_s
                moment_s, local = firing_s, match
                continue
            moment_s, offset = change_s, offset_s(self.zone, change_s)
            resumed = local_time(change_s, offset)
            if self.cron.is_at_fixed_times and match < resumed:  # clocks were put forward, over `match`
                return change_s
            local = resumed - _SECOND  # `resumed` itself may be named
        return None

    def following(self, after_s: int) -> Iterator[int]:
        """All firings later than `after_s`, in order."""
        moment_s = self.find_after(after_s)
        while moment_s is not None:
            yield moment_s
            moment_s = self.find_after(moment_s)

    def between(self, after_s: int, until_s: int) -> Iterator[int]:
        """Those of them up to and including `until_s`."""
        return takewhile(lambda moment_s: moment_s <= until_s, self.following(after_s))
