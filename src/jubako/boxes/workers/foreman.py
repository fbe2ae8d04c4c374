"""The process of a worker that makes views, sees jobs through and collects what they wrote. It runs no code of theirs.

It lives in the worker's user and mount namespaces, outside the pid namespace of the jobs, which cannot see it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket

from jubako.boxes.inside import FRAME_HEADER
from jubako.boxes.job import Job
from jubako.boxes.links import UNFIT, Grave, Links
from jubako.boxes.spec import Box
from jubako.boxes.views.apply import apply_operations
from jubako.boxes.views.facts import read_host_facts
from jubako.boxes.views.operations import SetPropagation
from jubako.boxes.views.plan import TMP
from jubako.boxes.views.view import Views
from jubako.boxes.workers.attempt import Workshop, run_attempt
from jubako.boxes.workers.errand import ZygoteGone, ZygoteLink
from jubako.boxes.workers.wire import Channel, Note, Ready, Setup
from jubako.boxes.workers.zygote import BROKEN, UNFIT_TO_FORK
from jubako.errors import HostError

__all__ = ["Foreman"]

_GC_THRESHOLD = 50_000  # a job makes some thousand objects, none of them in circles
_ENDED = 0
_FAILED = 1
_HINT = "`jubako doctor` says what is missing here"


class Foreman:
    """One worker's foreman; `work` is its life."""

    def __init__(
        self,
        channel: Channel,
        links: Links,
        grave: Grave,
        setup: Setup,
        *,
        is_preloaded: bool,
        is_privileged: bool,
    ) -> None:
        self._channel = channel
        self._links = links
        self._grave = grave
        self._setup = setup
        self._is_preloaded = is_preloaded
        self._is_privileged = is_privileged

    def work(self, zygote: int) -> int:
        """Serves the runner until it is gone; the status to exit with. The zygote, whose pid it gets, dies with this
        process."""
        try:
            apply_operations([SetPropagation("/", "private")])
            facts = read_host_facts(self._setup.hidden, os.environ)
            views = Views(facts, self._receive_proc(), scratch_root=self._setup.scratch_root)
            views.prepare(Box())
        except (HostError, OSError) as error:
            message, hint = (error.message, error.hint) if isinstance(error, HostError) else (str(error), "")
            self._give_up(f"no view for tasks can be made: {message}", hint or _HINT)
            return _FAILED
        dropped, status = self._await_zygote()
        if dropped is None:
            return status
        workshop = Workshop(
            channel=self._channel,
            zygote=ZygoteLink(self._links),
            views=views,
            facts=facts,
            environment={name: value for name, value in os.environ.items() if name not in dropped} | {"TMPDIR": TMP},
            dropped_environment=dropped,
            umask=os.umask(0),
            scratch_root=self._setup.scratch_root,
            zygote_pid=zygote,
        )
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        mode = "fork" if self._is_preloaded else "fresh"
        self._channel.send(Ready(mode, "root" if self._is_privileged else "user namespace"))
        try:
            self._serve(workshop)
        except EOFError:
            return _ENDED
        except ZygoteGone:
            return _FAILED
        return _ENDED

    def _receive_proc(self) -> int:
        """The /proc for views. Raises HostError if the zygote could not make one."""
        header, fds, _, _ = socket.recv_fds(self._links.control, FRAME_HEADER.size, 1)
        if fds:
            return fds[0]
        if not header:
            raise HostError("the process that was to make it ended")
        raise HostError(json.loads(_read_exactly(self._links, FRAME_HEADER.unpack(header)[1])))

    def _await_zygote(self) -> tuple[dict[str, str] | None, int]:
        """Waits until the pipeline is loaded: what was taken out of the environment, or None and a status."""
        header = _read_exactly(self._links, FRAME_HEADER.size)
        if not header:
            self._give_up("the pipeline cannot be loaded: the process that imported it ended")
            return None, _FAILED
        kind, size = FRAME_HEADER.unpack(header)
        told = json.loads(_read_exactly(self._links, size))
        if kind == BROKEN:
            self._give_up(f"the pipeline cannot be loaded: {told['error']}", traceback=told["traceback"])
            return None, _FAILED
        if kind == UNFIT_TO_FORK:
            self._channel.send(Note(f"importing the pipeline {', '.join(told)}, so every task imports it anew"))
            self._channel.flush_all()
            return None, UNFIT
        return told, _ENDED

    def _serve(self, workshop: Workshop) -> None:
        """Runs jobs, one at a time, until the runner is gone."""
        poll = select.poll()
        poll.register(self._channel.fd, select.POLLIN)
        while not self._channel.is_closed:
            self._channel.flush_all()
            poll.poll()
            for message in self._channel.receive():
                if isinstance(message, Job):
                    self._run(message, workshop)

    def _run(self, job: Job, workshop: Workshop) -> None:
        finished, view = run_attempt(job, workshop)
        if view is not None:
            self._grave.bury(view.close())
        for note in workshop.views.notes:
            self._channel.send(Note(note))
        workshop.views.notes.clear()
        self._channel.send(finished)
        workshop.views.begin_next()

    def _give_up(self, error: str, hint: str = "", *, traceback: str = "") -> None:
        self._channel.send(Ready(error=error, hint=hint, traceback=traceback))
        self._channel.flush_all()


def _read_exactly(links: Links, size: int) -> bytes:
    """`size` bytes from the zygote, or none if it has ended."""
    data = bytearray()
    while len(data) < size:
        piece = links.control.recv(size - len(data))
        if not piece:
            return b""
        data += piece
    return bytes(data)
