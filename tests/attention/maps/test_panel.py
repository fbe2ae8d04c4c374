"""Codes of cells, blocks of cells, and what is said of rows: against slow, obvious recomputations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jubako.attention.maps.panel import (
    MASKED,
    NOT_FINITE,
    bits_per_cell,
    count_codes,
    encode,
    read_rows,
    reduce,
)

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)
ANY = arrays.arrays(np.float32, SHAPES, elements=st.floats(width=32))


def test_code_is_the_root_of_a_cells_share_of_the_largest() -> None:
    coded = encode(np.array([[0, 0.01, 0.25, 1.0], [0.04, 0.5, 0, 0]]), None, 100)
    assert coded.codes.tolist() == [[0, 10, 50, 100], [20, 71, 0, 0]]
    assert (coded.largest, coded.is_signed) == (1.0, False)


def test_map_with_cells_below_zero_has_its_zero_in_the_middle() -> None:
    coded = encode(np.array([[-1, -0.25, 0, 0.25, 1.0]]), None, 100)
    assert coded.codes.tolist() == [[0, 25, 50, 75, 100]]
    assert coded.is_signed


def test_masked_cells_and_no_numbers_count_for_nothing_and_have_their_own_codes() -> None:
    weights = np.array([[0.5, 9.0, np.nan], [np.inf, -np.inf, 0.125]])
    masked = np.array([[False, True, True], [False, True, False]])
    coded = encode(weights, masked, 100)
    assert coded.codes.tolist() == [[100, MASKED, NOT_FINITE], [NOT_FINITE, MASKED, 50]]
    assert coded.largest == 0.5


@given(ANY)
def test_code_tells_a_cell_to_half_a_level(weights: Any) -> None:
    coded = encode(weights, None, 252)
    steps = 126 if coded.is_signed else 252
    for cell, code in zip(weights.reshape(-1).tolist(), coded.codes.reshape(-1).tolist(), strict=True):
        if not math.isfinite(cell):
            assert code == NOT_FINITE
            continue
        root = (code - coded.zero) / steps
        wanted = math.copysign(math.sqrt(abs(cell) / (coded.largest or 1)), cell)
        assert abs(root - wanted) <= 0.501 / steps


@given(ANY, st.integers(1, 6), st.integers(1, 6))
def test_block_is_its_cell_furthest_from_zero(weights: Any, rows: int, columns: int) -> None:
    coded = encode(weights, np.abs(weights) < 1, 252)
    found = reduce(coded, rows, columns)
    height, width = (min(each) for each in zip(weights.shape, (rows, columns), strict=True))
    assert found.shape == (height, width)
    for i in range(height):
        for j in range(width):
            lines = slice(i * weights.shape[0] // height, (i + 1) * weights.shape[0] // height)
            places = slice(j * weights.shape[1] // width, (j + 1) * weights.shape[1] // width)
            block = coded.codes[lines, places].reshape(-1).tolist()
            numbers = [code for code in block if code not in (MASKED, NOT_FINITE)]
            if NOT_FINITE in block:
                assert found[i, j] == NOT_FINITE
            elif not numbers:
                assert found[i, j] == MASKED
            else:
                assert abs(int(found[i, j]) - coded.zero) == max(abs(code - coded.zero) for code in numbers)
                assert found[i, j] in numbers


def test_block_of_a_diagonal_does_not_fade() -> None:
    coded = encode(np.eye(512), None, 252)
    assert (np.diag(reduce(coded, 16, 16)) == 252).all()


@given(ANY, st.integers(1, 7))
def test_top_keys_are_the_largest_in_order_and_exact(weights: Any, most: int) -> None:
    masked = weights == 3
    rows = read_rows(weights, masked, most)
    for i, row in enumerate(weights):
        usable = [j for j in range(len(row)) if math.isfinite(row[j]) and not masked[i, j]]
        wanted = sorted(usable, key=lambda j: (-abs(row[j]), j))[:most]
        count = min(most, len(row))
        assert rows.keys[i].tolist() == [*wanted, *[-1] * (count - len(wanted))]
        assert rows.values[i, : len(wanted)].tolist() == [row[j] for j in wanted]
    assert rows.values.dtype == weights.dtype


def test_entropy_is_in_bits_and_none_where_a_cell_is_no_number() -> None:
    weights = np.array([[0.25, 0.25, 0.25, 0.25], [1, 0, 0, 0], [0.5, np.nan, 0.5, 0], [0.5, 0.5, 0, np.nan]])
    masked = np.array([[False] * 4] * 2 + [[False] * 4, [False] * 4])
    assert read_rows(weights, masked, 2).entropy.tolist()[:2] == [2.0, 0.0]
    assert np.isnan(read_rows(weights, masked, 2).entropy[2:]).all()


def test_of_a_difference_it_is_the_weight_that_has_moved() -> None:
    assert read_rows(np.array([[0.25, -0.25, 0.0], [0, 0, 0]]), None, 1).entropy.tolist() == [0.25, 0.0]


def test_weight_on_masked_keys_is_told() -> None:
    weights = np.array([[0.5, 0.25, 0.25], [0.5, -np.inf, np.nan]])
    masked = np.array([[False, True, True], [False, True, True]])
    assert read_rows(weights, masked, 1).masked.tolist() == [0.5, 0.0]


def test_bits_are_those_of_the_maps_apart() -> None:
    one, other = np.zeros((4, 4)), np.arange(16.0).reshape(4, 4) ** 2
    counts = np.array([count_codes(encode(weights, None, 252)) for weights in (one, other)])
    assert bits_per_cell(counts) == pytest.approx(2.0)
    assert bits_per_cell(counts[:1]) == 0
