"""Parameters whose values are structures, written as JSON: dictionaries, lists, tuples. Values are frozen."""

from __future__ import annotations

import ast
import json
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Unpack

from jubako.flow.parameters.frozen import FrozenJSONEncoder, FrozenOrderedDict, freeze, unfreeze
from jubako.flow.parameters.parameter import NoValue, Parameter, ParameterOptions, no_value

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    D = TypeVar("D", default=dict[Any, Any])
    S = TypeVar("S", default=tuple[Any, ...])
else:
    from typing import TypeVar

    D = TypeVar("D")
    S = TypeVar("S")

__all__ = ["DictParameter", "ListParameter", "TupleParameter"]


class DictParameter(Parameter[D]):
    """A JSON object. Its value is an immutable mapping that keeps the order of keys.

    `schema` is a JSON schema (checked when the package jsonschema is there) or an object with `validate(value)`.
    """

    def __init__(
        self, default: D | NoValue = no_value, *, schema: Any = None, **options: Unpack[ParameterOptions]
    ) -> None:
        self.schema = _usable_schema(schema)
        super().__init__(default, **options)

    def parse(self, x: Any) -> D:
        value: D = json.loads(x, object_pairs_hook=FrozenOrderedDict) if isinstance(x, str) else x
        return value

    def serialize(self, x: Any) -> str:
        return json.dumps(x, cls=FrozenJSONEncoder)

    def normalize(self, x: Any) -> D:
        value: D = _freeze_valid(x, self.schema)
        return value


class ListParameter(Parameter[S]):
    """A JSON array. Its value is a tuple with tuples and immutable mappings inside. `schema`: see `DictParameter`."""

    def __init__(
        self, default: S | NoValue = no_value, *, schema: Any = None, **options: Unpack[ParameterOptions]
    ) -> None:
        self.schema = _usable_schema(schema)
        super().__init__(default, **options)

    def parse(self, x: str) -> Any:
        value = json.loads(x, object_pairs_hook=FrozenOrderedDict)
        return None if value is None else list(value)

    def serialize(self, x: Any) -> str:
        return json.dumps(x, cls=FrozenJSONEncoder)

    def normalize(self, x: Any) -> S:
        value: S = _freeze_valid(x, self.schema)
        return value


class TupleParameter(ListParameter[S]):
    """A tuple of tuples or plain values, written as JSON or as a Python literal: `((12, 3), (4, 15))`."""

    def parse(self, x: str) -> Any:
        try:
            items = json.loads(x, object_pairs_hook=FrozenOrderedDict)
            return tuple(item if isinstance(item, str) else tuple(item) for item in items)
        except (ValueError, TypeError):
            value = ast.literal_eval(x)
        if isinstance(value, str):
            raise ValueError("Parsed result cannot be a string")
        return tuple(value)


def _usable_schema(schema: Any) -> Any:
    if schema is None or hasattr(schema, "validate") or find_spec("jsonschema") is not None:
        return schema
    warnings.warn(
        "The 'jsonschema' package is not installed so the parameter can not be validated "
        "even though a schema is given.",
        stacklevel=3,
    )
    return None


def _freeze_valid(value: Any, schema: Any) -> Any:
    if schema is not None:
        value = unfreeze(value)  # validators expect plain dicts and lists, and may fill in defaults
        if hasattr(schema, "validate"):
            schema.validate(value)
        else:
            import_module("jsonschema").validate(instance=value, schema=schema)  # optional, not a dependency
    return freeze(value)
