"""Structures as parameters: validated by a schema object, frozen, and refused with words."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from jubako.flow.parameters import DictParameter, ListParameter, TupleParameter


class Schema:
    """A validator that wants a key or an item, and fills in a default."""

    def validate(self, value: Any) -> None:
        if not value:
            raise ValueError("nothing given")
        if isinstance(value, dict):
            value.setdefault("b", 2)


def test_schema_object_validates_and_may_complete_the_value() -> None:
    assert DictParameter(schema=Schema()).normalize({"a": [1]}) == {"a": (1,), "b": 2}
    with pytest.raises(ValueError, match="nothing given"):
        DictParameter(schema=Schema()).normalize({})
    with pytest.raises(ValueError, match="nothing given"):
        ListParameter(schema=Schema()).normalize(())
    assert TupleParameter(schema=Schema()).normalize([1, [2]]) == (1, (2,))


def test_json_schema_without_the_package_warns_and_checks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    words = (
        "The 'jsonschema' package is not installed so the parameter can not be validated even though a schema is given."
    )
    with pytest.warns(UserWarning, match=words):
        parameter: DictParameter[Any] = DictParameter(schema={"type": "object"})
    assert parameter.normalize({"a": 1}) == {"a": 1}


def test_order_of_keys_is_kept_through_text() -> None:
    parameter: DictParameter[Any] = DictParameter()
    assert (
        parameter.serialize(parameter.parse('{"b": 1, "a": {"d": [], "c": null}}'))
        == '{"b": 1, "a": {"d": [], "c": null}}'
    )


def test_tuple_that_is_a_string_is_refused() -> None:
    with pytest.raises(ValueError, match="Parsed result cannot be a string"):
        TupleParameter[Any]().parse("('ab')")
