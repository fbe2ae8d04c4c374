"""How the changes in an upper directory are shown: words for people, every field for programs."""

from __future__ import annotations

from jubako.cli.box_report import format_size
from jubako.cli.document import Document, Format
from jubako.cli.terminal import echo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jubako.layers.upper import UpperChange

__all__ = ["changes_document", "echo_summary"]

_COLUMNS = ("change", "type", "size_bytes", "path", "from", "whiteout", "opaque", "metacopy", "words")
_WHITEOUTS = {"device": "a 0/0 character device", "attribute": "an empty file marked as whiteout"}


def changes_document(found: Sequence[UpperChange], format_: Format, *, facts: Mapping[str, object]) -> Document:
    """The changes, in their order, as a document."""
    rows = [
        {
            "change": change.kind,
            "type": change.type,
            "size_bytes": change.size_bytes,
            "size": format_size(change.size_bytes) if change.type == "file" and change.kind != "deleted" else "",
            "path": f"{change.path}/" if format_ == "table" and change.type == "directory" else change.path,
            "from": change.moved_from or None,
            "whiteout": change.whiteout or None,
            "opaque": change.opaque,
            "metacopy": change.metacopy,
            "words": _describe(change),
        }
        for change in found
    ]
    if format_ == "table":
        return Document("", ("change", "size", "path", "words"), rows)
    return Document("jubako.overlay.changes/1", _COLUMNS, rows, facts, "changes")


def echo_summary(found: Iterable[UpperChange]) -> None:
    """One line on stderr: how many changes of which kind."""
    counts: dict[str, int] = {}
    for change in found:
        counts[change.kind] = counts.get(change.kind, 0) + 1
    if not counts:
        echo("No changes.", err=True)
        return
    total = sum(counts.values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    echo(f"{total} {'change' if total == 1 else 'changes'}: {kinds}.", err=True)


def _describe(change: UpperChange) -> str:
    """A change in words: what became of it, and how the upper directory says so."""
    name = f"{change.type} " if change.type else ""
    match change.kind:
        case "deleted":
            words = f"{name}removed: {_WHITEOUTS[change.whiteout]} in its place"
        case "added":
            words = f"new {name or 'entry'}"
        case "modified":
            words = f"{name}with new content"
        case "metadata":
            words = f"{name}with another mode, owner, time or attribute"
        case "replaced":
            words = f"{name}in the place of what was there"
        case "renamed":
            words = f"{name}that was {change.moved_from}"
    details = []
    if change.opaque:
        details.append("opaque, it hides what is below it")
    if change.metacopy:
        details.append("its content is in a lower directory")
    return "; ".join((words.strip(), *details))
