"""A helper that stays where this process was, to do there what can't be done from inside new namespaces.

Id maps are written with the caller's rights in the old user namespace, and a namespace is bound to a file in the old
mount namespace. The helper is forked before, waits until it is told, does its one work, and ends. It dies with its
parent.
"""

from __future__ import annotations

import os

from jubako.errors import HostError
from jubako.kernel.children import fork_child, wait_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Outside"]

_GO = b"."
_REPORT_BYTES = 1 << 16


class Outside:
    """A helper process with one work to do. Used once: `do`, or by `with` alone it ends without having done it."""

    def __init__(self, work: Callable[[], None]) -> None:
        ready, self._go = os.pipe()
        self._report, report = os.pipe()

        def wait_and_work() -> int:
            os.close(self._go)
            if os.read(ready, 1) != _GO:
                return 0
            try:
                work()
            except HostError as error:
                os.write(report, b"\0".join(os.fsencode(text) for text in (error.message, error.hint)))
                return 1
            return 0

        try:
            self._pid = fork_child(wait_and_work)
        except BaseException:
            os.close(self._go)
            os.close(self._report)
            raise
        finally:
            os.close(ready)
            os.close(report)

    def do(self) -> None:
        """Has the work done; returns when it is. Raises the HostError it ended with."""
        os.write(self._go, _GO)
        status = self._end()
        if status:
            message, _, hint = self._answer.partition(b"\0")
            raise HostError(os.fsdecode(message) or f"a helper process ended with {status}", hint=os.fsdecode(hint))

    def __enter__(self) -> Outside:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._pid:
            self._end()

    def leave_to_parent(self) -> None:
        """In a child forked meanwhile: closes what this process has of the helper, which is not its own."""
        if self._pid:
            self._pid = 0
            os.close(self._go)
            os.close(self._report)

    def _end(self) -> int:
        os.close(self._go)
        self._answer = os.read(self._report, _REPORT_BYTES)
        os.close(self._report)
        pid, self._pid = self._pid, 0
        return wait_for(pid)
