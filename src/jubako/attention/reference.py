"""Multi-head attention in double precision, step by step, to be read beside "Attention Is All You Need" (3.2).

    MultiHead(Q, K, V) = Concat(head_1, ..., head_H) W_O        head_i = Attention(Q W_i_Q, K W_i_K, V W_i_V)
    Attention(Q, K, V) = softmax(Q K^T / sqrt(D)) V

NumPy and nothing else, no step merged with another, each line with the shape of what it gives. What torch's layer can
do beyond the paper is here too (biases, masks, an added row of keys, an added row of zeros), and what later models do:
fewer heads of keys than of queries, rotary positions, another scale, queries and keys that are normalised, scores that
are capped. There is no dropout.

A row that sees no key at all has weights of 0, and so a context of 0. (0/0 would be NaN, and spread.)

    B batch    L query length    S key length    E embedding    H heads    Hk heads of keys    D head size
"""

from __future__ import annotations

import numpy as np

from jubako.attention.description import NO_MASKS, check_weights, scale_of
from jubako.attention.inputs import arrange, measure, merge_masks, require_memory
from jubako.errors import InputError
from jubako.records import as_dict, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jubako.attention.description import Array, Masks, Norm, Rotary, Settings, Weights
    from jubako.attention.inputs import Inputs

__all__ = ["Steps", "attend"]


@record
class Steps:
    """What each step of one call gives, in double precision, batch first. S counts what the layer appends to keys."""

    query_projection: Array  # (B, L, H*D)
    key_projection: Array  # (B, S, Hk*D), before anything is appended
    value_projection: Array  # (B, S, Hk*D), before anything is appended
    query_heads: Array  # (B, H, L, D)
    key_heads: Array  # (B, H, S, D)
    value_heads: Array  # (B, H, S, D)
    scores: Array  # (B, H, L, S)
    masked_scores: Array  # (B, H, L, S)
    weights: Array  # (B, H, L, S)
    context: Array  # (B, H, L, D)
    concatenated: Array  # (B, L, H*D)
    output: Array  # (B, L, E)
    averaged_weights: Array  # (B, L, S)

    def named(self) -> dict[str, Array]:
        """What each step gives, by its name, in order."""
        return as_dict(self)

    def result(self, settings: Settings, *, is_batched: bool = True) -> tuple[Array, Array]:
        """Output and averaged weights laid out as the caller's inputs were: batch first, second, or without."""
        if not is_batched:
            return self.output[0], self.averaged_weights[0]  # (L, E), (L, S)
        if settings.batch_first:
            return self.output, self.averaged_weights  # (B, L, E), (B, L, S)
        return self.output.transpose(1, 0, 2), self.averaged_weights  # (L, B, E), (B, L, S)


def attend(
    query: Array,
    key: Array,
    value: Array,
    weights: Weights,
    settings: Settings,
    masks: Masks = NO_MASKS,
) -> Steps:
    """All steps of one call. Inputs (B, L, E), (B, S, E), (B, S, E); or as `settings.batch_first` says, or unbatched.

    InputError for shapes that do not fit or inputs that are not finite; HostError if it would take too much memory.
    """
    check_weights(weights, settings)
    given = {"query": np.asarray(query), "key": np.asarray(key), "value": np.asarray(value)}
    require_memory(settings, measure(given, weights, settings)[1], weights.query.shape[0], None)
    inputs = arrange(query, key, value, weights, settings)
    return derive(inputs, weights, settings, merge_masks(masks, settings, inputs.sizes))


def derive(inputs: Inputs, weights: Weights, settings: Settings, mask: Array | None) -> Steps:
    """All steps of a call whose inputs and mask have been laid out; the mask is (B or 1, H or 1, L or 1, S) or None."""
    w = in_double(weights)
    q = project(inputs.query, w["query"], w.get("query_bias"))  # (B, L, H*D)
    k = project(inputs.key, w["key"], w.get("key_bias"))  # (B, S, Hk*D)
    v = project(inputs.value, w["value"], w.get("value_bias"))  # (B, S, Hk*D)
    query_heads = to_query_heads(q, w, settings)  # (B, H, L, D)
    key_heads = to_key_heads(k, w, settings)  # (B, H, S, D), S now with what is appended
    value_heads = to_value_heads(v, w, settings)  # (B, H, S, D)
    scores = score(query_heads, key_heads, settings)  # (B, H, L, S)
    masked_scores = add_mask(scores, mask)  # (B, H, L, S)
    attention = softmax(masked_scores)  # (B, H, L, S)
    context = attention @ value_heads  # (B, H, L, D)
    concatenated = concatenate(context)  # (B, L, H*D)
    output = concatenated if "output" not in w else project(concatenated, w["output"], w.get("output_bias"))
    return Steps(  # output is (B, L, E)
        query_projection=q,
        key_projection=k,
        value_projection=v,
        query_heads=query_heads,
        key_heads=key_heads,
        value_heads=value_heads,
        scores=scores,
        masked_scores=masked_scores,
        weights=attention,
        context=context,
        concatenated=concatenated,
        output=output,
        averaged_weights=attention.mean(axis=1) if attention.size else attention.sum(axis=1),  # (B, L, S)
    )


def project(x: Array, weight: Array, bias: Array | None) -> Array:
    """x W^T + b: (B, L, in) times (out, in) transposed gives (B, L, out)."""
    product = x @ weight.T  # (B, L, out)
    return product if bias is None else product + bias  # (B, L, out)


def to_query_heads(projection: Array, w: Mapping[str, Array], settings: Settings) -> Array:
    """(B, L, H*D) cut into H slices of D features, (B, H, L, D), normalised, and turned, if the layer does that."""
    heads = _normalised_heads(projection, "query", w, settings)  # (B, H, L, D)
    return heads if settings.rotary is None else rotate(heads, settings.rotary)  # (B, H, L, D)


def to_key_heads(projection: Array, w: Mapping[str, Array], settings: Settings) -> Array:
    """(B, S, Hk*D), with the rows that are appended, likewise, and repeated for the queries that share a head."""
    heads = _normalised_heads(_append(projection, w.get("added_key")), "key", w, settings)  # (B, Hk, S or S+1, D)
    if settings.rotary is not None:
        heads = rotate(heads, settings.rotary)  # (B, Hk, S, D)
    heads = _add_kept(heads, "key_heads", settings)  # (B, Hk, P+S, D)
    return share(_append_zero(heads, settings), settings)  # (B, H, S, D), S now with what was there and is appended


def to_value_heads(projection: Array, w: Mapping[str, Array], settings: Settings) -> Array:
    """As `to_key_heads`, but values are never normalised or turned."""
    heads = split(_append(projection, w.get("added_value")), settings.groups)  # (B, Hk, S or S+1, D)
    heads = _add_kept(heads, "value_heads", settings)  # (B, Hk, P+S, D)
    return share(_append_zero(heads, settings), settings)  # (B, H, S, D)


def score(query_heads: Array, key_heads: Array, settings: Settings) -> Array:
    """How much each query and key have in common: (B, H, L, D) with (B, H, S, D) gives (B, H, L, S)."""
    products = query_heads @ key_heads.swapaxes(-1, -2)  # (B, H, L, S)
    products *= scale_of(settings, query_heads.shape[-1])  # (B, H, L, S)
    if settings.softcap is None:
        return products  # (B, H, L, S)
    return settings.softcap * np.tanh(products / settings.softcap)  # (B, H, L, S)


def add_mask(scores: Array, mask: Array | None) -> Array:
    """The scores, -inf where a key is forbidden. What the layer appended itself, no mask forbids: (B, H, L, S)."""
    if mask is None:
        return scores  # (B, H, L, S)
    appended = scores.shape[-1] - mask.shape[-1]
    if appended:
        mask = np.concatenate([mask, np.zeros((*mask.shape[:-1], appended))], axis=-1)  # (B or 1, H or 1, L or 1, S)
    return scores + mask  # (B, H, L, S)


def softmax(masked_scores: Array) -> Array:
    """exp(s) / sum of exp(s) along S. The largest of each row is taken off first: no overflow."""
    if masked_scores.size == 0:
        return masked_scores  # (B, H, L, S)
    largest = masked_scores.max(axis=-1, keepdims=True)  # (B, H, L, 1)
    with np.errstate(invalid="ignore"):
        powers: Array = masked_scores - largest  # (B, H, L, S), NaN where nothing is allowed: -inf less -inf
    np.exp(powers, out=powers)  # (B, H, L, S)
    sums = powers.sum(axis=-1, keepdims=True)  # (B, H, L, 1)
    sees_nothing = np.isneginf(largest)  # (B, H, L, 1)
    np.divide(powers, sums, out=powers)  # (B, H, L, S)
    if sees_nothing.any():
        powers[np.broadcast_to(sees_nothing, powers.shape)] = 0.0
    return powers  # (B, H, L, S)


def concatenate(context: Array) -> Array:
    """The heads side by side: (B, H, L, D) gives (B, L, H*D)."""
    batch, heads, length, size = context.shape
    return context.transpose(0, 2, 1, 3).reshape(batch, length, heads * size)  # (B, L, H*D)


def normalise(rows: Array, weight: Array, bias: Array | None, norm: Norm) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * (weight + offset) + bias along the last axis: (..., N) gives (..., N)."""
    if norm.takes_mean:
        rows = rows - rows.mean(axis=-1, keepdims=True)  # (..., N)
    mean_square = np.square(rows).mean(axis=-1, keepdims=True)  # (..., 1)
    scaled = rows / np.sqrt(mean_square + norm.epsilon) * (weight + norm.offset)  # (..., N)
    return scaled if bias is None else scaled + bias  # (..., N)


def is_norm_of_all_heads(weight: Array, features: int) -> bool:
    """True if a norm takes the features of all heads as one row, and not each head by itself."""
    return bool(weight.shape == (features,))


def rotate(heads: Array, rotary: Rotary) -> Array:
    """(B, H, L, D) with each pair of its first R features turned by the angle of its position."""
    cosines, sines = rotary.cosines[:, None], rotary.sines[:, None]  # (B or 1, 1, L, R/2)
    turned = 2 * cosines.shape[-1]  # R
    if cosines.shape[-2] != heads.shape[-2] or turned > heads.shape[-1]:
        raise InputError(
            f"the rotary positions are (L={cosines.shape[-2]}, R={turned}), "
            f"and the heads are (L={heads.shape[-2]}, D={heads.shape[-1]})"
        )
    if cosines.shape[0] not in (1, heads.shape[0]):
        raise InputError(f"the rotary positions are of B={cosines.shape[0]}, and the heads of B={heads.shape[0]}")
    first, second = pairs_of(rotary)
    x1, x2 = heads[..., first], heads[..., second]  # (B, H, L, R/2) each
    result = heads.copy()  # (B, H, L, D)
    result[..., first] = x1 * cosines - x2 * sines
    result[..., second] = x2 * cosines + x1 * sines
    return result  # (B, H, L, D)


def pairs_of(rotary: Rotary) -> tuple[slice, slice]:
    """Which features of a head are the first of their pairs, and which the second."""
    turned = 2 * rotary.cosines.shape[-1]  # R
    if rotary.pairing == "halves":
        return slice(0, turned // 2), slice(turned // 2, turned)
    return slice(0, turned, 2), slice(1, turned, 2)


def _normalised_heads(projection: Array, which: str, w: Mapping[str, Array], settings: Settings) -> Array:
    """(B, L, H*D) cut into heads, (B, H, L, D), and normalised if there are weights for that: before, or after."""
    weight, bias = w.get(f"{which}_norm"), w.get(f"{which}_norm_bias")
    heads = settings.heads if which == "query" else settings.groups
    if weight is None:
        return split(projection, heads)  # (B, H, L, D)
    if is_norm_of_all_heads(weight, projection.shape[-1]):
        return split(normalise(projection, weight, bias, settings.norm), heads)  # (B, H, L, D)
    return normalise(split(projection, heads), by_head(weight), by_head(bias), settings.norm)  # (B, H, L, D)


def by_head(weight: Array | None) -> Array | None:
    """(D,) as it is, (H, D) as (H, 1, D), to go with (B, H, L, D)."""
    return weight if weight is None or weight.ndim == 1 else weight[:, None, :]


def split(projection: Array, heads: int) -> Array:
    """(B, L, H*D) as (B, H, L, D): head h has the features h*D to (h+1)*D."""
    batch, length, features = projection.shape
    return projection.reshape(batch, length, heads, features // heads).transpose(0, 2, 1, 3)  # (B, H, L, D)


def _append(projection: Array, row: Array | None) -> Array:
    """(B, S, Hk*D) with one more row, the same for each batch: (B, S+1, Hk*D)."""
    if row is None:
        return projection  # (B, S, Hk*D)
    rows = np.broadcast_to(row, (projection.shape[0], 1, row.shape[0]))  # (B, 1, Hk*D)
    return np.concatenate([projection, rows], axis=1)  # (B, S+1, Hk*D)


def _add_kept(heads: Array, name: str, settings: Settings) -> Array:
    """(B, Hk, S, D) between what a cache holds before them and what it holds behind: (B, Hk, P+S, D)."""
    parts = [None if kept is None else getattr(kept, name) for kept in (settings.past, settings.spare)]
    there = [part for part in (parts[0], heads, parts[1]) if part is not None]
    return heads if len(there) == 1 else np.concatenate(there, axis=2)  # (B, Hk, P+S, D)


def _append_zero(heads: Array, settings: Settings) -> Array:
    """(B, Hk, S, D), with a row of zeros after the last if the layer adds that: (B, Hk, S+1, D)."""
    if not settings.adds_zero:
        return heads  # (B, Hk, S, D)
    batch, groups, _, size = heads.shape
    return np.concatenate([heads, np.zeros((batch, groups, 1, size))], axis=2)  # (B, Hk, S+1, D)


def share(heads: Array, settings: Settings) -> Array:
    """(B, Hk, S, D) as (B, H, S, D): each head of keys serves H/Hk heads of queries that follow one another."""
    shared = settings.heads // settings.groups
    return heads if shared == 1 else np.repeat(heads, shared, axis=1)  # (B, H, S, D)


def in_double(weights: Weights) -> dict[str, Array]:
    return {name: np.asarray(value, dtype=np.float64) for name, value in weights.named().items()}
