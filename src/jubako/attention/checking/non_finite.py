"""NaN and inf that come into a layer while a model runs: a failure, and no failure of that layer.

Nothing can be re-derived from them. So the report says where they came in, and what gave any first, if that is known.
"""

from __future__ import annotations

import math

from jubako.attention.checking.compare import Comparison
from jubako.attention.checking.verdicts import LayerReport, RunReport, StepVerdict, Trap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.inputs import NonFiniteError

__all__ = ["report_non_finite", "report_result"]


def report_non_finite(name: str, kind: str, error: NonFiniteError, producer: str) -> LayerReport:
    """The report of a layer that was called with NaN or inf; `producer` is whence that came first, or ""."""
    step = StepVerdict(
        error.name.replace(" ", "_"),
        error.axes,
        error.shape,
        "non_finite",
        cumulative=_compare(error),
        origin="propagated",
    )
    whence = f"that came first from {producer}" if producer else "whence that came first was not seen"
    trap = Trap(
        "non_finite_input",
        f"the {error.name} held NaN or inf already ({error.count:,} numbers), so nothing was re-derived; {whence}",
        is_failure=True,
    )
    return LayerReport(name, kind, {}, [RunReport("as called", [step])], [trap])


def report_result(name: str, kind: str, producer: str) -> LayerReport:
    """The report of a model that gives NaN or inf which no layer of attention was called with."""
    return LayerReport(name, kind, {}, broken=f"it gives NaN or inf, which came first from {producer}")


def _compare(error: NonFiniteError) -> Comparison:
    """A comparison with what is not known: any finite numbers."""
    return Comparison(
        error=math.nan,
        bound=math.nan,
        used=math.nan,
        place=error.place,
        observed=error.value,
        expected=math.nan,
        ulps=math.nan,
        out=error.count,
        count=math.prod(error.shape),
        is_bounded=True,
        is_exact=False,
        is_finite=False,
    )
