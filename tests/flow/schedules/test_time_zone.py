"""Zones by name, changes of clocks, moments as text."""

from __future__ import annotations

import datetime
import sys
import zoneinfo
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest

from jubako.errors import HostError, InputError
from jubako.flow.schedules.time_zone import find_change, find_zone, is_repeated, offset_s, parse_moment

BERLIN = ZoneInfo("Europe/Berlin")


def seconds(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text).timestamp())


@pytest.fixture
def no_zones(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("tzdata", *(name for name in sys.modules if name.startswith("tzdata."))):
        monkeypatch.setitem(sys.modules, name, None)  # not there to import
    path = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=[])
    ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(to=path)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("Asia/Tokio", "Asia/Tokyo"),
        ("Berlin", "Europe/Berlin"),
        ("new york", "America/New_York"),
        ("Australia/LordHowe", "Australia/Lord_Howe"),
        ("../../etc/passwd", "like Asia/Tokyo"),
        ("", "like Asia/Tokyo"),
        ("a\0b", "like Asia/Tokyo"),
    ],
)
def test_find_zone_unknown_is_refused_with_suggestions(name: str, suggestion: str) -> None:
    with pytest.raises(InputError, match="there is no time zone") as caught:
        find_zone(name)
    assert suggestion in caught.value.hint


def test_find_zone_on_a_machine_without_zones_says_how_to_get_them(no_zones: None) -> None:
    with pytest.raises(HostError, match="no time zones, 'Asia/Tokyo' among them") as caught:
        find_zone("Asia/Tokyo")
    assert "tzdata" in caught.value.hint


def test_find_change_finds_the_second_clocks_are_put_forward() -> None:
    change = seconds("2026-03-29T01:00Z")
    year = (seconds("2026-01-01T00:00Z"), seconds("2026-10-01T00:00Z"))
    assert find_change(BERLIN, *year) == change
    assert (offset_s(BERLIN, change - 1), offset_s(BERLIN, change)) == (3600, 7200)


def test_find_change_looks_after_the_first_moment_up_to_and_including_the_last() -> None:
    change = seconds("2026-03-29T01:00Z")
    assert find_change(BERLIN, change - 10, change) == change
    assert find_change(BERLIN, change - 10, change - 1) is None
    assert find_change(BERLIN, change, change + 10) is None


def test_is_repeated_is_true_of_the_second_time_only() -> None:
    assert [is_repeated(BERLIN, seconds(f"2026-10-25T0{hour}:30Z")) for hour in range(3)] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-14", "2026-03-13T23:00Z"),
        ("2026-07-14T06:00", "2026-07-14T04:00Z"),
        ("2026-07-14T06:00Z", "2026-07-14T06:00Z"),
        ("2026-07-14T06:00+09:00", "2026-07-13T21:00Z"),
        ("2026-10-25T02:30", "2026-10-25T00:30Z"),  # comes twice
        ("2026-03-29T02:30", "2026-03-29T01:30Z"),  # is skipped
    ],
)
def test_parse_moment_without_a_zone_is_in_the_given_one(text: str, expected: str) -> None:
    assert parse_moment(text, BERLIN) == seconds(expected)


@pytest.mark.parametrize("text", ["tomorrow", "2026-02-30", "0001-01-01", "9999-12-31", ""])
def test_parse_moment_of_what_is_none_shows_the_form(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_moment(text, BERLIN)
    assert "2026-03-14T06:00" in caught.value.hint
