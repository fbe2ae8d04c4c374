"""A helper that stays where this process was, to do there what can't be done from inside new namespaces.

Id maps are written with the caller's rights in the old user namespace, and a namespace is bound to a file in the old
mount namespace. The helper is forked before, and does a piece of its work whenever it is told to, until nobody can tell
it any more. It dies with its parent.

    down the pipe   one byte a piece of work       up   4 bytes of length, then "errno\\0message\\0hint", or nothing
"""

from __future__ import annotations

import os

from jubako.errors import HostError
from jubako.kernel.children import fork_child, wait_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Outside"]

_LENGTH_BYTES = 4


class Outside:
    """A helper process, alive as long as the `with` block. `work` is called in it, with each byte that `do` sends."""

    def __init__(self, work: Callable[[bytes], None]) -> None:
        orders, self._orders = os.pipe()
        self._reports, reports = os.pipe()

        def serve() -> int:
            os.close(self._orders)
            os.close(self._reports)
            while order := os.read(orders, 1):
                said = b""
                try:
                    work(order)
                except HostError as error:
                    code = error.__cause__.errno if isinstance(error.__cause__, OSError) else 0
                    said = b"\0".join(os.fsencode(text) for text in (str(code or 0), error.message, error.hint))
                os.write(reports, len(said).to_bytes(_LENGTH_BYTES, "little") + said)
            return 0

        try:
            self._pid = fork_child(serve)
        except BaseException:
            os.close(self._orders)
            os.close(self._reports)
            raise
        finally:
            os.close(orders)
            os.close(reports)

    def do(self, order: bytes = b".") -> None:
        """Has a piece of work done; returns when it is. Raises its HostError, whose cause has an errno."""
        os.write(self._orders, order)
        length = os.read(self._reports, _LENGTH_BYTES)
        if not length:
            raise HostError("a helper process has ended early", hint="Something has killed it; try again.")
        if size := int.from_bytes(length, "little"):
            code, message, hint = (os.fsdecode(word) for word in os.read(self._reports, size).split(b"\0"))
            raise HostError(message, hint=hint) from OSError(int(code), os.strerror(int(code)))

    def __enter__(self) -> Outside:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._pid:
            pid = self._pid
            self.leave_to_parent()
            wait_for(pid)

    def leave_to_parent(self) -> None:
        """In a child forked meanwhile: closes what this process has of the helper, which is not its own."""
        if self._pid:
            self._pid = 0
            os.close(self._orders)
            os.close(self._reports)
