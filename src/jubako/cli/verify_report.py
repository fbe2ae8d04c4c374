"""What a verification came to, on the command line: a line for each output that matters, or a document."""

from __future__ import annotations

from jubako.cli.document import Document, Format
from jubako.cli.formats import echo_document
from jubako.cli.lines import AGREEING
from jubako.cli.terminal import echo, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jubako.flow.verifying.verification import OutputVerdict, TaskVerdict, Verification

__all__ = ["echo_verification", "write_verification"]

_SHOWN = 20
_COLUMNS = (
    *("task", "task_id", "verdict", "reason", "output", "how", "differing", "within"),
    *("where", "published", "recomputed", "file", "largest", "notes", "sentence", "log", "kept", "changes"),
)


def echo_verification(
    found: Verification, format_: Format, *, facts: Mapping[str, object] | None, is_single: bool
) -> None:
    """Print what came of it. `facts` are those of a range; of a single task all outputs are shown."""
    if format_ != "table":
        whole = {
            "run": found.run_id,
            "agrees": bool(found),
            "verdicts": dict(found.counts),
            "not_verified": found.not_verified,
            "interrupted": found.is_interrupted,
            "wall_s": round(found.wall_s, 3),
            "range": dict(facts) if facts else None,
            "notes": [text for text, _ in found.notes],
        }
        rows = [row for verdict in found.verdicts for row in _rows(verdict)]
        echo_document(Document("jubako.verify/1", _COLUMNS, rows, whole, "outputs"), format_)
        return
    for sentence in found.recovered:
        echo(printable(sentence))
    shown = [verdict for verdict in found.verdicts if is_single or verdict.verdict not in AGREEING]
    for verdict in shown[:_SHOWN]:
        _echo_verdict(verdict)
    if len(shown) > _SHOWN:
        echo(f"and {len(shown) - _SHOWN} more like these; --format json has them all")

    from jubako.flow.accounting import format_seconds

    echo(f"{found.describe()}, each made again in a box, {format_seconds(found.wall_s)}")


def write_verification(found: Verification, path: str, *, title: str, plan: str) -> None:
    """Write a page of what came of it, with every output."""
    from jubako.verify.report import Entry, Report, entry_of_comparison  # for those who want a page

    entries = []
    for verdict in found.verdicts:
        if not verdict.outputs:
            entries.append(Entry(str(verdict.task), verdict.verdict, verdict.describe()))
        entries += [entry_of_comparison(output.path, output.comparison) for output in verdict.outputs]
    facts = {
        "Run": found.run_id,
        "Chosen": plan,
        "Tasks": f"{found.describe()}, each made again in a box",
        "Interrupted": "yes: the rest was not verified" if found.is_interrupted else "",
    }
    Report(title, entries, {name: value for name, value in facts.items() if value}).write_html(path)


def _echo_verdict(verdict: TaskVerdict) -> None:
    word = verdict.verdict if verdict.verdict in AGREEING else verdict.verdict.upper()
    because = f" be compared: {verdict.sentence}" if verdict.sentence else " be compared" if word == "CANNOT" else ""
    echo(printable(f"{verdict.task}: {word}{because}"))
    for output in verdict.outputs:
        echo(f"    {printable(_describe_output(output))}")
        if output.kept:
            echo(f"    recomputed: {printable(output.kept)}")
    for change in verdict.changes:
        echo(f"    since it was made: {printable(change)}")
    if verdict.sentence and verdict.log_path:
        echo(f"    log: {printable(verdict.log_path)}")


def _describe_output(output: OutputVerdict) -> str:
    comparison = output.comparison
    text = comparison.describe() or ("the same bytes" if comparison.how == "bytes" else "the same")
    return f"{comparison.verdict:<9}  {output.path}: {text}"


def _rows(verdict: TaskVerdict) -> Iterator[dict[str, object]]:
    common: dict[str, object] = {
        "task": str(verdict.task),
        "task_id": verdict.task.task_id,
        "verdict": verdict.verdict,
        "reason": verdict.reason or None,
        "sentence": verdict.describe() or None,
        "log": verdict.log_path or None,
        "changes": list(verdict.changes),
    }
    if not verdict.outputs:
        yield common
    for output in verdict.outputs:
        told = output.comparison.to_json()
        first = told.pop("first") or {}
        reason = told.pop("reason") or common["reason"]
        yield {
            **common,
            "output": output.path,
            "kept": output.kept or None,
            **told,
            **_as_dict(first),
            "reason": reason,
        }


def _as_dict(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}
