"""A disk that forgets: the operations of a process as its file system sees them, and what a power cut leaves of them.

`record` runs a function under the tracer and writes down, in order, every write, every change of a directory and every
sync below one folder. `Disk.crash` then makes the tree that may be found after a power cut behind any of them: all that
a sync has covered, and of the rest whatever a chooser picks. It is harsher than real file systems are: writes and
entries come through in any combination, a write may come through as its length in zeros, or in part.

The recorder is checked by the caller: all operations together must give the tree that is really there.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from crash.tracer import Call, observe

_NUMBERS = {
    "x86_64": {
        1: "write", 2: "open", 18: "pwrite64", 20: "writev", 74: "fsync", 75: "fdatasync", 76: "truncate",
        77: "ftruncate", 82: "rename", 83: "mkdir", 84: "rmdir", 86: "link", 87: "unlink", 88: "symlink",
        162: "sync", 257: "openat", 258: "mkdirat", 263: "unlinkat", 264: "renameat", 265: "linkat",
        266: "symlinkat", 285: "fallocate", 296: "pwritev", 306: "syncfs", 316: "renameat2", 326: "copy_file_range",
    },
    "aarch64": {
        34: "mkdirat", 35: "unlinkat", 36: "symlinkat", 37: "linkat", 38: "renameat", 45: "truncate", 46: "ftruncate",
        47: "fallocate", 56: "openat", 64: "write", 66: "writev", 68: "pwrite64", 70: "pwritev", 81: "sync",
        82: "fsync", 83: "fdatasync", 267: "syncfs", 276: "renameat2", 285: "copy_file_range",
    },
}  # fmt: skip
_NAMES = _NUMBERS.get(os.uname().machine, {})
_CWD = 2**64 - 100  # AT_FDCWD
_EXCHANGE = 0x2
ROOT = 0


@dataclass(frozen=True, slots=True)
class Write:
    node: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    node: int
    size: int


@dataclass(frozen=True, slots=True)
class Enter:
    """A new name for a node, which is made with it (a file, or a directory)."""

    folder: int
    name: str
    node: int
    is_folder: bool


@dataclass(frozen=True, slots=True)
class Remove:
    folder: int
    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    folder: int
    name: str
    new_folder: int
    new_name: str
    exchange: bool


@dataclass(frozen=True, slots=True)
class Sync:
    """`node` None: everything before it; a file: its content; a directory: its entries."""

    node: int | None


@dataclass(frozen=True, slots=True)
class Mark:
    """The process has told somebody that it is done."""


Operation = Write | Truncate | Enter | Remove | Rename | Sync | Mark


class Impossible(Exception):
    """What the operation builds on did not come through."""


@dataclass
class Tree:
    """Directories and files by node number. A file's bytes; a directory's names."""

    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    files: dict[int, bytearray] = field(default_factory=dict)

    def find(self, path: str) -> int | None:
        node = ROOT
        for name in filter(None, path.split("/")):
            inner = self.folders.get(node, {}).get(name)
            if inner is None:
                return None
            node = inner
        return node

    def apply(self, operation: Operation) -> None:
        match operation:
            case Write(node, offset, data):
                content = self.files.setdefault(node, bytearray())
                content.extend(bytes(max(0, offset + len(data) - len(content))))
                content[offset : offset + len(data)] = data
            case Truncate(node, size):
                content = self.files.setdefault(node, bytearray())
                del content[size:]
                content.extend(bytes(size - len(content)))
            case Enter(folder, name, node, is_folder):
                self._entries(folder)[name] = node
                if is_folder:
                    self.folders.setdefault(node, {})
                else:
                    self.files.setdefault(node, bytearray())
            case Remove(folder, name):
                self._take(folder, name)
            case Rename(folder, name, new_folder, new_name, exchange):
                self._rename(folder, name, new_folder, new_name, exchange=exchange)

    def _rename(self, folder: int, name: str, new_folder: int, new_name: str, *, exchange: bool) -> None:
        target = self._entries(new_folder)
        if exchange and new_name not in target:
            raise Impossible
        node = self._take(folder, name)
        if exchange:
            self._entries(folder)[name] = target[new_name]
        target[new_name] = node

    def _entries(self, folder: int) -> dict[str, int]:
        if folder not in self.folders:
            raise Impossible
        return self.folders[folder]

    def _take(self, folder: int, name: str) -> int:
        entries = self._entries(folder)
        if name not in entries:
            raise Impossible
        return entries.pop(name)

    def paths(self, folder: int = ROOT, above: str = "") -> dict[str, int]:
        """Every path with its node."""
        found = {}
        for name, node in self.folders[folder].items():
            found[above + name] = node
            if node in self.folders:
                found.update(self.paths(node, f"{above}{name}/"))
        return found

    def build(self, root: Path) -> None:
        """Makes the tree on the real disk, at `root`, which is empty but for directories."""
        for path, node in self.paths().items():
            if node in self.folders:
                (root / path).mkdir(exist_ok=True)
            else:
                (root / path).write_bytes(self.files[node])


@dataclass
class Disk:
    """What was recorded: the tree before, the operations, and each node's inode and modification time back then."""

    before: Tree
    operations: list[Operation] = field(default_factory=list)
    identity: dict[int, tuple[int, int]] = field(default_factory=dict)

    def crash(self, length: int, choose: Callable[[Operation], Operation | None]) -> Tree:
        """What may be found if the power goes after the first `length` operations. `choose` is asked for each that no
        sync has covered: what becomes of it, None for nothing."""
        tree = copy.deepcopy(self.before)
        for at, operation in enumerate(self.operations[:length]):
            synced = any(_covers(later, operation) for later in self.operations[at + 1 : length])
            coming_through = operation if synced else choose(operation)
            if coming_through is not None:
                with contextlib.suppress(Impossible):
                    tree.apply(coming_through)
        return tree


def record(function: Callable[[], object], root: Path, mark_fd: int) -> Disk:
    """What `function`, run in a child, does below `root`. A write to `mark_fd` becomes a Mark."""
    recorder = _Recorder(root, mark_fd)
    ended = observe(function, recorder.enter, recorder.leave)
    assert ended.status == 0
    return recorder.disk


def read_tree(root: Path) -> dict[str, bytes | None]:
    """What is really there: content by path, None for a directory."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in sorted(root.rglob("*"))
    }


def _covers(sync: Operation, operation: Operation) -> bool:
    if not isinstance(sync, Sync):
        return False
    match operation:
        case Write(node) | Truncate(node):
            return sync.node in (None, node)
        case Enter(folder) | Remove(folder):
            return sync.node in (None, folder)
        case Rename(folder, _, new_folder):
            return sync.node in (None, folder, new_folder)
    return True


class _Recorder:
    """Turns system calls into operations. Its own tree, in which everything comes through, knows what a path is."""

    def __init__(self, root: Path, mark_fd: int) -> None:
        self.root = str(root)
        self.mark_fd = mark_fd
        self.now = Tree()
        self.disk = Disk(Tree())
        self.next_node = ROOT + 1
        self.entered: Operation | None = None
        self._walk(ROOT, "")
        self.disk.before = copy.deepcopy(self.now)

    def _walk(self, folder: int, path: str) -> None:
        self._identify(folder, path)
        for entry in os.scandir(f"{self.root}/{path}"):
            node = self._new_node()
            inner = f"{path}/{entry.name}"
            self.now.apply(Enter(folder, entry.name, node, entry.is_dir()))
            if entry.is_dir():
                self._walk(node, inner)
            else:
                self.now.files[node][:] = Path(entry.path).read_bytes()
                self._identify(node, inner)

    def enter(self, call: Call) -> None:
        """Arguments are read here: at the exit the path may lead elsewhere already."""
        name = _NAMES.get(call.number, "")
        first, *rest = call.arguments
        self.entered = None
        if first == self.mark_fd and name == "write":
            self.entered = Mark()
        elif name in ("write", "pwrite64"):
            node = self._node_of(call.pid, first)
            if node is not None:
                offset = rest[2] if name == "pwrite64" else _position(call.pid, first)
                self.entered = Write(node, offset, _read_memory(call.pid, rest[0], rest[1]))
        elif name == "ftruncate":
            node = self._node_of(call.pid, first)
            self.entered = None if node is None else Truncate(node, rest[0])
        elif name in ("fsync", "fdatasync"):
            node = self._node_of(call.pid, first)
            self.entered = None if node is None else Sync(node)
        elif name in ("sync", "syncfs"):
            self.entered = Sync(None)
        elif name in ("open", "openat"):
            self._enter_open(call, (_CWD, first, rest[0]) if name == "open" else (first, rest[0], rest[1]))
        elif name in ("mkdir", "mkdirat"):
            self._enter_new(call, (_CWD, first) if name == "mkdir" else (first, rest[0]), is_folder=True)
        elif name in ("unlink", "rmdir", "unlinkat"):
            where = self._locate(call.pid, *((first, rest[0]) if name == "unlinkat" else (_CWD, first)))
            self.entered = None if where is None else Remove(*where)
        elif name in ("rename", "renameat", "renameat2"):
            pair = (_CWD, first, _CWD, rest[0]) if name == "rename" else (first, *rest[:3])
            exchange = name == "renameat2" and bool(rest[3] & _EXCHANGE)
            self._enter_rename(call.pid, pair, exchange=exchange)
        elif name in ("writev", "pwritev", "fallocate", "truncate", "copy_file_range", "link", "linkat"):
            raise NotImplementedError(f"{name} is not recorded")

    def leave(self, call: Call) -> None:
        operation, self.entered = self.entered, None
        if operation is None or call.returned is None or call.returned < 0:
            return
        if isinstance(operation, Write):
            operation = Write(operation.node, operation.offset, operation.data[: call.returned])
        self.now.apply(operation)
        self.disk.operations.append(operation)

    def _enter_open(self, call: Call, arguments: tuple[int, int, int]) -> None:
        dirfd, path, flags = arguments
        if flags & os.O_CREAT:
            self._enter_new(call, (dirfd, path), is_folder=False)
        if self.entered is None and flags & os.O_TRUNC:
            where = self._locate(call.pid, dirfd, path)
            node = None if where is None else self.now.folders[where[0]].get(where[1])
            self.entered = None if node is None else Truncate(node, 0)

    def _enter_new(self, call: Call, path: tuple[int, int], *, is_folder: bool) -> None:
        where = self._locate(call.pid, *path)
        if where is not None and where[1] not in self.now.folders[where[0]]:
            self.entered = Enter(*where, self._new_node(), is_folder)

    def _enter_rename(self, pid: int, pair: tuple[int, ...], *, exchange: bool) -> None:
        old, new = self._locate(pid, *pair[:2]), self._locate(pid, *pair[2:4])
        if old is None or new is None or old[1] not in self.now.folders[old[0]]:
            return
        self._identify(self.now.folders[old[0]][old[1]], self._path(pid, *pair[:2]) or "")
        self.entered = Rename(*old, *new, exchange)

    def _new_node(self) -> int:
        self.next_node += 1
        return self.next_node

    def _identify(self, node: int, path: str) -> None:
        found = os.lstat(f"{self.root}/{path}")
        self.disk.identity[node] = (found.st_ino, found.st_mtime_ns)

    def _path(self, pid: int, dirfd: int, address: int) -> str | None:
        """A path argument, relative to the root; None outside of it."""
        path = _read_string(pid, address)
        if not path.startswith("/"):
            link = f"/proc/{pid}/cwd" if dirfd & 0xFFFFFFFF == _CWD & 0xFFFFFFFF else f"/proc/{pid}/fd/{dirfd}"
            path = os.path.join(os.readlink(link), path)
        path = os.path.normpath(path)
        return path[len(self.root) + 1 :] if path.startswith(self.root + "/") else None

    def _locate(self, pid: int, dirfd: int, address: int) -> tuple[int, str] | None:
        """The node of the directory a path argument lies in, and the name there."""
        path = self._path(pid, dirfd, address)
        if path is None:
            return None
        above, _, name = path.rpartition("/")
        folder = self.now.find(above)
        return None if folder is None or folder not in self.now.folders else (folder, name)

    def _node_of(self, pid: int, fd: int) -> int | None:
        path = os.readlink(f"/proc/{pid}/fd/{fd}")
        if path != self.root and not path.startswith(self.root + "/"):
            return None
        return self.now.find(path[len(self.root) :])


def _position(pid: int, fd: int) -> int:
    return int(Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split("\n")[0].split()[1])


def _read_memory(pid: int, address: int, length: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(length)


def _read_string(pid: int, address: int) -> str:
    """A path argument; it may end just before memory that is not there."""
    raw = b""
    while b"\0" not in raw:
        raw += _read_memory(pid, address + len(raw), 4096 - (address + len(raw)) % 4096)
    return os.fsdecode(raw.split(b"\0")[0])
