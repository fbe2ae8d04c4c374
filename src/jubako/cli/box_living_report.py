"""How living boxes are shown: short tables for people, all of it for programs."""

from __future__ import annotations

import time

from jubako.boxes.keeping.kept_record import format_created
from jubako.cli.box_report import format_size
from jubako.cli.document import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.boxes.living.overview import BoxInfo, Running
    from jubako.cli.document import Format

__all__ = ["format_phase", "info_document", "members_document", "ps_document"]


def format_phase(phase: str, exit_status: int | None) -> str:
    """What a box is doing or how it ended, for people: "running", "exited (3)"."""
    return f"exited ({exit_status})" if phase == "exited" and exit_status is not None else phase


def ps_document(rows: Sequence[Running], format_: Format) -> Document:
    """Boxes and what runs in them."""
    if format_ == "table":
        shown = ("name", "id", "status", "since", "processes", "command")
        return Document("", shown, [_row_for_people(row) for row in rows])
    columns = ("id", "name", "kind", "status", "exit_status", "since", "processes", "command")
    return Document(
        "jubako.box.ps/1",
        columns,
        [
            {
                "id": row.id,
                "name": row.name,
                "kind": row.kind,
                "status": row.status,
                "exit_status": row.exit_status,
                "since": format_created(row.since_ns) if row.since_ns else None,
                "processes": row.processes,
                "command": row.command,
            }
            for row in rows
        ],
        {},
        "boxes",
    )


def members_document(members: Sequence[dict[str, object]], format_: Format) -> Document:
    """The processes of one box."""
    rows = [
        {
            "pid": one["pid"],
            "parent": one["parent"],
            "state": one["state"],
            "cpu_s": one["cpu_s"],
            "memory_bytes": one["memory_bytes"],
            "memory": format_size(int(str(one["memory_bytes"]))),
            "command": one["command"],
        }
        for one in members
    ]
    if format_ == "table":
        return Document("", ("pid", "parent", "state", "cpu_s", "memory", "command"), rows)
    columns = ("pid", "parent", "state", "cpu_s", "memory_bytes", "command")
    return Document("jubako.box.processes/1", columns, rows, {}, "processes")


def info_document(info: BoxInfo, format_: Format) -> Document:
    """All there is to say of one box: a line for each fact, or for programs one object."""
    facts = dict(info.facts)
    if format_ == "table":
        shown = [{"what": name.replace("_", " "), "is": _shown(name, value)} for name, value in facts.items()]
        shown += [
            {"what": f"top {top['target']}", "is": f"{format_size(int(str(top['size_bytes'])))} in {top['upper']}"}
            for top in info.tops
        ]
        return Document("", ("what", "is"), [row for row in shown if row["is"] not in ("", None)])
    return Document("jubako.box.info/1", ("target", "upper", "size_bytes"), info.tops, facts, "tops")


def _row_for_people(row: Running) -> dict[str, object]:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.since_ns / 1e9)) if row.since_ns else ""
    return {
        "name": row.name or "-",
        "id": row.id,
        "status": format_phase(row.status, row.exit_status),
        "since": since,
        "processes": row.processes,
        "command": row.command,
    }


def _shown(name: str, value: object) -> object:
    if name == "size_bytes":
        return format_size(int(str(value)))
    if isinstance(value, dict):
        return ", ".join(f"{key}={_brief(one)}" for key, one in value.items() if key != "base" and _says(key, one))
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value


def _brief(value: object) -> str:
    """A value of a box in one line, records without what they leave at its default."""
    if isinstance(value, dict):
        return " ".join(f"{key}={_brief(one)}" for key, one in value.items() if _says(key, one)) or "-"
    if isinstance(value, list):
        return f"[{', '.join(map(_brief, value))}]"
    return str(value)


def _says(key: str, value: object) -> bool:
    return key != "@" and value not in ([], {}, None, "", False, -1)
