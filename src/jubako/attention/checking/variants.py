"""What could have been meant instead: a call that differs in one thing, tried where a layer departs from the reference.

If the layer agrees with a variant, that names what it does: it ignores the mask, or forgets the scale.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.judge import add_errors, expect_values, judge
from jubako.attention.description import Masks
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.attention.checking.judge import Call, Expected, Observed
    from jubako.attention.description import Array

__all__ = ["Variant", "find_variants"]

_RESULTS = ("output", "weights", "averaged_weights")


@record
class Variant:
    """Another call, and what a layer does that agrees with it."""

    name: str
    sentence: str
    call: Call


def find_variants(call: Call, right: Expected, departing: Sequence[Observed]) -> list[tuple[Variant, list[str]]]:
    """The variants that explain all that some runs gave back, each with the names of these: of each run the first.

    What a run gave has to be nearer to a variant than to what is right before it is asked how far either may be off.
    """
    left = [
        replace(run, values={step: array for step, array in run.values.items() if step in _RESULTS}, is_result=True)
        for run in departing
        if "output" in run.values
    ]
    found = []
    for variant in _variants(call):
        if not left:
            break
        expected = expect_values(variant.call)
        near = [run for run in left if _distance(run, expected) < _distance(run, right)]
        expected = add_errors(expected) if near else expected
        explained = [run.name for run in near if _explains(expected, run)]
        if explained:
            found.append((variant, explained))
            left = [run for run in left if run.name not in explained]
    return found


def _explains(expected: Expected, run: Observed) -> bool:
    judged = judge(run, expected)
    return judged.is_compared and judged.first_departure is None


def _distance(run: Observed, expected: Expected) -> float:
    output, right = run.values["output"], expected.values["output"]
    if output.shape != right.shape:
        return np.inf
    with np.errstate(all="ignore"):
        return float(np.abs(output - right).max(initial=0.0))


def _variants(call: Call) -> Iterator[Variant]:
    yield from _mask_variants(call)
    if call.settings.softcap is not None:
        bare = replace(call.settings, softcap=None)
        yield Variant("cap_ignored", "scores are not capped", replace(call, settings=bare))
    if call.weights.query_norm is not None:
        names = ("query_norm", "key_norm", "query_norm_bias", "key_norm_bias")
        without = replace(call.weights, **dict.fromkeys(names))
        yield Variant("norm_ignored", "queries and keys are not normalised", replace(call, weights=without))
    size = call.weights.query.shape[0] // call.settings.heads
    if size > 1:
        for scale, words in ((1.0, "scores are not scaled"), (1.0 / size, "scores are scaled by 1/D, not 1/sqrt(D)")):
            yield Variant("wrong_scale", words, replace(call, settings=replace(call.settings, scale=scale)))


def _mask_variants(call: Call) -> Iterator[Variant]:
    masks, settings = call.masks, call.settings
    if settings.is_causal:
        dropped = replace(settings, is_causal=False)
        yield Variant(
            "causal_hint_dropped",
            "is_causal was given and dropped: every row sees the keys after it",
            replace(call, settings=dropped),
        )
        for offset, words in (
            (2, "one key too far: row i sees key i+1"),
            (0, "one key short: row i does not see key i"),
        ):
            shifted = replace(masks, attention=_join(masks.attention, _shifted_causal(call, offset)))
            yield Variant(
                "causal_off_by_one", f"the causal mask reaches {words}", replace(call, settings=dropped, masks=shifted)
            )
    for name in ("attention", "padding"):
        mask = getattr(masks, name)
        if mask is None:
            continue
        if mask.dtype.kind == "b":
            yield Variant(
                "mask_polarity",
                f"the {name} mask is taken the other way round: what it forbids is allowed, and the rest forbidden",
                replace(call, masks=Masks(**{**_named(masks), name: ~mask})),
            )
        yield Variant(
            "mask_ignored", f"the {name} mask is ignored", replace(call, masks=Masks(**{**_named(masks), name: None}))
        )


def _named(masks: Masks) -> dict[str, Array | None]:
    return {"attention": masks.attention, "padding": masks.padding}


def _shifted_causal(call: Call, offset: int) -> Array:
    """True from the key that is `offset` after a row on: (L, S)."""
    axis = -2 if call.query.ndim == 2 or call.settings.batch_first else 0
    length, keys = call.query.shape[axis], call.key.shape[axis]
    past = call.settings.past_length
    return np.arange(call.settings.kept_length + keys)[None, :] >= np.arange(past, past + length)[:, None] + offset


def _join(mask: Array | None, forbidden: Array) -> Array:
    if mask is None:
        return forbidden
    return mask | forbidden if mask.dtype.kind == "b" else np.where(forbidden, -np.inf, mask)
