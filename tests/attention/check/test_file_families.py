"""What config.json says of a model is followed: what each of the library's models gives agrees with its saved file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from jubako.attention import CheckOptions, FileOptions, Told, check_weights_file
from jubako.attention.files.config import read_config
from jubako.attention.files.known import FAMILIES

IDS = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(0))
SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 50}
GROUPED = {"num_key_value_heads": 2}
BART = {
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "pad_token_id": 1,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4}
OPT = {"ffn_dim": 32, "word_embed_proj_dim": 32}
TYPES = ["sliding_attention", "full_attention"]
BOTH = {"layers.0.self_attn": "layers.0", "layers.1.self_attn": "layers.1"}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 64.0, "original_max_position_embeddings": 4}
PAD = {"pad_token_id": 1}
LONG = {
    "max_position_embeddings": 16,
    "original_max_position_embeddings": 4,  # so the nine tokens of the test are many
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0, 1.1, 1.2, 1.3],
        "long_factor": [1.0, 2.0, 3.0, 4.0],
    },
}


def save_calls(folder: Path, kind: str, modules: dict[str, str], **others: Any) -> None:
    """Saves a model, and for each module what it was called with and gave: in.npz and out.npz in a folder each."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **others}, attn_implementation="eager")
    model = getattr(transformers, f"{kind}Model")(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)

    def keep(layer: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, result: Any) -> None:
            query = kwargs.get("hidden_states", args[0] if args else None)
            given = {"query": query.numpy()}
            if kwargs.get("key_value_states") is not None:
                given["key"] = kwargs["key_value_states"].numpy()
            home = folder / layer
            home.mkdir()
            np.savez(home / "in.npz", **given)
            # BERT's own ends with the heads side by side
            name = "concatenated" if hasattr(module, "query") else "output"
            np.savez(home / "out.npz", **{f"{layer}/{name}": result[0].numpy()})

        return hook

    for module, layer in modules.items():
        model.get_submodule(module).register_forward_hook(keep(layer), with_kwargs=True)
    with torch.no_grad():
        model(input_ids=IDS, **({"decoder_input_ids": IDS[:, :5]} if kind == "T5" else {}))
    model.save_pretrained(folder)


MODELS = [
    ("GPT2", GPT2, {"h.1.attn": "h.1"}, True),
    ("GPT2", {**GPT2, "scale_attn_by_inverse_layer_idx": True}, {"h.1.attn": "h.1"}, True),
    ("GPT2", {**GPT2, "scale_attn_weights": False}, {"h.1.attn": "h.1"}, True),
    ("OPT", OPT, {"decoder.layers.1.self_attn": "decoder.layers.1"}, True),
    ("Granite", {**GROUPED, "attention_multiplier": 0.7}, {"layers.1.self_attn": "layers.1"}, True),
    ("Mistral", {**GROUPED, "sliding_window": 3}, {"layers.1.self_attn": "layers.1"}, True),
    ("Mistral", {**GROUPED, "sliding_window": 9}, {"layers.1.self_attn": "layers.1"}, True),
    (
        "Gemma2",
        {**GROUPED, "head_dim": 8, "attn_logit_softcapping": None, "sliding_window": 3, "query_pre_attn_scalar": 5},
        {"layers.0.self_attn": "layers.0", "layers.1.self_attn": "layers.1"},
        True,
    ),
    ("Cohere", GROUPED, {"layers.1.self_attn": "layers.1"}, True),
    ("Phi", {}, {"layers.1.self_attn": "layers.1"}, True),
    ("Phi", {"qk_layernorm": True}, {"layers.1.self_attn": "layers.1"}, True),
    ("Cohere", {**GROUPED, "use_qk_norm": True}, {"layers.1.self_attn": "layers.1"}, True),
    ("Gemma2", {**GROUPED, "head_dim": 8, "attn_logit_softcapping": 2.0}, {"layers.1.self_attn": "layers.1"}, True),
    ("Llama", {"max_position_embeddings": 256, "rope_parameters": YARN}, {"layers.1.self_attn": "layers.1"}, True),
    ("Qwen3", {**GROUPED, "head_dim": 8}, {"layers.1.self_attn": "layers.1"}, True),
    ("Gemma3Text", {**GROUPED, "head_dim": 8, "sliding_window": 3, "layer_types": TYPES}, BOTH, True),
    ("Olmo2", GROUPED, {"layers.1.self_attn": "layers.1"}, True),
    ("Olmo3", {**GROUPED, "sliding_window": 3, "layer_types": TYPES}, BOTH, True),
    ("Cohere2", {**GROUPED, "sliding_window": 3, "layer_types": TYPES}, BOTH, True),
    ("Exaone4", {**GROUPED, "sliding_window": 3, "layer_types": TYPES}, BOTH, True),
    ("SmolLM3", {**GROUPED, **PAD, "no_rope_layers": [1, 0]}, BOTH, True),
    ("Qwen2", {**GROUPED, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}, BOTH, True),
    ("Phi3", {**GROUPED, **PAD, "sliding_window": 3}, {"layers.1.self_attn": "layers.1"}, True),
    ("Phi3", {**PAD, **LONG}, {"layers.1.self_attn": "layers.1"}, True),
    ("Starcoder2", {**GROUPED, "sliding_window": 3}, {"layers.1.self_attn": "layers.1"}, True),
    ("Glm", {**GROUPED, **PAD, "head_dim": 8}, {"layers.1.self_attn": "layers.1"}, True),
    ("GPTNeoX", {}, {"layers.1.attention": "layers.1"}, True),
    ("GPTJ", {**GPT2, "rotary_dim": 4}, {"h.1.attn": "h.1"}, True),
    ("GPTBigCode", GPT2, {"h.1.attn": "h.1"}, True),
    ("GPTBigCode", {**GPT2, "multi_query": False}, {"h.1.attn": "h.1"}, True),
    ("Persimmon", {}, {"layers.1.self_attn": "layers.1"}, True),
    ("Falcon", {}, {"h.1.self_attention": "h.1"}, True),
    ("Falcon", {"multi_query": False}, {"h.1.self_attention": "h.1"}, True),
    ("Falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}, {"h.1.self_attention": "h.1"}, True),
    ("Bert", {"is_decoder": True}, {"encoder.layer.1.attention.self": "encoder.layer.1"}, True),
    ("Bert", {}, {"encoder.layer.1.attention.self": "encoder.layer.1"}, False),
    ("Bart", BART, {"encoder.layers.0.self_attn": "encoder.layers.0"}, False),
    ("Bart", BART, {"decoder.layers.0.self_attn": "decoder.layers.0"}, True),
    ("Bart", BART, {"decoder.layers.0.encoder_attn": "decoder.layers.0.encoder_attn"}, False),
]


@pytest.mark.parametrize(("kind", "others", "modules", "causal"), MODELS)
def test_model_agrees_with_its_file(
    kind: str, others: dict[str, Any], modules: dict[str, str], causal: bool, tmp_path: Path
) -> None:
    save_calls(tmp_path, kind, modules, **others)
    for layer in modules.values():
        how = FileOptions(Told(), str(tmp_path / layer / "in.npz"), str(tmp_path / layer / "out.npz"))
        report = check_weights_file(str(tmp_path), how, options=CheckOptions(layer=layer))
        assert report, report.describe()
        assert (report.layers[0].name, report.layers[0].facts["causal"]) == (layer, causal)
        assert report.layers[0].runs[1].name == "outputs that were given"


T5 = {"d_model": 32, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 4}
BY_DISTANCE = "adds a bias by distance (ALiBi)"
NOT_KNOWN = [
    ("Gemma3Text", {**GROUPED, "head_dim": 8, "attn_logit_softcapping": 2.0}, "it has attn_logit_softcapping"),
    ("Gemma3Text", {**GROUPED, "head_dim": 8, "use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("Olmo", {"clip_qkv": 0.3}, "it has clip_qkv"),
    ("RoFormer", {"embedding_size": 32}, "of a model of type roformer, which is not known to attend as BERT does"),
    ("Esm", {"pad_token_id": 1}, "of a model of type esm, which is not known to attend as BERT does"),
    ("GptOss", {**GROUPED, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1}, "type gpt_oss"),
    ("NanoChat", GROUPED, "of a model of type nanochat"),
    ("BitNet", GROUPED, "of a model of type bitnet"),
    ("Falcon", {"alibi": True}, "it has alibi"),
    ("StableLm", {**GROUPED, "qk_layernorm": True}, "self_attn.k_layernorm.norms.0.weight"),
    ("Bloom", {"n_head": 4, "n_layer": 2}, BY_DISTANCE),
    ("Mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2}, BY_DISTANCE),
    ("DebertaV2", {}, "has scores of content and position apart"),
    ("MPNet", {"pad_token_id": 1}, "adds a bias by relative position"),
    ("CodeGen", {**GPT2, "rotary_dim": 4}, "has query, key and value in an order of its own"),
    ("ModernBert", PAD, "of a model of type modernbert, which is not known to attend as MPT does"),
    ("XLNet", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 16}, "scores of content and position apart"),
]


@pytest.mark.parametrize(("kind", "others", "reason"), NOT_KNOWN)
def test_model_that_does_something_more_is_not_checked(
    kind: str, others: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    save_calls(tmp_path, kind, {}, **others)
    report = check_weights_file(str(tmp_path))
    assert (bool(report), report.layers) == (False, [])
    assert all(reason in sentence for sentence in report.unchecked)
    assert len(report.unchecked) == 2


def test_t5_is_checked_where_it_has_no_bias_by_position(tmp_path: Path) -> None:
    save_calls(
        tmp_path, "T5", {"decoder.block.1.layer.1.EncDecAttention": "decoder.block.1.layer.1"}, **T5, pad_token_id=0
    )
    folder = tmp_path / "decoder.block.1.layer.1"
    how = FileOptions(Told(), str(folder / "in.npz"), str(folder / "out.npz"))
    report = check_weights_file(str(tmp_path), how)
    assert report, report.describe()
    assert [layer.name for layer in report.layers] == ["decoder.block.0.layer.1", "decoder.block.1.layer.1"]
    assert [len(layer.runs) for layer in report.layers] == [1, 2]
    assert len(report.unchecked) == 4
    assert all("adds a bias by relative position" in sentence for sentence in report.unchecked)


NO_SIZES = {"vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"}
KINDS = sorted({model for family in FAMILIES if family.rotary for model in family.models})


@pytest.mark.parametrize("kind", KINDS)
def test_config_that_does_not_say_something_is_read_as_the_library_reads_it(kind: str, tmp_path: Path) -> None:
    """Files that people wrote say little more than sizes; the library fills in the rest, and so must the check."""
    whole = transformers.AutoConfig.for_model(kind)
    sizes = {name: value for name, value in whole.to_dict().items() if name in NO_SIZES}
    read = []
    for name, config in (("whole", whole.to_dict()), ("sizes", {"model_type": kind, **sizes})):
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
        read.append(read_config(str(tmp_path / f"{name}.json")))
    for layer in range(10):
        assert read[0].window_of(layer) == read[1].window_of(layer)
        turns = [config.rotary(layer, 5, 64, "halves") for config in read]
        assert (turns[0] is None) == (turns[1] is None)
        if turns[0] is not None and turns[1] is not None:
            assert np.array_equal(turns[0].cosines, turns[1].cosines)
    scales = [config.scale or (config.head_size or 64) ** -0.5 for config in read]
    assert scales[0] == scales[1]
    for name in ("model", "norm", "softcap", "unknown", "is_decoder", "scales_by_layer"):
        assert getattr(read[0], name) == getattr(read[1], name), name
    if whole.to_dict().get("rope_parameters") and read[0].rotary(3, 5, 64, "halves") is not None:
        assert read[0].unknown == ()


def test_model_made_of_models_has_a_configuration_for_each(tmp_path: Path) -> None:
    torch.manual_seed(0)
    common = {"intermediate_size": 16, "num_hidden_layers": 1}
    config = transformers.CLIPConfig(
        text_config={**common, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": 50},
        vision_config={**common, "hidden_size": 24, "num_attention_heads": 3, "image_size": 8, "patch_size": 4},
        attn_implementation="eager",
    )
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    inputs = {"text_model": {"input_ids": IDS}, "vision_model": {"pixel_values": torch.randn(2, 3, 8, 8)}}
    for part, causal in (("text_model", True), ("vision_model", False)):
        layer = f"{part}.encoder.layers.0"
        given: dict[str, torch.Tensor] = {}

        def hook(module: Any, args: Any, kwargs: Any, result: Any, given: Any = given) -> None:
            given["query"], given["output"] = kwargs.get("hidden_states", args[0] if args else None), result[0]

        model.get_submodule(f"{layer}.self_attn").register_forward_hook(hook, with_kwargs=True)
        with torch.no_grad():
            getattr(model, part)(**inputs[part])
        np.savez(tmp_path / "in.npz", query=given["query"].numpy())
        np.savez(tmp_path / "out.npz", output=given["output"].numpy())
        how = FileOptions(Told(), str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
        report = check_weights_file(str(tmp_path), how, options=CheckOptions(layer=part))
        assert report, report.describe()
        assert (report.layers[0].name, report.layers[0].facts["causal"]) == (layer, causal)


MORE = [
    ("Bert", "encoder.layer.0.attention.self.relative_position_bias_table"),
    ("Bert", "encoder.layer.0.attention.self.query.weight_scale"),
    ("Bert", "encoder.layer.0.crossattention.self.gate"),
    ("Llama", "layers.0.self_attn.q_proj.lora_A.weight"),
    ("Llama", "layers.0.self_attn.sinks"),
    ("GPT2", "h.0.attn.gate.weight"),
    ("Phi3", "layers.0.self_attn.qkv_proj.input_scale"),
]


@pytest.mark.parametrize(("kind", "name"), MORE)
def test_tensor_of_an_attention_that_is_not_known_keeps_it_from_being_checked(
    kind: str, name: str, tmp_path: Path
) -> None:
    others = {"is_decoder": True, "add_cross_attention": True} if kind == "Bert" else PAD if kind == "Phi3" else {}
    save_calls(tmp_path, kind, {}, **{**others, **(GPT2 if kind == "GPT2" else {})})
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, name: torch.ones(4)}, tmp_path / "model.safetensors")
    report = check_weights_file(str(tmp_path))
    assert len(report.unchecked) == 1
    assert report.unchecked[0].endswith(f": it has {name}, which is not re-derived")
    assert all(report.layers)
    assert len(report.layers) == (3 if kind == "Bert" else 1)


def test_masks_that_older_versions_kept_in_files_are_no_part_of_a_layer(tmp_path: Path) -> None:
    save_calls(tmp_path, "GPT2", {}, **GPT2)
    tensors = load_file(tmp_path / "model.safetensors")
    old = {"h.0.attn.bias": torch.ones(1, 1, 8, 8), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file({**tensors, **old}, tmp_path / "model.safetensors")
    assert check_weights_file(str(tmp_path))


def test_what_is_assumed_without_a_config_is_said(tmp_path: Path) -> None:
    save_calls(tmp_path, "Llama", {}, **GROUPED)
    assert "no config.json" not in check_weights_file(str(tmp_path)).describe()
    (tmp_path / "config.json").unlink()
    report = check_weights_file(str(tmp_path), FileOptions(Told(heads=4)))
    assert report, report.describe()
    assert "note: there is no config.json: that positions turn with base 10,000" in report.describe()
