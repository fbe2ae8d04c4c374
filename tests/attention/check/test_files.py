"""Layers found in files of weights, by the names that models have, by a table; checked, and compared with others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel, ViTConfig, ViTModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from jubako.attention import CheckOptions, FileOptions, Settings, Told, attend, check_weights_file, rotary_of
from jubako.attention.checking.report import Report
from jubako.attention.files.config import read_config
from jubako.attention.files.families import read_table
from jubako.attention.files.layers import find_file_layers
from jubako.errors import HostError, InputError

BERT = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")


def bert(
    width: int = 8, prefix: str = "encoder.layer.0.", dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        f"{prefix}{name}.{kind}": (torch.randn(*([width] * axes)) / width**0.5).to(dtype)
        for name in BERT
        for kind, axes in (("weight", 2), ("bias", 1))
    }


def save(folder: Path, tensors: dict[str, torch.Tensor], name: str = "model", **config: Any) -> str:
    path = folder / f"{name}.safetensors"
    save_file(tensors, path)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return str(path)


def verdicts(report: Report, run: int = 0) -> dict[str, str]:
    return {verdict.step: verdict.verdict for verdict in report.layers[0].runs[run].steps}


def test_layers_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    tensors = {}
    for number in (10, 2, 1):
        tensors |= bert(prefix=f"encoder.layer.{number}.")
    report = check_weights_file(save(tmp_path, tensors, num_attention_heads=2))
    assert [layer.name for layer in report.layers] == [f"encoder.layer.{number}" for number in (1, 2, 10)]
    assert report


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("uses_torch", [False, True])
def test_file_is_computed_in_its_own_type(dtype: torch.dtype, uses_torch: bool, tmp_path: Path) -> None:
    path = save(tmp_path, bert(dtype=dtype), num_attention_heads=2)
    report = check_weights_file(path, FileOptions(Told(), uses_torch=uses_torch))
    assert report, report.describe()
    name = str(dtype).removeprefix("torch.")
    assert report.layers[0].facts["dtype"] == name
    assert report.layers[0].runs[0].name == f"computed by NumPy in {name}"
    assert set(verdicts(report).values()) <= {"exact", "within_bound"}
    names = [run.name for run in report.layers[0].runs]
    assert ("torch.nn.MultiheadAttention, fast path, need_weights=True" in names) == uses_torch


def test_gpt2_is_read_from_its_file_and_agrees_with_the_library(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = GPT2Model(GPT2Config(n_embd=24, n_head=3, n_layer=2, vocab_size=20, initializer_range=0.3)).eval()
    model.save_pretrained(tmp_path)
    hidden = torch.randn(2, 5, 24)
    mask = torch.full((5, 5), -torch.inf).triu(1)[None, None]
    with torch.no_grad():
        output, _ = model.h[1].attn(hidden, attention_mask=mask)
    agrees_with_file(tmp_path, "h.1", hidden, output, causal=True)
    report = check_weights_file(str(tmp_path), FileOptions(Told(), uses_torch=True))
    assert report, report.describe()
    assert report.layers[0].facts["causal"]


def test_llama_is_read_from_its_file_and_agrees_with_the_library(tmp_path: Path) -> None:
    torch.manual_seed(2)
    config = LlamaConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=16,
        num_hidden_layers=1,
        vocab_size=20,
        initializer_range=0.3,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    model = LlamaModel(config).eval()
    model.save_pretrained(tmp_path)
    hidden = torch.randn(2, 6, 32)
    positions = model.rotary_emb(hidden, torch.arange(6)[None])
    mask = torch.full((6, 6), -torch.inf).triu(1)[None, None]
    with torch.no_grad():
        output, _ = model.layers[0].self_attn(hidden, position_embeddings=positions, attention_mask=mask)
    report = agrees_with_file(tmp_path, "layers.0", hidden, output, causal=True)
    assert (report.layers[0].facts["Hk"], report.layers[0].facts["rotary"]) == (2, "halves")
    by_torch = check_weights_file(str(tmp_path), FileOptions(Told(), uses_torch=True)).layers[0].runs[1]
    assert by_torch.refused == "it knows no rotary positions"


def test_vit_is_read_from_its_file_and_agrees_with_the_library(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = ViTConfig(
        hidden_size=24, num_attention_heads=3, intermediate_size=16, num_hidden_layers=1, image_size=8, patch_size=4
    )
    model = ViTModel(config).eval()
    model.save_pretrained(tmp_path)
    hidden = torch.randn(2, 5, 24)
    with torch.no_grad():
        output, _ = model.layers[0].attention(hidden)
    (layer,) = find_file_layers(str(tmp_path), Told())
    agrees_with_file(tmp_path, layer.name, hidden, output)


def test_torch_layer_is_read_from_its_file_and_agrees_with_torch(tmp_path: Path) -> None:
    torch.manual_seed(4)
    module = torch.nn.MultiheadAttention(12, 3, kdim=5, vdim=7, add_bias_kv=True, batch_first=True).eval()
    path = save(tmp_path, {f"attention.{name}": tensor for name, tensor in module.state_dict().items()})
    query, key, value = torch.randn(2, 4, 12), torch.randn(2, 6, 5), torch.randn(2, 6, 7)
    with torch.no_grad():
        output, weights = module(query, key, value)
    np.savez(tmp_path / "in.npz", query=query, key=key, value=value)
    np.savez(tmp_path / "out.npz", output=output, averaged_weights=weights)
    how = FileOptions(Told(heads=3), str(tmp_path / "in.npz"), str(tmp_path / "out.npz"), uses_torch=True)
    report = check_weights_file(path, how)
    assert report, report.describe()
    assert report.layers[0].name == "attention"
    assert {step for step, verdict in verdicts(report, 1).items() if verdict != "not_observable"} == {
        "output",
        "averaged_weights",
    }


def agrees_with_file(
    folder: Path, name: str, hidden: torch.Tensor, output: torch.Tensor, causal: bool = False
) -> Report:
    """What the library gave for a layer agrees with the file; and one per cent more does not."""
    np.savez(folder / "in.npz", hidden_states=hidden.numpy())
    for factor in (1.0, 1.01):
        np.savez(folder / "out.npz", **{f"{name}/output": output.numpy() * np.float32(factor)})
        how = FileOptions(Told(), str(folder / "in.npz"), str(folder / "out.npz"))
        report = check_weights_file(str(folder), how, options=CheckOptions(layer=name))
        assert bool(report) == (factor == 1.0), report.describe()
        if factor == 1.0:
            right = report
    assert right.layers[0].facts["causal"] == causal
    return right


# --- tables ----------------------------------------------------------------------------------------------------------


def renamed() -> dict[str, torch.Tensor]:
    new = {"query": "to_q", "key": "to_k", "value": "to_v", "dense": "proj"}
    return {
        f"blocks.{number}.{new[name.split('.')[-2]]}.{name.split('.')[-1]}": tensor.clone()
        for number in range(2)
        for name, tensor in bert().items()
    }


TABLE = """
[attention]
query = "blocks.*.to_q.weight"
key = "blocks.*.to_k.weight"
value = "blocks.*.to_v.weight"
output = "blocks.*.proj.weight"
heads = 4
"""


def test_table_tells_of_names_that_are_not_known(tmp_path: Path) -> None:
    path = save(tmp_path, renamed())
    with pytest.raises(
        InputError, match=r"has no attention that is known by its names: 16 tensors, blocks\.N\."
    ) as refused:
        check_weights_file(path)
    assert "--map" in refused.value.hint
    (tmp_path / "names.toml").write_text(TABLE)
    report = check_weights_file(path, FileOptions(Told(read_table(str(tmp_path / "names.toml")))))
    assert report, report.describe()
    assert [layer.name for layer in report.layers] == ["0", "1"]
    assert report.layers[0].facts["H"] == 4
    assert report.layers[0].facts["biases"]


def test_table_may_be_json_and_say_how_weights_are_laid_out(tmp_path: Path) -> None:
    tensors = {name: tensor.T.contiguous() if tensor.ndim == 2 else tensor for name, tensor in renamed().items()}
    path = save(tmp_path, tensors)
    table = {
        **{part: f"blocks.*.{name}.weight" for part, name in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"))},
        "output": "blocks.*.proj.weight",
        "heads": 2,
        "layout": "in, out",
        "causal": True,
        "rotary": "interleaved",
        "rope_theta": 100,
    }
    (tmp_path / "names.json").write_text(json.dumps(table))
    family = read_table(str(tmp_path / "names.json"))
    turned = find_file_layers(path, Told(family))[0].read().weights
    assert np.array_equal(turned.query, bert()["encoder.layer.0.attention.self.query.weight"].numpy())
    facts = check_weights_file(path, FileOptions(Told(family))).layers[0].facts
    assert (facts["causal"], facts["rotary"]) == (True, "interleaved")


TABLES = [
    ("[attention]\nquery = 3\nkey = 'k'\nvalue = 'v'", "query is 3, and must be a text"),
    ("[attention]\nqueries = 'q'", "queries is not understood"),
    ("[attention]\nquery = 'q'", "has to name query, key and value, or packed"),
    ("[attention]\npacked = 'q'\nheads = 'many'", "heads is 'many', and must be a whole number from 1 to 65536"),
    *(
        (f"[attention]\npacked = 'q'\n{name} = {value}", f"{name} is .*, and must be ")
        for name, value in (
            *(("heads", value) for value in ("0", "-4", "2.5", "inf", "nan", "true")),
            *(("head_size", value) for value in ("0", "-4")),
            *(("scale", value) for value in ("nan", "inf", "0")),
            *(("rope_theta", value) for value in ("-5", "inf")),
            *(("query_bias", "5"), ("causal", '"no"'), ("name", "3"), ("rotary_features", "2.0")),
        )
    ),
    ("[attention]\npacked = 'q'\nrotary = 'halves'\nrotary_features = 3", "turned in pairs, and 3 is odd"),
    ("[attention]\npacked = 'a.*.b.*.q'", r"packed has more than one \*"),
    ("[attention]\npacked = 'q'\nrotary = 'sideways'", "rotary is halves or interleaved, not 'sideways'"),
    ("[attention]\npacked = 'q'\nlayout = 'up'", "layout is 'out, in' or 'in, out', not 'up'"),
    ("[attention", "cannot be read"),
    ("attention = 3", "has no table called attention"),
]


@pytest.mark.parametrize(("text", "sentence"), TABLES)
def test_table_that_is_not_understood_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "names.toml").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_table(str(tmp_path / "names.toml"))


def test_table_says_how_many_features_are_turned(tmp_path: Path) -> None:
    path = save(tmp_path, renamed())
    x = np.random.default_rng(0).normal(size=(1, 5, 8)).astype(np.float32)
    np.savez(tmp_path / "in.npz", query=x)
    weights = find_file_layers(path, Told(read_table(_table(tmp_path, ""))))[0].read().weights
    settings = Settings(heads=2, rotary=rotary_of(np.arange(5), 2))
    np.savez(tmp_path / "out.npz", output=attend(x, x, x, weights, settings).output)
    for features, agrees in ((2, True), (4, False)):
        table = _table(tmp_path, f'rotary = "halves"\nrotary_features = {features}')
        how = FileOptions(Told(read_table(table), heads=2), str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
        report = check_weights_file(path, how, options=CheckOptions(layer="0"))
        assert bool(report) == agrees, report.describe()
    wide = FileOptions(Told(read_table(_table(tmp_path, 'rotary = "halves"\nrotary_features = 6')), heads=2))
    assert check_weights_file(path, wide).layers[0].broken == (
        "6 features of a head are turned by position, and its head has D=4"
    )


def _table(folder: Path, more: str) -> str:
    (folder / "names.toml").write_text(TABLE + more)
    return str(folder / "names.toml")


# --- what is wrong with a layer --------------------------------------------------------------------------------------


def broken(tmp_path: Path, change: Any, **config: Any) -> str:
    tensors = bert()
    change(tensors)
    report = check_weights_file(save(tmp_path, tensors, **({"num_attention_heads": 2} | config)))
    assert not report
    return report.layers[0].broken


QUERY = "encoder.layer.0.attention.self.query"


def test_layer_that_is_not_whole_is_broken_with_the_reason(tmp_path: Path) -> None:
    key = QUERY.replace("query", "key")

    def narrow(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{key}.weight"] = torch.ones(4, 8)

    def infinite(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{key}.bias"][3] = torch.inf

    def mixed(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{key}.weight"] = torch.ones(8, 8).half()

    def flat(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{key}.weight"] = torch.ones(64)

    assert "lacks *attention.self.key.weight" in broken(tmp_path, lambda tensors: tensors.pop(f"{key}.weight"))
    assert broken(tmp_path, narrow) == "the value's weights give 8 features, and Hk=1 heads of D=4 are 4"
    assert broken(tmp_path, infinite) == "the weights hold NaN or inf: key bias, 1 of 8 numbers"
    assert "its tensors are float16, float32" in broken(tmp_path, mixed)
    assert "has shape (64,): weights have two axes" in broken(tmp_path, flat)
    assert "8 features, which 3 heads do not divide" in broken(tmp_path, lambda tensors: None, num_attention_heads=3)
    assert (
        broken(tmp_path, lambda tensors: None, head_dim=5)
        == "its query has 8 features, and H=2 heads of D=5 are not that"
    )


def test_packed_layer_that_is_not_whole_is_broken_with_the_reason(tmp_path: Path) -> None:
    def said(**tensors: torch.Tensor) -> str:
        whole = {"in_proj_weight": torch.ones(24, 8), "out_proj.weight": torch.ones(8, 8)}
        (layer,) = check_weights_file(save(tmp_path, whole | tensors), FileOptions(Told(heads=2))).layers
        return layer.broken

    assert said() == ""
    assert said(in_proj_bias=torch.ones(7)).startswith("in_proj_bias has shape (7,): query, key and value must be")
    assert said(in_proj_bias=torch.ones(24, 1)).startswith("in_proj_bias has shape (24, 1)")
    assert said(in_proj_weight=torch.ones(0, 0)) == "its query has no features"
    assert said(in_proj_weight=torch.ones(24, 0)).startswith("the query weights have shape (8, 0)")
    assert said(bias_k=torch.ones(1, 1, 8)) == "there is an added key and no added value: both are appended, or none"


def test_name_with_very_many_digits_is_a_name_as_any_other(tmp_path: Path) -> None:
    name = "1" * 5000
    tensors = {f"{name}.in_proj_weight": torch.ones(24, 8), f"{name}.out_proj.weight": torch.ones(8, 8)}
    report = check_weights_file(save(tmp_path, tensors), FileOptions(Told(heads=2)))
    assert [layer.name for layer in report.layers] == [name]


def test_table_that_finds_nothing_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "names.toml").write_text("[attention]\nname = 'mine'\npacked = 'wrong.*.qkv'")
    told = Told(read_table(str(tmp_path / "names.toml")), heads=2)
    with pytest.raises(InputError, match=r"has nothing that the table names, packed = 'wrong\.\*\.qkv': .* tensors"):
        check_weights_file(save(tmp_path, bert()), FileOptions(told))


def test_heads_that_nobody_says_are_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path, bert())
    with pytest.raises(InputError, match="0: how many heads it has does not follow from its weights") as caught:
        check_weights_file(path)
    assert "--heads N" in caught.value.hint
    assert check_weights_file(path, FileOptions(Told(heads=2)))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Told(heads=3), "features, which 3 heads do not divide"),
        (Told(heads=2, key_heads=3), "features, and Hk=3 heads of D=4 are 12"),
    ],
)
def test_heads_that_were_told_wrongly_are_no_fault_of_the_file(tmp_path: Path, told: Told, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_weights_file(save(tmp_path, bert()), FileOptions(told))


def test_heads_in_a_configuration_that_do_not_fit_are_a_fault_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, bert())
    (tmp_path / "config.json").write_text('{"model_type": "bert", "num_attention_heads": 3}')
    assert "which 3 heads do not divide" in check_weights_file(path).layers[0].broken


def test_configuration_that_was_named_and_is_not_there_is_said(tmp_path: Path) -> None:
    path = save(tmp_path, bert())
    with pytest.raises(InputError, match=r"nowhere\.json: No such file or directory"):
        check_weights_file(path, FileOptions(Told(heads=2, config=str(tmp_path / "nowhere.json"))))


def test_layer_with_a_norm_that_is_not_re_derived_is_not_checked_and_says_so(tmp_path: Path) -> None:
    names = [f"self_attn.{name}_proj.weight" for name in "qkvo"]
    tensors = {f"layers.0.{name}": torch.randn(8, 8) for name in names} | {
        "layers.0.self_attn.q_norm.weight": torch.ones(4)
    }
    report = check_weights_file(save(tmp_path, tensors), FileOptions(Told(heads=2)))
    assert (bool(report), report.layers) == (False, [])
    assert report.unchecked == ["layers.0: it has layers.0.self_attn.q_norm.weight, which is not re-derived"]


def test_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no layer of .* has 'decoder' in its name"):
        check_weights_file(save(tmp_path, bert(), num_attention_heads=2), options=CheckOptions(layer="decoder"))


def test_inputs_that_would_not_fit_memory_are_not_even_drawn(tmp_path: Path) -> None:
    path = save(tmp_path, bert(), num_attention_heads=2)
    with pytest.raises(
        HostError, match=r"B=2, H=2, L=10000000, S=10000000 takes \d+\.\d GiB, and \d+\.\d GiB are free"
    ):
        check_weights_file(path, options=CheckOptions(length=10_000_000))
    with pytest.raises(HostError, match=r"takes? 0\.0 GiB, and 0\.0 GiB are free"):
        check_weights_file(path, options=CheckOptions(memory_bytes=1000))


# --- other files -----------------------------------------------------------------------------------------------------


def test_copy_in_another_type_stays_within_its_bounds_and_a_changed_one_departs(tmp_path: Path) -> None:
    path = save(tmp_path, bert(16), num_attention_heads=2)
    other = tmp_path / "other"
    other.mkdir()
    changed = bert(16)
    changed[f"{QUERY}.weight"][3, 4] += 0.01
    for tensors, agrees in ((bert(16), True), (changed, False)):
        report = check_weights_file(path, FileOptions(Told(heads=2), against=save(other, tensors)))
        assert bool(report) == agrees, report.describe()
    run = report.layers[0].runs[1]
    assert run.notes == ["query: 1 of 256 numbers differ, by 0.01 at most"]
    assert run.first_departure.step == "query_projection"
    assert "query_projection departs at batch 0" in report.describe()
    rounded = save(other, {name: tensor.bfloat16() for name, tensor in bert(16).items()})
    assert check_weights_file(path, FileOptions(Told(heads=2), against=rounded))
    for tensors, words in (
        (bert(16, "decoder.layer.0."), "there is no layer called encoder.layer.0"),
        (bert(8), "has shape"),
    ):
        report = check_weights_file(path, FileOptions(Told(heads=2), against=save(other, tensors)))
        assert not report
        assert words in report.describe()


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_inputs_come_from_files_of_arrays(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path, bert(), num_attention_heads=2)
    x = np.random.default_rng(0).normal(size=(3, 7, 8)).astype(np.float32)
    inputs = tmp_path / f"inputs.{kind}"
    if kind == "npy":
        np.save(inputs, x)
    elif kind == "npz":
        np.savez(inputs, query=x, attn_mask=np.triu(np.ones((7, 7), bool), 1))
    else:
        save_file({"hidden_states": torch.from_numpy(x)}, inputs)
    report = check_weights_file(path, FileOptions(Told(), inputs=str(inputs)))
    assert report, report.describe()
    assert (report.layers[0].facts["B"], report.layers[0].facts["L"]) == (3, 7)
    assert "random" not in report.describe()


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, bert(), num_attention_heads=2)
    for name, arrays in (
        ("a", {"x": np.ones(3)}),
        ("b", {"query": np.ones((2, 3, 5))}),
        ("c", {"query": np.ones((2, 3, 8))}),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    with pytest.raises(InputError, match="called query or hidden_states, not x"):
        check_weights_file(path, FileOptions(Told(), inputs=str(tmp_path / "a.npz")))
    with pytest.raises(InputError, match=r"query is \(B=2, L=3, E=5\), and the query's weights take E=8"):
        check_weights_file(path, FileOptions(Told(), inputs=str(tmp_path / "b.npz")))
    with pytest.raises(InputError, match="the outputs have 'x', which is no step of a layer that is checked"):
        check_weights_file(path, FileOptions(Told(), str(tmp_path / "c.npz"), str(tmp_path / "a.npz")))
    with pytest.raises(InputError, match="the inputs they came from"):
        check_weights_file(path, FileOptions(Told(), outputs=str(tmp_path / "a.npz")))
    (tmp_path / "d.npy").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="holds no arrays"):
        check_weights_file(path, FileOptions(Told(), inputs=str(tmp_path / "d.npy")))
    np.save(tmp_path / "e.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="holds no arrays: it holds Python objects"):
        check_weights_file(path, FileOptions(Told(), inputs=str(tmp_path / "e.npy")))


def test_name_of_an_array_that_means_nothing_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, bert() | bert(prefix="encoder.layer.1."), num_attention_heads=2)
    x = np.ones((1, 3, 8), np.float32)
    np.savez(tmp_path / "in.npz", query=x)
    for arrays, sentence in (
        ({"query": x, "attn_maks": np.zeros((3, 3), bool)}, "there is no input called attn_maks"),
        ({"query": x, "hidden_states": x}, "both query and hidden_states"),
        ({"query": np.float32(3)}, r"the query is of shape \(\), and must be"),
        ({"query": x, "key": x[0, 0]}, r"the key is of shape \(8,\), and must be"),
    ):
        np.savez(tmp_path / "wrong.npz", **arrays)
        with pytest.raises(InputError, match=sentence):
            check_weights_file(path, FileOptions(Told(), str(tmp_path / "wrong.npz")))
    for names, sentence in (
        (["encoder.layer.0/output", "encoder.layer.0/wieghts"], "the outputs have 'encoder.layer.0/wieghts'"),
        (["output"], "the outputs have 'output', which is no step of a layer that is checked"),
    ):
        np.savez(tmp_path / "out.npz", **dict.fromkeys(names, x))
        with pytest.raises(InputError, match=sentence):
            check_weights_file(path, FileOptions(Told(), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")))
    np.savez(tmp_path / "out.npz", **{"encoder.layer.1/output": x})
    how = FileOptions(Told(), str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    assert [len(layer.runs) for layer in check_weights_file(path, how).layers] == [1, 2]
    with pytest.raises(InputError, match=r"the outputs have nothing for encoder\.layer\.0"):
        check_weights_file(path, how, options=CheckOptions(layer="layer.0"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_inputs_more_precise_than_the_file_are_rounded_to_its_type(dtype: torch.dtype, tmp_path: Path) -> None:
    path = save(tmp_path, bert(16, dtype=dtype), num_attention_heads=2)
    x = np.random.default_rng(0).normal(size=(2, 5, 16)).astype(np.float32)
    np.savez(tmp_path / "in.npz", query=x)
    weights = find_file_layers(path, Told())[0].read().weights
    for inputs, named in ((torch.from_numpy(x).to(dtype).float().numpy(), ""), (x, "float32")):
        steps = attend(inputs, inputs, inputs, weights, Settings(heads=2))
        np.savez(tmp_path / "out.npz", output=steps.output.astype(np.float32))
        how = FileOptions(Told(), str(tmp_path / "in.npz"), str(tmp_path / "out.npz"), dtype=named)
        report = check_weights_file(path, how)
        assert report, report.describe()
        assert "rounded to" in report.describe()
        assert report.layers[0].facts["dtype"] == (named or str(dtype).removeprefix("torch."))


def test_file_is_computed_in_the_type_that_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, bert(16), num_attention_heads=2)
    x = np.random.default_rng(0).normal(size=(2, 5, 16)).astype(np.float32)
    np.savez(tmp_path / "in.npz", query=x)
    half = {name: tensor.bfloat16().float().numpy() for name, tensor in bert(16).items()}
    weights = find_file_layers(save(tmp_path, {k: torch.from_numpy(v) for k, v in half.items()}, "half"), Told(heads=2))
    inputs = torch.from_numpy(x).bfloat16().float().numpy()
    output = attend(inputs, inputs, inputs, weights[0].read().weights, Settings(heads=2)).output
    np.savez(tmp_path / "out.npz", output=torch.from_numpy(output).bfloat16().float().numpy())
    files = (str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    assert not check_weights_file(path, FileOptions(Told(), *files))
    report = check_weights_file(path, FileOptions(Told(), *files, dtype="bfloat16"))
    assert report, report.describe()
    with pytest.raises(InputError, match="attention in int8 is not checked"):
        check_weights_file(path, FileOptions(Told(), dtype="int8"))


# --- positions -------------------------------------------------------------------------------------------------------


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
FACTORS = {
    "short_factor": [1.0 + 0.05 * pair for pair in range(16)],
    "long_factor": [1.0 + pair for pair in range(16)],
    "original_max_position_embeddings": 64,
}
ROPES: list[dict[str, Any]] = [
    {"rope_type": "default", "rope_theta": 10000.0},
    {"rope_type": "default", "rope_theta": 500000.0},
    {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, **LLAMA3},
    {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
    {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 64},
    {
        "rope_type": "yarn",
        "rope_theta": 150000.0,
        "factor": 8.0,
        "original_max_position_embeddings": 64,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
        "truncate": False,
        "attention_factor": 1.5,
    },
    {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 40.0,
        "original_max_position_embeddings": 64,
        "mscale": 1.0,
        "mscale_all_dim": 0.7,
        "partial_rotary_factor": 0.5,
    },
    {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0, **FACTORS},
    {"rope_type": "longrope", "rope_theta": 10000.0, "attention_factor": 1.3, **FACTORS},
]


@pytest.mark.parametrize("parameters", ROPES, ids=lambda parameters: parameters["rope_type"])
@pytest.mark.parametrize(("longest", "length"), [(512, 40), (512, 300), (128, 300)])
def test_positions_are_turned_as_the_library_does(
    parameters: dict[str, Any], longest: int, length: int, tmp_path: Path
) -> None:
    """By its modules as they are called, and by its functions, whose values are what these turn with."""
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "max_position_embeddings": longest}
    config = LlamaConfig(**sizes, rope_parameters=dict(parameters))
    module = LlamaRotaryEmbedding(config)
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "rope_parameters": parameters}))
    read = read_config(str(tmp_path / "config.json"))
    rotary = read.rotary(0, length, 32, "halves")
    assert rotary is not None
    half = rotary.cosines.shape[-1]
    if parameters["rope_type"] != "default":
        speeds, stretch = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu", seq_len=length)
        np.testing.assert_allclose(read.rope.speeds(length, 2 * half), speeds.numpy(), rtol=1e-5)
        assert read.rope.stretch == pytest.approx(stretch)
    if not (parameters["rope_type"] == "default" and "partial_rotary_factor" in parameters):  # LLaMA turns all
        cosines, sines = module(torch.zeros(1), torch.arange(length)[None])
        np.testing.assert_allclose(rotary.cosines, cosines.numpy()[..., :half], atol=5e-5)
        np.testing.assert_allclose(rotary.sines, sines.numpy()[..., :half], atol=5e-5)


def test_positions_are_turned_as_they_are_in_configs_of_older_versions(tmp_path: Path) -> None:
    """theta beside the table, `type` for `rope_type`, the first context beside it: as on the Hub."""
    for config, same in (
        ({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}}, ("linear", 500.0, 2.0)),
        ({"rope_theta": 500.0, "rope_scaling": None}, ("default", 500.0, 1.0)),
        ({"model_type": "gpt_neox", "rotary_emb_base": 500, "rotary_pct": 0.25}, ("default", 500.0, 1.0)),
        (
            {
                "original_max_position_embeddings": 64,
                "max_position_embeddings": 256,
                "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
            },
            ("longrope", 10000.0, 4.0),
        ),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        rope = read_config(str(tmp_path / "config.json")).rope
        assert (rope.kind, rope.theta, rope.factor) == same
    assert rope.before == 64
    old = {"model_type": "gemma3_text", "rope_theta": 5e5, "rope_local_base_freq": 2e3, "num_hidden_layers": 6}
    (tmp_path / "config.json").write_text(json.dumps({**old, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}))
    read = read_config(str(tmp_path / "config.json"))
    assert (read.rope.theta, read.rope.kind) == (5e5, "linear")
    assert read.sliding_rope is not None
    assert (read.sliding_rope.theta, read.sliding_rope.kind) == (2e3, "default")
    assert [read.window_of(layer) for layer in (4, 5)] == [4096, None]


def test_positions_that_are_not_known_are_named(tmp_path: Path) -> None:
    for config, name in (
        ({"rope_scaling": {"type": "su"}}, "positions of type su"),
        ({"rope_parameters": {"rope_type": "proportional"}}, "positions of type proportional"),
        (
            {"rope_scaling": {"chunked_attention": {"rope_type": "default"}}},
            "positions that differ from layer to layer",
        ),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "layers of type chunked_attention"),
        ({"num_heads": [2, 4]}, "num_heads that differ from layer to layer"),
        ({"sliding_window": 8}, "sliding_window without layer_types, which say where it is"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert read_config(str(tmp_path / "config.json")).unknown == (name,)


HUGE = 10**400
LONG = {"factor": 4.0, "original_max_position_embeddings": 64}
WRONG = [
    ({"rope_scaling": {"type": "linear"}}, "of type 'linear', and factor is missing"),
    ({"rope_scaling": [1, 2]}, r"rope_scaling is \[1, 2\], and must be a table"),
    ({"rope_scaling": "yarn"}, "rope_scaling is yarn, and must be a table"),
    ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor is 0, and must be a number from 1e-06"),
    ({"rope_theta": HUGE}, "rope_theta is .*, and must be a number from 1 to 1e.15"),
    ({"rope_theta": float("inf")}, "rope_theta is inf"),
    ({"rope_theta": float("nan")}, "rope_theta is nan"),
    ({"rope_theta": True}, "rope_theta is True"),
    ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "and original_max_position_embeddings is missing"),
    ({"rope_scaling": {"type": "longrope", "factor": 4.0, "max_position_embeddings": 8}}, "_embeddings is missing"),
    ({"rope_scaling": {"type": "longrope", **LONG, "short_factor": [1.0]}}, "and long_factor is missing"),
    ({"rope_scaling": {"type": "longrope", **LONG, "short_factor": ["1"]}}, "short_factor holds what is no number"),
    ({"rope_scaling": {"type": "longrope", **LONG, "short_factor": [0.0]}}, "short_factor holds what is no number"),
    ({"rope_scaling": {"type": "yarn", **LONG, "rope_theta": 1}}, "rope_theta is 1, with which"),
    ({"rope_scaling": {"type": "yarn", **LONG, "truncate": 1}}, "truncate is 1, and must be true or false"),
    ({"layer_types": "all"}, "layer_types is all, and must be a list"),
    ({"model_type": "gemma2", "attn_logit_softcapping": -1}, "attn_logit_softcapping is -1, and must be a number"),
    ({"model_type": "qwen3", "rms_norm_eps": "small"}, "rms_norm_eps is small, and must be a number"),
    ({"partial_rotary_factor": 1e308}, "partial_rotary_factor is 1e.308, and must be a number from 1e-06 to 1"),
    ({"num_attention_heads": 10**30}, "num_attention_heads is 10*, and must be a whole number"),
    ({"num_attention_heads": 0}, "num_attention_heads is 0, and"),
    ({"num_attention_heads": 2.5}, "num_attention_heads is 2.5"),
    ({"head_dim": "8"}, "head_dim is 8, and must be a whole number"),
    ({"is_decoder": "no"}, "is_decoder is no, and must be true or false"),
    ({"model_type": 3}, "model_type is .*, and must be a text"),
    ({"query_pre_attn_scalar": 1e-320}, "query_pre_attn_scalar is 1e-320"),
    (
        {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8,
                "low_freq_factor": 1,
                "high_freq_factor": 1,
                "original_max_position_embeddings": 8192,
            }
        },
        "low_freq_factor 1 must be less than 1, the high one",
    ),
]


@pytest.mark.parametrize(("config", "sentence"), WRONG, ids=lambda value: str(value)[:30])
def test_value_of_a_config_that_cannot_be_meant_is_refused_by_its_name(
    config: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=sentence):
        read_config(str(tmp_path / "config.json"))


@pytest.mark.parametrize(("text", "sentence"), [("[]", "no model's configuration"), ("{", "is no JSON")])
def test_config_that_cannot_be_read_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_config(str(tmp_path / "config.json"))


def test_inputs_without_numbers_are_nothing_to_compare_and_no_pass(tmp_path: Path) -> None:
    path = save(tmp_path, bert())
    np.save(tmp_path / "empty.npy", np.zeros((2, 0, 8), np.float32))
    report = check_weights_file(path, FileOptions(Told(heads=2), str(tmp_path / "empty.npy")))
    assert not report
    assert report.layers[0].is_empty
    assert set(verdicts(report).values()) == {"nothing_to_compare"}
    assert report.describe().splitlines()[-1].startswith("no layer was checked; nothing to compare in encoder.layer.0")
