"""Calls that use keys of earlier calls: what the cache holds has to be what these calls gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from jubako.attention import Past, Settings, Weights, attend, capture, check, rotary_of
from jubako.attention.checking.report import Report
from jubako.errors import InputError

from .test_file_families import BART
from .test_what_is_not_known import IDS, model_of

KINDS: dict[str, dict[str, Any]] = {
    "GPT2": {"n_embd": 32, "n_head": 4, "n_layer": 1, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0},
    "Llama": {"num_key_value_heads": 2},
    "Mistral": {"num_key_value_heads": 2, "sliding_window": 4},
    "Qwen3": {"num_key_value_heads": 2, "head_dim": 8},  # which keeps keys that were normalised
}
AS_GIVEN = "the keys and values in its cache are taken as given: nobody saw them being put there"


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
            last = int(layer.get_seq_length()) - 1
            return all_keys.index_copy(2, torch.tensor([last]), all_keys[:, :, last - 1 : last]), all_values
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


@pytest.mark.parametrize("start", range(0, 20, 5))
def test_generating_with_everything_drawn_raises_no_alarm(start: int) -> None:
    require_no_alarm(range(start, start + 5))


@pytest.mark.soak
@pytest.mark.parametrize("start", range(20, 420, 50))
def test_much_generating_with_everything_drawn_raises_no_alarm(start: int) -> None:
    require_no_alarm(range(start, start + 50))


def require_no_alarm(seeds: range) -> None:
    for seed in seeds:
        random = np.random.default_rng(seed)
        kind, implementation = list(KINDS)[seed % 4], str(random.choice(["eager", "sdpa"]))
        types = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
        is_rounded = implementation == "eager" or kind == "Qwen3"  # to float32: the softmax, and the norm of a head
        dtype = types[int(random.integers(0, 3 if is_rounded else 4))]
        model = model_of(kind, implementation, **KINDS[kind]).to(dtype)
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=float(random.choice([0.05, 0.2, 0.6])))
        batch, place = int(random.integers(1, 4)), int(random.choice([1, 2, 5]))
        ids, mask = torch.randint(5, 50, (batch, 24)), torch.ones(batch, 24, dtype=torch.long)
        mask[1:2, : int(random.integers(0, 2))] = 0
        under_autocast = dtype == torch.float32 and bool(random.random() < 0.4)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=under_autocast), capture(model) as captured:
            cache = fill(model, ids[:, :place], attention_mask=mask[:, :place])
            for _ in range(4):
                if random.random() < 0.3:
                    rows = torch.from_numpy(random.integers(0, batch, size=batch))
                    cache.batch_select_indices(rows)
                    ids, mask = ids[rows], mask[rows]
                if random.random() < 0.3 and kind != "Mistral" and place > 2:
                    cache.crop(-1)
                    place -= 1
                end = place + int(random.integers(1, 4))
                fill(model, ids[:, place:end], attention_mask=mask[:, :end], cache=cache)
                place = end
        report = captured.report()
        assert report, f"seed {seed}\n{report.describe()}"
        assert report.unchecked == []
        assert not any(run.notes for layer in report.layers for run in layer.runs)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["GPT2", "Llama", "Qwen3"])
@pytest.mark.parametrize("watched", [True, False])
def test_cache_of_fixed_size_is_checked_with_its_spare_room(kind: str, implementation: str, watched: bool) -> None:
    model = model_of(kind, implementation, **KINDS[kind])
    for how, step in ((None, ""), *WRONG.items()):
        cache = transformers.StaticCache(config=model.config, max_cache_len=8)
        if not watched:
            fill(model, IDS[:, :5], cache=cache)
        with capture(model) as captured:
            if watched:
                fill(model, IDS[:, :5], cache=cache)
            cache.crop(-1)
            if how:
                spoil(cache, how)
            fill(model, IDS[:, 4:6], cache=cache)
        report = captured.report()
        assert report.unchecked == []
        assert departures(report) == [*([""] if watched else []), step], report.describe()
        last = report.layers[-1]
        assert (last.facts["P"], last.facts["L"], last.facts["S"]) == (4, 2, 8)
        assert last.runs[0].notes == ([] if watched else [AS_GIVEN])


def test_cache_that_gets_its_parts_in_the_first_call_is_known_in_the_next() -> None:
    model = model_of("Llama", "sdpa", **KINDS["Llama"])
    cache = transformers.DynamicCache()
    with capture(model) as captured:
        fill(model, IDS[:, :5], cache=cache)
        fill(model, IDS[:, 5:6], cache=cache)
    report = captured.report()
    assert report, report.describe()
    assert not any(layer.runs[0].notes for layer in report.layers)


class Evicting(transformers.DynamicCache):
    """One that forgets what is old."""

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        all_keys, all_values = super().update(keys, values, layer_idx, *args, **kwargs)
        return all_keys[..., -2:, :], all_values[..., -2:, :]


@pytest.mark.parametrize("kind", ["Evicting", "StaticSlidingWindowLayer"])
def test_cache_that_may_do_more_than_to_append_is_not_guessed_at(kind: str) -> None:
    model = model_of("Llama" if kind == "Evicting" else "Mistral", "sdpa", **KINDS["Llama"], sliding_window=4)
    cache = Evicting() if kind == "Evicting" else transformers.StaticCache(config=model.config, max_cache_len=12)
    with torch.no_grad(), capture(model) as captured:
        model(input_ids=IDS[:, :2], use_cache=True, cache=cache)
        model(input_ids=IDS[:, 2:3], use_cache=True, cache=cache)
    report = captured.report()
    assert report.layers == []
    sentence = f"layers.0.self_attn: it is called with a cache, a {kind}, that is not known to do nothing but append"
    assert report.unchecked == [sentence]  # of two calls


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


CHANGES: dict[str, Any] = {
    "zeros": torch.zeros_like,
    "one per cent": lambda keys: keys * 1.01,
    "rolled": lambda keys: keys.roll(1, -2),
    "one row": lambda keys: torch.cat([keys[:1] * 1.01, keys[1:]]),
    "rounded": lambda keys: keys.bfloat16().float(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("part", ["keys", "values"])
@pytest.mark.parametrize("kind", ["GPT2", "Llama"])
def test_cache_whose_tensors_were_replaced_between_watched_calls_departs(kind: str, part: str, change: str) -> None:
    model = model_of(kind, "sdpa", **KINDS[kind])
    with torch.no_grad(), capture(model) as captured:
        cache = fill(model, IDS)
        for layer in cache.layers:
            setattr(layer, part, CHANGES[change](getattr(layer, part)))
        fill(model, IDS[:, :1], cache=cache)
    report = captured.report()
    assert not report
    assert report.layers[-1].first_departure.step == ("key_heads" if part == "keys" else "value_heads")


def test_cache_that_lost_a_sequence_and_holds_something_else_is_not_checked() -> None:
    model = model_of("Llama", "sdpa", **KINDS["Llama"])
    with torch.no_grad(), capture(model) as captured:
        cache = fill(model, IDS)
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys[:1] * 1.01, layer.values[:1]
        fill(model, IDS[:1, :1], cache=cache)
    assert [said.rpartition(": ")[2] for said in captured.report().unchecked] == [
        "its cache holds something else than the call before has put there"
    ]
