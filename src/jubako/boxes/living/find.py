"""Living boxes, found by name or id; and what each is doing."""

from __future__ import annotations

import os
import time

from jubako.boxes.keeping.kept import is_box_held, list_box_ids, list_living_ids, read_box
from jubako.boxes.living import control
from jubako.boxes.living.living_record import read_living
from jubako.boxes.living.names import find_named
from jubako.errors import HostError, InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.keeping.kept_record import BoxRecord
    from jubako.boxes.living.living_record import LivingRecord, Phase
    from jubako.boxes.state import StateRoot

_PAUSE_S = 0.005
_SETTLED_S = 10.0

__all__ = ["Found", "find_living", "get_living", "list_living"]


@record
class Found:
    """A living box as it is now."""

    id: str
    directory: str
    living: LivingRecord
    record: BoxRecord
    phase: Phase

    @property
    def name(self) -> str:
        return self.living.name

    @property
    def is_running(self) -> bool:
        return self.phase == "running"


def find_living(state: StateRoot, name: str) -> Found | None:
    """The living box that goes by `name`, or whose id `name` is or starts; None if it is no living box's.

    Raises InputError if it is the start of several ids, HostError if the box cannot be read.
    """
    boxes = state.boxes_path
    box_id = find_named(boxes, name)
    if box_id is None:
        wanted = name.strip().lower()
        found = [one for one in list_living_ids(boxes) if wanted and one.startswith(wanted)]
        kept = [one for one in list_box_ids(boxes) if wanted and one.startswith(wanted)]
        if len(found) + len(kept) > 1:
            raise InputError(
                f"{name!r} is the start of {len(found) + len(kept)} boxes: {', '.join((*found, *kept))}",
                hint="Give more of it.",
            )
        if not found:
            return None
        (box_id,) = found
    return _look(state, box_id)


def get_living(state: StateRoot, name: str) -> Found:
    """As `find_living`; InputError, with names that come close, if there is none."""
    found = find_living(state, name)
    if found is not None:
        return found
    import difflib  # 2 ms to import, for the mistaken

    if any(one.startswith(name.strip().lower()) for one in list_box_ids(state.boxes_path) if name.strip()):
        raise InputError(
            f"box {name} is a kept one: what a command that has ended left, which nothing runs in",
            hint=f"'jubako box create --from {name}' makes a living box of it; 'jubako box enter {name}' looks around.",
        )
    names = [one.name for one in list_living(state)[0]]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    guess = f"Did you mean {' or '.join(close)}? " if close else ""
    raise InputError(f"there is no box {name!r}", hint=f"{guess}'jubako box ps --all' lists the boxes.")


def list_living(state: StateRoot) -> tuple[list[Found], list[str]]:
    """The living boxes, the oldest first, and a sentence for each that cannot be read."""
    found: list[Found] = []
    unreadable: list[str] = []
    for box_id in list_living_ids(state.boxes_path):
        try:
            one = _look(state, box_id)
        except (HostError, InputError) as error:
            unreadable.append(error.message)
            continue
        if one is not None:
            found.append(one)
    return sorted(found, key=lambda one: (one.record.created, one.id)), unreadable


def _look(state: StateRoot, box_id: str) -> Found | None:
    directory = os.path.join(state.boxes_path, box_id)
    deadline = time.monotonic() + _SETTLED_S
    while True:
        is_running = control.is_running(directory)
        is_held = is_box_held(directory)  # asked first: who has let go of it has written how it ended
        living = read_living(directory)
        if living is None:  # it has just been removed
            return None
        if is_running or living.phase != "running":
            break
        if not is_held or time.monotonic() > deadline:
            living = replace(living, phase="killed")  # nobody was left to write that
            break
        time.sleep(_PAUSE_S)  # its keeper is about to write how it ended, or to be heard of
    phase = "running" if is_running else living.phase
    return Found(box_id, directory, living, read_box(state.boxes_path, box_id), phase)
