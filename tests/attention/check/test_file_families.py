"""What config.json says of a model is followed: what each of the library's models gives agrees with its saved file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from jubako.attention import CheckOptions, FileOptions, Told, check_weights_file

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
        model(input_ids=IDS)
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


NOT_KNOWN = [
    ("Gemma2", {**GROUPED, "head_dim": 8, "attn_logit_softcapping": 2.0}, "it has attn_logit_softcapping"),
    ("Olmo", {"clip_qkv": 0.3}, "it has clip_qkv"),
    ("RoFormer", {"embedding_size": 32}, "of a model of type roformer, which is not known to attend as BERT does"),
    ("Esm", {"pad_token_id": 1}, "of a model of type esm, which is not known to attend as BERT does"),
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
