"""Layers in training, and calls that somebody else makes: what dropout leaves out, and what was really given back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from jubako.attention import CheckOptions, capture, check
from jubako.attention.checking.dropout import DroppedShare

from .drawn import draw_layer
from .mutants import Plain


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(5)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_right_layer_in_training_agrees_at_every_step(rate: float, dtype: torch.dtype) -> None:
    for seed in range(3):
        for module in (torch.nn.MultiheadAttention(16, 4, dropout=rate, batch_first=True), Plain(16, 4, dropout=rate)):
            layer = drawn(module).to(dtype).train()
            report = check(layer, torch.randn(3, 7, 16).to(dtype), options=CheckOptions(seed=seed))
            assert report, report.describe()
            run = report.layers[0].runs[0]
            assert run.name == "training, with dropout"
            seen = {verdict.step for verdict in run.steps if verdict.verdict != "not_observable"}
            assert {"weights", "context", "concatenated", "output"} <= seen


@pytest.mark.parametrize("seeds", [range(20), range(20, 40), range(40, 60), (239, 572)])  # the last: half is dropped
def test_layers_of_torch_in_training_with_everything_drawn_raise_no_alarm(seeds: Sequence[int]) -> None:
    for seed in seeds:
        module, inputs, arguments = draw_layer(seed)
        module.dropout = (0.0, 0.1, 0.5)[seed % 3]
        report = check(module.train(), *inputs, options=CheckOptions(seed=seed), **arguments)
        assert report, f"seed {seed}\n{report.describe()}"


def test_softmax_written_out_before_dropout_is_no_departure() -> None:
    class WrittenOut(Plain):
        def softmax(self, scores):  # type: ignore[no-untyped-def]
            powers = (scores - scores.amax(-1, keepdim=True)).exp()
            return powers / powers.sum(dim=-1, keepdim=True)

    report = check(drawn(WrittenOut(16, 4, dropout=0.3)).train(), torch.randn(3, 7, 16))
    assert report, report.describe()


def test_share_of_dropped_weights_is_told_where_it_is_not_that_of_the_rate() -> None:
    class Never(Plain):
        def drop(self, weights):  # type: ignore[no-untyped-def]
            return weights / (1 - self.dropout)

    report = check(drawn(Never(16, 4, dropout=0.3)).train(), torch.randn(3, 7, 16))
    assert "weights: dropout left out 0 of 588, and its rate is 0.3" in report.describe()


@pytest.mark.parametrize(
    ("zeros", "count", "rate", "holds"),
    [(30, 100, 0.3, True), (0, 50, 0.3, True), (0, 100, 0.3, False), (100, 100, 1.0, True), (99, 100, 1.0, False)],
)
def test_share_of_dropped_weights_is_held_to_what_chance_does(zeros: int, count: int, rate: float, holds: bool) -> None:
    assert DroppedShare(zeros, count, rate).holds == holds


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_share_is_refused_less_than_once_in_a_billion(rate: float) -> None:
    count = 400
    likely = [
        math.exp(
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
            + k * math.log(rate) + (count - k) * math.log(1 - rate)
        )
        for k in range(count + 1)
    ]  # fmt: skip
    refused = sum(p for k, p in enumerate(likely) if not DroppedShare(k, count, rate).holds)
    assert 0 < refused < 1e-9


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_layer_that_is_wrong_in_training_only_is_caught(rate: float) -> None:
    class Doubled(Plain):
        def finish(self, x):  # type: ignore[no-untyped-def]
            return self.out_proj(x) * (2.0 if self.training else 1.0)

    report = check(drawn(Doubled(16, 4, dropout=rate)).train(), torch.randn(3, 7, 16))
    name = "training, with dropout" if rate else "training"
    wrong = {run.name: run.first_departure.step for run in report.layers[0].runs if run.first_departure is not None}
    assert wrong == {name: "output", f"{name}, need_weights=False": "output"}


def test_dropout_that_nobody_names_is_not_compared() -> None:
    class Secret(Plain):
        def finish(self, x):  # type: ignore[no-untyped-def]
            return torch.nn.functional.dropout(self.out_proj(x), 0.5, self.training)

    report = check(drawn(Secret(16, 4)).train(), torch.randn(3, 7, 16))
    assert report, report.describe()
    assert "by chance, nobody knows how much: nothing is compared" in report.describe()


class Model(torch.nn.Module):
    """A layer whose first call, and no other, gives something else."""

    def __init__(self, factor: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(16, 4, batch_first=True, dropout=dropout)
        self.attention.register_forward_hook(self.change)
        self.factor = factor

    def change(self, module: object, inputs: object, result: tuple[torch.Tensor, torch.Tensor]) -> object:
        factor, self.factor = self.factor, 1.0
        return result[0] * factor, result[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.attention(x, x, x)[0]
        return output


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_call_that_really_happened_is_what_is_judged(factor: float) -> None:
    model = drawn(Model(factor)).eval()
    with capture(model) as captured:
        model(torch.randn(2, 5, 16))
    report = captured.report()
    run = report.layers[0].runs[0]
    assert run.name == "as called"
    assert bool(report) == (run.first_departure is None) == (factor == 1.0)


def test_call_in_training_with_dropout_is_told_to_be_not_compared() -> None:
    model = drawn(Model(dropout=0.2)).train()
    with capture(model) as captured:
        model(torch.randn(2, 5, 16))
    assert captured.report()
    assert "what this call gave back is not compared" in captured.report().describe()


def test_way_of_calling_that_raises_where_others_do_not_fails() -> None:
    class Raising(Plain):
        def returned(self, weights):  # type: ignore[no-untyped-def]
            raise KeyError("per head")

    report = check(drawn(Raising(16, 4)).eval(), torch.randn(2, 5, 16))
    assert not report
    assert (
        "need_weights=True, per head: raises KeyError: 'per head'" in report.describe() or "BROKEN" in report.describe()
    )
    assert {run.name: run.broken for run in report.layers[0].runs if run.broken} == {
        "need_weights=True, per head": "raises KeyError: 'per head'; and another way of calling it does not"
    }


def test_module_with_another_call_is_not_taken_for_one_of_torchs() -> None:
    class Alike(Plain):
        def forward(self, x, attn_mask=None):  # type: ignore[no-untyped-def]
            return x

    model = torch.nn.Sequential(Alike(16, 4), torch.nn.MultiheadAttention(16, 4, batch_first=True))
    with capture(model) as captured:
        model[0](torch.randn(2, 5, 16))
    assert captured.report().layers == []


def test_module_that_cannot_be_described_is_told_of_and_its_call_goes_on() -> None:
    class Bare(Plain):
        def __init__(self) -> None:
            super().__init__(16, 4)
            self.out_proj = torch.nn.Identity()  # type: ignore[assignment]

        def forward(self, query, key, value, **_):  # type: ignore[no-untyped-def]
            return query, None

    model = Bare().eval()
    x = torch.randn(2, 5, 16)
    with capture(model) as captured:
        assert model(x, x, x, need_weights=False)[0] is x
    assert captured.report().layers == []
    assert captured.report().unchecked == [
        "Bare: out_proj of Bare is a torch.nn.modules.linear.Identity, which has no tensor called weight"
    ]
