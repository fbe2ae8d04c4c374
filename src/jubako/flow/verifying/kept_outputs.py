"""Outputs that a verification has made and nobody publishes, kept where somebody wants to look at them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from jubako.boxes.spec import StagedOutput
from jubako.layers.copy import copy_file, copy_tree
from jubako.layers.remove import remove_tree

__all__ = ["KeptOutputs"]


class KeptOutputs:
    """Keeps outputs as FOLDER/TASK_ID/NAME; with no folder, none. What cannot be written is said through `note`."""

    def __init__(self, folder: str, note: Callable[[str], None]) -> None:
        self._folder = os.path.abspath(folder) if folder else ""
        self._note = note
        self._kept: set[str] = set()

    def keep(self, task: Any, staged: StagedOutput) -> str:
        """Copies a staged output of `task`, in place of an older copy; where it is now, "" if nowhere."""
        if not self._folder or not os.path.lexists(staged.staged):
            return ""
        folder = os.path.join(self._folder, task.task_id)
        kept = os.path.join(folder, os.path.basename(staged.path))
        if kept in self._kept:  # another output of the task has that name, in another folder
            kept = f"{kept}.{os.path.basename(staged.staged)}"
        try:
            os.makedirs(folder, exist_ok=True)
            remove_tree(kept)
            copy = copy_tree if os.path.isdir(staged.staged) and not os.path.islink(staged.staged) else copy_file
            copy(staged.staged, kept)
        except OSError as error:
            self._note(f"{kept} cannot be written: {error.strerror}")
            return ""
        self._kept.add(kept)
        return kept
