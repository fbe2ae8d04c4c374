"""What is known of models of the transformers library by their type: what their config.json need not say, and how they
attend where others with the same names do otherwise.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ADD_ONE_TO_NORMS",
    "ALL_SLIDE",
    "CAPPED",
    "CAUSAL",
    "DEFAULTS",
    "HAVE_NORMS",
    "INTERLEAVED",
    "LAYER_NORMS",
    "NORM_FLAGS",
    "SLIDING",
    "TURNED_WHERE_SLIDING",
]

# Values that the library takes where config.json is silent, as far as they differ from those taken for all models.
DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "apertus": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1.2e7,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "rms_norm_eps": 1e-5,
    },
    "cohere": {"rope_theta": 5e5},
    "cohere2": {"sliding_window": 4096, "sliding_window_pattern": 4},
    "ernie4_5": {"rope_theta": 5e5},
    "exaone4": {"sliding_window": 4096, "sliding_window_pattern": 4, "rms_norm_eps": 1e-5},
    "falcon": {"multi_query": True},
    "flex_olmo": {"rope_theta": 5e5},
    "gemma2": {
        "sliding_window": 4096,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0,
    },
    "gemma3_text": {
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
        "query_pre_attn_scalar": 256,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
    },
    "glm": {"partial_rotary_factor": 0.5},
    "glm4": {"partial_rotary_factor": 0.5},
    "glm4_moe": {"partial_rotary_factor": 0.5},
    "gpt_neox": {"rotary_pct": 0.25},
    "granite": {"attention_multiplier": 1.0},
    "granitemoe": {"attention_multiplier": 1.0},
    "helium": {"rope_theta": 1e5},
    "minimax_m2": {"rope_theta": 5e6},
    "mistral": {"sliding_window": 4096},
    "mixtral": {"rope_theta": 1e6},
    "nemotron": {"partial_rotary_factor": 0.5},
    "olmo2": {"rms_norm_eps": 1e-5},
    "olmo3": {"rms_norm_eps": 1e-5, "sliding_window": 4096, "sliding_window_pattern": 4, "rope_theta": 5e5},
    "olmoe": {"rms_norm_eps": 1e-5},
    "persimmon": {"partial_rotary_factor": 0.5, "qk_layernorm": True},
    "phi": {"partial_rotary_factor": 0.5},
    "phimoe": {"rope_theta": 1e6},
    "qwen2": {"use_sliding_window": False, "max_window_layers": 28},
    "qwen2_moe": {"use_sliding_window": False, "max_window_layers": 28},
    "qwen3": {"use_sliding_window": False, "max_window_layers": 28},
    "qwen3_moe": {"use_sliding_window": False, "max_window_layers": 28},
    "smollm3": {"rope_theta": 2e6, "no_rope_layer_interval": 4, "use_sliding_window": False},
    "solar_open": {"rope_theta": 1e6},
    "stablelm": {"partial_rotary_factor": 0.25},
    "vaultgemma": {
        "sliding_window": 4096,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0,
    },
}

ALL_SLIDE = ("mistral", "mixtral", "phi3", "starcoder2")  # have their window in all layers
SLIDING = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3")  # in those from max_window_layers on
TURNED_WHERE_SLIDING = ("cohere2", "exaone4")  # positions turn heads in layers with a window alone, if there are any
CAPPED = ("gemma2", "vaultgemma")  # do with attn_logit_softcapping what it says
CAUSAL = ("opt", "clip_text_model", "biogpt")  # of those with the names of BART
INTERLEAVED = ("cohere", "cohere2", "ernie4_5", "glm", "glm4", "helium")  # of those with the names of LLaMA
HAVE_NORMS = (  # of queries and keys, before positions turn them
    *("qwen3", "qwen3_moe", "gemma3_text", "olmo2", "olmo3", "olmoe", "minimax_m2", "exaone4"),
    *("flex_olmo", "apertus"),
    *("cohere", "glm4_moe", "persimmon", "phi"),
)
NORM_FLAGS = {  # what says that they do, where that is not sure
    "cohere": "use_qk_norm",
    "glm4_moe": "use_qk_norm",
    "persimmon": "qk_layernorm",
    "phi": "qk_layernorm",
}
LAYER_NORMS = ("cohere", "phi", "persimmon")  # take the mean off first
ADD_ONE_TO_NORMS = ("gemma3_text",)
