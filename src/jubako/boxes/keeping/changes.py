"""What a box holds that this machine has not: read from its directory, the box itself being over.

One upper directory per layer is compared with the machine's directory of that name, as it is now. The outputs that a
failed task had staged are compared too, and stand in place of what an upper says about their paths.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.boxes.views.facts import is_below
from jubako.kernel.mount_table import mounts_below, read_mount_table
from jubako.kernel.mounts import OPEN_TREE_CLONE, open_tree
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.change import Change
from jubako.layers.diff import read_changes
from jubako.layers.entry import type_of
from jubako.layers.walk import open_top, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.boxes.keeping.kept_record import BoxRecord, RecordedOutput

__all__ = ["read_box_changes"]

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def read_box_changes(directory: str, record: BoxRecord) -> tuple[Change, ...]:
    """All changes in the box, sorted by path, each path once. Where a target is gone, all it has there is new."""
    found: dict[str, Change] = {}
    for layer in record.layers:
        upper = os.path.join(directory, layer.upper)
        lower = _open_lower(layer.target, is_empty=not os.listdir(upper))
        try:
            owner = os.fstat(lower).st_uid
            for change in read_changes(upper, lower, layer.target, userxattr=record.userxattr):
                # The upper of a directory of somebody else's (/tmp) is ours all the same, unless we are root.
                if change.path != layer.target or owner == os.geteuid() or os.geteuid() == 0:
                    found[change.path] = change
        finally:
            os.close(lower)
    for output in record.outputs:
        for path in [path for path in found if is_below(path, output.path)]:
            del found[path]
        found |= {change.path: change for change in _read_output(directory, output)}
    return tuple(sorted(found.values()))


def _open_lower(target: str, *, is_empty: bool) -> int:
    """A descriptor of what the overlay on `target` covered: that directory, without the mounts below it.

    Those do not matter where the upper directory `is_empty`: then the directory itself is all there is to compare.
    """
    try:
        has_mounts = not is_empty and bool(mounts_below(read_mount_table(), target))
        return _open_without_mounts(target) if has_mounts else os.open(target, _OPEN_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        import tempfile  # 6 ms to import, for what hardly ever happens

        with tempfile.TemporaryDirectory() as empty:
            return os.open(empty, _OPEN_DIRECTORY)


def _open_without_mounts(target: str) -> int:
    try:
        return open_tree(AT_FDCWD, target, OPEN_TREE_CLONE)
    except OSError as error:
        # Without the right to mount there was no overlay of a directory with mounts below either, so none differs.
        if error.errno not in (errno.EPERM, errno.ENOSYS):
            raise
        return os.open(target, _OPEN_DIRECTORY)


def _read_output(directory: str, output: RecordedOutput) -> Iterator[Change]:
    """The changes that publishing a staged output would make."""
    staged = os.path.join(directory, output.staged)
    try:
        found = os.lstat(staged)
    except FileNotFoundError:  # declared, and not written before the task failed
        return
    is_new = not os.path.lexists(output.path)
    size = found.st_size if stat.S_ISREG(found.st_mode) else 0
    if not stat.S_ISDIR(found.st_mode):
        yield Change(output.path, "added" if is_new else "modified", type_of(found.st_mode), size)
        return
    yield Change(output.path, "added" if is_new else "replaced", "directory")
    with open_top(staged) as top:
        for folder in walk(top):
            for name, state in folder.entries:
                size = state.st_size if stat.S_ISREG(state.st_mode) else 0
                yield Change(f"{output.path}/{folder.below(name)}", "added", type_of(state.st_mode), size)
