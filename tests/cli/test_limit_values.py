"""Sizes, times and counts as people write them."""

from __future__ import annotations

import pytest

from jubako.boxes.limits import Limits
from jubako.cli.limit_values import parse_limits, parse_seconds, parse_size
from jubako.errors import InputError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("1.5GiB", 3 << 29),
        ("64 MiB", 64 << 20),
        ("512MB", 512_000_000),
        ("2T", 2 << 40),
        ("1K", 1024),
    ],
)
def test_size_is_read_in_its_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("10", 10), ("10s", 10), ("1.5m", 90), ("2h", 7200), ("250ms", 0.25)])
def test_time_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("name", "option", "text"),
    [
        ("memory_bytes", "--memory", "1X"),
        ("memory_bytes", "--memory", ""),
        ("memory_bytes", "--memory", "M"),
        ("memory_bytes", "--memory", "1MM"),
        ("memory_bytes", "--memory", "-1M"),
        ("memory_bytes", "--memory", "1.2.3M"),
        ("memory_bytes", "--memory", "nan"),
        ("memory_bytes", "--memory", "²M"),
        ("cpus", "--cpus", "two"),
        ("cpus", "--cpus", "1s"),
        ("pids", "--pids", "1.5"),
        ("pids", "--pids", "1k"),
        ("files", "--files", "+3"),
        ("wall_s", "--time", "10 years"),
        ("cpu_s", "--cpu-time", "."),
        ("disk_bytes", "--disk", "lots"),
    ],
)
def test_value_that_means_nothing_is_refused_with_its_option(name: str, option: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_limits({name: text}, measure=False)
    assert f"{option} {text!r}" in caught.value.message


def test_values_that_cannot_be_kept_are_refused_together_by_their_options() -> None:
    with pytest.raises(InputError) as caught:
        parse_limits({"pids": "0", "memory_bytes": "1M", "wall_s": "5s"}, measure=False)
    assert "--pids 0 is not" in caught.value.message
    assert "--memory 1M is not" in caught.value.message
    assert "--time" not in caught.value.message


def test_options_that_were_not_given_are_no_limits() -> None:
    assert parse_limits({"pids": None}, measure=False) is None
    assert parse_limits({"pids": None}, measure=True) == Limits()
    assert parse_limits({"pids": "5", "wall_s": "2m"}, measure=False) == Limits(pids=5, wall_s=120)
