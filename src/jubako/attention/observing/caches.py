"""Keys and values of earlier calls, from a cache of the transformers library: what it holds, and whether that is right.

Of calls that were watched one after another it is known what the cache must hold: what the reference gave for the keys
and values of the earlier ones. So a cache that is stale, or one position off, shows. Sequences may have been put into
another order since, or cut (beams, windows): each is looked up by what it holds. A part of a cache that a watched call
has filled, and that holds something else now, has to hold what it did. What nobody saw being put there is taken as
given, and that is said.
"""

from __future__ import annotations

import numpy as np
import torch

from jubako.attention.description import Past
from jubako.attention.observing.roles import to_array
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from jubako.attention.checking.judge import Expected
    from jubako.attention.description import Array

__all__ = ["AS_GIVEN", "CacheMemory", "Held", "find_held", "find_spare", "layer_of_cache"]

AS_GIVEN = "the keys and values in its cache are taken as given: nobody saw them being put there"

_NAMES = ("cache", "past_key_values", "past_key_value", "layer_past")
_FIXED = "StaticLayer"  # which has room for so many from the first call on, and gives all of it
_KNOWN = ("DynamicLayer", "DynamicSlidingWindowLayer", _FIXED)  # which append, and give back all they hold


@record
class Held:
    """What a cache held for a module when a call began: (B, Hk, P, D) each."""

    keys: torch.Tensor
    values: torch.Tensor
    layer: Any  # the part of the cache that held it


@record
class _Put:
    """What a cache held when a call ended, and what the reference says that has to be: (B, Hk, P, D) each."""

    held: Held
    right: Past


def layer_of_cache(module: Any, given: Mapping[str, Any]) -> Any:
    """The part of a cache that belongs to a module that attends to its own sequence; None without, or if it has none.

    InputError for a cache of which it is not known that it does nothing but append.
    """
    cache = next((given[name] for name in _NAMES if given.get(name) is not None), None)
    if cache is None or not hasattr(cache, "get_seq_length"):
        return None
    cache = getattr(cache, "self_attention_cache", cache)
    number = getattr(getattr(module, "self", module), "layer_idx", 0) or 0
    layers = getattr(cache, "layers", ())
    layer = layers[number] if number < len(layers) else None
    kinds = [type(each) for each in (cache, layer) if each is not None]
    strange = [kind.__name__ for kind in kinds if not kind.__module__.startswith("transformers.")]
    if layer is not None and not strange and type(layer).__name__ not in _KNOWN:
        strange = [type(layer).__name__]
    if strange:
        raise InputError(f"it is called with a cache, a {strange[0]}, that is not known to do nothing but append")
    return layer


def find_held(layer: Any) -> Held | None:
    """What part of a cache holds; None if that is nothing."""
    if layer is None or not int(layer.get_seq_length()):
        return None
    held = _hold(layer)
    return replace(held, keys=held.keys.clone(), values=held.values.clone())


def _hold(layer: Any) -> Held:
    """What it holds now, not copied: all that is there, but of a fixed size what is filled."""
    kept = slice(int(layer.get_seq_length())) if type(layer).__name__ == _FIXED else slice(None)
    return Held(layer.keys.detach()[:, :, kept], layer.values.detach()[:, :, kept], layer)


def find_spare(layer: Any) -> Past | None:
    """What a cache of fixed size holds after a call behind the keys of this; None for others, and for a full one."""
    if type(layer).__name__ != _FIXED or not isinstance(layer.keys, torch.Tensor):
        return None
    count = int(layer.get_seq_length())
    keys, values = (to_array(each[:, :, count:]) for each in (layer.keys, layer.values))
    return Past(keys, values) if keys.shape[2] else None


class CacheMemory:
    """What the calls that were watched put into caches: of each module the last."""

    def __init__(self) -> None:
        self._put: dict[torch.nn.Module, _Put] = {}

    def find_past(self, module: torch.nn.Module, held: Held) -> tuple[Past, bool]:
        """What must be there by the reference, or else what is there; and whether it is the former.

        InputError for a part of a cache that was filled by the call before and was changed so that nobody can tell.
        """
        put = self._put.get(module)
        found = None if put is None else _look_up(put, held)
        if found is None and put is not None and put.held.layer is held.layer:
            if put.held.keys.shape != held.keys.shape:
                raise InputError("its cache holds something else than the call before has put there")
            found = put.right
        return (Past(to_array(held.keys), to_array(held.values)), False) if found is None else (found, True)

    def keep(self, module: torch.nn.Module, layer: Any, expected: Expected) -> None:
        """Remembers a call that ended: what the cache holds now, and what it has to hold by the reference."""
        if not isinstance(layer.keys, torch.Tensor):
            return
        settings = expected.fixed.settings
        spare = 0 if settings.spare is None else settings.spare.length
        shared = settings.heads // settings.groups
        held = _hold(layer)
        kept = held.keys.shape[-2]

        def last(array: Array) -> Array:
            end = array.shape[2] - spare
            return array[:, ::shared, end - kept : end]

        right = Past(
            *(last(expected.values[name]) for name in ("key_heads", "value_heads")),
            *(last(expected.errors[name]) for name in ("key_heads", "value_heads")),
        )
        self._put[module] = _Put(held, right)

    def forget(self, module: torch.nn.Module) -> None:
        """After a call that could not be followed."""
        self._put.pop(module, None)


def _look_up(put: _Put, held: Held) -> Past | None:
    """What the reference has for each sequence in a cache; None if one is not what a call left there."""
    before, now = put.held.keys, held.keys
    count = now.shape[-2]
    if before.shape[-2] < count or before.shape[1] != now.shape[1] or before.dtype != now.dtype:
        return None
    for start in dict.fromkeys((0, before.shape[-2] - count)):  # cut behind, or before
        part = slice(start, start + count)
        there = replace(put.held, keys=before[:, :, part], values=put.held.values[:, :, part])
        found = [_find_row(there, held, row) for row in range(len(now))]
        rows = [row for row in found if row is not None]
        if len(rows) == len(found):
            right = (put.right.key_heads, put.right.value_heads, put.right.key_errors, put.right.value_errors)
            return Past(*(np.asarray(array)[rows][:, :, part] for array in right))
    return None


def _find_row(there: Held, held: Held, row: int) -> int | None:
    """Which of the sequences that were there one is; most often it is in its place."""
    order = sorted(range(len(there.keys)), key=lambda other: other != row)
    return next(
        (
            other
            for other in order
            if torch.equal(there.keys[other], held.keys[row]) and torch.equal(there.values[other], held.values[row])
        ),
        None,
    )
