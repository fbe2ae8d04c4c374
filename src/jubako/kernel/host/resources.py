"""What there is of memory, processes, descriptors, mounts and the like, and how it can be shared out."""

from __future__ import annotations

import os
import resource

from jubako.kernel.capabilities import capability_number, capget
from jubako.kernel.control_groups import read_control_groups
from jubako.kernel.host.ability import MIB, Ability, format_size, read_number, read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.kernel.mount_table import Mount

__all__ = ["look_at_control_groups", "look_at_limits", "look_at_memory"]

_ABOUT = "resources"
_LITTLE_MEMORY_BYTES = 512 * MIB
_FEW_DESCRIPTORS = 256
_FEW_PROCESSES = 128
_MOUNTS_OF_A_BOX = 100
_FEW_WATCHES, _FEW_INSTANCES = 8192, 64


def look_at_control_groups(table: Sequence[Mount]) -> Ability:
    """Which control groups there are, and whether this process may use them."""
    groups = read_control_groups(table)
    name, why = "control groups", "they limit the memory, processors and processes of a box, and count what it used"
    if groups.mode == "none":
        return Ability(_ABOUT, name, "limited", "none is to be seen here", why, "mount cgroup2 on /sys/fs/cgroup")
    kind = {"v2": "version 2", "v1": "version 1", "hybrid": "hybrid (version 1 beside an empty version 2)"}[groups.mode]
    shown = ", ".join(one for one in groups.controllers if "=" not in one) or "none"
    meaning = f"{kind}, controllers: {shown}"
    if groups.is_writable and {"memory", "pids"} <= {*groups.controllers}:
        return Ability(_ABOUT, name, "yes", f"{meaning}; this user may make groups", why)
    lacks = "memory and pids are not delegated to this user" if groups.is_writable else "this user may not make groups"
    cure = "systemd-run --user --scope -p Delegate=yes starts a shell with groups of its own"
    if groups.mode != "v2":
        cure = "boot with systemd.unified_cgroup_hierarchy=1 for version 2, which users may be given groups of"
    return Ability(_ABOUT, name, "limited", f"{meaning}; {lacks}", why, cure)


def look_at_memory(table: Sequence[Mount]) -> Ability:
    """Free memory, in which the scratch of boxes lives."""
    values = {
        name: int(rest.split()[0]) * 1024
        for name, _, rest in (line.partition(":") for line in read_text("/proc/meminfo").splitlines())
    }
    total, free = values["MemTotal"], values.get("MemAvailable", values["MemFree"])
    swap = values.get("SwapTotal", 0)
    shared = "" if any(mount.mount_point == "/dev/shm" for mount in table) else "; no /dev/shm"
    meaning = f"{format_size(free)} of {format_size(total)} free, swap {format_size(swap)}{shared}"
    why = "the scratch of tasks' boxes is a tmpfs, of half of the memory at most"
    if free < _LITTLE_MEMORY_BYTES:
        return Ability(_ABOUT, "memory", "limited", meaning, why, "fewer workers, or Box(scratch='disk')")
    return Ability(_ABOUT, "memory", "yes", meaning, why)


def look_at_limits(table: Sequence[Mount]) -> Iterator[Ability]:
    """The limits that boxes run into first."""
    can_raise = bool(capget().effective >> capability_number("CAP_SYS_RESOURCE") & 1)
    yield Ability(
        _ABOUT,
        "limits",
        "yes",
        "resource limits can be raised and lowered"
        if can_raise
        else "resource limits can be lowered, which is all that boxes need; root may raise them",
        "a box passes on the limits it was started with, or lower ones",
    )
    yield _look_at_descriptors()
    yield _look_at_processes()
    yield _look_at_mounts(table)
    yield _look_at_inotify()


def _look_at_descriptors() -> Ability:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < _FEW_DESCRIPTORS
    return Ability(
        _ABOUT,
        "descriptors",
        "limited" if few else "yes",
        f"{_shown(soft)} open files for each process, {_shown(hard)} at most",
        "a run keeps a few for each worker, and its tasks have as many as it has",
        "ulimit -n 1024" if few and _is_more(hard, soft) else "raise nofile in /etc/security/limits.conf" * few,
    )


def _look_at_processes() -> Ability:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    most = read_number("/proc/sys/kernel/pid_max") or 0
    group = _read_pids_limit()
    bounds = [("the limit of this user", soft), ("this control group", group), ("this machine", most)]
    known = [(number, what) for what, number in bounds if number and number != resource.RLIM_INFINITY]
    least, what = min(known, default=(0, ""))
    few = 0 < least < _FEW_PROCESSES
    return Ability(
        _ABOUT,
        "processes",
        "limited" if few else "yes",
        f"{least} at most, by {what}" if known else "not limited",
        "a box takes two beside its command, a worker three",
        "raise nproc (ulimit -u) or pids.max" if few else "",
    )


def _look_at_mounts(table: Sequence[Mount]) -> Ability:
    most = read_number("/proc/sys/fs/mount-max") or 100_000
    have = len(table)
    few = most < have + _MOUNTS_OF_A_BOX
    return Ability(
        _ABOUT,
        "mounts",
        "limited" if few else "yes",
        f"{have} here, {most} may be in each namespace (fs.mount-max)",
        "a box has a copy of each of these, and its own on top",
        "as root: sysctl -w fs.mount-max=100000" if few else "",
    )


def _look_at_inotify() -> Ability:
    watches = read_number("/proc/sys/fs/inotify/max_user_watches")
    instances = read_number("/proc/sys/fs/inotify/max_user_instances")
    name, why = "inotify", "development servers watch files with it, and each box of a user takes from the same count"
    if watches is None or instances is None:
        return Ability(_ABOUT, name, "limited", "not to be had", why, "use a kernel with CONFIG_INOTIFY_USER=y")
    few = watches < _FEW_WATCHES or instances < _FEW_INSTANCES
    cure = "as root: sysctl -w fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512"
    meaning = f"{watches} watches, {instances} instances for each user"
    return Ability(_ABOUT, name, "limited" if few else "yes", meaning, why, cure if few else "")


def _read_pids_limit() -> int:
    """The least pids.max of this process's groups, in either version; 0 if there is none."""
    found = []
    for line in read_text("/proc/self/cgroup").splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers and "pids" not in controllers.split(","):
            continue
        top = "/sys/fs/cgroup/pids" if controllers else "/sys/fs/cgroup"
        while True:
            if number := read_number(os.path.normpath(f"{top}/{path}/pids.max")):
                found.append(number)
            if path in ("", "/"):
                break
            path = os.path.dirname(path)
    return min(found, default=0)


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def _is_more(hard: int, soft: int) -> bool:
    return hard == resource.RLIM_INFINITY or hard > soft
