"""How the changes of a box are shown: a short table for people, every one of them for programs."""

from __future__ import annotations

from jubako.cli.document import Document, Format
from jubako.cli.formats import format_document
from jubako.cli.terminal import echo, printable
from jubako.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from jubako.boxes.commands.commit import Committed
    from jubako.boxes.commands.result import BoxResult
    from jubako.boxes.keeping.kept_record import BoxRecord
    from jubako.layers.change import Change

__all__ = [
    "boxes_document",
    "changes_document",
    "echo_committed",
    "echo_ending",
    "echo_notes",
    "echo_summary",
    "format_size",
    "prepare_file",
    "usage_facts",
    "write_document",
]

_UNITS = ("kB", "MB", "GB", "TB")
_COLUMNS = ("change", "type", "size_bytes", "path", "committed")


def changes_document(
    changes: Sequence[Change],
    format_: Format,
    *,
    committed: Collection[Change] = (),
    facts: Mapping[str, object] | None = None,
) -> Document:
    """The changes, sorted by path, as a document. People get one line for a new directory and all that is in it."""
    if format_ == "table":
        return Document("", ("change", "size", "path"), list(_rows_for_people(changes)))
    done = set(committed)
    rows = [
        {
            "change": change.kind,
            "type": change.type,
            "size_bytes": change.size_bytes,
            "path": change.path,
            "committed": change in done,
        }
        for change in changes
    ]
    return Document("jubako.box.changes/1", _COLUMNS, rows, facts or {}, "changes")


def boxes_document(
    records: Sequence[BoxRecord],
    sizes: Mapping[str, int],
    format_: Format,
    living: Mapping[str, tuple[str, str]] | None = None,
) -> Document:
    """Boxes as a document. By id: `sizes` are the bytes each takes on the disk, `living` names and phases."""
    columns: tuple[str, ...]
    known = living or {}
    if format_ == "table":
        columns = (
            ("id", "name", "status", "created", "size", "label", "error")
            if known
            else (*("id", "created", "size", "label", "error"),)
        )
        created = [record.created[:16].replace("T", " ") for record in records]
    else:
        columns = ("id", "created", "size_bytes", "label", "error", "name", "status")
        created = [record.created for record in records]
    rows = [
        {
            "id": record.id,
            "name": known.get(record.id, ("", ""))[0],
            "status": known.get(record.id, ("", "kept"))[1],
            "created": when,
            "size": format_size(sizes[record.id]),
            "size_bytes": sizes[record.id],
            "label": record.label,
            "error": record.error,
        }
        for record, when in zip(records, created, strict=True)
    ]
    return Document("jubako.box.ls/1", columns, rows, {}, "boxes")


def prepare_file(path: str) -> None:
    """Makes the file for a document to come, so that it is known early where that cannot be. Raises HostError."""
    try:
        with open(path, "a", encoding="utf-8"):
            return
    except OSError as error:
        raise HostError(
            f"the list of changes cannot be written to {path}: {error.strerror}", hint="The command was not run."
        ) from error


def write_document(document: Document, format_: Format, destination: str | None) -> None:
    """Writes the document to a file, to stdout ("-") or, where nothing was said, to stderr."""
    text = format_document(document, format_)
    if destination is None or destination == "-":
        if text:
            echo(text, err=destination is None)
        return
    with open(destination, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{text}\n" if text else "")


def echo_summary(changes: Sequence[Change]) -> None:
    """One line on stderr: how many changes of which kind."""
    if not changes:
        echo("No changes.", err=True)
        return
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.kind] = counts.get(change.kind, 0) + 1
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    total = sum(change.size_bytes for change in changes)
    noun = "change" if len(changes) == 1 else "changes"
    echo(f"{len(changes)} {noun} ({format_size(total)}): {kinds}.", err=True)


def echo_committed(committed: Committed, paths: Iterable[str]) -> None:
    """What was published, on stderr, and what could not be."""
    for line in committed.left_out:
        echo(f"warning: {printable(line)}", err=True)
    where = ", ".join(printable(path) for path in paths)
    count = len(committed.plan.published)
    if not count:
        echo(f"Nothing to commit{where and f' at or below {where}'}.", err=True)
        return
    echo(f"Committed {count} {'change' if count == 1 else 'changes'}{where and f' at or below {where}'}.", err=True)


def echo_notes(notes: Iterable[str]) -> None:
    """What this machine did not allow, a line each, on stderr."""
    for note in notes:
        echo(f"note: {printable(note)}", err=True)


def echo_ending(result: BoxResult, *, usage: bool) -> None:
    """Why the command could not be executed, which limits it met, and what it used if that is wanted; on stderr."""
    for sentence in (*((result.error,) if result.error else ()), *result.exceeded):
        echo(f"Error: {printable(sentence)}", err=True)
    if usage and result.usage is not None:
        from jubako.cli.usage_report import describe_usage  # a module, for those who ask

        for line in describe_usage(result.usage):
            echo(line, err=True)


def usage_facts(result: BoxResult) -> dict[str, object]:
    """What programs are told about the end of the box, beside the changes."""
    if result.usage is None:
        return {}
    from jubako.records import as_dict

    return {"exit_status": result.exit_status, "exceeded": list(result.exceeded), "usage": as_dict(result.usage)}


def _rows_for_people(changes: Sequence[Change]) -> Iterable[dict[str, object]]:
    from jubako.boxes.views.facts import ancestors

    whole = {change.path for change in changes if change.type == "directory" and change.kind in ("added", "replaced")}
    tops: dict[str, Change] = {}
    below: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for change in changes:
        top = min((path for path in ancestors(change.path) if path in whole), key=len, default=change.path)
        if top == change.path:
            tops[top] = change
        else:
            below[top] = below.get(top, 0) + 1
        sizes[top] = sizes.get(top, 0) + change.size_bytes
    for path, change in tops.items():
        name = f"{path}/" if change.type == "directory" and path != "/" else path
        count = below.get(path)
        yield {
            "change": change.kind,
            "size": format_size(sizes[path]) if sizes[path] else "",
            "path": f"{name} and {count} below" if count else name,
        }


def format_size(size_bytes: int) -> str:
    """A number of bytes for people: "16 B", "1.2 MB"."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in _UNITS:
        size /= 1000
        if size < 999.5 or unit == _UNITS[-1]:
            break
    return f"{size:.1f} {unit}"
