"""Which values of a dated parameter a look at its tasks is about: what was asked for, else what is recorded. Pure."""

from __future__ import annotations

import datetime
from itertools import islice
from typing import Any, Final

from jubako.errors import InputError
from jubako.flow.backfills.backfill import enumerate_values
from jubako.flow.date_interval import Month, Year, parse_interval
from jubako.flow.parameters import DateParameter, Parameter, parse_argument
from jubako.records import record

__all__ = ["Ends", "list_shown", "parse_ends"]

_MOST: Final = 1_000_000


@record
class Ends:
    """What was asked for: from `first` up to, not including, `stop`; None where nothing was said."""

    first: Any = None
    stop: Any = None


def parse_ends(
    family: str,
    parameter: Parameter[Any],
    *,
    start: str | None = None,
    stop: str | None = None,
    month: str | None = None,
    year: str | None = None,
) -> Ends:
    """The ends of a range as written on a command line, at most one of its three forms. InputError for nonsense."""
    for text, kind, flag, form in ((month, Month, "--month", "YYYY-MM"), (year, Year, "--year", "YYYY")):
        if text is not None:
            try:
                interval = parse_interval(text)
            except ValueError as error:
                raise InputError(f"{flag} {text!r} can't be read", hint=f"its form is {form}") from error
            if not isinstance(interval, kind):
                raise InputError(f"{flag} {text!r} can't be read", hint=f"its form is {form}")
            return Ends(_value_at(parameter, interval.date_a), _value_at(parameter, interval.date_b))
    first = None if start is None else parse_argument(parameter, family, "from", start)
    last = None if stop is None else parse_argument(parameter, family, "to", stop)
    if first is not None and last is not None and last <= first:
        raise InputError(f"from {start} up to {stop} there is nothing", hint="--to is not part of the range")
    return Ends(first, last)


def list_shown(
    family: str, parameter: Parameter[Any], ends: Ends, recorded: tuple[Any, Any] | None, now: datetime.datetime
) -> list[Any]:
    """The values to show. Where nothing was said, those from the first to the last that is `recorded`.

    A range with a beginning and no end goes on until `now`. InputError where there is nothing to go by, or too much.
    """
    first, stop, inclusive = ends.first, ends.stop, False
    if first is None:
        if recorded is None:
            raise InputError(
                f"nothing of {family} with these parameters is recorded, so there is nothing to begin with",
                hint="say what to show: --from and --to, --month or --year",
            )
        first = recorded[0]
        if stop is None:
            stop, inclusive = recorded[1], True
    elif stop is None:
        stop, inclusive = parameter.normalize(now), True
    values = list(islice(enumerate_values(parameter, first, stop, inclusive=inclusive), _MOST + 1))
    if not values:
        raise InputError(f"no value of {family}'s parameter lies in that range")
    if len(values) > _MOST:
        raise InputError(f"that are more than {_MOST:,} tasks", hint="--from and --to narrow it down")
    return values


def _value_at(parameter: Parameter[Any], day: datetime.date) -> Any:
    """The beginning of a day, in the type that the parameter's values have."""
    return day if isinstance(parameter, DateParameter) else datetime.datetime.combine(day, datetime.time())
