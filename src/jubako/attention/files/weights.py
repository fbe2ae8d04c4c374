"""The parameters of a layer, read from a file: laid out, unpacked, and how it attends with them."""

from __future__ import annotations

import math
import re

from jubako.attention.checking.precision import PRECISIONS, Precision
from jubako.attention.description import Norm, Settings, Weights, unpack
from jubako.attention.free_memory import require_free
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jubako.attention.description import Array
    from jubako.attention.files.config import ModelConfig
    from jubako.attention.files.families import Family
    from jubako.attention.files.shards import AnyWeights

__all__ = ["WrongHeadsError", "number_of", "precision_of_parts", "read_weights", "require_memory_for", "settings_of"]

_REQUIRED = ("query", "key", "value")
_NO_HEADS = "how many heads it has does not follow from its weights"
_SAYS_HEADS = "--heads N says it, or a config.json beside the file"
_BYTES = 24  # for each number: as it is stored, and twice in double precision


class WrongHeadsError(InputError):
    """The weights of a layer cannot be of the heads that it is said to have, or nothing says how many there are."""


def number_of(name: str) -> int:
    """The number of a layer in its model, which is the last in its name: "h.3"; 0 if there is none."""
    return next((int(part) for part in reversed(name.split(".")) if re.fullmatch("[0-9]{1,9}", part)), 0)


def precision_of_parts(file: AnyWeights, parts: Mapping[str, str]) -> Precision:
    """The one type of all its tensors. InputError where there are several, or one that is not computed in."""
    kinds = {file.tensors[name].precision or file.tensors[name].dtype for name in parts.values()}
    if len(kinds) != 1 or not kinds <= PRECISIONS.keys():
        raise InputError(f"its tensors are {', '.join(sorted(kinds))}: one type of {', '.join(PRECISIONS)} is needed")
    return PRECISIONS[kinds.pop()]


def require_memory_for(name: str, file: AnyWeights, parts: Mapping[str, str], limit_bytes: int | None) -> None:
    """SizeError, with the estimate, if computing with the weights of a layer would take more memory than there is."""
    needed = _BYTES * sum(math.prod(file.tensors[tensor].shape) for tensor in parts.values())
    require_free(needed, limit_bytes, f"the weights of {name} take", hint="Check on a machine with more memory.")


def read_weights(file: AnyWeights, family: Family, parts: Mapping[str, str], config: ModelConfig) -> Weights:
    """The parameters of a layer, as the reference takes them. InputError for what is not there, or cannot be."""
    arrays = {part: file.read(name) for part, name in parts.items()}
    for part in ("packed", *_REQUIRED, "output"):
        if part in arrays:
            if arrays[part].ndim != 2:
                raise InputError(f"{parts[part]} has shape {arrays[part].shape}: weights have two axes")
            if family.is_in_out:
                arrays[part] = arrays[part].T
    if "packed" in arrays:
        width = arrays["packed"].shape[1]
        packed = _unpack(arrays.pop("packed"), parts["packed"], width, family, config)
        arrays |= dict(zip(_REQUIRED, packed, strict=True))
    if "packed_bias" in arrays and arrays["packed_bias"].ndim != 1:
        raise InputError(f"{parts['packed_bias']} has shape {arrays['packed_bias'].shape}: a bias has one axis")
    if "packed_bias" in arrays:
        width = arrays["query"].shape[1] if "query" in arrays else 1
        packed = _unpack(arrays.pop("packed_bias"), parts["packed_bias"], width, family, config)
        arrays |= {f"{part}_bias": piece for part, piece in zip(_REQUIRED, packed, strict=True)}
    missing = [family.templates.get(part, part) for part in _REQUIRED if part not in arrays]
    wanted = ("output", *(("query_norm", "key_norm") if config.norm is not None else ()))
    missing += [family.templates[part] for part in wanted if part in family.templates and part not in arrays]
    if missing:
        raise InputError(f"the file lacks {', '.join(missing)}")
    for part in ("added_key", "added_value"):
        if part in arrays:
            arrays[part] = arrays[part].reshape(-1)
    return Weights(**arrays)


def _unpack(packed: Array, name: str, width: int, family: Family, config: ModelConfig) -> list[Array]:
    """Query, key and value out of one array; its layer takes `width` features."""
    rows, heads = packed.shape[0], config.heads
    if heads is None or (config.key_heads in (None, heads) and family.packing == "rows"):
        if family.packing != "rows":
            raise WrongHeadsError(_NO_HEADS, hint=_SAYS_HEADS)
        if rows % 3:
            raise InputError(f"{name} has shape {packed.shape}: query, key and value must be equally many")
        return unpack(packed, 1, 1, "rows")
    size = config.head_size or max(width // heads, 1)
    groups = config.key_heads or (rows // size - heads) // 2
    if groups < 1 or heads % groups or rows != (heads + 2 * groups) * size:
        raise WrongHeadsError(
            f"{name} has shape {packed.shape}, and H={heads}, Hk={groups} heads of D={size} are not that"
        )
    return unpack(packed, heads, groups, family.packing)


def settings_of(weights: Weights, family: Family, name: str, config: ModelConfig) -> Settings:
    """How a layer attends, but for positions. WrongHeadsError where its weights cannot be of so many heads."""
    heads = config.heads
    if heads is None:
        raise WrongHeadsError(_NO_HEADS, hint=_SAYS_HEADS)
    if not weights.query.shape[0]:
        raise InputError("its query has no features")
    if config.head_size is None and weights.query.shape[0] % heads:
        raise WrongHeadsError(f"its query has {weights.query.shape[0]} features, which {heads} heads do not divide")
    size = config.head_size or max(weights.query.shape[0] // heads, 1)
    if heads * size != weights.query.shape[0]:
        raise WrongHeadsError(
            f"its query has {weights.query.shape[0]} features, and H={heads} heads of D={size} are not that"
        )
    groups = config.key_heads or weights.key.shape[0] // size
    if config.key_heads and groups * size != weights.key.shape[0]:
        raise WrongHeadsError(
            f"the key's weights give {weights.key.shape[0]} features, "
            f"and Hk={groups} heads of D={size} are {groups * size}"
        )
    scale = config.scale
    if config.scales_by_layer:
        scale = (size**-0.5 if scale is None else scale) / (number_of(name) + 1)
    is_causal = family.is_causal_in(name, config.model, is_decoder=config.is_decoder)
    norm = Norm() if config.norm is None else config.norm
    return Settings(heads, key_heads=groups, scale=scale, is_causal=is_causal, norm=norm, softcap=config.softcap)
