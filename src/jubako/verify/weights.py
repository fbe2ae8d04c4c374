"""Files of weights (safetensors), compared tensor by tensor and number by number.

Read piece by piece, so memory does not grow with them. Where a tensor lies in the file does not count; its name, type,
shape and every number do, and the metadata.
"""

from __future__ import annotations

import numpy as np

from jubako.errors import InputError
from jubako.verify.arrays import compare_arrays
from jubako.verify.findings import Incomparable, Unreadable, show
from jubako.verify.weight_file import open_weights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.verify.content import File
    from jubako.verify.findings import Findings
    from jubako.verify.weight_file import WeightFile

__all__ = ["compare_weights"]

_PIECE = 1 << 22  # bytes; a multiple of every type's size


def compare_weights(one: File, other: File, findings: Findings) -> None:
    """Two safetensors files. Unreadable for what is none."""
    for file in (one, other):
        with file.open_raw():  # no pipe, no link, and it can be read
            continue
    if one.known_as.lower().endswith((".gz", ".bz2", ".xz")):
        raise Incomparable("compressed files of weights are not read")
    try:
        first, second = open_weights(one.path), open_weights(other.path)
    except InputError as error:
        raise Unreadable(error.message.partition(" is no whole ")[2] or error.message) from error
    for name in sorted({*first.metadata, *second.metadata}):
        values = [file.metadata.get(name) for file in (first, second)]
        if values[0] != values[1] and not findings.ignores(name):
            findings.differ(f"metadata {show(name)}", *("" if value is None else show(value) for value in values))
    for name in dict.fromkeys([*first.tensors, *second.tensors]):
        if not findings.ignores(name):
            _compare_tensor(name, first, second, findings)


def _compare_tensor(name: str, first: WeightFile, second: WeightFile, findings: Findings) -> None:
    one, other = first.tensors.get(name), second.tensors.get(name)
    if one is None or other is None:
        findings.differ(f"tensor {show(name)}", *("a tensor" if each else "" for each in (one, other)))
        return
    for what, ours, theirs in (("type", one.dtype, other.dtype), ("shape", str(one.shape), str(other.shape))):
        if ours != theirs:
            findings.differ(f"{what} of {name}", ours, theirs)
            return
    for start in range(0, one.size, _PIECE):
        size = min(_PIECE, one.size - start)
        pieces = [file.read_piece(name, start, size) for file in (first, second)]
        before = start * len(pieces[0]) // size  # numbers

        def where(index: int, before: int = before) -> str:
            if not one.is_numbers:
                return f"{name}, byte {before + index}"
            place = np.unravel_index(before + index, one.shape)
            return f"{name}[{', '.join(map(str, map(int, place)))}]"

        compare_arrays(pieces[0], pieces[1], findings, where)
