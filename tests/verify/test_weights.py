"""Files of weights: which tensor differs, where, and by how much."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jubako.verify import Tolerance

if TYPE_CHECKING:
    from tests.verify.conftest import Compare

ONE = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b.bias": np.ones(4, dtype=np.float16)}


def saved(
    tensors: dict[str, Any], metadata: dict[str, str] | None = None, dtypes: dict[str, str] | None = None
) -> bytes:
    """As the format's specification has it; `dtypes` for types that NumPy does not have."""
    known = {"float32": "F32", "float16": "F16", "uint16": "BF16", "uint8": "U8"}
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, array in tensors.items():
        content = array.tobytes()
        dtype = (dtypes or {}).get(name, known[str(array.dtype)])
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_change(name: str, place: tuple[int, ...], by: float) -> dict[str, Any]:
    changed = {key: array.copy() for key, array in ONE.items()}
    changed[name][place] += by
    return changed


def test_order_in_the_file_does_not_count(compared: Compare) -> None:
    found = compared("m.safetensors", saved(ONE), saved(dict(reversed(ONE.items()))))
    assert (found.verdict, found.how) == ("same", "safetensors")
    assert found.notes == ("the same contents in other bytes",)


def test_number_that_differs_is_named_with_its_tensor_and_place(compared: Compare) -> None:
    found = compared("m.safetensors", saved(ONE), saved(with_change("a.weight", (1, 2), 0.5)))
    assert found.first is not None
    assert (found.first.where, found.first.published, found.first.recomputed) == ("a.weight[1, 2]", "5.0", "5.5")
    near = compared(
        *("m.safetensors", saved(ONE), saved(with_change("a.weight", (1, 2), 0.5))), tolerance=Tolerance(relative=0.2)
    )
    assert (near.verdict, near.within) == ("within", 1)


def test_place_in_a_later_piece_of_a_large_tensor_is_right(compared: Compare) -> None:
    large = {"w": np.zeros((1100, 1100), dtype=np.float32)}  # 4.6 MiB, and pieces are 4
    other = {"w": large["w"].copy()}
    other["w"][1099, 7] = 1
    found = compared("m.safetensors", saved(large), saved(other))
    assert found.first is not None
    assert found.first.where == "w[1099, 7]"


@pytest.mark.parametrize(
    ("other", "where"),
    [
        (saved({"a.weight": ONE["a.weight"]}), 'tensor "b.bias"'),
        (saved({**ONE, "a.weight": ONE["a.weight"].T.copy()}), "shape of a.weight"),
        (saved({**ONE, "b.bias": np.ones(4, dtype=np.float32)}), "type of b.bias"),
        (saved(ONE, {"format": "pt"}), 'metadata "format"'),
    ],
)
def test_what_is_not_the_same_kind_of_tensor_is_told(compared: Compare, other: bytes, where: str) -> None:
    found = compared("m.safetensors", saved(ONE), other)
    assert found.first is not None
    assert found.first.where == where


def test_tensor_and_metadata_can_be_ignored(compared: Compare) -> None:
    other = saved(with_change("b.bias", (1,), 1), {"made": "today"})
    assert compared("m.safetensors", saved(ONE), other, ignore=["b.bias", "made"]).verdict == "same"


def test_half_precision_of_both_kinds_is_compared_as_numbers_and_other_types_by_bytes(compared: Compare) -> None:
    bits = np.array([0x3F80, 0x4000], dtype=np.uint16)  # 1 and 2 in bfloat16
    found = compared("m.safetensors", saved({"x": bits}), saved({"x": bits + np.uint16([0, 1])}))
    assert found.first is not None
    assert (found.first.where, found.first.published, found.first.recomputed) == ("x[1]", "2.0", "2.015625")
    eighths = np.array([1, 2, 3], dtype=np.uint8)
    kinds = {"x": "F8_E4M3"}
    other = saved({"x": eighths + np.uint8([0, 0, 1])}, dtypes=kinds)
    found = compared("m.safetensors", saved({"x": eighths}, dtypes=kinds), other)
    assert found.first is not None
    assert found.first.where == "x, byte 2"


def test_what_is_no_such_file_is_compared_as_bytes_and_said_so(compared: Compare) -> None:
    found = compared("m.safetensors", saved(ONE), saved(ONE)[:-1])
    assert found.verdict == "different"
    assert found.how == "bytes"
    assert any("safetensors file: its tensors end at byte" in note for note in found.notes)
