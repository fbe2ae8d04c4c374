"""What `jubako box ls` does. Needs no click, whose import takes longer."""

from __future__ import annotations

from jubako.boxes.commands.kept_boxes import kept_boxes, measure_box
from jubako.cli.box_report import boxes_document, echo_notes
from jubako.cli.formats import echo_document
from jubako.cli.terminal import echo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.cli.document import Format

__all__ = ["list_boxes"]


def list_boxes(format_: Format) -> int:
    """Prints the kept boxes, the oldest first; the exit code."""
    kept = kept_boxes()
    sizes = {record.id: measure_box(record) for record in kept.records}
    echo_document(boxes_document(kept.records, sizes, format_), format_)
    echo_notes(kept.unreadable)
    if not kept.records and format_ == "table":
        echo("There are no kept boxes. 'jubako box run --keep -- CMD' makes one.", err=True)
    return 0
