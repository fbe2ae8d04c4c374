"""Scripting, exporting, compiling, tracing, functional and forward-mode derivatives, and tensors of other kinds."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from jubako.attention.layer.inputs import AttentionInputError
from jubako.attention.layer.module import MultiheadAttention

from .by_hand import assert_near
from .settings import make_setting


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Torch announces that scripting will go, and compiles with modules that warn of themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors is in prototype stage")
        yield


def make_layer(**options: Any) -> MultiheadAttention:
    torch.manual_seed(0)
    return MultiheadAttention(8, 2, batch_first=True, **options)


@pytest.mark.parametrize("seed", range(60))
def test_scripted_layer_computes_the_same(seed: int) -> None:
    setting = make_setting(seed)
    setting.call["is_causal"] = seed % 2 == 0
    module = setting.make()
    scripted = torch.jit.script(module)
    for mine, theirs in zip(
        module(*setting.inputs, **setting.call), scripted(*setting.inputs, **setting.call), strict=True
    ):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert_near(theirs, mine, 60.0)


def test_scripted_layer_can_be_saved_and_has_dropout() -> None:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(make_layer(dropout=0.5)), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    x = torch.randn(2, 20, 8)
    weights = loaded.train()(x, x, x)[1]
    assert (weights.sum(-1) - 1).abs().max() > 0.01
    assert_near(loaded.eval()(x, x, x)[1].sum(-1), torch.ones(2, 20))


def test_scripted_strict_layer_says_that_it_is_none() -> None:
    scripted, x = torch.jit.script(make_layer(strict_torch=True)), torch.randn(2, 5, 8)
    with pytest.raises(torch.jit.Error, match="script torch's own with its state_dict"):
        scripted(x, x, x)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("is_causal", [True, False])
def test_exported_layer_computes_the_same_for_other_sizes(need_weights: bool, is_causal: bool) -> None:
    layer = make_layer().eval()
    x = torch.randn(2, 5, 8)
    batch, length = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("length", min=2, max=512)
    options = {"need_weights": need_weights, "is_causal": is_causal}
    axes = {name: {0: batch, 1: length} for name in ("query", "key", "value")}
    program = torch.export.export(layer, (x, x, x), options, dynamic_shapes=axes | dict.fromkeys(options)).module()
    for y in (x, torch.randn(3, 40, 8)):
        expected, expected_weights = layer(y, y, y, **options)
        output, weights = program(y, y, y, **options)
        assert_near(output, expected)
        assert (weights is None) == (expected_weights is None)
        if need_weights:
            assert_near(weights, expected_weights)


def test_compiled_layer_has_one_graph_and_computes_the_same() -> None:
    layer = make_layer()
    x = torch.randn(2, 5, 8, requires_grad=True)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[0, 3:] = True
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    expected = layer(x, x, x, padding, is_causal=True)
    found = compiled(x, x, x, padding, is_causal=True)
    gradients = []
    for output, weights in (expected, found):
        assert_near(output, expected[0])
        assert_near(weights, expected[1])
        gradients.append(torch.autograd.grad(output.square().sum() + weights.square().sum(), x)[0])
    assert_near(gradients[1], gradients[0])


def test_traced_graph_is_of_whole_operations() -> None:
    layer = make_layer().eval()
    x, y = torch.randn(1, 300, 8), torch.randn(1, 300, 8)
    graph = make_fx(lambda x: layer(x, x, x))(x)
    assert_near(graph(y)[0], layer(y, y, y)[0])
    traced = torch.jit.trace(layer, (x, x, x))
    assert_near(traced(y, y, y)[1], layer(y, y, y)[1])


MISFITS: list[tuple[Any, ...]] = [
    (ones := torch.ones(2, 5, 8), ones, ones, torch.zeros(1, 5, dtype=torch.bool)),
    (ones, ones, ones, torch.zeros(5, dtype=torch.bool)),
    (ones, ones, ones, torch.zeros(2, 5, dtype=torch.int64)),
    (ones, ones, ones, torch.zeros(2, 5, dtype=torch.uint8)),
    (ones, ones, ones, None, True, torch.zeros(1, 5)),
    (ones, ones, ones, None, True, torch.zeros(5, 5, dtype=torch.int32)),
    (ones, ones, ones, None, True, torch.zeros(2, 5, 5)),
    (ones, ones, ones, None, True, torch.zeros(1, 1, 5, 5)),
    (ones, ones[:1], ones[:1]),
    (ones, ones, ones[:, :1]),
    (ones, ones[0], ones[0]),
    (ones[0], ones[0], ones[0], torch.zeros(1, 5)),
    (ones[None], ones[None], ones[None]),
]


@pytest.mark.parametrize("arguments", MISFITS)
def test_what_does_not_fit_is_refused_by_graphs_and_by_their_makers(arguments: tuple[Any, ...]) -> None:
    layer = make_layer().eval().requires_grad_(False)
    with pytest.raises(torch.jit.Error, match=r"expected to|neither boolean nor floating|differ in"):
        torch.jit.script(layer)(*arguments)
    torch.compiler.reset()
    with pytest.raises(AttentionInputError):
        torch.compile(layer, backend="eager")(*arguments)
    tensors = tuple(x for x in arguments if isinstance(x, Tensor))

    def run(*given: Tensor) -> Any:
        left = iter(given)
        return layer(*(next(left) if isinstance(x, Tensor) else x for x in arguments))

    with pytest.raises(AttentionInputError):
        torch.jit.trace(run, tensors)
    with pytest.raises(AttentionInputError):
        make_fx(run)(*tensors)
    with pytest.raises(Exception, match=r"expected to|only boolean and floating|differ in|axes"):
        torch.export.export(layer, arguments)


def test_compiled_layer_refuses_masks_of_the_wrong_size_for_any_size() -> None:
    torch.compiler.reset()
    compiled = torch.compile(make_layer(), backend="eager", dynamic=True)
    for length in (5, 9):
        x, padding = torch.randn(2, length, 8), torch.zeros(2, length, dtype=torch.bool)
        compiled(x, x, x, padding)
        with pytest.raises(AttentionInputError, match="was expected to be"):
            compiled(x, x, x, padding[:1])


def test_graphs_serve_other_values_of_a_mask_that_was_causal_when_they_were_made() -> None:
    layer = make_layer().requires_grad_(False)
    x = torch.randn(2, 5, 8)
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    other = causal.clone()
    other[1:, 0] = True

    def run(x: Tensor, mask: Tensor) -> Any:
        return layer(x, x, x, attn_mask=mask, is_causal=True)

    of_values = make_fx(run)(x, causal)
    of_shapes = make_fx(run, tracing_mode="fake", _allow_non_fake_inputs=True)(x, causal)
    for graph in (torch.jit.trace(run, (x, causal)), of_values, of_shapes):
        for mine, theirs in zip(graph(x, other), run(x, other), strict=True):
            assert_near(mine, theirs)
    masks = torch.stack([causal, other])
    each = torch.func.vmap(lambda mask: run(x, mask)[1])(masks)
    assert_near(each[1], run(x, other)[1])
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = torch.zeros(2, 5, 8)
        mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
        assert make_layer()(fake, fake, fake, attn_mask=mask, is_causal=True)[1].shape == (2, 5, 5)


def test_functional_derivatives_and_batches_go_through() -> None:
    layer = make_layer(dtype=torch.float64)
    x = torch.randn(3, 4, 8, dtype=torch.float64)

    def lose(x: Tensor) -> Tensor:
        output, weights = layer(x, x, x, is_causal=True)
        total: Tensor = output.sum() + weights.square().sum()
        return total

    leaf = x.clone().requires_grad_()
    lose(leaf).backward()
    assert_near(torch.func.grad(lose)(x), leaf.grad)
    each = torch.func.vmap(torch.func.grad(lose))(x.unsqueeze(1))
    assert_near(each.squeeze(1), leaf.grad)
    direction = torch.randn_like(x)
    slope = torch.func.jvp(lose, (x,), (direction,))[1]
    assert_near(slope, (leaf.grad * direction).sum())
    with torch.autograd.forward_ad.dual_level():
        dual = lose(torch.autograd.forward_ad.make_dual(x, direction))
        assert_near(torch.autograd.forward_ad.unpack_dual(dual).tangent, slope)


def test_tensors_without_data_have_the_right_shapes() -> None:
    layer = make_layer(device="meta")
    x = torch.empty(2, 5, 8, device="meta")
    assert [y.shape for y in layer(x, x, x)] == [(2, 5, 8), (2, 5, 5)]
    with FakeTensorMode(allow_non_fake_inputs=True):
        y = torch.empty(2, 5, 8)
        assert [z.shape for z in make_layer()(y, y, y)] == [(2, 5, 8), (2, 5, 5)]


class Logged(Tensor):
    """A tensor of another class: it says which operations it took part in."""

    names: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.names.append(function.__name__)
        return super().__torch_function__(function, types, args, kwargs or {})


def test_tensors_of_another_class_see_each_operation() -> None:
    layer = make_layer()
    x = torch.randn(2, 5, 8)
    logged = x.as_subclass(Logged)
    output, weights = layer(logged, logged, logged)
    assert type(output) is type(weights) is Logged
    assert {"linear", "softmax", "matmul"} <= set(Logged.names)
    assert_near(output.as_subclass(Tensor), layer(x, x, x)[0])


def test_default_device_is_not_where_the_layer_computes() -> None:
    layer, x, padding = make_layer(dropout=0.5), torch.randn(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool)
    with torch.device("meta"):
        output, weights = layer(x, x, x, padding)
    assert output.device == weights.device == torch.device("cpu")


def test_nested_tensors_are_taken_and_given() -> None:
    layer = make_layer().eval()
    entries = [torch.randn(length, 8) for length in (3, 5, 1)]
    nested = torch.nested.nested_tensor(entries)
    output, weights = layer(nested, nested, nested)
    assert output.is_nested
    assert weights.shape == (3, 5, 5)
    for entry, found, its_weights in zip(entries, output.unbind(), weights, strict=True):
        expected, expected_weights = layer(entry, entry, entry)
        assert_near(found, expected)
        assert_near(its_weights[: len(entry), : len(entry)], expected_weights)
        assert (its_weights[:, len(entry) :] == 0).all()


def test_nested_tensors_that_cannot_be_taken_are_refused() -> None:
    layer = make_layer()
    nested = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(2, 8)])
    jagged = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(2, 8)], layout=torch.jagged)
    with pytest.raises(AttentionInputError, match="the same tensor alone"):
        layer(nested, torch.randn(2, 3, 8), torch.randn(2, 3, 8))
    with pytest.raises(AttentionInputError, match="a mask was given with it"):
        layer(nested, nested, nested, attn_mask=torch.zeros(3, 3))
    of_columns = MultiheadAttention(8, 2)
    with pytest.raises(AttentionInputError, match="batch_first=True alone"):
        of_columns(nested, nested, nested)
    with pytest.raises(AttentionInputError, match=r"strided layout alone, and this is torch\.jagged"):
        layer(jagged, jagged, jagged)
