"""Arrays in .npy files and .npz archives, from strangers: all that is in one is read, or the file is refused.

Nothing is unpickled, nothing is trusted: sizes are looked at before memory is asked for, and no archive unpacks to more
than a few times what any real one does. Checksums have to hold. Numbers come in the byte order of this machine.
"""

from __future__ import annotations

import errno
import math
import os
import struct
import zipfile
import zlib
from contextlib import contextmanager

from jubako.errors import HostError, InputError
from jubako.verify.arrays import read_array_head
from jubako.verify.content import open_regular
from jubako.verify.findings import Incomparable, Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any, BinaryIO

__all__ = ["open_arrays", "read_archive", "read_array"]

_LARGEST_PACKED = 4 << 30  # bytes that a compressed file may grow to; others can't be larger than they are
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, ValueError)


@contextmanager
def open_arrays(path: str | os.PathLike[str], refuse: Callable[[str, Exception], InputError]) -> Iterator[BinaryIO]:
    """The file, to be read within. What is damaged in it raises what `refuse` makes of its name and the reason.

    InputError: there is none, or it is no regular file; HostError: it can't be read.
    """
    name = os.fspath(path)
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        if error.errno == errno.EINVAL:  # the archive says that something is before its start
            raise refuse(name, error) from error
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise InputError(f"{name} cannot be read: {error.strerror}") from error
        raise HostError(f"{name} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise HostError(f"{name} holds more than this machine has memory for") from error
    except (Unreadable, Incomparable, *_DAMAGE) as error:
        raise refuse(name, error) from error


def read_archive(file: BinaryIO, only: Collection[str] = ()) -> dict[str, Any]:
    """The arrays of an archive by name, those called so, or all. Unreadable and others within `open_arrays`."""
    with zipfile.ZipFile(file) as archive:
        members = _find_members(archive, os.fstat(file.fileno()).st_size, only)
        return {name: _read_member(archive, info) for name, info in members.items()}


def read_array(file: BinaryIO) -> Any:
    """The array of a file that holds one."""
    return _read(file, os.fstat(file.fileno()).st_size, "the file")


def _find_members(archive: zipfile.ZipFile, size: int, only: Collection[str]) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if only and name not in only:
            continue
        if name in found:
            raise Unreadable(f"it has two arrays {name!r}")
        if info.flag_bits & 1:
            raise Unreadable(f"its array {name!r} is encrypted")
        if info.compress_type == zipfile.ZIP_STORED and info.file_size > size:
            raise Unreadable(f"it says that {name!r} has {info.file_size:,} bytes, and has {size:,} in all")
        found[name] = info
    if (total := sum(info.file_size for info in found.values())) > max(size, _LARGEST_PACKED):
        raise Unreadable(f"it would unpack to {total:,} bytes, more than the {_LARGEST_PACKED:,} that are read")
    return found


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    with archive.open(info) as member:
        return _read(member, info.file_size, repr(info.filename))


def _read(stream: Any, size: int, shown: str) -> Any:
    stored = read_array_head(stream)
    if math.prod(stored.shape) * stored.dtype.itemsize > size:
        raise Unreadable(f"its shape {stored.shape} is more than {size:,} bytes hold")
    array = stored.read(stored.count).reshape(stored.shape, order=stored.order)
    if stored.stream.read(1):  # the end is read for its checksum, too
        raise Unreadable(f"{shown} is longer than its shape {stored.shape}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
