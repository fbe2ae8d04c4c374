"""JSON and JSON lines: values are compared, not how they are written."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jubako.verify import Tolerance

from .conftest import Compare

NEAR = Tolerance(relative=1e-9)


@pytest.mark.parametrize(
    ("published", "recomputed"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b":[1,2],"a":1}'),
        ('["\\u00e4"]', '["ä"]'),
        ('{"a": 1.0}', '{"a": 1.00}'),
        ("[NaN, Infinity, -Infinity]", "[NaN,Infinity,-Infinity]"),
        ('{"a": 1, "a": 2}', '{"a":1,"a":2}'),
    ],
)
def test_how_it_is_written_does_not_count(compared: Compare, published: str, recomputed: str) -> None:
    found = compared("x.json", published, recomputed)
    assert (found.verdict, found.how, found.describe()) == ("same", "json", "the same contents in other bytes")


@pytest.mark.parametrize(
    ("published", "recomputed", "sentence"),
    [
        ('{"a": [{"b c": 1}]}', '{"a": [{"b c": 2}]}', '$.a[0]["b c"]: published 1, recomputed 2'),
        ('{"a": 1}', '{"a": 1.0}', "$.a: published 1, recomputed 1.0"),
        ('{"a": 1}', '{"a": "1"}', '$.a: published 1, recomputed "1"'),
        ('{"a": 1}', '{"a": true}', "$.a: published 1, recomputed true"),
        ('{"a": null}', "{}", "$.a: published null, recomputed nothing"),
        ("[1, 2]", "[2, 1]", "$[0]: published 1, recomputed 2 (the first of 2)"),
        ("[1, 2, 3]", "[1, 2]", "$[2]: published 3, recomputed nothing"),
        ("[-0.0]", "[0.0]", "$[0]: published -0.0, recomputed 0.0"),
        ("[9007199254740993]", "[9007199254740992]", "$[0]: published 9007199254740993, recomputed 9007199254740992"),
        ("0.1", "0.10000000000000000001", "$: published 0.1, recomputed 0.10000000000000000001"),
        ('{"a": 1, "a": 2}', '{"a": 2}', "$.a: published a member that is there 2 times, recomputed 2"),
        ('{"a": 1, "a": 2}', '{"a": 2, "a": 1}', "$.a[0]: published 1, recomputed 2 (the first of 2)"),
        ('{"a": [1]}', '{"a": {"0": 1}}', "$.a: published a list of 1, recomputed an object of 1"),
    ],
)
def test_first_difference_is_named(compared: Compare, published: str, recomputed: str, sentence: str) -> None:
    found = compared("x.json", published, recomputed)
    assert (found.verdict, found.describe()) == ("different", sentence)


def test_tolerance_is_for_numbers(compared: Compare) -> None:
    found = compared("x.json", '{"a": 1, "b": 2.0}', '{"a": 1.0, "b": 2.000000001}', tolerance=NEAR)
    assert (found.verdict, found.within) == ("within", 2)
    assert found.describe() == "2 numbers off by 1e-09 (5e-10 of it) at most, at $.b"
    assert compared("x.json", "[1]", "[true]", tolerance=NEAR).verdict == "different"
    assert compared("x.json", "1e999999999", "1e999999998", tolerance=NEAR).verdict == "different"


def test_ignored_members_are_left_out_by_name_and_by_path(compared: Compare) -> None:
    pair = '{"t": 1, "v": [{"t": 1, "x": 1}]}', '{"t": 2, "v": [{"t": 2, "x": 1}]}'
    assert compared("x.json", *pair, ignore=["t"]).verdict == "same"
    assert compared("x.json", *pair, ignore=["$.t"]).describe() == (
        "$.v[0].t: published 1, recomputed 2; $.t is not compared"
    )
    found = compared("x.json", *pair, ignore=["$.t", "$.v[*].t"])
    assert (found.verdict, found.describe()) == ("same", "$.t is not compared; $.v[*].t is not compared")


@pytest.mark.parametrize(
    ("published", "recomputed", "why"),
    [
        ("[" * 200_000, "[" * 200_001, "it is too deep"),
        ("1" * 5000, "1" * 5001, "it is no JSON"),
        ("{", "{}", "it is no JSON"),
        ("", "{}", "it is no JSON"),
        ("1e99999999999999999999999", "1e9999999999999999999999999", "it is no JSON"),
    ],
)
def test_what_is_no_json_is_compared_as_text(compared: Compare, published: str, recomputed: str, why: str) -> None:
    found = compared("x.json", published, recomputed)
    assert (found.verdict, found.how) == ("different", "text")
    assert f"compared as text: {why}" in found.describe()
    assert compared("x.json", published, published).verdict == "same"


def test_lines_are_compared_one_by_one(compared: Compare) -> None:
    assert compared("x.jsonl", '{"a":1}\n{"b":2}\n', '{"a": 1}\n{"b": 2}').verdict == "same"
    found = compared("x.ndjson", '{"a":1}\n{"b":2}\n', '{"a":1}\n{"b":3}\n')
    assert found.describe() == "line 2: $.b: published 2, recomputed 3"
    assert compared("x.jsonl", "1\n", "1\n2\n").describe() == 'line 2: published nothing, recomputed "2\\n"'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(item)) for key, item in value.items()]
        random.Random(len(items)).shuffle(items)
        return dict(items)
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON, JSON)
def test_values_are_the_same_exactly_if_they_are_written_the_same_in_one_order(
    compared: Compare, one: Any, other: Any
) -> None:
    assert compared("x.json", json.dumps(one), json.dumps(shuffled(one), indent=1)).verdict == "same"
    is_same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (compared("x.json", json.dumps(one), json.dumps(other)).verdict == "same") == is_same
