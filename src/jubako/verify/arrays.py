"""NumPy arrays (.npy) and archives of them (.npz), compared element by element.

Files are read piece by piece in the order in which they are stored, so memory does not grow with them. Nothing is
unpickled: arrays of Python objects are refused. The byte order doesn't count, types and shapes do.
"""

from __future__ import annotations

import ast
import math
import zipfile
import zlib

import numpy as np

from jubako.records import record
from jubako.verify.findings import Incomparable, Unreadable, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO, Literal

    from jubako.verify.content import File
    from jubako.verify.findings import Findings

__all__ = ["StoredArray", "compare_array_archives", "compare_array_files", "compare_arrays", "read_array_head"]

_PIECE = 1 << 22  # bytes of an array that are read at a time
_WHOLE = 1 << 30  # bytes of an array that has to be read as a whole, because the other is stored in another order
_ELEMENTS = 1 << 60  # more than any disk has bytes
_MEMBERS = 100_000
_UNITS = "mM"  # moments and spans of time


@record
class StoredArray:
    """What an array file says of itself; the stream stands at its first element."""

    stream: BinaryIO
    shape: tuple[int, ...]
    dtype: Any
    is_fortran: bool

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def order(self) -> Literal["C", "F"]:
        return "F" if self.is_fortran else "C"

    def read(self, count: int) -> Any:
        """The next `count` elements."""
        size = count * self.dtype.itemsize
        data = bytearray()
        while len(data) < size:
            piece = self.stream.read(size - len(data))
            if not piece:
                raise Unreadable("it is no whole array: it ends too early")
            data += piece
        return np.frombuffer(bytes(data), dtype=self.dtype, count=count)


def compare_array_files(one: File, other: File, findings: Findings) -> None:
    """Two .npy files."""
    with one.open() as published, other.open() as recomputed:
        _compare_stored(read_array_head(published), read_array_head(recomputed), "", findings)


def compare_array_archives(one: File, other: File, findings: Findings) -> None:
    """Two .npz files: their arrays by name, whatever their order and compression."""
    with one.open_raw() as published, other.open_raw() as recomputed:
        try:
            with zipfile.ZipFile(published) as first, zipfile.ZipFile(recomputed) as second:
                _compare_members(first, second, findings)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise Unreadable(f"it is no archive of arrays: {error}") from error


def compare_arrays(
    published: Any, recomputed: Any, findings: Findings, where: Callable[[int], str] | None = None
) -> None:
    """Two arrays of one type and shape, in memory. `where` names the element with a number (in C order)."""
    name_element = where or (lambda index: _format_index(np.unravel_index(index, published.shape)))
    _compare_pieces(published.reshape(-1), recomputed.reshape(-1), name_element, findings)


def _compare_members(first: zipfile.ZipFile, second: zipfile.ZipFile, findings: Findings) -> None:
    names = [first.namelist(), second.namelist()]
    if max(map(len, names)) > _MEMBERS:
        raise Unreadable(f"it has more than {_MEMBERS:,} members")
    there = [set(each) for each in names]
    for name in dict.fromkeys(names[0] + names[1]):
        shown = name.removesuffix(".npy")
        if findings.ignores(shown):
            continue
        if not all(name in each for each in there):
            findings.differ(f"array {show(shown)}", *("an array" if name in each else "" for each in there))
            continue
        with first.open(name) as published, second.open(name) as recomputed:
            _compare_stored(read_array_head(published), read_array_head(recomputed), shown, findings)


def read_array_head(stream: Any) -> StoredArray:
    """Reads the head of an array file; NumPy's own reader refuses long ones, which are hostile."""
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version in readers:
            shape, is_fortran, dtype = readers[version](stream)
        elif version == (3, 0):
            shape, is_fortran, dtype = _read_head_3(stream)
        else:
            raise Unreadable(f"it is no array: version {version} of the format is not known")
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise Unreadable(f"it is no array: {str(error).partition(chr(10))[0]}") from error
    if dtype.hasobject:
        raise Incomparable("it holds Python objects, which would have to be unpickled: that can run anything")
    if any(length < 0 for length in shape) or math.prod(shape) >= _ELEMENTS:
        raise Unreadable(f"it is no array: its shape is {shape}")
    return StoredArray(stream, shape, dtype, bool(is_fortran))


def _read_head_3(stream: BinaryIO) -> tuple[tuple[int, ...], bool, Any]:
    """The same as version 2.0, in UTF-8: for names of fields that are not Latin-1."""
    length = int.from_bytes(stream.read(4), "little")
    if length > 10_000:
        raise ValueError(f"its head is {length} bytes long")
    head = ast.literal_eval(stream.read(length).decode("utf-8"))
    return tuple(map(int, head["shape"])), head["fortran_order"], np.lib.format.descr_to_dtype(head["descr"])


def _compare_stored(one: StoredArray, other: StoredArray, name: str, findings: Findings) -> None:
    prefix = name or "the array"
    if one.dtype.newbyteorder("=") != other.dtype.newbyteorder("="):
        findings.differ(f"type of {prefix}", str(one.dtype), str(other.dtype))
        return
    if one.shape != other.shape:
        findings.differ(f"shape of {prefix}", str(one.shape), str(other.shape))
        return
    if one.dtype.itemsize == 0 or one.count == 0:
        return
    is_one_dimension = sum(length > 1 for length in one.shape) < 2
    if one.is_fortran == other.is_fortran or is_one_dimension:
        step = max(1, _PIECE // one.dtype.itemsize)
        for start in range(0, one.count, step):
            count = min(step, one.count - start)

            def where(index: int, start: int = start) -> str:
                return name + _format_index(np.unravel_index(start + index, one.shape, order=one.order))

            _compare_pieces(one.read(count), other.read(count), where, findings)
        return
    if one.count * one.dtype.itemsize > _WHOLE:
        raise Incomparable("one array is stored by rows and the other by columns, and they are too large to be turned")
    rows, columns = (each.read(each.count).reshape(each.shape, order=each.order) for each in (one, other))
    compare_arrays(rows, columns, findings, lambda index: name + _format_index(np.unravel_index(index, one.shape)))


def _compare_pieces(one: Any, other: Any, where: Callable[[int], str], findings: Findings) -> None:
    """Two flat arrays of one type (but for its byte order), the elements of which `where` names."""
    if one.dtype.fields:
        for field in one.dtype.names:
            if not findings.ignores(field):

                def where_in_field(index: int, field: str = field) -> str:
                    return f"{where(index)}.{field}"

                parts = [part[field].reshape(len(part), -1) for part in (one, other)]
                for column in range(parts[0].shape[1]):
                    _compare_pieces(parts[0][:, column], parts[1][:, column], where_in_field, findings)
        return
    one, other = (
        one.astype(one.dtype.newbyteorder("="), copy=False),
        other.astype(one.dtype.newbyteorder("="), copy=False),
    )
    kind = one.dtype.kind
    if kind == "c":
        for part, sign in (("real", ""), ("imag", "j")):
            _compare_pieces(getattr(one, part), getattr(other, part), lambda i, s=sign: where(i) + s, findings)  # type: ignore[misc]
    elif kind in "fiu":
        _compare_numbers(one, other, where, findings)
    else:
        unlike = _find_unlike(one, other)
        _tell_unlike(one, other, unlike, where, findings)


def _find_unlike(one: Any, other: Any) -> Any:
    """Which elements of two arrays of the same kind, other than numbers, are not the same."""
    if one.dtype.kind == "V":  # bytes that mean nothing to NumPy
        parts = [np.ascontiguousarray(each).view(np.uint8).reshape(len(each), -1) for each in (one, other)]
        return (parts[0] != parts[1]).any(axis=1)
    unlike = one != other
    if one.dtype.kind in _UNITS:
        unlike &= ~(np.isnat(one) & np.isnat(other))
    return unlike


def _compare_numbers(one: Any, other: Any, where: Callable[[int], str], findings: Findings) -> None:
    unlike = one != other
    if one.dtype.kind == "f":
        unlike &= ~(np.isnan(one) & np.isnan(other))
        unlike |= (one == 0) & (other == 0) & (np.signbit(one) != np.signbit(other))
    if not unlike.any():
        return
    if findings.tolerance.is_exact:
        _tell_unlike(one, other, unlike, where, findings)
        return
    places = np.flatnonzero(unlike)
    published, recomputed = one[places], other[places]
    with np.errstate(all="ignore"):
        if one.dtype.kind == "f":
            wide = np.promote_types(one.dtype, np.float64)
            off = np.abs(published.astype(wide) - recomputed.astype(wide))
        else:  # without overflow: the larger minus the smaller, as what has no sign
            unsigned = np.dtype(f"u{one.dtype.itemsize}")
            larger, smaller = np.maximum(published, recomputed), np.minimum(published, recomputed)
            off = larger.astype(unsigned) - smaller.astype(unsigned)
        size = np.abs(published.astype(np.promote_types(one.dtype, np.float64)))
        allowed = float(findings.tolerance.absolute) + float(findings.tolerance.relative) * size
        fits = (off <= allowed) & np.isfinite(published) & np.isfinite(recomputed)
    within = np.flatnonzero(fits)
    if len(within):
        furthest = int(within[int(np.argmax(off[within]))])
        kind = float if one.dtype.kind == "f" else int
        pair = kind(published[furthest]), kind(recomputed[furthest])
        findings.deviate(*pair, lambda: where(int(places[furthest])), count=len(within))
    too_far = places[~fits]
    if len(too_far):
        _tell(one, other, int(too_far[0]), len(too_far), where, findings)


def _tell_unlike(one: Any, other: Any, unlike: Any, where: Callable[[int], str], findings: Findings) -> None:
    if unlike.any():
        _tell(one, other, int(np.argmax(unlike)), int(np.count_nonzero(unlike)), where, findings)


def _tell(one: Any, other: Any, place: int, count: int, where: Callable[[int], str], findings: Findings) -> None:
    shown = [_show(each[place]) for each in (one, other)]
    findings.differ(where(place), *shown, count=count)


def _show(value: Any) -> str:
    kind = value.dtype.kind
    return show(str(value)) if kind == "U" else show(bytes(value)) if kind in "SV" else str(value)


def _format_index(index: Any) -> str:
    return f"[{', '.join(str(int(i)) for i in index)}]" if len(index) else "the only element"
