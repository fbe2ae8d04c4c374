"""The families of models whose layers are known by the names of their tensors, and those that are known and refused."""

from __future__ import annotations

from jubako.attention.files.families import Family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FAMILIES"]

_BERT = (
    *("bert", "roberta", "xlm-roberta", "camembert", "electra", "layoutlm", "bert-generation", "data2vec-text"),
    *("ernie", "splinter", "markuplm"),
)
_VIT = (
    *("vit", "deit", "dinov2", "dinov2_with_registers", "vit_mae", "vit_msn", "yolos", "ijepa"),
    "audio-spectrogram-transformer",
)
_LLAMA = (
    *("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text"),
    *("vaultgemma", "granite", "granitemoe", "cohere", "cohere2", "olmo", "olmo2", "olmo3", "olmoe", "starcoder2"),
    *("stablelm", "nemotron", "glm", "glm4", "glm4_moe", "helium", "smollm3", "exaone4", "arcee", "seed_oss"),
    *("ernie4_5", "phimoe", "minimax_m2", "hyperclovax", "solar_open", "jais2", "flex_olmo", "apertus"),
)
_BART = (
    *("bart", "mbart", "opt", "pegasus", "marian", "m2m_100", "blenderbot", "blenderbot-small", "plbart", "whisper"),
    "biogpt",
)
_BY_DISTANCE = "adds a bias by distance (ALiBi) to its scores"
_BY_POSITION = "adds a bias by relative position to its scores"
_APART = "has scores of content and position apart"
_OLD = ("bias", "masked_bias", "rotary_emb.inv_freq")  # masks and speeds that older versions of the library kept
_LAYER_NORM = ("output.LayerNorm.weight", "output.LayerNorm.bias", "output.LayerNorm.gamma", "output.LayerNorm.beta")


def _separate(stem: str, names: Iterable[str]) -> dict[str, str]:
    return {
        part: f"*{stem}.{name}.weight" for part, name in zip(("query", "key", "value", "output"), names, strict=True)
    }


def _norms(stem: str, names: Iterable[str]) -> dict[str, str]:
    return {part: f"*{stem}.{name}.weight" for part, name in zip(("query_norm", "key_norm"), names, strict=True)}


FAMILIES = (
    Family(
        "BERT",
        {**_separate("attention.self", ("query", "key", "value", "x")), "output": "*attention.output.dense.weight"},
        models=_BERT,
        stem="attention.",
        harmless=_LAYER_NORM,
    ),
    Family(
        "ViT",
        {
            **_separate("attention.attention", ("query", "key", "value", "x")),
            "output": "*attention.output.dense.weight",
        },
        models=_VIT,
        stem="attention.",
    ),
    Family("ViT", _separate("attention", ("q_proj", "k_proj", "v_proj", "o_proj")), models=_VIT, stem="attention."),
    Family(
        "wav2vec 2.0",
        _separate("attention", ("q_proj", "k_proj", "v_proj", "out_proj")),
        models=("wav2vec2", "hubert", "data2vec-audio"),
        stem="attention.",
    ),
    Family(
        "ALBERT",
        _separate("attention", ("query", "key", "value", "dense")),
        models=("albert",),
        stem="attention.",
        harmless=("LayerNorm.weight", "LayerNorm.bias"),
    ),
    Family(
        "DistilBERT",
        _separate("attention", ("q_lin", "k_lin", "v_lin", "out_lin")),
        models=("distilbert",),
        stem="attention.",
    ),
    Family(
        "GPT-2",
        {"packed": "*attn.c_attn.weight", "output": "*attn.c_proj.weight"},
        is_in_out=True,
        is_causal=True,
        models=("gpt2",),
        stem="attn.",
        harmless=_OLD,
    ),
    Family(
        "GPT BigCode",
        {"packed": "*attn.c_attn.weight", "output": "*attn.c_proj.weight"},
        is_causal=True,
        models=("gpt_bigcode",),
        packing="groups",
        stem="attn.",
        harmless=_OLD,
    ),
    Family(
        "GPT-J",
        _separate(".attn", ("q_proj", "k_proj", "v_proj", "out_proj")),
        is_causal=True,
        rotary="interleaved",
        models=("gptj",),
        stem=".attn.",
        harmless=_OLD,
    ),
    Family(
        "GPT-NeoX",
        {"packed": "*.attention.query_key_value.weight", "output": "*.attention.dense.weight"},
        is_causal=True,
        rotary="halves",
        models=("gpt_neox",),
        packing="groups",
        stem=".attention.",
        harmless=_OLD,
    ),
    Family(
        "Falcon",
        {"packed": "*self_attention.query_key_value.weight", "output": "*self_attention.dense.weight"},
        is_causal=True,
        rotary="halves",
        models=("falcon",),
        packing="groups",
        stem="self_attention.",
        harmless=_OLD,
    ),
    Family(
        "Persimmon",
        {
            "packed": "*self_attn.query_key_value.weight",
            "output": "*self_attn.dense.weight",
            **_norms("self_attn", ("q_layernorm", "k_layernorm")),
        },
        is_causal=True,
        rotary="halves",
        models=("persimmon",),
        packing="groups",
        stem="self_attn.",
        harmless=_OLD,
    ),
    Family(
        "LLaMA",
        {
            **_separate("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj")),
            **_norms("self_attn", ("q_norm", "k_norm")),
        },
        is_causal=True,
        rotary="halves",
        models=_LLAMA,
        stem="self_attn.",
        harmless=_OLD,
    ),
    Family(
        "Phi-3",
        {"packed": "*self_attn.qkv_proj.weight", "output": "*self_attn.o_proj.weight"},
        is_causal=True,
        rotary="halves",
        models=("phi3",),
        stem="self_attn.",
        harmless=_OLD,
    ),
    Family(
        "Phi",
        {
            **_separate("self_attn", ("q_proj", "k_proj", "v_proj", "dense")),
            **_norms("self_attn", ("q_layernorm", "k_layernorm")),
        },
        is_causal=True,
        rotary="halves",
        models=("phi",),
        stem="self_attn.",
        harmless=_OLD,
    ),
    Family(
        "BART",
        _separate("self_attn", ("q_proj", "k_proj", "v_proj", "out_proj")),
        models=(*_BART, "clip_vision_model", "clip_text_model", "siglip_vision_model", "siglip_text_model"),
        stem="self_attn.",
    ),
    Family(
        "BART, to its encoder",
        _separate("encoder_attn", ("q_proj", "k_proj", "v_proj", "out_proj")),
        suffix=".encoder_attn",
        models=_BART,
        stem="encoder_attn.",
    ),
    Family(
        "T5, to its encoder",
        _separate("EncDecAttention", ("q", "k", "v", "o")),
        models=("t5", "mt5", "umt5"),
        stem="EncDecAttention.",
        numbers={"scale": 1.0},
    ),
    Family(
        "torch",
        {
            "packed": "*in_proj_weight",
            "output": "*out_proj.weight",
            "added_key": "*bias_k",
            "added_value": "*bias_v",
        },
        biases={"packed": "*in_proj_bias"},
    ),
    Family(
        "torch",
        {
            "query": "*q_proj_weight",
            "key": "*k_proj_weight",
            "value": "*v_proj_weight",
            "output": "*out_proj.weight",
            "added_key": "*bias_k",
            "added_value": "*bias_v",
        },
        biases={"packed": "*in_proj_bias"},
    ),
    *(
        Family(name, {"packed": first} if is_packed else {"query": first}, models=models, refused=refused)
        for name, models, first, is_packed, refused in (
            ("BLOOM", ("bloom",), "*self_attention.query_key_value.weight", True, _BY_DISTANCE),
            ("MPT", ("mpt",), "*attn.Wqkv.weight", True, _BY_DISTANCE),
            ("T5", ("t5", "mt5", "umt5", "longt5"), "*SelfAttention.q.weight", False, _BY_POSITION),
            ("MPNet", ("mpnet",), "*attention.attn.q.weight", False, _BY_POSITION),
            ("DeBERTa", ("deberta",), "*attention.self.in_proj.weight", True, _APART),
            ("DeBERTa", ("deberta-v2",), "*attention.self.query_proj.weight", False, _APART),
            ("XLNet", ("xlnet",), "*rel_attn.q", False, _APART),
            ("CodeGen", ("codegen",), "*attn.qkv_proj.weight", True, "has query, key and value in an order of its own"),
        )
    ),
)
