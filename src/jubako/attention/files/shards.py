"""Models whose weights are in several files: an index says which tensor is in which of them, its shards.

    {"metadata": {"total_size": 1234}, "weight_map": {"layers.0.mlp.weight": "model-00001-of-00002.safetensors", ...}}

Nothing in it is trusted: shards are files beside it and nowhere else (but in the cache of the Hugging Face Hub, where
they are links into the folder `blobs`); each has all of the tensors that it is said to have and no others, no tensor is
in two of them, and together they are as large as is said. Of each shard no more is read than its header, and the
tensors that are asked for.
"""

from __future__ import annotations

import json
import os
from collections import Counter

from jubako.errors import InputError
from jubako.records import record
from jubako.verify.content import open_regular
from jubako.verify.weight_file import WeightFile, open_weights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

    from jubako.verify.weight_file import Stored

    AnyWeights: TypeAlias = "WeightFile | Shards"

__all__ = ["Shards", "open_any_weights", "path_of_weights"]

_WHOLE = "model.safetensors"
_INDEX = f"{_WHOLE}.index.json"
_MOST = 64 << 20  # bytes of an index


@record
class Shards:
    """The tensors of all shards, each to be read from its own."""

    path: str  # of the index
    tensors: Mapping[str, Stored]
    files: Mapping[str, WeightFile]  # by the names of tensors

    def read(self, name: str) -> Any:
        """The numbers of a tensor, as `WeightFile.read` gives them."""
        return self.files[name].read(name)


def path_of_weights(path: str) -> str:
    """The file of weights, or the index of several: `path`, or what a folder has of them. InputError if it has none."""
    if not os.path.isdir(path):
        return path
    there = [os.path.join(path, name) for name in (_WHOLE, _INDEX) if os.path.lexists(os.path.join(path, name))]
    if not there:
        raise InputError(f"{path} has neither {_WHOLE} nor {_INDEX}", hint="Name the file itself, if it has another.")
    return there[0]


def open_any_weights(path: str) -> AnyWeights:
    """The tensors of a file, of an index's shards, or of what a folder has. InputError for what is not whole."""
    path = path_of_weights(path)
    return _open_shards(path) if path.endswith(".index.json") else open_weights(path)


def _open_shards(path: str) -> Shards:
    placed, total = _read_index(path)
    folder = os.path.dirname(path) or "."
    shards = {name: open_weights(_find_shard(path, folder, name)) for name in dict.fromkeys(placed.values())}
    homes: dict[str, str] = {}
    for name, shard in shards.items():
        for tensor in shard.tensors:
            if tensor in homes:
                both = " and ".join(sorted((homes[tensor], name)))
                raise _refuse(path, f"{tensor[:80]!r} is in two of its shards, {both}")
            homes[tensor] = name
    for tensor, name in placed.items():
        if homes.get(tensor) != name:
            raise _refuse(path, f"it says that {tensor[:80]!r} is in {name}, which does not have it")
    if more := homes.keys() - placed.keys():
        tensor = min(more)
        raise _refuse(path, f"{homes[tensor]} has {tensor[:80]!r}, of which it says nothing")
    tensors = {tensor: shards[name].tensors[tensor] for tensor, name in placed.items()}
    size = sum(stored.size for stored in tensors.values())
    if total is not None and total != size:
        raise _refuse(path, f"it says that its tensors are {total:,} bytes, and they are {size:,}")
    return Shards(path, tensors, {tensor: shards[name] for tensor, name in placed.items()})


def _read_index(path: str) -> tuple[dict[str, str], int | None]:
    """In which shard each tensor is, and how many bytes all of them are, if that is said."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MOST:
                raise _refuse(path, f"it is {size:,} bytes long, and {_MOST:,} are read")
            text = file.read(_MOST + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    try:
        index = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _refuse(path, f"it is no JSON: {str(error)[:100]}") from error
    placed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
        raise _refuse(path, "it has no weight_map that says the shard of each tensor by its name")
    metadata = index.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if metadata is not None and not isinstance(metadata, dict):
        raise _refuse(path, "its metadata are no table")
    if total is not None and (type(total) not in (int, float) or not 0 <= total < 1 << 62 or total != int(total)):
        raise _refuse(path, f"its total_size is {str(total)[:40]}, and must be a number of bytes")
    return placed, None if total is None else int(total)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"it has {twice[:80]!r} twice")
    return found


def _find_shard(path: str, folder: str, name: str) -> str:
    """The path of a shard, which is a file beside the index. InputError for one that would be elsewhere, or is not."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise _refuse(path, f"its shard {name[:80]!r} is not the name of a file beside it")
    shard = os.path.join(folder, name)
    if not os.path.lexists(shard):
        raise _refuse(path, f"its shard {name[:80]!r} is missing")
    homes = [os.path.realpath(folder)]
    if os.path.basename(os.path.dirname(homes[0])) == "snapshots":
        homes.append(os.path.join(os.path.dirname(os.path.dirname(homes[0])), "blobs"))
    real = os.path.realpath(shard)
    if os.path.dirname(real) not in homes:
        raise _refuse(path, f"its shard {name[:80]!r} is a link that leads elsewhere, to {real[:200]!r}")
    return shard


def _refuse(path: str, why: str) -> InputError:
    return InputError(f"{path} is no index of weights that could be read: {why}")
