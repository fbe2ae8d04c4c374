"""Extras from the same pass: what they are, their shapes, and that asking for them changes nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jubako.attention.layer.inputs import AttentionInputError
from jubako.attention.layer.module import MultiheadAttention
from jubako.attention.layer.wanted import Want

from .by_hand import assert_near, attend_by_hand

pytestmark = pytest.mark.usefixtures("kernel")

ALL = Want(averaged=True, per_head=True, column_sums=True, row_entropy=True, top_keys=3)


def make_layer(**options: bool) -> MultiheadAttention:
    torch.manual_seed(0)
    return MultiheadAttention(8, 2, **options)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_extras_are_those_of_the_weights(batch_first: bool, is_causal: bool) -> None:
    layer = make_layer(batch_first=batch_first)
    x = torch.randn(4, 4, 8)
    bias = torch.randn(4, 4)
    output, maps, _ = attend_by_hand(layer, (x, x, x), attn_mask=bias, is_causal=is_causal)
    found = layer.attend(x, x, x, ALL, attn_mask=bias, is_causal=is_causal)
    assert_near(found.output, output)
    expected: dict[str, Tensor] = {
        "averaged": maps.mean(1),
        "per_head": maps,
        "column_sums": maps.sum(2),
        "row_entropy": -(maps * maps.clamp(min=1e-300).log()).sum(-1),
        "top_weights": maps.topk(3, -1).values,
    }
    for name, value in expected.items():
        assert_near(getattr(found, name), value)
    assert found.top_keys.dtype == torch.int64
    assert_near(maps.gather(-1, found.top_keys).float(), expected["top_weights"])


@pytest.mark.parametrize("name", ["averaged", "per_head", "column_sums", "row_entropy", "top_keys"])
def test_only_what_is_wanted_comes_back(name: str) -> None:
    layer = make_layer(batch_first=True)
    x = torch.randn(2, 5, 8)
    found = layer.attend(x, x, x, Want(**{name: 2 if name == "top_keys" else True}))._asdict()
    there = {key for key, value in found.items() if value is not None}
    assert there == {"output", name} | ({"top_weights"} if name == "top_keys" else set())
    assert_near(found["output"], layer(x, x, x)[0])


def test_nothing_wanted_is_the_output_alone() -> None:
    layer = make_layer(batch_first=True)
    x = torch.randn(2, 5, 8)
    assert torch.equal(layer.attend(x, x, x, Want()).output, layer(x, x, x, need_weights=False)[0])


def test_unbatched_inputs_have_no_batch_axis_anywhere() -> None:
    layer = make_layer()
    query, key = torch.randn(3, 8), torch.randn(2, 8)
    found = layer.attend(query, key, key, ALL, key_padding_mask=torch.tensor([False, True]))._asdict()
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    assert shapes == {
        "output": (3, 8),
        "averaged": (3, 2),
        "per_head": (2, 3, 2),
        "column_sums": (2, 2),
        "row_entropy": (2, 3),
        "top_keys": (2, 3, 2),
        "top_weights": (2, 3, 2),
    }
    assert (found["column_sums"][:, 1] == 0).all()
    assert (found["row_entropy"] == 0).all()


def test_sums_and_entropies_of_a_lower_precision_are_float32() -> None:
    layer = MultiheadAttention(8, 2, batch_first=True, dtype=torch.bfloat16)
    x = torch.randn(1, 600, 8, dtype=torch.bfloat16)
    found = layer.attend(x, x, x, ALL)
    assert found.column_sums.dtype == found.row_entropy.dtype == torch.float32
    assert found.averaged.dtype == found.per_head.dtype == found.top_weights.dtype == torch.bfloat16
    torch.testing.assert_close(found.column_sums.sum(-1), torch.full((1, 2), 600.0), rtol=3e-3, atol=0.0)


def test_strict_layer_has_no_extras() -> None:
    layer = MultiheadAttention(8, 2, strict_torch=True)
    x = torch.randn(3, 8)
    with pytest.raises(AttentionInputError, match="strict_torch=True"):
        layer.attend(x, x, x, ALL)
