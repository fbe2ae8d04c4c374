"""What the compiled first process of a box does, written down: by the same code that a forked one runs.

To write it down takes a millisecond, and boxes of one kind differ in the name of their directory alone, which is as
long for each. So the script of the last box is used again, with that name exchanged, for those planned from the same.
"""

from __future__ import annotations

from jubako.boxes.commands.confine import compile_profile
from jubako.boxes.commands.first import shut_in
from jubako.boxes.views.operations import CopyAttributes, CopyFile, IdmapTree, PlaceSecrets
from jubako.kernel.capabilities import last_capability
from jubako.kernel.landlock import landlock_abi
from jubako.kernel.overlay import has_lowerdir_plus
from jubako.kernel.script import format_script
from jubako.kernel.syscalls import recorded
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.commands.confine import Confinement
    from jubako.boxes.commands.make import NewBox
    from jubako.boxes.views.wide_view import WideView

__all__ = ["Script", "Scripts"]

_INNER_DESCRIPTOR = 5  # what the program is started with: its socket, the script, the user namespace
_NOT_BY_CALLS = (CopyAttributes, CopyFile, IdmapTree, PlaceSecrets)  # they do what is not written down, as well


@record
class Script:
    """The script of one box, and what its view lacks, in words."""

    data: bytes
    notes: tuple[str, ...]


@record
class _Written:
    """The last script."""

    box_id: str
    view: WideView  # of that box, without its directory
    confinement: Confinement  # without its descriptors
    script: Script


class Scripts:
    """Writes scripts for `program`, the compiled one."""

    def __init__(self, program: str) -> None:
        self.program = program
        self._last: _Written | None = None

    def write(self, new: NewBox, confinement: Confinement) -> Script | None:
        """The script of `new`; None for a box that cannot be written down."""
        last, view = self._last, replace(new.view, box_directory="")
        held_by_none = replace(confinement, held_descriptors=())
        if last is not None and last.view == view and last.confinement == held_by_none:
            name, own = f"/{last.box_id}".encode(), f"/{new.id}".encode()
            return replace(last.script, data=last.script.data.replace(name, own))
        if any(isinstance(one, _NOT_BY_CALLS) for one in new.plan.operations):
            return None
        script = _write(new, confinement)
        box_id = new.id.encode()
        if script.data.count(box_id) == script.data.count(b"/" + box_id):
            self._last = _Written(new.id, view, held_by_none, script)
        return script


def _write(new: NewBox, confinement: Confinement) -> Script:
    # These ask the kernel, once in each process; asked meanwhile, they would be written down.
    compile_profile(confinement.profile)
    last_capability()
    landlock_abi()
    has_lowerdir_plus()
    inner = _INNER_DESCRIPTOR if confinement.inner_descriptor >= 0 else -1
    with recorded() as calls:
        notes = shut_in(replace(confinement, inner_descriptor=inner), lambda: new.view.make(new.plan))
    return Script(format_script(calls), tuple(notes))
