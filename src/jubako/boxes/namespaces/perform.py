"""Does the steps of `unshare_steps`, one function each. A refusal is a HostError that names call, path and cure."""

from __future__ import annotations

import errno
import os

from jubako.boxes.namespaces.cures import find_cure
from jubako.boxes.namespaces.kinds import KINDS
from jubako.boxes.namespaces.unshare_steps import (
    BindNamespace,
    ChangeDirectory,
    ChangeRoot,
    KeepCapabilities,
    MakeNamespaces,
    MapIds,
    MountBinfmt,
    MountProc,
    RegisterFormat,
    SetClock,
    SetGid,
    Setgroups,
    SetPropagation,
    SetUid,
)
from jubako.errors import HostError
from jubako.kernel.capabilities import keep_capabilities
from jubako.kernel.files import write_setting
from jubako.kernel.idmap import write_id_map, write_setgroups
from jubako.kernel.mounts import (
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    mount,
    umount2,
)
from jubako.kernel.namespaces import unshare, write_time_offset
from jubako.kernel.syscalls import fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jubako.boxes.namespaces.unshare_steps import OutsideStep, Step

__all__ = ["BIND_MOUNT", "BIND_OTHERS", "Binder", "explain_step", "map_from_outside", "perform"]

BIND_MOUNT, BIND_OTHERS = b"m", b"o"
_PROPAGATIONS = {"private": MS_PRIVATE, "shared": MS_SHARED, "slave": MS_SLAVE}
_OF_KERNEL_FILES = MS_NOSUID | MS_NODEV | MS_NOEXEC
_REPORT_BYTES = 1 << 14


def perform(step: Step) -> None:
    """Does one step in this process."""
    try:
        _perform(step)
    except OSError as error:
        raise explain_step(step, error) from error


def map_from_outside(steps: Sequence[OutsideStep], pid: int) -> None:
    """Does the steps for the user namespace that process `pid` is in, from its parent namespace."""
    for step in steps:
        try:
            match step:
                case Setgroups(value):
                    write_setgroups(value, pid)
                case MapIds(kind, ranges, None):
                    write_id_map(kind, ranges, pid)
                case MapIds(kind, ranges, str(program)):
                    numbers = [str(id_) for one in ranges for id_ in (one.inside, one.outside, one.count)]
                    _run_set_id_program(step, [program, str(pid), *numbers])
        except OSError as error:
            raise explain_step(step, error) from error


class Binder:
    """Binds namespaces of process `pid` to files of this mount namespace, in two pieces: all of them, or none."""

    def __init__(self, binds: Sequence[BindNamespace], pid: int) -> None:
        self._binds = binds
        self._pid = pid
        self._done: list[str] = []

    def bind(self, order: bytes) -> None:
        """Binds the mount namespace, or all others. If one can't be, none stays bound, of either piece."""
        for step in self._binds:
            if (step.kind == "mount") != (order == BIND_MOUNT):
                continue
            try:
                mount(f"/proc/{self._pid}/ns/{KINDS[step.kind].for_children}", step.file, "", MS_BIND)
            except OSError as error:
                for file in reversed(self._done):
                    umount2(file, MNT_DETACH)
                raise explain_step(step, error) from error
            self._done.append(step.file)


def explain_step(step: Step | BindNamespace, error: OSError) -> HostError:
    """The error that says which step it was, which call and path, and what to do."""
    where = f": {error.filename}" if error.filename else ""
    return HostError(
        f"cannot {step.describe()}: {error.strerror or error}{where}", hint=find_cure(step, error.errno or 0)
    )


def _perform(step: Step) -> None:
    match step:
        case MakeNamespaces(kinds):
            flags = 0
            for kind in kinds:
                flags |= KINDS[kind].flag
            unshare(flags)
        case MapIds(kind, ranges):
            write_id_map(kind, ranges)
        case SetClock(clock, offset_s):
            write_time_offset(clock, offset_s)
        case Setgroups(value):
            write_setgroups(value)
        case SetPropagation(path, propagation, may_be_no_mount):
            try:
                mount("none", path, "", MS_REC | _PROPAGATIONS[propagation])
            except OSError as error:
                if error.errno != errno.EINVAL or not may_be_no_mount:
                    raise
        case ChangeRoot(path):
            _named("chroot", lambda: os.chroot(path), path)
        case ChangeDirectory(path):
            _named("chdir", lambda: os.chdir(path), path)
        case MountProc(path):
            mount("proc", path, "proc", _OF_KERNEL_FILES)
        case MountBinfmt(path):
            mount("binfmt_misc", path, "binfmt_misc", _OF_KERNEL_FILES)
        case RegisterFormat(path, definition):
            write_setting(os.path.join(path, "register"), definition)
        case SetGid(gid):
            _named("setgroups", lambda: os.setgroups([]))
            _named("setgid", lambda: os.setgid(gid))
        case SetUid(uid):
            _named("setuid", lambda: os.setuid(uid))
        case KeepCapabilities():
            keep_capabilities()


def _named(call: str, function: Callable[[], None], path: str | None = None) -> None:
    try:
        function()
    except OSError as error:
        fail(error.errno or 0, call, path)


def _run_set_id_program(step: MapIds, argv: list[str]) -> None:
    """Runs newuidmap or newgidmap; what it says against it becomes the error."""
    said, write_end = os.pipe()
    try:
        pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 2)])
    except FileNotFoundError as error:
        os.close(said)
        raise HostError(
            f"cannot {step.describe()}: {argv[0]} is not installed",
            hint="It is in the package uidmap (Fedora: shadow-utils). Without it only one's own id can be mapped.",
        ) from error
    finally:
        os.close(write_end)
    with os.fdopen(said, "rb") as pipe:
        text = os.fsdecode(pipe.read(_REPORT_BYTES))
    if status := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        why = " ".join(text.split()) or f"{argv[0]} ended with {status}"
        raise HostError(
            f"cannot {step.describe()}: {why}",
            hint=f"An ordinary user may map what /etc/sub{step.kind} lends, and the own id.",
        )
