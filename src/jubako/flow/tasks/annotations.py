"""The parameter that a type stands for: `datetime.date` for a `DateParameter`, `int | None` for an optional number.

    city: str                                                    a StrParameter
    date: Annotated[datetime.date, "the day to make"]            a DateParameter with a description
    month: Annotated[datetime.date, MonthParameter()]            another kind than the type would get
    where: Annotated[Point, PointParameter()]                    a type that no kind of ours is for

Such a parameter is of the same kind as one that is written out, so ids, texts and options are the same. Beyond that it
knows what values it takes (`Expected`), and a task refuses others when it is made. Everything here is pure: types in,
parameters out. Which attributes of a class are parameters at all is decided in `flow.tasks.typed`.
"""

from __future__ import annotations

import collections.abc
import copy
import datetime
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jubako.flow.date_interval import DateInterval
from jubako.flow.parameters.choices import ChoiceListParameter, ChoiceParameter, EnumListParameter, EnumParameter
from jubako.flow.parameters.dates import DateIntervalParameter, DateParameter
from jubako.flow.parameters.datetimes import DateSecondParameter
from jubako.flow.parameters.durations import TimeDeltaParameter
from jubako.flow.parameters.errors import ParameterException
from jubako.flow.parameters.frozen import freeze
from jubako.flow.parameters.numbers import BoolParameter, FloatParameter, IntParameter
from jubako.flow.parameters.optional import OptionalParameterMixin
from jubako.flow.parameters.parameter import Expected, NoValue, Parameter, StrParameter, no_value
from jubako.flow.parameters.references import PathParameter, TaskParameter
from jubako.flow.parameters.structures import DictParameter, ListParameter, TupleParameter

__all__ = ["make_parameter"]

_Fits = Callable[[Any], bool]

_HINT = (
    "Annotated[TYPE, SomeParameter()] says which parameter reads it; ClassVar[TYPE] says that it is none, "
    "and so does a name that starts with _"
)


class _FloatParameter(FloatParameter):
    """A float; an int that is given becomes one, so that 1 and 1.0 are the same task."""

    def normalize(self, x: Any) -> Any:
        return float(x) if type(x) is int else x


class _PathParameter(PathParameter):
    """A path from the start, where the one of Luigi is a str until it is normalized."""

    def parse(self, x: str) -> Path:
        return Path(x)


class _DictParameter(DictParameter[Any]):
    """A mapping that is frozen from the start, so that a tuple in it is one."""

    def parse(self, x: Any) -> Any:
        return freeze(super().parse(x))


class _ListParameter(ListParameter[Any]):
    """A sequence that is frozen from the start, so that a tuple in it is one."""

    def parse(self, x: str) -> Any:
        return freeze(super().parse(x))


class _TimeDeltaParameter(TimeDeltaParameter):
    """A length of time whose text can always be read again: Luigi's drops fractions, and garbles what is negative."""

    def serialize(self, x: datetime.timedelta) -> str:
        if x.days >= 0 and not x.microseconds:
            return super().serialize(x)
        seconds, fraction = divmod(abs(x // datetime.timedelta(microseconds=1)), 1_000_000)
        return f"{'-' if x.days < 0 else ''}{seconds}.{fraction:06}"


class _TupleParameter(TupleParameter[Any]):
    """A tuple, written as a JSON array of anything (Luigi's can't read all it writes), or as a Python literal."""

    def parse(self, x: str) -> Any:
        try:
            return freeze(ListParameter.parse(self, x))
        except ValueError:
            return freeze(super().parse(x))


_KINDS: dict[Any, type[Parameter[Any]]] = {
    str: StrParameter,
    int: IntParameter,
    float: FloatParameter,
    bool: BoolParameter,
    datetime.date: DateParameter,
    datetime.datetime: DateSecondParameter,  # the finest: a coarser kind would drop what was given
    datetime.timedelta: TimeDeltaParameter,
    Path: PathParameter,
}
# Kinds that take, or make, values which aren't of their type, and those that stand for them here.
_STRICT: dict[type[Parameter[Any]], type[Parameter[Any]]] = {
    DictParameter: _DictParameter,
    FloatParameter: _FloatParameter,
    ListParameter: _ListParameter,
    PathParameter: _PathParameter,
    TimeDeltaParameter: _TimeDeltaParameter,
    TupleParameter: _TupleParameter,
}
_JSON = (str, int, float, bool, types.NoneType, Any, object)
_SEQUENCES = (tuple, list, collections.abc.Sequence)
_MAPPINGS = (dict, collections.abc.Mapping)


def make_parameter(annotation: Any, default: Any = no_value) -> Parameter[Any]:
    """The parameter for an attribute annotated so; a ParameterException says why there is none, and what to do."""
    plain, details = _unwrap(annotation)
    is_optional = False
    if _is_union(plain):
        members = [member for member in get_args(plain) if member is not types.NoneType]
        is_optional = len(members) < len(get_args(plain))
        if len(members) > 1 and not _given(details):
            raise _unfit(annotation, "it may be of several types")
        if len(members) == 1:
            plain, inner_details = _unwrap(members[0])
            details = [*inner_details, *details]
    given = _given(details)
    parameter = _copy_given(given, plain, annotation) if given is not None else _make_kind(plain, annotation)
    if isinstance(parameter, OptionalParameterMixin) and not is_optional:
        name = type(parameter).__name__
        raise ParameterException(f"{name} takes None and {_words(plain)} doesn't", hint=f"{_words(plain)} | None does")
    kind: Any = type(parameter)  # Any: mypy holds a class of parameters for unhashable
    parameter.__class__ = _find_kind(kind, is_optional=is_optional)
    parameter.description = parameter.description or next((text for text in details if isinstance(text, str)), None)
    fits = _fits(plain, annotation)
    parameter.expected = Expected(
        words=f"{_words(plain)} | None" if is_optional else _words(plain),
        fits=(lambda value: value is None or fits(value)) if is_optional else fits,
    )
    if not isinstance(default, NoValue) and not parameter.expected.fits(default):
        hint = f"write {_words(plain)} | None" if default is None else ""
        raise ParameterException(f"its default {default!r} is not {parameter.expected.words}", hint=hint)
    parameter._default = default
    return parameter


# --- which kind ------------------------------------------------------------------------------------------------------


def _make_kind(plain: Any, annotation: Any) -> Parameter[Any]:
    """A parameter of the kind for a type."""
    for known, kind in _KINDS.items():
        if plain is known:
            return kind()
    if isinstance(plain, type) and get_origin(plain) is None:
        if issubclass(plain, Enum):
            return EnumParameter(enum=plain)
        if issubclass(plain, DateInterval):
            return DateIntervalParameter()
        if _is_task_class(plain):
            hint = f"type[{plain.__name__}] takes the class; requires() makes tasks of it"
            raise ParameterException("a task can't be the value of a parameter", hint=hint)
    origin, args = get_origin(plain) or plain, get_args(plain)
    if origin is Literal:
        return _make_choice(ChoiceParameter, plain, annotation)
    if origin is type and args and _is_task_class(args[0]):
        return TaskParameter()
    if origin in _SEQUENCES:
        element, _ = _unwrap(args[0]) if args else (Any, [])
        is_uniform = origin is not tuple or args[1:] == (...,)
        if is_uniform and isinstance(element, type) and issubclass(element, Enum):
            return EnumListParameter(enum=element)
        if is_uniform and get_origin(element) is Literal:
            return _make_choice(ChoiceListParameter, element, annotation)
    if not _is_json(plain):
        raise _unfit(annotation)
    if origin in _MAPPINGS:
        return DictParameter()
    if origin in _SEQUENCES:
        return TupleParameter() if origin is tuple else ListParameter()
    raise _unfit(annotation)


def _make_choice(kind: Callable[..., Parameter[Any]], literal: Any, annotation: Any) -> Parameter[Any]:
    choices = get_args(literal)
    var_type = type(choices[0])
    if var_type not in (str, int) or any(type(choice) is not var_type for choice in choices):
        raise _unfit(annotation, "choices are all str or all int")
    if var_type is int and kind is ChoiceListParameter:
        raise _unfit(annotation, "choices in a list are str")
    return kind(choices=choices, var_type=var_type)


def _copy_given(given: Parameter[Any], plain: Any, annotation: Any) -> Parameter[Any]:
    """The parameter that an `Annotated` names, for this attribute alone: the annotation may be used for several."""
    if type(given) in (Parameter, StrParameter) and plain is not str:
        kind = type(_make_kind(plain, annotation)).__name__
        raise ParameterException(
            f"{type(given).__name__} reads str, not {_words(plain)}", hint=f"write {kind}(...) instead"
        )
    has_default_by_itself = (isinstance(given, OptionalParameterMixin) and given._default is None) or (
        isinstance(given, BoolParameter) and given._default is False
    )
    if not isinstance(given._default, NoValue) and not has_default_by_itself:
        raise ParameterException(
            f"its default {given._default!r} is in the annotation",
            hint="the default stands behind the annotation: = ...",
        )
    return copy.copy(given)


def _given(details: Sequence[Any]) -> Parameter[Any] | None:
    found = [detail for detail in details if isinstance(detail, Parameter)]
    if len(found) > 1:
        raise ParameterException(f"{len(found)} parameters are in one annotation", hint="leave one of them")
    return found[0] if found else None


@functools.cache
def _find_kind(kind: Any, *, is_optional: bool) -> Any:
    """The kind that stands for another here: takes and makes what the annotation says, None too if it is optional."""
    if issubclass(kind, OptionalParameterMixin):
        return next((_find_kind(base, is_optional=True) for base in kind.__bases__ if base in _STRICT), kind)
    kind = _STRICT.get(kind, kind)
    if not is_optional:
        return kind
    body = {"__module__": __name__, "__doc__": kind.__doc__, "expected_type": object}
    return type(f"Optional{kind.__name__.lstrip('_')}", (OptionalParameterMixin, kind), body)


# --- which values ----------------------------------------------------------------------------------------------------


def _fits(annotation: Any, whole: Any) -> _Fits:
    """What tells if a value is of a type; `whole` is what error messages name."""
    plain, _ = _unwrap(annotation)
    origin, args = get_origin(plain) or plain, get_args(plain)
    if plain in (Any, object):
        return lambda value: True
    if plain is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    if plain is float:
        return lambda value: isinstance(value, (float, int)) and not isinstance(value, bool)
    if _is_union(plain):
        members = [_fits(member, whole) for member in args]
        return lambda value: any(fits(value) for fits in members)
    if origin is Literal:
        return lambda value: any(type(value) is type(choice) and value == choice for choice in args)
    if origin is type:
        base = args[0] if args else object
        return lambda value: isinstance(value, type) and issubclass(value, base)
    if origin is tuple and args and args[1:] != (...,):
        places = [_fits(arg, whole) for arg in args]
        return lambda value: (
            isinstance(value, tuple)
            and len(value) == len(places)
            and all(fits(item) for fits, item in zip(places, value, strict=True))
        )
    if origin in _SEQUENCES:
        kinds = tuple if origin is tuple else (list, tuple)
        element = _fits(args[0] if args else Any, whole)
        return lambda value: isinstance(value, kinds) and all(map(element, value))
    if origin in _MAPPINGS:
        key, item = (_fits(arg, whole) for arg in (args or (Any, Any)))
        return lambda value: isinstance(value, Mapping) and all(map(key, value)) and all(map(item, value.values()))
    if isinstance(plain, type) and plain is origin:
        return lambda value: isinstance(value, plain)
    raise _unfit(whole)


def _is_json(annotation: Any) -> bool:
    """True if values of the type come back from JSON as they were."""
    plain, _ = _unwrap(annotation)
    origin, args = get_origin(plain) or plain, get_args(plain)
    if origin in _MAPPINGS:
        return not args or (_unwrap(args[0])[0] in (str, Any) and _is_json(args[1]))
    if origin in _SEQUENCES:
        return all(arg is ... or _is_json(arg) for arg in args)
    if origin is Literal:
        return all(type(choice) in (str, int, bool, types.NoneType) for choice in args)
    return all(map(_is_json, args)) if _is_union(plain) else plain in _JSON


# --- types -----------------------------------------------------------------------------------------------------------


def _unwrap(annotation: Any) -> tuple[Any, list[Any]]:
    """The type behind `Annotated`, `NewType` and aliases, and what the `Annotated` says about it."""
    details: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            details = [*annotation.__metadata__, *details]
            annotation = annotation.__origin__
        elif hasattr(annotation, "__supertype__"):  # a NewType
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # `type Day = ...`, from Python 3.12
            annotation = annotation.__value__
        else:
            return annotation, details


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _is_task_class(value: Any) -> bool:
    from jubako.flow.tasks.register import Register  # a cycle: tasks are made of parameters

    return isinstance(value, Register)


def _words(annotation: Any) -> str:
    """A type as one writes it."""
    if annotation is types.NoneType:
        return "None"
    if _is_union(annotation):
        return " | ".join(map(_words, get_args(annotation)))
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(args[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    if origin is not None:
        return f"{_words(origin)}[{', '.join('...' if arg is ... else _words(arg) for arg in args)}]"
    if isinstance(annotation, type):
        module = annotation.__module__
        return f"{module}.{annotation.__name__}" if module == "datetime" else annotation.__name__
    return str(annotation).removeprefix("typing.")


def _unfit(annotation: Any, reason: str = "") -> ParameterException:
    return ParameterException(f"no parameter reads {_words(annotation)}{f': {reason}' if reason else ''}", hint=_HINT)
