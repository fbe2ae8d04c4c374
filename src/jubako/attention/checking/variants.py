"""What could have been meant instead: a call that differs in one thing, tried where a layer departs from the reference.

If the layer agrees with a variant, that names what it does: it ignores the mask, or forgets the scale.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.judge import add_errors, expect_values, judge
from jubako.attention.description import Masks
from jubako.attention.inputs import FORBIDDING
from jubako.attention.steps import STEP_NAMES
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jubako.attention.checking.judge import Call, Expected, Observed
    from jubako.attention.description import Array

__all__ = ["Variant", "find_variants", "forbids"]

_RESULTS = ("output", "weights", "averaged_weights")
_OFF_BY_ONE = ("one key too far: row i sees key i+1", "one key short: row i does not see key i")
_ACTS_AT = {"cap_ignored": "scores", "norm_ignored": "query_heads", "wrong_scale": "scores"}  # others at masks


@record
class Variant:
    """Another call, and what a layer does that agrees with it."""

    name: str
    sentence: str
    call: Call


def find_variants(
    call: Call, right: Expected, departing: Sequence[Observed], first: Mapping[str, str]
) -> list[tuple[Variant, list[str]]]:
    """The variants that explain all that some runs gave back, each with the names of these: of each run the first.

    What a run gave has to be nearer to a variant than to what is right before it is asked how far either may be off.
    `first` is the step that departs first, of each run: what goes wrong there is not explained by a later one.
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
        acts_at = STEP_NAMES.index(_ACTS_AT.get(variant.name, "masked_scores"))
        able = [run for run in left if first[run.name] not in STEP_NAMES[:acts_at]]
        filled = {run.name: _without_blind_rows(run, expected) for run in able}
        near = [run for run in able if _distance(filled[run.name], expected) < _distance(run, right)]
        expected = add_errors(expected) if near else expected
        explained = [run.name for run in near if _explains(expected, filled[run.name])]
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
        return float(np.nan_to_num(np.abs(output - right), nan=np.inf).max(initial=0.0))


def _without_blind_rows(run: Observed, expected: Expected) -> Observed:
    """The same with NaN as it should be in rows that see no key in a variant: what is made of those is no matter."""
    blind = expected.rows_without_keys  # (B, H, L)
    if not blind.any():
        return run
    values = {}
    for step, seen in run.values.items():
        rows = blind if seen.ndim == 4 else blind.any(axis=1)
        right = expected.values[step]
        values[step] = np.where(rows[..., None] & np.isnan(seen), right, seen) if seen.shape == right.shape else seen
    return replace(run, values=values)


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
        for offset, words in zip((2, 0), _OFF_BY_ONE, strict=True):
            shifted = replace(masks, attention=_join(masks.attention, _shifted_causal(call, offset)))
            yield Variant(
                "causal_off_by_one", f"the causal mask reaches {words}", replace(call, settings=dropped, masks=shifted)
            )
    yield from _shifted_masks(call)
    there = {name: mask for name, mask in _named(masks).items() if mask is not None}
    for name, mask in there.items():
        yield from _changed_masks(call, {name: mask})
    if len(there) == 2:
        yield from _changed_masks(call, there)


def _changed_masks(call: Call, chosen: dict[str, Array]) -> Iterator[Variant]:
    """One mask, or both, the other way round; and ignored."""
    said = f"the {next(iter(chosen))} mask is" if len(chosen) == 1 else "both masks are"
    inverted = {name: _inverted(mask) for name, mask in chosen.items()}
    if all(mask is not None for mask in inverted.values()):
        yield Variant(
            "mask_polarity",
            f"{said} taken the other way round: what it forbids is allowed, and the rest forbidden",
            replace(call, masks=Masks(**{**_named(call.masks), **inverted})),
        )
    without = replace(call, masks=Masks(**{**_named(call.masks), **dict.fromkeys(chosen)}))
    yield Variant("mask_ignored", f"{said} ignored", without)
    if call.settings.is_causal and "attention" in chosen:
        bare = replace(without, settings=replace(call.settings, is_causal=False))
        yield Variant("mask_ignored", f"{said} ignored, and is_causal with it", bare)


def forbids(mask: Array) -> Array:
    """Where a mask forbids: by True, or by a number that leaves no weight."""
    return mask if mask.dtype.kind == "b" else mask <= FORBIDDING


def _inverted(mask: Array) -> Array | None:
    """A mask that forbids what this one allows; None for one that does more than to forbid and allow."""
    forbidden = forbids(mask)
    if mask.dtype.kind == "b":
        return ~mask
    return np.where(forbidden, 0.0, -np.inf) if not mask[~forbidden].any() else None


def _shifted_masks(call: Call) -> Iterator[Variant]:
    """Where the attention mask is a causal one, whatever else it forbids: the same with one key more, and one less."""
    mask = call.masks.attention
    past = None if mask is None or mask.ndim < 2 else _find_causal(forbids(mask))
    if mask is None or past is None:
        return
    length, keys = mask.shape[-2:]
    rows = np.arange(length - 1)
    rows = rows[rows + past + 1 < keys]
    further = np.array(mask)
    further[..., rows, rows + past + 1] = mask[..., rows + 1, rows + past + 1]  # which padding may forbid all the same
    short = np.array(mask)
    own = np.arange(min(length, keys - past))
    short[..., own, own + past] = True if mask.dtype.kind == "b" else -np.inf
    hidden = replace(call.settings, is_causal=False)  # the mask has all that is_causal says
    for shifted, words in zip((further, short), _OFF_BY_ONE, strict=True):
        masks = replace(call.masks, attention=shifted)
        yield Variant(
            "causal_off_by_one", f"the causal mask reaches {words}", replace(call, settings=hidden, masks=masks)
        )


def _find_causal(forbidden: Array) -> int | None:
    """How many keys the first row sees before its own, if a mask (..., L, S) is causal; None if it is not."""
    length, keys = forbidden.shape[-2:]
    for past in dict.fromkeys((0, keys - length)):
        rows, columns = np.arange(length)[:, None] + past, np.arange(keys)[None, :]
        later = columns > rows
        if past >= 0 and length > 1 and later.any() and forbidden[..., later].all():
            return None if forbidden[..., columns == rows].all() else past
    return None


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
