"""Documents for programs: JSON, CSV and YAML. `formats` says what a document is, and knows when these are wanted."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import cast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.cli.document import Document, Format

__all__ = ["FORMATTERS"]

_PLAIN_YAML = re.compile(r"[A-Za-z][A-Za-z0-9_./()-]*\Z")
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "true", "false", "on", "off", "null", "none"})


def _format_json(document: Document) -> str:
    return json.dumps(_whole(document), indent=2)


def _format_yaml(document: Document) -> str:
    return "\n".join(_yaml_lines(_whole(document), ""))


def _whole(document: Document) -> dict[str, object]:
    rows = [{name: row.get(name) for name in document.columns} for row in document.rows]
    return {"schema": document.schema, **document.facts, document.rows_are: rows}


def _format_csv(document: Document) -> str:
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


FORMATTERS: dict[Format, Callable[[Document], str]] = {
    "json": _format_json,
    "csv": _format_csv,
    "yaml": _format_yaml,
}
