"""What the parameters of one task class are, computed once per class: the plan by which its tasks are made.

Resolving arguments, and turning values into a task id, is done for every task; finding the parameters of a class is
not. `Register` keeps one `Signature` in each class and drops it when the class changes.

The task id is Luigi's to the letter, so that both name a task alike:
family, the first 16 characters of the first three values by parameter name, and ten hex digits of the MD5 of all
significant public values as compact sorted JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Final

from jubako.flow.parameters.errors import (
    DuplicateParameterException,
    InvalidParameterException,
    MissingParameterException,
    UnknownParameterException,
)
from jubako.flow.parameters.parameter import CONCEALED, Parameter, ParameterVisibility

__all__ = [
    "TASK_ID_INCLUDE_PARAMS",
    "TASK_ID_INVALID_CHAR_REGEX",
    "TASK_ID_TRUNCATE_HASH",
    "TASK_ID_TRUNCATE_PARAMS",
    "Signature",
    "find_parameters",
    "task_id_str",
]

TASK_ID_INCLUDE_PARAMS: Final = 3
TASK_ID_TRUNCATE_PARAMS: Final = 16
TASK_ID_TRUNCATE_HASH: Final = 10
TASK_ID_INVALID_CHAR_REGEX: Final = re.compile(r"[^A-Za-z0-9_]")

_SHOWN = 80  # characters of a value in an error message


def find_parameters(cls: type) -> list[tuple[str, Parameter[Any]]]:
    """The parameters of `cls`, inherited ones included, in the order in which they were made."""
    attributes: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        attributes.update(vars(base))
    found = [(name, value) for name, value in attributes.items() if isinstance(value, Parameter)]
    return sorted(found, key=lambda item: (item[1]._counter, item[0]))


def task_id_str(task_family: str, params: Mapping[str, str]) -> str:
    """The id of a task, from its family and the text of each significant public parameter."""
    text = json.dumps(params, separators=(",", ":"), sort_keys=True)
    return _make_id(task_family, [params[name] for name in sorted(params)[:TASK_ID_INCLUDE_PARAMS]], text)


class Signature:
    """The parameters of one task class, ready for making tasks."""

    __slots__ = (
        "_checked",
        "_identifying",
        "_positional",
        "_readers",
        "by_name",
        "family",
        "names",
        "parameters",
        "plain",
    )

    def __init__(self, family: str, parameters: Sequence[tuple[str, Parameter[Any]]], *, plain: bool = False) -> None:
        self.family = family
        self.plain = plain  # the class has no __init__ of its own, so tasks can be made from values directly
        self.parameters = tuple(parameters)
        self.names = tuple(name for name, _ in parameters)
        self.by_name = dict(parameters)
        # What makes a parameter's value of an argument.
        self._readers = {name: self._find_reader(name, parameter) for name, parameter in parameters}
        self._positional = tuple(item for item in parameters if item[1].positional)
        # Those that may have something to say about a value of the wrong type; most kinds don't.
        self._checked = tuple(
            (index, name, parameter)
            for index, (name, parameter) in enumerate(parameters)
            if _is_public(parameter)  # the warning shows the value
            and (type(parameter) is Parameter or type(parameter).warn_on_wrong_type is not Parameter.warn_on_wrong_type)
        )
        # What the id is made of: position, JSON key and serializer, by name.
        self._identifying: tuple[tuple[int, str, str, Callable[[Any], str]], ...] = tuple(
            (self.names.index(name), name, f"{quote(name)}:", parameter.serialize)
            for name, parameter in sorted(parameters)
            if parameter.significant and parameter.visibility is ParameterVisibility.PUBLIC
        )

    def resolve(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """The value of every parameter, in order; lists and sets become tuples.

        Raises what a call that doesn't fit deserves: unknown, duplicate or missing parameters.
        """
        values: dict[str, Any] = {}
        if args:
            if len(args) > len(self._positional):
                raise UnknownParameterException(
                    f"{self._call(args, kwargs)}: takes at most {len(self._positional)} parameters ({len(args)} given)"
                )
            for (name, _), value in zip(self._positional, args, strict=False):
                values[name] = self._readers[name](value)
        for name, value in kwargs.items():
            if name in values:
                raise DuplicateParameterException(
                    f"{self._call(args, kwargs)}: parameter {name} was already set as a positional parameter"
                )
            read = self._readers.get(name)
            if read is None:
                raise UnknownParameterException(f"{self._call(args, kwargs)}: unknown parameter {name}")
            values[name] = read(value)
        resolved = []
        for name, parameter in self.parameters:
            value = values[name] if name in values else self._default_of(name, parameter, args, kwargs)
            kind = type(value)
            if kind is list or kind is set:
                value = tuple(value) if kind is list else tuple(sorted(value, key=repr))
            resolved.append(value)
        return tuple(resolved)

    def parse(self, name: str, text: str) -> Any:
        """What the parameter `name` reads `text` as; raises what it raises, unless that would show a secret."""
        parameter = self.by_name[name]
        return parameter.parse(text) if _is_public(parameter) else self._read_concealed(name, parameter.parse, text)

    def task_id(self, values: Sequence[Any]) -> str:
        """The id of the task with these values; the same as `task_id_str` of their texts, only quicker."""
        texts = []
        fields = []
        for index, _, key, serialize in self._identifying:
            text = serialize(values[index])
            if type(text) is not str:
                return task_id_str(self.family, {n: s(values[i]) for i, n, _, s in self._identifying})
            texts.append(text)
            fields.append(key + quote(text))
        return _make_id(self.family, texts[:TASK_ID_INCLUDE_PARAMS], "{" + ",".join(fields) + "}")

    def warn_about(self, values: Sequence[Any]) -> None:
        """Lets each parameter warn about a value that isn't of its type."""
        for index, name, parameter in self._checked:
            parameter.warn_on_wrong_type(name, values[index])

    def describe(self, values: Sequence[Any]) -> str:
        """The task as people read it, `Family(a=1, b=x)`; concealed values are starred."""
        shown = [
            f"{name}={parameter.serialize(value) if _is_public(parameter) else CONCEALED}"
            for (name, parameter), value in zip(self.parameters, values, strict=True)
            if parameter.significant
        ]
        return f"{self.family}({', '.join(shown)})"

    def _default_of(self, name: str, parameter: Parameter[Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        try:
            value = parameter.task_value(self.family, name)
        except MissingParameterException:
            raise MissingParameterException(
                f"{self._call(args, kwargs)}: requires the '{name}' parameter to be set"
            ) from None
        except InvalidParameterException as error:
            raise InvalidParameterException(
                f"{self._call(args, kwargs)}: Error when parsing the default value of '{name}': {error}"
            ) from error
        if parameter.expected is not None and not parameter.expected.fits(value):
            raise self._unexpected(name, parameter, value)
        return value

    def _find_reader(self, name: str, parameter: Parameter[Any]) -> Callable[[Any], Any]:
        read = parameter.normalize if parameter.expected is None else partial(self._read_expected, name, parameter)
        return read if _is_public(parameter) else partial(self._read_concealed, name, read)

    def _read_concealed(self, name: str, read: Callable[[Any], Any], value: Any) -> Any:
        """What `read` makes of a value; if it refuses it, nothing is said of the value."""
        try:
            return read(value)
        except InvalidParameterException:
            raise  # our own words
        except (ValueError, TypeError, ArithmeticError):
            refusal = InvalidParameterException(f"{self.family}: {name}={CONCEALED} is refused")
        raise refusal

    def _read_expected(self, name: str, parameter: Parameter[Any], value: Any) -> Any:
        """The value an annotated parameter gets; refuses what isn't of its type."""
        assert parameter.expected is not None  # or the parameter would be asked directly
        if not parameter.expected.fits(value):
            raise self._unexpected(name, parameter, value)
        return parameter.normalize(value)

    def _unexpected(self, name: str, parameter: Parameter[Any], value: Any) -> InvalidParameterException:
        assert parameter.expected is not None  # it is what the value was checked against
        shown = _shorten(repr(value)) if _is_public(parameter) else CONCEALED
        hint = f"texts are read by {self.family}.from_str_params" if isinstance(value, str) else ""
        return InvalidParameterException(
            f"{self.family}: {name} must be {parameter.expected.words}, not {shown} ({type(value).__name__})", hint=hint
        )

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The call as an error message shows it, without secrets: what belongs to no parameter may be one, too."""
        conceals = not all(map(_is_public, self.by_name.values()))
        placed = [parameter for _, parameter in self._positional]
        of_args = [*placed, *([None] * len(args))]
        shown_args = tuple(
            CONCEALED if _is_secret(parameter, conceals) else value
            for value, parameter in zip(args, of_args, strict=False)
        )
        shown_kwargs = {
            name: CONCEALED if _is_secret(self.by_name.get(name), conceals) else value for name, value in kwargs.items()
        }
        return f"{self.family}[args={shown_args}, kwargs={shown_kwargs}]"


def _is_secret(parameter: Parameter[Any] | None, conceals: bool) -> bool:
    """Whether the value of a parameter isn't shown; None: of one that isn't known, in a task that conceals others."""
    return conceals if parameter is None else not _is_public(parameter)


def _is_public(parameter: Parameter[Any]) -> bool:
    return parameter.visibility is ParameterVisibility.PUBLIC


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _make_id(family: str, first_texts: list[str], text: str) -> str:
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:TASK_ID_TRUNCATE_HASH]
    summary = "_".join([first[:TASK_ID_TRUNCATE_PARAMS] for first in first_texts])
    return f"{family}_{TASK_ID_INVALID_CHAR_REGEX.sub('_', summary)}_{digest}"
