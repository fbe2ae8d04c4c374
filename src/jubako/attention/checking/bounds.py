"""How far each step may be off through rounding alone: from its own inputs, and from the beginning.

    bound = 8 times the expected error

The expected error of a step is what its own roundings come to, plus what the errors of the steps before it make of it.
Roundings are taken for independent, as in the probabilistic analysis of rounding (Higham and Mary, 2019): their
squares add up. Eight times that is out of reach of chance, and for short sums more than the worst case. What follows
from the size of the scores: softmax turns an absolute error of a score into a relative one of its weight, and the
absolute error of scores grows with the scores. So the bound is, in short, u * (1 + largest score) * size, times a
factor for the number of terms; as long as that is small. Where scores may be off by 1 or more, weights may be off by
their powers of e, up to anything between 0 and 1, and the context by all that the values span.

`docs/attention-bounds.md` derives each line and has the measurements. All arrays are doubles; an error may have axes of
length 1 where it holds for all of them.
"""

from __future__ import annotations

import math

import numpy as np

from jubako.attention.checking.lengths import (
    largest_of_rows,
    lengths_of,
    longest,
    longest_row,
    mean_sizes,
    root_of_squares,
    span_of_rows,
)
from jubako.attention.checking.norm_bounds import expected_error_of_norm
from jubako.attention.checking.proportional import FACTOR, Proportional
from jubako.attention.description import scale_of
from jubako.attention.reference import concatenate, pairs_of, share, split
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

__all__ = ["Known", "expected_error", "expected_errors", "row_sum_bound", "score_error"]

_SOFTMAX = 4.0  # roundings in exp, in its argument, in the sum and the division; a vectorised exp may be off by 20 ulp
_HUGE = 1e4
_ANY = 300.0  # scores that may be off by so much let a weight be anything
_COHERENT = 0.1  # from here on what weights are off by is no longer small against them, and the same for all features
_SPAN = 104.0  # a score so far below the largest of its row has a weight of 0 in single precision


@record
class Known:
    """What the error of a step follows from."""

    values: Values  # what steps give, by name, and "query", "key" and "value", the inputs; all batch first
    errors: Errors  # the expected errors of the steps before; a step that isn't there is exact
    weights: Values  # the parameters
    settings: Settings
    precision: Precision
    rounds_masks: bool = False  # masks come in a finer type, and may be rounded before they are added


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
    error: Array = lengths_of(x)[..., None] * lengths_of(weight)  # (B, L, out)
    error *= precision.rounding_of_sum(x.shape[-1])
    size = np.abs(known.values[f"{which}_projection" if which != "output" else "output"])
    if (bias := known.weights.get(f"{which}_bias")) is not None:
        size = size + np.abs(bias)  # what it is added to was rounded, too
    return error + precision.rounding * size + precision.floor + precision.loss_of_sum(x.shape[-1])


def _heads(which: str) -> Rule:
    def rule(known: Known) -> Array:
        heads, settings = known.values[f"{which}_heads"], known.settings  # (B, H, S, D)
        error: Array = np.zeros(heads.shape)
        past = 0 if which == "query" else settings.past_length
        spare = 0 if which == "query" else settings.kept_length - past
        rows = slice(past, heads.shape[-2] - spare)  # of this call; what is kept behind is exact
        own = error[..., rows, :]
        before = known.errors.get(f"{which}_projection")
        count = settings.heads if which == "query" else settings.groups
        cut = None if before is None else split(before, count)
        if f"{which}_norm" in known.weights:
            cut = expected_error_of_norm(which, known.values, before, known.weights, settings, known.precision)
        if cut is not None:
            plain = cut if which == "query" else share(cut, settings)
            own[..., : plain.shape[-2], :] = plain  # what is appended is exact
        rotary = settings.rotary
        if rotary is not None and which != "value":
            first, second = pairs_of(rotary)
            size = np.hypot(heads[..., rows, first], heads[..., rows, second])
            stretch = np.hypot(rotary.cosines, rotary.sines)[:, None]  # (B or 1, 1, S, R/2): 1, but where turns stretch
            both = np.hypot(own[..., first], own[..., second]) * stretch + 2 * known.precision.rounding * size
            own[..., first] = own[..., second] = both
        if past:
            error[..., :past, :] = _errors_of_past(which, settings)
        return error

    return rule


def _errors_of_past(which: str, settings: Settings) -> Array:
    """(B, H, P, D)."""
    assert settings.past is not None
    errors = settings.past.key_errors if which == "key" else settings.past.value_errors
    if errors is None:
        return np.zeros(())
    return share(errors, settings)


def _scores(known: Known) -> Array:
    """Per row, (B, H, L, 1): half of it is what the errors of query and key make of products with the other."""
    queries, keys = known.values["query_heads"], known.values["key_heads"]
    size, precision = queries.shape[-1], known.precision
    scale = abs(scale_of(known.settings, size))
    query_length, key_length = lengths_of(queries)[..., None], longest(lengths_of(keys))  # (B, H, L, 1), (B, H, 1, 1)
    own = precision.rounding_of_sum(size) + 2 * precision.rounding / size**0.5
    error: Array = own * query_length * key_length
    if "query_heads" in known.errors:
        mean = mean_sizes(known.errors["query_heads"])[..., None]  # (B, H, L, 1), the error of one feature
        error = np.hypot(error, mean * key_length)
    if "key_heads" in known.errors:
        error = np.hypot(error, longest(mean_sizes(known.errors["key_heads"])) * query_length)
    small = precision.floor + precision.loss_of_sum(size)
    roundings = 2 if known.settings.softcap is None else 5  # tanh never makes an error larger
    return scale * error + roundings * precision.rounding * largest_of_rows(known.values["scores"]) + small


def _masked_scores(known: Known) -> Array:
    """Per row, (B, H, L, 1), or (B, H, L, S): adding a mask rounds once more."""
    masked, before = known.values["masked_scores"], known.errors.get("scores", 0.0)
    if masked is known.values["scores"]:  # there is no mask
        return before + known.precision.floor + np.zeros((*masked.shape[:-1], 1))
    if masked.shape[-1] == 0:
        return np.zeros((*masked.shape[:-1], 1))
    lowest = np.where(np.isneginf(masked), 0.0, masked).min(axis=-1, keepdims=True)
    size: Array = np.maximum(np.abs(masked.max(axis=-1, keepdims=True)), -lowest)
    if known.rounds_masks:
        added = np.abs(masked - known.values["scores"])
        size = np.maximum(size, np.where(np.isfinite(added) & (added < _HUGE), added, 0.0).max(axis=-1, keepdims=True))
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
    sees_nothing = np.isneginf(largest)
    size = np.where(sees_nothing, 0.0, np.abs(largest)) + span
    errors: Array = own + known.errors.get("scores", 0.0) + known.precision.rounding * size
    return np.where(sees_nothing, 0.0, errors)


def _growth(known: Known) -> Array:
    """What the errors of scores let a row's weights grow by, in relation to them: (B, H, L, 1), infinite if anything.

    Scores off by d make each weight at most exp(2d) times what it is: d in the power, and d in the sum of powers.
    """
    power = 2 * FACTOR * score_error(known)
    return np.where(power > _ANY, np.inf, np.expm1(np.minimum(power, _ANY))) / FACTOR


def _rounding_of_softmax(precision: Precision) -> float:
    return _SOFTMAX * precision.unit_of_sums + precision.rounding


def _weights(known: Known) -> Proportional:
    """(B, H, L, S): in relation to each weight, which so may be tiny; what is forbidden is 0 and nothing else."""
    growth = _growth(known)
    relative = growth + _rounding_of_softmax(known.precision) * (1 + FACTOR * growth)
    masked = known.values["masked_scores"]
    has_mask = masked is not known.values["scores"]
    return Proportional(known.values["weights"], relative, known.precision.floor, masked if has_mask else None)


def _context(known: Known) -> Array:
    """(B, H, L, D)."""
    weights, values, precision = known.values["weights"], known.values["value_heads"], known.precision
    sums = weights @ np.abs(values)
    relative = precision.rounding_of_sum(weights.shape[-1])
    change = np.zeros(())
    if "weights" in known.errors:  # a mean of values stays among these, whatever the weights
        relative += _rounding_of_softmax(precision)
        change = np.fmin(_growth(known) * sums, span_of_rows(values) / FACTOR)
    error: Array = change + relative * (sums + FACTOR * change)
    lost = precision.loss_of_sum(1) if "weights" not in known.errors else precision.floor
    error += lost * np.abs(values).sum(axis=-2, keepdims=True) + precision.loss_of_sum(weights.shape[-1])
    if "value_heads" in known.errors:
        error = error + longest_row(known.errors["value_heads"])
    return error + precision.rounding * (np.abs(known.values["context"]) + FACTOR * change) + precision.floor


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
        error = error + _carry(before, np.abs(known.weights["output"]), known)
    return error + precision.floor


def _carry(before: Array, weight: Array, known: Known) -> Array:
    """What errors of all features come to in a product with weights, (B, L, out); by their squares if independent."""
    carried = root_of_squares(before, weight)
    if "weights" in known.errors and "context" in known.errors:
        coherent = (score_error(known)[..., 0] > _COHERENT / FACTOR).any(axis=1)  # (B, L)
        carried[coherent] = before[coherent] @ weight.T
    return carried


def _averaged_weights(known: Known) -> Array:
    """(B, L, S)."""
    averaged, precision = known.values["averaged_weights"], known.precision
    error: Array = (precision.rounding_of_sum(known.settings.heads) + precision.rounding) * averaged
    if "weights" in known.errors:
        error += known.errors["weights"].mean_over_heads()
    return np.where(error > 0, error + precision.floor, 0.0)  # what all heads are forbidden is 0


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
