"""The worker process: a fresh, single-threaded interpreter that has the pipeline loaded and forks once per job.

    runner ── supervisor ──── holder ────────── zygote ── child of a job
              watches the     enters the        pid 1 of its pid
              runner; reaps   namespaces        namespace; loads the
                                                pipeline, makes views

Every process dies with the one before it: the supervisor waits for the runner's end (its pidfd, the socket), the others
have asked for SIGKILL at their parent's death, and pid 1 takes its namespace with it. The supervisor starts a second
holder when the pipeline turned out to be unfit for forking (`hazards`); then each child imports it for itself.

Rights: in a user namespace, or as root, the zygote keeps what it needs to mount. Its system call filter, which children
inherit, refuses what neither needs; no_new_privs is set and the bounding set empty before anything of the user runs.
"""

from __future__ import annotations

import gc
import io
import os
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Collection
from typing import NoReturn

from jubako.boxes.apply import apply_operations
from jubako.boxes.attempt import DROPPED_VARIABLES, Zygote, run_attempt
from jubako.boxes.child import load_function
from jubako.boxes.explain import explain_failure
from jubako.boxes.facts import read_host_facts
from jubako.boxes.hazards import find_hazards, list_descriptors
from jubako.boxes.job import Job
from jubako.boxes.operations import SetPropagation
from jubako.boxes.plan import TMP
from jubako.boxes.spec import Box
from jubako.boxes.view import Views
from jubako.boxes.wire import Channel, Note, Ready, Setup, read_message
from jubako.errors import HostError
from jubako.kernel import capabilities, seccomp
from jubako.kernel.children import fork_child, reap_all, wait_for
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, unshare
from jubako.kernel.process import set_child_subreaper, set_no_new_privs, set_pdeathsig, set_process_name

__all__ = ["main"]

_UNFIT = 75  # exit status of a zygote that must not be forked; EX_TEMPFAIL in sysexits.h
_ENDED = 1  # exit status when the worker could not be made, or its runner is gone
_CAP_SYS_ADMIN = capabilities.capability_number("CAP_SYS_ADMIN")
# What the zygote itself has to do all the time. A child holds no capability for any of it, and cannot make a user
# namespace that would give it one, so for a child the kernel refuses them just as well.
_NEEDED_CALLS = (
    *("mount", "umount2", "setns", "open_tree", "move_mount", "mount_setattr"),
    *("fsopen", "fsconfig", "fsmount", "fspick"),
)
_HINT = "`jubako doctor` says what is missing here"


def main(fd: int) -> NoReturn:
    """Supervises one worker on the socket `fd` until its runner is gone. Called in a fresh interpreter."""
    runner = os.pidfd_open(os.getppid())
    setup: Setup = read_message(fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the runner's to deal with
    set_process_name("jubako-worker")
    set_child_subreaper()
    sys.path[:] = setup.sys_path
    os.chdir(setup.cwd)
    status = _supervise(fork_child(lambda: _hold(fd, setup, is_preloaded=True)), runner, fd)
    if status == _UNFIT:
        status = _supervise(fork_child(lambda: _hold(fd, setup, is_preloaded=False)), runner, fd)
    os._exit(status)


def _supervise(holder: int, runner: int, fd: int) -> int:
    """Waits for the holder to end, or ends it when the runner does. Afterwards nothing of the worker lives."""
    ended = os.pidfd_open(holder)
    poll = select.poll()
    for one in (ended, runner):
        poll.register(one, select.POLLIN)
    poll.register(fd, 0)  # only the end of the connection, which poll always reports
    try:
        while ended not in (ready := [found for found, _ in poll.poll()]):
            if ready:
                signal.pidfd_send_signal(ended, signal.SIGKILL)
                break
    finally:
        os.close(ended)
    # The zygote is this process's to reap when the holder was killed before it could.
    return reap_all()[holder]


def _hold(fd: int, setup: Setup, *, is_preloaded: bool) -> int:
    """Enters the namespaces, and waits for the zygote, the first process of the pid namespace."""
    supervisor = os.getppid()
    others = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC
    is_privileged = bool(capabilities.capget().effective >> _CAP_SYS_ADMIN & 1)
    try:
        if is_privileged:
            unshare(others)
        else:
            enter_user_namespace(others)
    except OSError as error:
        _give_up(Channel(fd), f"a box needs namespaces of its own, and this machine refuses them: {error}", _HINT)
        return _ENDED
    set_pdeathsig()  # forgotten by the kernel when the user namespace was entered
    if os.getppid() != supervisor:
        return _ENDED
    return wait_for(fork_child(lambda: _live(fd, setup, is_preloaded=is_preloaded, is_privileged=is_privileged)))


def _live(fd: int, setup: Setup, *, is_preloaded: bool, is_privileged: bool) -> int:
    """The zygote's life; the status it ends with."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which pid 1 is deaf to
    channel = Channel(fd)
    try:
        apply_operations([SetPropagation("/", "private")])
        facts = read_host_facts(setup.hidden, os.environ)
        views = Views(facts, scratch_root=setup.scratch_root)
        views.prepare(Box())
        _limit_rights()
    except (HostError, OSError) as error:
        message, hint = (error.message, error.hint) if isinstance(error, HostError) else (str(error), "")
        _give_up(channel, f"no view for tasks can be made: {message}", hint or _HINT)
        return _ENDED
    dropped = {name: os.environ.pop(name) for name in DROPPED_VARIABLES if name in os.environ}
    ours = list_descriptors()
    if is_preloaded and setup.preload:
        status = _preload(setup, channel, ours)
        if status:
            return status
    kept = tuple(one for one in list_descriptors() if one not in ours)
    os.environ["TMPDIR"] = TMP
    tempfile.tempdir = None  # what was found while the pipeline was imported
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a task prints is shown as it comes
    zygote = Zygote(
        channel=channel,
        views=views,
        facts=facts,
        environment=dict(os.environ),
        dropped_environment=dropped,
        null_fd=os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC),
        kept_fds=kept,
        umask=os.umask(0),
        scratch_root=setup.scratch_root,
        output_limit_bytes=setup.output_limit_bytes,
        preload="" if is_preloaded else setup.preload,
        preload_argument=setup.preload_argument,
    )
    channel.send(Ready("fork" if is_preloaded else "fresh", "root" if is_privileged else "user namespace"))
    gc.collect()
    gc.freeze()  # the collector would write to every page of the pipeline, in every child
    return _serve(zygote)


def _preload(setup: Setup, channel: Channel, ours: Collection[int]) -> int:
    """Imports the pipeline; the status to end with, 0 if tasks can be forked from this process."""
    try:
        load_function(setup.preload)(setup.preload_argument)
    except BaseException as error:  # noqa: BLE001  the pipeline's code; whatever it raises is for the runner
        text = "".join(traceback.format_exception(error))
        _give_up(channel, f"the pipeline cannot be loaded: {explain_failure(error)}", traceback_text=text)
        return _ENDED
    hazards = find_hazards(ours)
    if hazards:
        channel.send(Note(f"importing the pipeline {', '.join(hazards)}, so every task imports it anew"))
        channel.flush_all()
        return _UNFIT
    return 0


def _serve(zygote: Zygote) -> int:
    """Runs jobs, one at a time, until the runner is gone. With pid 1 the kernel then ends the namespace."""
    channel = zygote.channel
    poll = select.poll()
    poll.register(channel.fd, select.POLLIN)
    try:
        while not channel.is_closed:
            channel.flush_all()
            poll.poll()
            for message in channel.receive():
                if isinstance(message, Job):
                    _run(message, zygote)
    except EOFError:
        return 0
    return 0


def _run(job: Job, zygote: Zygote) -> None:
    finished, view = run_attempt(job, zygote)
    for note in zygote.views.notes:
        zygote.channel.send(Note(note))
    zygote.views.notes.clear()
    zygote.channel.send(finished)
    # Taking the mounts away takes as long as making them; the runner publishes meanwhile.
    if view is not None:
        view.close()


def _limit_rights() -> None:
    """Gives up what neither the zygote nor a child may do, for ever.

    The inheritable set is filled before the bounding set is emptied: a child of a box that keeps a capability can then
    keep it across the programs it executes.
    """
    held = capabilities.capget()
    capabilities.capset(effective=held.effective, permitted=held.permitted, inheritable=held.permitted)
    for number in range(capabilities.last_capability() + 1):
        capabilities.capbset_drop(number)
    set_no_new_privs()
    rules = {name: rule for name, rule in seccomp.default_rules().items() if name not in _NEEDED_CALLS}
    unshare_rule = rules["unshare"]
    rules["unshare"] = seccomp.Rule(
        unshare_rule.code, unshare_rule.argument, unshare_rule.any_bit & ~(CLONE_NEWNS | CLONE_NEWNET)
    )
    seccomp.install_filter(seccomp.compile_filter(rules, os.uname().machine))


def _give_up(channel: Channel, error: str, hint: str = "", *, traceback_text: str = "") -> None:
    channel.send(Ready(error=error, hint=hint, traceback=traceback_text))
    channel.flush_all()
