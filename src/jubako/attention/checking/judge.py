"""Judges what was observed of one run of a layer: each step from its own inputs, and from the beginning.

A run that shows only some steps is compared at these; between them the reference fills in what was not observed, from
what was. So the first step that departs is the first observed one at which something went wrong since the one before.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.bounds import Known, expected_error, expected_errors, row_sum_bound
from jubako.attention.checking.compare import compare, forgive_forbidden
from jubako.attention.checking.rederive import Fixed, rederive
from jubako.attention.checking.verdicts import RowSum, RunReport, StepVerdict
from jubako.attention.description import NO_MASKS, check_weights
from jubako.attention.inputs import arrange, merge_masks, require_memory
from jubako.attention.reference import derive, in_double
from jubako.attention.steps import STEP_NAMES, axes_of, before
from jubako.errors import InputError
from jubako.records import field, record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from jubako.attention.checking.compare import Comparison
    from jubako.attention.checking.precision import Precision
    from jubako.attention.checking.verdicts import Origin, Verdict
    from jubako.attention.description import Array, Masks, Settings, Weights
    from jubako.verify.tolerance import Tolerance

__all__ = ["Call", "Expected", "Observed", "expect", "judge"]


@record
class Call:
    """A layer and what it is called with, in its own layout. The arrays hold what the layer itself holds, rounded."""

    weights: Weights
    settings: Settings
    query: Array
    key: Array
    value: Array
    precision: Precision  # of what the layer computes in
    masks: Masks = NO_MASKS
    memory_bytes: int | None = None  # how much may be used; None: what is free


@record
class Observed:
    """What a run of the layer showed of its steps, batch first, in a type as wide as its own or wider."""

    name: str
    values: Mapping[str, Array] = field(default_factory=dict)
    refused: str = ""
    notes: Sequence[str] = ()
    is_result: bool = False  # what the call gave back and nothing else: to be compared from the inputs only
    dropout: float = 0.0  # where "dropped_weights" is among the values: the share of weights that are left out


@record
class Expected:
    """What the reference says of a call: the values of all steps, and how far each may be expected to be off."""

    known: Known
    fixed: Fixed
    values: Mapping[str, Array]
    errors: Mapping[str, Any]  # arrays; of the weights they are in relation to these

    @property
    def rows_without_keys(self) -> Array:
        """Which rows see no key at all: (B, H, L)."""
        masked = self.values["masked_scores"]
        if masked.shape[-1] == 0:
            return np.ones(masked.shape[:-1], bool)
        return np.isneginf(masked.max(axis=-1))


def expect(call: Call) -> Expected:
    """Re-derives a call. InputError for what does not fit together, HostError for what does not fit into memory."""
    check_weights(call.weights, call.settings)
    inputs = arrange(call.query, call.key, call.value, call.weights, call.settings)
    require_memory(call.settings, inputs.sizes, call.weights.query.shape[0], call.memory_bytes)
    mask = merge_masks(call.masks, call.settings, inputs.sizes)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = derive(inputs, call.weights, call.settings, mask)
    if not (np.isfinite(steps.scores).all() and np.isfinite(steps.output).all()):
        raise InputError(
            "this call cannot be judged: its scores, or its output, are beyond what double precision holds"
        )
    weights = in_double(call.weights)
    values = {"query": inputs.query, "key": inputs.key, "value": inputs.value, **steps.named()}
    known = Known(values, {}, weights, call.settings, call.precision)
    with np.errstate(all="ignore"):
        errors = expected_errors(known)
    return Expected(known, Fixed(weights, call.settings, mask), values, errors)


def judge(observed: Observed, expected: Expected, tolerance: Tolerance | None = None) -> RunReport:
    """A verdict for each step of the run."""
    if observed.refused:
        return RunReport(observed.name, refused=observed.refused, notes=observed.notes)
    with np.errstate(all="ignore"):
        verdicts = list(_Judge(observed, expected, tolerance).verdicts())
    return RunReport(observed.name, verdicts, notes=observed.notes)


class _Judge:
    """Goes through the steps in order. `local` has what was observed, and what follows from it where nothing was."""

    def __init__(self, observed: Observed, expected: Expected, tolerance: Tolerance | None) -> None:
        self._observed = observed.values
        self._dropout = observed.dropout
        self._is_result = observed.is_result
        self._expected = expected
        self._tolerance = tolerance
        self._precision = expected.known.precision
        self._local = dict(expected.values)
        self._local_errors: dict[str, Any] = dict(expected.errors)
        self._is_local: set[str] = set()  # steps that follow from something observed
        self._verdicts: list[StepVerdict] = []

    def verdicts(self) -> list[StepVerdict]:
        """In the order of the steps."""
        for step in STEP_NAMES:
            self._verdicts.append(self._judge(step))
        return self._verdicts

    def _judge(self, step: str) -> StepVerdict:
        is_local = any(name in self._is_local for name in before(step))
        seen = self._observed.get(step)
        if step == "masked_scores" and seen is not None and self._is_scores(seen):
            self._local[step] = self._local["scores"]
            self._is_local.add(step)
            return self._same_as_scores()
        if is_local and (seen is not None or step != "averaged_weights"):  # from which nothing follows
            self._fill_in(step)
        reference = self._expected.values[step]
        if seen is None:
            return StepVerdict(step, axes_of(step), reference.shape, "not_observable")
        if seen.shape != reference.shape:
            return self._wrong_shape(step, seen)
        seen = seen.astype(np.float64, copy=False)
        if step == "masked_scores" and self._expected.fixed.mask is not None:
            seen = forgive_forbidden(seen, reference, self._precision)
        cumulative = compare(seen, reference, self._expected.errors[step], self._precision, self._tolerance)
        isolated = None
        is_finite_before = True
        if is_local:
            own = self._local[step]
            is_finite_before = bool(np.isfinite(own).all()) or step == "masked_scores"
            isolated = compare(seen, own, self._local_errors[step], self._precision, self._tolerance)
        row_sum = self._row_sum(seen) if step.endswith("weights") else None
        if step == "weights" and "dropped_weights" in self._observed:
            isolated = self._worse_of(isolated, self._compare_dropped(seen))
        verdict, origin = _decide(isolated, cumulative, row_sum, is_finite_before=is_finite_before)
        if not self._is_result:
            self._local[step] = seen  # what the next steps start from
            self._is_local.add(step)
        return StepVerdict(step, axes_of(step), seen.shape, verdict, isolated, cumulative, row_sum, origin)

    def _is_scores(self, seen: Array) -> bool:
        """True for masked scores that are the very scores, where there is no mask: they need no look of their own."""
        scores = self._observed.get("scores")
        is_same = scores is not None and self._expected.fixed.mask is None and np.shares_memory(seen, scores)
        return is_same and seen.shape == self._expected.values["scores"].shape

    def _same_as_scores(self) -> StepVerdict:
        scores = self._verdicts[-1]
        assert scores.cumulative is not None
        own = replace(scores.cumulative, error=0.0, used=0.0, expected=scores.cumulative.observed, ulps=0.0, out=0)
        origin: Origin = "propagated" if scores.origin else ""
        return replace(scores, step="masked_scores", isolated=replace(own, is_exact=True), origin=origin)

    def _fill_in(self, step: str) -> None:
        """What follows for a step from what was observed before it, and how far that may be off."""
        self._local[step] = rederive(step, self._local, self._expected.fixed)
        errors = {name: error for name, error in self._local_errors.items() if name not in self._observed}
        self._is_local.add(step)
        if step == "weights" and not {"weights", "averaged_weights"} & self._observed.keys():
            return  # it is large, and nothing asks for it: what follows starts from the errors of the scores
        known = replace(self._expected.known, values=self._local, errors=errors)
        self._local_errors[step] = expected_error(step, known)

    def _compare_dropped(self, weights: Array) -> Comparison:
        """Weights after dropout: each is left out, or scaled up so that the mean stays what it was."""
        dropped = self._observed["dropped_weights"]
        scaled = np.where(dropped == 0, 0.0, weights.astype(np.float64) / (1.0 - self._dropout))
        error = 2 * self._precision.rounding * scaled + self._precision.floor
        return compare(dropped, scaled, error, self._precision, self._tolerance)

    @staticmethod
    def _worse_of(one: Comparison | None, other: Comparison) -> Comparison:
        return other if one is None or not other.holds else one

    def _row_sum(self, seen: Array) -> RowSum | None:
        if seen.shape[-1] == 0 or seen.size == 0 or self._tolerance is not None:
            return None
        sums = np.abs(seen.sum(axis=-1, dtype=np.float64) - 1.0)
        blind = self._expected.rows_without_keys
        sums[blind if seen.ndim == 4 else blind.any(axis=1)] = 0.0
        place = np.unravel_index(int(np.argmax(sums)), sums.shape)
        return RowSum(float(sums[place]), row_sum_bound(seen.shape[-1], self._precision), tuple(map(int, place)))

    def _wrong_shape(self, step: str, seen: Array) -> StepVerdict:
        right = self._expected.values[step].shape
        return StepVerdict(step, axes_of(step), seen.shape, "out_of_bound", origin="producer", right_shape=right)


def _decide(
    isolated: Comparison | None, cumulative: Comparison, row_sum: RowSum | None, *, is_finite_before: bool
) -> tuple[Verdict, Origin]:
    own = cumulative if isolated is None else isolated
    if not cumulative.is_finite:
        return "non_finite", "producer" if is_finite_before else "propagated"
    if own.out == 0 and not (own.is_bounded and cumulative.is_bounded):
        return "not_judged", ""
    if not own.holds or (row_sum is not None and not row_sum.holds):
        return "out_of_bound", "producer"
    if not cumulative.holds:
        return "out_of_bound", "propagated"
    return ("exact" if cumulative.is_exact else "within_bound"), ""
