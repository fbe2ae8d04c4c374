"""The planned moves of one transaction, packed: a commit may have a hundred thousand, and the journal holds them all.

Moves that follow each other and have their two folders in common are a `MoveGroup`, which says once what they share and
has a list for each thing they do not. About a thousand moves make a part, which is encoded as soon as it is full and
decoded when it is its turn: files of a box take some 12 to 30 bytes each. A part is JSON, compressed (zlib) where that
is more than a few lines:

    part       [group, ...]
    group      [folder, staging, folder_inode, made, names, asides, content, expected]
    content    null, or [device, types, inodes, sizes, mtimes, trees]; so is `expected`

A target is `folder/name`, its name in the staging directory `staging/aside`; `asides` is 0 where they are the names,
`trees` 0 where none is a directory. `types` is a letter for each. Paths are strings whose lone surrogates stand for
bytes that are not UTF-8.
"""

from __future__ import annotations

import json
import zlib

from jubako.boxes.transactions.move import PlannedMove, decode_move
from jubako.boxes.transactions.signature import Signature, decode_signature
from jubako.layers.entry import LETTERS
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

__all__ = ["MOVES_OF_A_PART", "MoveGroup", "PlannedMoves", "Signatures", "group_of"]

MOVES_OF_A_PART = 1024
_PLAIN_BYTES = 4096  # up to here compressing costs more than it saves
_PLAIN = b"["  # how a part starts that is not compressed
_LEVEL = 1
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


@record
class Signatures:
    """The signatures of several entries, all on one device: a list for each value."""

    device: int
    types: str  # the letters of `layers.entry`
    inodes: Sequence[int]
    sizes: Sequence[int]
    mtimes_ns: Sequence[int]
    trees: Sequence[str] = ()  # () if none is a directory

    def at(self, number: int) -> Signature:
        """One of them."""
        tree = self.trees[number] if self.trees else ""
        values = (self.inodes[number], self.sizes[number], self.mtimes_ns[number], self.types[number], tree)
        signature = decode_signature((self.device, *values))
        assert signature is not None
        return signature

    def part(self, start: int, stop: int) -> Signatures:
        """Those from `start` to before `stop`."""
        cut = slice(start, stop)
        columns = (self.types[cut], self.inodes[cut], self.sizes[cut], self.mtimes_ns[cut], self.trees[cut])
        return Signatures(self.device, *columns)


@record
class MoveGroup:
    """Planned moves that have all but names and signatures in common: all are new, or replace, or delete something.

    `folder` and `staging` are what precedes the last slash of the two paths, so the root directory is "".
    """

    folder: str
    staging: str
    folder_inode: int
    made: tuple[str, ...]
    names: Sequence[str]
    asides: Sequence[str]
    content: Signatures | None
    expected: Signatures | None
    alone: PlannedMove | None = None  # the one there is, if it was made of that

    def __len__(self) -> int:
        return len(self.names)

    def move(self, number: int) -> PlannedMove:
        """One of them."""
        return self.alone or PlannedMove(
            f"{self.folder}/{self.names[number]}",
            f"{self.staging}/{self.asides[number]}",
            None if self.content is None else self.content.at(number),
            None if self.expected is None else self.expected.at(number),
            self.folder_inode,
            self.made,
        )

    def backwards(self) -> Iterator[PlannedMove]:
        """All of them, the last first."""
        return map(self.move, reversed(range(len(self))))

    def part(self, start: int, stop: int) -> MoveGroup:
        """Those from `start` to before `stop`."""
        return replace(
            self,
            names=self.names[start:stop],
            asides=self.asides[start:stop],
            content=self.content and self.content.part(start, stop),
            expected=self.expected and self.expected.part(start, stop),
        )


class PlannedMoves:
    """The planned moves of a transaction, in their order. Iterating gives each as a `PlannedMove`, made for the moment.

    `devices` are the file systems they touch, each with a path in a staging directory; those that were read from the
    journal know of none, and have device 0 in their signatures: a remount changes the numbers.
    """

    def __init__(self, moves: Iterable[PlannedMove] = ()) -> None:
        self.devices: dict[int, str] = {}
        self._parts: list[bytes] = []
        self._last: list[MoveGroup] = []  # the last part, not encoded: most transactions have no other
        self._room = MOVES_OF_A_PART
        self._count = 0
        self._is_read = False
        for move in moves:
            self.append(move)

    @classmethod
    def read(cls, parts: Iterable[bytes]) -> PlannedMoves:
        """What was written as these parts, without device numbers."""
        planned = cls()
        planned._is_read = True
        planned._parts = list(parts)
        planned._count = sum(len(group) for group in planned.groups())
        return planned

    def append(self, move: PlannedMove) -> None:
        """Adds one move."""
        self.add(group_of(move))

    def add(self, group: MoveGroup) -> None:
        """Adds moves."""
        signatures = group.content or group.expected
        if signatures is not None:
            self.devices.setdefault(signatures.device, f"{group.staging}/{group.asides[0]}")
        if self._last and self._room < len(group):
            self._parts.append(_pack(self._last))
            self._last, self._room = [], MOVES_OF_A_PART
        self._last.append(group)
        self._room -= len(group)
        self._count += len(group)

    @property
    def part_count(self) -> int:
        return len(self._parts) + bool(self._last)

    def part(self, number: int) -> list[MoveGroup]:
        """The moves of one part."""
        return self._last if number == len(self._parts) else self._decode(self._parts[number])

    def packed(self, number: int) -> bytes:
        """One part as it is written."""
        return _pack(self._last) if number == len(self._parts) else self._parts[number]

    def replace(self, number: int, groups: Sequence[MoveGroup]) -> None:
        """Puts other moves to the same targets in the place of a part."""
        if number == len(self._parts):
            self._last = list(groups)
        else:
            self._parts[number] = _pack(groups)

    def groups(self) -> Iterator[MoveGroup]:
        """All moves in groups."""
        for number in range(self.part_count):
            yield from self.part(number)

    def backwards(self) -> Iterator[MoveGroup]:
        """As `groups`, the last group first."""
        for number in reversed(range(self.part_count)):
            yield from reversed(self.part(number))

    def __iter__(self) -> Iterator[PlannedMove]:
        for group in self.groups():
            for number in range(len(group)):
                yield group.move(number)

    def __len__(self) -> int:
        return self._count

    def _decode(self, part: bytes) -> list[MoveGroup]:
        text = part if part.startswith(_PLAIN) else zlib.decompress(part)
        return [_read_group(value, has_devices=not self._is_read) for value in json.loads(text)]


def group_of(move: PlannedMove) -> MoveGroup:
    """The group of a single move."""
    folder, _, name = move.target.rpartition("/")
    staging, _, aside = move.aside.rpartition("/")
    signatures = (_signatures_of(move.content), _signatures_of(move.expected))
    return MoveGroup(folder, staging, move.folder_inode, move.made, (name,), (aside,), *signatures, move)


def _pack(groups: Sequence[MoveGroup]) -> bytes:
    text = _encode([_encode_group(group) for group in groups]).encode()
    return text if len(text) <= _PLAIN_BYTES else zlib.compress(text, _LEVEL)


def _signatures_of(signature: Signature | None) -> Signatures | None:
    if signature is None:
        return None
    one = ((signature.inode,), (signature.size,), (signature.mtime_ns,), (signature.tree,) if signature.tree else ())
    return Signatures(signature.device, LETTERS[signature.type], *one)


def _encode_group(group: MoveGroup) -> list[Any]:
    return [
        group.folder,
        group.staging,
        group.folder_inode,
        group.made,
        group.names,
        0 if group.asides == group.names else group.asides,
        _encode_signatures(group.content),
        _encode_signatures(group.expected),
    ]


def _encode_signatures(signatures: Signatures | None) -> list[Any] | None:
    if signatures is None:
        return None
    return [
        signatures.device,
        signatures.types,
        signatures.inodes,
        signatures.sizes,
        signatures.mtimes_ns,
        signatures.trees or 0,
    ]


def _read_group(value: Any, *, has_devices: bool) -> MoveGroup:
    if isinstance(value, dict):  # version 1 of the journal
        return group_of(decode_move(value))
    folder, staging, folder_inode, made, names, asides, content, expected = value
    new, old = (_read_signatures(one, has_devices=has_devices) for one in (content, expected))
    return MoveGroup(folder, staging, folder_inode, tuple(made), names, asides or names, new, old)


def _read_signatures(value: Any, *, has_devices: bool) -> Signatures | None:
    if value is None:
        return None
    device, types, inodes, sizes, mtimes_ns, trees = value
    return Signatures(device if has_devices else 0, types, inodes, sizes, mtimes_ns, trees or ())
