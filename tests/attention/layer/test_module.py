"""The contract with torch's layer: what it computes, ours computes too, in many settings, and a plain computation."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jubako.attention.layer.module import MultiheadAttention

from .by_hand import assert_near, attend_by_hand
from .settings import Setting, make_setting

pytestmark = pytest.mark.usefixtures("kernel")

Outcome = tuple[Tensor, Tensor | None]


@contextmanager
def fast_path(is_on: bool) -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(is_on)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("seed", range(320))
def test_layer_agrees_with_a_plain_computation_in_a_random_setting(seed: int) -> None:
    setting = make_setting(seed)
    module = setting.make()
    is_causal = seed % 3 == 0
    masks = (setting.call.get("key_padding_mask"), setting.call.get("attn_mask"))
    expected, maps, largest = attend_by_hand(module, setting.inputs, *masks, is_causal=is_causal)
    output, weights = module(*setting.inputs, **setting.call | {"is_causal": is_causal})
    assert_near(output, expected, largest)
    if not setting.call["need_weights"]:
        assert weights is None
    else:
        assert weights is not None
        assert_near(weights, maps.mean(-3) if setting.call["average_attn_weights"] else maps, largest)


@pytest.mark.parametrize("seed", range(320))
def test_layer_agrees_with_both_paths_of_torch_in_a_random_setting(seed: int) -> None:
    setting = make_setting(seed)
    ours, torchs = setting.make(), setting.make(nn.MultiheadAttention)
    *_, largest = attend_by_hand(ours, setting.inputs)
    output, weights = ours(*setting.inputs, **setting.call)
    for is_on in (False, True):
        with torch.no_grad(), fast_path(is_on):
            expected = _call(torchs, setting)
        assert_near(output, expected[0], largest)
        assert (weights is None) == (expected[1] is None)
        if weights is not None and expected[1] is not None:
            assert weights.shape == expected[1].shape
            assert_near(weights, expected[1], largest)


@pytest.mark.parametrize("seed", range(60))
def test_strict_layer_gives_what_torch_gives_bit_by_bit(seed: int) -> None:
    setting = make_setting(seed)
    setting.call["is_causal"] = seed % 4 == 0
    if seed % 5 == 0 and "attn_mask" in setting.call:  # a query that may see nothing
        mask = setting.call["attn_mask"]
        setting.call["attn_mask"] = mask.masked_fill(torch.ones_like(mask, dtype=torch.bool), float("-inf"))
    ours, torchs = setting.make(strict_torch=True), setting.make(nn.MultiheadAttention)
    for is_on in (False, True):
        with torch.no_grad(), fast_path(is_on):
            assert _outcome(ours, setting) == _outcome(torchs, setting)


def _call(module: nn.MultiheadAttention, setting: Setting) -> Outcome:
    # Torch warns where one mask is boolean and one is not, which no setting has, and of nothing else here.
    outcome: Outcome = module(*setting.inputs, **setting.call)
    return outcome


def _outcome(module: nn.MultiheadAttention, setting: Setting) -> Any:
    """What comes back, to the bit and NaN alike, or the error."""
    try:
        output, weights = _call(module, setting)
    except (RuntimeError, AssertionError) as error:
        return type(error), str(error)
    bits = torch.int64 if output.dtype == torch.float64 else torch.int32
    return output.contiguous().view(bits).tolist(), None if weights is None else weights.contiguous().view(
        bits
    ).tolist()


def test_constructor_and_forward_have_torchs_arguments_and_one_more() -> None:
    for name in ("__init__", "forward", "merge_masks"):
        theirs = inspect.signature(getattr(nn.MultiheadAttention, name)).parameters
        ours = dict(inspect.signature(getattr(MultiheadAttention, name)).parameters)
        if name == "__init__":
            assert ours.pop("strict_torch").kind == inspect.Parameter.KEYWORD_ONLY
        assert list(ours) == list(theirs)
        assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]
        assert [p.kind for p in ours.values()] == [p.kind for p in theirs.values()]


@pytest.mark.parametrize("seed", range(40))
def test_initial_values_state_and_attributes_are_torchs(seed: int) -> None:
    options = make_setting(seed).options
    torch.manual_seed(seed)
    ours = MultiheadAttention(**options)
    torch.manual_seed(seed)
    torchs = nn.MultiheadAttention(**options)
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    for name, value in torchs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert ours.load_state_dict(torchs.state_dict()).missing_keys == []
    assert torchs.load_state_dict(ours.state_dict()).unexpected_keys == []
    for name in ("embed_dim", "kdim", "vdim", "_qkv_same_embed_dim", "num_heads", "dropout", "batch_first", "head_dim"):
        assert getattr(ours, name) == getattr(torchs, name)
    for name in ("in_proj_weight", "q_proj_weight", "in_proj_bias", "bias_k", "bias_v", "out_proj"):
        assert type(getattr(ours, name)) is type(getattr(torchs, name))
    assert repr(ours) == repr(torchs)
    assert MultiheadAttention.__constants__ == nn.MultiheadAttention.__constants__


@pytest.mark.parametrize("arguments", [(0, 1), (4, 0), (-4, 2), (5, 2)])
def test_constructor_refuses_what_torchs_refuses(arguments: tuple[int, int]) -> None:
    with pytest.raises((ValueError, AssertionError)) as theirs:
        nn.MultiheadAttention(*arguments)
    with pytest.raises(theirs.type) as ours:
        MultiheadAttention(*arguments)
    assert str(ours.value) == str(theirs.value)


def test_layer_survives_pickling_copying_and_saving() -> None:
    setting = make_setting(3)
    module = setting.make().eval()
    expected = module(*setting.inputs, **setting.call)[0]
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    for again in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module), saved):
        assert type(again) is MultiheadAttention
        assert torch.equal(again(*setting.inputs, **setting.call)[0], expected)
        assert len(again.out_proj._forward_pre_hooks) == 1


def test_state_of_an_old_torch_layer_is_taken() -> None:
    """Layers of torch 1.1 did not say whether their weights are packed; those of torch know nothing of ours."""
    torchs = nn.MultiheadAttention(4, 2)
    state = copy.deepcopy(torchs.__dict__)
    del state["_qkv_same_embed_dim"]
    ours = MultiheadAttention.__new__(MultiheadAttention)
    ours.__setstate__(state)
    x = torch.randn(3, 2, 4)
    assert_near(ours(x, x, x)[0], torchs.eval()(x, x, x)[0])
    assert not ours.strict_torch
    assert len(ours.out_proj._forward_pre_hooks) == 1


def test_merge_masks_is_torchs() -> None:
    ours, torchs = MultiheadAttention(4, 2, batch_first=True), nn.MultiheadAttention(4, 2, batch_first=True)
    query, attn, padding = torch.randn(3, 5, 4), torch.randn(5, 5), torch.randn(3, 5)
    for masks in ((None, None), (attn, None), (None, padding), (attn, padding), (torch.randn(6, 5, 5), padding)):
        mine, kind = ours.merge_masks(*masks, query)
        theirs, their_kind = torchs.merge_masks(*masks, query)
        assert kind == their_kind
        assert (mine is None and theirs is None) or torch.equal(mine, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("is_training", [False, True])
def test_layer_of_a_lower_precision_is_as_near_as_torchs(dtype: torch.dtype, is_training: bool) -> None:
    torch.manual_seed(0)
    ours = MultiheadAttention(64, 4, batch_first=True, dtype=dtype).train(is_training)
    torchs = nn.MultiheadAttention(64, 4, batch_first=True, dtype=dtype).train(is_training)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 40, 64).to(dtype)
    expected, maps, _ = attend_by_hand(ours, (x, x, x))
    output, weights = ours(x, x, x)
    their_output, their_weights = torchs(x, x, x)
    assert output.dtype == weights.dtype == dtype
    floor = torch.finfo(dtype).eps
    for found, theirs, right in ((output, their_output, expected), (weights, their_weights, maps.mean(1))):
        error, theirs_error = (found - right).abs().max(), (theirs - right).abs().max()
        assert error <= 2 * theirs_error + floor * right.abs().max()


@pytest.mark.parametrize("need_weights", [True, False])
def test_autocast_is_honoured_as_by_torch(need_weights: bool) -> None:
    torch.manual_seed(0)
    ours, torchs = MultiheadAttention(32, 4, batch_first=True), nn.MultiheadAttention(32, 4, batch_first=True)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 9, 32, requires_grad=True)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[:, -2:] = True
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, weights = ours(x, x, x, padding, need_weights)
        expected, expected_weights = torchs(x, x, x, padding, need_weights)
    assert output.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(output, expected, rtol=0.03, atol=0.01)
    if need_weights:
        torch.testing.assert_close(weights, expected_weights, rtol=0.03, atol=0.01, check_dtype=False)
    output.float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    assert x.grad.isfinite().all()


def test_weights_under_autocast_have_torchs_dtype() -> None:
    ours, torchs = MultiheadAttention(32, 4, batch_first=True), nn.MultiheadAttention(32, 4, batch_first=True)
    x = torch.randn(2, 9, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(x, x, x)[1].dtype == torchs(x, x, x)[1].dtype
