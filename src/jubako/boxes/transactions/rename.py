"""One planned move carried out, or taken back: the renames, and looking at what they displaced.

The kernel can rename on the condition that nothing is there, or exchange two names; it cannot rename on the condition
that a certain file is there. So a replacement is an exchange, then a look at what came out: if it is not what was
expected, whoever put it there was faster, and everything is taken back. Nothing is ever removed here.
"""

from __future__ import annotations

import contextlib
import os

from jubako.boxes.transactions.move import PlannedMove, is_ours
from jubako.boxes.transactions.planned import MoveGroup
from jubako.boxes.transactions.signature import Signature, describe_change, take_signature, without_device
from jubako.errors import ConflictError
from jubako.kernel.files import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.entry import LETTERS, type_of

__all__ = ["Stuck", "apply_group", "apply_move", "changed_error", "look", "undo_move"]

_OPEN_STAGING = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # O_PATH is Linux only
_RACES_BORNE = 8


class Stuck(Exception):
    """Taking a move back would lose something; the text names it and where it is. A person has to decide."""


def apply_group(group: MoveGroup, folder_fd: int, label: str, *, same_boot: bool) -> tuple[int, int]:
    """Carries out the moves of a group as `apply_move` does each, up to the first that the kernel refuses.

    How many those are, and the error number. The next one is for `apply_move`, which knows what to say; so are all
    directories.
    """
    if any(each is not None and "d" in each.types for each in (group.content, group.expected)):
        return 0, 0
    try:
        staging_fd = os.open(group.staging or "/", _OPEN_STAGING)
    except OSError as error:
        return 0, error.errno or 0
    try:
        return _rename_each(group, folder_fd, staging_fd, label, same_boot=same_boot)
    finally:
        os.close(staging_fd)


def apply_move(move: PlannedMove, folder_fd: int, label: str, *, same_boot: bool) -> None:
    """Carries out a move whose target has been seen as expected. After an exception it may have been carried out.

    `same_boot` says that the device numbers in `move` still hold; if not, they are 0 there.

    Raises ConflictError if the target was not as expected after all; OSError where the kernel refuses.
    """
    try:
        if move.content is None:
            renameat2(folder_fd, move.name, AT_FDCWD, move.aside, RENAME_NOREPLACE)
        elif move.expected is None:
            renameat2(AT_FDCWD, move.aside, folder_fd, move.name, RENAME_NOREPLACE)
            return
        else:
            _exchange(move, folder_fd)
    except FileExistsError:
        found = take_signature(move.name, dir_fd=folder_fd)
        raise changed_error(move.target, label, move.expected, found) from None
    except FileNotFoundError:
        if move.content is not None and take_signature(move.aside) is None:
            raise
        if move.expected is None:
            raise ConflictError(f"{move.folder} was removed while {move.target} was published in it") from None
        raise changed_error(move.target, label, move.expected, None) from None
    displaced = take_signature(move.aside)
    if not same_boot:
        displaced = without_device(displaced)
    if displaced != move.expected:
        raise changed_error(move.target, label, move.expected, displaced)


def undo_move(move: PlannedMove, folder_fd: int | None, *, same_boot: bool) -> None:
    """Takes a move back as far as it was carried out; repeatable. What others have put there since stays.

    `folder_fd` is None if the target's folder is gone. Raises Stuck.
    """
    for _ in range(_RACES_BORNE):
        try:
            _undo(move, folder_fd, same_boot=same_boot)
            return
        except (FileExistsError, FileNotFoundError):  # somebody was faster: look again
            continue
    raise _keep(move)


def look(move: PlannedMove, folder_fd: int | None, *, same_boot: bool) -> tuple[Signature | None, Signature | None]:
    """What the two names of a move are now: the target and the name in the staging directory."""
    target = None if folder_fd is None else take_signature(move.name, dir_fd=folder_fd)
    aside = take_signature(move.aside)
    return (target, aside) if same_boot else (without_device(target), without_device(aside))


def changed_error(
    path: str, label: str, expected: Signature | None, found: Signature | None, *, role: str = ""
) -> ConflictError:
    """The error that says `path` is not what it was when `label` began, naming both versions."""
    return ConflictError(
        f"{path}{role and f', {role},'} was changed by another program while {label} was running: "
        f"{describe_change(expected, found)}",
        hint="nothing of this task was published; run it again"
        if role
        else "what the other program put there was left as it is; without it, the task makes its own",
        is_repeatable=bool(role),
    )


def _rename_each(group: MoveGroup, folder_fd: int, staging_fd: int, label: str, *, same_boot: bool) -> tuple[int, int]:
    flags = RENAME_NOREPLACE if group.content is None or group.expected is None else RENAME_EXCHANGE
    for number, aside in enumerate(group.asides):
        raw = os.fsencode(aside)
        name = raw if group.names is group.asides else group.names[number]
        try:
            if group.content is None:
                renameat2(folder_fd, name, staging_fd, raw, flags)
            else:
                renameat2(staging_fd, raw, folder_fd, name, flags)
        except OSError as error:
            return number, error.errno or 0
        if group.expected is not None and not _is_displaced(group, number, staging_fd, same_boot=same_boot):
            move = group.move(number)
            displaced = take_signature(aside, dir_fd=staging_fd)
            raise changed_error(move.target, label, move.expected, displaced)
    return len(group), 0


def _is_displaced(group: MoveGroup, number: int, staging_fd: int, *, same_boot: bool) -> bool:
    """True if what was to be displaced is what has been."""
    expected = group.expected
    assert expected is not None
    try:
        found = os.stat(group.asides[number], dir_fd=staging_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (
        found.st_ino == expected.inodes[number]
        and found.st_mtime_ns == expected.mtimes_ns[number]
        and found.st_size == expected.sizes[number]
        and LETTERS[type_of(found.st_mode)] == expected.types[number]
        and (found.st_dev == expected.device or not same_boot)
    )


def _undo(move: PlannedMove, folder_fd: int | None, *, same_boot: bool) -> None:
    target, aside = look(move, folder_fd, same_boot=same_boot)
    if move.content is None:
        _undo_delete(move, folder_fd, target, aside)
    elif target != move.content or folder_fd is None:
        _leave(move, target, aside)
    elif move.expected is None:
        _undo_new(move, folder_fd, same_boot=same_boot)
    else:
        _undo_replace(move, folder_fd, aside, same_boot=same_boot)


def _undo_delete(move: PlannedMove, folder_fd: int | None, target: Signature | None, aside: Signature | None) -> None:
    if aside is None:
        return
    if target is None and folder_fd is not None:
        renameat2(AT_FDCWD, move.aside, folder_fd, move.name, RENAME_NOREPLACE)
        return
    if aside != move.expected:
        raise _keep(move)


def _undo_new(move: PlannedMove, folder_fd: int, *, same_boot: bool) -> None:
    renameat2(folder_fd, move.name, AT_FDCWD, move.aside, RENAME_NOREPLACE)
    _, aside = look(move, folder_fd, same_boot=same_boot)
    if aside == move.content:
        return
    # Somebody replaced or edited what we published between the look and the rename: theirs goes back.
    try:
        renameat2(AT_FDCWD, move.aside, folder_fd, move.name, RENAME_NOREPLACE)
    except FileExistsError:
        raise _keep(move) from None


def _undo_replace(move: PlannedMove, folder_fd: int, displaced: Signature | None, *, same_boot: bool) -> None:
    if displaced is None:
        raise Stuck(
            f"{move.target} is the new version and cannot be taken back: the old one is no longer at {move.aside}"
        )
    _exchange(move, folder_fd)
    _, aside = look(move, folder_fd, same_boot=same_boot)
    if aside == move.content:
        return
    # Somebody replaced or edited what we published between the look and the exchange: theirs goes back, the newest.
    _exchange(move, folder_fd)
    _, aside = look(move, folder_fd, same_boot=same_boot)
    if aside != displaced or displaced != move.expected:
        raise _keep(move)


def _exchange(move: PlannedMove, folder_fd: int) -> None:
    """Exchanges the two names; XFS then gives directories a new modification time, so they get theirs back."""
    names = ((move.name, folder_fd), (move.aside, None))
    if "directory" not in {each.type for each in (move.content, move.expected) if each is not None}:
        renameat2(AT_FDCWD, move.aside, folder_fd, move.name, RENAME_EXCHANGE)
        return
    before = {found.st_ino: found for found in (os.lstat(name, dir_fd=fd) for name, fd in names)}
    renameat2(AT_FDCWD, move.aside, folder_fd, move.name, RENAME_EXCHANGE)
    for name, fd in names:
        found = os.lstat(name, dir_fd=fd)
        was = before.get(found.st_ino)
        if was is not None and was.st_mtime_ns != found.st_mtime_ns:
            with contextlib.suppress(OSError):  # somebody else's directory, or gone again: what comes next notices
                os.utime(name, ns=(was.st_atime_ns, was.st_mtime_ns), dir_fd=fd, follow_symlinks=False)


def _leave(move: PlannedMove, target: Signature | None, aside: Signature | None) -> None:
    """The target is not what we published: it never was, or somebody has replaced it. What counts is what we displaced,
    and what somebody has written into ours before we took it back."""
    if aside is None or aside in (move.content, move.expected):
        return
    if target == move.expected and is_ours(move, aside):  # never carried out; a power cut may have truncated it
        return
    raise _keep(move)


def _keep(move: PlannedMove) -> Stuck:
    return Stuck(
        f"{move.target} was changed by others more than once while it was published; one of their versions is kept at "
        f"{move.aside}: move it where it belongs, or remove it"
    )
