"""What a new living box begins with beside this machine: directories below its tops, or another box's tops.

    directories    stay where they are, read-only, their root over "/": each overlay shows the part of them that lies
                   below its target. What changes in them is seen by the box when it is started again.
    a box          is copied (blocks are shared where the file system can): so the new box lists and commits all that
                   differs from this machine, and the old one can be removed.

As an ordinary user only the parts of a directory show that lie below what is copy-on-write.
"""

from __future__ import annotations

import os

from jubako.boxes.keeping.keep import copy_top
from jubako.boxes.keeping.kept import hold_box
from jubako.boxes.living.living_record import SavedTop
from jubako.boxes.views.plan_wide import Stacked, plan_wide
from jubako.errors import InputError
from jubako.layers.remove import remove_tree
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jubako.boxes.keeping.kept_record import BoxRecord, Layer
    from jubako.boxes.views.plan_wide import WideFacts

__all__ = ["Origin", "Origins", "copy_origin", "stack_directories"]


@record
class Origin:
    """A box that is not running, whose tops a new one begins with. A kept box has not noted its `tops`."""

    directory: str
    record: BoxRecord
    tops: tuple[SavedTop, ...] | None = None


@record
class Origins:
    """What a new box begins with; `directories` are absolute, the topmost first."""

    directories: tuple[str, ...] = ()
    box: Origin | None = None


def stack_directories(directories: Sequence[str], facts: WideFacts, box_directory: str) -> tuple[Stacked, ...]:
    """What of the directories lies below each top. InputError for one that is gone."""
    for directory in directories:
        if not os.path.isdir(directory):
            raise InputError(f"{directory}, which the box lies on, is no directory (any more)")
    if not directories:
        return ()
    tops = plan_wide(facts, box_directory).tops
    return tuple(_stack(directories, [top.target for top in tops if not top.is_file]))


def _stack(directories: Sequence[str], targets: Sequence[str]) -> Iterator[Stacked]:
    for target in targets:
        for directory in directories:
            part = os.path.normpath(f"{directory}/{target}")
            if os.path.realpath(part) == os.path.realpath(directory) + target.rstrip("/") and os.path.isdir(part):
                yield Stacked(target, part)


def copy_origin(
    origin: Origin, directory: str, tops: tuple[SavedTop, ...], record: BoxRecord
) -> tuple[tuple[SavedTop, ...], BoxRecord]:
    """Copies the tops of another box into the new one in `directory`, which has `tops`; its tops and its record then.

    Conflicts with this machine count from when that other box was started.
    """
    mine = {top.target: top for top in tops}
    copied: list[Layer] = []
    with hold_box(origin.directory, exclusive=False):
        for layer in origin.record.layers:
            top = _find_top(layer, origin, mine)
            if top is None:
                continue
            if top.target not in mine:  # this machine has no such place now
                place = next(
                    str(at) for at in range(len(mine) + 1) if str(at) not in {one.place for one in mine.values()}
                )
                mine[top.target] = replace(top, place=place)
            upper = f"{mine[top.target].place}/upper"
            path = os.path.join(directory, upper)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            remove_tree(path)
            copy_top(os.path.join(origin.directory, layer.upper), path)
            copied.append(replace(layer, upper=upper))
    uppers = {layer.upper for layer in copied}
    layers = (*copied, *(layer for layer in record.layers if layer.upper not in uppers))
    return tuple(mine.values()), replace(record, layers=layers, started_ns=origin.record.started_ns)


def _find_top(layer: Layer, origin: Origin, mine: Mapping[str, SavedTop]) -> SavedTop | None:
    """Which top the layer is that of; None for the copy of a single file that nobody wrote to, which is gone."""
    if origin.tops is not None:
        return next((top for top in origin.tops if layer.upper == f"{top.place}/upper"), None)
    if layer.target in mine and not mine[layer.target].is_file:
        return SavedTop(layer.target, "0")
    names = os.listdir(os.path.join(origin.directory, layer.upper))
    files = [path for name in names if (path := os.path.join(layer.target, name)) in mine and mine[path].is_file]
    if len(files) == len(names):
        return SavedTop(files[0], "0", is_file=True) if files else None
    return SavedTop(layer.target, "0")
