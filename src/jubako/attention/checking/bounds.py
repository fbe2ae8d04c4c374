"""How far each step may be off through rounding alone: from its own inputs, and from the beginning.

    bound = 8 times the expected error

The expected error of a step is what its own roundings come to, plus what the errors of the steps before it make of it.
Roundings are taken for independent, as in the probabilistic analysis of rounding (Higham and Mary, 2019): their
squares add up. Eight times that is out of reach of chance, and for short sums more than the worst case. What follows
from the size of the scores: softmax turns an absolute error of a score into a relative one of its weight, and the
absolute error of scores grows with the scores. So the bound is, in short, u * (1 + largest score) * size, times a
factor for the number of terms.

`docs/attention-bounds.md` derives each line and has the measurements. All arrays are doubles; an error may have axes of
length 1 where it holds for all of them.
"""

from __future__ import annotations

import math

import numpy as np

from jubako.attention.description import scale_of
from jubako.attention.reference import concatenate, pairs_of, to_key_heads, to_query_heads, to_value_heads
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeAlias

    from jubako.attention.checking.precision import Precision
    from jubako.attention.description import Array, Settings

    Values: TypeAlias = Mapping[str, Array]
    Errors: TypeAlias = Mapping[str, Any]  # arrays; of the weights they are Proportional
    Rule: TypeAlias = Callable[["Known"], Any]

__all__ = ["FACTOR", "Known", "Proportional", "expected_error", "expected_errors", "row_sum_bound", "score_error"]

FACTOR = 8.0
_SOFTMAX = 4.0  # roundings in exp, in its argument, in the sum and the division; a vectorised exp may be off by 20 ulp
_HUGE = 1e4
_SPAN = 104.0  # a score so far below the largest of its row has a weight of 0 in single precision


@record
class Proportional:
    """Errors in relation to numbers, not written out: they would take as much memory as the maps they are about."""

    numbers: Array  # (B, H, L, S)
    relative: Array  # (B, H, L, 1)
    floor: float

    def part(self, start: tuple[int, ...]) -> Array:
        """The errors at a place, or in a part that starts with these indices."""
        row = (*start[:-1], 0) if len(start) == self.numbers.ndim else start
        return self.numbers[start] * self.relative[row] + self.floor

    def mean_over_heads(self) -> Array:
        """(B, L, S)."""
        total = np.einsum("bhls,bhl->bls", self.numbers, self.relative[..., 0])
        return total / max(self.numbers.shape[1], 1) + self.floor

    def largest(self) -> float:
        """The largest of them."""
        if self.numbers.size == 0:
            return 0.0
        return float((self.numbers.max(axis=-1, keepdims=True) * self.relative).max()) + self.floor


@record
class Known:
    """What the error of a step follows from."""

    values: Values  # what steps give, by name, and "query", "key" and "value", the inputs; all batch first
    errors: Errors  # the expected errors of the steps before; a step that isn't there is exact
    weights: Values  # the parameters
    settings: Settings
    precision: Precision


def expected_error(step: str, known: Known) -> Any:
    """The expected error of a step that is computed from `known.values`; these hold what it gives, too."""
    return _RULES[step](known)


def expected_errors(known: Known) -> dict[str, Any]:
    """The expected errors of all steps from the beginning."""
    errors: dict[str, Any] = {}
    for step, rule in _RULES.items():
        errors[step] = rule(replace(known, errors=errors))
    return errors


def row_sum_bound(keys: int, precision: Precision) -> float:
    """How far a row of weights may add up to other than 1: all are rounded twice, and the sum and exp are rounded."""
    own = (7.0 + 0.06 * math.sqrt(keys)) * precision.unit_of_sums
    return 2 * precision.unit + own + FACTOR * keys * precision.floor


def _projection(which: str) -> Rule:
    def rule(known: Known) -> Array:
        return _linear(known.values[which], which, known)

    return rule


def _linear(x: Array, which: str, known: Known) -> Array:
    """Sums of products, in relation to the length of the row times that of the weights' row: (B, L, out)."""
    weight, precision = known.weights[which], known.precision
    error: Array = _length(x)[..., None] * _length(weight)  # (B, L, out)
    error *= precision.rounding_of_sum(x.shape[-1])
    size = np.abs(known.values[f"{which}_projection" if which != "output" else "output"])
    if (bias := known.weights.get(f"{which}_bias")) is not None:
        size = size + np.abs(bias)  # what it is added to was rounded, too
    return error + precision.rounding * size + precision.floor + precision.loss_of_sum(x.shape[-1])


def _heads(which: str) -> Rule:
    cut = {"query": to_query_heads, "key": _cut_keys(to_key_heads), "value": _cut_keys(to_value_heads)}[which]

    def rule(known: Known) -> Array:
        heads = known.values[f"{which}_heads"]  # (B, H, S, D)
        error: Array = np.zeros(heads.shape)
        before = known.errors.get(f"{which}_projection")
        if before is not None:
            plain = cut(before, replace(known.settings, rotary=None, adds_zero=False))
            error[..., : plain.shape[-2], :] = plain  # what is appended is exact
        rotary = known.settings.rotary
        if rotary is not None and which != "value":
            first, second = pairs_of(rotary)
            size = np.hypot(heads[..., first], heads[..., second])
            both = np.hypot(error[..., first], error[..., second]) + 2 * known.precision.rounding * size
            error[..., first] = error[..., second] = both
        return error

    return rule


def _cut_keys(cut: Callable[[Array, Array | None, Settings], Array]) -> Callable[[Array, Settings], Array]:
    return lambda error, settings: cut(error, None, settings)


def _scores(known: Known) -> Array:
    """Per row, (B, H, L, 1): half of it is what the errors of query and key make of products with the other."""
    queries, keys = known.values["query_heads"], known.values["key_heads"]
    size, precision = queries.shape[-1], known.precision
    scale = abs(scale_of(known.settings, size))
    query_length, key_length = _length(queries)[..., None], _longest(_length(keys))  # (B, H, L, 1), (B, H, 1, 1)
    own = precision.rounding_of_sum(size) + 2 * precision.rounding / size**0.5
    error: Array = own * query_length * key_length
    if "query_heads" in known.errors:
        mean = _mean_size(known.errors["query_heads"])[..., None]  # (B, H, L, 1), the error of one feature
        error = np.hypot(error, mean * key_length)
    if "key_heads" in known.errors:
        error = np.hypot(error, _longest(_mean_size(known.errors["key_heads"])) * query_length)
    small = precision.floor + precision.loss_of_sum(size)
    return scale * error + 2 * precision.rounding * _largest(known.values["scores"]) + small


def _masked_scores(known: Known) -> Array:
    """Per row, (B, H, L, 1), or (B, H, L, S): adding a mask rounds once more."""
    masked, before = known.values["masked_scores"], known.errors.get("scores", 0.0)
    if masked is known.values["scores"]:  # there is no mask
        return before + known.precision.floor + np.zeros((*masked.shape[:-1], 1))
    if masked.shape[-1] == 0:
        return np.zeros((*masked.shape[:-1], 1))
    lowest = np.where(np.isneginf(masked), 0.0, masked).min(axis=-1, keepdims=True)
    size: Array = np.maximum(np.abs(masked.max(axis=-1, keepdims=True)), -lowest)
    if size.max(initial=0.0) > _HUGE:  # what stands for -inf must not hide what the others are off by
        size = np.abs(masked)
    return before + known.precision.rounding * np.where(np.isfinite(size), size, 0.0) + known.precision.floor


def score_error(known: Known) -> Array:
    """How far the scores that matter to a row's weights may be off: (B, H, L, 1)."""
    masked = known.values["masked_scores"]
    if masked.shape[-1] == 0:
        return np.zeros((*masked.shape[:-1], 1))
    largest = masked.max(axis=-1, keepdims=True)
    lowest = masked.min(axis=-1, keepdims=True)
    if np.isneginf(lowest).any():
        lowest = np.where(np.isneginf(masked), np.inf, masked).min(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        span = np.clip(np.nan_to_num(largest - lowest, nan=0.0, posinf=0.0, neginf=0.0), 0.0, _SPAN)
    own = 0.5 * known.precision.unit_of_sums * span  # the argument of exp is rounded
    if "masked_scores" not in known.errors:
        return own
    size = np.where(np.isneginf(largest), 0.0, np.minimum(np.abs(largest), 1e6)) + span
    return own + known.errors.get("scores", 0.0) + known.precision.rounding * size


def _weights(known: Known) -> Proportional:
    """(B, H, L, S): in relation to each weight, which so may be tiny; what is forbidden is 0 and nothing else."""
    relative = 2 * score_error(known) + _SOFTMAX * known.precision.unit_of_sums + known.precision.rounding
    return Proportional(known.values["weights"], relative, known.precision.floor)


def _context(known: Known) -> Array:
    """(B, H, L, D)."""
    weights, values, precision = known.values["weights"], known.values["value_heads"], known.precision
    relative: Array = np.float64(precision.rounding_of_sum(weights.shape[-1]))
    if "weights" in known.errors:
        relative = relative + 2 * score_error(known) + _SOFTMAX * precision.unit_of_sums + precision.rounding
    error: Array = relative * (weights @ np.abs(values))
    lost = precision.loss_of_sum(1) if "weights" not in known.errors else precision.floor
    error += lost * np.abs(values).sum(axis=-2, keepdims=True) + precision.loss_of_sum(weights.shape[-1])
    if "value_heads" in known.errors:
        error = error + _longest_row(known.errors["value_heads"])
    return error + precision.rounding * np.abs(known.values["context"]) + precision.floor


def _concatenated(known: Known) -> Array:
    before = known.errors.get("context")
    return np.zeros(known.values["concatenated"].shape) if before is None else concatenate(before)


def _output(known: Known) -> Array:
    x, precision = known.values["concatenated"], known.precision
    before = known.errors.get("concatenated")
    if "output" not in known.weights:
        return np.zeros(x.shape) if before is None else before
    error = _linear(x, "output", known)
    if before is not None:
        error = error + np.sqrt(np.square(before) @ np.square(known.weights["output"]).T)
    return error + precision.floor


def _averaged_weights(known: Known) -> Array:
    """(B, L, S)."""
    averaged, precision = known.values["averaged_weights"], known.precision
    error: Array = (precision.rounding_of_sum(known.settings.heads) + precision.rounding) * averaged
    if "weights" in known.errors:
        error += known.errors["weights"].mean_over_heads()
    return error + precision.floor


def _length(rows: Array) -> Array:
    """The Euclidean length of each row."""
    return np.sqrt(np.einsum("...d,...d->...", rows, rows))


def _mean_size(rows: Array) -> Array:
    return _length(rows) / max(rows.shape[-1], 1) ** 0.5


def _longest(lengths: Array) -> Array:
    """(B, H, S) as (B, H, 1, 1)."""
    return lengths.max(axis=-1, initial=0.0)[..., None, None]


def _longest_row(errors: Array) -> Array:
    """(B, H, S, D) as (B, H, 1, D)."""
    return errors.max(axis=-2, keepdims=True, initial=0.0)


def _largest(scores: Array) -> Array:
    """(B, H, L, S) as (B, H, L, 1)."""
    if scores.shape[-1] == 0:
        return np.zeros((*scores.shape[:-1], 1))
    return np.maximum(scores.max(axis=-1, keepdims=True), -scores.min(axis=-1, keepdims=True))


_RULES: dict[str, Rule] = {
    "query_projection": _projection("query"),
    "key_projection": _projection("key"),
    "value_projection": _projection("value"),
    "query_heads": _heads("query"),
    "key_heads": _heads("key"),
    "value_heads": _heads("value"),
    "scores": _scores,
    "masked_scores": _masked_scores,
    "weights": _weights,
    "context": _context,
    "concatenated": _concatenated,
    "output": _output,
    "averaged_weights": _averaged_weights,
}
