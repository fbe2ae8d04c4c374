"""Sizes, times and counts as people write them on a command line, and the limits they come to."""

from __future__ import annotations

from jubako.boxes.limits import Limits
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["parse_limits", "parse_number", "parse_seconds", "parse_size"]

_SIZES = {letter: 1 << 10 * power for power, letter in enumerate("KMGT", start=1)}
_DECIMAL_SIZES = {letter: 1000**power for power, letter in enumerate("KMGT", start=1)}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_limits(values: Mapping[str, str | None], *, measure: bool) -> Limits | None:
    """The limits that options ask for, by the names `Limits` has; None if no limit is given and nothing measured."""
    given = {name: value for name, value in values.items() if value is not None}
    if not given and not measure:
        return None
    numbers: dict[str, float] = {}
    for name, text in given.items():
        option, parse = _OPTIONS[name]
        try:
            numbers[name] = parse(text)
        except ValueError as error:
            raise InputError(f"{option} {text!r}: {error}") from None
    try:
        return Limits(**numbers)  # type: ignore[arg-type]
    except InputError as error:
        message = error.message
        for name, number in numbers.items():
            message = message.replace(f"{name}={number!r}", f"{_OPTIONS[name][0]} {given[name]}")
        raise InputError(message) from None


def parse_size(text: str) -> int:
    """Bytes: "1048576", "512K", "512M", "1.5GiB" (powers of 1024), "512MB" (powers of 1000)."""
    number, unit = _split(text, "is no size, such as 512M or 2G")
    letter, rest = unit[:1].upper(), unit[1:].lower()
    if unit and (letter not in _SIZES or rest not in ("", "b", "ib")):
        raise ValueError("is no size, such as 512M or 2G")
    return round(number * (_DECIMAL_SIZES if rest == "b" else _SIZES).get(letter, 1))


def parse_seconds(text: str) -> float:
    """Seconds: "10", "10s", "1.5m", "2h", "250ms"."""
    number, unit = _split(text, "is no time, such as 10s, 5m or 2h")
    if unit and unit not in _SECONDS:
        raise ValueError("is no time, such as 10s, 5m or 2h")
    return number * _SECONDS.get(unit, 1.0)


def parse_number(text: str) -> float:
    """Any number: "1.5"."""
    number, unit = _split(text, "is no number")
    if unit:
        raise ValueError("is no number")
    return number


def _parse_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("is no whole number")
    return int(text)


def _split(text: str, otherwise: str) -> tuple[float, str]:
    """The number at the beginning and what follows it; ValueError says `otherwise`."""
    at = len(text)
    while at and not (text[at - 1].isascii() and text[at - 1].isdecimal()):
        at -= 1
    digits = text[:at]
    if digits.count(".") > 1 or not digits.replace(".", "").isdecimal() or not digits.isascii():
        raise ValueError(otherwise)
    return float(digits), text[at:].strip()


_OPTIONS = {
    "memory_bytes": ("--memory", parse_size),
    "cpus": ("--cpus", parse_number),
    "pids": ("--pids", _parse_count),
    "files": ("--files", _parse_count),
    "wall_s": ("--time", parse_seconds),
    "cpu_s": ("--cpu-time", parse_seconds),
    "disk_bytes": ("--disk", parse_size),
}
