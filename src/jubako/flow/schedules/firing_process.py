"""A firing in a process of its own, so that runs may overlap and nothing a pipeline does disturbs the scheduler.

It is in a process group of its own too: a Ctrl-C on a terminal is for the scheduler, which passes it on or not. When
the scheduler is killed, it goes on to its end.
"""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jubako.flow.schedules.schedule import Schedule

__all__ = ["FiringProcess", "ProcessLauncher"]


class FiringProcess:
    """A process that was started with the words of a command line."""

    def __init__(self, words: Sequence[str], environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(words, env=environ, stdin=subprocess.DEVNULL, process_group=0)
        try:
            self._fd = os.pidfd_open(self._process.pid)
        except OSError:
            self._process.terminate()
            self._process.wait()
            raise

    def fileno(self) -> int:
        return self._fd

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        return code

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGTERM)


class ProcessLauncher:
    """Starts firings by a command line: `words`, those that say which firing, and the pipeline.

    They share a terminal, if there is one, so none of them may move about on it: to them it is a dumb one.
    """

    def __init__(self, words: Sequence[str], pipeline: str, environ: Mapping[str, str]) -> None:
        self._words = words
        self._pipeline = pipeline
        self._environ = {**environ, "TERM": "dumb"}

    def start(self, schedule: Schedule, moment_s: int) -> FiringProcess:
        moment = datetime.datetime.fromtimestamp(moment_s, datetime.UTC)
        which = [f"--fire={schedule.name}", f"--at={moment.isoformat()}"]
        return FiringProcess([*self._words, *which, "--", self._pipeline], self._environ)
