"""Digests of what files and directories hold, remembered by what `stat` says of them.

A digest is remembered for a path as long as device, inode, size and both times are the same; one that was taken within
two seconds of the last change is not, because a second change within the clock's grain would go unseen. Links are
followed. A directory is its entries: names, kinds, contents of files, where links point; not modes, owners or times.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from typing import Any, Final

from jubako.boxes.transactions.signature import take_signature

__all__ = ["ContentDigests"]

_GRAIN_NS: Final = 2_000_000_000
_PIECE: Final = 1 << 20


class ContentDigests:
    """Takes digests. `find` answers what is remembered of a path, as (signature, digest); `new` is to be remembered."""

    def __init__(self, find: Callable[[str], tuple[str, str] | None], wall_s: Callable[[], float]) -> None:
        self.new: dict[str, tuple[str, str]] = {}
        self._find = find
        self._wall_s = wall_s

    def take(self, path: str) -> str:
        """The digest of what is at `path`; "" if there is nothing. OSError where it cannot be read."""
        real = os.path.realpath(path)
        try:
            found = os.stat(real)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        is_directory = stat.S_ISDIR(found.st_mode)
        signature = _sign_directory(real) if is_directory else _sign_file(found)
        known = self.new.get(real) or self._find(real)
        if known is not None and known[0] == signature:
            return known[1]
        digest = _digest_directory(real) if is_directory else _digest_file(real)
        if is_directory or self._wall_s() * 1e9 - max(found.st_mtime_ns, found.st_ctime_ns) > _GRAIN_NS:
            self.new[real] = (signature, digest)
        return digest


def _sign_file(found: os.stat_result) -> str:
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _sign_directory(path: str) -> str:
    signature = take_signature(path)
    return "" if signature is None else f"{signature.device} {signature.inode} {signature.tree}"


def _digest_file(path: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    _read_into(digest, path)
    return digest.hexdigest()


def _digest_directory(top: str) -> str:
    """Walks with a list, so that depth costs nothing."""
    digest = hashlib.blake2b(digest_size=16)
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(os.path.join(top, folder)) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            inside = os.path.join(folder, entry.name)
            kind = "l" if entry.is_symlink() else "d" if entry.is_dir() else "f" if entry.is_file() else "?"
            digest.update(f"{kind} {len(os.fsencode(inside))} ".encode() + os.fsencode(inside))
            if kind == "l":
                digest.update(os.fsencode(os.readlink(entry.path)))
            elif kind == "d":
                waiting.append(inside)
            elif kind == "f":
                digest.update(f" {entry.stat().st_size} ".encode())
                _read_into(digest, entry.path)
    return digest.hexdigest()


def _read_into(digest: Any, path: str) -> None:
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
