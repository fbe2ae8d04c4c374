"""What `jubako box ls` does. Needs no click, whose import takes longer, and what is for living boxes only for those."""

from __future__ import annotations

from jubako.boxes.commands.kept_boxes import kept_boxes, measure_box
from jubako.boxes.keeping.kept import list_living_ids
from jubako.boxes.state import default_state_root
from jubako.cli.box_report import boxes_document, echo_notes
from jubako.cli.formats import echo_document
from jubako.cli.terminal import echo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.cli.document import Format

__all__ = ["list_boxes"]


def list_boxes(format_: Format) -> int:
    """Prints the boxes, the oldest first; the exit code."""
    state = default_state_root()
    kept = kept_boxes(state)
    sizes = {record.id: measure_box(record, state) for record in kept.records}
    records, unreadable = list(kept.records), kept.unreadable
    living = {}
    if list_living_ids(state.boxes_path):
        from jubako.boxes.living.find import list_living
        from jubako.boxes.living.overview import measure_living

        found, others = list_living(state)
        living = {one.id: (one.name, one.phase) for one in found}
        sizes |= {one.id: measure_living(one) for one in found}
        records = sorted([*records, *(one.record for one in found)], key=lambda record: (record.created, record.id))
        unreadable = (*unreadable, *others)
    echo_document(boxes_document(records, sizes, format_, living), format_)
    echo_notes(unreadable)
    if not records and format_ == "table":
        echo("There are no boxes. 'jubako box run --keep -- CMD' keeps one, 'jubako box create' makes one.", err=True)
    return 0
