"""Publishes some of a box's changes to this machine: all of those chosen in one transaction, or none.

Each step of the plan (`plan_commit`) has its new content copied to where it can be renamed into place from; `Publisher`
does the rest. Mode, owner and attributes of directories that stay are set last: no rename can carry those.

A conflict is anything chosen that changed on this machine after the box was started: its inode's change time, which no
program can set back, is not before the start. Of a directory that is replaced or deleted, this holds for everything
below it. The kernel stamps files with a clock that runs up to one tick (4 ms or so) behind; a change in the tick in
which the box was started came before anything the command did, and counts as seen by it. What the box changed and the
machine no longer has is a conflict too, which overlayfs's note on the copy gives away.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import closing, suppress

from jubako.boxes.commands.plan_commit import CommitPlan, plan_commit
from jubako.boxes.keeping.kept_record import BoxRecord, save_record
from jubako.boxes.spec import Output
from jubako.boxes.transactions.folders import find_anchor
from jubako.boxes.transactions.journal import Durability, Journal, open_database
from jubako.boxes.transactions.publish import Move, Publisher, Signature, Transaction, take_signature
from jubako.boxes.transactions.recovery import recover
from jubako.boxes.transactions.stage import StageArea
from jubako.boxes.views.apply import apply_operations
from jubako.boxes.views.facts import is_below
from jubako.boxes.views.operations import CopyAttributes
from jubako.errors import ConflictError, HostError
from jubako.kernel.files import RESOLVE_NO_SYMLINKS, openat2
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.change import Change
from jubako.layers.copy import copy_file, copy_tree
from jubako.layers.remove import remove_tree
from jubako.layers.walk import open_top, walk
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jubako.boxes.state import StateRoot

__all__ = ["Committed", "commit_changes", "forget_committed"]

_CONFLICT_HINT = "Nothing was published. Run it again in a new box, or look at the two versions and decide."
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_ORIGIN = ("trusted.overlay.origin", "user.overlay.origin")  # set on what began as a copy of a lower file


@record
class Committed:
    """What was published (`plan.published`), and in words what was left out of it."""

    plan: CommitPlan
    left_out: tuple[str, ...]


def commit_changes(
    state: StateRoot,
    directory: str,
    record: BoxRecord,
    changes: Sequence[Change],
    paths: Sequence[str],
    *,
    durability: Durability = "full",
) -> Committed:
    """Publishes what the box in `directory` changed at and below `paths`. Nothing chosen is no error.

    Raises ConflictError if something chosen was changed on this machine since the box was started, HostError where it
    cannot be written; nothing is published then, and the box is as it was.
    """
    plan = plan_commit(changes, paths)
    _check_targets(plan, record)
    expected = {change.path: _look(change, directory, record) for change in (*plan.contents, *plan.deletions)}
    for change in plan.parents:
        _look(change, directory, record)
    _check_folders(plan, record)
    anchors = {change.path: find_anchor(change.path) for change in (*plan.contents, *plan.deletions)}
    refused: list[str] = []
    if expected:
        with closing(open_database(state.ledger_path, durability=durability)) as connection:
            journal = Journal(connection)
            recover(journal, state)
            with StageArea(state, f"box-{record.id}-{secrets.token_hex(4)}", journal) as area:
                moves, refused = _stage(area, plan, (expected, anchors), directory, record)
                transaction = Transaction("commit", f"box {record.id}", tuple(moves))
                (outcome,) = Publisher(journal, durability).publish([transaction])
                if isinstance(outcome, Exception):
                    raise outcome
    for change in sorted([*plan.metadata, *plan.parents], reverse=True):
        _set_metadata(change.path, _source(change.path, directory, record))
    return Committed(plan, (*plan.left_out, *refused))


def forget_committed(directory: str, record: BoxRecord, plan: CommitPlan) -> None:
    """Takes what was committed out of a kept box, so that it holds the rest. Hold the box exclusively.

    If this is killed half-way, the box still lists some of it, and committing that again is a conflict.
    """
    published = {change.path for change in plan.published}
    sources = {change.path: _source(change.path, directory, record) for change in (*plan.contents, *plan.parents)}
    outputs = tuple(output for output in record.outputs if output.path not in published)
    if outputs != record.outputs:
        save_record(directory, replace(record, outputs=outputs))
    for change in plan.contents:
        remove_tree(sources[change.path])
    for change in plan.deletions:
        os.unlink(_source(change.path, directory, record))  # the whiteout
    for change in plan.parents:
        for name in _OPAQUE:  # from now on the machine's directory of that name shows through
            with suppress(OSError):
                os.removexattr(sources[change.path], name)


def _source(path: str, directory: str, record: BoxRecord) -> str:
    """Where the box has its version of `path`. Raises FileNotFoundError if it has none."""
    for output in record.outputs:
        if is_below(path, output.path) and os.path.lexists(os.path.join(directory, output.staged)):
            return os.path.normpath(os.path.join(directory, output.staged, os.path.relpath(path, output.path)))
    layers = [layer for layer in record.layers if is_below(path, layer.target)]
    for layer in sorted(layers, key=lambda layer: -len(layer.target)):
        source = os.path.normpath(os.path.join(directory, layer.upper, os.path.relpath(path, layer.target)))
        if os.path.lexists(source):
            return source
    raise FileNotFoundError(path)


# --- conflicts -------------------------------------------------------------------------------------------------------


def _check_targets(plan: CommitPlan, record: BoxRecord) -> None:
    """Raises ConflictError if a directory the box was about is another one now: its disk is not mounted, say."""
    for layer in record.layers:
        if layer.inode and any(is_below(change.path, layer.target) for change in plan.published):
            found = os.stat(layer.target).st_ino if os.path.isdir(layer.target) else None
            if found != layer.inode:
                raise ConflictError(
                    f"{layer.target} is {'gone' if found is None else 'another directory'} since box {record.id} was "
                    "started",
                    hint="Is its file system mounted? Nothing was published.",
                )


def _check_folders(plan: CommitPlan, record: BoxRecord) -> None:
    """Raises ConflictError if a directory that the box found, and put something into, is gone."""
    made = {change.path for change in plan.parents}
    for change in (*plan.contents, *plan.deletions):
        folder = os.path.dirname(change.path)
        if folder not in made and not os.path.isdir(folder):
            raise _conflict(folder, "was deleted", record)


def _look(change: Change, directory: str, record: BoxRecord) -> Signature | None:
    """The signature of what stands at the path now, if that is what stood there when the box was started."""
    signature = take_signature(change.path)
    if signature is None:
        if change.kind != "deleted" and _was_copied_up(_source(change.path, directory, record)):
            raise _conflict(change.path, "was deleted", record)
        return None
    try:
        newer = _find_newer(change.path, record.started_ns)
    except (FileNotFoundError, NotADirectoryError):  # it was there a moment ago
        newer = change.path
    if newer is not None:
        raise _conflict(newer, "was changed", record)
    return signature


def _was_copied_up(source: str) -> bool:
    try:
        names = os.listxattr(source, follow_symlinks=False)
    except OSError:
        return False
    return any(name in _ORIGIN for name in names)


def _find_newer(path: str, started_ns: int) -> str | None:
    """The first entry at or below `path` whose inode changed at `started_ns` or later."""
    found = os.lstat(path)
    if found.st_ctime_ns >= started_ns:
        return path
    if stat.S_ISDIR(found.st_mode):
        with open_top(path) as top:
            for folder in walk(top):
                for name, state in folder.entries:
                    if state.st_ctime_ns >= started_ns:
                        return f"{path}/{folder.below(name)}"
    return None


def _conflict(path: str, what: str, record: BoxRecord) -> ConflictError:
    return ConflictError(f"{path} {what} on this machine after box {record.id} was started", hint=_CONFLICT_HINT)


# --- staging ---------------------------------------------------------------------------------------------------------


def _stage(
    area: StageArea,
    plan: CommitPlan,
    found: tuple[Mapping[str, Signature | None], Mapping[str, tuple[int, int]]],
    directory: str,
    record: BoxRecord,
) -> tuple[list[Move], list[str]]:
    """Copies what the box has to where it can be renamed from; the moves, and what was refused, in words."""
    expected, anchors = found
    moves = [Move(None, change.path, expected[change.path], anchors[change.path]) for change in plan.deletions]
    refused: list[str] = []
    places = area.stage("commit", [Output(change.path) for change in plan.contents])
    for change, place in zip(plan.contents, places, strict=True):
        refused += _copy(_source(change.path, directory, record), place.staged, change.path)
        for output in record.outputs:  # kept apart from the upper that has the directory they are in
            staged = os.path.join(directory, output.staged)
            if output.path != change.path and is_below(output.path, change.path) and os.path.lexists(staged):
                destination = os.path.join(place.staged, os.path.relpath(output.path, change.path))
                remove_tree(destination)
                os.makedirs(os.path.dirname(destination), exist_ok=True)
                refused += _copy(staged, destination, output.path)
        moves.append(Move(place.staged, change.path, expected[change.path], anchors[change.path]))
    return moves, refused


def _copy(source: str, destination: str, shown: str) -> tuple[str, ...]:
    is_directory = stat.S_ISDIR(os.lstat(source).st_mode)
    try:
        return (copy_tree if is_directory else copy_file)(source, destination, shown=shown)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise HostError(
            f"{shown} cannot be committed: {error.strerror}",
            hint=f"Make room on the disk of {os.path.dirname(shown)}." if is_full else "",
        ) from error


def _set_metadata(path: str, source: str) -> None:
    """Gives a directory the metadata of the box's. By descriptor, and through no link: whoever owns a directory on the
    way may have put one there meanwhile, and we may be root."""
    try:
        fd = openat2(AT_FDCWD, path, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise ConflictError(
            f"all else is committed, but {path} did not get its mode and attributes: {error.strerror}",
            hint="Somebody moved or replaced it meanwhile.",
        ) from error
    try:
        apply_operations([CopyAttributes(source, f"/proc/self/fd/{fd}")])
    finally:
        os.close(fd)
