"""How the bound of each step comes about, in words and with the numbers of the call at hand."""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.bounds import row_sum_bound
from jubako.attention.checking.proportional import FACTOR, Proportional
from jubako.attention.checking.sentences import number
from jubako.attention.steps import STEP_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.checking.judge import Expected

__all__ = ["explain_bounds", "largest_score"]


_HUGE = 1e4


def explain_bounds(expected: Expected) -> dict[str, str]:
    """A sentence for each step: what may be off, how the bound grows, and the largest it is in this call."""
    precision, values = expected.known.precision, expected.values
    size, keys = values["query_heads"].shape[-1], values["weights"].shape[-1]
    score = number(largest_score(expected))
    features = {which: values[which].shape[-1] for which in ("query", "key", "value")}
    sums = {which: f"sums of E={count} products" for which, count in features.items()}
    settings = expected.known.settings
    turned = ", normalised" if "query_norm" in expected.known.weights else ""
    turned += ", turned by position" if settings.rotary is not None else ""
    capped = "" if settings.softcap is None else f", capped at {settings.softcap:g}"
    words = {
        **{f"{which}_projection": f"{sums[which]}, each rounded" for which in features},
        **{f"{which}_heads": "the projection in another order, which rounds nothing" for which in features},
        "scores": f"sums of D={size} products, and what queries and keys are off by; scores up to {score}{capped}",
        "masked_scores": "the scores, and the rounding of what is added",
        "weights": f"e to twice what scores are off by, in relation to each weight: scores up to {score}",
        "context": f"sums over S={keys} keys, and what weights and values are off by",
        "concatenated": "the context in another order, which rounds nothing",
        "output": f"sums of {values['concatenated'].shape[-1]} products, and what comes in",
        "averaged_weights": f"the mean over H={settings.heads} heads, and what weights are off by",
    }
    words["query_heads"] += turned
    words["key_heads"] += turned
    told = {step: f"{words[step]}; at most {number(_largest_bound(expected, step))}" for step in STEP_NAMES}
    told["row sums"] = f"the weights of a row add up to 1 within {number(row_sum_bound(keys, precision))}"
    return told


def largest_score(expected: Expected) -> float:
    """The largest score before any mask, by size."""
    scores = expected.values["scores"]
    return max(float(scores.max(initial=0.0)), -float(scores.min(initial=0.0)))


def _largest_bound(expected: Expected, step: str) -> float:
    error = expected.errors[step]
    if isinstance(error, Proportional):
        return FACTOR * error.largest()
    if step == "masked_scores" and error.shape == expected.values[step].shape:
        error = error[np.abs(expected.values[step]) < _HUGE]  # what stands for -inf is of no interest
    return FACTOR * float(np.max(error, initial=0.0))
