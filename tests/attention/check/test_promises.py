"""Masks that a model makes for its causal layers, and traps that explain nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.models.llama import modeling_llama

from jubako.attention import Report, capture, check

from .test_caches import fill

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
IDS = torch.arange(5, 17)[None].repeat(2, 1)


def llama(implementation: str = "sdpa") -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, num_key_value_heads=2)
    config._attn_implementation = implementation
    return LlamaForCausalLM(config).eval()


def use_mask(monkeypatch: pytest.MonkeyPatch, make: Callable[[int], torch.Tensor]) -> None:
    """Has the library's model make another mask than a causal one: True where a key is seen."""

    def mask(config: Any = None, inputs_embeds: Any = None, **_: Any) -> torch.Tensor:
        return make(inputs_embeds.shape[1])[None, None]

    monkeypatch.setattr(modeling_llama, "create_causal_mask", mask)


def traps_of(report: Report) -> list[tuple[str, bool]]:
    return [(trap.name, trap.is_failure) for trap in report.layers[0].traps]


def all_see_all(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool)


def one_too_far(length: int) -> torch.Tensor:
    return all_see_all(length).tril(1)


def some_together(length: int) -> torch.Tensor:
    mask = all_see_all(length).tril()
    mask[2:5, 2:5] = True
    return mask


@pytest.mark.parametrize(
    ("make", "said"),
    [(all_see_all, "every row see all keys after its own"), (one_too_far, "every row see one key after its own")],
)
def test_mask_of_a_causal_layer_that_shows_the_future_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[int], torch.Tensor], said: str
) -> None:
    use_mask(monkeypatch, make)
    report = check(llama(), input_ids=IDS)
    assert not report
    assert traps_of(report) == [("future_seen", True)]
    assert said in report.describe()


def test_mask_that_shows_some_of_the_future_is_taken_as_it_is_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    use_mask(monkeypatch, some_together)
    report = check(llama(), input_ids=IDS)
    assert report
    assert traps_of(report) == [("future_seen", False)]
    assert "its mask lets 2 of 11 rows see keys after their own" in report.describe()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", ["none", "left", "right"])
def test_masks_of_right_models_are_no_trap(implementation: str, padded: str) -> None:
    mask = torch.ones(2, 12, dtype=torch.long)
    if padded != "none":
        mask[1, slice(0, 4) if padded == "left" else slice(8, 12)] = 0
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(
        GPT2Config(n_embd=32, n_head=4, n_layer=1, vocab_size=50, attn_implementation=implementation)
    )
    mistral = MistralForCausalLM(
        MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=4, attn_implementation=implementation)
    )
    for model in (llama(implementation), gpt2.eval(), mistral.eval()):
        with torch.no_grad(), capture(model) as captured:
            cache = fill(model, IDS[:, :8], attention_mask=mask[:, :8])
            fill(model, IDS[:, 8:], attention_mask=mask, cache=cache)
        report = captured.report()
        assert report, report.describe()
        assert [trap.name for layer in report.layers for trap in layer.traps if trap.name == "future_seen"] == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_departs_before_the_scores_is_not_explained_by_their_scale(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    def wrongly(states: torch.Tensor, count: int) -> torch.Tensor:
        return states.repeat(1, count, 1, 1)  # heads in another order

    monkeypatch.setattr(modeling_llama, "repeat_kv", wrongly)
    report = check(llama("eager").to(dtype), input_ids=IDS)
    assert not report
    assert report.layers[0].first_departure.step == "key_heads"
    assert traps_of(report) == []


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_cache_of_fixed_size_with_padding_on_the_left_is_checked(implementation: str) -> None:
    """Rows of padding are forbidden all keys alike, also those that the cache has room for."""
    model, mask = llama(implementation), torch.ones_like(IDS)
    mask[0, :4] = 0
    how = {"max_new_tokens": 3, "cache_implementation": "static", "do_sample": False, "pad_token_id": 0}
    with torch.no_grad(), capture(model) as captured:
        model.generate(IDS, attention_mask=mask, **how)
    report = captured.report()
    assert report, report.describe()
    assert report.unchecked == []


def test_layer_in_float64_that_is_right_to_float32_is_told_so() -> None:
    report = check(llama("eager").double(), input_ids=IDS)
    assert not report
    assert traps_of(report) == [("computed_in_float32", True)]
    assert check(llama("sdpa").double(), input_ids=IDS)
