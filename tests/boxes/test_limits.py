"""Limits as values: what is refused, all of it at once, and how sizes and times are written."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.boxes.limits import Limits, format_bytes, format_seconds
from jubako.errors import InputError


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_bytes": (16 << 20) - 1},
        {"memory_bytes": 1e9},
        {"memory_bytes": 1 << 62},
        {"cpus": 0},
        {"cpus": float("nan")},
        {"cpus": float("inf")},
        {"pids": 0},
        {"pids": True},
        {"files": 3},
        {"wall_s": 0},
        {"cpu_s": -1.0},
        {"disk_bytes": "1G"},
        {"grace_s": -0.5},
    ],
    ids=str,
)
def test_limit_that_cannot_be_kept_is_refused_by_name(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=f"{name}="):
        Limits(**wrong)


def test_limits_that_cannot_be_kept_are_refused_together() -> None:
    with pytest.raises(InputError) as caught:
        Limits(pids=0, files=-3)
    assert "pids=0" in caught.value.message
    assert "files=-3" in caught.value.message


@pytest.mark.parametrize(
    ("size", "text"),
    [(100, "100 bytes"), (512 << 20, "512 MiB"), (3 << 29, "1.50 GiB"), (1 << 40, "1 TiB"), (1025, "1.00 KiB")],
)
def test_size_is_written_in_the_unit_it_fits(size: int, text: str) -> None:
    assert format_bytes(size) == text


def test_time_is_written_without_needless_digits() -> None:
    assert [format_seconds(seconds) for seconds in (10, 10.0, 0.25)] == ["10 s", "10 s", "0.25 s"]
