"""Boxes do not nest: how a process knows that it runs in one, and what it says to who wants another.

Inside a box nothing can be mounted and the state root is hidden. Both would be found out late, and said obscurely.
"""

from __future__ import annotations

import os

from jubako.errors import HostError

__all__ = ["MARK", "refuse_nesting"]

MARK = "JUBAKO_BOX"  # in the environment of every command in a box: the box's id


def refuse_nesting(
    why_not: str = "a box cannot be made inside a box",
    *,
    hint: str = "Run the command as it is: what it changes is in the box already.",
) -> None:
    """Raises HostError inside a box, which says that this is one and `why_not`."""
    box_id = os.environ.get(MARK)
    if box_id:
        raise HostError(f"this is box {box_id}, and {why_not}", hint=hint)
