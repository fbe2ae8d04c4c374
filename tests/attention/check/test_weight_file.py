"""The reader of safetensors files against the library that writes them, and against files that are not whole."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save as save_numpy
from safetensors.torch import save_file

from jubako.errors import InputError
from jubako.verify.weight_file import open_weights


def write(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> str:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return str(path)


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_reads_what_the_library_writes_in_every_type(tmp_path: Path) -> None:
    kinds = [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int8,
        torch.uint8,
        torch.bool,
    ]
    tensors = {str(kind): (torch.randn(3, 4) * 5).to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 7)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    file = open_weights(str(tmp_path / "x.safetensors"))
    assert file.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
        read = file.read(name)
        assert read.dtype == expected.dtype
        assert np.array_equal(read, expected)
    assert file.tensors["torch.bfloat16"].precision == "bfloat16"
    assert file.tensors["torch.int8"].precision == ""


@given(
    st.dictionaries(
        st.text(max_size=20), arrays(np.float32, array_shapes(min_dims=0, max_dims=3, min_side=0)), max_size=5
    )
)
def test_reads_what_the_library_writes_whatever_it_is_called(
    tmp_path_factory: Any, tensors: dict[str, np.ndarray]
) -> None:
    tensors.pop("__metadata__", None)
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(save_numpy(tensors))
    file = open_weights(str(path))
    assert file.tensors.keys() == tensors.keys()
    assert all(np.array_equal(file.read(name), array, equal_nan=True) for name, array in tensors.items())


HEADERS = [
    (b"", "it is 0 bytes long, and the size of its header takes 8"),
    (b"1234567", "it is 7 bytes long"),
    (
        struct.pack("<Q", 1 << 63),
        "its header is said to be 9,223,372,036,854,775,808 bytes long, and the file has 0 more",
    ),
    (struct.pack("<Q", 3) + b"{}", "said to be 3 bytes long, and the file has 2 more"),
    (struct.pack("<Q", 2) + b"[]", "its header is no object of tensors"),
    (struct.pack("<Q", 2) + b"\xff\xfe", "its header is no JSON"),
    (struct.pack("<Q", 100_000) + b"[" * 100_000, "its header is no JSON"),
    (struct.pack("<Q", 11) + b'{"a": NaN} ', "its header is no JSON: NaN is no number"),
]


@pytest.mark.parametrize(("content", "sentence"), HEADERS)
def test_file_that_is_no_safetensors_is_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        open_weights(str(path))


ENTRIES = [
    ({"a": 3}, "'a' lacks a type, a shape or offsets"),
    ({"a": {"dtype": "F32", "shape": [2]}}, "'a' lacks"),
    ({"a": entry("F33")}, "'a' is of type 'F33', which there is not"),
    ({"a": {**entry(), "dtype": ["F32"]}}, "'a' is of type"),
    ({"a": entry(shape=[-1], offsets=[0, 8])}, r"the shape of 'a' is \[-1\]"),
    ({"a": entry(shape=[2.0])}, r"the shape of 'a' is \[2.0\]"),
    ({"a": entry(shape=[True, 2])}, r"the shape of 'a' is \[True, 2\]"),
    ({"a": entry(shape=[1] * 33)}, "the shape of 'a' is"),
    ({"a": entry(shape=[1 << 61, 1 << 61])}, "the shape of 'a' is"),
    ({"a": entry(offsets=[8, 0])}, r"the offsets of 'a' are \[8, 0\]"),
    ({"a": entry(offsets=[0])}, "the offsets of 'a' are"),
    ({"a": entry(offsets=[0, 1 << 70])}, "the offsets of 'a' are"),
    ({"a": entry(offsets=[0, 4])}, r"'a' is F32 of shape \(2,\), 8 bytes, and has 4"),
    ({"a": entry(), "b": entry()}, "'b' overlaps 'a'"),
    ({"a": entry(), "b": entry(offsets=[4, 12])}, "'b' overlaps 'a'"),
    ({"a": entry(offsets=[4, 12])}, "'a' leaves a gap after the header"),
    ({"a": entry(), "b": entry(offsets=[16, 24])}, "'b' leaves a gap after 'a'"),
    ({"a": entry(), "b": entry(offsets=[8, 16])}, "tensors end at byte .*, and the file ends too early"),
    (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{}}', "its header has 'a' twice"),
    (b'{"a":{"dtype":"F32","dtype":"F64","shape":[2],"data_offsets":[0,8]}}', "its header has 'dtype' twice"),
]


@pytest.mark.parametrize(("header", "sentence"), ENTRIES)
def test_header_that_does_not_fit_the_file_is_refused(header: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        open_weights(write(tmp_path / "x.safetensors", header, bytes(8)))


def test_file_with_more_behind_its_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="and the file has more: it is"):
        open_weights(write(tmp_path / "x.safetensors", {"a": entry()}, bytes(9)))


def test_header_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 65 << 20))
        file.truncate(8 + (65 << 20))  # a hole: nothing of it is on the disk
    with pytest.raises(InputError, match="68,157,440 bytes long, and 67,108,864 are read"):
        open_weights(str(path))


def test_file_that_is_cut_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {"a": entry()}, bytes(8))
    file = open_weights(path)
    Path(path).write_bytes(Path(path).read_bytes()[:-4])
    with pytest.raises(InputError, match="it ended within 'a'"):
        file.read("a")


def test_type_that_is_no_number_here_is_refused_when_it_is_read(tmp_path: Path) -> None:
    file = open_weights(write(tmp_path / "x.safetensors", {"a": entry("F8_E4M3", [8])}, bytes(8)))
    with pytest.raises(InputError, match="'a' is of type F8_E4M3, which is not read"):
        file.read("a")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        open_weights(str(tmp_path / "none.safetensors"))


def test_shape_that_no_memory_could_have_is_refused_though_it_is_empty(tmp_path: Path) -> None:
    for shape in ([0, 1 << 61], [0, 1 << 61, 1 << 61]):
        path = write(tmp_path / "x.safetensors", {"a": entry(shape=shape, offsets=(0, 0))})
        with pytest.raises(InputError, match="the shape of 'a' is"):
            open_weights(path)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = {"pipe": str(tmp_path / "pipe"), "device": "/dev/zero", "folder": str(tmp_path)}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(InputError, match="is no regular file"):
        open_weights(path)


def test_name_that_is_there_twice_is_found_among_very_many(tmp_path: Path) -> None:
    """In a time that grows with their number and not with its square, or this test would not end."""
    names = ",".join(f'"x{number}":{{}}' for number in range(400_000))
    with pytest.raises(InputError, match="its header has 'z' twice"):
        open_weights(write(tmp_path / "x.safetensors", f'{{{names},"z":{{}},"z":{{}}}}'.encode()))


WHOLE = save_numpy({"a": np.arange(4, dtype=np.float32), "b": np.ones((2, 3), np.float16)}, {"by": "us"})


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), st.integers(0, len(WHOLE)))
def test_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path_factory: Any, place: int, byte: int, end: int
) -> None:
    damaged = bytearray(WHOLE)
    damaged[place] = byte
    _read_or_refuse(tmp_path_factory, bytes(damaged[:end] if byte % 2 else damaged))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "x"]), inner)
    ),
    max_leaves=8,
)
TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I8", "BOOL", "F8_E4M3", "XX"]),
        "shape": st.lists(st.integers(-1, 4), max_size=3),
        "data_offsets": st.lists(st.integers(-1, 40), min_size=1, max_size=3),
    }
)


@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), TENSOR | JSON), st.integers(0, 48))
def test_any_header_is_read_or_refused_and_nothing_else(tmp_path_factory: Any, header: Any, size: int) -> None:
    text = json.dumps(header).encode()
    _read_or_refuse(tmp_path_factory, struct.pack("<Q", len(text)) + text + bytes(size))


def _read_or_refuse(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        file = open_weights(str(path))
        for name, stored in file.tensors.items():
            assert 8 <= stored.start <= stored.start + stored.size <= len(content)
            if stored.dtype != "F8_E4M3":
                assert file.read(name).shape == stored.shape


def save_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


@pytest.mark.parametrize(
    ("save", "kind"),
    [
        (lambda path: torch.save({"a": torch.ones(2)}, path), "a zip file, as torch.save writes"),
        (lambda path: path.write_bytes(pickle.dumps([1] * 9)), "a pickle"),
        (save_array, "an array of NumPy"),
        (lambda path: path.write_bytes(b"GGUF" + bytes(20)), "a GGUF file"),
    ],
)
def test_other_kinds_of_files_are_told_by_their_names(
    save: Callable[[Path], object], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save(path)
    with pytest.raises(InputError, match=f"model.safetensors is no safetensors file but {kind}") as caught:
        open_weights(str(path))
    assert "save_file" in caught.value.hint
