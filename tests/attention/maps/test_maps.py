"""The record of maps: what it takes, what it refuses and in which words, and what is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jubako.attention import Maps
from jubako.errors import InputError

from .conftest import weights_of


def test_maps_of_fewer_axes_are_one_layers() -> None:
    assert Maps(weights_of(4, 5)).weights.shape == (1, 1, 4, 5)
    assert Maps(weights_of(3, 4, 5)).weights.shape == (1, 3, 4, 5)
    assert Maps(weights_of(2, 3, 4, 5)).layers == ("0", "1")
    assert Maps([[0.5, 0.5]]).weights.dtype == np.float64
    assert Maps(weights_of(4, 5).astype(np.float16)).weights.dtype == np.float32


def test_keys_are_the_queries_where_there_are_as_many() -> None:
    assert Maps(weights_of(2, 2), ["a", "b"]).keys == ("a", "b")
    assert Maps(weights_of(2, 3), ["a", "b"]).keys == ()
    assert Maps(weights_of(2, 2), ["a", "b"], ["c", "d"]).keys == ("c", "d")


def test_weights_cannot_be_written_through_the_record() -> None:
    given = weights_of(2, 2)
    maps = Maps(given)
    with pytest.raises(ValueError, match="read-only"):
        maps.weights[0, 0, 0, 0] = 1
    given[0, 0] = 1  # it was not copied


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"weights": 3.0}, "weights have 0 axes (); maps have four: layers, heads, L (queries), S (keys)"),
        (
            {"weights": weights_of(1, 2, 3, 4, 5)},
            "weights have 5 axes (1, 2, 3, 4, 5); maps have four: layers, heads, L (queries), S (keys)",
        ),
        ({"weights": [["a"]]}, "weights are of type <U1, not of float32 or float64"),
        ({"weights": np.ones((2, 2), int)}, "weights are of type int64, not of float32 or float64"),
        ({"weights": [[1.0], [1.0, 2.0]]}, "weights are no array: setting an array element with a sequence."),
        (
            {"weights": np.ones((2, 0, 3, 0))},
            "there is nothing to show: heads and S (keys) of the maps (2, 0, 3, 0) are none",
        ),
        ({"queries": ["a"]}, "there are 1 tokens of queries for 3 rows of the maps"),
        ({"keys": ["a"] * 3}, "there are 3 tokens of keys for 4 columns of the maps"),
        ({"queries": "abc"}, "tokens of queries are not all texts: 'abc'"),
        ({"queries": [1, 2, 3]}, "tokens of queries are not all texts: '[1, 2, 3]'"),
        ({"queries": 7}, "tokens of queries are not all texts: '7'"),
        ({"layers": ["a"] * 3}, "there are 3 names of layers for 2 layers"),
        ({"heads": ["a"]}, "there are 1 names of heads for 2 heads"),
        ({"title": b"x"}, "the title is no text: \"b'x'\""),
        (
            {"masked": np.ones((3, 4), int)},
            "masked is of type int64, not of bool: True where attention is forbidden",
        ),
        (
            {"masked": np.ones((4, 3), bool)},
            "masked has shape (4, 3), which does not fit maps of 2 layers x 2 heads x 3 queries x 4 keys",
        ),
        (
            {"masked": np.ones((3, 2, 3, 4), bool)},
            "masked has shape (3, 2, 3, 4), which does not fit maps of 2 layers x 2 heads x 3 queries x 4 keys",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Maps(**{"weights": weights_of(2, 2, 3, 4), **given})
    assert str(caught.value).startswith(sentence)


def test_mean_of_heads_is_added_in_double_precision() -> None:
    weights = weights_of(1, 7, 3, 3)
    wanted = (sum(weights[0, head].astype(np.float64) for head in range(7)) / 7).astype(np.float32)
    assert np.array_equal(Maps(weights).map_at(0), wanted)


def test_mask_of_a_map_is_that_of_its_layer_and_head_and_of_the_mean_what_all_mask() -> None:
    masked = np.zeros((1, 2, 2, 2), bool)
    masked[0, 0, 0] = True
    masked[0, 1, 0, 0] = True
    maps = Maps(weights_of(3, 2, 2, 2), masked=masked)
    assert maps.masked_at(2, 1).tolist() == [[True, False], [False, False]]
    assert maps.masked_at(0, 0).tolist() == [[True, True], [False, False]]
    assert maps.masked_at(0).tolist() == [[True, False], [False, False]]
    assert Maps(weights_of(2, 2)).masked_at(0) is None
    shared = Maps(weights_of(3, 2, 2, 2), masked=[[False, True], [False, False]])
    assert shared.masked_at(2, 1).tolist() == shared.masked_at(0).tolist() == [[False, True], [False, False]]


def test_chosen_layers_and_heads_keep_their_names(maps: Maps) -> None:
    chosen = maps.select([1], [2, 0])
    assert np.array_equal(chosen.weights, maps.weights[1:, [2, 0]])
    assert (chosen.layers, chosen.heads, chosen.queries) == (("1",), ("2", "0"), maps.queries)
    apart = Maps(maps.weights, masked=np.broadcast_to(maps.masked, maps.weights.shape)).select([1], [2])
    assert apart.masked.shape == apart.weights.shape == (1, 1, 5, 5)
    assert maps.select() == maps
    for places, sentence in (
        ([2], "there is no layer 2: there are 2, from 0 on"),
        ([], "there is nothing to show: layers of the maps"),
    ):
        with pytest.raises(InputError, match=sentence):
            maps.select(places)
    with pytest.raises(InputError, match="there is no head -1: there are 3"):
        maps.select(heads=[-1])


def test_difference_is_the_other_minus_these_rounded_once() -> None:
    one = Maps(weights_of(1, 2, 3, 3), list("abc"), title="before", masked=np.eye(3, dtype=bool))
    other = Maps(weights_of(1, 2, 3, 3, seed=2), list("abd"), title="after", masked=np.ones((3, 3), bool))
    found = one.difference(other)
    assert np.array_equal(
        found.weights, (other.weights.astype(np.float64) - one.weights.astype(np.float64)).astype(np.float32)
    )
    assert (found.queries, found.title, found.is_difference) == (("a", "b", "c→d"), "after minus before", True)
    assert np.array_equal(found.masked[0, 0], np.eye(3, dtype=bool))
    assert one.difference(Maps(other.weights)).masked is None
    assert one.difference(Maps(other.weights.astype(np.float64))).weights.dtype == np.float64


def test_difference_of_maps_of_other_shapes_is_refused_with_both() -> None:
    with pytest.raises(InputError) as caught:
        Maps(weights_of(1, 2, 3, 3)).difference(Maps(weights_of(1, 1, 3, 4)))
    assert str(caught.value) == (
        "maps of 1 layer x 1 head x 3 queries x 4 keys have no difference to maps of "
        "1 layer x 2 heads x 3 queries x 3 keys"
    )


def test_maps_are_the_same_if_all_of_them_is(maps: Maps) -> None:
    same = Maps(maps.weights.copy(), maps.queries, title=maps.title, masked=maps.masked.copy())
    assert maps == same
    weights = maps.weights.copy()
    weights[1, 2, 4, 0] = np.nextafter(weights[1, 2, 4, 0], np.float32(1))
    others: list[object] = [
        Maps(weights, maps.queries, title=maps.title, masked=maps.masked),
        Maps(maps.weights, maps.queries, title="a dog", masked=maps.masked),
        Maps(maps.weights, maps.queries, title=maps.title),
        Maps(maps.weights.astype(np.float64), maps.queries, title=maps.title, masked=maps.masked),
        maps.weights[0, 0, 0, 0],
    ]
    for other in others:
        assert maps != other


def test_layers_and_heads_are_told_by_place_or_name() -> None:
    weights = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
    maps = Maps(weights, layers=["a.self", "b.self"], heads=["0", "1", "2"], masked=weights > 0.9)
    assert np.array_equal(maps.map_at("b.self", "2"), weights[1, 2])
    assert np.array_equal(maps.masked_at("b.self", 2), maps.masked_at(np.int64(1), 2))
    assert maps.png("b.self", 1) == maps.png(1, 1)
    assert maps.svg("b.self") == maps.svg(1)
    assert maps.text("a.self", "0") == maps.text(0, 0)
    assert maps.select(["b.self"], ["1"]) == maps.select([1], [1])


@pytest.mark.parametrize("draw", ["map_at", "masked_at", "png", "svg", "text"])
@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (("c", 0), "there is no layer 'c'; there is a, b"),
        ((2, 0), "there is no layer 2: there are 2, from 0 on"),
        ((0, -1), "there is no head -1: there are 3, from 0 on"),
        ((0, "3"), "there is no head '3'; there is 0, 1, 2"),
        ((0.0, 0), "a layer is told by its number or its name, not by float"),
    ],
)
def test_layer_or_head_that_there_is_not_is_refused_in_a_sentence(
    draw: str, place: tuple[object, object], sentence: str
) -> None:
    maps = Maps(np.full((2, 3, 4, 4), 0.25, np.float32), layers=["a", "b"])
    with pytest.raises(InputError, match=sentence):
        getattr(maps, draw)(*place)
    with pytest.raises(InputError, match="which layers is told by a list of them"):
        maps.select("a")  # type: ignore[arg-type]
