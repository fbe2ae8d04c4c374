"""A program in new namespaces, as unshare(1) starts one: in this process, or in a child of it.

`unshare_and_execute` is for a process that wants to become the program, such as the command line; `run_unshared` is for
a Python program that goes on. Both take an `Unshare`, whose plan is made first and can be looked at (`plan_for`).

With a fork there are two processes: the one that made the namespaces waits, deaf to Ctrl-C and SIGTERM, and ends as the
program does. The program starts when all is in place, the files of persistent namespaces too.
"""

from __future__ import annotations

import errno
import os
import sys

from jubako.boxes.namespaces.execute import end_like, execute
from jubako.boxes.namespaces.outside import Outside
from jubako.boxes.namespaces.perform import BIND_MOUNT, BIND_OTHERS, Binder, map_from_outside, perform
from jubako.boxes.namespaces.plan_id_map import find_subordinate_range
from jubako.boxes.namespaces.plan_unshare import Caller, asks_for_lent_ids, plan_unshare
from jubako.boxes.namespaces.run_in_child import run_in_child
from jubako.boxes.namespaces.unshare_steps import MakeNamespaces
from jubako.errors import HostError
from jubako.kernel.capabilities import capability_number, capget
from jubako.kernel.children import wait_for_pidfd
from jubako.kernel.idmap import parse_subordinate_ids, read_id_map
from jubako.kernel.process import pidfd_open, set_pdeathsig
from jubako.kernel.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.boxes.namespaces.unshare_options import MapRange, Unshare
    from jubako.boxes.namespaces.unshare_steps import Fork, Plan
    from jubako.kernel.idmap import IdRange, SubordinateRange

__all__ = ["plan_for", "run_unshared", "unshare_and_execute"]

_SETUP_FAILED = 1
_HELD_BACK = (signal.SIGINT, signal.SIGTERM)


def plan_for(options: Unshare) -> Plan:
    """What this process would do for these options, in order. Nothing happens yet."""
    is_lent = asks_for_lent_ids(options.map_users), asks_for_lent_ids(options.map_groups)
    held = capget().effective
    caller = Caller(
        uid=os.geteuid(),
        gid=os.getegid(),
        may_write_maps=all(held >> capability_number(name) & 1 for name in ("CAP_SETUID", "CAP_SETGID")),
        lent_uids=_read_lent("/etc/subuid") if is_lent[0] else None,
        lent_gids=_read_lent("/etc/subgid") if is_lent[1] else None,
        uid_map=_read_parent("uid", options.map_users),
        gid_map=_read_parent("gid", options.map_groups),
    )
    return plan_unshare(options, caller)


def unshare_and_execute(command: Sequence[str], options: Unshare) -> int:
    """Leads this single-threaded process into new namespaces and replaces it with `command` (empty: the user's shell).

    Returns only in the process that waits for a forked child: the exit code of that, or, if a signal ended it, not
    at all, since this process then ends by the same. Raises HostError for a step that was refused, InputError for
    options that contradict each other, NotExecuted where there is no such program; after a fork these are raised in
    the child, and this process returns the child's exit code.
    """
    plan = plan_for(options)
    if (status := _enter(plan)) is not None:
        return end_like(status)
    if plan.kept_variables is not None:
        for name in os.environ.keys() - set(plan.kept_variables):
            del os.environ[name]
    return execute(command)


def run_unshared(command: Sequence[str], options: Unshare) -> int:
    """Runs `command` in new namespaces and waits for it; its exit status as a shell shows it.

    Standard streams and environment are this process's. Raises what `unshare_and_execute` does. The process that is
    forked for it runs Python: call it from a single-threaded process.
    """
    plan_for(options)  # what is wrong with the options is raised from here
    return run_in_child(lambda: unshare_and_execute(command, options))


def _enter(plan: Plan) -> int | None:
    """Takes the steps. None in the process that is to become the program; in the one that waited for it, its status."""
    us = os.getpid()
    with Outside(Binder(plan.binds, us).bind) if plan.binds else _Nobody() as binder:
        with Outside(lambda _order: map_from_outside(plan.maps, us)) if plan.maps else _Nobody() as mapper:
            for step in (*plan.before_make, plan.make):
                perform(step)
            mapper.do()
        if any(step.kind == "mount" for step in plan.binds):
            _bind_mount_namespace(binder)
        for step in plan.before_fork:
            perform(step)
        if plan.fork is None:
            binder.do(BIND_OTHERS)
        elif (status := _fork(plan.fork, binder)) is not None:
            return status
    for step in plan.after_fork:
        perform(step)
    if plan.fork is not None and plan.fork.death_signal is not None:
        set_pdeathsig(plan.fork.death_signal)  # again: the kernel forgets it when ids change
    return None


def _bind_mount_namespace(binder: Outside | _Nobody) -> None:
    """Has the new mount namespace bound to its file, if need be by making it anew on another processor.

    The kernel refuses (EINVAL) to bind one in another that is not older, by their numbers. Since Linux 6.18 each
    processor gives numbers out of a supply of its own, so a new one's may be lower.
    """
    processors = os.sched_getaffinity(0)
    try:
        for processor in (None, *sorted(processors)):
            if processor is not None:
                os.sched_setaffinity(0, {processor})
                perform(MakeNamespaces(("mount",)))
            try:
                return binder.do(BIND_MOUNT)
            except HostError as error:
                if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EINVAL:
                    raise
                refused = error
    finally:
        os.sched_setaffinity(0, processors)
    raise refused


class _Nobody:
    """In place of a helper, where there is nothing to do outside."""

    def __enter__(self) -> _Nobody:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def do(self, order: bytes = b".") -> None:
        """Nothing."""

    def leave_to_parent(self) -> None:
        """Nothing."""


def _fork(fork: Fork, binder: Outside | _Nobody) -> int | None:
    """None in the child, once all is in place for it; its status in the parent, when it has ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [*_HELD_BACK, signal.SIGCHLD])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignores it leaves us no status
    parent = pidfd_open(os.getpid())
    ready, go = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise HostError(
            f"cannot start a child: fork: {error.strerror}", hint="There are as many processes as there may be."
        ) from error
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(go)
        binder.leave_to_parent()
        if fork.death_signal is not None:
            set_pdeathsig(fork.death_signal)
        if not os.read(ready, 1) or (fork.death_signal is not None and wait_for_pidfd(parent, 0)):
            os._exit(_SETUP_FAILED)  # the parent has failed, and says why; or it has been killed
        os.close(ready)
        os.close(parent)
        return None
    os.close(ready)
    os.close(parent)
    try:
        binder.do(BIND_OTHERS)
        os.write(go, b".")
    except BaseException:
        os.close(go)
        os.waitpid(child, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    os.close(go)
    return _wait(child, forward_signals=fork.forward_signals)


def _wait(child: int, *, forward_signals: bool) -> int:
    """Waits for the child, with signals blocked. Forwards those that come meanwhile if that is wanted."""
    if not forward_signals:
        return os.waitpid(child, 0)[1]
    while True:
        number = signal.sigwait([*_HELD_BACK, signal.SIGCHLD])
        if number != signal.SIGCHLD:
            os.kill(child, number)  # not reaped yet, so this is still the child
            continue
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status


def _read_lent(file: str) -> SubordinateRange:
    """What a file lends to the caller. By the effective uid also in /etc/subgid, as newgidmap has it."""
    import pwd  # only maps of ranges have to know who this is

    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = None
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as opened:
            ranges = parse_subordinate_ids(opened.read())
    except FileNotFoundError:
        ranges = ()
    return find_subordinate_range(ranges, name, uid, file)


def _read_parent(kind: str, asked: Sequence[MapRange]) -> Sequence[IdRange]:
    return read_id_map(kind) if "all" in asked else ()
