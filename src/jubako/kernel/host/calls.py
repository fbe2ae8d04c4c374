"""The kernel: which calls it has, and whether a filter of system calls can be installed."""

from __future__ import annotations

import ctypes
import errno
import os

from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.host.ability import Ability
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.seccomp import default_filter, install_filter
from jubako.kernel.syscalls import AT_EMPTY_PATH, call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["look_at_calls", "look_at_filter"]

_ABOUT = "kernel"
_NEEDED = ("openat2", "mount_setattr", "pidfd_open", "open_tree", "move_mount", "fsopen")
_NEWER = ("clone3", "statmount", "listmount", "open_tree_attr")
_LANDLOCK_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION: answer with the version of the interface


def look_at_calls() -> Iterator[Ability]:
    """The calls boxes are made with, those used where they are there, and Landlock."""
    release = os.uname().release
    missing = [name for name in _NEEDED if not _has_call(name)]
    yield Ability(
        _ABOUT,
        "kernel",
        "no" if missing else "yes",
        f"Linux {release} lacks {', '.join(missing)}" if missing else f"Linux {release} has the calls boxes need",
        "boxes are mounted by them, and no path is followed out of its place",
        "use Linux 5.12 or newer; in a container, one whose filter knows these calls" if missing else "",
    )
    found = [name for name in _NEWER if _has_call(name)]
    older = [name for name in _NEWER if name not in found]
    yield Ability(
        _ABOUT,
        "newer calls",
        "yes",
        f"has {', '.join(found) or 'none of them'}" + (f"; {', '.join(older)} done the older way" if older else ""),
        "mounts are asked for instead of read from text, and changed in fewer steps",
    )
    yield _look_at_landlock()


def look_at_filter() -> Ability:
    """Whether a process may give itself a filter of system calls, tried in a child."""
    name, why = "seccomp", "a box's command may neither mount, nor trace, nor make namespaces"
    try:
        program = default_filter()
    except OSError as error:
        return Ability(
            _ABOUT, name, "no", error.strerror or str(error), why, "use an x86_64, aarch64 or riscv64 machine"
        )

    def install() -> int:
        try:
            set_no_new_privs()
            install_filter(program)
        except OSError as error:
            return error.errno or 1
        return 0

    status = wait_for(fork_child(install))
    if status:
        return Ability(
            _ABOUT,
            name,
            "no",
            f"no system calls can be denied in boxes ({os.strerror(status)})",
            why,
            "use a kernel with CONFIG_SECCOMP_FILTER=y",
        )
    return Ability(_ABOUT, name, "yes", "dangerous system calls are denied in boxes", why)


def _look_at_landlock() -> Ability:
    name, why = "landlock", "what runs in a box may confine itself further; boxes do not depend on it"
    try:
        version = call("landlock_create_ruleset", None, 0, _LANDLOCK_VERSION)
    except OSError as error:
        said = {
            errno.ENOSYS: "this kernel is built without it",
            errno.EOPNOTSUPP: "switched off when the machine was started",
        }
        meaning = said.get(error.errno or 0, f"not to be had here ({error.strerror})")
        return Ability(_ABOUT, name, "limited", meaning, why, "start the machine with landlock in the list lsm=")
    return Ability(_ABOUT, name, "yes", f"version {version} of its interface", why)


def _has_call(name: str) -> bool:
    """True if the kernel has the call: refusing these arguments (a descriptor that is none) shows that it knows it."""
    try:
        call(name, *_arguments(name))
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True


def _arguments(name: str) -> tuple[int | bytes | ctypes.Array[ctypes.c_char] | None, ...]:
    if name in ("mount_setattr", "open_tree_attr"):
        return (-1, b"", AT_EMPTY_PATH, bytes(32), 32)
    if name in ("clone3", "statmount", "listmount", "fsopen"):  # nothing is read at address 0
        return (None, 0, None, 0)
    if name == "open_tree":
        return (-1, b"", 0)
    if name == "move_mount":
        return (-1, b"", -1, b"", 0)
    return (-1, b"", bytes(24), 24)
