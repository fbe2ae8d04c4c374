"""The layer in torch's place: alone, in models, in encoder and decoder layers, and what is reported."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jubako.attention import AttentionInputError, MultiheadAttention, from_torch, replace_in

from .by_hand import assert_near
from .settings import make_setting

# Encoders of torch make nested tensors of padded batches, and torch says once a process what it thinks of these.
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")


@pytest.mark.parametrize("seed", range(30))
def test_layer_made_of_torchs_has_its_parameters_and_gives_its_results(seed: int) -> None:
    setting = make_setting(seed)
    torchs = setting.make(nn.MultiheadAttention)
    names = set(torchs.__dict__)
    ours = from_torch(torchs)
    assert ours.training == torchs.training
    assert dict(ours.named_parameters()).keys() == dict(torchs.named_parameters()).keys()
    for name, parameter in torchs.named_parameters():
        assert dict(ours.named_parameters())[name] is parameter
    assert set(torchs.__dict__) == names
    assert not torchs.out_proj._forward_pre_hooks
    found, expected = ours(*setting.inputs, **setting.call), torchs(*setting.inputs, **setting.call)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert_near(mine, theirs, 60.0)


def test_hooks_go_along_and_parameters_set_later_stay_apart() -> None:
    torchs = nn.MultiheadAttention(4, 2)
    seen = []
    torchs.register_forward_hook(lambda module, inputs, output: seen.append(type(module)))
    ours = from_torch(torchs)
    x = torch.randn(3, 1, 4)
    ours(x, x, x)
    assert seen == [MultiheadAttention]
    ours.in_proj_bias = None
    ours.out_proj.bias = None
    assert torchs.in_proj_bias is not None
    assert torchs.out_proj.bias is not None


class Own(nn.MultiheadAttention):
    """A layer that does something else."""


class Model(nn.Module):
    """Attention in several places, one of it twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2, enable_nested_tensor=True
        )
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 1)
        self.pool = nn.ModuleDict({"one": nn.MultiheadAttention(8, 4, batch_first=True), "own": Own(8, 2)})
        self.again = self.pool["one"]

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        y = self.encoder(x, src_key_padding_mask=padding)
        z = self.decoder(y, y, memory_key_padding_mask=padding)
        output: Tensor = self.again(z, z, z, padding)[0]
        return output


REPLACED = (
    "encoder.layers.0.self_attn",
    "encoder.layers.1.self_attn",
    "decoder.layers.0.self_attn",
    "decoder.layers.0.multihead_attn",
    "pool.one",
    "again",
)


def test_all_layers_of_a_model_are_replaced_and_what_was_done_is_said() -> None:
    model = Model()
    parameters = dict(model.named_parameters())
    done = replace_in(model)
    assert set(done.replaced) == set(REPLACED)
    assert done.left == (("pool.own", f"{Own.__module__}.Own may compute something else than its base class"),)
    assert done.without_nesting == ("encoder",)
    assert done.describe().splitlines()[-2:] == [
        f"left pool.own: {Own.__module__}.Own may compute something else than its base class",
        "encoder makes no nested tensors any more",
    ]
    assert all(type(model.get_submodule(name)) is MultiheadAttention for name in REPLACED)
    assert model.again is model.pool["one"]
    assert dict(model.named_parameters()) == parameters
    again = replace_in(model)
    assert (again.replaced, again.without_nesting) == ((), ())
    assert replace_in(nn.Linear(2, 2)).describe() == "there is no torch.nn.MultiheadAttention in it"


def test_layer_under_two_names_of_one_parent_is_replaced_under_both() -> None:
    shared = nn.MultiheadAttention(8, 2)
    pair = nn.ModuleList([shared, shared])
    model = nn.ModuleDict({"a": pair, "b": pair})
    assert set(replace_in(model).replaced) == {"a.0", "a.1", "b.0", "b.1"}
    assert type(pair[0]) is MultiheadAttention
    assert pair[0] is pair[1]


@pytest.mark.parametrize("is_training", [False, True])
def test_model_computes_the_same_with_layers_replaced(is_training: bool) -> None:
    torch.manual_seed(0)
    model = Model().train(is_training)
    x = torch.randn(3, 5, 8)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    with torch.no_grad():
        expected, expected_of_encoder = model(x), model.encoder(x, src_key_padding_mask=padding)
        replace_in(model)
        found, found_of_encoder = model(x), model.encoder(x, src_key_padding_mask=padding)
    assert_near(found, expected, 30.0)
    # Padded queries are zeros where torch makes nested tensors of the batch; ours computes them.
    assert_near(found_of_encoder[~padding], expected_of_encoder[~padding], 30.0)


@pytest.mark.parametrize("way", ["replaced", "put there", "built with"])
def test_encoder_layer_calls_ours_where_its_fast_path_would_pass_it_by(way: str) -> None:
    """Evaluation without gradients: torch's layer computes attention from the weights of self_attn by itself."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    if way == "replaced":
        replace_in(layer)
    else:
        layer.self_attn = from_torch(layer.self_attn)
    encoder: nn.Module = layer
    if way == "built with":  # from a layer that had ours before
        encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True).eval()
    called: list[nn.Module] = []
    for module in encoder.modules():
        if isinstance(module, MultiheadAttention):
            module.__dict__["forward"] = _noting(module, called)
    padding = torch.tensor([[False, False, True], [True, True, True]])
    with torch.no_grad():
        output = encoder(torch.randn(2, 3, 8), src_key_padding_mask=padding)
    assert len(called) == (2 if way == "built with" else 1)
    assert output.isfinite().all()


def passes_by(layer: nn.TransformerEncoderLayer) -> bool:
    """Whether the encoder layer computes attention without a call of ours."""
    called: list[nn.Module] = []
    layer.self_attn.__dict__["forward"] = _noting(layer.self_attn, called)
    with torch.no_grad():
        layer(torch.randn(2, 3, 8))
    del layer.self_attn.__dict__["forward"]
    return not called


def test_fast_path_stays_away_whatever_is_set_later_and_is_back_for_strict_layers() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    assert passes_by(layer)
    replace_in(layer)
    assert not passes_by(layer)
    layer.self_attn.out_proj = nn.Linear(8, 8)
    assert not passes_by(layer)
    layer.self_attn.strict_torch = True
    assert passes_by(layer)
    layer.self_attn.strict_torch = False
    assert not passes_by(layer)
    layer.self_attn = pickle.loads(pickle.dumps(layer.self_attn))
    assert not passes_by(layer)
    assert len(layer.self_attn.out_proj._forward_pre_hooks) == 1


def _noting(module: MultiheadAttention, called: list[nn.Module]) -> Any:
    def forward(*args: Any, **kwargs: Any) -> Any:
        called.append(module)
        return MultiheadAttention.forward(module, *args, **kwargs)

    return forward


def test_strict_layer_leaves_the_fast_path_of_encoders_to_torch() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=True).eval()
    x = torch.randn(2, 3, 8)
    with torch.no_grad():
        expected = encoder(x)
        done = replace_in(encoder, strict_torch=True)
        assert torch.equal(encoder(x), expected)
    assert done.replaced == ("layers.0.self_attn",)
    assert done.without_nesting == ()


def test_layer_that_cannot_be_replaced_is_refused() -> None:
    with pytest.raises(AttentionInputError, match="the model is the layer itself"):
        replace_in(nn.MultiheadAttention(4, 2))
    with pytest.raises(AttentionInputError, match=r"Own can't be replaced: .*Own may compute something else"):
        from_torch(Own(4, 2))
    with pytest.raises(AttentionInputError, match="it is ours already"):
        from_torch(MultiheadAttention(4, 2))


@pytest.mark.parametrize("given", [None, "model", {}])
def test_what_is_no_module_is_refused_in_a_sentence(given: object) -> None:
    with pytest.raises(AttentionInputError, match=f"not a {type(given).__name__}"):
        replace_in(given)  # type: ignore[arg-type]
    with pytest.raises(AttentionInputError, match=f"not a {type(given).__name__}"):
        from_torch(given)  # type: ignore[arg-type]
