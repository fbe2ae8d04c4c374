"""Cron expressions: which local times they name. The only module that imports cronsim.

Five fields (minute, hour, day of month, month, day of week) as Debian's cron reads them, with names of months and days
and with steps; beyond it `L` and `LW` (the last day, the last working day of a month), `5L` (the last Friday), `MON#1`.

Times are naive here, minutes of a calendar without time zones: what becomes of them where clocks are changed is decided
in `firings` (docs/decisions/0011 says why not by the library).
"""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterator

from jubako.errors import InputError

__all__ = ["Cron"]

_FORM = "minute hour day-of-month month day-of-week: '0 6 * * *' is every day at 06:00"
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_SOME_DAY = datetime.datetime(2000, 1, 1)


class Cron:
    """One expression. InputError names what is wrong with it, or that it never comes true."""

    def __init__(self, text: str) -> None:
        self.text = _normalize(text)
        if (problem := _find_problem(self.text)) is not None:
            raise _refuse(self.text, problem)
        minute, hour, *_ = self.text.split()
        # What Debian's cron calls running at a specific time; other expressions say how often.
        self.is_at_fixed_times = not minute.startswith("*") and not hour.startswith("*")
        self._last: datetime.datetime | None = None
        self._following: Iterator[datetime.datetime] = iter(())
        if self.find_after(_SOME_DAY) is None:
            raise _refuse_never(self.text)

    def find_after(self, local: datetime.datetime) -> datetime.datetime | None:
        """The first time named that is later than `local`; None if there is none in the next 50 years.

        Quickest where it is asked for one time after the other.
        """
        if local != self._last:
            self._following = _times(self.text, local)
        self._last = next(self._following, None)
        return self._last


def _times(text: str, local: datetime.datetime) -> Iterator[datetime.datetime]:
    from cronsim import CronSim  # 3 ms, and only a pipeline with schedules needs it

    return CronSim(text, local)


def _normalize(text: str) -> str:
    stripped = " ".join(text.split())
    return _NICKNAMES.get(stripped.lower(), stripped)


def _find_problem(text: str) -> str | None:
    """What is wrong with how an expression is written, "bad minute"."""
    from cronsim import CronSimError  # see _times

    if len(fields := text.split()) != 5:
        return f"it has {len(fields)} field{'s' if len(fields) != 1 else ''} and not five"
    try:
        _times(text, _SOME_DAY)
    except CronSimError as error:
        return f"{str(error)[:1].lower()}{str(error)[1:]}"
    return None


def _refuse(text: str, problem: str) -> InputError:
    if text.startswith("@"):
        close = difflib.get_close_matches(text, _NICKNAMES, n=1)
        also = f"; did you mean {close[0]}?" if close else ""
        return InputError(f"the cron {text!r} can't be read{also}", hint=f"@daily and its kin, or {_FORM}")
    minute, hour, day, _, weekday = text.split() if len(text.split()) == 5 else [""] * 5
    if problem == "bad day-of-month" and _find_problem(f"{minute} {hour} {day} * {weekday}") is None:
        return _refuse_never(text)  # February 30: each field is right, and in other months there is such a day
    return InputError(f"the cron {text!r} can't be read: {problem}", hint=_FORM)


def _refuse_never(text: str) -> InputError:
    return InputError(f"the cron {text!r} never comes true", hint="there is no such day, in any year of the next fifty")
