"""Calls that were written down (`syscalls.recorded`), as bytes for a program that performs them: a script.

A script is in the byte order and with the call numbers of the machine it is made on:

    header    magic "jbk1", a number of steps, of relocations, and of bytes of the blob: four unsigned 32-bit words
    steps     number of the call, the error it may fail with (0: none), six arguments. Each argument is what it means
              and a 64-bit value: 0 the value itself, 1 an offset into the blob, 2 the result of the step of that number
    relocations   pairs of offsets into the blob: at the first, the address of the second is to be put, in 64 bits
    blob      what is pointed to: strings that end with a null byte, structures; each begins at a multiple of eight

It holds as long as what it was made from: nothing in it is looked up again.
"""

from __future__ import annotations

import struct

from jubako.errors import BugError
from jubako.kernel.syscalls import Pointed, Register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from jubako.kernel.syscalls import Recorded

__all__ = ["format_script"]

_MAGIC = b"jbk1"
_HEADER = struct.Struct("=4sIII")
_CALL = struct.Struct("=II")
_ARGUMENT = struct.Struct("=QQ")
_PAIR = struct.Struct("=II")
_ITSELF, _IN_BLOB, _RESULT = 0, 1, 2
_ARGUMENTS = 6
_ALIGNMENT = 8


def format_script(calls: Sequence[Recorded]) -> bytes:
    """The script that makes these calls, in their order. BugError for an argument that cannot be written down."""
    blob = _Blob()
    results = {int(one.result): at for at, one in enumerate(calls)}
    steps = []
    for one in calls:
        arguments = [_place(argument, blob, results) for argument in one.arguments]
        arguments += [(_ITSELF, 0)] * (_ARGUMENTS - len(arguments))
        steps.append(_CALL.pack(one.number, one.tolerated) + b"".join([_ARGUMENT.pack(*words) for words in arguments]))
    pairs = b"".join([_PAIR.pack(*pair) for pair in blob.relocations])
    header = _HEADER.pack(_MAGIC, len(steps), len(blob.relocations), len(blob.data))
    return b"".join((header, *steps, pairs, blob.data))


class _Blob:
    def __init__(self) -> None:
        self.data = bytearray()
        self.relocations: list[tuple[int, int]] = []
        self._known: dict[bytes, int] = {}

    def add(self, data: bytes, *, is_shared: bool = True) -> int:
        """The offset of `data`, with a null byte behind it."""
        if is_shared and data in self._known:
            return self._known[data]
        self.data += bytes(-len(self.data) % _ALIGNMENT)
        at = self._known[data] = len(self.data)
        self.data += data + b"\0"
        return at


def _place(argument: Any, blob: _Blob, results: dict[int, int]) -> tuple[int, int]:
    if argument is None:
        return _ITSELF, 0
    if isinstance(argument, Register):
        return _RESULT, results[argument]
    if isinstance(argument, int):
        return _ITSELF, argument & 0xFFFFFFFFFFFFFFFF
    if isinstance(argument, bytes):
        return _IN_BLOB, blob.add(argument)
    if isinstance(argument, Pointed):
        target = blob.add(argument.target)
        at = blob.add(argument.head + bytes(8), is_shared=False)
        blob.relocations.append((at + len(argument.head), target))
        return _IN_BLOB, at
    raise BugError(f"a call with {argument!r} for an argument cannot be written down")
