"""Each step by itself, from whatever values the steps before it have: those of the reference, or those observed."""

from __future__ import annotations

from jubako.attention.reference import (
    add_mask,
    concatenate,
    project,
    score,
    softmax,
    to_key_heads,
    to_query_heads,
    to_value_heads,
)
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jubako.attention.description import Array, Settings

__all__ = ["Fixed", "rederive"]


@record
class Fixed:
    """What is the same for all steps of a call: parameters in double precision, settings, the merged mask."""

    weights: Mapping[str, Array]
    settings: Settings
    mask: Array | None


def rederive(step: str, values: Mapping[str, Array], fixed: Fixed) -> Array:
    """What a step gives, computed in double precision from `values`."""
    weights, settings = fixed.weights, fixed.settings
    which = step.partition("_")[0]
    if step.endswith("_projection"):
        return project(values[which], weights[which], weights.get(f"{which}_bias"))
    if step == "query_heads":
        return to_query_heads(values["query_projection"], weights, settings)
    if step == "key_heads":
        return to_key_heads(values["key_projection"], weights, settings)
    if step == "value_heads":
        return to_value_heads(values["value_projection"], weights, settings)
    if step == "scores":
        return score(values["query_heads"], values["key_heads"], settings)
    if step == "masked_scores":
        return add_mask(values["scores"], fixed.mask)
    if step == "weights":
        return softmax(values["masked_scores"])
    if step == "context":
        product: Array = values["weights"] @ values["value_heads"]
        return product
    if step == "concatenated":
        return concatenate(values["context"])
    if step == "output":
        joined = values["concatenated"]
        return project(joined, weights["output"], weights.get("output_bias")) if "output" in weights else joined
    averaged: Array = values["weights"].mean(axis=1)
    return averaged
