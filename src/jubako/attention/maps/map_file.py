"""The file that maps are kept in: an .npz archive, which `numpy.load` opens and `jubako verify` compares.

    about.npy     uint8: JSON in UTF-8: {"schema": "jubako.maps/1", "title", "queries", "keys", "layers", "heads",
                  "is_difference"}; may be missing, so that `numpy.savez(path, weights=...)` makes such a file too
    weights.npy   float32 or float64, (layers, heads, L, S)
    masked.npy    bool, axes as those of weights or of length 1; may be missing

Other members are left alone. A file is valid if its checksums hold and each member is as long as its head says. Nothing
is unpickled, nothing is trusted: sizes are looked at before memory is asked for. A file is published by rename.
"""

from __future__ import annotations

import json
import os
import zipfile

import numpy as np

from jubako.attention.array_file import open_arrays, read_archive
from jubako.errors import InputError
from jubako.verify.findings import Unreadable
from jubako.verify.publishing import publishing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["SCHEMA", "read_map_file", "write_map_file"]

SCHEMA = "jubako.maps/1"
_LARGEST_ABOUT = 64 << 20
_DATE = (1980, 1, 1, 0, 0, 0)  # the first a zip file can say: the same maps are the same bytes
_MEMBERS = ("about", "weights", "masked")


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
    with open_arrays(path, _not_maps) as file:
        arrays = read_archive(file, _MEMBERS)
        if "weights" not in arrays:
            raise Unreadable("it has no array 'weights'")
        about = _parse_about(arrays.pop("about", None))
    return arrays, about


def _not_maps(name: str, error: Exception) -> InputError:
    return InputError(f"{name} is no file of maps: {error}", hint="'Maps.save' and 'numpy.savez' write such")


def _parse_about(array: Any) -> dict[str, object]:
    if array is None:
        return {}
    if array.nbytes > _LARGEST_ABOUT:
        raise Unreadable(f"what it says of itself has {array.nbytes:,} bytes")
    if array.dtype != np.uint8:
        raise Unreadable(f"what it says of itself is of type {array.dtype}, not of bytes")
    try:
        about = json.loads(array.tobytes())
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"what it says of itself is no JSON: {error}") from error
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        raise Unreadable(f"it does not say that it is of the schema {SCHEMA}")
    return about
