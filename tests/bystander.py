"""A process that does something and then stands by, for tests that look at processes and their namespaces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bystander(prepare: Callable[[], object]) -> Iterator[int]:
    """The pid of a fork that has called `prepare` and lives as long as the block."""
    ready, proceed = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            os.write(ready[1], b".")
            os.close(proceed[1])
            os.read(proceed[0], 1)
        finally:
            os._exit(0)
    os.close(ready[1])
    try:
        assert os.read(ready[0], 1) == b".", "the bystander failed"
        yield pid
    finally:
        for fd in (ready[0], *proceed):
            os.close(fd)
        os.waitpid(pid, 0)
