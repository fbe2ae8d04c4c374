"""Saves what a failed job's box held, for a look: the tops of its overlays as they are, and what it had staged.

The directory gets the layout of a kept box (`kept_record`), its record last: without one it is swept.

    N/upper     the top over target N, whiteouts and opaque marks included; not where the box alone has something
    stage/N     what was staged of output N, unfinished perhaps
    box.json
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress

from jubako.boxes.keeping.kept_record import BoxRecord, Layer, RecordedOutput, format_created, save_record
from jubako.layers.copy import copy_file, copy_tree
from jubako.layers.remove import remove_tree
from jubako.layers.walk import Folder, open_top, walk
from jubako.layers.whiteout import is_whiteout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.job import Job
    from jubako.boxes.views.view import View

__all__ = ["copy_top", "keep_box"]

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def keep_box(job: Job, view: View, error: str, started_ns: int) -> None:
    """Saves the box of `job` in the directory `job.keep_in`, which exists. Nothing of the job may live any more."""
    layers = []
    for number, overlay in enumerate(view.plan.overlays):
        if overlay.is_private:
            continue
        os.makedirs(os.path.join(job.keep_in, str(number)), 0o700, exist_ok=True)
        upper = f"{number}/upper"
        copy_top(f"{view.scratch}/{overlay.upper}", os.path.join(job.keep_in, upper))
        layers.append(Layer(overlay.directory, upper))
    outputs = []
    for number, output in enumerate(job.outputs):
        staged = f"stage/{number}"
        if output.kind == "elsewhere":
            continue  # a kept box can be published, but only on this machine
        if _copy_any(output.staged, os.path.join(job.keep_in, staged)):
            outputs.append(RecordedOutput(output.path, output.kind, staged))
    record = BoxRecord(
        id=os.path.basename(job.keep_in),
        label=job.label,
        created=format_created(time.time_ns()),
        cwd=job.cwd,
        layers=tuple(layers),
        outputs=tuple(outputs),
        error=error,
        started_ns=started_ns,
    )
    save_record(job.keep_in, record)


def copy_top(source: str, destination: str) -> None:
    """Copies an upper directory to `destination`, which must not exist, so that it can be a layer again."""
    os.mkdir(destination, 0o700)
    with open_top(source) as source_fd:
        folders = []
        for folder in walk(source_fd):
            if folder.fd is None:
                continue  # deeper than a path can say
            target = os.path.join(destination, folder.path) if folder.path else destination
            if folder.path:
                os.mkdir(target, 0o700)
            _copy_entries(folder, target)
            folders.append((target, folder.state))
            _copy_marks(folder.fd, target)
        for target, state in reversed(folders):
            with suppress(PermissionError):
                os.chown(target, state.st_uid, state.st_gid)
            os.chmod(target, stat.S_IMODE(state.st_mode))
            os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))


def _copy_entries(folder: Folder, target: str) -> None:
    assert folder.fd is not None
    for name, found in folder.entries:
        path = os.path.join(target, name)
        if is_whiteout(found, name, folder.fd):
            os.mknod(path, stat.S_IFCHR | 0o600, 0)
        elif not stat.S_ISDIR(found.st_mode):
            copy_file(f"/proc/self/fd/{folder.fd}/{name}", path)


def _copy_marks(fd: int, target: str) -> None:
    for name in os.listxattr(fd):
        if name in _OPAQUE or (name.startswith("user.") and not name.startswith("user.overlay.")):
            with suppress(OSError):  # a file system without attributes
                os.setxattr(target, name, os.getxattr(fd, name))


def _copy_any(source: str, destination: str) -> bool:
    """Copies a file or a tree, if there is one; False if there is nothing."""
    try:
        mode = os.lstat(source).st_mode
    except FileNotFoundError:
        return False
    os.makedirs(os.path.dirname(destination), 0o700, exist_ok=True)
    remove_tree(destination)
    if stat.S_ISDIR(mode):
        copy_tree(source, destination)
    else:
        copy_file(source, destination)
    return os.path.lexists(destination)
