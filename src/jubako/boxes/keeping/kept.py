"""Boxes on disk: a directory each, with a record that makes it a kept one, and a lock that says who is in it.

    boxes/               locked shared while a box is made, exclusively while dead ones are picked out
    boxes/ID/            locked exclusively by who makes, commits or removes the box, shared by who only looks in
    boxes/ID/N/upper     what was written below one target (an overlay's upper directory)
    boxes/ID/N/work      overlayfs's own
    boxes/ID/living.json that of a living box (`boxes.living`), which is no kept one
    boxes/ID/groups      the control groups of a box with limits (`resources.groups`), while it runs
    boxes/ID/box.json    written last, by rename: a directory without it that nobody has locked is swept
    boxes/ID/committing  while it is published from; whoever finds it finishes that first (`interrupted`)

The locks are flock(2) on the directories themselves, so that there is no lock file to make or to lose, and a killed
process holds none. What box.json says is in `kept_record`.
"""

from __future__ import annotations

import errno
import fcntl
import os

from jubako.boxes.keeping.kept_record import (
    COMMITTING_NAME,
    LIVING_NAME,
    RECORD_NAME,
    BoxRecord,
    is_kept_box,
    parse_record,
)
from jubako.errors import ConflictError, HostError, InputError
from jubako.kernel.files import syncfs
from jubako.layers.remove import remove_tree
from jubako.records import record

__all__ = [
    "KeptBoxes",
    "find_box_id",
    "flush_box",
    "hold_box",
    "is_box_held",
    "list_box_ids",
    "list_boxes",
    "list_living_ids",
    "list_unrecorded_ids",
    "lock_box",
    "make_box",
    "read_box",
    "remove_box",
    "sweep_boxes",
]

_ID_LENGTH = 8
_ID_LETTERS = frozenset("0123456789abcdef")
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST_HINT = "'jubako box ls' lists the boxes."


@record
class KeptBoxes:
    """The kept boxes, oldest first, and a sentence for each whose record cannot be read."""

    records: tuple[BoxRecord, ...]
    unreadable: tuple[str, ...] = ()


def make_box(boxes: str) -> tuple[str, int]:
    """The id of a fresh, empty box directory (mode 0700) below `boxes`, and a descriptor that holds it exclusively.

    `boxes` is made when missing. The box is nobody's, and swept, once the descriptor is closed everywhere.
    """
    os.makedirs(boxes, mode=0o700, exist_ok=True)
    fd = _lock(boxes, fcntl.LOCK_SH)  # or a sweep could take it for a dead one before it is locked
    try:
        while True:
            box_id = os.urandom(_ID_LENGTH // 2).hex()
            directory = os.path.join(boxes, box_id)
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                continue
            try:
                return box_id, lock_box(directory, exclusive=True)
            except BaseException:
                os.rmdir(directory)
                raise
    finally:
        os.close(fd)


def lock_box(directory: str, *, exclusive: bool) -> int:
    """A descriptor that holds the box until it is closed, in this process and every child that inherited it.

    Never waits: raises ConflictError while someone else holds it in a way that does not go together with this one, or
    a person has to decide about a commit that was killed; InputError if the box is gone.
    """
    name = os.path.basename(directory)
    try:
        fd = _try_lock(directory, exclusive=exclusive)
    except FileNotFoundError as error:
        raise InputError(f"there is no box {name!r} any more", hint=_LIST_HINT) from error
    if fd is None:
        doing = "someone is in it" if exclusive else "it is being committed or removed"
        raise ConflictError(f"box {name} is in use: {doing}", hint="Wait for the other jubako to end, and try again.")
    if os.path.lexists(os.path.join(directory, COMMITTING_NAME)):
        from jubako.boxes.keeping.interrupted import finish_commit  # SQLite: 10 ms to import, after a kill

        finish_commit(directory, fd)
    return fd


class hold_box:
    """As `lock_box`, for the time of a `with` block."""

    def __init__(self, directory: str, *, exclusive: bool) -> None:
        self._directory = directory
        self._exclusive = exclusive

    def __enter__(self) -> int:
        self._fd = lock_box(self._directory, exclusive=self._exclusive)
        return self._fd

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)


def list_boxes(boxes: str) -> KeptBoxes:
    """The kept boxes below `boxes`."""
    records: list[BoxRecord] = []
    unreadable: list[str] = []
    for name in list_box_ids(boxes):
        try:
            record = _read_record(os.path.join(boxes, name))
        except HostError as error:
            unreadable.append(error.message)
            continue
        if record is not None:
            records.append(record)
    return KeptBoxes(tuple(sorted(records, key=lambda r: (r.created, r.id))), tuple(unreadable))


def list_box_ids(boxes: str) -> list[str]:
    """The ids of the kept boxes, those whose record cannot be read too, sorted; not those of living boxes."""
    return [name for name in _recorded(boxes) if not os.path.lexists(os.path.join(boxes, name, LIVING_NAME))]


def list_living_ids(boxes: str) -> list[str]:
    """The ids of the living boxes, sorted."""
    return [name for name in _recorded(boxes) if os.path.lexists(os.path.join(boxes, name, LIVING_NAME))]


def list_unrecorded_ids(boxes: str) -> list[str]:
    """The ids of the boxes that are neither: those that run in a foreground, or are being made, or were killed."""
    return [name for name in _names(boxes) if not is_kept_box(os.path.join(boxes, name))]


def is_box_held(directory: str) -> bool:
    """True while somebody holds the box exclusively. Who would take it for itself meanwhile must try again."""
    try:
        fd = _try_lock(directory, exclusive=False)
    except FileNotFoundError:
        return False
    if fd is None:
        return True
    os.close(fd)
    return False


def find_box_id(boxes: str, prefix: str) -> str:
    """The id of the kept box that `prefix` starts. Raises InputError if there is none, with the ids that come close,
    or if there are several."""
    kept = list_box_ids(boxes)
    wanted = prefix.strip().lower()
    found = [name for name in kept if wanted and name.startswith(wanted)]
    if len(found) > 1:
        raise InputError(f"{prefix!r} is the start of {len(found)} boxes: {', '.join(found)}", hint="Give more of it.")
    if not found:
        import difflib  # 2 ms to import, for the mistaken

        close = difflib.get_close_matches(wanted, kept, n=3, cutoff=0.5)
        guess = f"Did you mean {' or '.join(close)}? " if close else ""
        raise InputError(f"there is no box {prefix!r}", hint=guess + _LIST_HINT)
    return found[0]


def read_box(boxes: str, box_id: str) -> BoxRecord:
    """The record of the kept box `box_id` (a whole id). HostError if it cannot be read, InputError if it is gone."""
    record = _read_record(os.path.join(boxes, box_id))
    if record is None:
        raise InputError(f"there is no box {box_id!r}", hint=_LIST_HINT)
    return record


def flush_box(directory: str) -> None:
    """Writes what the box holds to the disk, before its record says it is kept: its overlays were never synced."""
    fd = os.open(directory, _OPEN_DIRECTORY)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def remove_box(directory: str) -> None:
    """Removes a box and all it holds; the record goes first, so that a sweep finishes what a kill left.

    So do control groups that whoever watched the box was killed before removing: its files say where they are. Hold it
    exclusively.
    """
    remove_tree(os.path.join(directory, RECORD_NAME))
    groups = os.path.join(directory, "groups")
    if os.path.exists(groups):
        from jubako.boxes.resources.groups import sweep_groups  # a module, for boxes that had limits and were killed

        if not sweep_groups(groups):
            return  # something of the box still runs: the next sweep takes it
    remove_tree(directory)


def sweep_boxes(boxes: str) -> list[str]:
    """Removes what killed runs left: directories without a record that nobody holds. Returns their ids."""
    if _recorded(boxes) == _names(boxes):
        return []
    dead: dict[str, int] = {}
    try:
        lock = _lock(boxes, fcntl.LOCK_EX)
        try:
            for name in _names(boxes):
                directory = os.path.join(boxes, name)
                try:
                    fd = _try_lock(directory, exclusive=True)
                except FileNotFoundError:  # its owner has just removed it
                    continue
                if fd is None:
                    continue
                if is_kept_box(directory):
                    os.close(fd)
                else:
                    dead[name] = fd
        finally:
            os.close(lock)
        for name in dead:
            remove_box(os.path.join(boxes, name))
        return sorted(dead)
    finally:
        for fd in dead.values():
            os.close(fd)


def _recorded(boxes: str) -> list[str]:
    return [name for name in _names(boxes) if is_kept_box(os.path.join(boxes, name))]


def _names(boxes: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(boxes) if len(name) == _ID_LENGTH and _ID_LETTERS.issuperset(name))
    except FileNotFoundError:
        return []


def _read_record(directory: str) -> BoxRecord | None:
    """The record of a box, None if it has none (it is being made, or a killed run left it)."""
    path = os.path.join(directory, RECORD_NAME)
    try:
        with open(path, encoding="utf-8") as file:
            return parse_record(file.read())
    except FileNotFoundError:
        return None
    except ValueError as error:
        name = os.path.basename(directory)
        raise HostError(
            f"box {name} cannot be read: {path}: {error}",
            hint=f"'jubako box rm {name}' discards it, whatever it holds.",
        ) from error


def _lock(directory: str, operation: int) -> int:
    """A descriptor that holds the lock, which may have to be waited for."""
    fd = os.open(directory, _OPEN_DIRECTORY)
    try:
        fcntl.flock(fd, operation)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _try_lock(directory: str, *, exclusive: bool) -> int | None:
    """A descriptor that holds the lock, None if someone else's hold forbids it; FileNotFoundError if it was removed."""
    fd = os.open(directory, _OPEN_DIRECTORY)
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(fd), os.lstat(directory)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
    except OSError as error:
        os.close(fd)
        if error.errno != errno.EWOULDBLOCK:
            raise
        return None
    return fd
