"""A process that outlives its parent: out of its session, with nothing of it but what it is told to keep."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from jubako.kernel.detach import start_detached


def test_detached_process_has_a_session_null_streams_usual_signals_and_what_it_keeps(
    in_child: Callable[[Callable[[], object]], object],
) -> None:
    def start() -> list[str]:
        reads, writes = os.pipe()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        other = os.open("/", os.O_RDONLY)

        def run() -> int:
            streams = {os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)}
            try:
                os.fstat(other)
                others = "open"
            except OSError:
                others = "closed"
            is_leader = os.getsid(0) == os.getpid()
            usual = signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
            os.write(writes, f"{streams} {others} {is_leader} {usual} {os.getcwd()} {os.getsid(0)}".encode())
            return 0

        start_detached(run, keep=(writes,))
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            *said, session = pipe.read().decode().split()
        return [*said, str(session not in (str(os.getsid(0)), ""))]

    assert in_child(start) == ["{'/dev/null'}", "closed", "False", "True", "/", "True"]
