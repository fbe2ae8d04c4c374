"""Traps that masks are for: each is called by its name, whatever form the mask has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from jubako.attention import check

LENGTH = 5
Mask = torch.Tensor
FORMS: dict[str, Callable[[Mask], Mask]] = {
    "bool": lambda mask: mask,
    "additive": lambda mask: torch.zeros(mask.shape).masked_fill(mask, -torch.inf),
    "large": lambda mask: torch.zeros(mask.shape).masked_fill(mask, torch.finfo(torch.float32).min),
    "per head": lambda mask: mask.expand(2 * 2, *mask.shape).clone(),
}


def causal(diagonal: int = 1) -> Mask:
    return torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(diagonal)


class Wrong(torch.nn.MultiheadAttention):
    """Torch's layer, with its masks changed before it takes them."""

    change: Callable[[dict[str, Any]], dict[str, Any]]

    def forward(self, query: Any, key: Any, value: Any, **others: Any) -> Any:  # type: ignore[override]
        return super().forward(query, key, value, **self.change(others))


def make(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Wrong:
    torch.manual_seed(0)
    layer = Wrong(8, 2, batch_first=True).eval()
    layer.change = change  # type: ignore[method-assign]
    return layer


def traps(change: Callable[[dict[str, Any]], dict[str, Any]], **call: Any) -> dict[str, str]:
    report = check(make(change), torch.randn(2, LENGTH, 8), **call)
    assert not report
    return {trap.name: trap.sentence for trap in report.layers[0].traps if trap.is_failure}


def with_mask(mask: Mask) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda given: {**given, "attn_mask": mask, "is_causal": False}


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("diagonal", "words"), [(2, "one key too far"), (0, "one key short")])
def test_causal_mask_that_is_off_by_one_is_named_in_every_form(
    form: str, diagonal: int, words: str, is_causal: bool
) -> None:
    wrong = FORMS[form](causal(diagonal))
    found = traps(with_mask(wrong), attn_mask=FORMS[form](causal()), is_causal=is_causal)
    assert words in found["causal_off_by_one"]


def test_causal_mask_that_is_off_by_one_is_named_beside_padding() -> None:
    padding = torch.arange(LENGTH) >= torch.tensor([[LENGTH], [3]])
    found = traps(with_mask(causal(2)), attn_mask=causal(), key_padding_mask=padding)
    assert "one key too far" in found["causal_off_by_one"]


@pytest.mark.parametrize("form", ["bool", "additive", "large"])
def test_mask_the_other_way_round_is_named_in_every_form(form: str) -> None:
    window = causal() | causal(-1).logical_not()
    found = traps(with_mask(FORMS[form](~window)), attn_mask=FORMS[form](window))
    assert found.keys() >= {"mask_polarity"}
    assert "the attention mask is taken the other way round" in found["mask_polarity"]


@pytest.mark.parametrize("form", ["bool", "additive"])
def test_padding_the_other_way_round_is_named_where_it_leaves_rows_without_keys(form: str) -> None:
    padding = torch.arange(LENGTH) >= torch.tensor([[LENGTH], [3]])
    found = traps(
        lambda given: {**given, "key_padding_mask": FORMS[form](~padding)}, key_padding_mask=FORMS[form](padding)
    )
    assert "the padding mask is taken the other way round" in found["mask_polarity"]


def test_both_masks_the_other_way_round_or_ignored_are_named() -> None:
    padding = torch.arange(LENGTH) >= torch.tensor([[LENGTH - 1], [3]])
    given = {"attn_mask": causal(), "key_padding_mask": padding}
    found = traps(lambda call: {**call, "attn_mask": ~causal(), "key_padding_mask": ~padding}, **given)
    assert "both masks are taken the other way round" in found["mask_polarity"]
    found = traps(lambda call: {**call, "attn_mask": None, "key_padding_mask": None}, **given)
    assert found["mask_ignored"].startswith("both masks are ignored")


def test_mask_that_is_ignored_with_the_hint_is_named() -> None:
    found = traps(lambda call: {**call, "attn_mask": None, "is_causal": False}, attn_mask=causal(), is_causal=True)
    assert "the attention mask is ignored, and is_causal with it" in found["mask_ignored"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_causal", [False, True])
def test_right_layer_has_no_trap_in_any_form(form: str, is_causal: bool) -> None:
    report = check(
        make(lambda given: given), torch.randn(2, LENGTH, 8), attn_mask=FORMS[form](causal()), is_causal=is_causal
    )
    assert report, report.describe()
    assert not report.layers[0].traps
