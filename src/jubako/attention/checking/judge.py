"""Judges what was observed of one run of a layer: each step from its own inputs, and from the beginning.

A run that shows only some steps is compared at these; between them the reference fills in what was not observed, from
what was. So the first step that departs is the first observed one at which something went wrong since the one before.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.bounds import Known, expected_error, expected_errors, row_sum_bound
from jubako.attention.checking.compare import compare, forgive_forbidden
from jubako.attention.checking.dropout import compare_dropped, share_of_dropped
from jubako.attention.checking.rederive import Fixed, rederive
from jubako.attention.checking.verdicts import FAILING, RowSum, RunReport, StepVerdict
from jubako.attention.description import NO_MASKS, check_weights
from jubako.attention.inputs import arrange, measure, merge_masks, require_memory
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

__all__ = ["Call", "Expected", "Observed", "add_errors", "expect", "expect_values", "judge"]

_AFTER_DROPOUT = ("context", "concatenated", "output", "averaged_weights")


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
    rounds_masks: bool = False  # masks come in a finer type than it computes in


@record
class Observed:
    """What a run of the layer showed of its steps, batch first, in a type as wide as its own or wider."""

    name: str
    values: Mapping[str, Array] = field(default_factory=dict)
    refused: str = ""
    broken: str = ""  # why there is nothing of it, where there should be
    notes: Sequence[str] = ()
    is_result: bool = False  # what the call gave back and nothing else: to be compared from the inputs only
    dropout: float = (
        0.0  # the share of weights that are left out: into "dropped_weights", or "weights" where that isn't
    )


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
    return add_errors(expect_values(call))


def add_errors(expected: Expected) -> Expected:
    """With how far each step may be expected to be off."""
    with np.errstate(all="ignore"):
        return replace(expected, errors=expected_errors(expected.known))


def expect_values(call: Call) -> Expected:
    """As `expect`, without how far anything may be off."""
    check_weights(call.weights, call.settings)
    given = {name: np.asarray(getattr(call, name)) for name in ("query", "key", "value")}
    _, sizes = measure(given, call.weights, call.settings)
    require_memory(call.settings, sizes, call.weights.query.shape[0], call.memory_bytes)
    inputs = arrange(call.query, call.key, call.value, call.weights, call.settings)
    mask = merge_masks(call.masks, call.settings, inputs.sizes)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = derive(inputs, call.weights, call.settings, mask)
    if not (np.isfinite(steps.scores).all() and np.isfinite(steps.output).all()):
        raise InputError(
            "this call cannot be judged: its scores, or its output, are beyond what double precision holds"
        )
    weights = in_double(call.weights)
    values = {"query": inputs.query, "key": inputs.key, "value": inputs.value, **steps.named()}
    known = Known(values, {}, weights, call.settings, call.precision, call.rounds_masks)
    return Expected(known, Fixed(weights, call.settings, mask), values, {})


def judge(observed: Observed, expected: Expected, tolerance: Tolerance | None = None) -> RunReport:
    """A verdict for each step of the run."""
    if observed.refused or observed.broken:
        return RunReport(observed.name, refused=observed.refused, broken=observed.broken, notes=observed.notes)
    with np.errstate(all="ignore"):
        verdicts = list(_Judge(observed, expected, tolerance).verdicts())
    return RunReport(observed.name, verdicts, notes=observed.notes)


class _Judge:
    """Goes through the steps in order. `local` has what was observed, and what follows from it where nothing was."""

    def __init__(self, observed: Observed, expected: Expected, tolerance: Tolerance | None) -> None:
        self._observed = dict(observed.values)
        self._dropout = observed.dropout
        if self._dropout and "weights" in self._observed and "dropped_weights" not in self._observed:
            self._observed["dropped_weights"] = self._observed.pop("weights")
        self._dropped = self._observed.pop("dropped_weights", None)
        self._is_blind = self._dropout > 0 and self._dropped is None  # nobody saw what was left out
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
        if step == "weights" and self._dropped is not None:
            return self._judge_dropped(seen, self._dropped)
        if seen is None:
            return StepVerdict(step, axes_of(step), reference.shape, "not_observable")
        if seen.shape != reference.shape:
            return self._wrong_shape(step, seen)
        seen = seen.astype(np.float64, copy=False)
        if step == "masked_scores" and self._expected.fixed.mask is not None:
            seen = forgive_forbidden(seen, reference, self._precision)
        if self._is_blind and step in _AFTER_DROPOUT and not self._knows_context(step):
            self._local[step] = seen  # what the next steps start from
            self._is_local.add(step)
            return StepVerdict(step, axes_of(step), seen.shape, "not_observable")
        if (self._dropped is not None or self._is_blind) and step in _AFTER_DROPOUT:
            return self._judge_after_dropout(step, seen)
        cumulative = compare(seen, reference, self._expected.errors[step], self._precision, self._tolerance)
        isolated = None
        is_finite_before = True
        if is_local:
            own = self._local[step]
            is_finite_before = bool(np.isfinite(own).all()) or step == "masked_scores"
            isolated = compare(seen, own, self._local_errors[step], self._precision, self._tolerance)
        row_sum = self._row_sum(seen) if step.endswith("weights") else None
        verdict, origin = _decide(isolated, cumulative, row_sum, is_finite_before=is_finite_before)
        if not self._is_result:
            self._local[step] = seen  # what the next steps start from
            self._is_local.add(step)
        return StepVerdict(step, axes_of(step), seen.shape, verdict, isolated, cumulative, row_sum, origin)

    def _knows_context(self, step: str) -> bool:
        """True for what follows from a context that was observed, whatever was left out of it."""
        return step in ("concatenated", "output") and bool({"context", "concatenated"} & self._observed.keys() - {step})

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
        exact = self._observed.keys() | ({"weights"} if self._dropped is not None else set())
        errors = {name: error for name, error in self._local_errors.items() if name not in exact}
        self._is_local.add(step)
        if step == "weights" and self._dropped is None and not {"weights", "averaged_weights"} & self._observed.keys():
            return  # it is large, and nothing asks for it: what follows starts from the errors of the scores
        known = replace(self._expected.known, values=self._local, errors=errors)
        self._local_errors[step] = expected_error(step, known)

    def _judge_dropped(self, seen: Array | None, dropped: Array) -> StepVerdict:
        """Weights before dropout, if they were seen, and after it; what follows starts from the latter."""
        dropped = dropped.astype(np.float64, copy=False)
        self._dropped = None
        before = None if seen is None else self._judge("weights")
        self._dropped = dropped
        errors = self._local_errors["weights"] if before is None else None
        weights = self._local["weights"]
        isolated = compare_dropped(dropped, weights, errors, self._dropout, self._precision, self._tolerance)
        share = share_of_dropped(dropped, weights, errors, self._dropout, self._precision)
        self._local["weights"] = dropped
        self._is_local.add("weights")
        verdict, origin = _decide(isolated, isolated, None, is_finite_before=bool(np.isfinite(weights).all()))
        if before is not None and (before.verdict in FAILING or verdict not in FAILING):
            verdict, origin, isolated = before.verdict, before.origin, before.isolated or isolated
        if verdict not in FAILING and not share.holds:
            verdict, origin = "out_of_bound", "producer"
        whole = None if before is None else before.cumulative
        row_sum = None if before is None else before.row_sum
        return StepVerdict(
            "weights", axes_of("weights"), dropped.shape, verdict, isolated, whole, row_sum, origin, (), share
        )

    def _judge_after_dropout(self, step: str, seen: Array) -> StepVerdict:
        """From what came before it only: the reference knows nothing of which weights were left out."""
        own = self._local[step]
        isolated = compare(seen, own, self._local_errors[step], self._precision, self._tolerance)
        verdict, origin = _decide(isolated, isolated, None, is_finite_before=bool(np.isfinite(own).all()))
        self._local[step] = seen
        return StepVerdict(step, axes_of(step), seen.shape, verdict, isolated, origin=origin)

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
