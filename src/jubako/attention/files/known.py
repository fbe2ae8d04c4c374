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
_VIT = ("vit", "deit", "dinov2", "vit_mae", "vit_msn", "yolos", "ijepa", "audio-spectrogram-transformer")
_LLAMA = (
    *("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text"),
    *("vaultgemma", "granite", "granitemoe", "cohere", "cohere2", "olmo", "olmo2", "olmo3", "olmoe", "starcoder2"),
    *("stablelm", "nemotron", "glm", "glm4", "glm4_moe", "helium", "smollm3", "exaone4", "arcee", "seed_oss"),
    *("ernie4_5", "phimoe", "minimax_m2", "hyperclovax", "solar_open", "jais2"),
)
_BART = (
    *("bart", "mbart", "opt", "pegasus", "marian", "m2m_100", "blenderbot", "blenderbot-small", "plbart", "whisper"),
    "biogpt",
)
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
        models=(*_BART, "clip_vision_model", "clip_text_model", "siglip_vision_model"),
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
        Family(name, {"packed": first} if is_packed else {"query": first}, models=(name.lower(),), refused=refused)
        for name, first, is_packed, refused in (
            ("BLOOM", "*self_attention.query_key_value.weight", True, "adds a bias by distance (ALiBi) to its scores"),
            ("MPT", "*attn.Wqkv.weight", True, "adds a bias by distance (ALiBi), or is packed otherwise"),
            ("T5", "*SelfAttention.q.weight", False, "adds a bias by relative position to its scores"),
            ("MPNet", "*attention.attn.q.weight", False, "adds a bias by relative position to its scores"),
            ("DeBERTa", "*attention.self.query_proj.weight", False, "has scores of content and position apart"),
            ("DeBERTa", "*attention.self.in_proj.weight", True, "has scores of content and position apart"),
            ("CodeGen", "*attn.qkv_proj.weight", True, "has query, key and value packed in an order of its own"),
            ("XLNet", "*rel_attn.q", False, "has scores of content and position apart"),
        )
    ),
)
