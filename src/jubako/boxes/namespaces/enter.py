"""A program in the namespaces of another process, as nsenter(1) starts one.

All that is of the other process, or of the file system outside, is opened first; then the namespaces are entered, in
two rounds: who is privileged here enters the user namespace last, so keeps what it needs for the others; who is not
gets it from the user namespace, and enters that first. The target is held by a pidfd while its files are opened, so
that its number cannot come to mean another process.
"""

from __future__ import annotations

import errno
import os
import sys

from jubako.boxes.namespaces.enter_options import OF_TARGET, check_enter
from jubako.boxes.namespaces.execute import end_like, execute
from jubako.boxes.namespaces.kinds import KINDS
from jubako.boxes.namespaces.run_in_child import run_in_child
from jubako.errors import HostError, InputError
from jubako.kernel.capabilities import keep_capabilities
from jubako.kernel.children import wait_for_pidfd
from jubako.kernel.files import write_setting
from jubako.kernel.namespace_files import open_owner, open_socket_namespace
from jubako.kernel.namespaces import setns
from jubako.kernel.process import pidfd_getfd, pidfd_open
from jubako.kernel.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from jubako.boxes.namespaces.enter_options import Enter
    from jubako.boxes.namespaces.kinds import KindName

    T = TypeVar("T")

__all__ = ["enter_and_execute", "run_entered"]

_CGROUP_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")  # where version 2 is, alone or beside version 1
_GROUPS_HINT = "It is denied in that user namespace: --preserve-credentials leaves groups and ids as they are."
_OF_TARGET_HINT = "Other users' processes can be entered by root only; their /proc files are closed to you."


def enter_and_execute(command: Sequence[str], options: Enter) -> int:
    """Leads this single-threaded process into the namespaces and replaces it with `command` (empty: the user's shell).

    Returns only in a process that waits for a forked child: its exit code; or ends by the same signal. Raises
    InputError, HostError, or NotExecuted where there is no such program; after a fork in the child alone.
    """
    check_enter(options)
    opened = _Opened(options)
    is_user_entered = "user" in opened.namespaces
    sets_ids = is_user_entered and not options.preserve_credentials
    may_drop_groups = not sets_ids or _may_drop_groups()
    _join(opened.namespaces)
    if opened.process is not None:  # whose ids are those it has in the user namespace that was entered
        state = os.fstat(opened.process)
        opened.uid = state.st_uid if options.uid == OF_TARGET else opened.uid
        opened.gid = state.st_gid if options.gid == OF_TARGET else opened.gid
    _change_places(options, opened)
    if options.fork or (options.fork is None and opened.enters_pid):
        status = _continue_as_child()
        if status is not None:
            return end_like(status)
    uid = opened.uid if opened.uid is not None or not sets_ids else 0
    gid = opened.gid if opened.gid is not None or not sets_ids else 0
    if gid is not None:
        is_done = sets_ids and may_drop_groups
        _try("drop the groups", lambda: _drop_groups(is_done_before=is_done), "setgroups", hint=_GROUPS_HINT)
        _try(f"set the group id {gid}", lambda: os.setgid(gid), "setgid", hint=_ids_hint("gid"))
    if uid is not None:
        _try(f"set the user id {uid}", lambda: os.setuid(uid), "setuid", hint=_ids_hint("uid"))
    if options.keep_caps and is_user_entered:
        _try("keep the capabilities", keep_capabilities)
    return execute(command)


def run_entered(command: Sequence[str], options: Enter) -> int:
    """Runs `command` in the namespaces and waits for it; its exit status as a shell shows it.

    Raises what `enter_and_execute` does. Call it from a single-threaded process.
    """
    check_enter(options)
    return run_in_child(lambda: enter_and_execute(command, options))


class _Opened:
    """All that has to be opened or read before anything is entered."""

    def __init__(self, options: Enter) -> None:
        self.namespaces: dict[KindName, int] = {}
        self.root: int | None = None
        self.directory: int | None = None
        self.cgroup: int | None = None
        self.process: int | None = None
        self.environment: list[bytes] | None = None
        self.uid = options.uid if isinstance(options.uid, int) else None
        self.gid = options.gid if isinstance(options.gid, int) else None
        for kind, file in options.files.items():
            self.namespaces[kind] = _open(f"the {kind} namespace", file)
        if options.target is not None:
            self._open_target(options, options.target)
        if options.parent_of_user:
            self._open_parent_of_user(options)
        if options.root not in (None, OF_TARGET):
            self.root = _open("the root directory", str(options.root))
        if options.directory not in (None, OF_TARGET):
            self.directory = _open("the working directory", str(options.directory))
        self.enters_pid = "pid" in self.namespaces

    def _open_target(self, options: Enter, target: int) -> None:
        try:
            pidfd = pidfd_open(target)
        except OSError as error:
            raise HostError(f"there is no process {target}: {error.strerror}") from error
        proc = f"/proc/{target}"
        for kind in _kinds_of_target(options, target):
            self.namespaces[kind] = _open(f"the {kind} namespace of process {target}", f"{proc}/ns/{KINDS[kind].link}")
        if options.root == OF_TARGET:
            self.root = _open(f"the root directory of process {target}", f"{proc}/root")
        if options.directory == OF_TARGET:
            self.directory = _open(f"the working directory of process {target}", f"{proc}/cwd")
        if options.environment_of_target:
            with open(_open(f"the environment of process {target}", f"{proc}/environ"), "rb") as file:
                self.environment = file.read().split(b"\0")
        if OF_TARGET in (options.uid, options.gid):
            self.process = _open(f"process {target}", proc)
        if options.net_socket is not None:
            self.namespaces["net"] = self._open_by_socket(pidfd, target, options.net_socket)
        if options.join_cgroup:
            self.cgroup = _open_cgroup(target)
        if options.follow_context and os.path.exists("/sys/fs/selinux/enforce"):
            with open(_open(f"the security context of process {target}", f"{proc}/attr/current")) as text:
                _try("follow the security context", lambda: write_setting("/proc/self/attr/exec", text.read()))
        if wait_for_pidfd(pidfd, 0):
            raise HostError(f"process {target} ended before its namespaces could be entered")
        os.close(pidfd)

    def _open_by_socket(self, pidfd: int, target: int, fd: int) -> int:
        what = f"find the network namespace of socket {fd} of process {target}"
        socket = _try(what, lambda: pidfd_getfd(pidfd, fd), hint=_OF_TARGET_HINT)
        try:
            return _try(what, lambda: open_socket_namespace(socket), hint="That descriptor is not a socket.")
        finally:
            os.close(socket)

    def _open_parent_of_user(self, options: Enter) -> None:
        kinds = list(self.namespaces)
        if "user" in kinds:
            fd = self.namespaces["user"]
        elif kinds:
            fd = self.namespaces[kinds[0]]
        else:
            fd = _open(f"the user namespace of process {options.target}", f"/proc/{options.target}/ns/user")
        self.namespaces["user"] = _try(
            "find the user namespace that owns it", lambda: open_owner(fd), hint="It is not below the one you are in."
        )


def _kinds_of_target(options: Enter, target: int) -> list[KindName]:
    wanted = [kind for kind in KINDS if kind in options.kinds and kind not in options.files]
    if options.all_kinds:
        wanted = [kind for kind in KINDS if kind not in options.files and _is_usable(kind, target, options)]
    return wanted


def _is_usable(kind: KindName, target: int, options: Enter) -> bool:
    """True if this kernel has the kind; and not for the caller's own user namespace, which can't be entered again."""
    link = KINDS[kind].link
    try:
        own = os.stat(f"/proc/self/ns/{link}").st_ino
    except FileNotFoundError:
        return False
    if kind != "user" or kind in options.kinds:
        return True
    what = f"look at the user namespace of process {target}"
    path = f"/proc/{target}/ns/{link}"
    return _try(what, lambda: os.stat(path), "stat", hint=_OF_TARGET_HINT).st_ino != own


def _join(namespaces: dict[KindName, int]) -> None:
    left = []
    for kind, fd in namespaces.items():
        if kind == "user":
            continue
        try:
            setns(fd, KINDS[kind].flag)
        except OSError:  # perhaps the user namespace gives the right to
            left.append(kind)
    for kind in (*(kind for kind in namespaces if kind == "user"), *left):
        fd = namespaces[kind]
        hint = _JOIN_HINTS.get(kind, "Be root, or enter the user namespace that owns it, too: --user.")
        _try(f"enter the {kind} namespace", lambda fd=fd, kind=kind: setns(fd, KINDS[kind].flag), hint=hint)  # type: ignore[misc]


_JOIN_HINTS = {"user": "It is the one you are in, belongs to another user, or is not below yours."}


def _change_places(options: Enter, opened: _Opened) -> None:
    directory = opened.directory
    if opened.root is not None:
        if directory is None and options.directory_inside is None:
            directory = _open("the working directory", ".")
        root = opened.root
        _try("change the root directory", lambda: os.fchdir(root), "fchdir")
        _try("change the root directory", lambda: os.chroot("."), "chroot")
        _try("change the root directory", lambda: os.chdir("/"), "chdir")
    if options.directory_inside is not None:
        directory = _open("the working directory", options.directory_inside)
    if directory is not None:
        fd = directory
        _try("change the working directory", lambda: os.fchdir(fd), "fchdir")
    if opened.environment is not None:
        os.environb.clear()
        for variable in opened.environment:
            name, is_one, value = variable.partition(b"=")
            if is_one and name:
                os.environb[name] = value
    if opened.cgroup is not None:
        fd = opened.cgroup
        _try("join the control group", lambda: os.write(fd, str(os.getpid()).encode()), "write cgroup.procs")


def _continue_as_child() -> int | None:
    """None in the child; in the parent, when that has ended, its status. While the child is stopped, so is it."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    hint = "A pid namespace whose first process has ended takes no more."
    child = _try("start a child", os.fork, "fork", hint=hint)
    if child == 0:
        return None
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return status
        os.kill(os.getpid(), signal.SIGSTOP)
        os.kill(child, signal.SIGCONT)


def _may_drop_groups() -> bool:
    try:
        os.setgroups([])
    except OSError:
        return False
    return True


def _drop_groups(*, is_done_before: bool) -> None:
    """Drops the supplementary groups, unless that was done before entering and may not be done inside."""
    try:
        os.setgroups([])
    except OSError:
        if not is_done_before:
            raise


def _open_cgroup(target: int) -> int:
    with open(_open(f"the control group of process {target}", f"/proc/{target}/cgroup")) as file:
        paths = [line.rstrip("\n")[3:] for line in file if line.startswith("0::")]
    roots = [root for root in _CGROUP_ROOTS if os.path.exists(f"{root}/cgroup.procs")]
    if not paths or not roots:
        raise HostError("--join-cgroup needs control groups of version 2", hint="Mount cgroup2 at /sys/fs/cgroup.")
    path = f"{roots[0]}{paths[0]}/cgroup.procs"
    return _try("join the control group", lambda: os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), "open")


def _open(what: str, path: str) -> int:
    hint = _OF_TARGET_HINT if path.startswith("/proc/") else ""
    return _try(f"open {what}", lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC), "open", hint=hint)


def _ids_hint(kind: str) -> str:
    return f"Only ids that are mapped inside can be set: see /proc/self/{kind}_map there, or --preserve-credentials."


def _try(what: str, function: Callable[[], T], call: str = "", *, hint: str = "") -> T:
    """What `function` returns; an OSError becomes a sentence that names the call, with a hint where it is forbidden."""
    try:
        return function()
    except OSError as error:
        said = f"{call}: {error.strerror}" if call else str(error.strerror)
        where = f": {error.filename}" if error.filename else ""
        is_of_hint = error.errno not in (errno.ENOENT, errno.ENOTDIR)
        raise HostError(f"cannot {what}: {said}{where}", hint=hint if is_of_hint else "") from error
    except ValueError as error:  # a null byte in a path
        raise InputError(f"cannot {what}: {error}") from error
