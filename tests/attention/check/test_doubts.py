"""What a doubting user tries: layers in parts, in transforms, in threads; each is checked, or refused in a sentence."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from jubako.attention import capture, check
from jubako.errors import InputError

from .test_what_is_not_known import IDS, model_of

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))


def layer(**options: Any) -> torch.nn.MultiheadAttention:
    torch.manual_seed(0)
    return torch.nn.MultiheadAttention(16, 4, **{"batch_first": True} | options).eval()


class Model(torch.nn.Module):
    """Two layers, of which one is called, or its `forward`, or none for an error."""

    def __init__(self, how: str = "called") -> None:
        super().__init__()
        self.used, self.spare, self.how = layer(), layer(), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "raises":
            raise KeyError("nothing here")
        call = self.used.forward if self.how == "by forward" else self.used
        output: torch.Tensor = call(x, x, x)[0]
        return output


def moved(to: object) -> torch.nn.MultiheadAttention:
    module = layer()
    module.out_proj.to(to)
    return module


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: check(moved("meta"), X), "the weights of MultiheadAttention are on meta, and have no numbers"),
        (lambda: check(moved(torch.float16), X), "are of more than one type: float16, float32"),
        (lambda: check(layer(), X.to_sparse()), "a tensor is of layout torch.sparse_coo"),
        (lambda: check(layer(), X, attn_mask=torch.zeros(5, 5).to_sparse()), "a tensor is of layout torch.sparse_coo"),
        (lambda: check(layer().to(torch.float8_e4m3fn), X), "attention in float8_e4m3fn is not checked"),
        (lambda: check(layer(), X, query=X), "the layer is given query twice: by place and by name"),
        (lambda: check(Model("raises"), X), "the model raises KeyError: 'nothing here'"),
        (lambda: check(torch.nn.ModuleList([layer()]), X), "the model raises NotImplementedError"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_a_sentence(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        call()


def test_number_of_heads_that_is_none_is_refused() -> None:
    module = layer()
    module.num_heads = "4"  # type: ignore[assignment]
    with pytest.raises(InputError, match="heads is '4', and must be a whole number"):
        check(module, X)


def test_layer_that_is_not_called_as_a_module_is_told_of() -> None:
    assert check(Model(), X).unchecked == ["spare: it was not called"]
    report = check(Model("by forward"), X)
    assert not report
    assert report.unchecked == [
        "Model: attention is computed in it (a product, a softmax, and another product) outside of any layer that is "
        "known, and that is not re-derived",
        "used: it was not called",
        "spare: it was not called",
    ]


def test_quantized_projections_are_named_with_where_they_are_from() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of what it will be without
        model = torch.ao.quantization.quantize_dynamic(model_of("Bert"), {torch.nn.Linear}, dtype=torch.qint8)
    report = check(model, input_ids=IDS)
    assert report.layers == []
    assert "query is a torch.ao.nn.quantized.dynamic.modules.linear.Linear, " in report.unchecked[0]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_steps_are_seen_in_inference_mode_as_they_are_without(implementation: str) -> None:
    model = model_of("Llama", implementation, num_key_value_heads=2)
    hidden = []
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode, capture(model) as captured:
            cache = model(IDS[:, :5], use_cache=True).cache
            model(IDS[:, 5:6], cache=cache)
        report = captured.report()
        assert report, report.describe()
        hidden.append([[s.step for s in each.runs[0].steps if s.verdict == "not_observable"] for each in report.layers])
    assert hidden[0] == hidden[1]
    with torch.inference_mode():
        assert check(layer(), X)


def test_calls_of_a_checker_are_no_calls_of_the_model_for_another() -> None:
    model = Model()
    with capture(model) as outer, capture(model) as inner:
        model(X)
    assert [len(each.report().layers) for each in (outer, inner)] == [1, 1]
    assert outer.report()
    assert inner.report()


def test_calls_in_several_threads_are_all_checked() -> None:
    model = model_of("Bert")
    with capture(model) as captured:
        threads = [threading.Thread(target=model, args=(IDS,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    report = captured.report()
    assert report, report.describe()
    assert len(report.layers) == 4
    assert not is_in_torch_dispatch_mode()  # which torch keeps for the process


def test_calls_within_transforms_of_functions_are_told_of_and_go_on() -> None:
    model = Model()
    expected = torch.stack([model(X), model(2 * X)])
    with capture(model) as captured:
        mapped = torch.func.vmap(model)(torch.stack([X, 2 * X]))
        gradient = torch.func.grad(lambda x: model(x).sum())(X)
    assert torch.allclose(mapped, expected, atol=1e-5)
    assert gradient.shape == X.shape
    sentence = "used: a call within a transform of torch.func, such as vmap or grad, is not looked into"
    assert captured.report().unchecked == [sentence]  # of two calls


def test_call_with_other_weights_is_checked_with_these() -> None:
    model = model_of("Bert")
    weights = {name: value * 1.1 if value.is_floating_point() else value for name, value in model.state_dict().items()}
    with capture(model) as captured:
        torch.func.functional_call(model, weights, (), {"input_ids": IDS})
    report = captured.report()
    assert report, report.describe()
    assert len(report.layers) == 1


def test_calls_that_are_made_again_for_the_backward_pass_are_checked_each_time() -> None:
    model = model_of("Llama", "sdpa", num_key_value_heads=2).train()
    model.activation_checkpointing_enable()
    with capture(model) as captured:
        model(input_ids=IDS, use_cache=False).last_hidden_state.sum().backward()
    report = captured.report()
    assert report, report.describe()
    assert len(report.layers) == 2


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.nn.Sequential])
def test_layer_in_a_wrapper_is_checked_in_its_call(wrap: Any) -> None:
    model = wrap(torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval())
    report = check(model, X)
    assert report, report.describe()
    assert report.layers[0].name.endswith("self_attn")


def test_default_device_is_left_alone() -> None:
    module = layer(dropout=0.2).train()
    with torch.device("meta"):
        for report in (check(module), check(module, X)):
            assert report, report.describe()


def test_hook_that_changes_what_a_layer_is_called_with_changes_it_once() -> None:
    model = Model()
    layer = next(each for each in model.modules() if isinstance(each, torch.nn.MultiheadAttention))
    calls = []
    layer.register_forward_pre_hook(lambda _, args: calls.append(1) or tuple(each * 2 for each in args))
    with capture(model) as captured:
        model(X)
    report = captured.report()
    assert report, report.describe()
    assert [run.name for run in report.layers[0].runs] == ["as called"]
    assert len(calls) == 1


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_scripted_layer_by_itself_is_refused_in_a_sentence() -> None:
    scripted = torch.jit.script(torch.nn.MultiheadAttention(8, 2, batch_first=True))
    with pytest.raises(InputError, match="is scripted, and what that calls nobody can watch"):
        check(scripted, X)
