"""A parameter whose value is a length of time."""

from __future__ import annotations

import datetime
import re
import warnings

from jubako.flow.parameters.errors import ParameterException
from jubako.flow.parameters.parameter import Parameter

__all__ = ["TimeDeltaParameter"]

_UNITS = ("weeks", "days", "hours", "minutes", "seconds")  # in the order they must be written

# As in Luigi, both forms are matched at the start only: what follows is ignored ("2 days 1 week" is 2 days).
_WORDS = re.compile("".join(rf"(?:(?P<{unit}>\d+)\s?{unit[0]}(?:{unit[1:-1]}s?)?\s?)?" for unit in _UNITS))
_ISO_WEEKS = re.compile(r"P(?P<weeks>\d+)W")
_ISO = re.compile(r"P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?")


class TimeDeltaParameter(Parameter[datetime.timedelta]):
    """A length of time: seconds (`90`), `1 w 2 d 3 h` (or in words, longest unit first), ISO 8601 (`P1DT2H`)."""

    def parse(self, x: str) -> datetime.timedelta:
        value = _parse_seconds(x)
        for form in (_ISO_WEEKS, _ISO, _WORDS):
            if value is None:
                value = _parse_units(form, x)
        if value is None:
            raise ParameterException(f"Invalid time delta - could not parse {x}")
        return value

    def serialize(self, x: datetime.timedelta) -> str:
        weeks, days = divmod(x.days, 7)
        hours, seconds = divmod(x.seconds, 3600)
        minutes, seconds = divmod(seconds, 60)
        return f"{weeks} w {days} d {hours} h {minutes} m {seconds} s"

    def warn_on_wrong_type(self, param_name: str, value: object) -> None:
        if type(self) is TimeDeltaParameter and not isinstance(value, datetime.timedelta):
            warnings.warn(f'Parameter "{param_name}" with value "{value}" is not of type timedelta.', stacklevel=6)


def _parse_seconds(text: str) -> datetime.timedelta | None:
    try:
        return datetime.timedelta(seconds=float(text))
    except (ValueError, OverflowError):  # no number, not a number, or longer than a timedelta can be
        return None


def _parse_units(form: re.Pattern[str], text: str) -> datetime.timedelta | None:
    match = form.match(text)
    parts = {} if match is None else {unit: int(count) for unit, count in match.groupdict().items() if count}
    try:
        return datetime.timedelta(**parts) if parts else None
    except OverflowError:
        return None
