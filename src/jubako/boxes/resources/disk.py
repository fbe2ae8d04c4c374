"""How much of the disk directories take, while others write to them. What vanishes meanwhile is not counted."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["measure_directories"]

_BLOCK_BYTES = 512  # what st_blocks counts in, whatever the file system


def measure_directories(paths: Iterable[str]) -> int:
    """The bytes that all files at and below `paths` take, each once. Directories that cannot be read count as empty."""
    total = 0
    seen: set[tuple[int, int]] = set()  # of files with several names
    for path in paths:
        for _folder, _directories, names, fd in os.fwalk(path):
            for name in names:
                try:
                    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except OSError:  # it is gone
                    continue
                if found.st_nlink > 1 and not stat.S_ISCHR(found.st_mode):
                    key = (found.st_dev, found.st_ino)
                    if key in seen:
                        continue
                    seen.add(key)
                total += found.st_blocks * _BLOCK_BYTES
    return total
