"""One layer checked: what it showed in each run judged, traps looked for, all of it put into a report."""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.explain import explain_bounds, largest_score
from jubako.attention.checking.judge import Observed, expect, judge
from jubako.attention.checking.report import Report
from jubako.attention.checking.sentences import number
from jubako.attention.checking.traps import find_traps
from jubako.attention.checking.verdicts import LayerReport
from jubako.attention.steps import STEP_NAMES
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jubako.attention.checking.judge import Call, Expected
    from jubako.attention.checking.options import CheckOptions
    from jubako.attention.description import Array, Settings, Weights
    from jubako.verify.tolerance import Tolerance

__all__ = ["check_steps", "facts_of", "report_layer"]

_STEPS = f"Steps are {', '.join(STEP_NAMES)}."


def report_layer(
    name: str,
    kind: str,
    call: Call,
    expected: Expected,
    observations: Sequence[Observed],
    tolerance: Tolerance | None = None,
) -> LayerReport:
    """The report of a layer of which runs were observed."""
    runs = [judge(observed, expected, tolerance) for observed in observations]
    return LayerReport(
        name,
        kind,
        facts_of(call, expected),
        runs,
        find_traps(call, expected, observations, runs),
        {} if tolerance is not None else explain_bounds(expected),
    )


def check_steps(values: Mapping[str, Array], call: Call, options: CheckOptions) -> Report:
    """The report of values given for the steps of a call. InputError for a step there is not, or what is no number."""
    unknown = sorted(values.keys() - set(STEP_NAMES))
    if unknown or not values:
        raise InputError(
            f"there is no step called {', '.join(unknown)}" if unknown else "no step was given", hint=_STEPS
        )
    arrays = {step: np.asarray(array) for step, array in values.items()}
    if wrong := [f"{step} is of type {array.dtype}" for step, array in arrays.items() if array.dtype.kind not in "fiu"]:
        raise InputError(f"{', '.join(wrong)}, and what a step gives are real numbers")
    observed = Observed("as given", arrays)
    layer = report_layer("the layer", "values that were given", call, expect(call), [observed], options.tolerance)
    return Report("values", [layer], tolerance="" if options.tolerance is None else options.tolerance.describe())


def _describe_norm(weights: Weights, settings: Settings) -> str | None:
    """What queries and keys are normalised by; None if they are not."""
    if weights.query_norm is None:
        return None
    kind = "LayerNorm" if settings.norm.takes_mean else "RMSNorm"
    is_whole = weights.query_norm.shape == (weights.query.shape[0],) and settings.heads > 1
    return f"{kind} of {'all heads' if is_whole else 'each head'}"


def facts_of(call: Call, expected: Expected) -> dict[str, object]:
    """Sizes and settings, by name; those that are not there are None or False."""
    batch, heads, length, keys = expected.values["weights"].shape
    settings, weights = call.settings, call.weights
    rotary = settings.rotary
    return {
        "dtype": call.precision.name,
        "B": batch,
        "L": length,
        "S": keys,
        "P": settings.past_length or None,
        "E": weights.query.shape[1],
        "H": heads,
        "Hk": settings.groups if settings.groups != heads else None,
        "D": expected.values["query_heads"].shape[-1],
        "causal": settings.is_causal,
        "biases": weights.query_bias is not None,
        "added_row_of_keys": weights.added_key is not None,
        "added_row_of_zeros": settings.adds_zero,
        "rotary": None if rotary is None else rotary.pairing,
        "norm": _describe_norm(weights, settings),
        "softcap": settings.softcap,
        "scale": None if settings.scale is None else number(settings.scale),
        "attention_mask": None if call.masks.attention is None else str(call.masks.attention.dtype),
        "padding_mask": None if call.masks.padding is None else str(call.masks.padding.dtype),
        "largest_score": number(largest_score(expected)),
    }
