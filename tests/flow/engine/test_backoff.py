from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.flow.engine.backoff import Backoff


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff(), [0, 0, 0]),
        (Backoff(5), [5, 5, 5]),
        (Backoff(1, 2), [1, 2, 4, 8]),
        (Backoff(10, 3, 60), [10, 30, 60, 60]),
        (Backoff(100, 1, 60), [60, 60]),
        (Backoff(1, 2, 0), [0, 0]),
    ],
)
def test_waits_grow_by_the_factor_up_to_the_longest(backoff: Backoff, waits: list[float]) -> None:
    assert [backoff.wait_s(failures) for failures in range(1, len(waits) + 1)] == waits


@given(st.floats(0, 1e300), st.floats(1, 1e300), st.floats(0, 1e300), st.integers(1, 10**9))
def test_no_number_of_failures_makes_a_wait_too_long(
    delay_s: float, factor: float, most_s: float, failures: int
) -> None:
    assert 0 <= Backoff(delay_s, factor, most_s).wait_s(failures) <= most_s


@pytest.mark.parametrize(
    ("backoff", "fault"),
    [
        (Backoff(1, 1, 0), ""),
        (Backoff(-1), "a delay of -1 s is negative"),
        (Backoff(1, 0.5), "a back-off factor of 0.5 is less than 1"),
        (Backoff(1, 2, -3), "a longest delay of -3 s is negative"),
    ],
)
def test_wrong_numbers_are_named(backoff: Backoff, fault: str) -> None:
    assert backoff.find_fault() == fault
