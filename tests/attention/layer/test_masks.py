"""What masks mean: rows that see nothing, is_causal in any company, appended keys, and masks that can be left out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from jubako.attention.layer.masks import Masks, find_lengths, is_implied_by_causal
from jubako.attention.layer.module import MultiheadAttention

from .by_hand import assert_near, attend_by_hand

pytestmark = pytest.mark.usefixtures("kernel")


def make_layer(**options: object) -> MultiheadAttention:
    torch.manual_seed(0)
    return MultiheadAttention(8, 2, batch_first=True, **options)  # type: ignore[arg-type]


def causal_mask(length: int, keys: int) -> Tensor:
    return torch.ones(length, keys, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("kind", ["padding", "float padding", "row of attn_mask", "one head of attn_mask", "causal"])
def test_query_that_sees_nothing_gives_zeros_and_finite_gradients(
    kind: str, need_weights: bool, is_training: bool
) -> None:
    layer = make_layer().train(is_training)
    x = torch.randn(2, 5, 8, requires_grad=True)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1] = True
    row = torch.zeros(5, 5, dtype=torch.bool)
    row[2] = True
    one_head = torch.zeros(4, 5, 5, dtype=torch.bool)
    one_head[3, 1] = True
    left = torch.zeros(2, 5, dtype=torch.bool)
    left[0, :2] = True
    masks = {
        "padding": {"key_padding_mask": padding},
        "float padding": {"key_padding_mask": torch.zeros(2, 5).masked_fill(padding, -math.inf)},
        "row of attn_mask": {"attn_mask": row},
        "one head of attn_mask": {"attn_mask": one_head},
        "causal": {"key_padding_mask": left, "is_causal": True},
    }[kind]
    output, weights = layer(x, x, x, need_weights=need_weights, average_attn_weights=False, **masks)
    by_hand = {"padding": masks.get("key_padding_mask"), "attn_mask": masks.get("attn_mask")}
    expected, maps, _ = attend_by_hand(layer, (x, x, x), **by_hand, is_causal=kind == "causal")
    assert (maps.sum(-1) == 0).any()
    assert_near(output, expected)
    if need_weights:
        assert_near(weights, maps)
        assert (weights.sum(-1) == 0).any()
    output.sum().backward()
    for gradient in (x.grad, *(parameter.grad for parameter in layer.parameters())):
        assert gradient is not None
        assert gradient.isfinite().all()


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(("length", "keys"), [(6, 6), (4, 7), (7, 4), (1, 5)])
@pytest.mark.parametrize("company", ["alone", "with a mask", "with padding", "with both", "with the same mask"])
def test_is_causal_holds_in_any_company(company: str, length: int, keys: int, need_weights: bool) -> None:
    layer = make_layer()
    torch.manual_seed(1)
    query, key = torch.randn(3, length, 8), torch.randn(3, keys, 8)
    attn = padding = None
    if company in ("with a mask", "with both"):
        attn = torch.randn(length, keys)
    if company in ("with padding", "with both"):
        padding = torch.zeros(3, keys)
        padding[1, 1] = -math.inf
    if company == "with the same mask":
        attn = causal_mask(length, keys)
    output, weights = layer(query, key, key, padding, need_weights, attn, is_causal=True)
    expected, maps, _ = attend_by_hand(layer, (query, key, key), padding, attn, is_causal=True)
    assert_near(output, expected)
    if need_weights:
        assert_near(weights, maps.mean(1))


def test_causal_layer_does_not_see_the_future_where_torchs_does() -> None:
    """The fast path of torch drops the hint; the first query's output then depends on the last key."""
    layer, torchs = make_layer().eval(), nn.MultiheadAttention(8, 2, batch_first=True).eval()
    torchs.load_state_dict(layer.state_dict())
    x = torch.randn(1, 5, 8)
    other = x.clone()
    other[0, 4] += 1.0
    with torch.no_grad():
        for module, is_blind_to_it in ((layer, True), (torchs, False)):
            one, two = (module(y, y, y, is_causal=True)[0][0, 0] for y in (x, other))
            assert torch.equal(one, two) == is_blind_to_it


@pytest.mark.parametrize("need_weights", [True, False])
def test_appended_keys_are_seen_whatever_is_masked(need_weights: bool) -> None:
    layer = make_layer(add_bias_kv=True, add_zero_attn=True)
    x = torch.randn(2, 4, 8)
    padding = torch.ones(2, 4, dtype=torch.bool)
    output, weights = layer(x, x, x, padding, need_weights, causal_mask(4, 4), is_causal=True)
    expected, maps, _ = attend_by_hand(layer, (x, x, x), padding, causal_mask(4, 4), is_causal=True)
    assert_near(output, expected)
    if need_weights:
        assert weights.shape == (2, 4, 6)
        assert_near(weights, maps.mean(1))
        assert_near(weights[..., 4:].sum(-1), torch.ones(2, 4))


@pytest.mark.parametrize(
    ("attn_mask", "expected"),
    [
        (causal_mask(4, 4), True),
        (torch.zeros(4, 4).masked_fill(causal_mask(4, 4), -math.inf), True),
        (torch.zeros(4, 6), True),
        (causal_mask(4, 4).T, False),
        (torch.ones(4, 4), False),
        (causal_mask(4, 4).expand(2, 4, 4), False),
        (torch.zeros(4, 4, requires_grad=True), False),
    ],
)
def test_mask_is_left_out_only_if_a_causal_layer_needs_it_not(attn_mask: Tensor, expected: bool) -> None:
    assert is_implied_by_causal(attn_mask) == expected


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_lengths_are_up_to_the_last_key_that_is_seen(dtype: torch.dtype) -> None:
    forbidden = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1], [1, 1, 1, 0]], dtype=torch.bool)
    padding = forbidden if dtype == torch.bool else torch.zeros(4, 4).masked_fill(forbidden, -math.inf)
    assert find_lengths(Masks(None, padding, is_causal=False)) == [2, 3, 0, 4]
    assert find_lengths(Masks(forbidden[None, None], None, is_causal=True)) is None


def test_masks_of_different_kinds_go_together() -> None:
    layer = make_layer()
    x = torch.randn(2, 4, 8)
    padding = torch.tensor([[False, False, True, True], [False] * 4])
    bias = torch.randn(4, 4, dtype=torch.float64)
    expected, maps, _ = attend_by_hand(layer, (x, x, x), padding, bias)
    output, weights = layer(x, x, x, padding, attn_mask=bias)
    assert_near(output, expected)
    assert_near(weights, maps.mean(1))


def test_training_and_evaluation_give_the_same_bits_without_dropout() -> None:
    layer = make_layer()
    x = torch.randn(2, 4, 8)
    for need_weights in (True, False):
        trained = layer.train()(x, x, x, need_weights=need_weights)
        with torch.no_grad():
            evaluated = layer.eval()(x, x, x, need_weights=need_weights)
        assert torch.equal(trained[0], evaluated[0])
        assert not need_weights or torch.equal(trained[1], evaluated[1])
