"""Terminals, the programs that a private network needs, and the clock."""

from __future__ import annotations

import ctypes
import os
import struct

from jubako.kernel.host.ability import Ability, read_number
from jubako.kernel.syscalls import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["look_at_clock", "look_at_network_programs", "look_at_terminals"]

_TIMEX_BYTES = 208  # struct timex of 64-bit machines, see adjtimex(2); its modes, 0, ask and change nothing
_STATUS = struct.Struct("i")
_STATUS_AT = 40
_STA_UNSYNC = 0x40
_EARLIEST_S = 1_735_689_600  # 2025, before which no jubako was made: the clock was never set


def look_at_terminals() -> Ability:
    """Whether terminals can be had, and whether programs may type into them."""
    name, why = "terminals", "a box has terminals of its own, and must not type commands into the caller's"
    try:
        for fd in os.openpty():
            os.close(fd)
    except OSError as error:
        cure = "mount devpts on /dev/pts; as root: sysctl -w kernel.pty.max=4096"
        return Ability("devices", name, "limited", f"none can be opened ({error.strerror})", why, cure)
    types = read_number("/proc/sys/dev/tty/legacy_tiocsti")
    if types == 0:
        return Ability("devices", name, "yes", "can be opened, and no program may type into one", why)
    setting = "dev.tty.legacy_tiocsti=1" if types else "this kernel has no switch for it"
    meaning = f"can be opened; programs may type into theirs ({setting}), which the filter of boxes refuses"
    return Ability("devices", name, "yes", meaning, why)


def look_at_network_programs(environment_path: str) -> Iterator[Ability]:
    """The programs that carry a private network's packets for an ordinary user, and the device they use."""
    found = [name for name in ("pasta", "slirp4netns") if _find_program(name, environment_path)]
    why = "a private network reaches the outside by one of them; 'none' and 'host' need neither"
    yield Ability(
        "programs",
        "user-mode networking",
        "yes" if found else "limited",
        f"{' and '.join(found)} found" if found else "neither pasta nor slirp4netns is installed",
        why,
        "" if found else "install passt, or slirp4netns",
    )
    usable = os.access("/dev/net/tun", os.R_OK | os.W_OK)
    yield Ability(
        "devices",
        "/dev/net/tun",
        "yes" if usable else "limited",
        "can be opened" if usable else "is not there, or not to be opened by this user",
        "user-mode networking hands packets over through it",
        "" if usable else "as root: modprobe tun; in a container: --device /dev/net/tun",
    )


def look_at_clock(now_s: float) -> Iterator[Ability]:
    """Whether the clock, which says `now_s`, is set and kept right; and whether clocks can be shifted in namespaces."""
    name, why = "clock", "schedules fire by it, and a commit tells by it what was changed since the box was started"
    cure = "as root: timedatectl set-ntp true"
    if now_s < _EARLIEST_S:
        yield Ability("time", name, "no", "the clock has not been set: it says a year before 2025", why, cure)
    else:
        buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
        try:
            call("adjtimex", buffer)
        except OSError as error:
            yield Ability("time", name, "yes", f"set; who keeps it is not to be asked ({error.strerror})", why)
        else:
            (status,) = _STATUS.unpack_from(buffer, _STATUS_AT)
            if status & _STA_UNSYNC:
                meaning = (
                    "set, and kept right by no program here (the host of a container or virtual machine may do it)"
                )
                yield Ability("time", name, "yes", meaning, why)
            else:
                yield Ability("time", name, "yes", "set, and kept right by NTP", why)
    has = os.path.exists("/proc/self/ns/time")
    yield Ability(
        "time",
        "time namespaces",
        "yes" if has else "limited",
        "can be had" if has else "this kernel has none",
        "'jubako unshare --monotonic' and '--boottime' shift clocks in one",
        "" if has else "use a kernel with CONFIG_TIME_NS=y (Linux 5.6)",
    )


def _find_program(name: str, environment_path: str) -> bool:
    places = (*environment_path.split(os.pathsep), "/usr/sbin", "/sbin")
    return any(os.access(os.path.join(place, name), os.X_OK) for place in places if place)
