"""A layer that shows the staged outputs of a failed task at their declared paths, for who enters its kept box.

Files are hard links to what was staged, so a big output costs nothing; a lower layer of an overlay is never written to.
Directories above an output are made with the attributes of what they cover, since overlayfs shows those of the topmost.
"""

from __future__ import annotations

import os
import stat

from jubako.boxes.views.apply import apply_operations
from jubako.boxes.views.facts import is_below
from jubako.boxes.views.operations import CopyAttributes
from jubako.boxes.views.plan_wide import Stacked
from jubako.layers.copy import copy_file
from jubako.layers.walk import open_top, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.keeping.kept_record import BoxRecord, RecordedOutput

__all__ = ["make_staged_layer"]


def make_staged_layer(directory: str, record: BoxRecord, place: str, *, userxattr: bool) -> tuple[Stacked, ...]:
    """Makes the layers below `place`, a directory on the box's file system; what to stack on which target.

    `directory` is the kept box's. Outputs that were not written before the task failed are left out.
    """
    layers: dict[str, str] = {}
    for output in record.outputs:
        staged = os.path.join(directory, output.staged)
        if not os.path.lexists(staged):
            continue
        target = _find_target(output, record)
        layer = layers.setdefault(target, os.path.join(place, str(len(layers))))
        shown = os.path.join(layer, os.path.relpath(output.path, target))
        _make_above(os.path.dirname(shown), layer, target, directory, record)
        if stat.S_ISDIR(os.lstat(staged).st_mode):
            _link_tree(staged, shown)
            os.setxattr(shown, "user.overlay.opaque" if userxattr else "trusted.overlay.opaque", b"y")
        else:
            _link(staged, shown)
    return tuple(Stacked(target, layer) for target, layer in layers.items())


def _find_target(output: RecordedOutput, record: BoxRecord) -> str:
    """The directory whose overlay is to show the output: the box's innermost, else the nearest that exists."""
    targets = [
        layer.target for layer in record.layers if is_below(output.path, layer.target) and output.path != layer.target
    ]
    if targets:
        return max(targets, key=len)
    above = os.path.dirname(output.path)
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    return above


def _make_above(path: str, layer: str, target: str, directory: str, record: BoxRecord) -> None:
    """Makes `path`, in `layer`, and all directories above it, as what they cover is."""
    if os.path.isdir(path):
        return
    if path != layer:
        _make_above(os.path.dirname(path), layer, target, directory, record)
    os.makedirs(path)
    below = os.path.relpath(path, layer)
    uppers = [os.path.join(directory, one.upper) for one in record.layers if one.target == target]
    for covered in (*(os.path.join(upper, below) for upper in uppers), os.path.join(target, below)):
        if os.path.isdir(covered):
            apply_operations([CopyAttributes(covered, path)])
            return


def _link_tree(source: str, destination: str) -> None:
    with open_top(source) as top:
        folders = []
        for folder in walk(top):
            made = os.path.join(destination, folder.path) if folder.path else destination
            os.mkdir(made, 0o700)
            folders.append((folder.path, made))
            for name, found in folder.entries:
                if not stat.S_ISDIR(found.st_mode):
                    _link(os.path.join(source, folder.below(name)), os.path.join(made, name))
    for path, made in reversed(folders):
        apply_operations([CopyAttributes(os.path.join(source, path), made)])


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError:  # another mount, or too many links
        copy_file(source, destination)
