"""A box that is not made ahead: one with limits, a private network, a user of its own, or an init.

What these take lasts as long as the box (groups, a watch, a program that carries the network), so a process of its own
sees to it, a fork of the server that does what `run_in_box` does. To the server it is like the first process of a box.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import time

from jubako.boxes.commands.launch import run_in
from jubako.boxes.commands.make import find_shared, plan_box, read_box_facts, try_anew
from jubako.boxes.commands.relay import RELAYED
from jubako.boxes.commands.report import SETUP_FAILED, describe_error, write_report
from jubako.boxes.profiles import get_profile
from jubako.boxes.resources.watch import Stop
from jubako.boxes.serving.messages import ENDED, ERROR, EXCEEDED, USAGE, Refused, Started, send
from jubako.boxes.state import StateRoot
from jubako.boxes.views.wide_view import WideView
from jubako.errors import JubakoError
from jubako.kernel.children import fork_child
from jubako.kernel.process import pidfd_open, set_process_name, signal_if_alive
from jubako.kernel.signals import signal
from jubako.layers.remove import remove_tree
from jubako.records import as_dict, record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.boxes.commands.first import Program
    from jubako.boxes.commands.make import NewBox
    from jubako.boxes.commands.supervise import Ended, Watching
    from jubako.boxes.serving.messages import Request
    from jubako.boxes.spec import Box
    from jubako.boxes.views.plan_wide import WideFacts

__all__ = ["SupervisedBox", "needs_supervisor", "start_supervised"]

_KILL = signal.SIGALRM  # said to the supervisor: end the box


def needs_supervisor(box: Box) -> bool:
    """True for a box that cannot be made ahead."""
    is_first = get_profile(box.profile).is_first
    return box.limits is not None or box.network == "private" or bool(box.user) or is_first


@record
class SupervisedBox:
    """The server's side of it."""

    new: NewBox
    pidfd: int  # of its supervisor

    def signal(self, number: int) -> None:
        """Sends the command a signal; one that cannot be caught ends the box."""
        if number == signal.SIGKILL:
            self.kill()
        elif number in RELAYED:
            signal_if_alive(self.pidfd, number)

    def kill(self) -> None:
        """Ends everything in the box, soon."""
        signal_if_alive(self.pidfd, _KILL)

    def bury(self) -> int:
        """Waits for the supervisor, which has ended or is about to; 0 if it has said how the command ended. Nothing of
        the box lives then."""
        ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        return SETUP_FAILED if ended is None or ended.si_code != os.CLD_EXITED else ended.si_status


def start_supervised(
    new: NewBox, request: Request, program: Program, answer: int, open_files: tuple[int, int]
) -> SupervisedBox:
    """Runs `program` in `new`, made for `request`, and says to the socket `answer` what came of it, when it has ended.

    `open_files` is what the command gets for RLIMIT_NOFILE, if its box has no limit of its own.
    """
    return SupervisedBox(new, pidfd_open(fork_child(lambda: _supervise(new, request, program, answer, open_files))))


class _Ear:
    """Watches as the box's own watch does, and ends the box when the server says so."""

    def __init__(self) -> None:
        self._inner: Watching | None = None
        self._pid = 0
        self._is_ended = False
        signal.signal(_KILL, self._hear)

    def around(self, inner: Watching | None) -> Watching:
        self._inner = inner
        return self

    def wait(self, pid: int, hand_down: Callable[[int], None]) -> Stop:
        self._pid = pid
        if self._is_ended:
            os.kill(pid, signal.SIGKILL)
        return Stop("") if self._inner is None else self._inner.wait(pid, hand_down)

    def _hear(self, _number: int, _frame: object) -> None:
        self._is_ended = True
        if self._pid:
            try:
                os.kill(self._pid, signal.SIGKILL)  # our child: the number is its own until it is waited for
            except ProcessLookupError:
                return


def _supervise(new: NewBox, request: Request, program: Program, answer: int, open_files: tuple[int, int]) -> int:
    """Runs the command and says how that went; 0 if all was said that there is to say."""
    set_process_name("jubako-super")
    os.setsid()
    resource.setrlimit(resource.RLIMIT_NOFILE, open_files)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which the server ignores
    ear = _Ear()

    def attempt(facts: WideFacts) -> tuple[Started, NewBox, Ended]:
        started_ns = time.time_ns()
        made = new if facts is new.facts else _make_anew(new, request, facts)
        made = replace(made, confinement=replace(made.confinement, own_session=True))
        record = made.describe(request.argv, request.cwd, started_ns)
        started = Started(record, (), made.copies, is_supervised=True)
        return started, made, run_in(made, program, watch=ear.around)

    def read_facts() -> WideFacts:
        return read_box_facts(StateRoot(request.state), request.environment, request.cwd)

    message: Started | Refused
    with socket.socket(fileno=os.dup(answer)) as asker:
        try:
            message, made, ended = try_anew(attempt, new.facts, read_facts)
            said = [*_describe(made, ended), (ENDED, str(ended.exit_status))]
        except (JubakoError, OSError) as error:
            message, said = Refused(tuple(describe_error(error))), []
        try:
            send(asker, message)
            write_report(answer, said)
        except (BrokenPipeError, ConnectionResetError):  # nobody waits any more
            return 0
    return 0


def _make_anew(new: NewBox, request: Request, facts: WideFacts) -> NewBox:
    """The same box, planned from fresh facts. Nothing of it is mounted, and nobody has written in it."""
    for name in os.listdir(new.directory):
        remove_tree(os.path.join(new.directory, name))
    return plan_box(request.box, WideView(facts, new.directory, find_shared(request.box)), new.lock)


def _describe(new: NewBox, ended: Ended) -> list[tuple[str, str]]:
    facts = [("note", note) for note in ended.notes]
    if ended.error:
        facts.append((ERROR, ended.error))
    limited = new.limited
    if limited is not None:
        facts += [("note", note) for note in limited.plan.notes]
        facts += [(EXCEEDED, said) for said in limited.describe(ended)]
        facts.append((USAGE, json.dumps(as_dict(limited.measure(ended)))))
    return facts
