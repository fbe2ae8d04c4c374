"""One document, four ways to show it: a table for people; JSON, CSV and YAML for programs.

A `Document` is what a command found: a few facts about the whole and one list of rows. JSON and YAML hold all of it,
with the schema's name first; CSV holds the rows; the table holds the rows, for people, and hides nothing that was asked
for. Columns and facts of one schema keep their names and meaning; a change that breaks readers gets a new number.

Names come from file systems and are hostile: a terminal never gets a control character from them, and JSON carries
bytes that are not UTF-8 as lone surrogates, as Python's os.fsdecode gives them.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import click

from jubako.records import field, record

__all__ = ["FORMATS", "Document", "Format", "echo_document", "format_document", "format_option", "printable"]

Format = Literal["table", "json", "csv", "yaml"]
FORMATS: tuple[Format, ...] = ("table", "json", "csv", "yaml")

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PLAIN_YAML = re.compile(r"[A-Za-z][A-Za-z0-9_./()-]*\Z")
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "true", "false", "on", "off", "null", "none"})


@record
class Document:
    """What a command found. `columns` orders the rows' keys; a row may leave a key out (None).

    `facts` are scalars, lists or mappings about the whole; `rows_are` names the list in JSON and YAML.
    """

    schema: str  # "jubako.box.ls/1"
    columns: Sequence[str]
    rows: Sequence[Mapping[str, object]]
    facts: Mapping[str, object] = field(default_factory=dict)
    rows_are: str = "rows"


def format_option(command: _Command) -> _Command:
    """Give a command `--format table|json|csv|yaml`, passed as `format_`."""
    option = click.option(
        "--format",
        "format_",
        metavar="|".join(FORMATS),
        type=click.Choice(FORMATS),
        default="table",
        help="How to print the result.",
    )
    return option(command)


def echo_document(document: Document, format_: Format) -> None:
    """Print the document on stdout."""
    text = format_document(document, format_)
    if text:
        click.echo(text)


def format_document(document: Document, format_: Format) -> str:
    """The document as text, without a newline at the end."""
    if format_ == "json":
        return json.dumps(_whole(document), indent=2)
    if format_ == "yaml":
        return "\n".join(_yaml_lines(_whole(document), ""))
    if format_ == "csv":
        return _csv(document)
    return _table(document)


def printable(text: str) -> str:
    """`text` with every character a terminal could obey, or cannot show, written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as os.fsdecode carries it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _whole(document: Document) -> dict[str, object]:
    rows = [{name: row.get(name) for name in document.columns} for row in document.rows]
    return {"schema": document.schema, **document.facts, document.rows_are: rows}


def _csv(document: Document) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(document.columns)
    for row in document.rows:
        writer.writerow([_cell(row.get(name)) for name in document.columns])
    return out.getvalue().removesuffix("\n")


def _cell(value: object) -> str:
    """One value in CSV: empty for None, JSON for anything with parts, else as it reads."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    return json.dumps(value)


def _table(document: Document) -> str:
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
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _yaml_lines(value: Mapping[str, object], indent: str) -> list[str]:
    lines: list[str] = []
    for key, item in value.items():
        head = f"{indent}{_yaml_scalar(key)}:"
        if isinstance(item, Mapping) and item:
            lines += [head, *_yaml_lines(cast("Mapping[str, object]", item), indent + "  ")]
        elif isinstance(item, (list, tuple)) and item:
            lines += [head, *(line for entry in item for line in _yaml_entry(entry, indent + "  "))]
        else:
            lines.append(f"{head} {_yaml_scalar(item)}")
    return lines


def _yaml_entry(entry: object, indent: str) -> list[str]:
    """One element of a list, behind its dash."""
    if isinstance(entry, Mapping) and entry:
        first, *rest = _yaml_lines(cast("Mapping[str, object]", entry), indent + "  ")
        return [f"{indent}- {first.lstrip()}", *rest]
    return [f"{indent}- {_yaml_scalar(entry)}"]


def _yaml_scalar(value: object) -> str:
    """Plain where YAML cannot misread it, else JSON, which YAML reads as it stands."""
    if isinstance(value, str) and _PLAIN_YAML.match(value) and value.lower() not in _YAML_WORDS:
        return value
    return json.dumps(value)
