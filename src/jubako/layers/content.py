"""What a file or a tree holds, as a digest: to tell whether a copy has become what it is a copy of."""

from __future__ import annotations

import hashlib
import os
import stat

from jubako.layers.copy import open_to_read
from jubako.layers.walk import Folder, open_top, walk

__all__ = ["digest_content"]

_CHUNK = 1 << 20


def digest_content(path: str) -> str:
    """The digest of a file, a symbolic link or a directory with all below it.

    It covers names, types, permissions, modification times, sizes, where links point, and every byte of every file. It
    does not cover owners and attributes, which not every copy can keep. Raises OSError where something cannot be read.
    """
    digest = hashlib.blake2b(digest_size=32)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        _add_entry(digest, path, None, found)
        return digest.hexdigest()
    with open_top(path) as top:
        for folder in walk(top):
            _add_folder(digest, folder)
    return digest.hexdigest()


def _add_folder(digest: hashlib.blake2b, folder: Folder) -> None:
    _add_fields(digest, os.fsencode(folder.path), *_facts(folder.state))
    for name, found in folder.entries:
        if not stat.S_ISDIR(found.st_mode):
            _add_fields(digest, os.fsencode(name))
            _add_entry(digest, name, folder.fd, found)


def _add_entry(digest: hashlib.blake2b, name: str, dir_fd: int | None, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        _add_fields(digest, *_facts(found), os.fsencode(os.readlink(name, dir_fd=dir_fd)))
        return
    _add_fields(digest, *_facts(found), b"%d" % found.st_size)
    if stat.S_ISREG(found.st_mode):
        with open_to_read(name, dir_fd, found) as fd:
            while chunk := os.read(fd, _CHUNK):
                digest.update(chunk)


def _facts(found: os.stat_result) -> tuple[bytes, bytes]:
    return b"%o" % found.st_mode, b"%d" % found.st_mtime_ns


def _add_fields(digest: hashlib.blake2b, *fields: bytes) -> None:
    for field in fields:
        digest.update(b"%d:" % len(field) + field)
