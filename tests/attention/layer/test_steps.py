"""Steps cover everything once, skip what nobody sees, and their results are those of the pass in one go."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from jubako.attention.layer.blocks import Pass, draw_all_kept, run_forward
from jubako.attention.layer.masks import Masks
from jubako.attention.layer.steps import STEP_BYTES, Sizes, plan_steps
from jubako.attention.layer.wanted import Want
from jubako.attention.layer.whole import run_whole

from .by_hand import assert_near

ALL = Want(averaged=True, per_head=True, column_sums=True, row_entropy=True, top_keys=3)
SHAPES = [
    Sizes(1, 1, 1, 1, 2),
    Sizes(3, 4, 5, 6, 2),
    Sizes(2, 3, 70, 40, 4),
    Sizes(1, 2, 33, 80, 8),
    Sizes(5, 2, 16, 3, 1),
]
MOST = [1, 100, 1000, 5000, 1 << 20]


@pytest.mark.parametrize("most", MOST)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("is_causal", [False, True])
def test_steps_cover_each_score_that_may_be_seen_exactly_once(sizes: Sizes, most: int, is_causal: bool) -> None:
    lengths = [sizes.keys - entry % (sizes.keys + 1) for entry in range(sizes.batch)]
    seen = torch.zeros(sizes.batch, sizes.heads, sizes.queries, sizes.keys, dtype=torch.int64)
    steps = list(plan_steps(sizes, most, 1, is_causal=is_causal, lengths=lengths))
    for step in steps:
        seen[step.batch, step.heads, step.rows, : step.keys] += 1
    assert [step.number for step in steps] == list(range(len(steps)))
    assert seen.max() == 1
    for b, i, j in itertools.product(range(sizes.batch), range(sizes.queries), range(sizes.keys)):
        if j < lengths[b] and not (is_causal and j > i):
            assert (seen[b, :, i, j] == 1).all()


def test_heads_of_the_same_rows_follow_each_other_from_first_to_last() -> None:
    sizes = Sizes(2, 5, 16, 64, 4)
    steps = list(plan_steps(sizes, 2 * 16 * 64, 1, is_causal=False))
    for rows, group in itertools.groupby(steps, key=lambda step: (step.batch, step.rows)):
        heads = [step.heads for step in group]
        assert [h.start for h in heads] == [0, 2, 4], rows
        assert heads[-1].stop == sizes.heads
    assert [step.is_first_of_rows for step in steps[:3]] == [True, False, False]
    assert [step.is_last_of_rows(sizes) for step in steps[:3]] == [False, False, True]


def test_causal_steps_leave_out_about_half() -> None:
    sizes = Sizes(1, 8, 2048, 2048, 64)
    done = sum(
        (s.rows.stop - s.rows.start) * s.keys * (s.heads.stop - s.heads.start)
        for s in plan_steps(sizes, STEP_BYTES, 4, is_causal=True)
    )
    assert done / (8 * 2048 * 2048) < 0.54


@pytest.mark.parametrize("most", MOST)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["none", "causal", "padding", "attn", "heads", "all"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_pass_over_steps_gives_what_the_pass_in_one_go_gives(
    sizes: Sizes, most: int, kind: str, dropout: float
) -> None:
    torch.manual_seed(len(kind) + most)
    q = torch.randn(sizes.batch, sizes.heads, sizes.queries, sizes.head_dim)
    k, v = torch.randn(2, sizes.batch, sizes.heads, sizes.keys, sizes.head_dim)
    masks = make_masks(kind, sizes)
    todo = Pass(sizes, ALL, dropout, seed=7, step_bytes=4 * most)
    kept = draw_all_kept(masks, todo, q) if dropout else None
    expected, found = run_whole(q, k, v, masks, todo, kept), run_forward(q, k, v, masks, todo)
    for name, value in found._asdict().items():
        other = getattr(expected, name)
        if name == "top_keys":
            assert torch.equal(found.per_head.gather(-1, value), found.top_weights)
            assert (value.sort(-1).values.diff(dim=-1) > 0).all()
        else:
            assert value.dtype == other.dtype
            assert_near(value, other, 4.0)


def make_masks(kind: str, sizes: Sizes) -> Masks:
    attn: Tensor | None = None
    if kind in ("attn", "heads", "all"):
        axes = (sizes.batch, sizes.heads) if kind == "heads" else (1, 1)
        attn = torch.randn(*axes, sizes.queries, sizes.keys)
        attn[torch.rand_like(attn) < 0.3] = float("-inf")
    padding: Tensor | None = None
    if kind in ("padding", "all"):
        lengths = torch.arange(sizes.batch) % (sizes.keys + 1)
        padding = torch.arange(sizes.keys)[None] >= (sizes.keys - lengths)[:, None]
        padding[:, 0] = True
    return Masks(attn, padding, is_causal=kind in ("causal", "all"))


def test_dropout_is_the_same_for_the_same_seed_and_rescaled() -> None:
    sizes = Sizes(1, 2, 200, 100, 4)
    masks = Masks(None, None, is_causal=False)
    q = torch.empty(1, 2, 200, 4)
    one, same, other = (draw_all_kept(masks, Pass(sizes, Want(), 0.25, seed), q) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert abs(float((one == 0).float().mean()) - 0.25) < 0.01
    assert (draw_all_kept(masks, Pass(sizes, Want(), 1.0, 1), q) == 0).all()
