"""`jubako why`: why a task would run or would not, in a sentence and the facts behind it."""

from __future__ import annotations

import click

from jubako.cli.declare import format_option
from jubako.cli.document import Document, Format
from jubako.cli.exits import EXIT_FAILED
from jubako.cli.formats import echo_document
from jubako.cli.moments import format_moment
from jubako.cli.parameter_words import ask_which_task
from jubako.cli.past import open_own_history
from jubako.cli.pipeline_command import PipelineCommand, build_task, get_asked, pipeline_arguments, refusals_of
from jubako.cli.run_options import disable_after_option, make_judge
from jubako.cli.terminal import echo, printable

__all__ = ["why"]

_EPILOG = """\b
Examples:
  jubako why examples/weather DailySummary --date 2010-03-14
  jubako why examples/weather RangeDaily --of DailySummary --start 2010-01-01

Exit code 0: it is done. 1: it would run, a run is at it, or it cannot run."""


@click.command(cls=PipelineCommand, epilog=_EPILOG)
@pipeline_arguments
@disable_after_option
@format_option
@click.pass_context
def why(ctx: click.Context, /, disable_after: tuple[int, ...], format_: Format, **_: str) -> int:
    """Say why a run would run TASK of PIPELINE, or would not: what is there, what is missing, what happened.

    Nothing is run. Parameters are given as with 'jubako run'.
    """
    asked = get_asked(ctx)
    assert asked.pipeline is not None  # PIPELINE is required, and what can't be loaded was refused while parsing
    if asked.task is None:
        return ask_which_task(asked.pipeline, format_)

    from jubako.flow.explain.why import explain_task

    task = build_task(asked)
    with open_own_history() as past, refusals_of(asked.task):
        judge = make_judge(past, asked.pipeline.file, disable_after)
        answer = explain_task(task, past, asked.pipeline.file, format_moment, judge)
    if format_ == "table":
        echo(printable(f"{answer.sentence}."))
        for fact in answer.facts:
            echo(f"    {printable(fact.text)}")
    else:
        facts = {
            "task": str(task),
            "task_id": task.task_id,
            "verdict": answer.verdict,
            "reason": answer.reason,
            "sentence": answer.sentence,
            "chain": [str(other) for other in answer.chain],
            "to_run": answer.to_run,
        }
        rows = [
            {"kind": fact.kind, "text": fact.text, "path": fact.path or None, "run": fact.run or None}
            for fact in answer.facts
        ]
        rows = [{"kind": "answer", "text": answer.sentence}, *rows] if format_ == "csv" else rows
        echo_document(Document("jubako.why/1", ("kind", "text", "path", "run"), rows, facts, "facts"), format_)
    return 0 if answer.verdict == "done" else EXIT_FAILED
