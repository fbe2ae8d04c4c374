"""Of every kind: what is written is read back, and what is normal stays as it is."""

from __future__ import annotations

import datetime
import enum
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.flow import parameters as p
from jubako.flow.date_interval import Custom, Date, Month, Week, Year


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


DATES = st.dates(max_value=datetime.date(9990, 1, 1))
TIMES = st.datetimes(max_value=datetime.datetime(9990, 1, 1))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
INTERVALS = st.one_of(
    [st.builds(cls.from_date, DATES) for cls in (Date, Week, Month, Year)] + [st.builds(Custom, DATES, DATES)]
)

KINDS: list[tuple[p.Parameter[Any], st.SearchStrategy[Any]]] = [
    (p.Parameter(), st.text()),
    (p.StrParameter(), st.text()),
    (p.IntParameter(), st.integers()),
    (p.FloatParameter(), st.floats(allow_nan=False)),
    (p.BoolParameter(), st.booleans()),
    (p.DateParameter(), DATES),
    (p.DateParameter(interval=7), DATES.filter(lambda date: date.year > 1)),
    (p.MonthParameter(), DATES),
    (p.MonthParameter(interval=5), DATES.filter(lambda date: date.year > 1)),
    (p.YearParameter(), DATES),
    (p.YearParameter(interval=3), DATES.filter(lambda date: date.year > 3)),
    (p.DateHourParameter(), TIMES),
    (p.DateHourParameter(interval=5), TIMES.filter(lambda time: time.year > 1)),
    (p.DateMinuteParameter(), TIMES),
    (p.DateSecondParameter(), TIMES),
    (p.DateIntervalParameter(), INTERVALS),
    (p.TimeDeltaParameter(), st.integers(0, 10**12).map(lambda seconds: datetime.timedelta(seconds=seconds))),
    (p.DictParameter(), st.dictionaries(st.text(), JSON, max_size=3)),
    (p.ListParameter(), st.lists(JSON, max_size=3)),
    (p.TupleParameter(), st.lists(st.lists(st.integers() | st.text(), max_size=3), max_size=3)),
    (p.EnumParameter(enum=Colour), st.sampled_from(Colour)),
    (p.EnumListParameter(enum=Colour), st.lists(st.sampled_from(Colour)).map(tuple)),
    (p.ChoiceParameter(choices=["a", "b"]), st.sampled_from("ab")),
    (p.ChoiceListParameter(choices=["a", "b"]), st.lists(st.sampled_from("ab"))),
    (p.NumericalParameter(var_type=int, min_value=0, max_value=10), st.integers(0, 9)),
    (p.PathParameter(), st.text(string.ascii_letters + "/. é", min_size=1).map(Path)),
    (p.OptionalParameter(), st.none() | st.text(min_size=1)),
    (p.OptionalStrParameter(), st.none() | st.text(min_size=1)),
    (p.OptionalIntParameter(), st.none() | st.integers()),
    (p.OptionalFloatParameter(), st.none() | st.floats(allow_nan=False)),
    (p.OptionalBoolParameter(), st.none() | st.booleans()),
    (p.OptionalDictParameter(), st.none() | st.dictionaries(st.text(), JSON, max_size=3)),
    (p.OptionalListParameter(), st.none() | st.lists(JSON, max_size=3)),
    (p.OptionalTupleParameter(), st.none() | st.lists(st.lists(st.integers(), max_size=3), max_size=3)),
    (p.OptionalPathParameter(), st.none() | st.just(Path("a/b"))),
    (p.OptionalChoiceParameter(choices=["a", "b"]), st.none() | st.sampled_from("ab")),
    (p.OptionalNumericalParameter(var_type=int, min_value=0, max_value=10), st.none() | st.integers(0, 9)),
]


@pytest.mark.parametrize(("parameter", "values"), KINDS, ids=lambda value: type(value).__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_what_is_written_is_read_back(parameter: p.Parameter[Any], values: Any, data: st.DataObject) -> None:
    value = parameter.normalize(data.draw(values))
    assert parameter.normalize(parameter.parse(parameter.serialize(value))) == value
    assert parameter.normalize(value) == value
    hash(value)


@pytest.mark.parametrize(
    "parameter",
    [
        k
        for k, _ in KINDS
        if isinstance(k, (p.DateParameter, p.DateHourParameter, p.DateMinuteParameter, p.DateSecondParameter))
    ],
)
@settings(max_examples=25)
@given(data=st.data())
def test_next_in_enumeration_is_the_next_normal_value(parameter: p.Parameter[Any], data: st.DataObject) -> None:
    years = {"min_value": datetime.date(1900, 1, 1), "max_value": datetime.date(2100, 1, 1)}
    value = parameter.normalize(data.draw(st.dates(**years)))
    following = parameter.next_in_enumeration(value)
    assert following is not None
    assert following > value
    assert parameter.normalize(following) == following
    just_before = following - (datetime.timedelta(seconds=1) if hasattr(following, "hour") else datetime.timedelta(1))
    assert parameter.normalize(just_before) == value


def test_kinds_that_do_not_count_have_no_next() -> None:
    assert p.Parameter().next_in_enumeration("a") is None
    assert p.FloatParameter().next_in_enumeration(1.5) is None
    assert p.OptionalIntParameter().next_in_enumeration(5) is None
    assert p.DateIntervalParameter().next_in_enumeration(Month(2020, 1)) is None
    assert p.IntParameter().next_in_enumeration(5) == 6
