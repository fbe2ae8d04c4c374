"""The processes of a worker, and who ends whom. This is what a worker's interpreter starts with.

    runner ── supervisor ─────── foreman ─────────── zygote ─────── a child for each job
              waits for the      enters the          pid 1 of its
              runner's end;      namespaces; makes   pid namespace;
              buries dead views  views, collects     has the pipeline
                                 (`foreman`)         (`zygote`)      (`child`)

Each is killed when the one before it ends: the supervisor waits on the runner (its pidfd, and the socket), the others
ask for SIGKILL at their parent's death, and with pid 1 the kernel ends the namespace. The foreman runs nothing of the
user's and the zygote little but the user's. They are two processes because a fork makes every page of the forking
process cost a fault at its next write: what makes views and collects would pay that all the time.

A pipeline that turns out to be unfit for forking ends foreman and zygote; the supervisor starts others, in which every
child imports the pipeline itself.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import suppress

from jubako.boxes.links import UNFIT, Grave, Links
from jubako.boxes.workers.wire import Channel, Ready, Setup, read_message
from jubako.kernel.capabilities import capability_number, capget
from jubako.kernel.children import fork_child, reap_all
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.namespaces import CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID, unshare
from jubako.kernel.process import set_child_subreaper, set_pdeathsig, set_process_name
from jubako.layers.remove import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]

_FAILED = 1
_CAP_SYS_ADMIN = capability_number("CAP_SYS_ADMIN")
_FDS_AT_ONCE = 16
_PATH_BYTES = 1 << 13
_HINT = "`jubako doctor` says what is missing here"
_FORK_HINT = "let there be more processes (ulimit -u, pids.max of the control group), or have fewer workers"


def main(fd: int) -> NoReturn:
    """Supervises one worker on the socket `fd` until its runner is gone. Called in a fresh interpreter."""
    runner = os.pidfd_open(os.getppid())
    try:
        setup: Setup = read_message(fd)
    except EOFError:
        os._exit(_FAILED)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the runner's to deal with
    set_process_name("jubako-worker")
    set_child_subreaper()
    os.chdir(setup.cwd)
    try:
        status = _supervise(fd, runner, setup, is_preloaded=True)
        if status == UNFIT:
            status = _supervise(fd, runner, setup, is_preloaded=False)
    except OSError as error:  # before there was a foreman
        status = _give_up(Channel(fd), f"a worker's processes cannot be started: {error}", _FORK_HINT)
    os._exit(status)


def _supervise(fd: int, runner: int, setup: Setup, *, is_preloaded: bool) -> int:
    """Waits for the foreman to end, or ends it when the runner does. Afterwards nothing of the worker lives."""
    dead, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    foreman = fork_child(lambda: _enter_and_work(fd, setup, Grave(theirs), is_preloaded=is_preloaded))
    theirs.close()
    ended = os.pidfd_open(foreman)
    poll = select.poll()
    for one in (ended, runner, dead.fileno()):
        poll.register(one, select.POLLIN)
    poll.register(fd, 0)  # only the end of the connection, which poll always reports
    with dead:
        while True:
            ready = [found for found, _ in poll.poll()]
            if ended in ready:
                break
            if runner in ready or fd in ready:
                signal.pidfd_send_signal(ended, signal.SIGKILL)
                break
            if not _bury(dead):
                poll.unregister(dead)
        # The zygote is this process's to reap when the foreman was killed before it could.
        status = reap_all()[foreman]
        while _bury(dead):
            pass
    os.close(ended)
    return status


def _bury(dead: socket.socket) -> bool:
    """Takes away what was sent; False when there will be no more."""
    data, fds, _, _ = socket.recv_fds(dead, _PATH_BYTES, _FDS_AT_ONCE)
    for fd in fds:
        os.close(fd)
    if len(data) > 1:
        with suppress(OSError):  # what cannot be removed now is swept with the run
            remove_tree(os.fsdecode(data[1:]))
    return bool(data)


def _enter_and_work(fd: int, setup: Setup, grave: Grave, *, is_preloaded: bool) -> int:
    """The foreman's life: enters the namespaces, forks the zygote into the new pid namespace, serves the runner."""
    supervisor = os.getppid()
    is_privileged = bool(capget().effective >> _CAP_SYS_ADMIN & 1)
    others = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC
    channel = Channel(fd)
    try:
        if is_privileged:
            unshare(others)
        else:
            enter_user_namespace(others)
    except OSError as error:
        return _give_up(channel, f"a box needs namespaces of its own, which cannot be had here: {error}", _HINT)
    set_pdeathsig()  # forgotten by the kernel when the user namespace was entered
    if os.getppid() != supervisor:
        return _FAILED
    ours, theirs = _make_links()
    try:
        zygote = fork_child(lambda: _become_zygote((fd, grave.connection.fileno()), ours, theirs, setup, is_preloaded))
    except OSError as error:
        return _give_up(channel, f"a worker's processes cannot be started: {error}", _FORK_HINT)
    theirs.close()
    # Imported after the fork: the zygote needs nothing of it, and every page it has is one more to fork.
    from jubako.boxes.workers.foreman import Foreman

    foreman = Foreman(channel, ours, grave, setup, is_preloaded=is_preloaded, is_privileged=is_privileged)
    return foreman.work(zygote)


def _give_up(channel: Channel, error: str, hint: str) -> int:
    """Tells the runner why this worker will never be ready; the status to exit with."""
    channel.send(Ready(error=error, hint=hint))
    channel.flush_all()
    return _FAILED


def _become_zygote(others: tuple[int, ...], ours: Links, theirs: Links, setup: Setup, is_preloaded: bool) -> int:
    ours.close()
    for fd in others:
        os.close(fd)
    from jubako.boxes.workers.zygote import live  # not before the fork: the foreman needs nothing of it

    return live(theirs, setup, is_preloaded=is_preloaded)


def _make_links() -> tuple[Links, Links]:
    """The foreman's ends and the zygote's."""
    commands = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control = socket.socketpair()
    return Links(commands[0], control[0]), Links(commands[1], control[1])
