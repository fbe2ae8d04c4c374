"""What a live model may do that is no fault of its attention, or more than the attention that is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from jubako.attention import CheckOptions, SizeError, assert_attention_matches, capture, check
from jubako.attention.checking.report import Report
from jubako.errors import InputError

F = torch.nn.functional
X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))


def encoder(depth: int = 3, **others: Any) -> torch.nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, **{"batch_first": True, **others})
    return torch.nn.TransformerEncoder(layer, depth, enable_nested_tensor=False).eval()


def bert() -> BertModel:
    torch.manual_seed(0)
    return BertModel(
        BertConfig(
            vocab_size=50,
            num_hidden_layers=3,
            hidden_size=24,
            num_attention_heads=3,
            intermediate_size=32,
        )
    ).eval()


IDS = torch.arange(18).reshape(2, 9)


def spoil(parameter: torch.nn.Parameter, value: float = math.nan) -> None:
    with torch.no_grad():
        parameter.view(-1)[0] = value


def verdicts(report: Report) -> dict[str, list[tuple[str, str, str]]]:
    return {
        layer.name: [
            (v.step, v.verdict, v.origin) for run in layer.runs for v in run.steps if v.verdict == "non_finite"
        ]
        for layer in report.layers
    }


# --- NaN and inf -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_that_reaches_attention_is_a_failure_with_the_module_it_came_from(value: float) -> None:
    model = bert()
    spoil(model.encoder.layer[0].intermediate.dense.weight, value)
    report = check(model, IDS)
    assert not report
    found = verdicts(report)
    assert found["encoder.layer.0.attention"] == []
    for number in (1, 2):
        assert found[f"encoder.layer.{number}.attention"] == [("query", "non_finite", "propagated")]
        trap = next(layer.traps[0] for layer in report.layers if layer.name.startswith(f"encoder.layer.{number}."))
        assert trap.name == "non_finite_input"
        assert "that came first from encoder.layer.0.intermediate.dense (Linear, whose weight holds " in trap.sentence
    with pytest.raises(AssertionError, match="NOT FINITE"):
        assert_attention_matches(model, IDS)
    rows = [row for row in report.to_rows() if row["verdict"] == "non_finite"]
    assert [row["layer"] for row in rows] == ["encoder.layer.1.attention", "encoder.layer.2.attention"]
    assert (
        'name="query"><failure message="query is nan at batch 0, row 0, feature 0, which came in"' in report.to_junit()
    )


def test_nan_on_both_paths_of_a_whole_layer_is_no_agreement() -> None:
    model = encoder()
    spoil(model.layers[0].linear1.weight)
    report = check(model, X)
    found = verdicts(report)
    assert found["whole layers"] == [("output", "non_finite", "propagated")]
    assert found["layers.1.self_attn"] == [("query", "non_finite", "propagated")]
    assert not report.layers[-1]
    assert "paths_disagree" not in [trap.name for trap in report.layers[-1].traps]


def test_nan_that_the_model_is_called_with_is_told_as_that() -> None:
    x = X.clone()
    x[0, 1, 2] = math.nan
    report = check(encoder(1), x)
    assert not report
    assert "first from what TransformerEncoder is called with, which holds nan" in report.layers[0].traps[0].sentence
    assert report.layers[0].first_departure is not None
    assert report.layers[0].first_departure.told is not None
    assert report.layers[0].first_departure.told.place == (0, 1, 2)


class Dividing(torch.nn.Module):
    """Makes NaN by itself, before or after its attention."""

    def __init__(self, *, before: bool) -> None:
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
        self.before = before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = (x - x) / (x - x) if self.before else x
        z: torch.Tensor = self.attention(y, y, y)[0]
        return z if self.before else z / (x - x)


def test_nan_that_an_operation_makes_is_told_by_the_module_it_is_in() -> None:
    report = check(Dividing(before=True).eval(), X)
    assert not report
    sentence = report.layers[0].traps[0].sentence
    assert "first from an operation of Dividing itself, before it called attention" in sentence


def test_nan_after_all_attention_is_a_failure_of_the_model() -> None:
    report = check(Dividing(before=False).eval(), X)
    assert [bool(layer) for layer in report.layers] == [True, False]
    assert report.layers[1].name == "the model"
    assert report.layers[1].broken == "it gives NaN or inf, which came first from Dividing (Dividing)"


def test_mask_of_nan_in_a_model_is_a_failure() -> None:
    mask = torch.zeros(5, 5)
    mask[1, 2] = math.nan
    report = check(encoder(1), X, mask=mask)
    assert not report
    assert ("attention_mask", "non_finite", "propagated") in verdicts(report)["layers.0.self_attn"]


def test_nan_is_found_while_a_model_is_used() -> None:
    model = bert()
    spoil(model.encoder.layer[0].intermediate.dense.weight)
    with torch.no_grad(), capture(model) as captured:
        model(IDS)
    assert not captured.report()
    assert "encoder.layer.0.intermediate.dense" in captured.report().describe()


def test_minus_inf_in_masks_is_no_fault() -> None:
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
    report = check(encoder(2), X, mask=mask, is_causal=True)
    assert report, report.describe()


# --- what the model raises -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["layer", "stack"])
def test_hint_that_only_the_fast_path_takes_is_named_as_dropped(kind: str) -> None:
    model = encoder(2) if kind == "stack" else encoder(1).layers[0]
    report = check(model, X, is_causal=True)
    assert not report
    assert all("causal_hint_dropped" in [trap.name for trap in layer.traps] for layer in report.layers)
    assert report.layers[-1].name == "whole layers"
    assert "without torch's fast path it raises RuntimeError: Need attn_mask" in report.layers[-1].broken


def test_hint_that_no_path_takes_is_the_models_error() -> None:
    with pytest.raises(InputError, match="the model raises RuntimeError: Need attn_mask if specifying the is_causal"):
        check(encoder(1, batch_first=False), X, is_causal=True)


def misspelt() -> Report:
    return check(encoder(1), X, scr_mask=torch.zeros(5, 5))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: check(encoder(1), X[..., :12]), "the model raises AssertionError: was expecting embedding dimension"),
        (lambda: check(encoder(1), X, mask=torch.zeros(4, 4)), "the model raises RuntimeError: The shape of the 2D"),
        (misspelt, r"the model raises TypeError: .*unexpected keyword argument 'scr_mask'"),
        (lambda: check(bert(), IDS + 50), "the model raises IndexError: index out of range in self"),
        (lambda: check(encoder(1).bfloat16(), X), "the model raises RuntimeError: expected m1 and m2"),
    ],
)
def test_what_the_model_raises_is_told_as_that_in_a_sentence(call: Callable[[], Report], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        call()
    assert "\n" not in raised.value.message


# --- memory ----------------------------------------------------------------------------------------------------------


def test_models_whose_calls_would_not_fit_are_refused_before_they_run() -> None:
    options = CheckOptions(memory_bytes=1 << 20)
    for model, given in ((encoder(2), torch.zeros(1, 200, 16)), (bert(), torch.zeros(1, 200, dtype=torch.long))):
        with pytest.raises(SizeError, match=r"re-deriving B=1, H=., L=200, S=200 takes 0.0 GiB") as refused:
            check(model, given, options=options)
        assert refused.value.needed_bytes > refused.value.available_bytes == 1 << 20


def test_tokens_whose_masks_alone_no_memory_has_are_refused_before_the_model_makes_them() -> None:
    model = LlamaModel(
        LlamaConfig(vocab_size=9, hidden_size=24, num_attention_heads=3, num_hidden_layers=1, intermediate_size=32)
    )
    for given in ((torch.zeros(1, 300_000, dtype=torch.long),), ()):
        named = {} if given else {"input_ids": torch.zeros(1, 300_000, dtype=torch.long)}
        with pytest.raises(SizeError, match=r"H=3, L=300000, S=300000 takes .* GiB"):
            check(model, *given, **named)


@pytest.mark.parametrize("length", [40_000, 300_000])
def test_lengths_that_no_memory_has_are_refused_with_the_estimate(length: int) -> None:
    with pytest.raises(SizeError, match=rf"H=4, L={length}, S={length} takes .* GiB"):
        check(encoder(1), torch.zeros(1, length, 16))
    with pytest.raises(SizeError, match=rf"H=4, L={length}, S={length} takes .* GiB"):
        check(encoder(1).layers[0], torch.zeros(1, length, 16))


def test_call_of_a_users_own_goes_on_where_checking_it_would_not_fit() -> None:
    model = encoder(1)
    with torch.no_grad(), capture(model, CheckOptions(memory_bytes=1)) as captured:
        given = model(X)
    assert torch.allclose(given, model(X), atol=1e-5)
    assert any(
        "layers.0.self_attn: re-deriving B=2, H=4, L=5, S=5 takes" in each for each in captured.report().unchecked
    )


class Greedy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.empty(1 << 58, dtype=torch.uint8)


def test_model_that_itself_asks_for_too_much_is_refused_as_that() -> None:
    with pytest.raises(SizeError, match="the model itself needs more memory than there is: RuntimeError: "):
        check(Greedy(), X)


# --- attention that is not known -------------------------------------------------------------------------------------


class Own(torch.nn.Module):
    """Attention of somebody's own: fused, or in steps."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.qkv = torch.nn.Linear(16, 48)
        self.form = form

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).view(*x.shape[:2], 3, 4, 4).permute(2, 0, 3, 1, 4)
        if self.form == "fused":
            return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        scores = torch.einsum("bhld,bhsd->bhls", query, key) / 2
        if self.form == "by hand":
            exponential = (scores - scores.amax(-1, keepdim=True)).exp()
            weights = exponential / exponential.sum(-1, keepdim=True)
        else:
            weights = F.dropout(scores.softmax(-1), 0.0)
        return (weights @ value).transpose(1, 2).flatten(2)


class Block(torch.nn.Module):
    """That, and a layer that is known after it."""

    def __init__(self, own: torch.nn.Module) -> None:
        super().__init__()
        self.mixer = torch.nn.ModuleDict({"own": own})
        self.known = torch.nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.mixer["own"](x)
        z: torch.Tensor = self.known(y, y, y)[0]
        return z


WAYS = {
    "fused": "scaled_dot_product_attention",
    "in steps": "a product, a softmax, and another product",
    "by hand": "a product, a softmax, and another product",
}


@pytest.mark.parametrize("form", WAYS)
@pytest.mark.parametrize("captures", [False, "no grad", "inference"])
def test_attention_that_is_not_known_is_listed_by_its_module(form: str, captures: str | bool) -> None:
    model = Block(Own(form)).eval()
    if captures:
        with torch.inference_mode() if captures == "inference" else torch.no_grad(), capture(model) as captured:
            model(X)
        report = captured.report()
    else:
        report = check(model, X)
    assert report.unchecked == [
        f"mixer.own: attention is computed in it ({WAYS[form]}) outside of any layer that is known, "
        "and that is not re-derived"
    ]
    assert report, report.describe()
    assert report.describe().splitlines()[-1].endswith("; 1 not checked")
    assert '<testsuite name="not checked" tests="1" failures="0" errors="0" skipped="1">' in report.to_junit()


def test_attention_that_is_not_known_is_not_asked_for_by_another_name() -> None:
    assert check(Block(Own("fused")).eval(), X, options=CheckOptions(layer="known")).unchecked == []


class Gated(torch.nn.Module):
    """Products and softmaxes that are no attention: a gate over experts, and scores of a retrieval."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = torch.nn.Linear(16, 3)
        self.experts = torch.nn.Parameter(torch.randn(3, 16, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shares = self.gate(x).softmax(-1)
        every = torch.stack([x @ expert for expert in self.experts], -1)
        similar = torch.bmm(x, x.transpose(1, 2)).amax(-1, keepdim=True)
        return (every * shares.unsqueeze(-2)).sum(-1) + 0 * similar


def test_products_and_softmaxes_that_are_no_attention_are_not_listed() -> None:
    report = check(Block(Gated()).eval(), X)
    assert report.unchecked == []
    assert report


def test_models_that_are_known_have_nothing_that_is_not() -> None:
    assert check(bert(), IDS).unchecked == []
    assert check(encoder(2), X).unchecked == []


def test_report_of_nothing_that_was_checked_fails_in_junit_too() -> None:
    report = Report("Model", [], (), "", ["a.b: it was not called"])
    assert not report
    assert '<testcase classname="not checked" name="any layer"><failure message="no layer was checked"/>' in (
        report.to_junit()
    )


# --- what must not be disturbed --------------------------------------------------------------------------------------


class Interrupted(torch.nn.Module):
    def __init__(self, after: torch.nn.Module) -> None:
        super().__init__()
        self.after = after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.after(x)
        raise KeyboardInterrupt


def test_interrupt_leaves_nothing_behind() -> None:
    model = Interrupted(encoder(1))
    with pytest.raises(KeyboardInterrupt):
        check(model, X)
    with pytest.raises(KeyboardInterrupt), capture(model):
        model(X)
    assert _get_current_dispatch_mode() is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Scripted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU()))
        self.scripted = torch.jit.script(torch.nn.MultiheadAttention(16, 4, batch_first=True))
        self.known = torch.nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        y = self.scripted(y, y, y)[0]
        z: torch.Tensor = self.known(y, y, y)[0]
        return z


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_parts_that_are_scripted_are_not_watched_and_that_is_said() -> None:
    report = check(Scripted().eval(), X)
    assert report, report.describe()
    assert "scripted: it is scripted, and what that calls nobody can watch" in report.unchecked


def test_training_goes_on_as_if_nobody_watched() -> None:
    results = []
    for watches in (False, True):
        model = encoder(2, dropout=0.0).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with capture(model) if watches else nullcontext() as captured:
            for _ in range(2):
                optimizer.zero_grad()
                model(X).square().sum().backward()
                optimizer.step()
        results.append(torch.cat([each.detach().reshape(-1) for each in model.parameters()]))
    assert torch.equal(*results)
    assert captured.report()
    assert len(captured.report().layers) == 4


def test_decoder_whose_hint_only_the_fast_path_takes_is_named() -> None:
    torch.manual_seed(0)
    layer = torch.nn.TransformerDecoderLayer(16, 4, 32, batch_first=True).eval()
    report = check(layer, X, X, tgt_is_causal=True)
    assert not report
    assert "causal_hint_dropped" in [trap.name for trap in report.layers[0].traps]
    assert any(
        each.startswith("TransformerDecoderLayer: the rest of it, as the model raises") for each in report.unchecked
    )
