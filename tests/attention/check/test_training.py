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

    def __init__(self, factor: float = 1.0, dropout: float = 0.0, need_weights: bool = True) -> None:
        super().__init__()
        self.need_weights = need_weights
        self.attention = torch.nn.MultiheadAttention(16, 4, batch_first=True, dropout=dropout)
        self.attention.register_forward_hook(self.change)
        self.factor = factor

    def change(self, module: object, inputs: object, result: tuple[torch.Tensor, torch.Tensor]) -> object:
        factor, self.factor = self.factor, 1.0
        return result[0] * factor, result[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.attention(x, x, x, need_weights=self.need_weights)[0]
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


@pytest.mark.parametrize("factor", [1.0, 1.01])
@pytest.mark.parametrize("need_weights", [True, False])
def test_call_in_training_with_dropout_is_judged_from_what_it_left_out(factor: float, need_weights: bool) -> None:
    model = drawn(Model(factor, dropout=0.2, need_weights=need_weights)).train()
    with capture(model) as captured:
        model(torch.randn(2, 5, 16))
    report = captured.report()
    assert bool(report) == (factor == 1.0), report.describe()
    run = report.layers[0].runs[0]
    assert run.name == "as called"
    assert {step.step for step in run.steps if step.verdict == "not_observable"} == {"averaged_weights"}
    assert factor == 1.0 or run.first_departure.step == "output"


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


@torch.library.custom_op("jubako_tests::_scaled_dot_product_flash_attention", mutates_args=())
def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rate: float, factor: float) -> torch.Tensor:
    """A kernel that drops weights by itself and shows none, as those of graphics processors do."""
    weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
    return torch.nn.functional.dropout(weights, rate) @ value * factor


class Fused(torch.nn.Module):
    """Attention by such a kernel, with parts that are named like those of the transformers library."""

    def __init__(self, rate: float, kernel: float = 1.0, order: int = 0, output: float = 1.0) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (torch.nn.Linear(8, 8) for _ in range(4))
        self.head_dim, self.attention_dropout = 4, rate
        self.kernel, self.order, self.output = kernel, order, output

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        batch, length, _ = hidden_states.shape
        parts = (self.q_proj, self.k_proj, self.v_proj)
        heads = [part(hidden_states).view(batch, length, 2, 4).transpose(1, 2) for part in parts]
        context = fused(*heads, self.attention_dropout if self.training else 0.0, self.kernel)
        joined = context.transpose(1, 2).reshape(batch, length, 8).roll(self.order, dims=-1)
        return self.o_proj(joined) * self.output  # type: ignore[no-any-return]


NOT_SEEN = "the context is not compared: nobody saw which weights were left out; what follows from it is"


@pytest.mark.parametrize("rate", [0.1, 0.9])
@pytest.mark.parametrize("sizes", [(2, 5), (3, 3)])
def test_kernel_that_drops_weights_unseen_is_checked_as_far_as_that_goes(rate: float, sizes: tuple[int, int]) -> None:
    model = drawn(torch.nn.Sequential(Fused(rate))).train()
    with capture(model) as captured:
        model(torch.randn(*sizes, 8))
    report = captured.report()
    assert report, report.describe()
    training, again = report.layers[0].runs
    assert list(training.notes) == [NOT_SEEN]
    hidden = {"scores", "masked_scores", "weights", "averaged_weights"}
    assert {step.step for step in training.steps if step.verdict == "not_observable"} == {*hidden, "context"}
    assert again.name == "called once more, out of training"
    assert {step.step for step in again.steps if step.verdict == "not_observable"} == hidden
    assert model.training
    assert model[0].training


@pytest.mark.parametrize(
    ("wrong", "steps"),
    [
        ({"kernel": 1.01}, [None, "context"]),  # in training nobody can tell that from what was left out
        ({"order": 1}, ["concatenated", "concatenated"]),
        ({"output": 1.01}, ["output", "output"]),
    ],
)
def test_what_is_wrong_after_a_kernel_that_drops_weights_unseen_is_named(
    wrong: dict[str, float], steps: list[str]
) -> None:
    model = drawn(torch.nn.Sequential(Fused(0.2, **wrong))).train()  # type: ignore[arg-type]
    with capture(model) as captured:
        model(torch.randn(2, 5, 8))
    departures = [run.first_departure for run in captured.report().layers[0].runs]
    assert [departure and departure.step for departure in departures] == steps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_fused_kernel_in_training_shows_all_that_it_does_with_dropout(rate: float, dtype: torch.dtype) -> None:
    """On processors torch drops weights in operations of their own, one after the other."""
    layer = drawn(torch.nn.MultiheadAttention(16, 4, dropout=rate, batch_first=True)).to(dtype).train()
    report = check(layer, torch.randn(3, 6, 16).to(dtype))
    assert report, report.describe()
    run = next(
        run for run in report.layers[0].runs if run.name.endswith(", need_weights=False") and "train" in run.name
    )
    hidden = {step.step for step in run.steps if step.verdict == "not_observable"}
    assert hidden == ({"averaged_weights"} if rate else {"scores", "masked_scores", "weights", "averaged_weights"})


@pytest.mark.parametrize("kind", ["right", "wrong"])
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_subclass_with_a_call_of_its_own_is_checked_in_that_call(kind: str, rate: float) -> None:
    class Own(torch.nn.MultiheadAttention):
        def forward(self, x):  # type: ignore[no-untyped-def]
            return super().forward(x, x.roll(1, dims=1) if kind == "wrong" else x, x)[0]

    layer = drawn(Own(16, 4, dropout=rate, batch_first=True)).train()
    with capture(torch.nn.Sequential(layer)) as captured:
        layer(torch.randn(2, 5, 16))
    for report in (captured.report(), check(layer, torch.randn(2, 5, 16)), check(layer)):
        assert bool(report) == (kind == "right"), report.describe()
        run = report.layers[0].runs[0]
        assert run.name == "as called"
        assert kind == "right" or run.first_departure.step == "key_projection"
