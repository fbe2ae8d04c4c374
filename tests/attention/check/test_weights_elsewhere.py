"""Layers whose weights are no parameters: buffers, what is left by pruning, what a parametrization computes."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils import parametrizations, prune

from jubako.attention import check


def layer_with_weights(kind: str) -> torch.nn.MultiheadAttention:
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(16, 4, batch_first=True).eval()
    if kind == "buffer":
        weight = layer.in_proj_weight.detach().clone()
        del layer.in_proj_weight
        layer.register_buffer("in_proj_weight", weight)
    elif kind == "pruned":
        prune.l1_unstructured(layer, "in_proj_weight", 0.3)
    elif kind == "spectral_norm":
        parametrizations.spectral_norm(layer, "in_proj_weight")
    else:
        parametrizations.weight_norm(layer.out_proj)
    return layer


@pytest.mark.parametrize("kind", ["buffer", "pruned", "spectral_norm", "weight_norm"])
def test_weights_that_are_no_parameters_raise_no_alarm_and_hide_no_error(kind: str) -> None:
    layer = layer_with_weights(kind)
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    report = check(layer, x)
    assert report, report.describe()
    seen = {step.step for run in report.layers[0].runs for step in run.steps if step.verdict != "not_observable"}
    assert {"scores", "weights", "context", "output"} <= seen
    layer.register_forward_hook(lambda module, args, result: (result[0] * 1.01, result[1]))
    assert not check(layer, x)
