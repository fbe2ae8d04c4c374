"""Parameters whose values come from a given set: choices of one type, members of an enum, and lists of either."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Unpack
from typing import TypeVar as PlainTypeVar

from jubako.flow.parameters.errors import ParameterException
from jubako.flow.parameters.parameter import NoValue, Parameter, ParameterOptions, no_value

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    C = TypeVar("C", default=str)
else:
    C = PlainTypeVar("C")

E = PlainTypeVar("E", bound=Enum)

__all__ = ["ChoiceListParameter", "ChoiceParameter", "EnumListParameter", "EnumParameter"]

_SEPARATOR = ","


class _Choices(Generic[C]):
    """The set a value must be from: all of exactly one type."""

    def __init__(self, choices: Iterable[C] | None, var_type: type[C]) -> None:
        if choices is None:
            raise ParameterException("A choices iterable must be specified")
        self.type = var_type
        self.allowed = dict.fromkeys(choices)  # a set that keeps the order
        # Luigi's AssertionError: a wrong declaration is the program's fault, not the caller's
        if any(type(choice) is not var_type for choice in self.allowed):
            raise AssertionError("Invalid type in choices")

    def parse(self, text: str) -> C:
        return self.type(text)  # type: ignore[call-arg]  # a type that reads its own text form: str, int, float

    def check(self, value: C) -> C:
        if value not in self.allowed:
            raise ValueError(f"{value} is not a valid choice from {{{', '.join(map(repr, self.allowed))}}}")
        return value

    def described(self, description: str | None) -> str:
        words = f"Choices: {{{', '.join(map(str, self.allowed))}}}"
        return f"{description} {words}" if description else words


class ChoiceParameter(Parameter[C]):
    """One of `choices`, all of type `var_type`; checked for text and for values."""

    def __init__(
        self,
        default: C | NoValue = no_value,
        *,
        choices: Sequence[C] | None = None,
        var_type: type[C] = str,  # type: ignore[assignment]  # the default of C
        **options: Unpack[ParameterOptions],
    ) -> None:
        self._choices = _Choices(choices, var_type)
        super().__init__(default, **options)
        self.description = self._choices.described(self.description)

    def parse(self, x: str) -> C:
        return self.normalize(self._choices.parse(x))

    def normalize(self, x: C) -> C:
        return self._choices.check(x)


class ChoiceListParameter(Parameter[tuple[C, ...]]):
    """Any number of `choices`, joined by commas: order and repetitions count, "" is none."""

    def __init__(
        self,
        default: tuple[C, ...] | NoValue = no_value,
        *,
        choices: Sequence[C] | None = None,
        var_type: type[C] = str,  # type: ignore[assignment]  # the default of C
        **options: Unpack[ParameterOptions],
    ) -> None:
        self._choices = _Choices(choices, var_type)
        super().__init__(default, **options)
        self.description = self._choices.described(self.description)

    def parse(self, x: str) -> tuple[C, ...]:
        return self.normalize(self._choices.parse(text) for text in x.split(_SEPARATOR)) if x else ()

    def normalize(self, x: Iterable[C]) -> tuple[C, ...]:
        return tuple(self._choices.check(value) for value in x)

    def serialize(self, x: Iterable[C]) -> str:
        return _SEPARATOR.join(x)  # type: ignore[arg-type]  # like Luigi, a TypeError for choices that aren't strings


class EnumParameter(Parameter[E]):
    """A member of an enum, by its name."""

    def __init__(
        self, default: E | NoValue = no_value, *, enum: type[E] | None = None, **options: Unpack[ParameterOptions]
    ) -> None:
        if enum is None:
            raise ParameterException("An enum class must be specified.")
        self._enum = enum
        super().__init__(default, **options)

    def parse(self, x: str) -> E:
        try:
            return self._enum[x]
        except KeyError:
            raise ValueError("Invalid enum value - could not be parsed") from None

    def serialize(self, x: E) -> str:
        return x.name


class EnumListParameter(Parameter[tuple[E, ...]]):
    """Any number of an enum's members by name, joined by commas: order and repetitions count, "" is none."""

    def __init__(
        self,
        default: tuple[E, ...] | NoValue = no_value,
        *,
        enum: type[E] | None = None,
        **options: Unpack[ParameterOptions],
    ) -> None:
        if enum is None:
            raise ParameterException("An enum class must be specified.")
        self._enum = enum
        super().__init__(default, **options)

    def parse(self, x: str) -> tuple[E, ...]:
        return tuple(self._member(name, index) for index, name in enumerate(x.split(_SEPARATOR))) if x else ()

    def serialize(self, x: Iterable[Any]) -> str:
        return _SEPARATOR.join(member.name for member in x)

    def _member(self, name: str, index: int) -> E:
        try:
            return self._enum[name]
        except KeyError:
            raise ValueError(f'Invalid enum value "{name}" index {index} - could not be parsed') from None
