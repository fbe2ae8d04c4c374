"""Makes the wide view a plan describes: the tops on disk before the box starts, the mounts inside its namespaces.

Where the kernel refuses one of the overlays (a file system with something special about it), the plan is made again
without it: that place is read-only then, and the notes say so. The overlay of "/", and those over what a kept box held,
cannot be done without.
"""

from __future__ import annotations

import errno
import itertools
import os

from jubako.boxes.views.apply import apply_operations
from jubako.boxes.views.bound_files import Copies, note_copies
from jubako.boxes.views.facts import is_below
from jubako.boxes.views.operations import CopyAttributes
from jubako.boxes.views.plan_wide import Stacked, Top, WideFacts, WidePlan, plan_wide
from jubako.errors import HostError
from jubako.kernel.mounts import MNT_DETACH, OPEN_TREE_CLONE, attach, open_tree, umount2
from jubako.kernel.overlay import Overlay, has_lowerdir_plus, mount_overlay_classic, open_overlay
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.remove import remove_tree
from jubako.records import field, record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jubako.boxes.views.facts import KnownPath
    from jubako.boxes.views.operations import SecretFile
    from jubako.boxes.views.plan_mounts import Mounted

__all__ = ["WideView", "move_tops"]

_ROOT = "root"  # where the new root is put together, and where old kernels make their overlays
# These say nothing of the file system: without this one the next would be refused, and the ones below it, and so on.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT})
_HINT = "What a box writes is kept in {}: set JUBAKO_STATE to a directory on a local disk, or on a tmpfs."


@record
class WideView:
    """One box's view, yet to be made. `box_directory` is the box's own, `shared` and `stacked` as for `plan_wide`.

    `places` says of targets where in the box's directory their tops are, for a box that is made once more: what is
    there stays. Not `volatile`: what programs flush is on the disk, and the tops can be used again after any end.
    """

    facts: WideFacts
    box_directory: str
    shared: Sequence[KnownPath] = ()
    stacked: Sequence[Stacked] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    volatile: bool = True
    mounts: Sequence[Mounted] = ()
    is_sealed: bool = False  # (`plan_sealed`)
    secrets: Sequence[SecretFile] = ()

    def plan(self) -> WidePlan:
        """The plan, with nothing refused yet."""
        return self._plan(frozenset())

    def prepare(self, plan: WidePlan) -> Copies:
        """Makes the upper directories in the box's directory; when single files were copied there, for
        `drop_untouched_files`. OSError on a full disk."""
        copies: Copies = {}
        os.makedirs(os.path.join(self.box_directory, _ROOT), exist_ok=True)
        for top in plan.tops:
            upper, work = (os.path.join(self.box_directory, name) for name in (top.upper, top.work))
            if top.target in self.places and self._is_there(top):
                continue
            os.makedirs(upper, exist_ok=bool(self.places))
            if self.places:
                remove_tree(work)
            os.mkdir(work)
            if top.is_file:
                from jubako.layers.copy import copy_file  # 1 ms to import, and few machines mount single files

                copied = _copied_file(self.box_directory, top)
                copy_file(top.target, copied)
                copies |= note_copies([copied])
            else:
                covered = next((path for path in top.lowers if os.path.isdir(path)), top.lowers[-1])
                apply_operations([CopyAttributes(covered, upper)])
        return copies

    def prepare_again(self, plan: WidePlan) -> Copies:
        """Makes what `prepare` made fit for another start, with all that was written to it; the box must have ended.
        Copies of single files that were dropped since are made again, and returned."""
        from jubako.layers.remove import remove_tree  # 1 ms to import, for boxes that are started again

        copies: Copies = {}
        for top in plan.tops:
            work = os.path.join(self.box_directory, top.work)
            remove_tree(work)  # a volatile overlay leaves a mark there, and is refused where it finds one
            os.mkdir(work)
            if top.is_file and not os.path.exists(copied := _copied_file(self.box_directory, top)):
                from jubako.layers.copy import copy_file  # as in `prepare`

                copy_file(top.target, copied)
                copies |= note_copies([copied])
        return copies

    def make(self, plan: WidePlan) -> Sequence[str]:
        """Mounts the view, in the namespaces made for it; what it lacks, in words."""
        refused: set[str] = set()
        trees: dict[str, int] = {}
        while (top := next((top for top in plan.tops if top.name not in trees), None)) is not None:
            try:
                trees[top.name] = self._open(top, plan)
            except OSError as error:
                if error.errno in _SHORTAGES or not _can_do_without(top, plan):
                    for fd in trees.values():
                        os.close(fd)
                    raise HostError(
                        f"cannot make an overlay of {top.target}: {error}", hint=_HINT.format(self.box_directory)
                    ) from error
                refused.add(top.target)
                plan = self._plan(frozenset(refused))
        apply_operations((*plan.operations, *plan.seal), trees)
        return plan.notes

    def _is_there(self, top: Top) -> bool:
        """Whether the top was made before, and with it the copy of a single file."""
        upper = _copied_file(self.box_directory, top) if top.is_file else os.path.join(self.box_directory, top.work)
        return os.path.lexists(upper)

    def _plan(self, refused: frozenset[str]) -> WidePlan:
        plan = self._plan_usual(refused)
        hidden = self.facts.host.hidden
        if self.mounts or any(is_below(path, one.path) for path in hidden for one in self.shared):
            from jubako.boxes.views.plan_mounts import plan_hiding, plan_placing, plan_taking  # for boxes with such

            mounts = self._place_mounts()
            plan = replace(
                plan,
                operations=(
                    *plan_taking(mounts),
                    *plan.operations,
                    *plan_hiding(self.shared, hidden),
                    *plan_placing(mounts, hidden),
                ),
            )
        if self.secrets:
            from jubako.boxes.views.plan_secrets import plan_secrets  # for boxes with such

            plan = replace(plan, operations=(*plan.operations, *plan_secrets(self.secrets)))
        if not self.places:
            return plan
        return replace(plan, tops=tuple(move_tops(plan.tops, self.places)))

    def _place_mounts(self) -> Sequence[Mounted]:
        """The mounts, with a place where this machine has one that the view shows."""
        if not self.is_sealed:
            return self.mounts
        from jubako.boxes.views.plan_sealed import is_sealed_off  # as below

        return [
            replace(one, has_place=one.has_place and not is_sealed_off(one.mount.target, self.facts))
            for one in self.mounts
        ]

    def _plan_usual(self, refused: frozenset[str]) -> WidePlan:
        """The plan without what this box has besides."""
        if self.is_sealed:
            from jubako.boxes.views.plan_sealed import plan_sealed  # for boxes that are

            return plan_sealed(self.facts, self.box_directory, self.shared)
        return plan_wide(self.facts, self.box_directory, shared=self.shared, stacked=self.stacked, refused=refused)

    def _open(self, top: Top, plan: WidePlan) -> int:
        """A descriptor of the top as a detached tree."""
        if top.is_file:
            return open_tree(AT_FDCWD, _copied_file(self.box_directory, top), OPEN_TREE_CLONE)
        overlay = Overlay(
            lowers=tuple(path for path in top.lowers if os.path.isdir(path)),
            upper=os.path.join(self.box_directory, top.upper),
            work=os.path.join(self.box_directory, top.work),
            userxattr=plan.userxattr,
            volatile=self.volatile,
        )
        try:
            return self._open_overlay(overlay)
        except OSError as error:
            if error.errno != errno.ELOOP or len(overlay.lowers) < 2:
                raise
        return self._open_in_two_levels(overlay, top)

    def _open_in_two_levels(self, overlay: Overlay, top: Top) -> int:
        """The overlay where what is stacked lies somewhere below what it is stacked on (the state root in "/").

        Overlayfs refuses such layers side by side as lowers (ELOOP), but takes an upper anywhere. So the lowest of what
        is stacked becomes the upper of an overlay that nobody writes to, and that one the lower of the real one.
        """
        *above, stacked, covered = overlay.lowers
        directory = os.path.join(self.box_directory, os.path.dirname(top.upper))
        base, base_work, work = (os.path.join(directory, name) for name in ("base", "base-work", "work-again"))
        for path in (base, base_work, work):  # what was refused has left its mark in the work directory it was given
            remove_tree(path)
            os.mkdir(path)
        attach(self._open_overlay(replace(overlay, lowers=(covered,), upper=stacked, work=base_work)), base)
        try:
            return self._open_overlay(replace(overlay, lowers=(*above, base), work=work))
        finally:
            umount2(base, MNT_DETACH)

    def _open_overlay(self, overlay: Overlay) -> int:
        if has_lowerdir_plus():
            return open_overlay(overlay)
        place = os.path.join(self.box_directory, _ROOT)
        mount_overlay_classic(overlay, place)
        try:
            return open_tree(AT_FDCWD, place, OPEN_TREE_CLONE)
        finally:
            umount2(place, MNT_DETACH)


def move_tops(tops: Sequence[Top], places: Mapping[str, str]) -> Iterator[Top]:
    """The tops where `places` says their targets' are, and the others in directories that none of them has."""
    free = (str(number) for number in itertools.count() if str(number) not in places.values())
    for top in tops:
        place = places.get(top.target) or next(free)
        yield replace(top, upper=f"{place}/upper", work=f"{place}/work")


def _can_do_without(top: Top, plan: WidePlan) -> bool:
    return top.target != "/" and len(top.lowers) == 1 and len(plan.tops) > 1


def _copied_file(box_directory: str, top: Top) -> str:
    """Where the copy of a single file is that stands for it in the box."""
    return os.path.join(box_directory, top.upper, os.path.basename(top.target))
