"""Of every kind: what is written is read back, what is normal stays as it is, and what is no value is refused in words.

A kind that is not in KINDS or ANNOTATIONS fails `test_every_kind_is_tried`.
"""

from __future__ import annotations

import datetime
import enum
import string
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.flow import parameters as p
from jubako.flow.date_interval import Custom, Date, DateInterval, Month, Week, Year
from jubako.flow.parameters.datetimes import _DatetimeParameter
from jubako.flow.ranges.range import RangeDaily, RangeHourly
from jubako.flow.ranges.range_base import _NameParameter
from jubako.flow.tasks.annotations import make_parameter
from jubako.flow.tasks.register import TaskClassNotFoundException
from jubako.flow.tasks.task import Task


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


FEW = settings.default.max_examples // 4 if settings.default is not None else 25  # there are many kinds
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

TASKS = st.sampled_from([RangeDaily, RangeHourly])
ABOVE = {p.OptionalParameterMixin, _DatetimeParameter, _NameParameter}  # what kinds are made of

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
    (p.PathParameter(absolute=True), st.text(string.ascii_letters + "/. é", min_size=1).map(Path)),
    (p.TaskParameter(), TASKS),
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


# annotation -> values it takes
ANNOTATIONS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, st.text()),
    (int, st.integers()),
    (float, st.floats(allow_nan=False) | st.integers(-(2**53), 2**53)),
    (bool, st.booleans()),
    (datetime.date, DATES),
    (datetime.datetime, TIMES),
    (datetime.timedelta, st.timedeltas(datetime.timedelta(days=-90_000), datetime.timedelta(days=90_000))),
    (Path, st.text(string.ascii_letters + "/. é", min_size=1).map(Path)),
    (DateInterval, INTERVALS),
    (Colour, st.sampled_from(Colour)),
    (Literal["a", "b"], st.sampled_from("ab")),
    (Literal[1, 2], st.sampled_from([1, 2])),
    (type[Task], TASKS),
    (tuple[str, ...], st.lists(st.text()).map(tuple)),
    (tuple[int, str], st.tuples(st.integers(), st.text())),
    (tuple[Colour, ...], st.lists(st.sampled_from(Colour)).map(tuple)),
    (tuple[Literal["a", "b"], ...], st.lists(st.sampled_from("ab")).map(tuple)),
    (list[tuple[int, int]], st.lists(st.tuples(st.integers(), st.integers()))),
    (dict[str, Any], st.dictionaries(st.text(), JSON, max_size=3)),
    (Annotated[datetime.date, p.MonthParameter()], DATES),
    (Annotated[datetime.datetime, p.DateHourParameter(interval=5)], TIMES.filter(lambda time: time.year > 1)),
]
ANNOTATED = [
    (make_parameter(annotation), values) for annotation, values in ANNOTATIONS
] + [(make_parameter(annotation | None), st.none() | values) for annotation, values in ANNOTATIONS]  # fmt: skip
ALL = [*KINDS, *ANNOTATED]


def kinds_below(cls: Any) -> Iterator[type]:
    for below in cls.__subclasses__():
        yield below
        yield from kinds_below(below)


def test_every_kind_is_tried() -> None:
    tried = {type(parameter) for parameter, _ in ALL}
    known = ("jubako.", "builtins", "typing")
    ours = {kind for kind in kinds_below(p.Parameter) if all(cls.__module__.startswith(known) for cls in kind.__mro__)}
    assert {kind.__name__ for kind in ours - tried - ABOVE} == set()
    intervals = {kind for kind in kinds_below(DateInterval) if kind.__module__.startswith("jubako.")}
    assert intervals == {Date, Week, Month, Year, Custom}  # those of INTERVALS


def is_same(parameter: p.Parameter[Any], again: Any, value: Any) -> bool:
    """Whether reading what was written gave the value back, as far as its text can.

    An empty text is what an optional parameter writes for None. Two halves of a character, one after the other, are
    the character to JSON. Not a number is never the same.
    """
    if isinstance(parameter, p.OptionalParameterMixin) and parameter.serialize(value) == "":
        return again is None
    if again == value or (again != again and value != value):  # noqa: PLR0124
        return True
    return "\\ud" in repr(value) and parameter.serialize(again) == parameter.serialize(value)


@pytest.mark.parametrize(("parameter", "values"), ALL, ids=lambda value: type(value).__name__)
@settings(max_examples=FEW)
@given(data=st.data())
def test_what_is_written_is_read_back(parameter: p.Parameter[Any], values: Any, data: st.DataObject) -> None:
    value = parameter.normalize(data.draw(values))
    assert is_same(parameter, parameter.normalize(parameter.parse(parameter.serialize(value))), value)
    assert parameter.normalize(value) == value
    hash(value)


GARBAGE = st.one_of(
    st.text(),
    st.text("0123456789-+:.eTWPDHMS_ ,()[]{}'\"ab", max_size=20),
    st.sampled_from(["[" * 5000, "(" * 5000, '{"a":' * 5000, "9" * 5000, "1e999", "-1e999", "nan", "\0", "\ud800"]),
    st.sampled_from(["0000-01-01", "0001-01-01", "9999-12-31", "9999", "0000-W00", "0001-01-01-9999-12-31"]),
    st.sampled_from(["null", "NaN", "[1, {}]", '{"a": {}}', "((),)", "b'x'", "1.5.", "P1Y", "P99999999999D", "-0"]),
)  # fmt: skip


@pytest.mark.parametrize(("parameter", "values"), ALL, ids=lambda value: type(value).__name__)
@settings(max_examples=FEW)
@given(data=st.data())
def test_text_is_a_value_that_can_be_written_or_is_refused_in_words(
    parameter: p.Parameter[Any], values: Any, data: st.DataObject
) -> None:
    """The text is anything, or one of a value, damaged."""
    text = data.draw(GARBAGE)
    if data.draw(st.booleans()):
        whole = parameter.serialize(parameter.normalize(data.draw(values)))
        place = data.draw(st.integers(0, len(whole)))
        text = whole[:place] + text[:3] + whole[place + data.draw(st.integers(0, 2)) :]
    refusals: Any = p.InvalidParameterException
    if isinstance(parameter, p.TaskParameter):
        refusals = TaskClassNotFoundException
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the old form of a minute
        try:
            value = parameter.normalize(p.parse_argument(parameter, "Family", "name", text))
        except refusals as error:
            assert type(error) is refusals
            assert isinstance(parameter, p.TaskParameter) or str(error).startswith("Family: --name ")
            return
        if type(parameter) is p.TimeDeltaParameter and (value.days < 0 or value.microseconds):
            return  # Luigi's text has no fractions and no signs; that of an annotated parameter has
        written = parameter.serialize(value)
        again = parameter.normalize(parameter.parse(written))
    assert is_same(parameter, again, value)


@pytest.mark.parametrize(
    "parameter",
    [
        k
        for k, _ in KINDS
        if isinstance(k, (p.DateParameter, p.DateHourParameter, p.DateMinuteParameter, p.DateSecondParameter))
    ],
)
@settings(max_examples=FEW)
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
