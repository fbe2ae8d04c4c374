"""Gradients against torch's, against differences (gradcheck), of everything that is given back, and of frozen parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from jubako.attention.layer.blocks import Pass, draw_all_kept
from jubako.attention.layer.gradient import run_with_gradient
from jubako.attention.layer.masks import Masks
from jubako.attention.layer.module import MultiheadAttention
from jubako.attention.layer.steps import Sizes
from jubako.attention.layer.wanted import Attended, Want
from jubako.attention.layer.ways import run_in_steps
from jubako.attention.layer.whole import run_whole

from .by_hand import assert_near
from .settings import make_setting

pytestmark = pytest.mark.usefixtures("kernel")

SIZES = Sizes(2, 2, 20, 5, 3)  # two steps of rows for each head when a step may hold little
ALL = Want(averaged=True, per_head=True, column_sums=True, row_entropy=True, top_keys=2)


@pytest.mark.parametrize("seed", range(120))
def test_gradients_agree_with_torchs_in_a_random_setting(seed: int) -> None:
    setting = make_setting(seed)
    setting.is_training = True
    gradients = []
    for kind in (MultiheadAttention, nn.MultiheadAttention):
        module = setting.make(kind)
        # One tensor stays one tensor: whether query, key and value are the same decides how they are projected.
        copies = {id(x): x.clone().requires_grad_() for x in setting.inputs}
        masks = {
            name: x.clone().requires_grad_(x.is_floating_point())
            for name, x in setting.call.items()
            if isinstance(x, Tensor)
        }
        output, weights = module(*(copies[id(x)] for x in setting.inputs), **setting.call | masks)
        torch.manual_seed(seed)
        loss = (output * torch.randn(output.shape)).sum()
        if weights is not None:
            loss = loss + (weights * torch.randn(weights.shape)).sum()
        loss.backward()
        found = {f"input {i}": copies[id(x)].grad for i, x in enumerate(setting.inputs)}
        found |= {name: parameter.grad for name, parameter in module.named_parameters()}
        gradients.append(found | {name: mask.grad for name, mask in masks.items()})
    ours, torchs = gradients
    assert ours.keys() == torchs.keys()
    for name, expected in torchs.items():
        assert (ours[name] is None) == (expected is None), name
        if expected is not None:
            assert_near(ours[name], expected, 60.0)


def make_heads(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    q = torch.randn(SIZES.batch, SIZES.heads, SIZES.queries, SIZES.head_dim, dtype=torch.float64)
    k, v = torch.randn(2, SIZES.batch, SIZES.heads, SIZES.keys, SIZES.head_dim, dtype=torch.float64)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def make_masks(kind: str) -> Masks:
    """Masks under which some rows see nothing; those that can have a gradient ask for one."""
    torch.manual_seed(1)
    attn: Tensor | None = None
    if kind in ("attn", "heads"):
        axes = (SIZES.batch, SIZES.heads) if kind == "heads" else (1, 1)
        attn = torch.randn(*axes, SIZES.queries, SIZES.keys, dtype=torch.float64)
        attn[..., 3, :] = float("-inf")
        attn[..., 1:] = attn[..., 1:].masked_fill(torch.rand_like(attn[..., 1:]) < 0.3, float("-inf"))
        attn.requires_grad_()
    padding: Tensor | None = None
    if kind in ("padding", "padding and causal"):
        padding = torch.randn(SIZES.batch, SIZES.keys, dtype=torch.float64)
        padding[0, 0] = padding[1, 3:] = float("-inf")
        padding.requires_grad_()
    return Masks(attn, padding, is_causal="causal" in kind)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("kind", ["none", "attn", "heads", "padding", "causal", "padding and causal"])
def test_gradients_over_steps_are_those_of_the_pass_in_one_go(kind: str, dropout: float) -> None:
    q, k, v = make_heads()
    masks = make_masks(kind)
    todo = Pass(SIZES, ALL, dropout, seed=5, step_bytes=1)
    kept = draw_all_kept(masks, todo, q.detach()) if dropout else None
    inputs = [x for x in (q, k, v, masks.attn, masks.padding) if x is not None]
    for chosen in (("output",), ("averaged",), ("per_head",), ("column_sums",), ("row_entropy",), tuple(NAMES)):
        ours = torch.autograd.grad(_lose(run_with_gradient(q, k, v, masks, todo), chosen), inputs, allow_unused=True)
        right = torch.autograd.grad(_lose(run_whole(q, k, v, masks, todo, kept), chosen), inputs, allow_unused=True)
        for found, expected in zip(ours, right, strict=True):
            if expected is None:
                assert found is None or (found == 0).all()
            else:
                assert found is not None
                assert found.isfinite().all()
                assert_near(found, expected, 60.0)


NAMES = ("output", "averaged", "per_head", "column_sums", "row_entropy")


def _lose(found: Attended, names: tuple[str, ...]) -> Tensor:
    torch.manual_seed(2)
    total = torch.zeros((), dtype=torch.float64)
    for name in NAMES:
        value = getattr(found, name)
        factor = torch.randn(value.shape)
        if name in names:
            total = total + (value * factor).sum()
    return total


@pytest.mark.parametrize("kind", ["none", "attn", "padding and causal"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_and_second_derivatives_agree_with_differences(kind: str, dropout: float) -> None:
    q, k, v = make_heads()
    masks = make_masks(kind)
    todo = Pass(SIZES, Want(averaged=True, column_sums=True), dropout, seed=5, step_bytes=1)

    def run(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = run_with_gradient(q, k, v, masks, todo)
        assert found.averaged is not None
        assert found.column_sums is not None
        return found.output, found.averaged, found.column_sums

    assert torch.autograd.gradcheck(run, (q, k, v), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (q, k, v), fast_mode=True)


@pytest.mark.parametrize("need_weights", [True, False])
def test_layer_agrees_with_differences(need_weights: bool) -> None:
    torch.manual_seed(0)
    layer = MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        return tuple(y for y in layer(x, x, x, need_weights=need_weights, is_causal=True) if y is not None)

    assert torch.autograd.gradcheck(run, (x,))
    if need_weights:  # torch's fused attention has no second derivatives on a processor
        assert torch.autograd.gradgradcheck(run, (x,))


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("name", ["key_padding_mask", "attn_mask"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_mask_may_be_filled_anew_before_the_backward_pass(name: str, dtype: torch.dtype, need_weights: bool) -> None:
    torch.manual_seed(0)
    layer = MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 5, 8, requires_grad=True)
    gradients = []
    for is_filled in (False, True):
        mask = torch.zeros((2, 5) if name == "key_padding_mask" else (5, 5), dtype=dtype)
        mask[:, 3] = True
        output = layer(x, x, x, **{name: mask}, need_weights=need_weights)[0]
        if is_filled:
            mask.fill_(0)
        gradients.append(torch.autograd.grad(output.square().sum(), x)[0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("name", ["key_padding_mask", "attn_mask"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_mask_may_be_made_where_nothing_is_recorded(name: str, dtype: torch.dtype, need_weights: bool) -> None:
    layer = MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 5, 8, requires_grad=True)
    with torch.inference_mode():
        mask = torch.zeros((2, 5) if name == "key_padding_mask" else (5, 5), dtype=dtype)
    layer(x, x, x, **{name: mask}, need_weights=need_weights)[0].sum().backward()
    assert x.grad is not None


def test_weights_of_frozen_queries_and_keys_ask_for_no_gradient() -> None:
    q, k, v = make_heads()
    masks = Masks(None, None, is_causal=False)
    q.requires_grad_(False)
    k.requires_grad_(False)
    found = run_with_gradient(q, k, v, masks, Pass(SIZES, ALL))
    assert found.output.requires_grad
    assert not any(x.requires_grad for x in found[1:] if x is not None)
    found.output.sum().backward()
    assert v.grad is not None
    k.requires_grad_(True)
    found = run_with_gradient(q, k, v, masks, Pass(SIZES, ALL))
    assert all(getattr(found, name).requires_grad for name in NAMES)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_part_gets_no_gradient_and_the_others_the_same(frozen: int) -> None:
    expected = _gradients(make_heads())
    heads = make_heads()
    heads[frozen].requires_grad_(False)
    found = _gradients(heads)
    assert found[frozen] is None
    for i in {0, 1, 2} - {frozen}:
        assert torch.equal(found[i], expected[i])


def _gradients(heads: tuple[Tensor, Tensor, Tensor]) -> list[Tensor | None]:
    found = run_with_gradient(
        *heads, Masks(None, None, is_causal=False), Pass(SIZES, Want(averaged=True), step_bytes=1)
    )
    assert found.averaged is not None
    (found.output.sum() + (found.averaged**2).sum()).backward()
    return [x.grad for x in heads]


def test_frozen_parameters_get_no_gradient() -> None:
    layer = MultiheadAttention(8, 2, batch_first=True)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    x = torch.randn(2, 3, 8)
    assert layer(x, x, x)[0].grad_fn is None
    x.requires_grad_()
    layer(x, x, x)[0].sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize("need_weights", [True, False])
def test_dropout_of_the_layer_is_torchs_in_kind(need_weights: bool) -> None:
    """The weights that come back are those applied; the loss falls for them as differences say it does."""
    layer = MultiheadAttention(8, 2, dropout=0.5, batch_first=True, dtype=torch.float64)
    x = torch.randn(2, 6, 8, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        output: Tensor = layer(x, x, x, need_weights=need_weights)[0]
        return output

    assert torch.equal(run(x), run(x))
    assert torch.autograd.gradcheck(run, (x,), fast_mode=True)
    torch.manual_seed(4)
    assert not torch.equal(run(x), layer(x, x, x, need_weights=need_weights)[0])
    if need_weights:
        _, weights = layer(x, x, x, average_attn_weights=False)
        exact = layer.eval()(x, x, x, average_attn_weights=False)[1]
        kept = weights / exact
        assert set(kept.detach().round(decimals=9).unique().tolist()) == {0.0, 2.0}


def test_training_with_weights_holds_no_weights_of_all_heads() -> None:
    """What is kept for the backward pass is far less than B*H*L*S numbers; torch keeps several times as many."""
    held: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    kinds: dict[Callable[..., nn.MultiheadAttention], int] = {}
    x = torch.randn(1, 512, 64)
    for kind in (MultiheadAttention, nn.MultiheadAttention):
        held.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            kind(64, 8, batch_first=True)(x, x, x)[0].sum()
        kinds[kind] = sum(held.values())
    weights = 8 * 512 * 512 * 4
    assert kinds[MultiheadAttention] < weights / 8
    assert kinds[nn.MultiheadAttention] > weights


class Live(TorchDispatchMode):
    """Notes the most bytes that storages made under it take at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._made: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for x in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(x, Tensor):
                self._made[StorageWeakRef(x.untyped_storage())] = x.untyped_storage().nbytes()
        self._made = {storage: count for storage, count in self._made.items() if not storage.expired()}
        self.most = max(self.most, sum(self._made.values()))
        return made


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_no_pass_over_steps_holds_weights_of_all_heads_at_a_time(dropout: float) -> None:
    sizes = Sizes(1, 16, 512, 512, 4)
    heads = [torch.randn(1, 16, 512, 4, requires_grad=True) for _ in range(3)]
    todo = Pass(sizes, Want(averaged=True), dropout, seed=1, step_bytes=1 << 18)
    with Live() as live:
        found = run_with_gradient(*heads, Masks(None, None, is_causal=False), todo)
        assert found.averaged is not None
        (found.output.sum() + found.averaged.square().sum()).backward()
    one_map = 512 * 512 * 4
    assert one_map < live.most < 8 * one_map  # weights of all heads are 16


def test_dropout_is_drawn_anew_for_each_step() -> None:
    q, _, _ = make_heads()
    kept = draw_all_kept(Masks(None, None, is_causal=False), Pass(SIZES, ALL, 0.4, seed=5, step_bytes=1), q.detach())
    patterns = {tuple(part.flatten().tolist()) for entry in kept for head in entry for part in (head[:4], head[16:])}
    assert len(patterns) == 2 * SIZES.batch * SIZES.heads


@pytest.mark.parametrize("is_recorded", [False, True])
def test_autocast_casts_nothing_within_a_pass(is_recorded: bool) -> None:
    heads = [x.detach().float().requires_grad_(is_recorded) for x in make_heads()]
    masks, todo = Masks(None, None, is_causal=True), Pass(SIZES, ALL)
    expected = run_in_steps(*heads, masks, todo)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run_in_steps(*heads, masks, todo)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_many_gradients_at_a_time_are_those_one_by_one(dropout: float) -> None:
    q, k, v = make_heads()
    todo = Pass(SIZES, Want(averaged=True), dropout, seed=5)
    found = run_with_gradient(q, k, v, Masks(None, None, is_causal=True), todo)
    given = torch.randn(3, *found.output.shape, dtype=torch.float64)
    together = torch.autograd.grad(found.output, (q, k, v), given, is_grads_batched=True, retain_graph=True)
    for i, each in enumerate(given):
        alone = torch.autograd.grad(found.output, (q, k, v), each, retain_graph=True)
        for mine, theirs in zip(together, alone, strict=True):
            assert_near(mine[i], theirs)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("is_shared", [False, True])
def test_what_was_made_under_inference_mode_can_be_trained_on(need_weights: bool, is_shared: bool) -> None:
    """Torch's layer takes such features too where batch_first copies them on its way."""
    torch.manual_seed(0)
    layer = MultiheadAttention(8, 2, batch_first=True)
    with torch.inference_mode():
        x = torch.randn(3, 2, 5, 8)
    inputs = [x[0]] * 3 if is_shared else list(x)
    gradients = []
    for given in (inputs, [each.clone() for each in inputs]):
        layer.zero_grad()
        layer(*given, need_weights=need_weights)[0].square().sum().backward()
        gradients.append(layer.in_proj_weight.grad)
    assert torch.equal(*gradients)
