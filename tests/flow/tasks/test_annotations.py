"""The parameter that a type stands for: its kind, its texts, the values it takes, and what no parameter is for."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from jubako.flow.date_interval import Date, DateInterval, Month, Week
from jubako.flow.parameters import (
    BoolParameter,
    ChoiceListParameter,
    ChoiceParameter,
    DateHourParameter,
    DateIntervalParameter,
    DateParameter,
    DateSecondParameter,
    DictParameter,
    EnumListParameter,
    EnumParameter,
    FloatParameter,
    IntParameter,
    ListParameter,
    MonthParameter,
    OptionalFloatParameter,
    OptionalIntParameter,
    OptionalParameterMixin,
    Parameter,
    ParameterException,
    PathParameter,
    StrParameter,
    TaskParameter,
    TimeDeltaParameter,
    TupleParameter,
    no_value,
)
from jubako.flow.ranges.range import RangeDaily
from jubako.flow.tasks.annotations import make_parameter
from jubako.flow.tasks.typed import Task

UserId = NewType("UserId", int)
Day = TypeAliasType("Day", Annotated[datetime.date, "the day"])


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Point(tuple[int, int]):
    pass


class PointParameter(Parameter[Point]):
    def parse(self, x: str) -> Point:
        return Point(map(int, x.split("x")))

    def serialize(self, x: Point) -> str:
        return "x".join(map(str, x))


DAY, MOMENT = datetime.date(2010, 1, 2), datetime.datetime(2010, 1, 2, 3, 4, 5)

# annotation -> its kind, a value it takes, the value's text, a value it refuses
CASES: list[tuple[Any, type[Parameter[Any]], Any, str, Any]] = [
    (str, StrParameter, "Oslo", "Oslo", 5),
    (int, IntParameter, 5, "5", True),
    (float, FloatParameter, 0.5, "0.5", "0.5"),
    (bool, BoolParameter, True, "True", "true"),
    (datetime.date, DateParameter, DAY, "2010-01-02", "2010-01-02"),
    (datetime.datetime, DateSecondParameter, MOMENT, "2010-01-02T030405", DAY),
    (datetime.timedelta, TimeDeltaParameter, datetime.timedelta(days=1), "0 w 1 d 0 h 0 m 0 s", 1),
    (Path, PathParameter, Path("a/b"), "a/b", "a/b"),
    (DateInterval, DateIntervalParameter, Week(2010, 3), "2010-W03", DAY),
    (Month, DateIntervalParameter, Month(2010, 3), "2010-03", Date(2010, 3, 1)),
    (Colour, EnumParameter, Colour.RED, "RED", 1),
    (Literal["a", "b"], ChoiceParameter, "b", "b", "c"),
    (Literal[1, 2], ChoiceParameter, 2, "2", True),
    (type[Task], TaskParameter, RangeDaily, "RangeDaily", int),
    (tuple[str, ...], TupleParameter, ("a", "b"), '["a", "b"]', ["a"]),
    (tuple[int, str], TupleParameter, (1, "a"), '[1, "a"]', (1, 2)),
    (tuple[bool | None, ...], TupleParameter, (True, None), "[true, null]", (1,)),
    (tuple[tuple[int, int], ...], TupleParameter, ((1, 2),), "[[1, 2]]", ([1, 2],)),
    (tuple[Colour, ...], EnumListParameter, (Colour.RED,), "RED", ("RED",)),
    (tuple[Literal["a", "b"], ...], ChoiceListParameter, ("a", "b"), "a,b", ("c",)),
    (list[int], ListParameter, (1, 2), "[1, 2]", ("1",)),
    (list[tuple[int, int]], ListParameter, ((1, 2),), "[[1, 2]]", ((1,),)),
    (Sequence[str], ListParameter, ("a",), '["a"]', "a"),
    (list, ListParameter, (1, "a"), '[1, "a"]', {}),
    (dict[str, int], DictParameter, {"a": 1}, '{"a": 1}', {"a": "1"}),
    (dict[str, Any], DictParameter, {"a": [1]}, '{"a": [1]}', {1: 1}),
    (Mapping[str, list[int]], DictParameter, {"a": (1,)}, '{"a": [1]}', {"a": 1}),
    (UserId, IntParameter, 5, "5", "5"),
    (Day, DateParameter, DAY, "2010-01-02", 5),
    (Annotated[datetime.date, MonthParameter()], MonthParameter, DAY.replace(day=1), "2010-01", Month(2010, 1)),
    (Annotated[Point, PointParameter()], PointParameter, Point((1, 2)), "1x2", (1, 2)),
]


@pytest.mark.parametrize(("annotation", "kind", "value", "text", "wrong"), CASES)
def test_type_stands_for_a_kind_with_its_texts_and_values(
    annotation: Any, kind: type[Parameter[Any]], value: Any, text: str, wrong: Any
) -> None:
    parameter = make_parameter(annotation)
    assert isinstance(parameter, kind)
    assert parameter._default is no_value
    assert parameter.expected is not None
    assert parameter.expected.fits(value)
    assert not parameter.expected.fits(wrong)
    assert not parameter.expected.fits(None)
    assert parameter.serialize(parameter.normalize(value)) == text
    read = parameter.parse(text)
    assert parameter.expected.fits(read)
    assert parameter.normalize(read) == parameter.normalize(value)


@pytest.mark.parametrize(("annotation", "kind", "value", "text", "wrong"), CASES)
def test_optional_type_takes_none_as_the_empty_text(
    annotation: Any, kind: type[Parameter[Any]], value: Any, text: str, wrong: Any
) -> None:
    parameter = make_parameter(annotation | None)
    assert isinstance(parameter, kind)
    assert isinstance(parameter, OptionalParameterMixin)
    assert parameter._default is no_value
    assert parameter.expected is not None
    assert parameter.expected.fits(None)
    assert parameter.expected.fits(value)
    assert not parameter.expected.fits(wrong)
    assert parameter.parse("") is parameter.normalize(None) is None
    assert (parameter.serialize(None), parameter.serialize(parameter.normalize(value))) == ("", text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('aé\\" ', max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(JSON, max_size=3), st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_structures_are_read_as_they_were_written(items: list[Any], mapping: dict[str, Any]) -> None:
    for annotation, value in ((tuple[Any, ...], tuple(items)), (list[Any], items), (dict[str, Any], mapping)):
        parameter: Parameter[Any] = make_parameter(annotation)
        assert parameter.expected is not None
        assert parameter.expected.fits(value)
        frozen = parameter.normalize(value)
        assert parameter.parse(parameter.serialize(frozen)) == frozen
        assert parameter.expected.fits(frozen)


def test_tuple_is_read_from_a_python_literal_too() -> None:
    assert make_parameter(tuple[tuple[int, int], ...]).parse("((12, 3), (4, 15))") == ((12, 3), (4, 15))


def test_whole_number_for_a_float_is_that_float() -> None:
    for parameter in (
        make_parameter(float, 1),
        make_parameter(float | None),
        make_parameter(Annotated[float, FloatParameter(significant=False)]),
        make_parameter(Annotated[float | None, OptionalFloatParameter()]),
    ):
        assert parameter.expected is not None
        assert parameter.expected.fits(1)
        assert not parameter.expected.fits(True)
        assert parameter.serialize(parameter.normalize(1)) == "1.0"


def test_bool_without_a_default_must_be_given() -> None:
    assert not make_parameter(bool).has_task_value("T", "b")
    assert make_parameter(bool, False).task_value("T", "b") is False


def test_details_of_an_annotation_are_kept() -> None:
    described = make_parameter(Annotated[int, "how many", object()], 3)
    assert (described.description, described.task_value("T", "n")) == ("how many", 3)
    hidden = make_parameter(Annotated[datetime.date | None, "ours", DateParameter(significant=False, positional=False)])
    assert (hidden.description, hidden.significant, hidden.positional) == ("ours", False, False)
    assert hidden.parse("") is None
    hourly = make_parameter(Annotated[datetime.datetime, DateHourParameter(interval=6, description="own"), "not this"])
    assert (hourly.normalize(MOMENT), hourly.description) == (MOMENT.replace(hour=0, minute=0, second=0), "own")


def test_annotation_used_twice_makes_two_parameters() -> None:
    shared = IntParameter(description="a number")
    first, second = make_parameter(Annotated[int, shared], 1), make_parameter(Annotated[int, shared], 2)
    assert (first._default, second._default, shared._default) == (1, 2, no_value)
    assert first.description == second.description == "a number"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (datetime.date, "datetime.date"),
        (Path | None, "Path | None"),
        (tuple[str, ...], "tuple[str, ...]"),
        (dict[str, list[Any]], "dict[str, list[Any]]"),
        (Mapping[str, float | None], "Mapping[str, float | None]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (tuple[Annotated[int, "x"], str], "tuple[int, str]"),
        (type[Task], "type[Task]"),
    ],
)
def test_expectation_is_worded_as_one_writes_the_type(annotation: Any, words: str) -> None:
    made = make_parameter(annotation if words != "Literal['a', 1]" else Annotated[annotation, PointParameter()])
    assert made.expected is not None
    assert made.expected.words == words


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Decimal, "no parameter reads Decimal"),
        (Any, "no parameter reads Any"),
        (None, "no parameter reads None"),
        (set[int], "no parameter reads set[int]"),
        (Callable[[], int], "no parameter reads Callable[[], int]"),
        (type[int], "no parameter reads type[int]"),
        (int | str, "no parameter reads int | str: it may be of several types"),
        (tuple[Decimal, ...], "no parameter reads tuple[Decimal, ...]"),
        (dict[int, str], "no parameter reads dict[int, str]"),
        (Literal["a", 1], "no parameter reads Literal['a', 1]: choices are all str or all int"),
        (list[Literal[1, 2]], "no parameter reads list[Literal[1, 2]]: choices in a list are str"),
        ([int], "no parameter reads [<class 'int'>]"),
    ],
)
def test_type_no_parameter_is_for_is_refused_with_the_cure(annotation: Any, message: str) -> None:
    with pytest.raises(ParameterException) as caught:
        make_parameter(annotation)
    assert caught.value.message == message
    assert caught.value.hint.startswith(
        "Annotated[TYPE, SomeParameter()] says which parameter reads it; ClassVar[TYPE]"
    )


@pytest.mark.parametrize(
    ("annotation", "default", "message", "hint"),
    [
        (int, None, "its default None is not int", "write int | None"),
        (int, "3", "its default '3' is not int", ""),
        (Literal["a"], "b", "its default 'b' is not Literal['a']", ""),
        (Annotated[int, Parameter()], no_value, "Parameter reads str, not int", "write IntParameter(...) instead"),
        (
            Annotated[int, IntParameter(default=3)],
            no_value,
            "its default 3 is in the annotation",
            "the default stands behind the annotation: = ...",
        ),
        (
            Annotated[int, OptionalIntParameter()],
            no_value,
            "OptionalIntParameter takes None and int doesn't",
            "int | None does",
        ),
        (
            Annotated[int, IntParameter(), IntParameter()],
            no_value,
            "2 parameters are in one annotation",
            "leave one of them",
        ),
        (
            Task,
            no_value,
            "a task can't be the value of a parameter",
            "type[Task] takes the class; requires() makes tasks of it",
        ),
    ],
)
def test_declaration_that_contradicts_itself_is_refused(annotation: Any, default: Any, message: str, hint: str) -> None:
    with pytest.raises(ParameterException) as caught:
        make_parameter(annotation, default)
    assert (caught.value.message, caught.value.hint) == (message, hint)
