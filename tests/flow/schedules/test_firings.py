"""When expressions fire in zones whose clocks are changed: by hand for three zones, and against a slow reference."""

from __future__ import annotations

import datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.flow.schedules.cron import Cron
from jubako.flow.schedules.firings import Rule

# A day before clocks were put forward, and a day before they were put back, in each zone. Lord Howe moves by half an
# hour, Saint John's moved at a minute past midnight, Santiago at midnight; Samoa left out a day.
CHANGES = [
    ("Europe/Berlin", "2026-03-28", "2026-10-24"),
    ("America/New_York", "2026-03-07", "2026-10-31"),
    ("Australia/Lord_Howe", "2026-10-03", "2026-04-04"),
    ("America/St_Johns", "2010-03-13", "2010-11-06"),
    ("America/Santiago", "2026-09-05", "2026-04-04"),
    ("Pacific/Apia", "2011-12-29", "2012-03-31"),
    ("Africa/Casablanca", "2026-03-21", "2026-02-14"),
]


def fire(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The local times of the first firings after a day has begun, with their offsets."""
    rule = Rule(Cron(cron), ZoneInfo(zone))
    after_s = int(datetime.datetime.fromisoformat(after).replace(tzinfo=rule.zone).timestamp())
    moments = islice(rule.following(after_s), count)
    return [f"{datetime.datetime.fromtimestamp(moment, rule.zone):%d %H:%M%z}" for moment in moments]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # put forward from 02:00 to 03:00 (Lord Howe: to 02:30); a skipped time fires at the change, once
        ("30 2 * * *", "Europe/Berlin", "2026-03-28", ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-29", ["29 03:00+0200", "30 02:00+0200"]),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-29", ["29 03:00+0200", "30 02:00+0200"]),
        ("30 2 * * *", "America/New_York", "2026-03-08", ["08 03:00-0400", "09 02:30-0400"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["04 02:30+1100", "05 02:15+1100"]),
        ("45 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["04 02:45+1100", "05 02:45+1100"]),
        # the same by how often: what is skipped does not come
        ("0 * * * *", "Europe/Berlin", "2026-03-29T00:30", ["29 01:00+0100", "29 03:00+0200", "29 04:00+0200"]),
        ("*/30 2 * * *", "America/New_York", "2026-03-08", ["09 02:00-0400", "09 02:30-0400"]),
        ("*/15 3 * * *", "Australia/Lord_Howe", "2026-10-04T00:30", ["04 03:00+1100", "04 03:15+1100"]),
        # put back from 03:00 to 02:00 (New York: from 02:00 to 01:00, Lord Howe: to 01:30); fires the first time
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", ["25 02:30+0200", "26 02:30+0100"]),
        ("30 1 * * *", "America/New_York", "2026-11-01", ["01 01:30-0400", "02 01:30-0500"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["05 01:45+1100", "06 01:45+1030"]),
        ("0 2 * * *", "Australia/Lord_Howe", "2026-04-05", ["05 02:00+1030", "06 02:00+1030"]),
        # the same by how often: what is repeated comes again
        ("0 * * * *", "Europe/Berlin", "2026-10-25T01:30", ["25 02:00+0200", "25 02:00+0100", "25 03:00+0100"]),
        ("0 * * * *", "Australia/Lord_Howe", "2026-04-05T00:30", ["05 01:00+1100", "05 02:00+1030"]),
        (
            "*/15 * * * *",
            "Australia/Lord_Howe",
            "2026-04-05T01:20",
            ["05 01:30+1100", "05 01:45+1100", "05 01:30+1030", "05 01:45+1030", "05 02:00+1030"],
        ),
        # a day that is left out, and midnight, which clocks pass over
        ("0 6 * * *", "Pacific/Apia", "2011-12-29", ["29 06:00-1000", "31 00:00+1400", "31 06:00+1400"]),
        ("0 0 * * *", "America/Santiago", "2026-09-05T12:00", ["06 01:00-0300", "07 00:00-0300"]),
    ],
)
def test_following_where_clocks_are_changed(cron: str, zone: str, after: str, expected: list[str]) -> None:
    assert fire(cron, zone, after, len(expected)) == expected


def test_following_a_schedule_that_is_rare_goes_on_over_decades() -> None:
    rule = Rule(Cron("0 6 * 2 MON#5"), ZoneInfo("Europe/Berlin"))  # the fifth Monday of a February
    years = [datetime.datetime.fromtimestamp(moment, rule.zone).year for moment in islice(rule.following(0), 3)]
    assert years == [1988, 2016, 2044]


def test_between_has_the_last_moment_and_not_the_first() -> None:
    rule = Rule(Cron("* * * * *"), ZoneInfo("UTC"))
    assert list(rule.between(60, 240)) == [120, 180, 240]
    assert list(rule.between(240, 60)) == []


@st.composite
def expressions(draw: st.DrawFn) -> tuple[str, set[int], set[int]]:
    """An expression, the minutes it names and the hours."""

    def field(size: int) -> tuple[str, set[int]]:
        if draw(st.booleans()):
            step = draw(st.integers(1, 20))
            return f"*/{step}" if step > 1 else "*", set(range(0, size, step))
        values = draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=4))
        return ",".join(map(str, values)), values

    (minute, minutes), (hour, hours) = field(60), field(24)
    return f"{minute} {hour} * * *", minutes, hours


def reference(cron: str, minutes: set[int], hours: set[int], zone: ZoneInfo, after_s: int, until_s: int) -> list[int]:
    """Every minute of UTC is looked at, with what clocks showed a minute before."""
    is_fixed = not cron.startswith("*") and not cron.split()[1].startswith("*")
    minute = datetime.timedelta(minutes=1)
    found = []
    before = datetime.datetime.fromtimestamp(after_s, zone).replace(tzinfo=None)
    for moment in range(after_s + 60, until_s + 60, 60):
        aware = datetime.datetime.fromtimestamp(moment, zone)
        local = aware.replace(tzinfo=None, fold=0)
        shown = [local]
        if is_fixed and aware.fold:
            shown = []
        elif is_fixed:
            skipped = before + minute
            while skipped < local:
                shown.append(skipped)
                skipped += minute
        if any(time.minute in minutes and time.hour in hours for time in shown):
            found.append(moment)
        before = local
    return found


@settings(max_examples=60)
@given(expressions(), st.sampled_from(CHANGES), st.booleans(), st.integers(0, 24 * 60))
def test_between_is_what_looking_at_every_minute_finds(
    expression: tuple[str, set[int], set[int]], change: tuple[str, str, str], forward: bool, minutes_later: int
) -> None:
    cron, minutes, hours = expression
    zone = ZoneInfo(change[0])
    day = datetime.datetime.fromisoformat(change[1 if forward else 2]).replace(tzinfo=zone)
    after_s = int(day.timestamp()) + 60 * minutes_later
    until_s = after_s + 60 * 60 * 36
    expected = reference(cron, minutes, hours, zone, after_s, until_s)
    assert list(Rule(Cron(cron), zone).between(after_s, until_s)) == expected
