"""Intervals of days: forms, neighbours, order; and that Luigi's are the same."""

from __future__ import annotations

import datetime
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.flow import date_interval
from jubako.flow.date_interval import Custom, Date, DateInterval, Month, Week, Year, parse_interval

DAYS = st.dates(datetime.date(1002, 1, 1), datetime.date(9990, 12, 31))
CLASSES = st.sampled_from([Date, Week, Month, Year])


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "cls", "first", "last"),
    [
        ("2021-W01", Week, "2021-01-04", "2021-01-10"),
        ("2021-01", Month, "2021-01-01", "2021-01-31"),
        ("2021-09-01-2021-09-07", Custom, "2021-09-01", "2021-09-06"),
        ("2021-09-01", Date, "2021-09-01", "2021-09-01"),
        ("2021", Year, "2021-01-01", "2021-12-31"),
        ("2015-W53", Week, "2015-12-28", "2016-01-03"),
        ("2009-W01", Week, "2008-12-29", "2009-01-04"),
        ("2020-02", Month, "2020-02-01", "2020-02-29"),
        ("2021-12", Month, "2021-12-01", "2021-12-31"),
    ],
)
def test_parse_interval_reads_each_form(text: str, cls: type[DateInterval], first: str, last: str) -> None:
    interval = parse_interval(text)
    assert type(interval) is cls
    assert (interval.dates()[0], interval.dates()[-1]) == (day(first), day(last))
    assert str(interval) == repr(interval) == interval.to_string() == text


def test_neighbours_of_weeks_cross_years() -> None:
    assert (Week(2021, 1).next(), Week(2021, 1).prev()) == (Week(2021, 2), Week(2020, 53))
    assert (Week(2015, 53).next(), Week(2015, 53).prev()) == (Week(2016, 1), Week(2015, 52))
    assert Week(2009, 53).next() == Week(2010, 1)


@given(CLASSES, DAYS)
def test_interval_of_a_date_contains_it_and_neighbours_join(cls: type[Any], date: datetime.date) -> None:
    interval = cls.from_date(date)
    assert date in interval
    assert interval.next().prev() == interval == interval.prev().next()
    assert interval.date_a in interval
    assert interval.date_b not in interval
    assert interval.date_b == interval.next().date_a


@given(CLASSES, DAYS)
def test_text_of_an_interval_reads_back(cls: type[Any], date: datetime.date) -> None:
    interval = cls.from_date(date)
    assert parse_interval(str(interval)) == interval
    assert hash(parse_interval(str(interval))) == hash(interval)
    assert pickle.loads(pickle.dumps(interval)) == interval


@given(st.dates(), st.integers(-500, 500))
def test_text_of_a_custom_interval_reads_back(first: datetime.date, days: int) -> None:
    ordinal = min(max(first.toordinal() + days, 1), datetime.date.max.toordinal())
    interval = Custom(first, datetime.date.fromordinal(ordinal))
    assert parse_interval(str(interval)) == interval
    assert len(interval.dates()) == max(0, ordinal - first.toordinal())


def test_custom_interval_reversed_is_empty() -> None:
    interval = Custom(day("2021-01-02"), day("2021-01-01"))
    assert (interval.dates(), day("2021-01-01") in interval, list(interval)) == ([], False, [])


def test_custom_interval_has_no_neighbours_and_says_so() -> None:
    interval = Custom.parse("2014-05-10-2014-05-12")
    assert interval is not None
    with pytest.raises(NotImplementedError, match=r"2014-05-10-2014-05-12 is a custom interval, which has no next"):
        interval.next()
    with pytest.raises(NotImplementedError, match="no previous"):
        interval.prev()


def test_hours_are_24_for_each_day_in_order() -> None:
    hours = list(Custom(day("2021-03-27"), day("2021-03-29")).hours())
    assert len(hours) == 48
    assert hours[0] == datetime.datetime(2021, 3, 27)
    assert hours == sorted(set(hours))
    assert hours[-1] == datetime.datetime(2021, 3, 28, 23)


def test_datetime_is_never_in_an_interval() -> None:
    assert datetime.datetime(2021, 1, 1) not in Year(2021)
    assert "2021-01-01" not in Year(2021)


def test_intervals_of_different_classes_do_not_compare() -> None:
    with pytest.raises(TypeError, match="Date interval type mismatch"):
        assert Month(2021, 1) == Week(2021, 1)
    with pytest.raises(TypeError, match="Date interval type mismatch"):
        assert Month(2021, 1) < Date(2021, 1, 1)
    with pytest.raises(TypeError, match="Date interval type mismatch"):
        assert Month(2021, 1) >= "2021-01"
    assert Month(2021, 1) != "2021-01"


def test_intervals_of_one_class_are_ordered_by_time() -> None:
    months = [Month(2021, 2), Month(2020, 12), Month(2021, 1)]
    assert sorted(months) == [Month(2020, 12), Month(2021, 1), Month(2021, 2)]
    assert Month(2021, 1) <= Month(2021, 1) < Month(2021, 2)
    assert Month(2021, 2) > Month(2021, 1) >= Month(2021, 1)


TEXTS = st.one_of(
    st.from_regex(r"\A[0-9]{4}(-[0-9]{2}){0,2}\Z"),
    st.from_regex(r"\A(19|20)[0-9]{2}-W?[0-5][0-9](-[0-3][0-9])?\n?\Z"),
    st.from_regex(r"\A20[0-9]{2}-0[1-9]-[0-2][0-9]-20[0-9]{2}-0[1-9]-[0-2][0-9]\n?\Z"),
    st.text("0129-W \n/", max_size=12),
)


def outcome(module: Any, text: str) -> Any:
    """What reading `text` comes to; errors by their kind, since the words of datetime differ between Pythons."""
    for name in ("Year", "Month", "Week", "Date", "Custom"):
        try:
            interval = getattr(module, name).parse(text)
        except (ValueError, OverflowError) as error:
            return name, type(error).__name__
        if interval is not None:
            return name, interval.to_string(), interval.date_a, interval.date_b, interval.dates()[:40]
    return "no form"


@given(TEXTS)
def test_reading_comes_to_what_it_comes_to_in_luigi(luigi: Any, text: str) -> None:
    if text[:1] != "0":  # Luigi writes years before 1000 with fewer digits than it reads
        assert outcome(date_interval, text) == outcome(luigi.date_interval, text)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("x", ValueError, "Invalid date interval - could not be parsed"),
        (" 2014", ValueError, "Invalid date interval - could not be parsed"),
        ("2014-W1", ValueError, "Invalid date interval - could not be parsed"),
        ("a/b", ValueError, "Invalid date interval - could not be parsed"),
        ("2014-13", ValueError, "month must be in 1..12"),
        ("2014-W53", ValueError, "Invalid week"),
        ("2014-W00", ValueError, "Invalid week"),
        ("9999", ValueError, "out of range"),
        ("9999-12-31", OverflowError, "out of range"),
    ],
)
def test_text_that_is_no_interval_is_refused_as_in_luigi(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_interval(text)


def test_trailing_newline_is_accepted_as_in_luigi() -> None:
    assert parse_interval("2014-05\n") == Month(2014, 5)


@given(CLASSES, DAYS)
def test_neighbours_and_hours_are_luigis(luigi: Any, cls: type[Any], date: datetime.date) -> None:
    ours, theirs = cls.from_date(date), getattr(luigi.date_interval, cls.__name__).from_date(date)
    assert [str(i) for i in (ours, ours.next(), ours.prev())] == [
        str(i) for i in (theirs, theirs.next(), theirs.prev())
    ]
    assert ours.dates() == theirs.dates()
