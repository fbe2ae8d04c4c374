from __future__ import annotations

import os

import pytest

from jubako.kernel.processors import count_processors, parse_quota


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("50000 100000\n", 0.5)]
)
def test_quota_is_read_in_processors(text: str, expected: float | None) -> None:
    assert parse_quota(text) == expected


def test_processors_are_those_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    assert 1 <= count_processors() <= len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert count_processors() == 1
    finally:
        os.sched_setaffinity(0, allowed)
