"""What runs in boxes now, and all there is to say of one: read when it is asked for, nothing is kept.

Beside living boxes there are those of commands that run in somebody's foreground (`jubako box run`, `enter`): their
directories are held, and `running` in them says what runs there.
"""

from __future__ import annotations

import os

from jubako.boxes.commands.running import read_running
from jubako.boxes.keeping.kept import is_box_held, list_unrecorded_ids
from jubako.boxes.keeping.kept_record import format_command, format_created
from jubako.boxes.living import control
from jubako.boxes.living.find import list_living
from jubako.boxes.living.saved_box import box_to_json
from jubako.layers.walk import open_top, walk
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.boxes.living.find import Found
    from jubako.boxes.state import StateRoot

__all__ = ["BoxInfo", "Running", "describe_box", "list_running", "measure_living", "read_members"]

_PATIENCE_S = 2.0


@record
class Running:
    """A box and what runs in it. `processes` is None where nobody can be asked."""

    id: str
    name: str
    kind: str  # "living", or "command" for one in somebody's foreground
    status: str
    since_ns: int
    command: str
    processes: int | None = None
    exit_status: int | None = None


@record
class BoxInfo:
    """All there is to say of a box: facts by name, and its tops with the bytes each takes on the disk."""

    facts: dict[str, Any]
    tops: list[dict[str, Any]]


def list_running(state: StateRoot, *, all_: bool = False) -> tuple[list[Running], list[str]]:
    """The boxes that run, or all of them, the oldest first; and a sentence for each that cannot be read."""
    living, unreadable = list_living(state)
    rows = [_describe(found) for found in living if all_ or found.is_running]
    for box_id in list_unrecorded_ids(state.boxes_path):
        directory = os.path.join(state.boxes_path, box_id)
        note = read_running(directory)
        if note is not None and is_box_held(directory):
            rows.append(Running(box_id, "", "command", "running", note.started_ns, note.command))
    return sorted(rows, key=lambda row: (row.since_ns, row.id)), unreadable


def read_members(found: Found) -> list[dict[str, Any]]:
    """The processes of a box that runs but its pid 1; none of one that doesn't. The box is given two seconds."""
    line = control.connect(found.directory)
    if line is None:
        return []
    with line:
        line.socket.settimeout(_PATIENCE_S)
        try:
            return list(line.ask("members")["members"])
        except (control.Gone, TimeoutError):
            return []


def describe_box(found: Found, state: StateRoot) -> BoxInfo:
    """All about a living box."""
    living, record_ = found.living, found.record
    tops: list[dict[str, Any]] = [
        {"target": top.target, "upper": f"{top.place}/upper", "size_bytes": _measure(found.directory, top.place)}
        for top in living.tops
    ]
    members = read_members(found)
    facts = {
        "name": found.name,
        "id": found.id,
        "status": found.phase,
        "exit_status": living.exit_status,
        "exceeded": list(living.exceeded),
        "command": format_command(living.argv),
        "cwd": record_.cwd,
        "created": record_.created,
        "started": format_created(living.started_ns) if living.started_ns else None,
        "ended": format_created(living.ended_ns) if living.ended_ns and not found.is_running else None,
        "keeper": living.keeper if found.is_running else None,
        "processes": len(members) if found.is_running else None,
        "size_bytes": sum(int(top["size_bytes"]) for top in tops),
        "layers": list(living.layers),
        "box": box_to_json(living.box),
        "directory": found.directory,
        "log": os.path.join(found.directory, "log"),
    }
    return BoxInfo(facts, tops)


def measure_living(found: Found) -> int:
    """The bytes that what was written in the box takes on the disk."""
    return sum(_measure(found.directory, top.place) for top in found.living.tops)


def _describe(found: Found) -> Running:
    living = found.living
    since = living.started_ns if found.is_running or not living.ended_ns else living.ended_ns
    return Running(
        id=found.id,
        name=found.name,
        kind="living",
        status=found.phase,
        since_ns=since,
        command=format_command(living.argv),
        processes=len(read_members(found)) if found.is_running else None,
        exit_status=living.exit_status if not found.is_running else None,
    )


def _measure(directory: str, place: str) -> int:
    total = 0
    try:
        with open_top(os.path.join(directory, place, "upper")) as top:
            for folder in walk(top):
                total += sum(entry.st_blocks * 512 for _, entry in folder.entries)
    except FileNotFoundError:  # the box runs, and something has just been removed in it
        return total
    return total
