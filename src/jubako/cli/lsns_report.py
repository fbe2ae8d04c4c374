"""Namespaces and the processes in them as documents."""

from __future__ import annotations

import pwd

from jubako.cli.document import Document
from jubako.cli.terminal import echo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.boxes.namespaces.listing import Member, Namespace
    from jubako.cli.document import Format

__all__ = ["echo_unseen", "members_document", "namespaces_document"]

_SHOWN = ("namespace", "type", "processes", "pid", "user", "command")
_ALL = ("namespace", "type", "processes", "pid", "ppid", "uid", "user", "command", "path", "parent", "owner", "files")
_OF_A_MEMBER = ("pid", "ppid", "uid", "user", "command")


def namespaces_document(namespaces: Sequence[Namespace], unseen: int, format_: Format) -> Document:
    """One row a namespace; for people, the files that keep one stand where nobody is in it."""
    rows = []
    for one in namespaces:
        row: dict[str, object] = {
            "namespace": one.number,
            "type": one.type,
            "processes": len(one.members),
            "parent": one.parent,
            "owner": one.owner,
            "files": one.files,
        }
        if one.first is not None:
            row |= _row_of(one.first) | {"path": f"/proc/{one.first.pid}/ns/{one.type}"}
        elif format_ == "table":
            row["command"] = f"kept by {', '.join(one.files)}" if one.files else "needed by others"
        rows.append(row)
    columns = _SHOWN if format_ == "table" else _ALL
    return Document("jubako.lsns/1", columns, rows, {"unseen_processes": unseen}, "namespaces")


def members_document(namespace: Namespace) -> Document:
    """One row a process."""
    facts = {"namespace": namespace.number, "type": namespace.type}
    return Document(
        "jubako.lsns.processes/1", _OF_A_MEMBER, [_row_of(one) for one in namespace.members], facts, "processes"
    )


def echo_unseen(unseen: int) -> None:
    """Says how many processes the list knows nothing of."""
    if unseen:
        what = "1 process" if unseen == 1 else f"{unseen} processes"
        echo(f"note: {what} could not be looked at: other users', or with more rights than this one", err=True)


def _row_of(member: Member) -> dict[str, object]:
    return {
        "pid": member.pid,
        "ppid": member.parent_pid,
        "uid": member.uid,
        "user": _name_of(member.uid),
        "command": member.command,
    }


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
