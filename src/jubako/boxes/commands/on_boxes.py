"""A command in a box that stands on other boxes: it sees what they hold, and its own box holds that too afterwards.

    top        what the command writes
    hiding     whiteouts, for what it must not see
    below      what the boxes hold, the topmost first: links to their files, folded into one layer for each target
    machine

When the command has ended, what lies below is folded into the top. So the new box needs none of the others, they can be
committed or removed; its changes are changes of this machine, and are committed as any box's, in one transaction.
Conflicts count from the start of the oldest. Decision 18 says what that was weighed against.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from jubako.boxes.commands.first import Program
from jubako.boxes.commands.launch import run_in_new_box
from jubako.boxes.commands.result import resolve_path
from jubako.boxes.keeping.copied_up import note_copied_up, read_copied_up
from jubako.boxes.keeping.kept import find_box_id, hold_box, read_box, remove_box
from jubako.boxes.nesting import refuse_nesting
from jubako.boxes.spec import WHOLE_HOST
from jubako.boxes.state import default_state_root
from jubako.boxes.views.facts import is_below
from jubako.boxes.views.plan_wide import Stacked
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jubako.boxes.commands.result import BoxResult
    from jubako.boxes.keeping.kept_record import BoxRecord, Layer
    from jubako.boxes.spec import Box
    from jubako.boxes.state import StateRoot

__all__ = ["Ground", "run_on_boxes"]


@record
class Ground:
    """What a command's box stands on: kept boxes, by id, the topmost first, without the paths `hide`.

    `replaced`: the first of the boxes is removed when the new one has been kept; nobody may be in it meanwhile.
    """

    boxes: Sequence[str] = ()
    hide: Sequence[str] = ()
    replaced: bool = False


def run_on_boxes(
    argv: Sequence[str],
    box: Box = WHOLE_HOST,
    *,
    ground: Ground,
    keep: bool = False,
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
    stdio: tuple[int, int, int] = (0, 1, 2),
    state: StateRoot | None = None,
) -> BoxResult:
    """As `run_in_box`, in a box that stands on `ground`.

    Raises InputError for a box that is not there or is one of a failed task, and for a path to hide that is not there;
    ConflictError while one of the boxes is being committed or removed.
    """
    refuse_nesting()
    root = default_state_root() if state is None else state
    directories = dict.fromkeys(
        os.path.join(root.boxes_path, find_box_id(root.boxes_path, one)) for one in ground.boxes
    )
    with ExitStack() as held:
        for number, directory in enumerate(directories):
            held.enter_context(hold_box(directory, exclusive=ground.replaced and number == 0))
        records = {directory: read_box(root.boxes_path, os.path.basename(directory)) for directory in directories}
        for one in records.values():
            if one.outputs:
                raise InputError(
                    f"box {one.id} is that of a failed task, and nothing can be run on top of it",
                    hint=f"'jubako box enter {one.id} -- CMD' runs CMD in it; what that changes is dropped.",
                )
        environment = dict(os.environ if environment is None else environment)
        program = Program(argv, os.getcwd() if cwd is None else os.path.abspath(cwd), environment, stdio)
        standing = _Standing(records, [resolve_path(path, program.cwd) for path in ground.hide])
        result = run_in_new_box(program, box, root, keep=keep, stack=standing.make, settle=standing.settle)
        if ground.replaced and directories:
            remove_box(next(iter(directories)))
        return result


class _Standing:
    """One box on others: made before its view, settled when its command has ended."""

    def __init__(self, records: Mapping[str, BoxRecord], hidden: Sequence[str]) -> None:
        self._records = records
        self._hidden = hidden
        self._below: dict[str, str] = {}  # target: the layer that says what all of the boxes say about it

    def make(self, place: str, *, userxattr: bool, targets: Sequence[str]) -> tuple[Stacked, ...]:
        from jubako.layers.fold import fold, link_layer  # for who needs it alone

        os.makedirs(place, exist_ok=True)
        self._below = {}
        for at, (directory, box) in enumerate(self._records.items()):
            for number, layer in enumerate(box.layers):
                linked = os.path.join(place, f"{at}.{number}")
                link_layer(os.path.join(directory, layer.upper), linked)
                if layer.target in self._below:
                    fold(self._below[layer.target], linked)
                else:
                    self._below[layer.target] = linked
        hiding = tuple(self._hide(place, userxattr=userxattr, targets=targets))
        return (*hiding, *(Stacked(target, layer) for target, layer in self._below.items()))

    def _hide(self, place: str, *, userxattr: bool, targets: Sequence[str]) -> list[Stacked]:
        from jubako.layers.hide import hide_paths

        layers: dict[str, str] = {}
        known = {*targets, *self._below}
        for path in self._hidden:
            around = [target for target in known if path != target and is_below(path, target)]
            target = max(around, key=len, default=os.path.dirname(path))
            covered = [self._below[target]] if target in self._below else []
            below = os.path.relpath(path, target)
            if path == "/" or not any(os.path.lexists(os.path.join(top, below)) for top in (*covered, target)):
                raise InputError(f"{path} cannot be hidden: there is no such file", hint="Is the path spelled right?")
            layer = layers.setdefault(target, os.path.join(place, f"hide.{len(layers)}"))
            hide_paths(layer, [below], [*covered, target], userxattr=userxattr)
        return [Stacked(target, layer) for target, layer in layers.items()]

    def settle(self, directory: str, record: BoxRecord) -> BoxRecord:
        """Folds what lies below into the box in `directory`; the record of what it holds then."""
        from jubako.layers.fold import fold

        uppers = {layer.target: os.path.join(directory, layer.upper) for layer in record.layers}
        for target, layer in self._below.items():
            fold(uppers[target], layer)
        note_copied_up(directory, [path for below in self._records for path in read_copied_up(below)])
        inodes = {layer.target: layer.inode for one in self._records.values() for layer in one.layers if layer.inode}

        def settled(layer: Layer) -> Layer:
            return replace(layer, inode=inodes.get(layer.target, layer.inode))

        return replace(
            record,
            layers=tuple(settled(layer) for layer in record.layers),
            started_ns=min(one.started_ns for one in (record, *self._records.values())),
        )
