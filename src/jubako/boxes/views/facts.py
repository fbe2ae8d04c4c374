"""What the planner must know about this machine and about the paths a job names, read once and kept as values.

`read_host_facts` is called in the namespaces whose view is being planned, before anything was mounted there.
`find_place` looks at one path that a job wants to write below. Nothing here decides anything: that is `cover`, `plan`.
"""

from __future__ import annotations

import os

from jubako.kernel.idmap import IdRange, read_id_map
from jubako.kernel.mount_table import Mount, find_mount, mounts_below, read_mount_table
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "SOCKET_VARIABLES",
    "HostFacts",
    "KnownPath",
    "Place",
    "ancestors",
    "find_place",
    "is_below",
    "is_unmapped",
    "mount_id_of",
    "must_split",
    "read_host_facts",
    "read_known_paths",
]

_REMEMBERED = 4096
_unmapped: dict[str, bool] = {}
_WHOLE_ID_MAP = (IdRange(0, 0, 0xFFFFFFFF),)
_OVERFLOW_ID = 65534  # what ids that a user namespace does not have show as; DEFAULT_OVERFLOWUID in the kernel

# Devices whose use changes no file, shown in /dev where the machine has them. Accelerators belong here: hiding them
# would make a pipeline that trains on them fail in a box.
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_ACCELERATORS = ("nvidia", "kfd", "dri", "dxg", "davinci", "accel")

# Sockets that give the one who connects power outside the box, and that are not below /run.
_CONTROL_SOCKETS = (
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
)
_SOCKET_DIRECTORIES = ("/tmp/.X11-unix", "/var/run")
SOCKET_VARIABLES = ("SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "DOCKER_HOST", "CONTAINER_HOST", "GPG_AGENT_INFO")
_MEMORY_TYPES = frozenset({"autofs", "devtmpfs", "fuse.portal", "nsfs", "overlay", "proc", "ramfs", "sysfs", "tmpfs"})


@record
class KnownPath:
    """An existing file or directory, and which of the two: what a mount on it needs to know."""

    path: str  # real
    is_directory: bool


@record
class HostFacts:
    """The machine as seen from the namespaces a worker lives in. Paths are real ones (no symbolic links)."""

    uid: int
    gid: int
    in_user_namespace: bool  # overlays must keep their marks in user.*, and inherited mounts cannot be taken apart
    mounts: tuple[Mount, ...]
    hidden: tuple[str, ...] = ()  # existing directories of jubako's own, which no task may see
    run_files: tuple[str, ...] = ()  # files below /run that /etc points to, such as the resolver's configuration
    run_links: tuple[tuple[str, str], ...] = ()  # symbolic links in /run to other places: name, what it says
    run_mounts: tuple[str, ...] = ()  # disks mounted below /run
    masked_directories: tuple[str, ...] = ()  # other places where services put their sockets
    control_sockets: tuple[str, ...] = ()
    devices: tuple[KnownPath, ...] = ()


@record
class Place:
    """A path below which a job is likely to write, as it is on this machine."""

    path: str  # the nearest existing directory of what was named (itself, if it is one), by its real name
    rest: str  # what is named below that and is no directory, "" if nothing is
    purpose: str  # for people: "the home directory", "the output /x/y"
    writable: bool  # this user may create files in it
    children: tuple[str, ...] = ()  # names of its writable directories, listed only where it may have to be split
    unmapped: tuple[str, ...] = ()  # it and directories above it, as far as overlayfs cannot copy them (`is_unmapped`)

    @property
    def target(self) -> str:
        """What was named, with its existing part by its real name."""
        return os.path.join(self.path, self.rest) if self.rest else self.path


def read_host_facts(hidden: Iterable[str], environment: Mapping[str, str]) -> HostFacts:
    """The facts about this machine, as this process sees it now. `hidden` places that do not exist are left out."""
    mounts = tuple(read_mount_table())
    real_hidden = {os.path.realpath(path) for path in hidden}
    return HostFacts(
        uid=os.geteuid(),
        gid=os.getegid(),
        in_user_namespace=read_id_map("uid") != _WHOLE_ID_MAP,
        mounts=mounts,
        hidden=tuple(sorted(path for path in real_hidden if os.path.isdir(path))),
        run_files=_find_run_files(),
        run_links=_find_run_links(),
        run_mounts=_find_run_mounts(mounts),
        masked_directories=tuple(path for path in _SOCKET_DIRECTORIES if _is_real_directory(path)),
        control_sockets=_find_control_sockets(environment),
        devices=_find_devices(),
    )


def find_place(path: str, purpose: str, facts: HostFacts) -> Place:
    """What is there of `path`, an absolute one. Few system calls where it exists, since every job asks."""
    rest = ""
    while True:
        try:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            path, name = os.path.split(path)
            rest = os.path.join(name, rest) if rest else name
            continue
        except PermissionError:
            return Place(path, rest, purpose, writable=False)
        try:
            real = os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        break
    writable = os.access(real, os.W_OK | os.X_OK, effective_ids=True)
    children = _list_split_children(real) if writable and must_split(real, facts) else ()
    unmapped = _find_unmapped(real) if writable and facts.in_user_namespace else ()
    return Place(real, rest, purpose, writable, children, unmapped)


def must_split(path: str, facts: HostFacts) -> bool:
    """True if no overlay of all of `path` is possible: in a user namespace, mounts below it are locked to it."""
    return facts.in_user_namespace and bool(mounts_below(facts.mounts, path))


def is_unmapped(found: os.stat_result) -> bool:
    """True if the owner or the group is none that this user namespace has: another user's, or a group of this user
    beside the first.

    An overlay answers EOVERFLOW when it is to copy such a directory up, which it is before anything is made below it.
    """
    return _OVERFLOW_ID in (found.st_uid, found.st_gid)


def _find_unmapped(path: str) -> tuple[str, ...]:
    found = []
    while path != "/":
        if _is_unmapped_directory(path):
            found.append(path)
        path = os.path.dirname(path)
    return tuple(found)


def _is_unmapped_directory(path: str) -> bool:
    """`is_unmapped`, remembered: every job asks for every directory above its outputs."""
    found = _unmapped.get(path)
    if found is None:
        if len(_unmapped) >= _REMEMBERED:
            _unmapped.clear()
        found = _unmapped[path] = is_unmapped(os.stat(path))
    return found


def _list_split_children(path: str) -> tuple[str, ...]:
    """The names of the directories in `path` that this user may create files in, sorted."""
    try:
        with os.scandir(path) as entries:
            return tuple(
                sorted(
                    entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) and os.access(entry.path, os.W_OK | os.X_OK)
                )
            )
    except OSError:
        return ()


def ancestors(path: str) -> Iterator[str]:
    """The directories above `path`, the nearest first."""
    while path != "/":
        path = os.path.dirname(path)
        yield path


def is_below(path: str, directory: str) -> bool:
    """True if `path` is `directory` or lies below it, going by the names alone."""
    return directory in (path, "/") or path.startswith(directory + "/")


def read_known_paths(paths: Sequence[str]) -> tuple[KnownPath, ...]:
    """The real paths of `paths`, each once, parents first. Raises OSError naming what cannot be looked at."""
    real = set()
    for path in paths:
        try:
            real.add(os.path.realpath(path, strict=True))
        except OSError as error:  # it names the first part that is missing, which nobody has asked for
            raise OSError(error.errno, error.strerror, path) from error
    return tuple(KnownPath(path, os.path.isdir(path)) for path in sorted(real))


def _find_run_files() -> tuple[str, ...]:
    found = set()
    with os.scandir("/etc") as entries:
        for entry in entries:
            if entry.is_symlink():
                real = os.path.realpath(entry.path)
                if is_below(real, "/run") and os.path.isfile(real):
                    found.add(real)
    return tuple(sorted(found))


def _find_run_links() -> tuple[tuple[str, str], ...]:
    with os.scandir("/run") as entries:
        links = [(entry.name, os.readlink(entry.path)) for entry in entries if entry.is_symlink()]
    return tuple(sorted((name, says) for name, says in links if not is_below(os.path.join("/run", says), "/run")))


def _find_run_mounts(mounts: Sequence[Mount]) -> tuple[str, ...]:
    """Disks below /run (removable ones are mounted there), each once, without those below another.

    A part of the file system of /run itself that is mounted once more is none: network namespaces are kept so.
    """
    around = find_mount(mounts, "/run")
    points = sorted(
        {
            mount.mount_point
            for mount in mounts_below(mounts, "/run")
            if _is_disk(mount) and (around is None or mount.device != around.device)
        }
    )
    return tuple(one for one in points if not any(one != other and is_below(one, other) for other in points))


def _is_disk(mount: Mount) -> bool:
    return mount.fstype not in _MEMORY_TYPES and not mount.is_deleted and os.path.isdir(mount.mount_point)


def _find_control_sockets(environment: Mapping[str, str]) -> tuple[str, ...]:
    named = [_socket_path(environment.get(name, "")) for name in SOCKET_VARIABLES]
    found = {os.path.realpath(path) for path in (*_CONTROL_SOCKETS, *named) if path and os.path.exists(path)}
    files = [path for path in found if not os.path.isdir(path)]  # a variable may name anything
    return tuple(sorted(path for path in files if not is_below(path, "/run") and not is_below(path, "/dev")))


def _socket_path(value: str) -> str:
    """The path in what such a variable says: "/tmp/agent.1", "unix:path=/tmp/bus,guid=0", "unix:///x/docker.sock"."""
    value = value.partition(";")[0].partition(",")[0]
    for prefix in ("unix:path=", "unix://"):
        value = value.removeprefix(prefix)
    return value if value.startswith("/") else ""


def _find_devices() -> tuple[KnownPath, ...]:
    names = [name for name in sorted(os.listdir("/dev")) if name in _DEVICES or name.startswith(_ACCELERATORS)]
    paths = [f"/dev/{name}" for name in names if not os.path.islink(f"/dev/{name}")]
    return tuple(KnownPath(path, os.path.isdir(path)) for path in paths)


def _is_real_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def mount_id_of(path: str, facts: HostFacts) -> int:
    """The id of the mount `path` lies on."""
    mount = find_mount(facts.mounts, path)
    return 0 if mount is None else mount.id
