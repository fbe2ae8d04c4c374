"""Namespaces: leaving, joining and naming them. One thin function per call; see unshare(2), setns(2), namespaces(7)."""

from __future__ import annotations

import os

from jubako.kernel.files import write_setting
from jubako.kernel.syscalls import call

__all__ = [
    "CLONE_FILES",
    "CLONE_FS",
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWTIME",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "open_namespace",
    "sethostname",
    "setns",
    "unshare",
    "write_time_offset",
]

CLONE_NEWTIME = 0x00000080
CLONE_FS = 0x00000200
CLONE_FILES = 0x00000400
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000


def unshare(flags: int) -> None:
    """Gives this process namespaces of its own; `flags` are CLONE_NEW* ones.

    CLONE_NEWPID takes effect for children made afterwards. CLONE_NEWUSER wants a single thread (EINVAL otherwise); a
    user namespace made in the same call owns the others.
    """
    call("unshare", flags)


def setns(fd: int, nstype: int = 0) -> None:
    """Joins the namespace `fd` stands for (a /proc/PID/ns file, or a pidfd with the kinds in `nstype`).

    Joining a mount namespace also sets the root and the working directory to that namespace's root.
    """
    call("setns", fd, nstype)


def open_namespace(kind: str, pid: int | str = "self") -> int:
    """A descriptor of a process's namespace; `kind` is a name in /proc/PID/ns ("mnt", "user", "pid_for_children")."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def sethostname(name: str | bytes) -> None:
    """Sets the host name of this process's UTS namespace; at most 64 bytes."""
    raw = os.fsencode(name)
    call("sethostname", raw, len(raw), path=name)


def write_time_offset(clock: str, offset_s: int) -> None:
    """Sets "monotonic" or "boottime" off by `offset_s` seconds in the time namespace that this process's children get.

    Only after CLONE_NEWTIME and before the first process is in the namespace (EACCES); ERANGE where the clock would
    read less than nothing. See time_namespaces(7).
    """
    write_setting("/proc/self/timens_offsets", f"{clock} {offset_s} 0\n")
