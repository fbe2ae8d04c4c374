"""Bounds hold for numbers of any size: masks that are large numbers, scores of millions, values at a type's ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from jubako.attention import check, check_steps
from jubako.attention.checking.compare import compare
from jubako.attention.checking.judge import Call
from jubako.attention.checking.precision import PRECISIONS
from jubako.attention.checking.sentences import describe_departure
from jubako.attention.description import Settings, Weights
from jubako.errors import InputError

from .mutants import MUTANTS, Plain


def make(seed: int = 0, dtype: torch.dtype = torch.float32, embed: int = 16) -> torch.nn.MultiheadAttention:
    torch.manual_seed(seed)
    return torch.nn.MultiheadAttention(embed, 4, batch_first=True).to(dtype).eval()


@pytest.mark.parametrize("far", [-1e4, -1e7, -1e9, torch.finfo(torch.float32).min])
def test_row_in_which_a_large_number_stands_everywhere_is_no_departure(far: float) -> None:
    mask = torch.zeros(5, 5)
    mask[2], mask[:, 4] = far, far
    padding = torch.zeros(2, 5)
    padding[1] = far
    module, x = make(), torch.randn(2, 5, 16)
    for arguments in ({"attn_mask": mask}, {"key_padding_mask": padding}):
        report = check(module, x, **arguments)
        assert report, report.describe()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("largest", [300.0, 1e4, 1e7])
def test_scores_of_any_size_are_no_departure(dtype: torch.dtype, largest: float) -> None:
    largest = min(largest, 1e4) if dtype == torch.float16 else largest
    for seed in range(4):
        module, x = make(seed, dtype, 32), torch.randn(2, 12, 32).to(dtype)
        plain = check(module, x).layers[0].facts["largest_score"]
        report = check(module, (x.double() * (largest / float(str(plain))) ** 0.5).to(dtype))
        assert report, report.describe()


@pytest.mark.parametrize(
    "name",
    ["ValuesOnePercentOff", "ValueHeadsRolled", "OneHeadZeroed", "OutputOnePercentOff", "OutputWeightsTransposed"],
)
def test_error_in_values_beyond_the_root_of_the_largest_number_is_caught(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 12, dtype=torch.float64)
    for kind, is_right in ((MUTANTS[name].kind, False), (Plain, True)):
        module = kind(12, 3).double().eval()
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        assert bool(check(module, x, x, x * 1e160)) == is_right


def test_inputs_whose_squares_are_lost_are_no_departure() -> None:
    report = check(make(dtype=torch.float64), torch.randn(2, 5, 16, dtype=torch.float64) * 1e-170)
    assert report, report.describe()


def test_scores_beyond_double_precision_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be judged: its scores, or its output, are beyond"):
        check(make(dtype=torch.float64), torch.randn(2, 5, 16, dtype=torch.float64) * 1e160)


def test_bound_that_is_not_finite_is_never_a_pass() -> None:
    one = np.ones((1, 2, 3))
    compared = compare(one, one, np.array(np.inf), PRECISIONS["float64"])
    assert compared.out == 0
    assert not compared.holds

    x = np.array([[[1e200, 0.0]] * 3])
    small, turned = np.eye(2) * 1e-200, np.array([[0.0, 1e150], [0.0, 0.0]])  # lengths whose product is too large
    call = Call(Weights(turned, small, small, np.eye(2)), Settings(1), x, x, x, PRECISIONS["float64"])
    report = check_steps({"query_projection": np.zeros((1, 3, 2))}, call)
    assert not report
    assert report.layers[0].first_departure.verdict == "not_judged"
    assert "NOT JUDGED" in report.describe()
    assert "first departure: query_projection cannot be judged" in report.describe()


def test_weight_on_a_forbidden_key_is_caught_however_small() -> None:
    class Leaking(Plain):
        def softmax(self, scores: Tensor) -> Tensor:
            weights = scores.softmax(dim=-1)
            return torch.where(torch.isneginf(scores), torch.full_like(weights, 2e-7), weights)

    torch.manual_seed(0)
    mask = torch.ones(6, 6, dtype=torch.bool).triu(1)
    for kind, is_right in ((Leaking, False), (Plain, True)):
        module = kind(12, 3).half().eval()
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        report = check(module, torch.randn(2, 6, 12).half(), attn_mask=mask)
        assert bool(report) == is_right


def test_what_rounds_nothing_is_told_to_be_allowed_nothing() -> None:
    torch.manual_seed(0)
    module = MUTANTS["ValueHeadsRolled"].kind(12, 3).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    departure = check(module, torch.randn(2, 6, 12)).layers[0].first_departure
    assert departure is not None
    assert "allowed 0;" in describe_departure(departure)
