"""One document, four ways to show it: a table for people; JSON, CSV and YAML for programs.

JSON and YAML hold all of it, with the name of the schema first; CSV holds the rows; the table holds the rows, for
people, and hides nothing that was asked for.

Names come from file systems and are hostile: a terminal never gets a control character from them, and JSON carries
bytes that are not UTF-8 as lone surrogates, as Python's os.fsdecode gives them. JSON, CSV and YAML are made in
`machine_formats`.
"""

from __future__ import annotations

from jubako.cli.document import FORMATS
from jubako.cli.line import Option
from jubako.cli.terminal import echo, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.cli.document import Document, Format

__all__ = ["FORMAT_OPTION", "echo_document", "format_document"]

FORMAT_OPTION = Option(
    names=("--format",),
    parameter="format_",
    help="How to print the result.",
    takes="value",
    default="table",
    metavar="|".join(FORMATS),
    choices=FORMATS,
)


def echo_document(document: Document, format_: Format) -> None:
    """Print the document on stdout."""
    text = format_document(document, format_)
    if text:
        echo(text)


def format_document(document: Document, format_: Format) -> str:
    """The document as text, without a newline at the end."""
    if format_ == "table":
        return _format_table(document)
    from jubako.cli import machine_formats  # 6 ms with json, csv and re, which a table has no use for

    return machine_formats.FORMATTERS[format_](document)


def _format_table(document: Document) -> str:
    if not document.rows:
        return ""
    cells = [[_shown(row.get(name)) for name in document.columns] for row in document.rows]
    heads = [name.replace("_", " ").upper() for name in document.columns]
    is_number = [
        all(type(row.get(name)) in (int, float, type(None)) for row in document.rows) for name in document.columns
    ]
    widths = [max(_width(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    return "\n".join(
        "  ".join(
            _pad(cell, width, right=right) for cell, width, right in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in [heads, *cells]
    )


def _shown(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, (list, tuple)):
        return printable(", ".join(str(item) for item in value)) or "-"
    return printable(str(value))


def _pad(cell: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    """Columns `text` takes on a terminal: two for wide East Asian characters, none for combining ones."""
    if text.isascii():
        return len(text)
    import unicodedata  # 0.5 ms, and most names are ASCII

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
