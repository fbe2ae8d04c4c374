"""A report as JUnit XML, which is what continuous integration reads: a suite for each layer, a case for each step."""

from __future__ import annotations

from html import escape

from jubako.attention.checking.sentences import describe_departure, failures_of
from jubako.attention.checking.verdicts import FAILING, NO_ANSWER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.attention.checking.verdicts import LayerReport

__all__ = ["format_junit"]


def format_junit(layers: Sequence[LayerReport], unchecked: Sequence[str] = ()) -> str:
    """The whole document. What is not observable is "skipped", never passed; a layer has a case of its own, too.

    What was not checked is a suite of its own, of cases skipped; where no layer was checked, that fails.
    """
    suites = [list(_cases(layer)) for layer in layers]
    rest = [_case("not checked", *_split(sentence)) for sentence in dict.fromkeys(unchecked)]
    if not layers:
        rest.append(_case("not checked", "any layer", '<failure message="no layer was checked"/>'))
    count = _count([*suites, rest])
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<testsuites name="jubako attention check" {count}>']
    for layer, cases in zip(layers, suites, strict=True):
        lines.append(f"  <testsuite name={_attribute(layer.name)} {_count([cases])}>")
        lines += [f"    {case}" for case in cases]
        lines.append("  </testsuite>")
    if rest:
        lines += [
            f'  <testsuite name="not checked" {_count([rest])}>',
            *(f"    {case}" for case in rest),
            "  </testsuite>",
        ]
    return "\n".join([*lines, "</testsuites>"])


def _cases(layer: LayerReport) -> Iterator[str]:
    failures = failures_of(layer)
    inside = f"<failure message={_attribute(failures[0])}>{_text(chr(10).join(failures))}</failure>" if failures else ""
    yield _case(layer.name, "the whole layer", inside)
    for run in layer.runs:
        if run.broken:
            yield _case(f"{layer.name}.{run.name}", "the call", f"<failure message={_attribute(run.broken)}/>")
        if run.refused:
            yield _case(f"{layer.name}.{run.name}", "the call", f"<skipped message={_attribute(run.refused)}/>")
        for verdict in run.steps:
            said = ""
            if verdict.verdict in FAILING:
                said = f"<failure message={_attribute(describe_departure(verdict))}/>"
            elif verdict.verdict in NO_ANSWER:
                said = f'<skipped message="{verdict.verdict.replace("_", " ")}"/>'
            yield _case(f"{layer.name}.{run.name}", verdict.step, said)


def _split(sentence: str) -> tuple[str, str]:
    """The name of what was not checked, and why, as what is inside of a case."""
    name, _, reason = sentence.partition(": ")
    return name, f"<skipped message={_attribute(reason)}/>"


def _case(where: str, name: str, inside: str) -> str:
    head = f"<testcase classname={_attribute(where)} name={_attribute(name)}"
    return f"{head}>{inside}</testcase>" if inside else f"{head}/>"


def _count(suites: Sequence[Sequence[str]]) -> str:
    cases = [case for suite in suites for case in suite]
    failed, skipped = sum("<failure" in case for case in cases), sum("<skipped" in case for case in cases)
    return f'tests="{len(cases)}" failures="{failed}" errors="0" skipped="{skipped}"'


def _attribute(text: str) -> str:
    return '"' + escape(_allowed(text)).replace("\n", "&#10;").replace("\t", "&#9;") + '"'


def _text(text: str) -> str:
    return escape(_allowed(text))


def _allowed(text: str) -> str:
    """Without the characters that XML has no way to write."""
    return "".join(c if c in "\t\n" or (" " <= c < "\ud800") or ("\ue000" <= c < "\ufffe") else "\ufffd" for c in text)
