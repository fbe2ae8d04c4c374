"""living.json: what makes a box directory that of a living box. The format, reading it and writing it.

living.json is JSON, version 1; readers refuse another version and ignore keys they do not know:

    {"version": 1, "name": "web", "box": {...}, "argv": ["./server"], "layers": ["/srv/layer"],
     "tops":   [{"target": "/", "place": "0", "is_file": false}],
     "copies": {"1/upper/hosts": [...]},
     "phase": "running", "keeper": 4711, "started_ns": 1714979289123456789, "ended_ns": 0, "exit_status": null,
     "exceeded": []}

`box` is the `Box` it is made from (`saved_box`). `tops` says which directory of the box's (`place`/upper, `place`/work)
belongs to which target on this machine: also when it is started again, with other mounts around. `copies` are the
single files that were copied into it, and how they looked then (`views.bound_files`), while it runs.

`phase` is what was written last: nobody is left to write "killed" when the machine goes down, so a box that says
"running" and does not answer was killed (`find.phase_of`). box.json beside it says the rest, as for a kept box.
"""

from __future__ import annotations

import json
import os

from jubako.boxes.keeping.kept_record import LIVING_NAME
from jubako.boxes.living.saved_box import box_from_json, box_to_json
from jubako.boxes.spec import WHOLE_HOST
from jubako.errors import HostError
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypeAlias

    from jubako.boxes.spec import Box
    from jubako.boxes.views.bound_files import Copies

    Phase: TypeAlias = "Literal['created', 'running', 'exited', 'stopped', 'killed']"

__all__ = ["LivingRecord", "SavedTop", "read_living", "save_living"]

_VERSION = 1


@record
class SavedTop:
    """Where in the box's directory the top over `target` is: `place`/upper and `place`/work."""

    target: str
    place: str
    is_file: bool = False


@record
class LivingRecord:
    """What living.json says."""

    name: str
    box: Box = WHOLE_HOST
    argv: tuple[str, ...] = ()  # of the main command; none: it lives until it is stopped
    layers: tuple[str, ...] = ()  # directories over "/" and below the tops, the topmost first
    tops: tuple[SavedTop, ...] = ()
    copies: Copies = field(default_factory=dict)
    phase: Phase = "created"
    keeper: int = 0  # pid
    started_ns: int = 0
    ended_ns: int = 0
    exit_status: int | None = None  # of the main command, as a shell shows it
    exceeded: tuple[str, ...] = ()  # the limits that it met when it ran last, a sentence each


def save_living(directory: str, living: LivingRecord) -> None:
    """Writes living.json aside, flushes it, and renames it into place. Atomic; one writer at a time, who holds the box.

    OSError on a full disk; what was there is whole then.
    """
    values = {
        "version": _VERSION,
        "name": living.name,
        "box": box_to_json(living.box),
        "argv": list(living.argv),
        "layers": list(living.layers),
        "tops": [{"target": top.target, "place": top.place, "is_file": top.is_file} for top in living.tops],
        "copies": {path: list(state) for path, state in living.copies.items()},
        "phase": living.phase,
        "keeper": living.keeper,
        "started_ns": living.started_ns,
        "ended_ns": living.ended_ns,
        "exit_status": living.exit_status,
        "exceeded": list(living.exceeded),
    }
    path = os.path.join(directory, LIVING_NAME)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())  # a rename that outlives its content would make the box unreadable
    os.rename(f"{path}.new", path)


def read_living(directory: str) -> LivingRecord | None:
    """What the box's living.json says; None if it has none, being no living box. HostError if it cannot be read."""
    path = os.path.join(directory, LIVING_NAME)
    try:
        with open(path, encoding="utf-8") as file:
            return _parse(json.load(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError) as error:
        name = os.path.basename(directory)
        why = f"no {error.args[0]!r}" if isinstance(error, KeyError) else error
        raise HostError(
            f"box {name} cannot be read: {path}: {why}", hint=f"'jubako box rm {name}' discards it, whatever it holds."
        ) from error


def _parse(data: Any) -> LivingRecord:
    if not isinstance(data, dict):
        raise TypeError("not a JSON object")
    if data.get("version") != _VERSION:
        raise ValueError(f"version {data.get('version')!r}, this jubako reads {_VERSION}")
    return LivingRecord(
        name=str(data["name"]),
        box=box_from_json(data["box"]),
        argv=tuple(map(str, data["argv"])),
        layers=tuple(map(str, data.get("layers", ()))),
        tops=tuple(SavedTop(str(top["target"]), _number(top["place"]), bool(top["is_file"])) for top in data["tops"]),
        copies={str(path): tuple(map(int, state)) for path, state in data.get("copies", {}).items()},
        phase=_phase(data["phase"]),
        keeper=int(data.get("keeper", 0)),
        started_ns=int(data.get("started_ns", 0)),
        ended_ns=int(data.get("ended_ns", 0)),
        exit_status=None if data.get("exit_status") is None else int(data["exit_status"]),
        exceeded=tuple(map(str, data.get("exceeded", ()))),
    )


def _number(place: Any) -> str:
    """A top's place: a number, which cannot lead out of the box's directory."""
    return str(int(place))


def _phase(value: Any) -> Phase:
    if value not in ("created", "running", "exited", "stopped", "killed"):
        raise ValueError(f"phase {value!r}")
    return value  # type: ignore[no-any-return]
