"""Parameters whose values are numbers or truth values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, Unpack

from jubako.flow.parameters.errors import ParameterException
from jubako.flow.parameters.parameter import NoValue, Parameter, ParameterOptions, no_value

__all__ = ["BoolParameter", "FloatParameter", "IntParameter", "NumericalParameter"]

Number = TypeVar("Number", bound=float)


class IntParameter(Parameter[int]):
    """A whole number, written as `int()` reads it. Values count by one."""

    def parse(self, x: str) -> int:
        return int(x)

    def next_in_enumeration(self, value: int) -> int | None:
        return value + 1


class FloatParameter(Parameter[float]):
    """A floating point number, written as `float()` reads it."""

    def parse(self, x: str) -> float:
        return float(x)


class BoolParameter(Parameter[bool]):
    """True or false; without a default it is False.

    `parsing` says how the command line gives it: IMPLICIT_PARSING as a flag, EXPLICIT_PARSING as `--x true`.
    """

    IMPLICIT_PARSING: ClassVar = "implicit"
    EXPLICIT_PARSING: ClassVar = "explicit"

    parsing: str = IMPLICIT_PARSING

    def __init__(
        self, default: bool | NoValue = no_value, parsing: str | None = None, **options: Unpack[ParameterOptions]
    ) -> None:
        super().__init__(False if isinstance(default, NoValue) else default, **options)
        if parsing is not None:
            self.parsing = parsing

    def parse(self, x: Any) -> bool:
        text = str(x).lower()
        if text == "true":
            return True
        if text == "false":
            return False
        raise ValueError(f"cannot interpret '{x}' as boolean")

    def normalize(self, x: Any) -> bool:
        try:
            return self.parse(x)
        except ValueError:
            return None  # type: ignore[return-value]  # what Luigi makes of a value that is neither


class NumericalParameter(Parameter[Number]):
    """A number between two limits, `min_value <= x < max_value` unless other operators are given.

    The limits are checked where text is parsed, not for values given to a constructor.
    """

    def __init__(
        self,
        default: Number | NoValue = no_value,
        *,
        var_type: type[Number] | None = None,
        min_value: Number | None = None,
        max_value: Number | None = None,
        left_op: Callable[[Any, Any], Any] = operator.le,
        right_op: Callable[[Any, Any], Any] = operator.lt,
        **options: Unpack[ParameterOptions],
    ) -> None:
        if var_type is None:
            raise ParameterException("var_type must be specified")
        if min_value is None:
            raise ParameterException("min_value must be specified")
        if max_value is None:
            raise ParameterException("max_value must be specified")
        self._var_type = var_type
        self._min_value = min_value
        self._max_value = max_value
        self._left_op = left_op
        self._right_op = right_op
        left = "[" if left_op == operator.le else "("
        right = "]" if right_op == operator.le else ")"
        self._permitted_range = f"{var_type.__name__} in {left}{min_value}, {max_value}{right}"
        super().__init__(default, **options)
        self.description = f"{self.description} " if self.description else ""
        self.description += f"permitted values: {self._permitted_range}"

    def parse(self, x: str) -> Number:
        value: Number = self._var_type(x)
        if self._left_op(self._min_value, value) and self._right_op(value, self._max_value):
            return value
        raise ValueError(f"{x} is not in the set of {self._permitted_range}")
