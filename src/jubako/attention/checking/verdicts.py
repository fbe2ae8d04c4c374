"""What checking a layer comes to, as values: a verdict for each step of each run, what departs first, the traps found.

    exact            every number is the exact result, correctly rounded
    within_bound     every number is as near to it as rounding allows; `used` says how much of that was needed
    out_of_bound     some number is not: it is wrong, or less precise than its type allows
    non_finite       some number is NaN or infinite that should not be
    not_judged       numbers are so large that rounding may make anything of them: no bound, and no pass
    not_observable   a fused kernel keeps the step to itself; never a pass

A step that is out of bound, or not finite, is the producer of that if it is so even when computed from what the steps
before it gave; else it only carries on what came from them.
"""

from __future__ import annotations

from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal, TypeAlias

    from jubako.attention.checking.compare import Comparison
    from jubako.attention.checking.dropout import DroppedShare

__all__ = ["FAILING", "LayerReport", "Origin", "RowSum", "RunReport", "StepVerdict", "Trap", "Verdict"]

Verdict: TypeAlias = "Literal['exact', 'within_bound', 'out_of_bound', 'non_finite', 'not_judged', 'not_observable']"
Origin: TypeAlias = "Literal['', 'producer', 'propagated']"
FAILING: tuple[Verdict, ...] = ("out_of_bound", "non_finite", "not_judged")


@record
class RowSum:
    """How far the sum of a row of weights is from 1, at most."""

    error: float
    bound: float
    place: tuple[int, ...]  # of the row

    @property
    def holds(self) -> bool:
        """True if it is near enough."""
        return self.error <= self.bound


@record
class StepVerdict:
    """What a step of a run came to. Without `isolated` nothing before it was observed: it would say the same."""

    step: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    verdict: Verdict
    isolated: Comparison | None = None  # computed from what the steps before it gave
    cumulative: Comparison | None = None  # computed from the inputs
    row_sum: RowSum | None = None
    origin: Origin = ""
    right_shape: tuple[int, ...] = ()  # if its shape is another
    dropped: DroppedShare | None = None

    @property
    def told(self) -> Comparison | None:
        """The comparison that says most: the one from the step's own inputs, unless only the other fails."""
        if self.isolated is None or (self.origin == "propagated" and self.cumulative is not None):
            return self.cumulative
        return self.isolated


@record
class RunReport:
    """One way of calling the layer. `refused` says why it could not be called so; then there are no verdicts.

    `broken` says why there is nothing that it could be compared with, which is a failure.
    """

    name: str
    steps: Sequence[StepVerdict] = ()
    refused: str = ""
    broken: str = ""
    notes: Sequence[str] = ()
    sizes: str = ""  # if they are others than the layer's facts say

    @property
    def first_departure(self) -> StepVerdict | None:
        """The first step that is wrong by itself; else the first that is wrong at all."""
        failing = [verdict for verdict in self.steps if verdict.verdict in FAILING]
        return next((verdict for verdict in failing if verdict.origin == "producer"), failing[0] if failing else None)

    @property
    def is_compared(self) -> bool:
        """True if anything of it was observed."""
        return any(verdict.verdict != "not_observable" for verdict in self.steps)


@record
class Trap:
    """Something that goes wrong silently, recognised. Not every one makes the result wrong here."""

    name: str
    sentence: str
    is_failure: bool


@record
class LayerReport:
    """One layer. `broken` says what is wrong with the layer itself, so that nothing could be computed."""

    name: str
    kind: str
    facts: Mapping[str, object]  # sizes and settings
    runs: Sequence[RunReport] = ()
    traps: Sequence[Trap] = ()
    explained: Mapping[str, str] = field(default_factory=dict)  # how each bound comes about, in words
    broken: str = ""

    def __bool__(self) -> bool:
        """True if something was observed, and all that was is within its bound."""
        is_broken = self.broken or any(run.broken for run in self.runs)
        is_wrong = is_broken or any(trap.is_failure for trap in self.traps) or self.first_departure is not None
        return not is_wrong and any(run.is_compared for run in self.runs)

    @property
    def first_departure(self) -> StepVerdict | None:
        """Of the first run in which a step departs."""
        return next((run.first_departure for run in self.runs if run.first_departure is not None), None)
