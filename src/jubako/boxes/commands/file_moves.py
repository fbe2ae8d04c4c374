"""Moves of many files of one folder, being collected: of one its row is held, and of a thousand their group.

What a group has in common is said there (`transactions.planned`): all of it is new, or replaces, or deletes something.
"""

from __future__ import annotations

from jubako.boxes.transactions.planned import MOVES_OF_A_PART, MoveGroup, Signatures
from jubako.layers.entry import LETTERS, type_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import TypeAlias

    from jubako.boxes.commands.folder_pair import FolderPair
    from jubako.boxes.transactions.planned import PlannedMoves

    State: TypeAlias = os.stat_result | None
    Row: TypeAlias = tuple[str, str, State, State]

__all__ = ["FileMoves"]


class FileMoves:
    """Adds to `planned` what is added here: moves to the folder of `pair` from the directory `staging`, or back."""

    def __init__(self, pair: FolderPair, staging: str, planned: PlannedMoves) -> None:
        self._pair = pair
        self._staging = staging
        self._planned = planned
        self._rows: dict[tuple[bool, bool], list[Row]] = {}
        self._count = 0

    def add(self, name: str, aside: str, content: State, expected: State) -> None:
        """Adds the move of a file. `content` is what is staged, None to delete; `expected` what is there, None for
        nothing. Neither is a directory."""
        self._rows.setdefault((content is None, expected is None), []).append((name, aside, content, expected))
        self._count += 1
        if self._count == MOVES_OF_A_PART:
            self.finish()

    def finish(self) -> None:
        """Call it when all are added."""
        for rows in self._rows.values():
            self._plan(rows)
        self._rows.clear()
        self._count = 0

    def _plan(self, rows: list[Row]) -> None:
        pair = self._pair
        names, asides = [row[0] for row in rows], [row[1] for row in rows]
        self._planned.add(
            MoveGroup(
                pair.folder.rstrip("/"),
                self._staging,
                pair.anchor[1],
                pair.made,
                names,
                names if asides == names else asides,
                _signatures([row[2] for row in rows if row[2] is not None]),
                _signatures([row[3] for row in rows if row[3] is not None]),
            )
        )


def _signatures(states: Sequence[os.stat_result]) -> Signatures | None:
    if not states:
        return None
    return Signatures(
        states[0].st_dev,
        "".join([LETTERS[type_of(state.st_mode)] for state in states]),
        [state.st_ino for state in states],
        [state.st_size for state in states],
        [state.st_mtime_ns for state in states],
    )
