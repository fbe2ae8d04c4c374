"""Layers whose weights are no parameters: buffers, attributes, what pruning leaves, what a parametrization computes."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize, prune

from jubako.attention import capture, check
from jubako.attention.checking.report import Report

from .mutants import Plain
from .test_what_is_not_known import IDS, model_of


class Mixed(torch.nn.Module):
    """A parametrization of somebody's own."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 0.5 * weight + weight.roll(1, dims=0)


def move(module: torch.nn.Module, kind: str, name: str) -> None:
    """Keeps a weight of a module in another way."""
    if kind in ("buffer", "attribute"):
        weight = getattr(module, name).detach().clone()
        delattr(module, name)
        if kind == "buffer":
            module.register_buffer(name, weight)
        else:
            setattr(module, name, weight)
    elif kind == "pruned":
        prune.l1_unstructured(module, name, 0.3)
    elif kind == "own parametrization":
        parametrize.register_parametrization(module, name, Mixed())
    else:
        norm = kind.removeprefix("older ")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the older ones say that they are
            getattr(torch.nn.utils if kind.startswith("older") else parametrizations, norm)(module, name)


KINDS = [
    *("buffer", "attribute", "pruned", "weight_norm", "spectral_norm", "older weight_norm", "older spectral_norm"),
    "own parametrization",
]


class KeysOff(Plain):
    def project(self, x, number):  # type: ignore[no-untyped-def]
        return super().project(x.roll(1, dims=1) if number == 1 else x, number)


def make(kind: str, base: type[torch.nn.Module] = torch.nn.MultiheadAttention) -> torch.nn.Module:
    torch.manual_seed(0)
    layer = base(16, 4, batch_first=True) if base is torch.nn.MultiheadAttention else base(16, 4)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    move(layer, kind, "in_proj_weight")
    if not kind.startswith("older"):  # these make it by a hook of the module, which torch's layer does not call
        move(layer.out_proj, kind, "weight")
    return layer


def hidden(report: Report) -> dict[str, set[str]]:
    runs = report.layers[0].runs
    return {run.name: {step.step for step in run.steps if step.verdict == "not_observable"} for run in runs}


X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_weights_that_are_no_parameters_are_known_in_every_step_and_left_as_they_were(
    kind: str, training: bool
) -> None:
    layer = make(kind).train(training)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    report = check(layer, X)
    assert report, report.describe()
    assert hidden(report)["slow path, need_weights=True"] == set()
    if training:
        changes = kind == "older spectral_norm"
        assert (len(hidden(report)["training"]) == 13) == changes
        assert ("its weights are others at each call in training" in report.describe()) == changes
    after = layer.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(module.training == training for module in layer.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_projection_of_weights_that_are_no_parameters_is_named(kind: str) -> None:
    report = check(make(kind, KeysOff).eval(), X)
    assert report.layers[0].first_departure.step == "key_projection"
    assert check(make(kind, Plain).eval(), X)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_projections_of_models_may_keep_their_weights_in_any_way(
    kind: str, training: bool, implementation: str
) -> None:
    model = model_of("Bert", implementation, attention_probs_dropout_prob=0.0).train(training)
    inner = model.encoder.layer[0].attention.self
    move(inner.query, kind, "weight")
    move(inner.value, kind, "weight")
    with capture(model) as captured:
        model(input_ids=IDS)
    report = captured.report()
    assert report, report.describe()
    assert report.unchecked == []
    (seen,) = hidden(report).values()
    assert "query_projection" not in seen | ({"output"} if training else set())
    inner.value.register_forward_hook(lambda module, args, output: output * 1.01)
    with capture(model) as captured:
        model(input_ids=IDS)
    assert captured.report().layers[0].first_departure.step == "value_heads"


def test_spectral_norm_goes_on_in_training_as_if_nobody_watched() -> None:
    def train(*, watched: bool) -> torch.Tensor:
        model = model_of("Bert", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0).train()
        parametrizations.spectral_norm(model.encoder.layer[0].attention.self.query)
        for _ in range(2):
            if watched:
                with capture(model):
                    model(input_ids=IDS)
            else:
                model(input_ids=IDS)
        weight: torch.Tensor = model.encoder.layer[0].attention.self.query.parametrizations.weight[0]._u
        return weight

    assert torch.equal(train(watched=True), train(watched=False))


def test_projections_that_share_one_weight_are_checked() -> None:
    model = model_of("Bert")
    inner = model.encoder.layer[0].attention.self
    inner.key = inner.query
    inner.value.weight = inner.query.weight
    report = check(model, input_ids=IDS)
    assert report, report.describe()
    assert hidden(report)["as called, eager"] == {"averaged_weights"}


def test_layer_without_any_parameter_is_checked_with_random_inputs() -> None:
    layer = make("buffer")
    for module in (layer, layer.out_proj):
        for name in [name for name, _ in module.named_parameters(recurse=False)]:
            move(module, "buffer", name)
    assert list(layer.parameters()) == []
    report = check(layer)
    assert report, report.describe()
    assert hidden(report)["slow path, need_weights=True"] == set()
