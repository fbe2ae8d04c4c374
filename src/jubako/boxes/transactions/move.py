"""Moves as values: what a transaction changes, and what is found when one of its moves is looked at again.

A move puts one staged file or directory in its place, or takes one away. Two names are involved: the target, and the
name beside it in the staging directory (`aside`), which holds the new content before and the displaced old version
after. Whoever looks at both names knows how far a move has got, whatever happened in between; this table says it.
"ours" is the inode that was staged, "expected" what the target was when the run began, "other" anything else:

    move     target           aside            state
    new      nothing          ours             BEFORE
             ours             -                DONE
             other            ours             CHANGED     somebody else made it
    replace  expected         ours             BEFORE
             ours             expected         DONE
             ours             nothing          DONE        a person has moved it, or it was cleaned up
             ours             other            WRONG       exchanged with what somebody else put there
             other, nothing   ours             CHANGED
             other, nothing   expected         OVERWRITTEN somebody replaced what was published
    delete   expected         nothing          BEFORE
             nothing          expected         DONE
             nothing          nothing          DONE
             nothing          other            WRONG
             other            nothing          DONE        the version to be deleted is gone
             other            expected         OVERWRITTEN
    any      anything else                     LOST        what was staged is gone

Nothing here touches the file system.
"""

from __future__ import annotations

import os
from enum import Enum

from jubako.boxes.transactions.signature import Signature, decode_signature, without_device
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = [
    "Move",
    "PlannedMove",
    "Progress",
    "decode_move",
    "find_progress",
    "is_ours",
]


@record
class Move:
    """One change to publish. `staged` is the new content on the same mount as `target`; None deletes `target`.

    `expected` is the signature `target` had when the run began, None if there was nothing. All paths are absolute.
    `anchor` is the device and inode that the innermost existing directory above `target` must have; None: it may be
    any, and be reached through symbolic links.
    `content` is the signature of `staged`, if it was taken when nobody could change that any more.
    """

    staged: str | None
    target: str
    expected: Signature | None
    anchor: tuple[int, int] | None = None
    content: Signature | None = None


@record
class PlannedMove:
    """A move with all that is needed to carry it out, to carry it on after a crash, or to take it back."""

    target: str
    aside: str  # the name in the staging directory
    content: Signature | None  # what was staged; None: delete
    expected: Signature | None
    folder_inode: int  # of the innermost directory above `target` that existed when this was planned
    made: tuple[str, ...] = ()  # directories to be made below that one, outermost first

    @property
    def folder(self) -> str:
        return self.target.rpartition("/")[0] or "/"  # os.path.dirname, for a path that is absolute and normal

    @property
    def name(self) -> str:
        return self.target.rpartition("/")[2]

    @property
    def anchor(self) -> str:
        """The directory that `folder_inode` is about."""
        return os.path.dirname(self.made[0]) if self.made else self.folder


class Progress(Enum):
    """How far one move has got, from looking at its two names."""

    BEFORE = "not carried out"
    DONE = "carried out"
    WRONG = "carried out upon what somebody else had put there"
    CHANGED = "not carried out, and the target has been changed by somebody else"
    OVERWRITTEN = "carried out, and the target has been changed by somebody else since"
    LOST = "not carried out, and what was staged is gone"


class _Seen(Enum):
    NOTHING = "nothing"
    OURS = "ours"
    EXPECTED = "expected"
    OTHER = "other"


def find_progress(move: PlannedMove, target: Signature | None, aside: Signature | None) -> Progress:
    """How far `move` has got, given what its two names are now (None: nothing)."""
    at = (_see(move, target), _see(move, aside))
    if move.content is None:
        return _DELETE.get(at, Progress.LOST)
    if move.expected is None:
        if at[0] is _Seen.OURS:
            return Progress.DONE
        return _NEW.get(at, Progress.LOST) if aside == move.content else Progress.LOST
    if at[1] is _Seen.OURS and aside != move.content:  # truncated by a power cut, or edited
        return Progress.LOST
    return _REPLACE.get(at, Progress.LOST)


def is_ours(move: PlannedMove, found: Signature | None) -> bool:
    """True if `found` is the very inode that was staged (it may have been written to since)."""
    return (
        found is not None
        and move.content is not None
        and (found.device, found.inode, found.type) == (move.content.device, move.content.inode, move.content.type)
    )


def decode_move(value: dict[str, Any]) -> PlannedMove:
    """The move in a journal of version 1, without device numbers."""
    return PlannedMove(
        value["target"],
        value["aside"],
        without_device(decode_signature(value["content"])),
        without_device(decode_signature(value["expected"])),
        value["folder_inode"],
        tuple(value["made"]),
    )


def _see(move: PlannedMove, found: Signature | None) -> _Seen:
    if found is None:
        return _Seen.NOTHING
    if is_ours(move, found):
        return _Seen.OURS
    return _Seen.EXPECTED if found == move.expected else _Seen.OTHER


_Table = dict[tuple[_Seen, _Seen], Progress]
_NOTHING, _OURS, _EXPECTED, _OTHER = _Seen.NOTHING, _Seen.OURS, _Seen.EXPECTED, _Seen.OTHER


def _rows(progress: Progress, targets: Iterable[_Seen], asides: Iterable[_Seen]) -> _Table:
    asides = list(asides)
    return {(target, aside): progress for target in targets for aside in asides}


_NEW: _Table = {
    (_NOTHING, _OURS): Progress.BEFORE,
    (_OTHER, _OURS): Progress.CHANGED,
}
_REPLACE: _Table = {
    (_EXPECTED, _OURS): Progress.BEFORE,
    (_OURS, _EXPECTED): Progress.DONE,
    (_OURS, _NOTHING): Progress.DONE,
    (_OURS, _OTHER): Progress.WRONG,
    **_rows(Progress.CHANGED, (_OTHER, _NOTHING), (_OURS,)),
    **_rows(Progress.OVERWRITTEN, (_OTHER, _NOTHING), (_EXPECTED,)),
}
_DELETE: _Table = {
    (_EXPECTED, _NOTHING): Progress.BEFORE,
    (_NOTHING, _EXPECTED): Progress.DONE,
    (_NOTHING, _NOTHING): Progress.DONE,
    (_NOTHING, _OTHER): Progress.WRONG,
    (_OTHER, _NOTHING): Progress.DONE,
    (_OTHER, _EXPECTED): Progress.OVERWRITTEN,
}
