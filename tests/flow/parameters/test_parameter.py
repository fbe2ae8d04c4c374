"""What all parameters share: options, the descriptor, the order of sources, and errors that name what is wrong."""

from __future__ import annotations

import copy
import datetime
import pickle
from typing import Any

import pytest

from jubako.flow.parameters import (
    DateHourParameter,
    DateMinuteParameter,
    DateParameter,
    FloatParameter,
    IntParameter,
    InvalidParameterException,
    ListParameter,
    MissingParameterException,
    MonthParameter,
    NoValue,
    NumericalParameter,
    Parameter,
    ParameterException,
    ParameterVisibility,
    PathParameter,
    no_value,
    parse_argument,
    values_from,
)
from jubako.flow.parameters.parameter import ConfigPath


class Holder:
    number = IntParameter()


def test_parameter_read_from_a_class_is_the_parameter() -> None:
    assert isinstance(Holder.number, IntParameter)


def test_parameter_read_before_it_has_a_value_is_an_attribute_error() -> None:
    assert not hasattr(Holder(), "number")
    with pytest.raises(AttributeError, match="a parameter of Holder was read before it had a value"):
        _ = Holder().number


def test_value_in_the_instance_hides_the_parameter() -> None:
    holder = Holder()
    holder.number = 7
    assert holder.number == 7


def test_no_value_stays_one_object() -> None:
    assert pickle.loads(pickle.dumps(no_value)) is copy.deepcopy(no_value) is no_value
    assert (repr(no_value), isinstance(no_value, NoValue)) == ("<no_value>", True)


def test_visibility_that_is_none_is_public() -> None:
    assert Parameter(visibility=7).visibility is ParameterVisibility.PUBLIC  # type: ignore[arg-type]
    assert Parameter(visibility=ParameterVisibility.PRIVATE).visibility.serialize() == 2


def test_parameters_are_numbered_in_the_order_they_are_made() -> None:
    assert IntParameter()._counter < Parameter()._counter < DateParameter()._counter


def test_combine_uses_the_batch_method_and_says_when_there_is_none() -> None:
    assert IntParameter(batch_method=max).combine([1, 3, 2]) == 3
    with pytest.raises(NotImplementedError, match="No batch method found"):
        IntParameter().combine([1])


def test_value_comes_from_sources_before_the_default() -> None:
    parameter = IntParameter(default=1)
    with values_from({("T", "n"): "2"}, {("T", "n"): "3"}):
        assert parameter.task_value("T", "n") == 2
        with values_from({("T", "n"): "4"}):
            assert parameter.task_value("T", "n") == 4
        assert parameter.task_value("T", "n") == 2
        assert parameter.task_value("U", "n") == 1
    assert parameter.task_value("T", "n") == 1


def test_empty_text_of_a_source_is_a_value() -> None:
    with values_from({("T", "s"): ""}, {("T", "s"): "x"}):
        assert Parameter(default="y").task_value("T", "s") == ""
    with values_from({}, {("T", "s"): "x"}):
        assert Parameter(default="y").task_value("T", "s") == "x"


def test_falsy_default_is_a_default() -> None:
    assert Parameter(default="").task_value("T", "s") == ""
    assert IntParameter(default=0).has_task_value("T", "n")


def test_missing_value_is_an_error() -> None:
    assert not IntParameter().has_task_value("T", "n")
    with pytest.raises(MissingParameterException, match="No default specified"):
        IntParameter().task_value("T", "n")


def test_value_of_a_source_is_normalized() -> None:
    with values_from({("T", "d"): "2020-01-08"}):
        assert DateParameter(interval=10).task_value("T", "d") == datetime.date(2019, 12, 30)


def test_config_path_is_asked_last_and_is_deprecated() -> None:
    parameter = IntParameter(default=1, config_path=ConfigPath(section="old", name="n"))
    with values_from({("old", "n"): "5"}):
        with pytest.warns(
            DeprecationWarning, match=r"The use of the configuration \[old\] n is deprecated. Please use \[T\] n"
        ):
            assert parameter.task_value("T", "n") == 5
        with values_from({("T", "n"): "6"}):
            assert parameter.task_value("T", "n") == 6


def test_is_global_is_deprecated_and_means_not_positional() -> None:
    with pytest.warns(DeprecationWarning, match="is_global support is removed. Assuming positional=False"):
        assert not Parameter(is_global=True).positional


def test_parse_argument_names_task_parameter_and_text() -> None:
    with pytest.raises(InvalidParameterException) as caught:
        parse_argument(DateParameter(), "DailySummary", "start_date", "2010-13-45")
    assert str(caught.value) == ("DailySummary: --start-date '2010-13-45' can't be read: its form is not YYYY-MM-DD")
    assert isinstance(caught.value, ParameterException)
    assert isinstance(caught.value, ValueError)


def test_text_whose_value_is_refused_is_refused() -> None:
    with pytest.raises(InvalidParameterException, match="--where 'gone' can't be read: The path gone does not exist"):
        parse_argument(PathParameter(exists=True), "Daily", "where", "gone")
    with pytest.raises(InvalidParameterException, match="--week '0001-01-01' can't be read: date value out of range"):
        parse_argument(DateParameter(interval=7), "Daily", "week", "0001-01-01")
    assert parse_argument(DateParameter(interval=7), "Daily", "week", "2010-01-02") == datetime.date(2010, 1, 2)


def test_long_text_is_shown_in_part() -> None:
    with pytest.raises(InvalidParameterException) as caught:
        parse_argument(ListParameter(), "Daily", "n", "[" * 100_000)
    assert str(caught.value) == f"Daily: --n '{'[' * 77}...' can't be read: it is nested too deeply"


@pytest.mark.parametrize("visibility", [ParameterVisibility.HIDDEN, ParameterVisibility.PRIVATE])
def test_text_for_a_concealed_parameter_is_not_shown(visibility: ParameterVisibility) -> None:
    with pytest.raises(InvalidParameterException) as caught:
        parse_argument(IntParameter(visibility=visibility), "Daily", "pin", "hunter2")
    assert str(caught.value) == "Daily: --pin *** can't be read"
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize(
    ("parameter", "text", "reason"),
    [
        (DateParameter(), "2010-01-01T05", "its form is not YYYY-MM-DD"),
        (DateParameter(), "2010-02-30", "day is out of range for month"),
        (MonthParameter(), "2010-01-01", "its form is not YYYY-MM"),
        (DateHourParameter(), "2010-01-01", "its form is not YYYY-MM-DDTHH"),
        (DateMinuteParameter(), "noon", "its form is not YYYY-MM-DDTHHMM"),
        (IntParameter(), "3.5", "it is not a whole number"),
        (FloatParameter(), "much", "it is not a number"),
        (NumericalParameter(var_type=int, min_value=1, max_value=9), "x", "it is not a whole number"),
    ],
)
def test_text_that_cannot_be_read_is_told_the_form_in_words(parameter: Any, text: str, reason: str) -> None:
    with pytest.raises(InvalidParameterException) as caught:
        parse_argument(parameter, "Daily", "n", text)
    assert str(caught.value) == f"Daily: --n {text!r} can't be read: {reason}"


def test_plain_parameter_warns_of_values_that_are_no_text() -> None:
    with pytest.warns(UserWarning, match='Parameter "x" with value "5" is not of type string.'):
        Parameter().warn_on_wrong_type("x", 5)
    with pytest.warns(UserWarning, match='Parameter "x" with value "None" is not of type string.'):
        Parameter().warn_on_wrong_type("x", None)
