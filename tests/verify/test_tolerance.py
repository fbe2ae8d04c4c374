"""When two numbers agree: against a slow reference in fractions, and at the places where numbers are treacherous."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import InputError
from jubako.verify.tolerance import EXACT, Number, Tolerance, agree, distance

BIG = 2**53
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False, width=64),
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9),
)


@pytest.mark.parametrize(
    ("published", "recomputed", "tolerance", "expected"),
    [
        (1, 1, EXACT, "same"),
        (1, 1.0, EXACT, "different"),
        (1, 1.0, Tolerance(absolute=1e-300), "within"),
        (0.0, -0.0, EXACT, "different"),
        (0.0, -0.0, Tolerance(relative=1e-9), "within"),
        (math.nan, math.nan, EXACT, "same"),
        (math.nan, Decimal("nan"), EXACT, "same"),
        (math.nan, 1.0, Tolerance(absolute=1e300), "different"),
        (math.inf, math.inf, EXACT, "same"),
        (math.inf, -math.inf, Tolerance(absolute=1e300), "different"),
        (math.inf, 1.7e308, Tolerance(relative=1e300), "different"),
        (1.7e308, math.inf, Tolerance(relative=1e300), "different"),
        (BIG + 1, BIG, EXACT, "different"),
        (BIG + 1, BIG, Tolerance(absolute=0.5), "different"),
        (BIG + 1, BIG, Tolerance(absolute=1), "within"),
        (10**400, 10**400 + 1, Tolerance(absolute=1), "within"),
        (Decimal("0.1"), 0.1, Tolerance(absolute=Decimal("1e-30")), "different"),
        (Decimal("1.0"), Decimal("1.1"), Tolerance(absolute=0.1), "within"),  # a tenth, as it is written
        (Decimal("1e999999999"), Decimal("1e-999999999"), Tolerance(relative=0.5), "different"),
        (0, 1e-12, Tolerance(relative=1), "different"),  # nothing is near to 0 in relation to it
    ],
)
def test_agree_of_two_numbers(published: Number, recomputed: Number, tolerance: Tolerance, expected: str) -> None:
    assert agree(published, recomputed, tolerance) == expected


@given(NUMBERS, NUMBERS, st.decimals(0, 10, places=3), st.decimals(0, 1, places=9))
def test_agree_is_what_fractions_say(one: Any, other: Any, absolute: Decimal, relative: Decimal) -> None:
    tolerance = Tolerance(absolute, relative)
    exact = Fraction(one), Fraction(other)
    off = abs(exact[0] - exact[1])
    if off == 0 and one == other:
        assert agree(one, other, tolerance) in ("same", "different" if tolerance.is_exact else "within")
    elif abs(off - Fraction(absolute) - Fraction(relative) * abs(exact[0])) > Fraction(1, 10**12):
        fits = not tolerance.is_exact and off <= Fraction(absolute) + Fraction(relative) * abs(exact[0])
        assert agree(one, other, tolerance) == ("within" if fits else "different")


def test_distance_is_absolute_and_in_relation_to_the_published() -> None:
    assert distance(4, 5) == (1.0, 0.25)
    assert distance(BIG + 1, BIG)[0] == 1.0
    assert distance(0, 2) == (2.0, math.inf)
    assert distance(0.0, -0.0) == (0.0, 0.0)
    assert all(math.isnan(value) for value in distance(math.nan, 1))


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", True])
def test_tolerance_refuses_what_is_none(value: Any) -> None:
    with pytest.raises(InputError, match="the absolute tolerance"):
        Tolerance(absolute=value)


def test_tolerance_says_what_it_is_and_why() -> None:
    assert EXACT.describe() == "exact"
    assert Tolerance(0.05, 1e-9, "rounded", "°C").describe() == "relative 1e-09, absolute 0.05 °C (rounded)"
