"""Inputs that do not fit, or would not fit into memory, and those at the edge of what fits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from jubako.attention.free_memory import SizeError
from jubako.attention.layer.blocks import Pass
from jubako.attention.layer.inputs import AttentionInputError
from jubako.attention.layer.masks import Masks, count_merged, gather_masks, merge
from jubako.attention.layer.memory import estimate_bytes, find_available_bytes, require_memory
from jubako.attention.layer.module import MultiheadAttention
from jubako.attention.layer.steps import Sizes
from jubako.attention.layer.wanted import Want
from jubako.attention.layer.ways import is_fused
from jubako.errors import HostError, InputError

pytestmark = pytest.mark.usefixtures("kernel")


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(*shape, dtype=dtype)


CASES: list[tuple[dict[str, Any], tuple[Tensor, Tensor, Tensor], dict[str, Any], str]] = [
    (
        {},
        (ones(4), ones(3, 4), ones(3, 4)),
        {},
        "query has 1 axes, of shape (4), where 3 or, unbatched, 2 were expected",
    ),
    (
        {},
        (ones(2, 3, 4), ones(3, 4), ones(2, 3, 4)),
        {},
        "key has 2 axes, (3, 4), and query 3, (2, 3, 4)",
    ),
    (
        {},
        (ones(2, 3, 5), ones(2, 6, 4), ones(2, 6, 4)),
        {},
        "query (B=2, L=3, E=5) has 5 features, and the layer was made for E=4",
    ),
    (
        {"batch_first": False, "kdim": 7},
        (ones(3, 2, 4), ones(6, 2, 4), ones(6, 2, 4)),
        {},
        "key (S=6, B=2, kdim=4) has 4 features, and the layer was made for kdim=7",
    ),
    (
        {},
        (ones(2, 3, 4), ones(1, 6, 4), ones(2, 5, 4)),
        {},
        "key (B=1, S=6, kdim=4) and query (B=2, L=3, E=4) differ in B; "
        "key (B=1, S=6, kdim=4) and value (B=2, S=5, vdim=4) differ in S",
    ),
    (
        {},
        (ones(3, 4), ones(6, 4), ones(5, 4)),
        {},
        "key (S=6, kdim=4) and value (S=5, vdim=4) differ in S",
    ),
    (
        {},
        (ones(2, 3, 4), ones(2, 6, 4), ones(2, 6, 4)),
        {"key_padding_mask": torch.zeros(2, 3), "attn_mask": torch.zeros(6, 3)},
        "key_padding_mask (B=2, S=3) was expected to be (B=2, S=6); "
        "attn_mask (L=6, S=3) was expected to be (L=3, S=6) or (B*H=4, L=3, S=6)",
    ),
    (
        {},
        (ones(3, 4), ones(6, 4), ones(6, 4)),
        {"key_padding_mask": torch.zeros(1, 6), "attn_mask": torch.zeros(4, 3, 6)},
        "key_padding_mask (1, 6) was expected to be (S=6); "
        "attn_mask (B*H=4, L=3, S=6) was expected to be (L=3, S=6) or (B*H=2, L=3, S=6)",
    ),
    (
        {},
        (ones(2, 3, 4), ones(2, 6, 4, dtype=torch.float64), ones(2, 6, 4)),
        {"key_padding_mask": torch.zeros(2, 6, dtype=torch.int64)},
        "key is torch.float64, and the weights of the layer are torch.float32; "
        "key_padding_mask is torch.int64, and only boolean and floating masks have a meaning",
    ),
    (
        {"device": "meta"},
        (ones(2, 3, 4), ones(2, 3, 4), ones(2, 3, 4).to("meta")),
        {"attn_mask": torch.zeros(3, 3, device="meta")},
        "query is on cpu, and the weights of the layer are on meta; "
        "key is on cpu, and the weights of the layer are on meta; attn_mask is on meta, and query on cpu",
    ),
]


@pytest.mark.parametrize(("options", "inputs", "masks", "message"), CASES)
def test_call_that_does_not_fit_is_refused_in_one_sentence(
    options: dict[str, Any], inputs: tuple[Tensor, Tensor, Tensor], masks: dict[str, Any], message: str
) -> None:
    layer = MultiheadAttention(4, 2, **{"batch_first": True} | options)
    with pytest.raises(AttentionInputError) as caught:
        layer(*inputs, **masks)
    assert str(caught.value) == message
    for kind in (InputError, RuntimeError, AssertionError):
        assert isinstance(caught.value, kind)


@pytest.mark.parametrize(("options", "inputs", "masks", "message"), CASES)
def test_torchs_layer_refuses_the_same_calls(
    options: dict[str, Any], inputs: tuple[Tensor, Tensor, Tensor], masks: dict[str, Any], message: str
) -> None:
    layer = nn.MultiheadAttention(4, 2, **{"batch_first": True} | options)
    with pytest.raises((RuntimeError, AssertionError, ValueError)):
        layer(*inputs, **masks)
    assert message


NO_TENSORS: list[tuple[tuple[Any, ...], str]] = [
    (
        (ones(2, 3, 4), None, None),
        "key is of type NoneType, where a tensor was expected; value is of type NoneType, where a tensor was expected",
    ),
    ((ones(2, 3, 4).numpy(), *[ones(2, 3, 4)] * 2), "query is of type ndarray, where a tensor was expected"),
    ((*[ones(2, 3, 4)] * 3, [True]), "key_padding_mask is of type list, where a tensor was expected"),
    (
        (ones(2, 3, 4).to_sparse(), *[ones(2, 3, 4)] * 2),
        "query is laid out as torch.sparse_coo, where a dense tensor was expected",
    ),
    (
        (*[ones(2, 3, 4)] * 3, None, True, ones(3, 3).to_sparse()),
        "attn_mask is laid out as torch.sparse_coo, where a dense tensor was expected",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), NO_TENSORS)
def test_what_is_no_tensor_or_not_dense_is_refused_in_one_sentence(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(AttentionInputError) as caught:
        MultiheadAttention(4, 2, batch_first=True)(*arguments)
    assert str(caught.value) == message


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_nested_key_of_a_plain_query_is_refused() -> None:
    nested = torch.nested.nested_tensor([ones(3, 4), ones(2, 4)])
    layer = MultiheadAttention(4, 2, batch_first=True)
    with pytest.raises(AttentionInputError, match="key is a nested tensor, and query is not"):
        layer(ones(2, 3, 4), nested, ones(2, 3, 4))


@pytest.mark.parametrize(
    ("want", "message"),
    [
        (None, "want is of type NoneType, where a Want was expected"),
        ({"averaged": True}, "want is of type dict, where a Want was expected"),
        (Want(top_keys=-1), "top_keys=-1, where how many keys was expected, 0 or more"),
        (Want(top_keys=1.5), "top_keys=1.5, where how many keys was expected, 0 or more"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_wanted_is_refused(want: Any, message: str) -> None:
    layer, x = MultiheadAttention(4, 2, batch_first=True), ones(2, 3, 4)
    with pytest.raises(AttentionInputError) as caught:
        layer.attend(x, x, x, want)
    assert str(caught.value) == message


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(("batch", "length", "keys"), [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0), (2, 0, 0)])
def test_axes_may_be_empty(batch: int, length: int, keys: int, need_weights: bool, is_training: bool) -> None:
    layer = MultiheadAttention(4, 2, batch_first=True).train(is_training)
    nn.init.normal_(layer.out_proj.bias)
    query, key = torch.randn(batch, length, 4), torch.randn(batch, keys, 4, requires_grad=True)
    padding = torch.zeros(batch, keys, dtype=torch.bool)
    for mask in (None, padding):
        output, weights = layer(query, key, key, mask, need_weights)
        assert output.shape == (batch, length, 4)
        if need_weights:
            assert weights.shape == (batch, length, keys)
        if keys == 0:  # nothing to look at: the bias alone
            assert torch.equal(output, layer.out_proj.bias.expand(batch, length, 4))
        output.sum().backward()
        assert key.grad is not None
        assert key.grad.isfinite().all()


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_spread_as_in_torchs_layer(value: float, need_weights: bool) -> None:
    torch.manual_seed(0)
    ours, torchs = MultiheadAttention(4, 2, batch_first=True), nn.MultiheadAttention(4, 2, batch_first=True)
    torchs.load_state_dict(ours.state_dict())
    query, key = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    key[1, 2, 0] = value
    output, weights = ours(query, key, key, need_weights=need_weights)
    expected, expected_weights = torchs(query, key, key, need_weights=need_weights)
    assert output[0].isfinite().all()
    assert torch.equal(output.isnan(), expected.isnan())
    assert output[1].isnan().any()
    if need_weights:
        assert torch.equal(weights.isnan(), expected_weights.isnan())


def test_maps_of_all_heads_that_fit_no_memory_are_refused_before_anything_is_allocated() -> None:
    layer = MultiheadAttention(8, 8, batch_first=True)
    x = torch.zeros(1, 1_000_000, 8)
    with pytest.raises(SizeError) as caught:
        layer(x, x, x, average_attn_weights=False)
    assert str(caught.value).startswith(
        "B=1, H=8, L=1000000, S=1000000 would take 29802.6 GiB, of it 29802.3 GiB for the maps of all heads, and "
    )
    assert caught.value.hint.startswith("ask for column sums or top keys")
    assert caught.value.needed_bytes > caught.value.available_bytes > 0
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, AttentionInputError)


def test_estimate_names_what_is_allocated() -> None:
    sizes = Sizes(2, 4, 1000, 2000, 16)
    want = Want(averaged=True, per_head=True, column_sums=True, row_entropy=True, top_keys=5)
    assert estimate_bytes(sizes, want, 2, held="step") == {
        "projections and context": 2 * (2 * 8000 + 2 * 16000) * 16 * 2,
        "scores": 8 << 20,
        "averaged map": 2 * 1000 * 2000 * 2,
        "maps of all heads": 8 * 1000 * 2000 * 2,
        "column sums": 8 * 2000 * 4,
        "entropies": 8 * 1000 * 4,
        "top keys": 8 * 1000 * 5 * 10,
    }
    assert estimate_bytes(sizes, Want(per_head=True), 4, held="all") == {
        "projections and context": 2 * (2 * 8000 + 2 * 16000) * 16 * 4,
        "scores": 2 * 8 * 1000 * 2000 * 4,
    }
    assert estimate_bytes(sizes, Want(), 4, held="none", mask_items=7).keys() == {"projections and context", "mask"}
    assert estimate_bytes(sizes, Want(), 4, held="none", mask_items=7)["mask"] == 28


@pytest.mark.parametrize("kind", ["none", "attn", "heads", "padding"])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("is_both", [False, True])
def test_count_of_the_one_mask_is_what_it_has(kind: str, is_causal: bool, is_both: bool) -> None:
    sizes = Sizes(2, 3, 4, 5, 1)
    attn = {"attn": torch.zeros(1, 1, 4, 5), "heads": torch.zeros(2, 3, 4, 5)}.get(kind)
    padding = torch.zeros(2, 5) if is_both or kind == "padding" else None
    masks = Masks(attn, padding, is_causal)
    merged = merge(masks, torch.zeros(1), sizes)
    assert count_merged(masks, sizes) == (0 if merged is None else merged.numel())


def test_pass_that_holds_all_weights_is_refused_where_they_fit_no_memory() -> None:
    layer = MultiheadAttention(8, 8, batch_first=True)
    x = torch.zeros(1, 1_000_000, 8)
    with pytest.raises(SizeError, match="for the scores"):
        torch.func.vmap(lambda x: layer(x, x, x, need_weights=False)[0])(x[None])


def test_no_mask_larger_than_those_given_is_made_without_weights() -> None:
    """Torch's fused attention would be handed one of B L S numbers here; more than B L E is never allocated."""
    layer = MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(3, 400, 8)
    padding = torch.arange(400).expand(3, 400) >= torch.tensor([[400], [300], [1]])
    learnt = torch.zeros(400, 400, requires_grad=True)
    for masks in ({"is_causal": True}, {"attn_mask": torch.zeros(400, 400)}, {"attn_mask": learnt}):
        fused = is_fused(x, gather(masks, padding), Pass(Sizes(3, 2, 400, 400, 4), Want()))
        assert not fused
        output, _ = layer(x, x, x, padding, need_weights=False, **masks)
        expected, _ = layer(x, x, x, padding, **masks)
        assert torch.equal(output, expected)


def test_fused_attention_of_torch_does_what_it_does_well() -> None:
    todo, x = Pass(Sizes(3, 2, 400, 400, 4), Want()), torch.randn(3, 400, 8)
    padding, heads = torch.zeros(3, 400), torch.zeros(6, 400, 400)
    for masks in ({}, {"is_causal": True}, {"attn_mask": torch.ones(400, 400)}):
        assert is_fused(x, gather(masks, None), todo)
    assert is_fused(x, gather({}, padding), todo)
    assert not is_fused(x, gather({"attn_mask": heads}, None), todo)
    assert not is_fused(x, gather({}, padding.clone().requires_grad_()), todo)
    assert not is_fused(x, gather({}, None), todo._replace(dropout=0.1))


def gather(masks: dict[str, Any], padding: Tensor | None) -> Masks:
    sizes = Sizes(3, 2, 400, 400, 4)
    attn_mask, is_causal = masks.get("attn_mask"), masks.get("is_causal", False)
    return gather_masks(attn_mask, padding, is_causal=is_causal, sizes=sizes, may_look=True)


def test_what_fits_is_let_through_and_memory_is_what_the_kernel_says() -> None:
    cpu = torch.device("cpu")
    available = find_available_bytes(cpu)
    assert available is not None
    line = next(x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemAvailable:"))
    assert 0 < available <= 1.2 * 1024 * int(line.split()[1])
    require_memory({"scores": available // 2}, Sizes(1, 1, 1, 1, 1), cpu)
    require_memory({"scores": 1 << 60}, Sizes(1, 1, 1, 1, 1), torch.device("meta"))
    with pytest.raises(SizeError, match="for the scores"):
        require_memory({"scores": 1 << 60, "averaged map": 1}, Sizes(1, 1, 1, 1, 1), cpu)


def test_weights_that_no_memory_has_are_refused_before_anything_is_allocated() -> None:
    with pytest.raises(SizeError, match=r"weights of a layer of E=1048576 features would take 16384.0 GiB") as caught:
        MultiheadAttention(2**20, 2**10)
    assert caught.value.needed_bytes == 4 * 4 * 2**40
    assert isinstance(caught.value, HostError)
    assert isinstance(caught.value, RuntimeError)
    assert MultiheadAttention(2**20, 2**10, device="meta").embed_dim == 2**20
    with pytest.raises(TypeError):
        MultiheadAttention("many", 2)  # type: ignore[arg-type]


def test_complex_inputs_are_refused_under_autocast_too() -> None:
    layer = MultiheadAttention(8, 2, batch_first=True, dtype=torch.complex64)
    x = torch.ones(1, 2, 8, dtype=torch.complex64)
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(AttentionInputError, match=r"query is torch\.complex64"),
    ):
        layer(x, x, x)


def test_constructor_leaves_to_torch_what_is_wrong_with_its_arguments() -> None:
    with pytest.raises(TypeError):
        MultiheadAttention(8, 2, dtype="float32")
    with pytest.raises(ValueError, match="num_heads"):
        MultiheadAttention(1 << 22, 0)
    with pytest.raises(AssertionError, match="divisible"):
        MultiheadAttention(1 << 22, 3)


def test_layer_of_any_size_can_be_made_where_nothing_is_allocated() -> None:
    with FakeTensorMode():
        assert MultiheadAttention(1 << 17, 2).in_proj_weight.shape == (3 << 17, 1 << 17)
