"""The steps that make a view of the file system, as values. `plan` writes them, `apply` performs them in order.

Every path is absolute and means what it means in the mount namespace the operations are applied in, at that moment:
an operation sees what the ones before it did. The exception is a *tree*: `TakeTree` holds a mount by a name, so that it
can be put somewhere (`PlaceTree`) after its old path was covered by something else.

    TakeTree("home/data", "/home/u/data")   the disk below the home directory ...
    MountOverlay(..., target="/home/u")     ... is hidden by this ...
    PlaceTree("home/data", "/home/u/data")  ... and put back on top

Nothing here touches the system. `describe()` is one line for `--debug`, errors and tests.
"""

from __future__ import annotations

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from jubako.boxes.mounts import IdMap

__all__ = [
    "Bind",
    "CopyAttributes",
    "CopyFile",
    "DetachMount",
    "IdmapTree",
    "MakeDirectory",
    "MakeFile",
    "MakeSymlink",
    "MaskDirectory",
    "MaskFile",
    "MountDevpts",
    "MountOverlay",
    "MountProc",
    "MountSysfs",
    "MountTmpfs",
    "MoveMount",
    "Operation",
    "PivotRoot",
    "PlaceSecrets",
    "PlaceTree",
    "Propagation",
    "SecretFile",
    "SetAttributes",
    "SetPropagation",
    "TakeTree",
]

Propagation: TypeAlias = "Literal['private', 'slave', 'shared', 'unbindable']"


@record
class SetPropagation:
    """Says how mounts made later at `target` travel between this mount namespace and others."""

    target: str
    propagation: Propagation
    recursive: bool = True

    def describe(self) -> str:
        return f"make {self.target} {_recursively(self.recursive)}{self.propagation}"


@record
class SetAttributes:
    """Changes how the mount at `target` may be used. None leaves a property as it is. Recursive: all or none.

    Setting `read_only=False` fails in a user namespace on a mount that was read-only before (it is locked).
    """

    target: str
    read_only: bool | None = None
    nosuid: bool | None = None
    nodev: bool | None = None
    noexec: bool | None = None
    recursive: bool = False

    def describe(self) -> str:
        named = (("read-only", self.read_only), ("nosuid", self.nosuid), ("nodev", self.nodev), ("noexec", self.noexec))
        words = [word if value else f"not {word}" for word, value in named if value is not None]
        return f"make {self.target} {_recursively(self.recursive)}{', '.join(words)}"


@record
class Bind:
    """Shows `source` (a directory or a file) at `target` too, which must exist and be of the same type."""

    source: str
    target: str
    recursive: bool = False

    def describe(self) -> str:
        return f"bind {self.source} {_recursively(self.recursive)}on {self.target}"


@record
class TakeTree:
    """Holds a copy of the mount tree at `source` under `name`, until it is placed or all operations are done."""

    name: str
    source: str
    recursive: bool = True

    def describe(self) -> str:
        return f"take {self.source} {_recursively(self.recursive)}as {self.name!r}"


@record
class IdmapTree:
    """Has the files of the tree that was taken as `name` from `source` show other owners; see `boxes.mounts.IdMap`."""

    name: str
    source: str
    idmap: IdMap

    def describe(self) -> str:
        return f"map the owners of the files of {self.source}"


@record
class PlaceTree:
    """Attaches the tree that was taken as `name` at `target`; a tree can be placed once."""

    name: str
    target: str

    def describe(self) -> str:
        return f"place {self.name!r} on {self.target}"


@record
class MountTmpfs:
    """A new, empty file system in memory. `size` as tmpfs takes it: bytes, or a share of the memory like "50%"."""

    target: str
    size: str
    mode: int = 0o755
    nosuid: bool = True
    nodev: bool = True
    noexec: bool = False

    def describe(self) -> str:
        return f"mount a tmpfs of {self.size}, mode {self.mode:04o}, on {self.target}"


@record
class MountOverlay:
    """Stacks `lowers` (the topmost first) under `upper`. Without an upper it is read-only and needs two lowers.

    `volatile`: never syncs. `userxattr`: marks in user.overlay.*, which a user namespace needs.
    """

    lowers: tuple[str, ...]
    target: str
    upper: str = ""
    work: str = ""
    volatile: bool = True
    userxattr: bool = False

    def describe(self) -> str:
        top = f" with top {self.upper}" if self.upper else " read-only"
        return f"mount an overlay of {':'.join(self.lowers)} on {self.target}{top}"


@record
class MountProc:
    """A /proc of the pid namespace this is applied in."""

    target: str = "/proc"
    read_only: bool = False

    def describe(self) -> str:
        return f"mount proc on {self.target}{' read-only' if self.read_only else ''}"


@record
class MountSysfs:
    """A /sys of the network namespace this is applied in, which must be an own one in a user namespace."""

    target: str = "/sys"
    read_only: bool = True

    def describe(self) -> str:
        return f"mount sysfs on {self.target}{' read-only' if self.read_only else ''}"


@record
class MountDevpts:
    """An own set of pseudo-terminals; `target`/ptmx opens a new one."""

    target: str = "/dev/pts"

    def describe(self) -> str:
        return f"mount devpts on {self.target}"


@record
class MaskDirectory:
    """Hides a directory behind an empty one that nobody can write to."""

    target: str

    def describe(self) -> str:
        return f"hide directory {self.target}"


@record
class MaskFile:
    """Hides a file, a device or a socket behind `empty`, an empty file that exists for this."""

    target: str
    empty: str

    def describe(self) -> str:
        return f"hide file {self.target}"


@record
class MakeDirectory:
    """A directory at `path` with parents (0755); nothing happens where one is there already."""

    path: str
    mode: int = 0o755

    def describe(self) -> str:
        return f"make directory {self.path}, mode {self.mode:04o}"


@record
class MakeFile:
    """An empty file at `path`, to mount something on; nothing happens where one is there already."""

    path: str
    mode: int = 0o644

    def describe(self) -> str:
        return f"make file {self.path}, mode {self.mode:04o}"


@record
class MakeSymlink:
    """A symbolic link at `path` that says `points_to`."""

    path: str
    points_to: str

    def describe(self) -> str:
        return f"make link {self.path} -> {self.points_to}"


@record
class CopyAttributes:
    """Gives `target` the mode, owner, extended attributes, ACL and times of `source`.

    An owner that this user cannot set and attributes that the file system of `target` cannot hold are left out.
    """

    source: str
    target: str

    def describe(self) -> str:
        return f"copy the attributes of {self.source} to {self.target}"


@record
class CopyFile:
    """A new file `target` with the contents and attributes of the file `source`."""

    source: str
    target: str

    def describe(self) -> str:
        return f"copy {self.source} to {self.target}"


@record
class MoveMount:
    """Moves the mount at `source`, with all mounts below it, to `target`."""

    source: str
    target: str

    def describe(self) -> str:
        return f"move mount {self.source} to {self.target}"


@record
class DetachMount:
    """Takes the topmost mount at `target` away, with all mounts below it, even while it is in use."""

    target: str

    def describe(self) -> str:
        return f"detach {self.target}"


@record
class PivotRoot:
    """Makes `new_root`, a mount point, the root directory of this mount namespace and drops the old one."""

    new_root: str

    def describe(self) -> str:
        return f"make {self.new_root} the root directory"


@record
class SecretFile:
    """A file that its owner alone may read, and nobody may change."""

    name: str
    content: bytes
    uid: int
    gid: int

    def __repr__(self) -> str:
        return f"SecretFile({self.name!r}, ...)"


@record
class PlaceSecrets:
    """A file system at `target`, made for this, that holds `files`; in memory that is never swapped out."""

    target: str
    files: tuple[SecretFile, ...]

    def describe(self) -> str:
        return f"place {len(self.files)} secrets in {self.target}"


Operation = (
    SetPropagation
    | SetAttributes
    | Bind
    | TakeTree
    | IdmapTree
    | PlaceTree
    | MountTmpfs
    | MountOverlay
    | MountProc
    | MountSysfs
    | MountDevpts
    | MaskDirectory
    | MaskFile
    | MakeDirectory
    | MakeFile
    | MakeSymlink
    | CopyAttributes
    | CopyFile
    | MoveMount
    | DetachMount
    | PivotRoot
    | PlaceSecrets
)


def _recursively(recursive: bool) -> str:
    return "with all below it " if recursive else ""
