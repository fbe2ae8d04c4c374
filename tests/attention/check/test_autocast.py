"""Calls under autocast: judged as computed in the type that this casts to, from weights and inputs rounded to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jubako.attention import CheckOptions, capture, check

from .drawn import draw_layer
from .mutants import MUTANTS
from .test_mutants import make
from .test_what_is_not_known import IDS, model_of

TYPES = (torch.bfloat16, torch.float16)
OPTIONS: list[dict[str, Any]] = [{}, {"add_bias_kv": True}, {"bias": False}, {"add_zero_attn": True}, {"kdim": 5}]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("rate", [0.0, 0.2])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_layer_of_torch_agrees_under_autocast(options: dict[str, Any], rate: float, dtype: torch.dtype) -> None:
    for seed in range(2):
        torch.manual_seed(seed)
        layer = torch.nn.MultiheadAttention(16, 4, dropout=rate, batch_first=True, **options).train(rate > 0)
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        inputs = (torch.randn(3, 6, 16), torch.randn(3, 7, layer.kdim), torch.randn(3, 7, 16))
        with torch.autocast("cpu", dtype):
            report = check(layer, *inputs, attn_mask=torch.ones(6, 7).triu(2).bool())
        assert report, report.describe()
        assert report.layers[0].facts["dtype"] == str(dtype).removeprefix("torch.")
        run = report.layers[0].runs[0]
        assert {step.step for step in run.steps if step.verdict == "not_observable"} <= {"scores", "averaged_weights"}


@pytest.mark.parametrize("start", range(0, 40, 10))
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_layers_with_everything_drawn_raise_no_alarm_under_autocast(start: int, dtype: torch.dtype) -> None:
    """But those that give NaN or inf: too large for half precision, or masked as a whole by what becomes -inf in it."""
    for seed in range(4 * start, 4 * start + 40, 4):  # in single precision
        module, inputs, arguments = draw_layer(seed)
        with torch.no_grad(), torch.autocast("cpu", dtype):
            report = check(module, *inputs, options=CheckOptions(seed=seed), **arguments)
            output, weights = module(*inputs, average_attn_weights=False, **arguments)
        is_finite = bool(output.isfinite().all() and weights.isfinite().all())
        assert report or not is_finite, f"seed {seed}\n{report.describe()}"


MODELS: dict[str, dict[str, Any]] = {
    "Bert": {},
    "Llama": {"num_key_value_heads": 2},
    "Phi": {},
    "Qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "GPT2": {"n_embd": 32, "n_head": 4, "n_layer": 1, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0},
}


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_models_agree_under_autocast(kind: str, training: bool, implementation: str, dtype: torch.dtype) -> None:
    model = model_of(kind, implementation, **MODELS[kind]).train(training)
    with torch.autocast("cpu", dtype), capture(model) as captured:
        for _ in range(2):  # the second time the casts of the first are there
            model(input_ids=IDS)
    report = captured.report()
    assert report, report.describe()
    assert report.unchecked == []
    for layer in report.layers:
        assert layer.facts["dtype"] == str(dtype).removeprefix("torch.")
        seen = {step.step for run in layer.runs for step in run.steps if step.verdict != "not_observable"}
        assert {"query_projection", "key_projection", "value_projection", "context"} <= seen


TOO_SMALL = {  # for bfloat16: less than rounding may do
    *("KeysOnePercentOff", "OneWeightOnePercentOff", "OutputOnePercentOff", "OneOutputOnePercentOff"),
    *("ScoresAddedUpInHalfPrecision", "SoftmaxInHalfPrecision", "ContextAddedUpInHalfPrecision"),
}


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in TOO_SMALL])
def test_mutant_is_caught_under_autocast_and_named_at_its_step(name: str) -> None:
    mutant = MUTANTS[name]
    module, x, arguments = make(mutant.kind, torch.float32, mutant.call)
    if name == "KeysOfTheCallBefore":
        module(x.flip(1), x.flip(1), x.flip(1))
    with torch.autocast("cpu", torch.bfloat16):
        report = check(module, x, options=CheckOptions(seed=3), **arguments)
    departures = [run.first_departure for run in report.layers[0].runs if run.first_departure is not None]
    assert [departure.step for departure in departures[:1]] == [mutant.step], report.describe()


def test_double_precision_is_left_alone_by_autocast() -> None:
    layer = torch.nn.MultiheadAttention(16, 4, batch_first=True).double().eval()
    with torch.autocast("cpu", torch.bfloat16):
        report = check(layer, torch.randn(2, 5, 16).double())
    assert report, report.describe()
    assert report.layers[0].facts["dtype"] == "float64"


def test_projection_that_leaves_autocast_is_not_guessed_at() -> None:
    model = model_of("Llama")
    attention = model.layers[0].self_attn
    forward = attention.o_proj.forward

    def without_autocast(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            output: torch.Tensor = forward(x.float())
        return output

    attention.o_proj.forward = without_autocast
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), capture(model) as captured:
        model(input_ids=IDS)
    report = captured.report()
    assert report.layers == []
    assert "under autocast to bfloat16 and multiplies by weights in float32" in report.unchecked[0]
