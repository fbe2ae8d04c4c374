"""Calls that use keys of earlier calls: what the cache holds has to be what these calls gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from jubako.attention import Settings, Weights, attend, capture, check
from jubako.attention.checking.report import Report
from jubako.attention.description import Past, rotary_of
from jubako.errors import InputError

from .test_what_is_not_known import IDS, model_of

KINDS: dict[str, dict[str, Any]] = {
    "GPT2": {"n_embd": 32, "n_head": 4, "n_layer": 1, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0},
    "Llama": {"num_key_value_heads": 2},
    "Mistral": {"num_key_value_heads": 2, "sliding_window": 4},
    "Qwen3": {"num_key_value_heads": 2, "head_dim": 8},  # which keeps keys that were normalised
}
AS_GIVEN = "the keys and values in its cache are taken as given: nobody saw the calls that put them there"
BART = {
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "pad_token_id": 1,
}


def fill(model: torch.nn.Module, ids: torch.Tensor, **others: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=True, **others).cache


def departures(report: Report) -> list[str]:
    return [layer.first_departure.step if layer.first_departure else "" for layer in report.layers]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_use_a_cache_are_checked_from_what_earlier_ones_gave(kind: str, implementation: str) -> None:
    model = model_of(kind, implementation, **KINDS[kind])
    with capture(model) as captured:
        cache = fill(model, IDS[:, :3])
        for start, end in ((3, 5), (5, 6), (6, 7)):
            fill(model, IDS[:, start:end], cache=cache)
    report = captured.report()
    assert report, report.describe()
    assert report.unchecked == []
    assert [layer.facts["P"] for layer in report.layers] == [None, 3, *((3, 3) if kind == "Mistral" else (5, 6))]
    for layer in report.layers:
        (run,) = layer.runs
        seen = {step.step for step in run.steps if step.verdict != "not_observable"}
        assert {"query_projection", "key_projection", "query_heads", "key_heads", "context", "output"} <= seen
        assert not run.notes


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
def test_cache_that_nobody_saw_filled_is_taken_as_given_and_that_is_said(kind: str, implementation: str) -> None:
    model = model_of(kind, implementation, **KINDS[kind])
    report = check(model, input_ids=IDS[:, 5:6], cache=fill(model, IDS[:, :5]))
    assert report, report.describe()
    assert report.layers[0].runs[0].notes == [AS_GIVEN]
    assert report.layers[0].facts["P"] == (3 if kind == "Mistral" else 5)


def spoil(cache: Any, how: str) -> None:
    """Makes a cache do something wrong when the next call appends to it."""
    layer = cache.layers[0]
    right = layer.update

    def update(keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        all_keys, all_values = right(keys, values, *args, **kwargs)
        if how == "stale":  # the new key is forgotten, the one before it taken once more
            return torch.cat([all_keys[..., :-1, :], all_keys[..., -2:-1, :]], dim=-2), all_values
        if how == "keys one position off":
            return all_keys.roll(1, dims=-2), all_values
        if how == "values one position off":
            return all_keys, all_values.roll(1, dims=-2)
        if how == "not appended":
            return all_keys[..., :-1, :], all_values[..., :-1, :]
        return all_keys + 0.01, all_values

    layer.update = update


WRONG = {
    "stale": "key_heads",
    "keys one position off": "key_heads",
    "values one position off": "value_heads",
    "a hundredth more": "key_heads",
}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["GPT2", "Llama"])
@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("watched", [True, False])
def test_cache_that_appends_wrongly_is_named(how: str, kind: str, implementation: str, watched: bool) -> None:
    model = model_of(kind, implementation, **KINDS[kind])
    cache = None if watched else fill(model, IDS[:, :5])
    with capture(model) as captured:
        cache = fill(model, IDS[:, :5]) if cache is None else cache
        spoil(cache, how)
        fill(model, IDS[:, 5:6], cache=cache)
    assert departures(captured.report()) == [*([""] if watched else []), WRONG[how]]


def test_cache_that_forgets_to_append_is_told_with_both_shapes() -> None:
    model = model_of("GPT2", "sdpa", **KINDS["GPT2"])
    cache = fill(model, IDS[:, :5])
    spoil(cache, "not appended")
    report = check(model, input_ids=IDS[:, 5:6], cache=cache)
    assert "key_heads is (B=2, H=4, S=5, D=8), and has to be (B=2, H=4, S=6, D=8)" in report.describe()


def test_cache_that_is_overwritten_between_two_calls_departs_in_the_next() -> None:
    """What a call left in it was right; somebody wrote into the same memory afterwards."""
    model = model_of("Llama", "sdpa", **KINDS["Llama"])
    with capture(model) as captured:
        cache = fill(model, IDS[:, :5])
        cache.layers[0].keys[:, :, 2] += 0.01
        fill(model, IDS[:, 5:6], cache=cache)
    assert departures(captured.report()) == ["", "key_heads"]


def test_sequences_of_a_cache_may_be_put_in_another_order_and_cut() -> None:
    model = model_of("Llama", "eager", **KINDS["Llama"])
    with capture(model) as captured:
        cache = fill(model, IDS[:, :5])
        cache.batch_select_indices(torch.tensor([1, 0, 1]))
        fill(model, IDS[[1, 0, 1], 5:6], cache=cache)
        cache.crop(-2)
        fill(model, IDS[[1, 0, 1], 4:6], cache=cache)
    report = captured.report()
    assert report, report.describe()
    assert [layer.facts["P"] for layer in report.layers] == [None, 5, 4]
    assert not any(layer.runs[0].notes for layer in report.layers)


def test_search_with_beams_is_checked_from_the_first_call_on() -> None:
    model = model_of("GPT2", "sdpa", **KINDS["GPT2"])
    torch.manual_seed(0)
    cache, ids = None, IDS
    with capture(model) as captured:
        cache = fill(model, ids)
        cache.batch_repeat_interleave(3)
        for _ in range(2):
            cache.batch_select_indices(torch.randint(0, 6, (6,)))
            fill(model, torch.randint(5, 50, (6, 1)), cache=cache)
    report = captured.report()
    assert report, report.describe()
    assert not any(layer.runs[0].notes for layer in report.layers)


def test_cache_of_another_making_is_not_guessed_at() -> None:
    import transformers

    model = model_of("Llama", "sdpa", **KINDS["Llama"])
    cache = transformers.StaticCache(config=model.config, max_cache_len=12)
    fill(model, IDS[:, :5], cache=cache)
    report = check(model, input_ids=IDS[:, 5:6], cache=cache)
    assert report.layers == []
    assert "a call that uses keys of earlier calls, from a StaticLayer, which is not known" in report.unchecked[0]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_to_an_encoder_is_checked_with_a_cache_too(implementation: str) -> None:
    model = model_of("Bart", implementation, **BART)
    report = check(model, input_ids=IDS)
    assert report, report.describe()
    assert [layer.name for layer in report.layers][2:] == ["decoder.layers.0.encoder_attn"]
    assert report.unchecked == []

    states = model.encoder(IDS)
    with capture(model) as captured:
        cache = model(encoder_outputs=states, decoder_input_ids=IDS[:, :1]).cache
        for start in (1, 2):
            model(encoder_outputs=states, decoder_input_ids=IDS[:, start : start + 1], cache=cache)
    report = captured.report()
    assert report, report.describe()
    assert report.unchecked == []
    facts = [(layer.name.rpartition(".")[2], layer.facts["S"], layer.facts["P"]) for layer in report.layers]
    assert facts == [
        *(("self_attn", 1, None), ("encoder_attn", 7, None)),
        *(("self_attn", 2, 1), ("encoder_attn", 7, None)),
        *(("self_attn", 3, 2), ("encoder_attn", 7, None)),
    ]
    model.decoder.layers[0].encoder_attn.out_proj.register_forward_hook(lambda module, args, output: output * 3)
    assert [bool(layer) for layer in check(model, input_ids=IDS).layers] == [True, True, False]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_keys_that_were_kept_of_another_encoders_states_are_caught(implementation: str) -> None:
    model = model_of("Bart", implementation, **BART)
    cache = model(input_ids=IDS, decoder_input_ids=IDS[:, :1]).cache
    others = model.encoder(IDS.flip(1))
    report = check(model, encoder_outputs=others, decoder_input_ids=IDS[:, 1:2], cache=cache)
    assert departures(report) == ["", "key_heads"]


def test_reference_with_keys_of_earlier_calls_is_that_of_the_whole_sequence(random: np.random.Generator) -> None:
    weights = Weights(random.normal(size=(8, 6)), *random.normal(size=(2, 4, 6)), output=random.normal(size=(6, 8)))
    x = random.normal(size=(2, 7, 6))
    settings = Settings(heads=4, key_heads=2, is_causal=True, rotary=rotary_of(np.arange(7), 2))
    whole = attend(x, x, x, weights, settings)
    past = Past(whole.key_heads[:, ::2, :5], whole.value_heads[:, ::2, :5])
    later = Settings(heads=4, key_heads=2, is_causal=True, rotary=rotary_of(np.arange(5, 7), 2), past=past)
    rest = attend(x[:, 5:], x[:, 5:], x[:, 5:], weights, later)
    assert np.allclose(rest.output, whole.output[:, 5:])
    assert np.allclose(rest.weights, whole.weights[:, :, 5:])
    wrong = Settings(heads=4, key_heads=2, past=Past(whole.key_heads[:, :, :5], whole.value_heads[:, :, :5]))
    with pytest.raises(InputError, match=r"the key heads of earlier calls are .*, and must be \(B=2, Hk=2, P=5, D=2\)"):
        attend(x[:, 5:], x[:, 5:], x[:, 5:], weights, wrong)
