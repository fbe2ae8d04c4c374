"""What a check may be told: what cannot be meant is refused in a sentence that names it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from jubako.attention import (
    CheckOptions,
    Tolerance,
    assert_attention_matches,
    capture,
    check,
    check_steps,
    check_weights_file,
)
from jubako.errors import HostError, InputError


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"seed": -1}, r"seed is -1, and must be 0 or more, and less than 2\*\*63"),
        ({"seed": 1 << 63}, r"seed is 9223372036854775808, and must be 0 or more"),
        ({"seed": 1.0}, "seed is 1.0, and must be a whole number"),
        ({"seed": None}, "seed is None, and must be a whole number"),
        ({"seed": True}, "seed is True, and must be a whole number"),
        ({"batch": 0}, "batch is 0, and must be 1 or more"),
        ({"batch": -3}, "batch is -3, and must be 1 or more"),
        ({"length": 0}, "length is 0, and must be 1 or more"),
        ({"length": "16"}, "length is '16', and must be a whole number"),
        ({"length": math.nan}, "length is nan, and must be a whole number"),
        ({"memory_bytes": -1}, "memory_bytes is -1, and must be 0 or more"),
        ({"memory_bytes": 1e9}, "memory_bytes is 1000000000.0, and must be a whole number"),
        ({"layer": 3}, "layer is 3, and must be text"),
        ({"layer": None}, "layer is None, and must be text"),
        ({"tolerance": 1e-3}, "tolerance is 0.001, and must be a jubako.verify.Tolerance"),
    ],
)
def test_option_that_cannot_be_meant_is_refused_by_its_name(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        CheckOptions(**given)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "0.1", True])
def test_tolerance_that_cannot_be_meant_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(InputError, match=r"the relative tolerance .* (is no number|is not a number of 0 or more)"):
        Tolerance(relative=value)


def test_whole_numbers_of_numpy_and_no_memory_limit_may_be_given() -> None:
    options = CheckOptions(seed=np.int64(3), batch=np.int32(1), length=np.uint8(4), memory_bytes=None)
    assert check(torch.nn.MultiheadAttention(8, 2, batch_first=True), options=options)


def test_options_of_another_kind_are_refused_wherever_they_are_given() -> None:
    layer, wrong = torch.nn.MultiheadAttention(8, 2), {"seed": 1}
    calls = (
        lambda: check(layer, options=wrong),  # type: ignore[arg-type]
        lambda: assert_attention_matches(layer, options=wrong),  # type: ignore[arg-type]
        lambda: capture(layer, wrong),  # type: ignore[arg-type]
        lambda: check_weights_file("model.safetensors", options=wrong),  # type: ignore[arg-type]
        lambda: check_steps({}, None, options=wrong),  # type: ignore[arg-type]
    )
    for call in calls:
        with pytest.raises(InputError, match="options is a dict, and must be CheckOptions"):
            call()


ABSURD = CheckOptions(batch=10**9, length=10**9)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.MultiheadAttention(8, 2),
        torch.nn.MultiheadAttention(8, 2, kdim=5, batch_first=True),
        torch.nn.TransformerEncoderLayer(8, 2, 16),
        torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(8, 2, 16), 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_random_inputs_that_would_not_fit_memory_are_refused_before_they_are_drawn(layer: torch.nn.Module) -> None:
    with pytest.raises(HostError, match=r"re-deriving B=1000000000, H=2, L=1000000000, S=1000000000 takes .* GiB, and"):
        check(layer, options=ABSURD)


def test_inputs_that_would_not_fit_memory_are_refused_before_any_of_them_is_copied() -> None:
    """A view of one row has nearly no memory of its own; its copies in double precision would take 300 GiB."""
    x = torch.zeros(1, 1, 8).expand(1, 1 << 32, 8)
    with pytest.raises(HostError, match=r"L=4294967296, S=4294967296 takes .* GiB"):
        check(torch.nn.MultiheadAttention(8, 2, batch_first=True), x)


def test_tolerance_is_to_be_had_where_the_options_are() -> None:
    options = CheckOptions(tolerance=Tolerance(absolute=1, reason="rough"))
    report = check(torch.nn.MultiheadAttention(8, 2), options=options)
    assert report
    assert report.tolerance
