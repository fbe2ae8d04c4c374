"""The file that maps are kept in: an .npz archive, which `numpy.load` opens and `jubako verify` compares.

    about.npy     uint8: JSON in UTF-8: {"schema": "jubako.maps/1", "title", "queries", "keys", "layers", "heads",
                  "is_difference"}; may be missing, so that `numpy.savez(path, weights=...)` makes such a file too
    weights.npy   float32 or float64, (layers, heads, L, S)
    masked.npy    bool, axes as those of weights or of length 1; may be missing

Other members are left alone. A file is valid if its checksums hold and each member is as long as its head says. Nothing
is unpickled, nothing is trusted: sizes are looked at before memory is asked for. A file is published by rename.
"""

from __future__ import annotations

import errno
import json
import math
import os
import struct
import zipfile
import zlib

import numpy as np

from jubako.errors import HostError, InputError
from jubako.verify.arrays import read_array_head
from jubako.verify.content import open_regular
from jubako.verify.findings import Incomparable, Unreadable
from jubako.verify.publishing import publishing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["SCHEMA", "read_map_file", "write_map_file"]

SCHEMA = "jubako.maps/1"
_LARGEST_PACKED = 4 << 30  # bytes that a compressed file may grow to; others can't be larger than they are
_LARGEST_ABOUT = 64 << 20
_DATE = (1980, 1, 1, 0, 0, 0)  # the first a zip file can say: the same maps are the same bytes
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, ValueError)


def write_map_file(path: str | os.PathLike[str], arrays: Mapping[str, Any], about: Mapping[str, object]) -> None:
    """Writes the file; InputError or HostError if it can't be at `path`, where then nothing has changed."""
    text = json.dumps({"schema": SCHEMA, **about}, ensure_ascii=True).encode()
    members = {"about": np.frombuffer(text, np.uint8), **arrays}
    with publishing(path, b"about.npy", "file of maps") as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in members.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def read_map_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, object]]:
    """The arrays and what the file says about them. InputError: it is none; HostError: it can't be read."""
    name = os.fspath(path)
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            members = _find_members(archive, os.fstat(file.fileno()).st_size)
            arrays = {member: _read_array(archive, info) for member, info in members.items()}
            about = _parse_about(arrays.pop("about", None))
    except OSError as error:
        if error.errno == errno.EINVAL:  # the archive says that something is before its start
            raise _not_maps(name, error) from error
        if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
            raise InputError(f"{name} cannot be read: {error.strerror}") from error
        raise HostError(f"{name} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise HostError(f"{name} holds more than this machine has memory for") from error
    except (Unreadable, Incomparable, *_DAMAGE) as error:
        raise _not_maps(name, error) from error
    return arrays, about


def _not_maps(name: str, error: Exception) -> InputError:
    return InputError(f"{name} is no file of maps: {error}", hint="'Maps.save' and 'numpy.savez' write such")


def _find_members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name not in ("about", "weights", "masked"):
            continue
        if name in found:
            raise Unreadable(f"it has two arrays {name!r}")
        if info.compress_type == zipfile.ZIP_STORED and info.file_size > size:
            raise Unreadable(f"it says that {name!r} has {info.file_size:,} bytes, and has {size:,} in all")
        found[name] = info
    if "weights" not in found:
        raise Unreadable("it has no array 'weights'")
    if (total := sum(info.file_size for info in found.values())) > max(size, _LARGEST_PACKED):
        raise Unreadable(f"it would unpack to {total:,} bytes, more than the {_LARGEST_PACKED:,} that are read")
    if "about" in found and found["about"].file_size > _LARGEST_ABOUT:
        raise Unreadable(f"what it says of itself has {found['about'].file_size:,} bytes")
    return found


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    with archive.open(info) as member:
        stored = read_array_head(member)
        length = math.prod(stored.shape) * stored.dtype.itemsize
        if length > info.file_size:
            raise Unreadable(f"its shape {stored.shape} is more than {info.file_size:,} bytes hold")
        array = stored.read(stored.count).reshape(stored.shape, order=stored.order)
        if stored.stream.read(1):  # the end is read for its checksum, too
            raise Unreadable(f"{info.filename!r} is longer than its shape {stored.shape}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _parse_about(array: Any) -> dict[str, object]:
    if array is None:
        return {}
    if array.dtype != np.uint8:
        raise Unreadable(f"what it says of itself is of type {array.dtype}, not of bytes")
    try:
        about = json.loads(array.tobytes())
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"what it says of itself is no JSON: {error}") from error
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        raise Unreadable(f"it does not say that it is of the schema {SCHEMA}")
    return about
