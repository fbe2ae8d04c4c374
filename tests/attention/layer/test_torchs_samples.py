"""The calls with which torch tests its own layer, made to ours: the same results and the same gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.common_modules import module_inputs_torch_nn_MultiheadAttention

from jubako.attention import MultiheadAttention

from .by_hand import assert_near


def list_samples(*, training: bool) -> list[Any]:
    torch.manual_seed(0)  # they are drawn, by torch's own generator: the same whatever ran before
    given = {"device": "cpu", "dtype": torch.float64, "requires_grad": True, "training": training}
    return list(module_inputs_torch_nn_MultiheadAttention(None, **given))


def run(kind: type[nn.MultiheadAttention], sample: Any, *, training: bool) -> list[Tensor | None]:
    """What comes back, and the gradients of the parameters and of the query."""
    torch.manual_seed(0)
    made, called = sample.constructor_input, sample.forward_input
    layer = kind(*made.args, **made.kwargs, dtype=torch.float64).train(training)
    query, *others = called.args
    query = query.detach().clone().requires_grad_()
    output, weights = layer(query, *others, **called.kwargs)
    total = output.square().sum() if weights is None else output.square().sum() + weights.square().sum()
    total.backward()
    return [output, weights, query.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("training", [False, True])
def test_samples_of_torch_give_what_torch_gives(training: bool) -> None:
    samples = list_samples(training=training)
    assert len(samples) > 50
    for sample in samples:
        theirs = run(nn.MultiheadAttention, sample, training=training)
        ours = run(MultiheadAttention, sample, training=training)
        assert len(ours) == len(theirs)
        for mine, their in zip(ours, theirs, strict=True):
            assert (mine is None) == (their is None)
            if mine is not None:
                assert_near(mine, their)
