"""Time zones by name, and when their clocks are changed.

Between two changes of a zone's offset local time is plain arithmetic; whoever counts local times steps from one change
to the next. Zones come from this machine's own database, which its updates keep current (docs/decisions/0011).
"""

from __future__ import annotations

import datetime
import difflib
import math
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from jubako.errors import HostError, InputError

__all__ = ["find_change", "find_zone", "is_repeated", "local_time", "offset_s", "parse_moment"]

_EPOCH: Final = datetime.datetime(1970, 1, 1)
_STEP_S: Final = 6 * 3600  # no zone has changed its clocks twice within that since 1970
_FIRST_YEAR, _LAST_YEAR = 1900, 9000
_MOMENT_FORM: Final = "like 2026-03-14, 2026-03-14T06:00, 2026-03-14T06:00Z or 2026-03-14T06:00+09:00"


def find_zone(name: str) -> ZoneInfo:
    """The zone called `name`; InputError with those that come near, HostError where the machine knows none at all."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:  # no such file, "../x", a folder
        known = available_timezones()
        if not known:
            raise HostError(
                f"this machine has no time zones, {name!r} among them",
                hint="install them with the system (apt install tzdata), or with pip install tzdata",
            ) from error
        raise InputError(f"there is no time zone {name!r}", hint=_suggest(str(name), known)) from error


def offset_s(zone: ZoneInfo, moment_s: int) -> int:
    """How many seconds local time is ahead of UTC, at `moment_s` seconds since 1970."""
    offset = datetime.datetime.fromtimestamp(moment_s, zone).utcoffset()
    assert offset is not None  # a ZoneInfo has one
    return int(offset.total_seconds())


def local_time(moment_s: int, offset_s: int) -> datetime.datetime:
    """The naive local time of a moment under an offset."""
    return _EPOCH + datetime.timedelta(seconds=moment_s + offset_s)


def is_repeated(zone: ZoneInfo, moment_s: int) -> bool:
    """True if clocks have shown this moment's local time before: they were put back meanwhile."""
    return datetime.datetime.fromtimestamp(moment_s, zone).fold == 1


def find_change(zone: ZoneInfo, after_s: int, until_s: int) -> int | None:
    """The first second after `after_s`, up to and including `until_s`, with another offset than `after_s` has."""
    before = offset_s(zone, after_s)
    same_s = after_s
    while same_s < until_s:
        changed_s = min(same_s + _STEP_S, until_s)
        if offset_s(zone, changed_s) == before:
            same_s = changed_s
            continue
        while changed_s - same_s > 1:
            middle_s = (same_s + changed_s) // 2
            if offset_s(zone, middle_s) == before:
                same_s = middle_s
            else:
                changed_s = middle_s
        return changed_s
    return None


def parse_moment(text: str, zone: ZoneInfo) -> int:
    """Seconds since 1970 of "2026-03-14", "2026-03-14T06:00", "2026-03-14T06:00Z"; in `zone`, if it says no other.

    Of a time that comes twice the first, of one that is skipped as long after the change as it would have been.
    """
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is no moment: {error}", hint=_MOMENT_FORM) from error
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise InputError(f"{text!r} is not between the years {_FIRST_YEAR} and {_LAST_YEAR}", hint=_MOMENT_FORM)
    return math.floor((moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).timestamp())


def _suggest(name: str, known: set[str]) -> str:
    """What may have been meant: by the whole name, and by the city alone."""
    places = {zone.casefold(): zone for zone in known}
    by_city = {zone.rpartition("/")[2].casefold(): zone for zone in sorted(known, reverse=True)}
    wanted = name.casefold().replace(" ", "_")
    city = wanted.rpartition("/")[2]
    near = [by_city[found] for found in difflib.get_close_matches(city, by_city, n=2, cutoff=0.75)]
    near += [places[found] for found in difflib.get_close_matches(wanted, places, n=2, cutoff=0.75)]
    if not near:
        return "zones are called like Asia/Tokyo, Europe/Berlin or UTC"
    return f"did you mean {' or '.join(dict.fromkeys(near))}?"
