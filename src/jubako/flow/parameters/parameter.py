"""What a parameter is: a typed class attribute of a task with a name, a default, and a text form.

    class DailySummary(Task):
        date = DateParameter()              # no default: must be given
        city = Parameter(default="Oslo")

A `Parameter` is a descriptor without `__set__`: a task keeps its values in its own `__dict__`, so that reading
`task.date` costs what any attribute costs, while a type checker sees the value's type. Four functions make a kind:
`parse` (text -> value), `serialize` (value -> text, its inverse), `normalize` (any accepted value -> the canonical
one) and `next_in_enumeration` (the value that follows, for kinds that count).

Names, defaults and behaviour are those of `luigi.parameter`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypedDict, overload

from jubako.flow.parameters.errors import InvalidParameterException, MissingParameterException, ParameterException
from jubako.flow.parameters.refusals import put_in_words
from jubako.flow.parameters.source import find_value
from jubako.records import record

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # only the checker needs the default; it brings this module itself

    T = TypeVar("T", default=str)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = [
    "CONCEALED",
    "ConfigPath",
    "Expected",
    "NoValue",
    "Parameter",
    "ParameterOptions",
    "ParameterVisibility",
    "StrParameter",
    "next_place",
    "no_value",
    "parse_argument",
]


class NoValue:
    """The type of `no_value`, which says that there is none; None is a value like any other."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<no_value>"

    def __reduce__(self) -> str:
        return "no_value"  # stays one object through pickle and copy


no_value: Final = NoValue()
CONCEALED: Final = "***"  # what is shown of a value that isn't public


class ParameterVisibility(IntEnum):
    """Who may see a parameter's value."""

    PUBLIC = 0  # everybody; part of the task's id
    HIDDEN = 1  # not part of the id
    PRIVATE = 2  # not part of the id, nor of anything stored or sent

    @classmethod
    def has_value(cls, value: object) -> bool:
        return value in cls._value2member_map_

    def serialize(self) -> int:
        return self.value


class ConfigPath(TypedDict):
    """Another place a setting may be found at, kept for old settings files."""

    section: str
    name: str


class ParameterOptions(TypedDict, total=False):
    """What every kind of parameter accepts beside its default."""

    is_global: bool
    significant: bool
    description: str | None
    config_path: ConfigPath | None
    positional: bool
    always_in_help: bool
    batch_method: Callable[[Iterable[Any]], Any] | None
    visibility: ParameterVisibility


@record
class Expected:
    """What values a parameter takes that was declared by an annotation."""

    words: str  # the annotation as one writes it: "datetime.date"
    fits: Callable[[Any], bool]


class Parameter(Generic[T]):
    """A parameter whose value is a str, and the base of all other kinds.

    default         the value when none is given; without it the parameter must be given
    significant     False: two tasks that differ only here are the same task
    description     one line for `--help`
    positional      False: can be given by name only
    always_in_help  listed in `--help` even when the task isn't the root
    batch_method    combines the values of several tasks into one (`max`, `min`, ...), for tasks that can run as one
    visibility      who may see the value
    config_path     deprecated second place to look for a setting
    """

    _counter = 0  # of all parameters made: the order in which positional arguments fill them

    expected: Expected | None = None  # what a value is checked against; None: Luigi's ways, which check nothing

    def __init__(
        self,
        default: T | NoValue = no_value,
        is_global: bool = False,
        significant: bool = True,
        description: str | None = None,
        config_path: ConfigPath | None = None,
        positional: bool = True,
        always_in_help: bool = False,
        batch_method: Callable[[Iterable[Any]], Any] | None = None,
        visibility: ParameterVisibility = ParameterVisibility.PUBLIC,
    ) -> None:
        if is_global:
            warnings.warn("is_global support is removed. Assuming positional=False", DeprecationWarning, stacklevel=2)
            positional = False
        if config_path is not None and not ("section" in config_path and "name" in config_path):
            raise ParameterException("config_path must be a hash containing entries for section and name")
        self._default = default
        self._batch_method = batch_method
        self._config_path = config_path
        self.significant = significant
        self.positional = positional
        self.description = description
        self.always_in_help = always_in_help
        self.visibility = visibility if ParameterVisibility.has_value(visibility) else ParameterVisibility.PUBLIC
        self._counter = next_place()

    @overload
    def __get__(self, instance: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: Any) -> T: ...
    def __get__(self, instance: object, owner: Any) -> Any:
        if instance is None:
            return self
        # Only reached when the instance's __dict__ holds no value.
        raise AttributeError(f"a parameter of {type(instance).__name__} was read before it had a value")

    if TYPE_CHECKING:  # tasks may reassign a value; at run time there must be no __set__ (see the head comment)

        def __set__(self, instance: object, value: T) -> None: ...

    def parse(self, x: str) -> T:
        """The value that the text `x` stands for; ValueError when it stands for none."""
        return x  # type: ignore[return-value]  # str is what T is unless a subclass says otherwise

    def serialize(self, x: T) -> str:
        """The text that `parse` reads `x` back from."""
        return str(x)

    def normalize(self, x: T) -> T:
        """The canonical value for `x`; applied to every value, wherever it comes from."""
        return x

    def next_in_enumeration(self, value: T) -> T | None:
        """The value that follows `value` where values count (dates, integers), else None."""
        return None

    def has_task_value(self, task_name: str, param_name: str) -> bool:
        """Tells if a task that isn't given this parameter has a value for it all the same."""
        return self._get_value(task_name, param_name) is not no_value

    def task_value(self, task_name: str, param_name: str) -> T:
        """The value for a task that isn't given one: from the sources of values, else the default."""
        value = self._get_value(task_name, param_name)
        if isinstance(value, NoValue):
            raise MissingParameterException("No default specified")
        return self.normalize(value)

    def has_batch_method(self) -> bool:
        return self._batch_method is not None

    def combine(self, values: Iterable[T]) -> T:
        """One value standing for all of `values`, made by `batch_method`."""
        if self._batch_method is None:
            raise NotImplementedError("No batch method found")
        combined: T = self._batch_method(values)
        return combined

    def warn_on_wrong_type(self, param_name: str, value: object) -> None:
        """Warns about a value that serializes, but isn't what the parameter is for."""
        if type(self) is Parameter and not isinstance(value, str):
            warnings.warn(f'Parameter "{param_name}" with value "{value}" is not of type string.', stacklevel=6)

    def _get_value(self, task_name: str, param_name: str) -> T | NoValue:
        text = find_value(task_name, param_name)
        if text is None and self._config_path is not None:
            section, name = self._config_path["section"], self._config_path["name"]
            text = find_value(section, name)
            if text is not None:
                warnings.warn(
                    f"The use of the configuration [{section}] {name} is deprecated. "
                    f"Please use [{task_name}] {param_name}",
                    DeprecationWarning,
                    stacklevel=2,
                )
        return self._default if text is None else parse_argument(self, task_name, param_name, text)


class StrParameter(Parameter[str]):
    """A parameter whose value is a str, whatever it is parsed from."""

    def parse(self, x: str) -> str:
        return str(x)


def next_place() -> int:
    """A place in the order of parameters, behind all those there are."""
    place = Parameter._counter
    Parameter._counter += 1
    return place


def parse_argument(parameter: Parameter[T], family: str, name: str, text: str) -> T:
    """The value `text` stands for; an InvalidParameterException that names task and parameter when there is none.

    A text for a concealed parameter is not shown, nor is what is said about it.
    """
    try:
        value = parameter.parse(text)
        parameter.normalize(value)  # which may refuse what can be read: a path that is not there, a date without a week
        return value
    except InvalidParameterException:
        raise
    except _UNREADABLE as error:
        refused = error
    flag = f"--{name.replace('_', '-')}"
    if parameter.visibility is not ParameterVisibility.PUBLIC:
        raise InvalidParameterException(f"{family}: {flag} {CONCEALED} can't be read")
    if isinstance(refused, (RecursionError, MemoryError)):
        reason = "it is nested too deeply"
    else:
        reason = put_in_words(_shorten(str(refused), 200), getattr(parameter, "date_format", ""))
    raise InvalidParameterException(f"{family}: {flag} {_shorten(text, 80)!r} can't be read: {reason}") from refused


# What `parse` and `normalize` raise, Luigi's and those of pipelines; the last two for what is nested too deeply.
_UNREADABLE = (ValueError, TypeError, ArithmeticError, SyntaxError, ParameterException, RecursionError, MemoryError)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
