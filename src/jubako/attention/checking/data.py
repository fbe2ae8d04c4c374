"""A report as data: rows for a table of any format, and the same nested for JSON. NaN and inf become their names."""

from __future__ import annotations

import math

from jubako.attention.checking.sentences import failures_of
from jubako.records import as_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.attention.checking.compare import Comparison
    from jubako.attention.checking.verdicts import LayerReport, RunReport, StepVerdict

__all__ = ["COLUMNS", "layer_facts", "layer_rows"]

COLUMNS = (
    *("layer", "run", "step", "shape", "verdict", "origin", "is_exact", "isolated", "cumulative", "row_sum"),
    *("place", "observed", "expected", "ulps", "refused", "broken"),
)


def layer_rows(layer: LayerReport) -> Iterator[dict[str, object]]:
    """A row for each step of each run, and one for a run that was refused."""
    for run in layer.runs:
        if run.refused or run.broken:
            yield {"layer": layer.name, "run": run.name, "refused": run.refused or None, "broken": run.broken or None}
        for verdict in run.steps:
            yield {"layer": layer.name, "run": run.name, **_step(verdict)}


def layer_facts(layer: LayerReport) -> dict[str, object]:
    """What is said of a layer as a whole."""
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "agrees": bool(layer),
        "facts": dict(layer.facts),
        "broken": layer.broken or None,
        "failures": failures_of(layer),
        "first_departure": _departure(layer),
        "traps": [as_dict(trap) for trap in layer.traps],
        "bounds": dict(layer.explained),
        "notes": {run.name: list(run.notes) for run in layer.runs if run.notes},
    }


def _departure(layer: LayerReport) -> dict[str, object] | None:
    for run in layer.runs:
        if run.first_departure is not None:
            return {"run": run.name, **_step(run.first_departure), **_named_place(run)}
    return None


def _named_place(run: RunReport) -> dict[str, object]:
    """ "batch", "head", "row" and "key" of the first departure, as far as it has them."""
    verdict = run.first_departure
    if verdict is None or verdict.told is None:
        return {}
    words = {"B": "batch", "H": "head", "L": "row", "S": "key", "D": "feature", "E": "feature", "HD": "feature"}
    return {words[axis]: index for axis, index in zip(verdict.axes, verdict.told.place, strict=False)}


def _step(verdict: StepVerdict) -> dict[str, object]:
    told = verdict.told
    return {
        "step": verdict.step,
        "shape": list(verdict.shape),
        "verdict": verdict.verdict,
        "origin": verdict.origin or None,
        "is_exact": None if verdict.cumulative is None else verdict.cumulative.is_exact,
        "isolated": _comparison(verdict.isolated),
        "cumulative": _comparison(verdict.cumulative),
        "row_sum": None
        if verdict.row_sum is None
        else {"error": plain(verdict.row_sum.error), "bound": plain(verdict.row_sum.bound)},
        "place": None if told is None else list(told.place),
        "observed": None if told is None else plain(told.observed),
        "expected": None if told is None else plain(told.expected),
        "ulps": None if told is None else plain(told.ulps),
    }


def _comparison(comparison: Comparison | None) -> dict[str, object] | None:
    if comparison is None:
        return None
    return {
        "error": plain(comparison.error),
        "bound": plain(comparison.bound),
        "used": plain(comparison.used),
        "out": comparison.out,
        "count": comparison.count,
    }


def plain(number: float) -> float | str:
    """A number that JSON has; else its name."""
    return number if math.isfinite(number) else str(number)
