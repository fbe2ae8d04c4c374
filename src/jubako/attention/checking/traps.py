"""The ways in which attention goes wrong without a word, recognised and called by name."""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.judge import expect, judge
from jubako.attention.checking.precision import PRECISIONS
from jubako.attention.checking.sentences import describe_place, number
from jubako.attention.checking.variants import find_variants
from jubako.attention.checking.verdicts import Trap
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.attention.checking.judge import Call, Expected, Observed
    from jubako.attention.checking.verdicts import RunReport
    from jubako.attention.description import Array

__all__ = ["find_traps"]

_RETURNED = ("averaged_weights", "weights", "output")
_NAN, _OTHER = "NaN", "other weights"


def find_traps(
    call: Call, expected: Expected, observations: Sequence[Observed], runs: Sequence[RunReport]
) -> list[Trap]:
    """All that are found in the runs of a call."""
    return [
        *_find_variants(call, expected, observations, runs),
        *_find_rows_without_keys(expected, observations, runs),
        *_find_suspicious_mask(call),
        *_find_dropout(observations),
        *_find_disagreement(runs),
        *_find_less_precise(call, observations, runs),
    ]


def _find_variants(
    call: Call, expected: Expected, observations: Sequence[Observed], runs: Sequence[RunReport]
) -> Iterator[Trap]:
    departing = [seen for seen, run in zip(observations, runs, strict=True) if run.first_departure is not None]
    first = {run.name: run.first_departure.step for run in runs if run.first_departure is not None}
    sentences: dict[str, tuple[str, list[str]]] = {}
    for variant, names in find_variants(call, expected, [seen for seen in departing if not seen.dropout], first):
        sentences.setdefault(variant.name, (variant.sentence, []))[1].extend(names)
    for name, (sentence, where) in sentences.items():
        yield Trap(name, f"{sentence} ({'; '.join(where)})", is_failure=True)


def _find_rows_without_keys(
    expected: Expected, observations: Sequence[Observed], runs: Sequence[RunReport]
) -> Iterator[Trap]:
    blind = expected.rows_without_keys  # (B, H, L)
    if not blind.any() or expected.values["weights"].shape[-1] == 0:
        return
    batch, head, row = (int(i) for i in np.argwhere(blind)[0])
    told = []
    is_failure = False
    for observed, run in zip(observations, runs, strict=True):
        said = {
            step: _describe_rows(observed.values[step], expected.values[step], blind)
            for step in _RETURNED
            if step in observed.values and observed.values[step].shape == expected.values[step].shape
        }
        judged_by = next((words for step, words in said.items() if step != "output"), said.get("output", ""))
        is_failure |= run.first_departure is not None and judged_by in (_NAN, _OTHER)
        if said:
            told.append(f"{observed.name}: {', '.join(f'{words} in {step}' for step, words in said.items())}")
    place = describe_place(("B", "H", "L"), (batch, head, row))
    yield Trap(
        "fully_masked_row",
        f"{int(blind.any(axis=1).sum())} rows see no key at all, first {place}; right are weights of 0. "
        + "; ".join(told),
        is_failure,
    )


def _describe_rows(seen: Array, right: Array, blind: Array) -> str:
    rows = blind if seen.ndim == 4 else blind.all(axis=1)  # (B, L)
    if not rows.any():
        return "nothing"
    if np.isnan(seen[rows]).any():
        return _NAN
    return "as is right" if np.allclose(seen[rows], right[rows], atol=1e-3) else _OTHER


def _find_suspicious_mask(call: Call) -> Iterator[Trap]:
    """A mask that forbids the past and allows the future was made for a function in which True means allowed."""
    mask = call.masks.attention
    if (
        mask is None
        or mask.dtype.kind != "b"
        or mask.ndim < 2
        or mask.shape[-1] < 2
        or mask.shape[-1] != mask.shape[-2]
    ):
        return
    if np.array_equal(mask, np.broadcast_to(np.tri(mask.shape[-1], dtype=bool), mask.shape)):
        yield Trap(
            "mask_polarity",
            "the attention mask forbids each row its own key and all before it: True forbids here, "
            "and allows in scaled_dot_product_attention, for which it may have been made",
            is_failure=False,
        )


def _find_dropout(observations: Sequence[Observed]) -> Iterator[Trap]:
    for observed in observations:
        returned = observed.values.get("returned_weights")
        if returned is None:
            continue
        sums = returned.sum(axis=-1, dtype=np.float64)
        if np.abs(sums - 1).max(initial=0.0) > 0.01:
            yield Trap(
                "dropout_in_returned_weights",
                "in training the weights given back are those after dropout, scaled up: their rows add up to "
                f"{number(float(sums.min()))} to {number(float(sums.max()))}",
                is_failure=False,
            )


def _find_less_precise(call: Call, observations: Sequence[Observed], runs: Sequence[RunReport]) -> Iterator[Trap]:
    """A layer of double precision that is right to single precision: some of it was computed in that."""
    departing = [seen for seen, run in zip(observations, runs, strict=True) if run.first_departure is not None]
    if call.precision.name != "float64" or not departing or any(seen.dropout for seen in departing):
        return
    expected = expect(replace(call, precision=PRECISIONS["float32"]))
    if all(judge(seen, expected).first_departure is None for seen in departing):
        yield Trap(
            "computed_in_float32",
            "all is right to float32, in which some of it must have been computed, as softmax and norms often are "
            f"({'; '.join(seen.name for seen in departing)})",
            is_failure=True,
        )


def _find_disagreement(runs: Sequence[RunReport]) -> Iterator[Trap]:
    """One path right and the other wrong, on the same inputs."""
    right = [run.name for run in runs if run.is_compared and run.first_departure is None]
    wrong = [run.name for run in runs if run.first_departure is not None]
    paths = {name.partition(" path")[0] for name in (*right, *wrong) if " path" in name}
    if right and wrong and len(paths) > 1 and {n.partition(" path")[0] for n in right} != paths:
        yield Trap("paths_disagree", f"{'; '.join(wrong)} departs, and {'; '.join(right)} does not", is_failure=True)
