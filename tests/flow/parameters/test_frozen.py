"""Structures that can't change: equal to what they are made of, hashable, the same after pickling."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.flow.parameters.frozen import FrozenJSONEncoder, FrozenOrderedDict, freeze, unfreeze

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_freeze_and_unfreeze_are_inverse_and_frozen_is_hashable(value: Any) -> None:
    frozen = freeze(value)
    hash(frozen)
    assert unfreeze(frozen) == value
    assert freeze(frozen) == frozen
    assert json.loads(json.dumps(frozen, cls=FrozenJSONEncoder)) == value
    assert pickle.loads(pickle.dumps(frozen)) == frozen


def test_frozen_dict_equals_a_dict_whatever_the_order_and_hashes_alike() -> None:
    one, other = FrozenOrderedDict([("a", 1), ("b", 2)]), FrozenOrderedDict(b=2, a=1)
    assert one == other == {"a": 1, "b": 2}
    assert hash(one) == hash(other)
    assert (list(one), list(other), len(one), repr(one)) == (["a", "b"], ["b", "a"], 2, "{'a': 1, 'b': 2}")


def test_frozen_dict_can_not_be_changed() -> None:
    with pytest.raises(TypeError):
        FrozenOrderedDict(a=1)["a"] = 2  # type: ignore[index]
    with pytest.raises(KeyError):
        FrozenOrderedDict(a=1)["b"]


def test_encoder_refuses_what_is_no_json() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps({"a": {1, 2}}, cls=FrozenJSONEncoder)
