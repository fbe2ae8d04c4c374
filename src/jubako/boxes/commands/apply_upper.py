"""Publishes what the upper directory of any overlay says into a directory; makes one directory or layer of several.

    apply_upper    a box is made of the upper: its plain form (`layers.flatten`) over the directory. Committing that
                   does the rest, in one transaction; the upper stays as it is
    merge_layers   written aside, then renamed into place

Nothing is mounted.
"""

from __future__ import annotations

import contextlib
import os
import time

from jubako.boxes.commands.commit import Committed, commit_changes, recover_dead
from jubako.boxes.keeping.changes import read_box_changes
from jubako.boxes.keeping.kept import make_box, remove_box
from jubako.boxes.keeping.kept_record import BoxRecord, Layer, format_command, format_created, is_kept_box
from jubako.boxes.state import StateRoot, default_state_root
from jubako.errors import ConflictError, HostError, InputError
from jubako.kernel.files import RENAME_NOREPLACE, renameat2, statx, syncfs
from jubako.kernel.overlay_mounting import find_overlays_of
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.flatten import flatten, make_plain
from jubako.layers.fold import fold, link_layer
from jubako.layers.remove import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.boxes.transactions.journal import Durability

__all__ = ["apply_upper", "merge_layers"]


def apply_upper(
    upper: str,
    directory: str,
    lowers: Sequence[str] = (),
    *,
    userxattr: bool = False,
    durability: Durability = "full",
    state: StateRoot | None = None,
) -> Committed:
    """Makes `directory` what an overlay of `upper` over it shows: all of that, or nothing and an exception.

    `lowers`, the topmost first, are where the content of what was renamed, or changed in nothing but its metadata, is
    looked for; `directory` by default. The upper is not changed. Raises ConflictError while it is mounted, or if
    somebody changes the directory meanwhile; HostError where something cannot be read or written, or is in none of the
    lowers. What must not be published is left out in words, as in any commit.
    """
    _check_directories(upper, directory, *lowers)
    if find_overlays_of(upper):
        raise ConflictError(f"{upper} is the upper directory of an overlay that is mounted", hint="Unmount it first.")
    upper, directory = os.path.realpath(upper), os.path.realpath(directory)
    root = default_state_root() if state is None else state
    recover_dead(root)
    box_id, lock = make_box(root.boxes_path)
    made = os.path.join(root.boxes_path, box_id)
    try:
        started_ns = time.time_ns()
        os.mkdir(os.path.join(made, "0"), 0o700)
        opaque = f"{'user' if userxattr else 'trusted'}.overlay.opaque"
        with _explained(upper):
            place = os.path.join(made, "0/upper")
            copied_as = directory if _are_on_one_mount(made, directory) else ""
            left_out = make_plain(upper, lowers or [directory], place, opaque=opaque, copied_as=copied_as)
        record = BoxRecord(
            id=box_id,
            label=format_command(["jubako", "overlay", "apply", upper, directory]),
            created=format_created(started_ns),
            cwd=directory,
            layers=(Layer(directory, "0/upper", os.stat(directory).st_ino),),
            started_ns=started_ns,
        )
        changes = read_box_changes(made, record)
        committed = commit_changes(root, made, record, changes, [directory], durability=durability)
        return Committed(committed.plan, (*left_out, *committed.left_out))
    finally:
        if not is_kept_box(made):  # or a person has to decide something about it
            remove_box(made)
        os.close(lock)


def merge_layers(
    layers: Sequence[str], new: str, *, keep_marks: bool = False, userxattr: bool = False
) -> tuple[str, ...]:
    """Makes the directory `new`, which must not exist, of `layers`, the topmost first; what was left out, in words.

    It is what they show together; with `keep_marks` a layer that can lie over others as they do, whiteouts and opaque
    directories included. It appears whole or not at all. HostError for redirects and metacopy, which need all layers
    there are, with `keep_marks`; without, for what refers to something that none of the layers has.
    """
    _check_directories(*layers)
    if not layers:
        raise InputError("there are no layers to merge")
    if os.path.lexists(new):
        raise InputError(f"{new} is there already", hint="Name a directory that is not there yet.")
    folder = os.path.dirname(os.path.abspath(new))
    _check_directories(folder)
    aside = os.path.join(folder, f".jubako-merge-{os.urandom(8).hex()}")
    below = f"{aside}-below"
    try:
        with _explained(new):
            if keep_marks:
                left_out = [*link_layer(layers[0], aside, copied=True)]
                for layer in layers[1:]:
                    left_out += link_layer(layer, below, copied=True)
                    fold(aside, below, mark=f"{'user' if userxattr else 'trusted'}.overlay.opaque")
                    remove_tree(below)
            else:
                left_out = [*flatten(layers, aside)]
            _write_out(aside)
            renameat2(AT_FDCWD, aside, AT_FDCWD, new, RENAME_NOREPLACE)
    except FileExistsError as error:
        raise ConflictError(f"{new} was made by another program meanwhile", hint="It was left as it is.") from error
    finally:
        remove_tree(aside)
        remove_tree(below)
    return tuple(left_out)


def _are_on_one_mount(*paths: str) -> bool:
    """True if files can be renamed from one to the other, as far as mounts go: then a commit need not copy them."""
    return len({statx(AT_FDCWD, path, 0).mnt_id for path in paths}) == 1


def _check_directories(*paths: str) -> None:
    if missing := [path for path in paths if not os.path.isdir(path)]:
        raise InputError(f"{', '.join(missing)}: no such directory")


def _write_out(path: str) -> None:
    """Has what is merged on the disk before its name says that it is complete."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """HostError in place of what a system call says, about a conflict excepted."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise HostError(
            f"{what} cannot be read or written ({error.strerror}{where})", hint="As its owner, or as root."
        ) from error
