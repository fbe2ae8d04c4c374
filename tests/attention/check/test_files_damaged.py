"""Files of weights and configurations that are damaged, or made to harm: a report, or one sentence, nothing else."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from jubako.attention import CheckOptions, FileOptions, Told, check_weights_file
from jubako.attention.files.config import read_config
from jubako.attention.files.families import read_table
from jubako.errors import HostError, InputError, JubakoError

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [1.0, 2.0], "factor": 2.0}
QWEN = {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8, "layer_types": ["sliding_attention"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "qwen3", **QWEN, "rope_parameters": YARN, "rms_norm_eps": 1e-6},
    "phi3": {
        "model_type": "phi3",
        **QWEN,
        "rope_scaling": LONG,
        "original_max_position_embeddings": 4,
    },
    "neox": {"model_type": "gpt_neox", "num_attention_heads": 4, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
}


def tensors_of(kind: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    if kind == "llama":
        rows = {"q": 16, "k": 8, "v": 8, "o": 16}
        found = {f"layers.0.self_attn.{name}_proj.weight": draw(count, 16) for name, count in rows.items()}
        return found | {f"layers.0.self_attn.{name}_norm.weight": draw(4) for name in "qk"}
    if kind == "phi3":
        return {"layers.0.self_attn.qkv_proj.weight": draw(32, 16), "layers.0.self_attn.o_proj.weight": draw(16, 16)}
    names = {"query_key_value.weight": (48, 16), "query_key_value.bias": (48,), "dense.weight": (16, 16)}
    return {f"layers.0.attention.{name}": draw(*shape) for name, shape in names.items()}


VALUES = st.sampled_from(
    [
        *(None, True, False, 0, 1, 2, 3, 7, -1, 1.5, 1e300, -1e300, float("nan"), float("inf"), 10**40, 1 << 40),
        *("", "x", "yarn", "dynamic", "longrope", "default", "gemma2", "gemma3_text", "cohere", "smollm3", "falcon"),
        *([], [1], ["sliding_attention"] * 3, {}, {"rope_type": "yarn"}, [[[]]], 1e-320),
        {"full_attention": {"rope_type": "linear"}},
    ]
)
KEYS = st.sampled_from(
    [
        *("model_type", "num_attention_heads", "num_key_value_heads", "head_dim", "rope_parameters", "rope_scaling"),
        *("rope_theta", "sliding_window", "layer_types", "use_sliding_window", "rms_norm_eps", "layer_norm_eps"),
        *("attn_logit_softcapping", "query_pre_attn_scalar", "partial_rotary_factor", "max_position_embeddings"),
        *("original_max_position_embeddings", "no_rope_layers", "no_rope_layer_interval", "num_hidden_layers"),
        *("max_window_layers", "sliding_window_pattern", "use_qk_norm", "text_config", "is_decoder", "num_kv_heads"),
        *("rope_local_base_freq", "multi_query", "new_decoder_architecture", "attention_multiplier"),
    ]
)
IN_ROPE = st.sampled_from(
    [
        *("rope_type", "type", "factor", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim"),
        *("truncate", "short_factor", "long_factor", "low_freq_factor", "high_freq_factor", "rope_theta"),
    ]
)


def check_or_refuse(folder: Path, heads: int | None = None) -> None:
    """Nothing but a report, or an error of one line."""
    try:
        report = check_weights_file(
            str(folder), FileOptions(Told(heads=heads)), options=CheckOptions(length=6, batch=1)
        )
    except JubakoError as error:
        assert "\n" not in error.message
    else:
        assert "\n" not in "".join([*(layer.broken for layer in report.layers), *report.unchecked])
        assert report.describe()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@given(
    st.sampled_from(sorted(CONFIGS)),
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.dictionaries(IN_ROPE, VALUES, max_size=2),
    st.sampled_from([None, 1, 4, 65536]),
)
@settings(max_examples=150)
def test_any_configuration_is_followed_or_refused(
    folder: Path, kind: str, changes: dict[str, Any], in_rope: dict[str, Any], heads: int | None
) -> None:
    (folder / "model.safetensors").write_bytes(save(tensors_of(kind)))
    rope = "rope_parameters" if kind == "llama" else "rope_scaling"
    config = {**CONFIGS[kind], rope: {**CONFIGS[kind][rope], **in_rope}, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    check_or_refuse(folder, heads)


@given(
    st.sampled_from(sorted(CONFIGS)),
    st.integers(0, 3),
    st.sampled_from(
        [
            *({"dtype": name} for name in ("F8_E4M3", "U64", "F64", "F16", "BF16", "I32", "BOOL", "F4", "C64", "X", 3)),
            *(
                {"shape": shape}
                for shape in ([], [0], [0, 16], [16, 0], [1 << 30] * 2, [16], [4, 4, 16], [0] * 40, None)
            ),
            *({"data_offsets": offsets} for offsets in ([0, 0], [0, 1 << 40], [4, 1028], [1028, 4], [0], None)),
            *({"shape": [0, 16], "data_offsets": [0, 0]}, {"dtype": "U64", "shape": [8, 16]}),
            *({"dtype": "F8_E4M3", "shape": [64, 16]}, {"dtype": "BF16", "shape": [16, 32]}),
        ]
    ),
)
def test_any_header_is_followed_or_refused(folder: Path, kind: str, place: int, change: dict[str, Any]) -> None:
    data = save(tensors_of(kind))
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    name = sorted(header)[place % len(header)]
    header[name] |= change
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    (folder / "config.json").write_text(json.dumps(CONFIGS[kind]))
    check_or_refuse(folder)


@given(st.sampled_from(sorted(CONFIGS)), st.data())
def test_damaged_or_cut_file_is_followed_or_refused(folder: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(save(tensors_of(kind)))
    length = struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, 7 + length))] = data.draw(st.integers(0, 255))
    (folder / "model.safetensors").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    (folder / "config.json").write_text(json.dumps(CONFIGS[kind]))
    check_or_refuse(folder)


SAID = [
    ({"dtype": "F8_E4M3", "shape": [64, 16]}, "its tensors are F8_E4M3, float32: one type of float64, float32"),
    ({"dtype": "U64", "shape": [8, 16]}, "its tensors are U64, float32: one type of"),
    ({"shape": [16, 4, 4]}, "has shape (16, 4, 4): weights have two axes"),
    ({"shape": [8, 32]}, "the key's weights give 8 features, and Hk=2 heads of D=2 are 4"),
]


@pytest.mark.parametrize(("change", "sentence"), SAID)
def test_layer_of_types_or_shapes_that_cannot_be_is_broken_with_the_reason(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    data = save(tensors_of("llama"))
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header["layers.0.self_attn.q_proj.weight"] |= change
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["llama"]))
    (layer,) = check_weights_file(str(tmp_path)).layers
    assert sentence in layer.broken


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["q_norm", "k_proj"])
def test_weights_that_are_not_finite_are_told(number: float, name: str, tmp_path: Path) -> None:
    tensors = tensors_of("llama")
    tensors[f"layers.0.self_attn.{name}.weight"].flat[3] = number
    (tmp_path / "model.safetensors").write_bytes(save(tensors))
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["llama"]))
    (layer,) = check_weights_file(str(tmp_path)).layers
    part = "query norm" if name == "q_norm" else "key"
    assert layer.broken.startswith(f"the weights hold NaN or inf: {part}, 1 of ")


def test_packed_weights_that_do_not_fit_the_heads_are_told(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(save(tensors_of("phi3")))
    (tmp_path / "config.json").write_text(json.dumps({**CONFIGS["phi3"], "num_key_value_heads": 1}))
    (layer,) = check_weights_file(str(tmp_path)).layers
    assert layer.broken == (
        "layers.0.self_attn.qkv_proj.weight has shape (32, 16), and H=4, Hk=1 heads of D=4 are not that"
    )


@pytest.mark.parametrize("name", ["config.json", "names.toml"])
def test_pipe_in_place_of_a_file_is_refused_and_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    read = read_config if name == "config.json" else read_table
    with pytest.raises(InputError, match="is no regular file"):
        read(str(tmp_path / name))


def test_configuration_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(InputError, match="is too large for a model's configuration: 16,777,216 bytes are read"):
        read_config(str(tmp_path / "config.json"))


def test_weights_that_would_not_fit_memory_are_not_even_read(tmp_path: Path) -> None:
    rows = 1 << 19
    size = rows * rows * 4  # a TiB of nothing: none of it is on the disk
    names = [f"layers.0.self_attn.{name}_proj.weight" for name in "qkvo"]
    header = {
        name: {"dtype": "F32", "shape": [rows, rows], "data_offsets": [place * size, (place + 1) * size]}
        for place, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + 4 * size)
    with pytest.raises(HostError, match=r"the weights of layers\.0 take 24576\.0 GiB, and \d+\.\d GiB are free"):
        check_weights_file(str(tmp_path), FileOptions(Told(heads=4)))
