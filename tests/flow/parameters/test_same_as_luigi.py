"""Every kind of parameter, given the same declaration and the same text or value, comes to what it comes to in Luigi.

Exempt, by name:
  years before 1000      Luigi writes them with fewer digits than it reads; ours read back
  durations of zero      "P0D" is no duration in Luigi; infinite ones escape it as OverflowError
  sets as choices        Luigi lists them in the order of their hashes, we in theirs
"""

from __future__ import annotations

import datetime
import enum
import operator
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.flow import date_interval, parameters


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


# kind -> how it is declared, in several ways
DECLARED: dict[str, list[dict[str, Any]]] = {
    "Parameter": [{}],
    "StrParameter": [{}],
    "IntParameter": [{}],
    "FloatParameter": [{}],
    "BoolParameter": [{}, {"parsing": "explicit"}],
    "DateParameter": [{}, {"interval": 7}, {"interval": 10, "start": datetime.date(2020, 1, 5)}],
    "MonthParameter": [{}, {"interval": 5}, {"interval": 5, "start": datetime.date(2020, 3, 9)}],
    "YearParameter": [{}, {"interval": 4}],
    "DateHourParameter": [{}, {"interval": 7}, {"interval": 5, "start": datetime.datetime(2020, 1, 1, 7)}],
    "DateMinuteParameter": [{}, {"interval": 7}],
    "DateSecondParameter": [{}, {"interval": 7}, {"start": datetime.datetime(2020, 1, 1, 7)}],
    "DateIntervalParameter": [{}],
    "TimeDeltaParameter": [{}],
    "DictParameter": [{}],
    "ListParameter": [{}],
    "TupleParameter": [{}],
    "PathParameter": [{}, {"absolute": True}],
    "EnumParameter": [{"enum": Colour}],
    "EnumListParameter": [{"enum": Colour}],
    "ChoiceParameter": [{"choices": ["a"]}, {"choices": [1], "var_type": int}],
    "ChoiceListParameter": [{"choices": ["a"]}, {"choices": [1], "var_type": int}],
    "NumericalParameter": [
        {"var_type": int, "min_value": 0, "max_value": 9},
        {"var_type": float, "min_value": 0, "max_value": 9, "left_op": operator.lt, "right_op": operator.le},
    ],
    "OptionalParameter": [{}],
    "OptionalStrParameter": [{}],
    "OptionalIntParameter": [{}],
    "OptionalFloatParameter": [{}],
    "OptionalBoolParameter": [{}],
    "OptionalDictParameter": [{}],
    "OptionalListParameter": [{}],
    "OptionalTupleParameter": [{}],
    "OptionalPathParameter": [{}],
    "OptionalChoiceParameter": [{"choices": ["a"]}],
    "OptionalNumericalParameter": [{"var_type": int, "min_value": 0, "max_value": 9}],
}
CASES = [(kind, options) for kind, declarations in DECLARED.items() for options in declarations]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('aé\\" ', max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.one_of(
    st.sampled_from(["", " ", "x", "0", " 5 ", "5_0", "-1", "1.5", "1e3", "nan", "1", "9", "1,2", "None", "null"]),
    st.sampled_from(["true", "FALSE", "a", "a,a", "a,b", "RED", "RED,BLUE", "RED, BLUE", "red", "a/../b", "/a//b/"]),
    st.sampled_from(["()", "(1,)", "((1,2),(3,4))", "[[1,2]]", "[", "{", '{"a":1}', '"ab"', "'ab'", "２０１４"]),
    st.sampled_from(["2014-1-5", "2014-01", "2014", "2014-01-05", "2014-W03", "2014-W01-1", "20140105", "2014-13-01"]),
    st.sampled_from(["2014-01-05T03", "2014-01-05T12H34", "2014-01-05T030405", "1 w 2 d", "1 week 2 days", "5w"]),
    st.sampled_from(["2 days 1 week", "P1D junk", "P3W", "PT5H", "P1DT2H3M4S", "1week2d", "P"]),
    st.from_regex(r"\A[12][0-9]{3}-[01]?[0-9]-[0-3]?[0-9](T[0-2][0-9]{1,5})?\Z"),
    st.from_regex(r"\A([1-9] ?(w|weeks?|d|days?|h|hours?|m|minutes?|s|seconds?) ?){1,3}\Z"),
    st.from_regex(r"\AP([1-9]W|[1-9]D)?(T([1-9]H)?([1-9]M)?([1-9]S)?)?\Z"),
    st.text(max_size=5),
)
VALUES = st.one_of(
    st.none() | st.booleans() | st.integers(-5, 20) | st.floats(-5, 20),
    st.sampled_from(
        ["", "a", "7", "true", "2020-01-01", ["a"], ("a", "a"), [1], [Colour.RED], Colour.BLUE, [[1], (2,)]]
    ),
    st.dates(datetime.date(1100, 1, 1), datetime.date(9000, 1, 1)),
    st.datetimes(datetime.datetime(1000, 1, 1), datetime.datetime(9000, 1, 1)),
    st.timedeltas(datetime.timedelta(days=-99), datetime.timedelta(days=999)),
    JSON,
)


def comparable(value: Any) -> Any:
    """`value`, such that ours and Luigi's are equal when they mean the same."""
    if isinstance(value, Mapping):
        return "mapping", [(key, comparable(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [comparable(item) for item in value]
    if hasattr(value, "date_a"):
        return type(value).__name__, str(value)
    return type(value).__name__, repr(value)


def outcome(function: Any, *args: Any) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = "value", comparable(function(*args))
        except Exception as error:  # noqa: BLE001  (which one is what is compared)
            kind = type(error).__name__
            # Other words are Python's own, and name addresses and attributes.
            told = kind in ("ValueError", "ParameterException") and "malformed node" not in str(error)
            result = "error", kind, str(error) if told else ""
    return result, [(type(w.message).__name__, str(w.message)) for w in caught]


@pytest.mark.parametrize(("kind", "options"), CASES)
@settings(max_examples=25)
@given(text=TEXTS)
def test_text_is_read_and_written_as_in_luigi(luigi: Any, kind: str, options: dict[str, Any], text: str) -> None:
    ours, theirs = getattr(parameters, kind)(**options), getattr(luigi, kind)(**options)
    assert outcome(ours.parse, text) == outcome(theirs.parse, text)
    result, _ = outcome(ours.parse, text)
    if result[0] == "value":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those were compared above
            ours_value, their_value = ours.parse(text), theirs.parse(text)
        assert outcome(ours.normalize, ours_value) == outcome(theirs.normalize, their_value)
        assert outcome(ours.serialize, ours_value) == outcome(theirs.serialize, their_value)
        assert outcome(ours.next_in_enumeration, ours_value) == outcome(theirs.next_in_enumeration, their_value)


@pytest.mark.parametrize(("kind", "options"), CASES)
@settings(max_examples=25)
@given(value=VALUES)
def test_value_is_normalized_and_written_as_in_luigi(
    luigi: Any, kind: str, options: dict[str, Any], value: Any
) -> None:
    ours, theirs = getattr(parameters, kind)(**options), getattr(luigi, kind)(**options)
    assert outcome(ours.normalize, value) == outcome(theirs.normalize, value)
    assert outcome(ours.warn_on_wrong_type, "x", value) == outcome(theirs._warn_on_wrong_param_type, "x", value)
    result, _ = outcome(ours.normalize, value)
    if result[0] == "value":
        ours_value, their_value = ours.normalize(value), theirs.normalize(value)
        assert outcome(ours.serialize, ours_value) == outcome(theirs.serialize, their_value)
        assert outcome(ours.next_in_enumeration, ours_value) == outcome(theirs.next_in_enumeration, their_value)


@pytest.mark.parametrize(("kind", "cls"), [("MonthParameter", "Month"), ("YearParameter", "Year")])
@given(date=st.dates(datetime.date(1100, 1, 1), datetime.date(9000, 1, 1)))
def test_interval_as_a_month_or_year_is_normalized_as_in_luigi(
    luigi: Any, kind: str, cls: str, date: datetime.date
) -> None:
    ours = getattr(parameters, kind)().normalize(getattr(date_interval, cls).from_date(date))
    assert ours == getattr(luigi, kind)().normalize(getattr(luigi.date_interval, cls).from_date(date))


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_declaration_means_what_it_means_in_luigi(luigi: Any, kind: str, options: dict[str, Any]) -> None:
    ours, theirs = getattr(parameters, kind)(**options), getattr(luigi, kind)(**options)
    for name in ("significant", "positional", "description", "always_in_help", "visibility"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert repr(ours._default) == repr(theirs._default)
    assert ours.has_batch_method() == theirs._is_batchable()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("EnumParameter", {}),
        ("EnumListParameter", {}),
        ("ChoiceParameter", {}),
        ("ChoiceListParameter", {}),
        ("ChoiceParameter", {"choices": [1]}),
        ("ChoiceParameter", {"choices": [True], "var_type": int}),
        ("NumericalParameter", {}),
        ("NumericalParameter", {"var_type": int}),
        ("NumericalParameter", {"var_type": int, "min_value": 1}),
        ("Parameter", {"config_path": {"section": "a"}}),
        ("Parameter", {"is_global": True}),
        ("Parameter", {"visibility": 7}),
        ("DictParameter", {"schema": {"type": "object"}}),
        ("Parameter", {"no_such_option": 1}),
    ],
)
def test_wrong_declaration_is_refused_as_in_luigi(luigi: Any, kind: str, options: dict[str, Any]) -> None:
    def declare(module: Any) -> Any:
        parameter = getattr(module, kind)(**options)
        return parameter.positional, parameter.visibility, getattr(parameter, "schema", None)

    assert outcome(declare, parameters) == outcome(declare, luigi)
