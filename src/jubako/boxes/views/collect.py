"""Reads from outside what a job wrote, when nothing of it lives any more: its outputs, completely, and all the rest.

A declared output can have come about in three ways. Written through `inside.staged_path`, it is in its staging place,
and a symbolic link at the declared path shows that it was finished, or a mark where no link could be made. Written to
the declared path, it is in the top of an overlay and is copied to its staging place; a directory then is copied from
the merged view, since the top of a directory that was there before holds only the differences. A directory output is
bound there, and is just there.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from jubako.boxes.inside import UNSHOWN
from jubako.boxes.spec import StagedOutput
from jubako.boxes.views.classify import COMPANIONS, Business, sort_changes
from jubako.boxes.views.facts import HostFacts, is_below, is_unmapped
from jubako.boxes.views.glance import holds_only, is_untouched, plan_expected
from jubako.boxes.views.plan import TMP_IN_SCRATCH, LocatedOutput, staged_in_box
from jubako.boxes.views.plan_tops import SCRATCH, Overlay, find_top, list_private_tops
from jubako.errors import HostError
from jubako.kernel.mounts import OPEN_TREE_CLONE, open_tree
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.change import Change
from jubako.layers.copy import copy_file, copy_tree, sanitize_tree
from jubako.layers.diff import read_changes
from jubako.layers.remove import remove_tree
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.boxes.views.view import View

__all__ = ["UNWRITTEN_NS", "Collected", "collect_outputs", "collect_undeclared", "export_undeclared"]

# A directory output gets this time before the task starts; with any other, or with something in it, it was written.
UNWRITTEN_NS = 1


@record(frozen=False)
class Collected:
    """The outputs of a job. `problems` are sentences; with any of them nothing may be published."""

    staged: list[StagedOutput] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def collect_outputs(view: View) -> Collected:
    """Brings every declared output to its staging place, cleaned of what must not be published."""
    collected = Collected()
    for located in view.outputs:
        output = located.output
        try:
            is_there = _bring(located, view, collected)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            folder = os.path.dirname(output.path)
            raise HostError(
                f"there is no room for {output.path}: {error.strerror}", hint=f"make room on the disk with {folder}"
            ) from error
        if not is_there:
            collected.missing.append(output.path)
            continue
        collected.refused.extend(sanitize_tree(output.staged, shown=output.path))
        try:
            mode = os.lstat(output.staged).st_mode
        except FileNotFoundError:  # it was nothing that can be published
            collected.missing.append(output.path)
            continue
        collected.problems.extend(_find_open_database(located, view))
        kind = output.kind if stat.S_ISLNK(mode) else ("directory" if stat.S_ISDIR(mode) else "file")
        collected.staged.append(StagedOutput(output.path, kind, output.staged))
    for output in view.elsewhere:
        if os.path.lexists(output.staged):
            collected.refused.extend(sanitize_tree(output.staged, shown=output.path))
        if os.path.lexists(output.staged):
            collected.staged.append(output)
        else:
            collected.missing.append(output.path)
    return collected


def collect_undeclared(view: View, cwd: str, facts: HostFacts) -> tuple[tuple[Change, ...], int]:
    """What was written and not declared, sorted by path; and how many entries of scratch were."""
    changes: list[Change] = []
    for overlay in view.plan.overlays:
        if overlay.is_private:
            continue
        if _is_untouched(overlay.upper, view) or _glance(overlay, view, facts):
            view.plain.add(overlay.upper)
        else:
            changes.extend(_read_overlay(overlay, view, facts))
    scratch = 0 if _is_untouched(TMP_IN_SCRATCH, view) else _count_entries(f"{view.scratch}/{TMP_IN_SCRATCH}")
    for private in list_private_tops(view.plan.overlays):
        if not _is_untouched(private.upper, view):
            scratch += _count_entries(f"{view.scratch}/{private.upper}", _find_outputs_in(private, view))
    if not changes:
        return (), scratch
    folders = [os.path.realpath(path) for path in (cwd, view.home) if path]
    folders += [located.folder.path for located in view.outputs]
    business = Business(
        outputs=tuple(located.real_path for located in view.outputs),
        folders=tuple(dict.fromkeys(folders)),
        home=os.path.realpath(view.home) if view.home else "",
    )
    found = sort_changes(changes, business)
    return found.undeclared, scratch + found.scratch


def export_undeclared(undeclared: Sequence[Change], view: View, directory: str) -> tuple[str, ...]:
    """Copies what was written to `directory`, by absolute path; deletions leave nothing. What was refused, in words."""
    os.mkdir(directory, 0o700)
    refused: list[str] = []
    for change in undeclared:
        if change.kind == "deleted":
            continue
        source = _find_in_tops(change.path, view)
        if source is None:
            continue
        target = directory + change.path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if change.type == "directory":
            os.makedirs(target, exist_ok=True)
            os.chmod(target, stat.S_IMODE(os.lstat(source).st_mode))
        else:
            refused.extend(copy_file(source, target, shown=change.path))
    return tuple(refused)


def _bring(located: LocatedOutput, view: View, collected: Collected) -> bool:
    """Makes the staging place hold the output, if the job wrote it."""
    output = located.output
    if output.kind == "directory" and _is_written(output.staged):
        return True
    source = _find_in_tops(located.real_path, view)
    found = None
    if source is not None:
        with suppress(FileNotFoundError, NotADirectoryError):
            found = os.lstat(source)
    if source is None or found is None or (output.kind == "directory" and stat.S_ISDIR(found.st_mode)):
        # Not written by name. Where the folder has no overlay, the staging place is all there can be.
        is_finished = source is None or os.path.lexists(output.staged + UNSHOWN)
        return is_finished and output.kind == "file" and os.path.lexists(output.staged)
    if stat.S_ISLNK(found.st_mode):
        says = os.readlink(source)
        if says == staged_in_box(output, view.plan.stages):
            return os.path.lexists(output.staged)
        if is_below(says, SCRATCH):
            collected.refused.append(f"{output.path}: a link to {says}, which ends with the box, left out")
            return False
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
        return False  # a whiteout: deleted
    if stat.S_ISDIR(found.st_mode):
        collected.refused.extend(_copy_merged(located, view))
        return True
    collected.refused.extend(_replace_file(source, output))
    return os.path.lexists(output.staged)


def _replace_file(source: str, output: StagedOutput) -> tuple[str, ...]:
    remove_tree(output.staged)
    return copy_file(source, output.staged, shown=output.path, keep_owner=not _hands_out_group(output))


def _copy_merged(located: LocatedOutput, view: View) -> tuple[str, ...]:
    """Copies a directory as the job saw it: what was there before, and what it changed."""
    with view.entered():
        fd = os.open(located.real_path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        remove_tree(located.output.staged)
        keep_owner = not _hands_out_group(located.output)
        source = f"/proc/self/fd/{fd}/."
        return copy_tree(source, located.output.staged, shown=located.output.path, keep_owner=keep_owner)
    finally:
        os.close(fd)


def _hands_out_group(output: StagedOutput) -> bool:
    """True if what is made in the output's folder gets a group from it that this user namespace does not have: in the
    box it could not."""
    found = os.stat(os.path.dirname(output.staged))
    return bool(found.st_mode & stat.S_ISGID) and is_unmapped(found)


def _is_written(directory: str) -> bool:
    return os.stat(directory).st_mtime_ns != UNWRITTEN_NS or bool(os.listdir(directory))


def _find_in_tops(path: str, view: View) -> str | None:
    """Where the scratch has what was written to `path`, if it has; None if nothing can be written there by name."""
    top = find_top(path, view.plan.overlays)
    return None if top is None else f"{view.scratch}/{top.find(path)}"


def _find_outputs_in(private: Overlay, view: View) -> list[str]:
    """Where the top of a place that is the box's own has the outputs that lie there."""
    paths = [located.real_path for located in view.outputs]
    return [f"{view.scratch}/{private.find(path)}" for path in paths if is_below(path, private.target)]


def _find_open_database(located: LocatedOutput, view: View) -> list[str]:
    """A sentence for each file beside the output that shows a database was not closed."""
    output = located.output
    by_name = None
    top = find_top(located.real_path, view.plan.overlays)
    if top is not None and top.upper not in view.plain:
        by_name = f"{view.scratch}/{top.find(located.real_path)}"
    stage, name = os.path.split(output.staged)
    beside = os.listdir(stage)
    if by_name is not None:
        with suppress(FileNotFoundError, NotADirectoryError):  # nothing was written by name
            beside += os.listdir(os.path.dirname(by_name))
    endings = [
        ending for ending in COMPANIONS if name + ending in beside or output.path.rpartition("/")[2] + ending in beside
    ]
    problems = []
    for ending in endings:
        size = _size_of(output.staged + ending) or (0 if by_name is None else _size_of(by_name + ending))
        if size and not any(one.output.path == output.path + ending for one in view.outputs):
            problems.append(
                f"{output.path} was not closed: {size} bytes of it are still in {output.path}{ending}, "
                "so it would be published incomplete"
            )
    return problems


def _size_of(path: str) -> int:
    """The size of a regular file, 0 if there is none."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _is_untouched(name: str, view: View) -> bool:
    """True if the job wrote nothing in the directory `name` of its scratch, as far as two calls can tell."""
    before = view.before.get(name)
    return before is not None and is_untouched(f"{view.scratch}/{name}", before)


def _glance(overlay: Overlay, view: View, facts: HostFacts) -> bool:
    """True if nothing was written below the overlay but links to outputs."""
    if overlay.has_mounts or overlay.is_file:
        return False
    links = {
        located.real_path[len(overlay.target) + 1 :]: staged_in_box(located.output, view.plan.stages)
        for located in view.outputs
        if located.output.kind == "file" and located.real_path.startswith(overlay.target + "/")
    }
    expected = plan_expected(links)
    is_mine = not _has_foreign_owner(overlay, facts)
    return holds_only(f"{view.scratch}/{overlay.upper}", overlay.target, expected, compare_top=is_mine)


def _read_overlay(overlay: Overlay, view: View, facts: HostFacts) -> list[Change]:
    upper = f"{view.scratch}/{overlay.upper}"
    lower: int | str = overlay.directory
    if overlay.has_mounts:
        lower = open_tree(AT_FDCWD, overlay.target, OPEN_TREE_CLONE)
    try:
        changes = read_changes(upper, lower, overlay.directory, userxattr=facts.in_user_namespace)
    finally:
        if isinstance(lower, int):
            os.close(lower)
    if _has_foreign_owner(overlay, facts):
        return [one for one in changes if one.path != overlay.target or one.kind != "metadata"]
    return changes


def _has_foreign_owner(overlay: Overlay, facts: HostFacts) -> bool:
    """True if the top of somebody else's directory, such as /tmp, cannot have its owner here, or its group."""
    if not facts.in_user_namespace:
        return False
    found = os.lstat(overlay.target)
    return (found.st_uid, found.st_gid) != (facts.uid, facts.gid)


def _count_entries(directory: str, outputs: Sequence[str] = ()) -> int:
    """How many entries `directory` has at any depth; what its owner was shut out of counts as one.

    Those of `outputs`, paths below it, and the folders above them are none.
    """
    count = 0
    waiting = [directory]
    while waiting:
        with suppress(PermissionError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.path in outputs:
                    continue
                count += not any(is_below(output, entry.path) for output in outputs)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return count
