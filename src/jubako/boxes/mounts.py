"""What else is mounted in a box, as values: parts of this machine in other places, and empty file systems in memory.

Bind("/data/models", "/models", read_only=True)
Tmpfs("/scratch", size_bytes=64 << 20)
"""

from __future__ import annotations

import os

from jubako.errors import InputError
from jubako.records import record

__all__ = ["Bind", "Tmpfs"]


@record
class Bind:
    """Shows `source` of this machine at `target` in the box, with all that is mounted below it. What is written there
    is real at once, and no change of the box; nothing can be, if it is `read_only`."""

    source: str
    target: str
    read_only: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", os.path.abspath(os.path.expanduser(self.source)))
        object.__setattr__(self, "target", _absolute(self.target))


@record
class Tmpfs:
    """An empty file system in memory at `target`, gone with the box; as large as half of the memory by default."""

    target: str
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", _absolute(self.target))
        if self.size_bytes is not None and self.size_bytes < 1:
            raise InputError(f"a tmpfs of {self.size_bytes} bytes cannot hold anything")


def _absolute(target: str) -> str:
    if not target.startswith("/") or os.path.normpath(target) == "/":
        raise InputError(
            f"{target!r} is no place in a box to mount something on", hint="Give an absolute path, not '/'."
        )
    return os.path.normpath(target)
