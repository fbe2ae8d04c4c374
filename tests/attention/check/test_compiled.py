"""Modules that torch.compile has been at: looked into as they are written, and what they give is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from jubako.attention import capture, check

from .mutants import Plain
from .test_what_is_not_known import IDS, model_of


def right(graph: Any, inputs: Any) -> Callable[..., Any]:
    """A compiler that changes nothing."""
    return graph.forward  # type: ignore[no-any-return]


def wrong(graph: Any, inputs: Any) -> Callable[..., Any]:
    """One that makes a mistake: all its numbers are doubled."""

    def run(*args: Any) -> tuple[Any, ...]:
        return tuple(each * 2 if each.is_floating_point() else each for each in graph(*args))

    return run


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", [right, wrong])
@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_layer_is_looked_into_as_written_and_its_results_are_compared(backend: Any, in_place: bool) -> None:
    torch.manual_seed(0)
    layer: Any = torch.nn.MultiheadAttention(16, 4, batch_first=True).eval()
    if in_place:  # which torch leaves as they are if they are its own
        layer = Plain(16, 4).eval()
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        layer.compile(backend=backend)
    else:
        layer = torch.compile(layer, backend=backend)
    report = check(layer, torch.randn(2, 5, 16))
    assert bool(report) == (backend is right), report.describe()
    runs = {run.name: run.first_departure for run in report.layers[0].runs}
    departing = {name for name, departure in runs.items() if departure is not None}
    ways = {f"compiled, need_weights={how}" for how in ("True", "True, per head", "False")}
    assert ways <= runs.keys()
    assert departing == (set() if backend is right else ways)


@pytest.mark.parametrize("was_called", [True, False])
@pytest.mark.parametrize("kind", ["encoder", "Bert"])
def test_attention_in_a_compiled_model_is_checked_as_written_and_the_rest_is_told(kind: str, was_called: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    plain, args = (layer, (torch.randn(2, 5, 16),)) if kind == "encoder" else (model_of("Bert"), (IDS,))
    model: Any = torch.compile(plain, backend=right)
    if was_called:  # what is compiled knows of no hooks
        with torch.no_grad():
            model(*args)
    report = check(model, *args)
    assert report, report.describe()
    assert report.layers[0].name.startswith("_orig_mod.")
    assert report.unchecked == ["OptimizedModule: what it was compiled to; checked is what was run as it is written"]


def test_calls_in_a_compiled_model_that_nobody_can_see_are_told_of() -> None:
    model: Any = torch.compile(model_of("Bert"), backend=right)
    with torch.no_grad():
        model(IDS)
        with capture(model) as captured:
            model(IDS)
    report = captured.report()
    assert not report
    assert report.unchecked == ["OptimizedModule: calls within what it was compiled to"]


def test_module_of_a_model_that_is_compiled_by_itself_is_checked_in_its_calls() -> None:
    model = model_of("Bert", "sdpa")
    model.encoder.layer[0].attention.compile(backend=right)
    report = check(model, input_ids=IDS)
    assert report, report.describe()
    assert [sentence.partition(":")[0] for sentence in report.unchecked] == ["encoder.layer.0.attention"]
