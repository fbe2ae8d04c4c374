"""Boxes made ahead, by what was asked for last: the next command that wants the same is started in one of them.

A box made ahead shows the machine's files as they are when they are looked at: nothing has been looked up in it. What
it was planned from (mounts, directories of the user's, sockets, the resolver's files) is looked at again when it is
given out, unless that was done within the last second and nothing was mounted since. The directories that its overlays
lie over must be the same ones always. A box that does not fit any more is thrown away, and one that does is made.
"""

from __future__ import annotations

import os
import select
import time

from jubako.boxes.commands.confine import NotStarted
from jubako.boxes.commands.make import FACT_VARIABLES, make_new_box, read_box_facts, try_anew
from jubako.boxes.commands.report import raise_reported
from jubako.boxes.serving.ready import ReadyBox, start_ready
from jubako.boxes.serving.scripts import Scripts
from jubako.boxes.state import StateRoot
from jubako.errors import JubakoError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.serving.messages import Request
    from jubako.boxes.views.plan_wide import WideFacts

__all__ = ["Stock"]

_AHEAD = 2  # one is given out while the next is being made
_TRUSTED_S = 1.0
_REFUSALS_AT_MOST = 3  # a mount that goes meanwhile is one; what this machine refuses, it goes on to refuse
_FORGOTTEN_AT = 64  # requests of different kinds whose facts are remembered


@record
class _Kind:
    """What decides how a box is made."""

    box: object
    state: str
    cwd: str
    environment: tuple[str | None, ...]  # of FACT_VARIABLES


class Stock:
    """Makes boxes, some ahead of being asked for. `open_files` is what their commands get for RLIMIT_NOFILE, `program`
    the compiled first process of a box, if there is one."""

    def __init__(self, open_files: tuple[int, int], program: str = "") -> None:
        self._open_files = open_files
        self._refusals = 0  # of the compiled program, one after the other
        self._scripts = Scripts(program) if program else None
        self._shelf: list[tuple[ReadyBox, tuple[tuple[int, int], ...]]] = []  # with the directories they lie over
        self._wanted: Request | None = None
        self._facts: dict[_Kind, tuple[float, WideFacts]] = {}
        self._mounts = open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
        self._mounts_poll = select.poll()
        self._mounts_poll.register(self._mounts, select.POLLPRI | select.POLLERR)

    def take(self, request: Request) -> ReadyBox:
        """A box for `request`, ready for its command. Raises InputError, HostError."""
        facts = self._read_facts(request)
        is_same = self._wanted is not None and self._wanted.box == request.box and self._wanted.state == request.state
        if not is_same:
            self.clear()
        self._wanted = request
        while self._shelf:
            ready, inodes = self._shelf.pop(0)
            if self._fits(ready, facts) and _read_inodes(ready) == inodes and ready.wait_until_ready():
                return ready
            throw_away(ready)
        return try_anew(lambda facts: self._make(request, facts), facts, lambda: self._read_facts(request, anew=True))

    @property
    def lacks(self) -> bool:
        """True if there should be more boxes for requests like the last."""
        return self._wanted is not None and len(self._shelf) < _AHEAD

    def fill(self) -> None:
        """Makes one box more, if there should be more."""
        if self._wanted is None or not self.lacks:
            return
        try:
            ready = self._begin(self._wanted, self._read_facts(self._wanted))
        except (JubakoError, OSError):  # who asks next will hear of it
            self._wanted = None
            return
        self._shelf.append((ready, _read_inodes(ready)))

    def clear(self) -> None:
        """Throws away what was made ahead."""
        while self._shelf:
            throw_away(self._shelf.pop()[0])
        self._refusals = 0

    def _make(self, request: Request, facts: WideFacts) -> ReadyBox:
        ready = self._begin(request, facts)
        is_ready = ready.wait_until_ready()
        if ready.is_compiled:
            self._refusals = 0 if is_ready else self._refusals + 1
        if ready.is_compiled and not is_ready:  # one that is forked does without what is refused, or says why
            throw_away(ready)
            ready = self._begin(request, facts, compiled=False)
            is_ready = ready.wait_until_ready()
        if not is_ready:
            throw_away(ready)
            raise_reported(ready.facts)
            raise NotStarted("the first process of the box was killed before it was ready")
        return ready

    def _begin(self, request: Request, facts: WideFacts, *, compiled: bool = True) -> ReadyBox:
        """A box that is being made: its first process does the rest."""
        scripts = self._scripts if compiled and self._refusals < _REFUSALS_AT_MOST else None
        new = make_new_box(request.box, StateRoot(request.state), facts)
        try:
            return start_ready(new, self._open_files, scripts)
        except BaseException:
            new.abandon()
            raise

    def _fits(self, ready: ReadyBox, facts: WideFacts) -> bool:
        """True if a box made now, from `facts`, would be planned as `ready` was."""
        if ready.new.facts is facts:
            return True
        return replace(ready.new.view, facts=facts).plan() == ready.new.plan

    def _read_facts(self, request: Request, *, anew: bool = False) -> WideFacts:
        """The facts, those of a moment ago where nothing can have changed but what does not hurt."""
        environment = tuple(request.environment.get(name) for name in FACT_VARIABLES)
        kind = _Kind(request.box, request.state, request.cwd, environment)
        now = time.monotonic()
        if self._has_mounted():
            self._facts.clear()
        known = self._facts.get(kind)
        if known is not None and not anew and now - known[0] < _TRUSTED_S:
            return known[1]
        facts = read_box_facts(StateRoot(request.state), request.environment, request.cwd)
        if known is not None and known[1] == facts:
            facts = known[1]
        if len(self._facts) >= _FORGOTTEN_AT:
            self._facts.clear()
        self._facts[kind] = (now, facts)
        return facts

    def _has_mounted(self) -> bool:
        """True if something was mounted or unmounted since this was last asked."""
        return bool(self._mounts_poll.poll(0))


def throw_away(ready: ReadyBox) -> None:
    """Ends a box and removes what it holds."""
    ready.kill()
    ready.bury()
    ready.new.drop()


def _read_inodes(ready: ReadyBox) -> tuple[tuple[int, int], ...]:
    found = []
    for top in ready.new.plan.tops:
        try:
            status = os.stat(top.target)
        except OSError:
            found.append((0, 0))
        else:
            found.append((status.st_dev, status.st_ino))
    return tuple(found)
