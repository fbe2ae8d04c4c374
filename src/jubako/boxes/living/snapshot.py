"""A snapshot of a living box: what it holds at one moment, as a box of its own that nothing runs in.

While it is copied everything in the box holds still (or nobody can start it). So files are as after a loss of power at
that moment: whole as far as programs had written them, without what they have in memory. Blocks are shared where the
file system can.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from jubako.boxes.commands.shortage import explained
from jubako.boxes.keeping.keep import copy_top
from jubako.boxes.keeping.kept import flush_box, make_box, remove_box
from jubako.boxes.keeping.kept_record import format_created, save_record
from jubako.boxes.living.contents import hold_contents
from jubako.boxes.living.keeper import open_log
from jubako.boxes.living.living_record import save_living
from jubako.boxes.living.names import claim_name, release_name, validate_name
from jubako.boxes.views.bound_files import is_untouched
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.living.find import Found
    from jubako.boxes.state import StateRoot

__all__ = ["take_snapshot"]


def take_snapshot(found: Found, state: StateRoot, name: str = "") -> str:
    """Copies what the box holds; the id of a kept box, or with a `name` of a living one that does not run.

    Conflicts with this machine count from when the box itself was made. Raises ConflictError if there is a box of that
    name, HostError on a full disk; nothing is left then.
    """
    if name:
        validate_name(name)
    box_id, lock = make_box(state.boxes_path)
    directory = os.path.join(state.boxes_path, box_id)
    try:
        if name:
            claim_name(state.boxes_path, name, box_id)
        with explained(f"box {found.name} cannot be copied"):
            with hold_contents(found):
                _copy_tops(found, directory)
            flush_box(directory)
            _save(found, directory, box_id, name)
    except BaseException:
        if name:
            release_name(state.boxes_path, name, box_id)
        remove_box(directory)
        raise
    finally:
        os.close(lock)
    return box_id


def _copy_tops(found: Found, directory: str) -> None:
    copies = found.living.copies if found.is_running else {}
    untouched = {path for path, state in copies.items() if is_untouched(path, state)}
    for top in found.living.tops:
        place = os.path.join(directory, top.place)
        os.mkdir(place, 0o700)
        os.mkdir(os.path.join(place, "work"))
        copy_top(os.path.join(found.directory, top.place, "upper"), os.path.join(place, "upper"))
        for path in untouched:
            if os.path.dirname(path) == os.path.join(found.directory, top.place, "upper"):
                os.unlink(os.path.join(place, "upper", os.path.basename(path)))


def _save(found: Found, directory: str, box_id: str, name: str) -> None:
    label = found.record.label if name else f"snapshot of {found.name}"
    record = replace(found.record, id=box_id, label=label, created=format_created(time.time_ns()))
    if name:
        living = replace(found.living, name=name, copies={}, phase="created", keeper=0, started_ns=0, ended_ns=0)
        save_living(directory, replace(living, exit_status=None, exceeded=()))
        os.close(open_log(directory))
    with suppress(FileExistsError):
        os.mkdir(os.path.join(directory, "root"))
    save_record(directory, record)
