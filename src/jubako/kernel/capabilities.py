"""Capabilities: their names, what this process holds, and how it gives them up. See capabilities(7), capget(2)."""

from __future__ import annotations

import ctypes
import struct

from jubako.kernel.once import once
from jubako.kernel.syscalls import call
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CapabilitySets",
    "capability_name",
    "capability_number",
    "capbset_drop",
    "capget",
    "capset",
    "drop_all_capabilities",
    "drop_capabilities",
    "keep_capabilities",
    "last_capability",
    "read_capability_sets",
]

_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_HEADER = struct.Struct("=Ii")  # version, pid
_DATA = struct.Struct("=6I")  # effective, permitted, inheritable: low words, then high words

_HEADER_OF_THIS = _HEADER.pack(_VERSION_3, 0)
_NONE = _DATA.pack(0, 0, 0, 0, 0, 0)

# By number, from 0.
_NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
_NUMBERS = {name: number for number, name in enumerate(_NAMES)}


@record
class CapabilitySets:
    """The five sets of one process, as bit masks (bit n stands for capability number n)."""

    effective: int
    permitted: int
    inheritable: int
    bounding: int = 0
    ambient: int = 0


def capability_number(name: str) -> int:
    """The number of "CAP_SYS_ADMIN", "sys_admin", or of "CAP_41" (`capability_name`). Raises ValueError for others."""
    full = name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}"
    if full.removeprefix("CAP_").isdecimal():
        return int(full.removeprefix("CAP_"))
    try:
        return _NUMBERS[full]
    except KeyError:
        raise ValueError(f"{name!r} is not a capability") from None


def capability_name(number: int) -> str:
    """The name of capability `number`; those newer than this table are "CAP_n"."""
    return _NAMES[number] if number < len(_NAMES) else f"CAP_{number}"


@once
def last_capability() -> int:
    """The highest capability number this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="utf-8") as file:
        return int(file.read())


def capget(pid: int = 0) -> CapabilitySets:
    """The effective, permitted and inheritable set of a process (0: this one); the other two are left 0."""
    buffer = ctypes.create_string_buffer(_DATA.size)
    call("capget", _HEADER.pack(_VERSION_3, pid), buffer)
    low_effective, low_permitted, low_inheritable, high_effective, high_permitted, high_inheritable = _DATA.unpack(
        buffer.raw
    )
    return CapabilitySets(
        effective=low_effective | high_effective << 32,
        permitted=low_permitted | high_permitted << 32,
        inheritable=low_inheritable | high_inheritable << 32,
    )


def capset(*, effective: int, permitted: int, inheritable: int) -> None:
    """Sets this thread's three sets; EPERM where one would hold more than it may."""
    sets = (effective, permitted, inheritable)
    words = [one & 0xFFFFFFFF for one in sets] + [one >> 32 for one in sets]
    call("capset", _HEADER.pack(_VERSION_3, 0), _DATA.pack(*words))


def capbset_drop(number: int) -> None:
    """Takes a capability out of the bounding set, for ever; needs CAP_SETPCAP."""
    call("prctl", _PR_CAPBSET_DROP, number)


def read_capability_sets(pid: int | str = "self") -> CapabilitySets:
    """All five sets of a process, from its /proc status."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        values = {
            name: int(value, 16) for name, _, value in (line.partition(":") for line in file) if name.startswith("Cap")
        }
    return CapabilitySets(
        effective=values["CapEff"],
        permitted=values["CapPrm"],
        inheritable=values["CapInh"],
        bounding=values["CapBnd"],
        ambient=values["CapAmb"],
    )


def drop_all_capabilities() -> None:
    """Gives up every capability of this thread but its bounding set, in one call, for who has to be quick."""
    call("capset", _HEADER_OF_THIS, _NONE)


def drop_capabilities(keep: Iterable[int] = (), *, bounding: bool = True) -> None:
    """Gives up every capability but those numbered in `keep`, in all five sets of this thread.

    The kept ones become ambient too, so that programs executed later hold them. `bounding=False` leaves the bounding
    set alone, for a process whose parent has emptied it (41 calls less). Raises PermissionError when `keep` names one
    that is not held, or the bounding set may not be changed (no CAP_SETPCAP); then some may be dropped already.
    """
    kept = frozenset(keep)
    if bounding:
        for number in range(last_capability() + 1):
            if number not in kept:
                capbset_drop(number)
    call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    mask = sum(1 << number for number in kept)
    capset(effective=mask, permitted=mask, inheritable=mask)
    for number in kept:
        call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def keep_capabilities() -> None:
    """Makes all that this thread may use ambient, so that programs executed later hold it, whatever their user."""
    held = capget().permitted
    capset(effective=held, permitted=held, inheritable=held)
    for number in range(last_capability() + 1):
        if held >> number & 1:
            call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)
