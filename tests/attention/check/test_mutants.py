"""Every wrong attention is caught, in single and in double precision, and named at the step where it goes wrong."""

from __future__ import annotations

import pytest
import torch

from jubako.attention import CheckOptions, check

from .mutants import MUTANTS, Plain

BATCH, LENGTH, EMBED, HEADS = 2, 6, 12, 3


def make(kind: type[Plain], dtype: torch.dtype, call: str) -> tuple[Plain, torch.Tensor, dict[str, object]]:
    torch.manual_seed(11)
    module = kind(EMBED, HEADS, dropout=0.3, add_bias_kv=call == "bias").to(dtype)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    module.train(call == "training")
    x = torch.randn(BATCH, LENGTH, EMBED, dtype=dtype) * (60 if call == "large" else 1)
    arguments: dict[str, object] = {}
    if call == "causal":
        arguments["is_causal"] = True
    if call == "mask":
        arguments["attn_mask"] = torch.rand(LENGTH, LENGTH).lt(0.4) & ~torch.eye(LENGTH, dtype=torch.bool)
    if call == "padding":
        arguments["key_padding_mask"] = torch.arange(LENGTH).expand(BATCH, LENGTH) >= torch.tensor([[6], [4]])
    return module, x, arguments


def test_there_are_enough_mutants() -> None:
    assert len(MUTANTS) >= 40


@pytest.mark.parametrize("call", sorted({mutant.call for mutant in MUTANTS.values()}))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_attention_written_out_rightly_agrees(call: str, dtype: torch.dtype) -> None:
    module, x, arguments = make(Plain, dtype, call)
    if call == "large":
        x = x / 4  # or scores would be beyond what half precision holds
    report = check(module, x, **arguments)
    assert report, report.describe()


@pytest.mark.parametrize("where", ["projection", "heads", "both heads"])
def test_scale_may_be_applied_anywhere(where: str) -> None:
    class Elsewhere(Plain):
        def project(self, x, number):  # type: ignore[no-untyped-def]
            projected = super().project(x, number)
            return projected * self.head_dim**-0.5 if where == "projection" and number == 0 else projected

        def score(self, q, k):  # type: ignore[no-untyped-def]
            if where == "heads":
                q = q * self.head_dim**-0.5
            if where == "both heads":
                q, k = q * self.head_dim**-0.25, k * self.head_dim**-0.25
            return q @ k.transpose(-1, -2)

    module, x, _ = make(Elsewhere, torch.float32, "plain")
    report = check(module, x)
    assert report, report.describe()
    seen = {v.step for v in report.layers[0].runs[0].steps if v.verdict != "not_observable"}
    assert ("query_heads" in seen) == (where != "projection")
    assert {"query_projection", "key_heads", "scores"} <= seen


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_mutant_is_caught_and_named_at_its_step(name: str, dtype: torch.dtype) -> None:
    mutant = MUTANTS[name]
    module, x, arguments = make(mutant.kind, dtype, mutant.call)
    if name == "KeysOfTheCallBefore":
        module(x.flip(1), x.flip(1), x.flip(1))
    report = check(module, x, options=CheckOptions(seed=3), **arguments)
    assert not report
    (layer,) = report.layers
    departures = [run.first_departure for run in layer.runs if run.first_departure is not None]
    assert departures, report.describe()
    assert departures[0].step == mutant.step, report.describe()
