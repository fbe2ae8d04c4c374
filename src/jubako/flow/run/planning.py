"""What a run does before it works: everything asked for is explored, and the engine and the watchers are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from jubako.flow.engine.backoff import Backoff
from jubako.flow.engine.disabling import Disabling, Limit, describe_disabled
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.transitions import State
from jubako.flow.graph.completeness import targets_exist
from jubako.flow.graph.graph import Graph, refuse_cycle
from jubako.flow.observer import RunPlanned, TaskFound
from jubako.flow.options import RunOptions
from jubako.flow.run.book import Book

__all__ = ["UNFINISHED", "get_backoff", "plan_run"]

UNFINISHED: Final = (State.WAITING, State.READY, State.BLOCKED)  # of tasks that are still to run, before any has


def plan_run(tasks: Sequence[Any], engine: Engine, options: RunOptions, book: Book, now_s: float) -> Graph:
    """Explores what is asked for and tells the engine. InputError for a cycle, outputs that clash, or a
    range of which nobody can tell what is done.

    `now_s` is the time by the wall clock: tasks may be disabled until some moment.
    """

    def see(task: Any, standing: Any) -> None:
        book.tell(TaskFound(task, standing))

    limit = Limit(options.disable_after, options.disable_window_s, options.disable_for_s)
    graph = Graph(
        targets_exist,
        attempts=options.attempts,
        obeys_retry_count=options.obeys_retry_count,
        backoff=get_backoff(options),
        judge=Disabling(book.run.read_endings, limit, now_s).judge,
        shared_outputs=options.shared_outputs,
        redo=options.redo,
        see=see if book.watches else None,
    )
    found = 0
    for event in graph.explore(tasks):
        engine.handle(event, 0.0)
        found += 1
    refuse_cycle(engine, graph.tasks)
    if options.rules.unmade_outputs == "fail":  # elsewhere such a range is what it is in Luigi
        for each in graph.ranges:
            each.refuse_untold()
    for number, until_s in graph.disabled_until_s.items():
        book.note(
            f"{graph.tasks[number]} {describe_disabled(until_s)}",
            hint="--disable-after 0 (disable_after=0) runs it all the same",
        )
    book.tell(
        RunPlanned(
            found=found,
            complete=engine.count(State.COMPLETE),
            to_run=sum(engine.count(state) for state in UNFINISHED),
            missing=engine.count(State.MISSING),
            broken=engine.count(State.UNSCHEDULED),
        )
    )
    return graph


def get_backoff(options: RunOptions) -> Backoff:
    """How long a task waits before it is tried again, where it says nothing itself."""
    return Backoff(options.retry_delay_s, options.retry_backoff, options.retry_delay_max_s)
