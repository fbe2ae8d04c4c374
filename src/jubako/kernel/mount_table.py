"""The mount table: /proc/PID/mountinfo as values, and questions about it. Pure but for `read_mount_table`.

One line is one mount (proc_pid_mountinfo(5)); mounts stacked on one point are several lines, the last on top:

    36 35 98:0 /root /mount/point rw,noatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=continue
    id parent device root point   options    optional fields...  type source    options of the file system

Paths are kept as `str` with surrogate escapes, unescaped: the kernel writes blanks, backslashes and line ends as \\ooo.
A root that was deleted ends in "//deleted", which no living path can.
"""

from __future__ import annotations

import os

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Mount",
    "find_mount",
    "format_mountinfo",
    "mounts_below",
    "parse_mountinfo",
    "read_mount_table",
    "unescape",
]

_DELETED = "//deleted"
_ESCAPES = {ord(letter): f"\\{ord(letter):03o}" for letter in " \t\n\\#"}


@record
class Mount:
    """One mount. `peer_group`, `master` and `dominant` (propagate_from) are 0 where the line has no such field."""

    id: int
    parent_id: int
    device: int  # as st_dev of the files on it
    root: str  # the directory (or file, or namespace) of the file system that is mounted
    mount_point: str
    options: str  # of this mount: "rw,nosuid,relatime"
    fstype: str
    source: str
    super_options: str  # of the file system, shared by all its mounts; values still escaped, see `unescape`
    peer_group: int = 0  # shared:N, sends and receives mounts within the group
    master: int = 0  # master:N, receives from the group
    dominant: int = 0  # propagate_from:N, nearest group visible here that it receives from
    unbindable: bool = False
    unknown_fields: tuple[str, ...] = ()  # optional fields of kernels to come, kept as they are
    unique_id: int = 0  # never used again for another mount while the machine runs; 0 in what was read from mountinfo

    @property
    def is_deleted(self) -> bool:
        """True if what is mounted was unlinked since."""
        return self.root.endswith(_DELETED)

    @property
    def is_read_only(self) -> bool:
        """True if nothing can be written through this mount: it or its file system is read-only."""
        return "ro" in self.options.split(",") or "ro" in self.super_options.split(",")

    @property
    def propagation(self) -> str:
        """Some of "shared", "slave", "unbindable" joined by commas, else "private".

        `findmnt` has the same words, and puts a "private" before those that are not shared."""
        words = [
            word
            for word, applies in (
                ("shared", self.peer_group),
                ("slave", self.master),
                ("unbindable", self.unbindable),
            )
            if applies
        ]
        return ",".join(words) or "private"


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts of a mountinfo file, in its order. Raises ValueError naming the line that is none."""
    return [_parse_line(line) for line in text.split("\n") if line]


def format_mountinfo(mounts: Iterable[Mount]) -> str:
    """The mountinfo text for `mounts`; `parse_mountinfo` gives them back."""
    return "".join(_format_line(mount) + "\n" for mount in mounts)


def read_mount_table(pid: int | str = "self") -> list[Mount]:
    """The mounts that process `pid` sees, in the order of the file."""
    with open(f"/proc/{pid}/mountinfo", "rb", buffering=0) as file:
        return parse_mountinfo(os.fsdecode(file.read()))


def find_mount(table: Sequence[Mount], path: str) -> Mount | None:
    """The mount that `path` lies on, found as the kernel does: down from the root, stepping onto every mount met.

    So a mount hidden by a later one on a directory above it is not taken, and of mounts stacked on one point the top
    one is, except on "/" itself, where a process keeps the root it has. `path` is absolute, normalised and without
    symbolic links. None if the table has no mount that covers it.
    """
    ids = {mount.id for mount in table}
    children: dict[int, list[Mount]] = {}
    found: Mount | None = None
    for mount in table:
        if mount.parent_id in ids and mount.parent_id != mount.id:
            children.setdefault(mount.parent_id, []).append(mount)
        elif _covers(mount.mount_point, path):
            found = mount
    if found is None:
        return None
    root = found.mount_point
    met = [mount for mount in children.get(found.id, ()) if mount.mount_point != root]
    while covering := [mount for mount in met if _covers(mount.mount_point, path)]:
        found = min(covering, key=lambda mount: len(mount.mount_point))  # met first on the way down
        met = children.get(found.id, [])
    return found


def mounts_below(table: Iterable[Mount], path: str) -> list[Mount]:
    """The mounts whose points lie strictly below `path`, in the order of the table."""
    return [mount for mount in table if mount.mount_point != path and _covers(path, mount.mount_point)]


def unescape(text: str) -> str:
    """`text` with the kernel's \\ooo escapes replaced by what they stand for (one value of `super_options`, say)."""
    if "\\" not in text:
        return text
    import re  # 3 ms to import, and hardly a mount has a blank in its name

    raw = os.fsencode(text)
    return os.fsdecode(re.sub(rb"\\([0-3][0-7]{2})", lambda match: bytes((int(match[1], 8),)), raw))


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _parse_line(line: str) -> Mount:
    try:
        fields = line.split(" ")
        end = fields.index("-", 6)
        major, minor = fields[2].split(":")
        numbers = {"shared": 0, "master": 0, "propagate_from": 0}
        unknown = []
        unbindable = False
        for field in fields[6:end]:
            name, _, value = field.partition(":")
            if name in numbers:
                numbers[name] = int(value)
            elif field == "unbindable":
                unbindable = True
            else:
                unknown.append(field)
        # A file system that forgets to escape what it shows, as some did, can only do so in its own options.
        fstype, source, *rest = fields[end + 1 :]
        if not rest:
            raise ValueError("the options of the file system are missing")
        return Mount(
            id=int(fields[0]),
            parent_id=int(fields[1]),
            device=os.makedev(int(major), int(minor)),
            root=unescape(fields[3]),
            mount_point=unescape(fields[4]),
            options=fields[5],
            fstype=unescape(fstype),
            source=unescape(source),
            super_options=" ".join(rest),
            peer_group=numbers["shared"],
            master=numbers["master"],
            dominant=numbers["propagate_from"],
            unbindable=unbindable,
            unknown_fields=tuple(unknown),
        )
    except (ValueError, OverflowError) as error:  # a device number may be too large for any
        raise ValueError(f"not a line of mountinfo: {line!r}") from error


def _format_line(mount: Mount) -> str:
    optional = [
        f"{name}:{number}"
        for name, number in (
            ("shared", mount.peer_group),
            ("master", mount.master),
            ("propagate_from", mount.dominant),
        )
        if number
    ]
    if mount.unbindable:
        optional.append("unbindable")
    return " ".join(
        (
            str(mount.id),
            str(mount.parent_id),
            f"{os.major(mount.device)}:{os.minor(mount.device)}",
            _escape(mount.root),
            _escape(mount.mount_point),
            mount.options,
            *optional,
            *mount.unknown_fields,
            "-",
            _escape(mount.fstype),
            _escape(mount.source),
            mount.super_options,
        )
    )


def _covers(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
