"""A report as text: for each layer what it is, then for each run a line for each step, with its shape."""

from __future__ import annotations

from jubako.attention.checking.sentences import describe_departure, failures_of, number
from jubako.attention.steps import format_shape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.attention.checking.compare import Comparison
    from jubako.attention.checking.verdicts import LayerReport, RunReport, StepVerdict

__all__ = ["format_layers", "format_summary"]

_HEADS = ("STEP", "SHAPE", "VERDICT", "OFF BY", "OF ALLOWED", "FROM THE INPUTS")
_MANY = 1e6
_VERDICTS = {
    "exact": "exact",
    "within_bound": "within bound",
    "out_of_bound": "OUT OF BOUND",
    "non_finite": "NOT FINITE",
    "not_judged": "NOT JUDGED",
    "nothing_to_compare": "nothing to compare",
}
_LEGEND = (
    "  off by: from what follows from the steps before it as observed; from the inputs: from what follows from these;",
    "  neither is rounded. exact: what follows from the inputs, rounded to the type, and so off by that rounding",
)


def format_layers(layers: Sequence[LayerReport]) -> str:
    """Everything about each layer; how bounds come about, of the first one and of those that depart."""
    return "\n".join(
        line for place, layer in enumerate(layers) for line in _layer_lines(layer, is_explained=place == 0 or not layer)
    )


def format_summary(layers: Sequence[LayerReport], unchecked: int) -> str:
    """The last line: how many layers agree, which do not, and how much was not checked."""
    empty = [layer.name for layer in layers if layer.is_empty]
    checked = [layer for layer in layers if not layer.is_empty]
    wrong = [layer.name for layer in checked if not layer]
    rest = f"; nothing to compare in {_names(empty)}" if empty else ""
    rest += f"; {unchecked} not checked" if unchecked else ""
    if not checked:
        return f"no layer was checked{rest}"
    count = f"{len(checked)} layer{'' if len(checked) == 1 else 's'}"
    if not wrong:
        return f"{count} checked: every step that was observed agrees within its bound{rest}"
    return f"{count} checked, {len(wrong)} WRONG: {_names(wrong)}{rest}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _layer_lines(layer: LayerReport, *, is_explained: bool) -> Iterator[str]:
    facts = ", ".join(_format_fact(name, value) for name, value in layer.facts.items() if not _is_absent(value))
    yield f"{layer.name}: {layer.kind}{f'; {facts}' if facts else ''}"
    if layer.broken:
        yield f"  BROKEN: {layer.broken}"
    departs = any(run.first_departure is not None for run in layer.runs if not run.sizes)
    agreeing: dict[
        str, int
    ] = {}  # by their sizes: runs at other sizes, told in full only where these make a difference
    departing: dict[str, int] = {}
    for run in layer.runs:
        if run.sizes and run.is_compared and run.first_departure is None:
            agreeing[run.sizes] = agreeing.get(run.sizes, 0) + 1
        elif run.sizes and run.is_compared and departs:
            departing[run.sizes] = departing.get(run.sizes, 0) + 1
        else:
            yield from _run_lines(run)
    for sizes, count in agreeing.items():
        yield f"  {_ways(count)} of calling it with {sizes}: every step that was observed agrees"
    for sizes, count in departing.items():
        yield f"  {_ways(count)} of calling it with {sizes}: a step departs, too"
    for trap in layer.traps:
        yield f"  {'TRAP' if trap.is_failure else 'note'}: {trap.name.replace('_', ' ')}: {trap.sentence}"
    if layer.explained and is_explained:
        yield from _LEGEND
        yield "  bounds, each 8 times the expected error of rounding:"
        width = max(map(len, layer.explained))
        yield from (f"    {step:<{width}}  {words}" for step, words in layer.explained.items())
    if not layer.broken and not any(run.is_compared for run in layer.runs):
        yield f"  {'NOTHING COMPARED' if layer.is_empty else 'FAILED'}: {failures_of(layer)[0]}"


def _is_absent(value: object) -> bool:
    return value is None or value is False  # a size of 0 is there


def _ways(count: int) -> str:
    return "1 way" if count == 1 else f"{count} ways"


def _format_fact(name: str, value: object) -> str:
    if value is True:
        return name.replace("_", " ")
    return f"{name}={value}" if len(name) <= 2 else f"{name.replace('_', ' ')} {value}"


def _run_lines(run: RunReport) -> Iterator[str]:
    yield f"  {run.name}"
    for note in run.notes:
        yield f"    note: {note}"
    if run.refused or run.broken:
        yield f"    refused: {run.refused}" if run.refused else f"    BROKEN: {run.broken}"
        return
    hidden = [verdict.step for verdict in run.steps if verdict.verdict == "not_observable"]
    rows = [_HEADS, *(_row(verdict) for verdict in run.steps if verdict.verdict != "not_observable")]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    for row in rows:
        yield "    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if hidden:
        yield f"    not observable, and so not compared: {', '.join(hidden)}"
    for verdict in run.steps:
        if verdict.row_sum is not None:
            held = "" if verdict.row_sum.holds else ": OUT OF BOUND"
            yield (
                f"    rows of {verdict.step} add up to 1 within {number(verdict.row_sum.error)} "
                f"(allowed {number(verdict.row_sum.bound)}){held}"
            )
    if run.first_departure is not None:
        yield f"    first departure: {describe_departure(run.first_departure)}"


def _row(verdict: StepVerdict) -> tuple[str, ...]:
    if verdict.verdict == "nothing_to_compare":
        return (verdict.step, format_shape(verdict.axes, verdict.shape), _VERDICTS[verdict.verdict], "", "", "")
    own = verdict.isolated or verdict.cumulative
    whole = verdict.cumulative if verdict.isolated is not None else None
    return (
        verdict.step,
        format_shape(verdict.axes, verdict.shape),
        "carried on" if verdict.origin == "propagated" and verdict.isolated is not None else _VERDICTS[verdict.verdict],
        "" if own is None else number(own.error),
        _share(own),
        "" if whole is None else f"{number(whole.error)}, {_share(whole)}",
    )


def _share(comparison: Comparison | None) -> str:
    """How much of its bound the error uses up: "12 %", or how many times it is over."""
    if comparison is None:
        return ""
    if comparison.used != comparison.used:
        return "not a number"
    if comparison.used > _MANY:
        return f"over {_MANY:.0e} times"
    return f"{comparison.used * 100:.2g} %" if comparison.used <= 1 else f"{number(comparison.used)} times"
