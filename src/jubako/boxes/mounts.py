"""What else is mounted in a box, as values: parts of this machine in other places, and empty file systems in memory.

Bind("/data/models", "/models", read_only=True)
Bind("/srv/data", "/data", idmap=IdMap(uids=[(1000, 0, 1)], gids=[(1000, 0, 1)]))  # files of user 1000 are root's there
Tmpfs("/scratch", size_bytes=64 << 20)
"""

from __future__ import annotations

import os
from itertools import pairwise

from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, TypeAlias

__all__ = ["Bind", "IdMap", "IdRange", "Tmpfs"]

IdRange: TypeAlias = "tuple[int, int, int]"  # the first id on disk, the first id in the box, how many

_IDS = 0xFFFFFFFF  # -1, the last, is none
_MOST_RANGES = 340  # as the kernel takes


@record
class IdMap:
    """Who the owners of files show as in a box. Who is in no range is nobody there (65534): its files are readable as
    their modes let others, and where it has no id nothing can be made by it. A kind without ranges stays as it is.
    """

    uids: Sequence[IdRange] = ()
    gids: Sequence[IdRange] = ()

    def __post_init__(self) -> None:
        for kind in ("uids", "gids"):
            ranges = tuple(tuple(int(number) for number in one) for one in getattr(self, kind))
            _check_ranges(kind, ranges)
            object.__setattr__(self, kind, ranges)
        if not self.uids and not self.gids:
            raise InputError("an id map without ranges maps nothing", hint=_RANGES)


_RANGES = "A range is three numbers: the first id on disk, the first id in the box, and how many."


@record
class Bind:
    """Shows `source` of this machine at `target` in the box, with all that is mounted below it. What is written there
    is real at once, and no change of the box; nothing can be, if it is `read_only`.

    `idmap`, in boxes of root's: its files show as owned by others, and what these write is the owners' outside. "root":
    what the owner and the group of `source` have is root's in the box; "owner": it is theirs who have `target`.
    """

    source: str
    target: str
    read_only: bool = False
    idmap: IdMap | Literal["root", "owner"] | None = None

    def __post_init__(self) -> None:
        if not (self.idmap is None or isinstance(self.idmap, IdMap) or self.idmap in ("root", "owner")):
            raise InputError(f"idmap={self.idmap!r} is neither an IdMap nor 'root' nor 'owner'")
        object.__setattr__(self, "source", os.path.abspath(os.path.expanduser(self.source)))
        object.__setattr__(self, "target", _absolute(self.target))


@record
class Tmpfs:
    """An empty file system in memory at `target`, gone with the box; as large as half of the memory by default."""

    target: str
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", _absolute(self.target))
        if self.size_bytes is not None and self.size_bytes < 1:
            raise InputError(f"a tmpfs of {self.size_bytes} bytes cannot hold anything")


def _absolute(target: str) -> str:
    if not target.startswith("/") or os.path.normpath(target) == "/":
        raise InputError(
            f"{target!r} is no place in a box to mount something on", hint="Give an absolute path, not '/'."
        )
    return os.path.normpath(target)


def _check_ranges(kind: str, ranges: Sequence[tuple[int, ...]]) -> None:
    """Raises InputError for what the kernel would refuse without a word."""
    if len(ranges) > _MOST_RANGES:
        raise InputError(f"{len(ranges)} ranges of {kind} are more than the {_MOST_RANGES} that the kernel takes")
    for one in ranges:
        if len(one) != 3 or one[2] < 1 or min(one) < 0 or max(one[:2]) + one[2] > _IDS:
            raise InputError(f"{'-'.join(map(str, one))} is no range of {kind}", hint=_RANGES)
    for side, where in enumerate(("on disk", "in the box")):
        ordered = sorted((one[side], one[2]) for one in ranges)
        for (first, count), (second, _) in pairwise(ordered):
            if first + count > second:
                raise InputError(f"two ranges of {kind} have the id {second} {where}")
