"""A layer that hides paths of what lies below it: a whiteout for each, and the directories above, as they are below.

    character device 0/0                                      the usual form; anybody may make one (Linux 5.8)
    empty file with overlay.whiteout, directory opaque "x"    where devices cannot be (Linux 6.7). Without the mark on
                                                              the directory the name is hidden, and listed all the same

Overlayfs shows the attributes of the topmost directory of a name, so those of the directories are copied.
"""

from __future__ import annotations

import os
import stat

from jubako.errors import InputError
from jubako.layers.copy import copy_folder_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, TypeAlias

    WhiteoutForm: TypeAlias = "Literal['device', 'attribute']"

__all__ = ["hide_paths"]


def hide_paths(
    layer: str, paths: Sequence[str], covered: Sequence[str], *, form: WhiteoutForm = "device", userxattr: bool
) -> None:
    """Makes the directory `layer`, where it is missing, hide `paths` of the directories `covered`, the topmost first.

    Paths are relative to the top. `userxattr`: the marks are for an overlay that keeps them in user.*. Repeatable.
    InputError for a path that leads out, and for one that is below a path that is hidden already.
    """
    namespace = "user.overlay." if userxattr else "trusted.overlay."
    for path in paths:
        names = path.strip("/").split("/")
        if not path.strip("/") or not {"", ".", ".."}.isdisjoint(names):
            raise InputError(f"{path!r} is not a path below the top of a layer, without '.', '..' and '//'")
        folder = ""
        _make_folder(layer, folder, covered)
        for name in names[:-1]:
            folder = f"{folder}/{name}" if folder else name
            _make_folder(layer, folder, covered)
        whiteout = os.path.join(layer, *names)
        if os.path.isdir(whiteout) and not os.path.islink(whiteout):
            raise InputError(f"{path} cannot be hidden: {whiteout} is a directory already, with paths hidden below it")
        if os.path.lexists(whiteout):
            continue
        if form == "device":
            os.mknod(whiteout, stat.S_IFCHR | 0o600, 0)
        else:
            os.close(os.open(whiteout, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.setxattr(whiteout, f"{namespace}whiteout", b"")
            os.setxattr(os.path.dirname(whiteout), f"{namespace}opaque", b"x")


def _make_folder(layer: str, folder: str, covered: Sequence[str]) -> None:
    made = os.path.join(layer, folder) if folder else layer
    try:
        os.mkdir(made, 0o755)
    except FileExistsError:
        if not os.path.isdir(made) or os.path.islink(made):
            raise InputError(f"{made} is not a directory: is what is above the path hidden already?") from None
        return
    for top in covered:
        below = os.path.join(top, folder) if folder else top
        if os.path.isdir(below) and not os.path.islink(below):
            copy_folder_state(below, made)
            return
