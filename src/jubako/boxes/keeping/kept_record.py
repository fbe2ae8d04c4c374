"""box.json: what makes a box directory a kept box. The format, reading it and writing it.

box.json is JSON, version 1; readers refuse another version and ignore keys they do not know:

    {"version": 1, "id": "3f9c01ab", "label": "make install", "created": "2024-05-06T07:08:09.123456Z",
     "cwd": "/home/ann/src", "error": "", "started_ns": 1714979289123456789, "userxattr": false,
     "layers":  [{"target": "/", "upper": "0/upper", "inode": 2}],
     "outputs": [{"path": "/data/out.csv", "kind": "file", "staged": "stage/out.csv"}]}

`target` is the host directory the upper belongs to, `inode` its inode (0 or missing: not known); `upper` and `staged`
are relative to the box's directory. Bytes of names that are not UTF-8 are lone surrogates (`os.fsdecode`). `started_ns`
is the moment after which a change of the host conflicts with the box; `created` stands in where it is missing.
`userxattr` says that the uppers' marks are `user.overlay.*`, not `trusted.overlay.*`; null or missing: either may be.
"""

from __future__ import annotations

import os
import time

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from jubako.boxes.spec import OutputKind

__all__ = [
    "COMMITTING_NAME",
    "LIVING_NAME",
    "RECORD_NAME",
    "BoxRecord",
    "Layer",
    "RecordedOutput",
    "forget_record",
    "format_command",
    "format_created",
    "is_kept_box",
    "parse_record",
    "prepare_record",
    "publish_record",
    "save_record",
]

RECORD_NAME = "box.json"
COMMITTING_NAME = "committing"  # beside it, while the box is published from (`boxes.keeping.interrupted`)
LIVING_NAME = "living.json"  # beside it, in the directory of a living box

_PREPARED = "box.json.new"
_VERSION = 1
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")  # to a shell


@record
class Layer:
    """One upper directory of a box: `upper`, relative to the box, holds what changed below `target`."""

    target: str
    upper: str
    inode: int = 0  # of `target` when the box was started; 0: not known


@record
class RecordedOutput:
    """A declared output a failed task had staged: `staged`, relative to the box, was to become `path`."""

    path: str
    kind: OutputKind
    staged: str


@record
class BoxRecord:
    """What box.json says. `created` is ISO 8601 in UTC; `error` is why a task failed, "" for a command's box."""

    id: str
    label: str
    created: str
    cwd: str
    layers: tuple[Layer, ...]
    outputs: tuple[RecordedOutput, ...] = ()
    error: str = ""
    started_ns: int = 0
    userxattr: bool | None = None  # where its overlays kept their marks; None: not known


def is_kept_box(directory: str) -> bool:
    """True if the box has a record, readable or not."""
    return os.path.lexists(os.path.join(directory, RECORD_NAME))


def format_created(time_ns: int) -> str:
    """The moment as box.json writes it: "2024-05-06T07:08:09.123456Z"."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ns // 1_000_000_000))
    return f"{moment}.{time_ns % 1_000_000_000 // 1000:06}Z"


def format_command(words: Iterable[str]) -> str:
    """A command as one would type it into a shell; what `shlex.join` says, without `re`, which takes 3 ms to import."""
    return " ".join(
        word if word and _PLAIN.issuperset(word) else "'" + word.replace("'", "'\"'\"'") + "'" for word in words
    )


def save_record(directory: str, record: BoxRecord) -> None:
    """Makes the box a kept one: writes box.json aside, flushes it, and renames it into place. Atomic, repeatable."""
    prepare_record(directory, record)
    publish_record(directory)


def prepare_record(directory: str, record: BoxRecord) -> None:
    """Writes box.json aside and flushes it, so that `publish_record` needs no space on a disk that is full by then."""
    import json  # 2 ms to import, for boxes that are kept

    with open(os.path.join(directory, _PREPARED), "w", encoding="utf-8") as file:
        json.dump(_as_json(record), file, indent=1)
        file.flush()
        os.fsync(file.fileno())  # a rename that outlives its content would make the box unreadable


def publish_record(directory: str) -> None:
    """Renames the record that was prepared into place: from here on the box is a kept one."""
    os.rename(os.path.join(directory, _PREPARED), os.path.join(directory, RECORD_NAME))


def forget_record(directory: str) -> None:
    """Makes the box nobody's again, as it was before `save_record`."""
    os.unlink(os.path.join(directory, RECORD_NAME))


def parse_record(text: str) -> BoxRecord:
    """The record in the text of a box.json. Raises ValueError saying what is wrong with it."""
    import json  # 2 ms to import, for boxes that are kept

    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    if data.get("version") != _VERSION:
        raise ValueError(f"version {data.get('version')!r}, this jubako reads {_VERSION}")
    try:
        created = _text(data, "created")
        return BoxRecord(
            id=_text(data, "id"),
            label=_text(data, "label"),
            created=created,
            cwd=_text(data, "cwd"),
            error=_text(data, "error") if "error" in data else "",
            userxattr=_flag(data, "userxattr"),
            started_ns=int(data["started_ns"]) if "started_ns" in data else _parse_created(created),
            layers=tuple(
                Layer(_absolute(item, "target"), _below(item, "upper"), int(item.get("inode", 0)))
                for item in data["layers"]
            ),
            outputs=tuple(
                RecordedOutput(_absolute(item, "path"), _kind(item), _below(item, "staged"))
                for item in data.get("outputs", ())
            ),
        )
    except KeyError as error:
        raise ValueError(f"no {error.args[0]!r}") from error
    except TypeError as error:
        raise ValueError(str(error)) from error


def _as_json(record: BoxRecord) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "id": record.id,
        "label": record.label,
        "created": record.created,
        "cwd": record.cwd,
        "error": record.error,
        "started_ns": record.started_ns,
        "userxattr": record.userxattr,
        "layers": [{"target": one.target, "upper": one.upper, "inode": one.inode} for one in record.layers],
        "outputs": [{"path": o.path, "kind": o.kind, "staged": o.staged} for o in record.outputs],
    }


def _parse_created(created: str) -> int:
    from datetime import datetime  # 2 ms to import, for records of old

    moment = datetime.fromisoformat(created.replace("Z", "+00:00"))  # Python 3.11 knows Z, this says what is meant
    return (int(moment.timestamp()) * 1_000_000 + moment.microsecond) * 1000


def _flag(data: dict[str, Any], key: str) -> bool | None:
    value = data.get(key)
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{key!r} is neither true nor false")
    return value


def _text(data: dict[str, Any], key: str) -> str:
    value = data[key]
    if not isinstance(value, str):
        raise TypeError(f"{key!r} is not a string")
    return value


def _absolute(data: dict[str, Any], key: str) -> str:
    value = _text(data, key)
    if not value.startswith("/") or os.path.normpath(value) != value:
        raise ValueError(f"{key!r} is not an absolute, normalised path: {value!r}")
    return value


def _below(data: dict[str, Any], key: str) -> str:
    """A path that stays below the box's directory."""
    value = _text(data, key)
    if not value or value.startswith("/") or os.path.normpath(value) != value or value.split("/")[0] in (".", ".."):
        raise ValueError(f"{key!r} leaves the box: {value!r}")
    return value


def _kind(data: dict[str, Any]) -> OutputKind:
    kind = data["kind"]
    if kind not in ("file", "directory"):
        raise ValueError(f"'kind' is neither 'file' nor 'directory': {kind!r}")
    return "file" if kind == "file" else "directory"
