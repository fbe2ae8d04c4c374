"""The namespaces there are, as far as this user may look: who is in them, which contain and own them, which files keep
them.

They are found by the links in /proc/PID/ns, by files they are bound to in this mount namespace, and by what the kernel
says of parents and owners; one with nobody in it and no file, which others still need, is found the last way.
"""

from __future__ import annotations

import os

from jubako.boxes.namespaces.kinds import KINDS
from jubako.errors import WorkError
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.namespace_files import namespace_number, open_owner, open_parent
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["TYPES", "Listing", "Member", "Namespace", "group_members", "list_namespaces", "read_members"]

TYPES = tuple(kind.link for kind in KINDS.values())  # as /proc and lsns(8) call them: "mnt" is the mount namespace


@record
class Member:
    """A process, and the numbers of the namespaces it is in, by their types."""

    pid: int
    parent_pid: int
    uid: int
    command: str  # as it was started; of one without arguments, its name
    namespaces: Mapping[str, int]


@record
class Namespace:
    """A namespace. `parent` and `owner` are numbers, None where there is none or it may not be known."""

    number: int
    type: str
    members: tuple[Member, ...] = ()  # by pid
    parent: int | None = None
    owner: int | None = None
    files: tuple[str, ...] = ()  # it is bound to

    @property
    def first(self) -> Member | None:
        """The process with the lowest pid, which mostly is the one it was made for."""
        return self.members[0] if self.members else None


@record
class Listing:
    """What was found, by number, and how many processes could not be looked at: others' (ptrace(2))."""

    namespaces: tuple[Namespace, ...]
    unseen: int


def list_namespaces() -> Listing:
    """All namespaces that can be seen from here. A process that ends meanwhile counts or does not."""
    members, unseen = read_members()
    found = group_members(members)
    for number, type_, file in _bound_files():
        known = found.get(number, Namespace(number, type_))
        found[number] = replace(known, files=(*known.files, file))
    for namespace in list(found.values()):
        _add_relatives(namespace, found)
    return Listing(tuple(found[number] for number in sorted(found)), unseen)


def group_members(members: Iterable[Member]) -> dict[int, Namespace]:
    """The namespaces that these processes are in, by number."""
    types: dict[int, str] = {}
    inside: dict[int, list[Member]] = {}
    for member in sorted(members, key=lambda one: one.pid):
        for type_, number in member.namespaces.items():
            types[number] = type_
            inside.setdefault(number, []).append(member)
    return {number: Namespace(number, types[number], tuple(those)) for number, those in inside.items()}


def read_members(pids: Sequence[int] | None = None) -> tuple[list[Member], int]:
    """These processes, or all, and how many could not be looked at. WorkError for one of `pids` that is not there."""
    members: list[Member] = []
    unseen = 0
    for pid in pids if pids is not None else [int(name) for name in os.listdir("/proc") if name.isdecimal()]:
        try:
            member = _read_member(pid)
        except PermissionError:
            unseen += 1
        except (FileNotFoundError, ProcessLookupError) as error:
            if pids is not None:
                raise WorkError(f"there is no process {pid}") from error
        else:
            members.append(member)
    return members, unseen


def _read_member(pid: int) -> Member:
    numbers = {}
    for type_ in TYPES:
        try:
            link = os.readlink(f"/proc/{pid}/ns/{type_}")
        except FileNotFoundError:
            if not os.path.exists(f"/proc/{pid}/ns"):
                raise
            continue  # a kind that this kernel lacks, or a zombie, which is in fewer and fewer
        numbers[type_] = _number_in(link)
    with open(f"/proc/{pid}/stat", "rb") as file:
        name, _, rest = file.read().partition(b"(")[2].rpartition(b") ")
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().rstrip(b"\0").replace(b"\0", b" ")
    return Member(pid, int(rest.split()[1]), os.stat(f"/proc/{pid}").st_uid, os.fsdecode(words or name), numbers)


def _bound_files() -> list[tuple[int, str, str]]:
    """Number, type and mount point of every namespace bound to a file of this mount namespace."""
    return [
        (_number_in(mount.root), mount.root.partition(":")[0], mount.mount_point)
        for mount in read_mount_table()
        if mount.fstype == "nsfs" and mount.root.endswith("]") and mount.root.partition(":")[0] in TYPES
    ]


def _number_in(link: str) -> int:
    return int(link.partition("[")[2].removesuffix("]"))


def _add_relatives(namespace: Namespace, found: dict[int, Namespace]) -> None:
    """Completes a namespace of `found` by its parent and its owner, and adds what is not there yet of these."""
    path = f"/proc/{namespace.first.pid}/ns/{namespace.type}" if namespace.first else namespace.files[0]
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # its process has ended, or its file is covered
        return
    try:
        if namespace_number(fd) == namespace.number:
            _follow(fd, namespace, found)
    finally:
        os.close(fd)


def _follow(fd: int, namespace: Namespace, found: dict[int, Namespace]) -> None:
    numbers: list[int | None] = []
    for type_, open_relative in ((namespace.type, open_parent), ("user", open_owner)):
        try:
            relative = open_relative(fd)
        except OSError:  # it has none, or one beyond what this process is in
            numbers.append(None)
            continue
        try:
            number = namespace_number(relative)
            numbers.append(number)
            if number not in found:
                found[number] = Namespace(number, type_)
                _follow(relative, found[number], found)
        finally:
            os.close(relative)
    parent, owner = numbers
    found[namespace.number] = replace(found[namespace.number], parent=parent, owner=owner)
