"""A glance at the top of an overlay: is there nothing in it but what leads to outputs that were written elsewhere?

That is what most jobs leave, and it is told by a few names and states, where reading all changes (`layers.diff`) opens
and compares everything. A glance never says yes to a top that `layers.diff` would find a change in, links to outputs
and folders made for them aside; saying no costs nothing but time.

The quickest one (`is_untouched`) compares a directory with what was remembered of it before the job: on a tmpfs its
size tells how many entries it has, so two calls are enough for a directory that nobody has written in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from jubako.layers.whiteout import is_overlay_attribute

__all__ = ["DirectoryState", "Expected", "holds_only", "is_untouched", "plan_expected", "read_state"]

# The names a directory may have: below a folder, what that may have; for an output, what its link says.
Expected = Mapping[str, "Expected | str"]

DirectoryState = tuple[int, int, int, int, int, int]


def read_state(path: str, *, dir_fd: int | None = None) -> DirectoryState:
    """What shows that something happened to a directory on a tmpfs. For `is_untouched`; one call."""
    found = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    return (found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns)


def is_untouched(path: str, before: DirectoryState) -> bool:
    """True if the directory `path`, on a tmpfs, is empty as it was `before`, with no attributes but an overlay's own.

    False if it cannot be told: attributes of others may have got other values.
    """
    return read_state(path) == before and all(
        is_overlay_attribute(name) and not name.endswith(".opaque") for name in os.listxattr(path)
    )


def plan_expected(links: Mapping[str, str]) -> Expected:
    """What a top may hold, given the outputs in it: path relative to the overlay, what the link there says."""
    top: dict[str, Expected | str] = {}
    for path, says in links.items():
        *folders, name = path.split("/")
        at = top
        for folder in folders:
            below = at.setdefault(folder, {})
            assert isinstance(below, dict), "outputs inside outputs are refused before a run"
            at = below
        at[name] = says
    return top


def holds_only(upper: str, lower: str | None, expected: Expected, *, compare_top: bool = True) -> bool:
    """True if the directory `upper` of a top holds nothing but what is expected, and is itself as `lower` is.

    `lower` is None for a folder that the job made. `compare_top=False` leaves the state of the top itself out.
    """
    names = os.listdir(upper)
    if lower is not None and compare_top and not _is_alike(upper, lower):
        return False
    for name in names:
        wanted = expected.get(name)
        if wanted is None:
            return False
        path = f"{upper}/{name}"
        if isinstance(wanted, str):
            try:
                if os.readlink(path) != wanted:
                    return False
            except OSError:  # not a link
                return False
            continue
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return False
        if not holds_only(path, _find_below(name, lower), wanted):
            return False
    return True


def _find_below(name: str, lower: str | None) -> str | None:
    """The directory `name` in `lower`, None if there is none; anything else there was replaced, which is no folder."""
    if lower is None:
        return None
    path = f"{lower}/{name}"
    return path if os.path.lexists(path) else None


def _is_alike(upper: str, lower: str) -> bool:
    """True if both are directories with the same mode, owner and attributes, and the lower one shows through."""
    new, old = os.lstat(upper), os.lstat(lower)
    if (new.st_mode, new.st_uid, new.st_gid) != (old.st_mode, old.st_uid, old.st_gid):
        return False
    marks = os.listxattr(upper)
    if any(name.endswith(".opaque") for name in marks):
        return False
    names = [name for name in marks if not is_overlay_attribute(name)]
    if sorted(names) != sorted(name for name in os.listxattr(lower) if not is_overlay_attribute(name)):
        return False
    return all(os.getxattr(upper, name) == os.getxattr(lower, name) for name in names)
