"""Parameters whose value may be None, written as the empty text: each kind with `OptionalParameterMixin` in front.

A type checker sees `Optional[...]` for the value; mypy can't be told that a mixin in front changes that of the class
behind it, hence the ignores.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from jubako.flow.parameters.choices import C, ChoiceParameter
from jubako.flow.parameters.errors import OptionalParameterTypeWarning
from jubako.flow.parameters.frozen import FrozenOrderedDict
from jubako.flow.parameters.numbers import BoolParameter, FloatParameter, IntParameter, Number, NumericalParameter
from jubako.flow.parameters.parameter import NoValue, Parameter, no_value
from jubako.flow.parameters.references import PathParameter
from jubako.flow.parameters.structures import DictParameter, ListParameter, S, TupleParameter

__all__ = [
    "OptionalBoolParameter",
    "OptionalChoiceParameter",
    "OptionalDictParameter",
    "OptionalFloatParameter",
    "OptionalIntParameter",
    "OptionalListParameter",
    "OptionalNumericalParameter",
    "OptionalParameter",
    "OptionalParameterMixin",
    "OptionalPathParameter",
    "OptionalStrParameter",
    "OptionalTupleParameter",
]

O = TypeVar("O")  # noqa: E741  (the type behind Optional[...])


class OptionalParameterMixin(Generic[O]):
    """Makes the kind of parameter behind it accept None, which is then its default too."""

    expected_type: type | tuple[type, ...] = type(None)

    def __init__(self, default: O | NoValue | None = None, **options: Any) -> None:
        super().__init__(default=default, **options)  # type: ignore[call-arg]  # of the Parameter behind

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> O | None: ...
        def __get__(self, instance: object, owner: Any) -> Any: ...

        def __set__(self, instance: object, value: O | None) -> None: ...

    def parse(self, x: Any) -> Any:
        if not isinstance(x, str):
            return x
        return super().parse(x) if x else None  # type: ignore[misc]  # of the Parameter behind

    def serialize(self, x: Any) -> str:
        return "" if x is None else super().serialize(x)  # type: ignore[misc]  # of the Parameter behind

    def normalize(self, x: Any) -> Any:
        return None if x is None else super().normalize(x)  # type: ignore[misc]  # of the Parameter behind

    def next_in_enumeration(self, value: Any) -> None:
        """None: values that may be missing don't count."""

    def warn_on_wrong_type(self, param_name: str, value: object) -> None:
        if value is None or isinstance(value, self.expected_type):
            return
        if isinstance(self.expected_type, tuple):
            words = "any type in [" + ", ".join(f'"{kind.__name__}"' for kind in self.expected_type) + "]"
        else:
            words = f'type "{self.expected_type.__name__}"'
        warnings.warn(
            f'{type(self).__name__} "{param_name}" with value "{value}" is not of {words} or None.',
            OptionalParameterTypeWarning,
            stacklevel=6,
        )


class OptionalParameter(OptionalParameterMixin[str], Parameter[str]):  # type: ignore[misc]
    """A str or None."""

    expected_type = str


class OptionalStrParameter(OptionalParameterMixin[str], Parameter[str]):  # type: ignore[misc]
    """A str or None."""

    expected_type = str


class OptionalIntParameter(OptionalParameterMixin[int], IntParameter):  # type: ignore[misc]
    """A whole number or None."""

    expected_type = int


class OptionalFloatParameter(OptionalParameterMixin[float], FloatParameter):  # type: ignore[misc]
    """A floating point number or None."""

    expected_type = float


class OptionalBoolParameter(OptionalParameterMixin[bool], BoolParameter):  # type: ignore[misc]
    """True, false or None."""

    expected_type = bool

    def __init__(self, default: bool | NoValue | None = None, **options: Any) -> None:
        # Not through BoolParameter's own default of False.
        super().__init__(default=default, **options)


class OptionalDictParameter(OptionalParameterMixin[FrozenOrderedDict], DictParameter):  # type: ignore[misc]
    """A JSON object or None."""

    expected_type = FrozenOrderedDict


class OptionalListParameter(OptionalParameterMixin[S], ListParameter[S]):  # type: ignore[misc]
    """A JSON array or None."""

    expected_type = tuple


class OptionalTupleParameter(OptionalParameterMixin[S], TupleParameter[S]):  # type: ignore[misc]
    """A tuple or None."""

    expected_type = tuple


class OptionalPathParameter(OptionalParameterMixin[Path], PathParameter):  # type: ignore[misc]
    """A path or None."""

    expected_type = (str, Path)


class OptionalNumericalParameter(OptionalParameterMixin[Number], NumericalParameter[Number]):  # type: ignore[misc]
    """A number between two limits, or None. Unlike the others it has no default of its own (as in Luigi)."""

    def __init__(self, default: Number | NoValue | None = no_value, **options: Any) -> None:
        super().__init__(default=default, **options)
        self.expected_type = self._var_type


class OptionalChoiceParameter(OptionalParameterMixin[C], ChoiceParameter[C]):  # type: ignore[misc]
    """One of the choices, or None. Unlike the others it has no default of its own (as in Luigi)."""

    def __init__(self, default: C | NoValue | None = no_value, **options: Any) -> None:
        super().__init__(default=default, **options)
        self.expected_type = self._choices.type
