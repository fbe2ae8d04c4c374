"""Reads safetensors files: names, types and shapes at once, each tensor when it is asked for.

    8 bytes            N, the size of the header, little-endian
    N bytes            JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
    the rest           the tensors, row by row, little-endian; offsets count from here

A file is valid if the tensors fill the rest without a gap and without overlapping, and each has the size that its type
and shape make. Nothing is trusted before that is checked: files come from strangers. No more is read than the header
(64 MiB at most) and the tensors that are asked for.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter

import numpy as np

from jubako.errors import InputError
from jubako.records import record
from jubako.verify.content import open_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Stored", "WeightFile", "from_bfloat16", "open_weights"]

_HEADER = 64 << 20  # bytes
_AXES = 32
_NUMBERS = 1 << 59  # of a tensor: no memory has more, and NumPy refuses such shapes, empty ones too
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_BYTES_ONLY = {"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F4": 0, "F6_E2M3": 0, "F6_E3M2": 0, "C64": 8}
_OTHERS = {  # a header would be petabytes long, or of some gigabytes, if these were its size
    b"PK\x03\x04": "a zip file, as torch.save writes",
    b"\x80\x02": "a pickle",
    b"\x80\x04\x95": "a pickle",
    b"\x80\x05\x95": "a pickle",
    b"\x93NUMPY": "an array of NumPy",
    b"\x89HDF\r\n": "an HDF5 file",
    b"GGUF": "a GGUF file",
}
_SAVES = "safetensors.torch.save_file writes such files, and so does save_pretrained of transformers"
_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@record
class Stored:
    """A tensor in a file: what it is, and where. `dtype` is as the format calls it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int  # bytes from the start of the file
    size: int  # bytes

    @property
    def is_numbers(self) -> bool:
        """True if NumPy has its type, or bfloat16."""
        return self.dtype in _TYPES

    @property
    def precision(self) -> str:
        """The name of its type as everybody else has it: "bfloat16"; "" if it does not hold real numbers."""
        return _NAMES.get(self.dtype, "")


@record
class WeightFile:
    """A file whose header has been read and found to be whole."""

    path: str
    tensors: dict[str, Stored]
    metadata: dict[str, str]

    def read(self, name: str) -> Any:
        """The numbers of a tensor; bfloat16 as single precision. InputError for types that are no numbers here."""
        stored = self.tensors[name]
        if not stored.is_numbers:
            raise _refuse(self.path, f"{name!r} is of type {stored.dtype}, which is not read")
        return self.read_piece(name, 0, stored.size).reshape(stored.shape)

    def read_piece(self, name: str, start: int, size: int) -> Any:
        """The flat numbers in `size` bytes of a tensor from byte `start` on; bytes, for types that are no numbers."""
        stored = self.tensors[name]
        try:
            with open_regular(self.path) as file:
                file.seek(stored.start + start)
                data = file.read(size)
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}") from error
        if len(data) != size:
            raise _refuse(self.path, f"it ended within {name!r}: it was changed while it was read")
        array = np.frombuffer(data, dtype=_TYPES.get(stored.dtype, "u1"))
        return from_bfloat16(array) if stored.dtype == "BF16" else array


def open_weights(path: str) -> WeightFile:
    """The tensors of a file. InputError, with the reason, for what is no whole safetensors file."""
    try:
        with open_regular(path) as file:
            total = os.fstat(file.fileno()).st_size
            head = file.read(8)
            if len(head) < 8:
                raise _refuse(path, f"it is {len(head)} bytes long, and the size of its header takes 8")
            if kind := next((kind for start, kind in _OTHERS.items() if head.startswith(start)), ""):
                raise InputError(f"{path} is no safetensors file but {kind}", hint=_SAVES)
            length = int.from_bytes(head, "little")
            if length > min(_HEADER, total - 8):
                limit = f"the file has {total - 8:,} more" if length > total - 8 else f"{_HEADER:,} are read"
                raise _refuse(path, f"its header is said to be {length:,} bytes long, and {limit}")
            text = file.read(length)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if len(text) != length:
        raise _refuse(path, "it ended within its header: it was changed while it was read")
    entries = _parse(path, text)
    tensors = [_stored(path, name, entry, 8 + length) for name, entry in entries.items() if name != "__metadata__"]
    _require_whole(path, tensors, 8 + length, total)
    return WeightFile(path, {stored.name: stored for stored in tensors}, _read_metadata(path, entries))


def from_bfloat16(bits: Any) -> Any:
    """Single precision from the upper halves of their bits, as bfloat16 is stored (uint16)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _parse(path: str, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise _refuse(path, f"its header has {twice[:80]!r} twice")
        return found

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _refuse(path, f"its header is no JSON: {str(error)[:100]}") from error
    if not isinstance(header, dict):
        raise _refuse(path, "its header is no object of tensors")
    return header


def _read_metadata(path: str, entries: dict[str, Any]) -> dict[str, str]:
    found = entries.get("__metadata__", {})
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _refuse(path, "its metadata are no texts")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _stored(path: str, name: str, entry: Any, data: int) -> Stored:
    """A tensor as the header has it. The size follows from type and shape, and has to be what the offsets say."""
    shown = repr(name[:80])
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise _refuse(path, f"{shown} lacks a type, a shape or offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or (dtype not in _TYPES and dtype not in _BYTES_ONLY):
        raise _refuse(path, f"{shown} is of type {str(dtype)[:20]!r}, which there is not")
    if not _are_sizes(shape) or len(shape) > _AXES or math.prod(filter(None, shape)) >= _NUMBERS:
        raise _refuse(path, f"the shape of {shown} is {str(shape)[:80]}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _refuse(path, f"the offsets of {shown} are {str(offsets)[:80]}")
    start, end = offsets
    width = np.dtype(_TYPES[dtype]).itemsize if dtype in _TYPES else _BYTES_ONLY[dtype]
    if width and math.prod(shape) * width != end - start:
        wanted = math.prod(shape) * width
        raise _refuse(path, f"{shown} is {dtype} of shape {tuple(shape)}, {wanted:,} bytes, and has {end - start:,}")
    return Stored(name, dtype, tuple(shape), data + start, end - start)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 62 for value in values)


def _require_whole(path: str, tensors: list[Stored], start: int, total: int) -> None:
    """The tensors fill the file, one behind the other."""
    reached, last = start, "the header"
    for stored in sorted(tensors, key=lambda each: (each.start, each.size)):
        if stored.start != reached:
            how = "overlaps" if stored.start < reached else "leaves a gap after"
            raise _refuse(path, f"{stored.name[:80]!r} {how} {last}")
        reached, last = stored.start + stored.size, repr(stored.name[:80])
    if reached != total:
        how = "ends too early" if reached > total else "has more"
        raise _refuse(path, f"its tensors end at byte {reached:,}, and the file {how}: it is {total:,} bytes long")


def _refuse(path: str, why: str) -> InputError:
    return InputError(f"{path} is no whole safetensors file: {why}")
