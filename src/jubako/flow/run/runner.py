"""`run`: the one way in. Opens what a run needs, in order, plans, works, and says what came of it.

    state root ── recovery ── lock ── ledger ── plan ── [host can box?] ── work ── result

What cannot be understood or done is raised before anything runs: InputError, HostError. What goes wrong with single
tasks is in the result. Whatever is raised later, nothing of this run keeps running or stays staged.

Modules that only boxes need are imported when boxes are needed: they take as long as running 1,000 small tasks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Final

from jubako.boxes.nesting import refuse_nesting
from jubako.boxes.state import find_state_root, open_state_root
from jubako.boxes.transactions.database import explaining, open_database
from jubako.errors import BugError, HostError, InputError
from jubako.flow.clock import Clock, SystemClock
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.transitions import State
from jubako.flow.graph.graph import Graph
from jubako.flow.graph.missing import describe_missing
from jubako.flow.interrupts import Interrupts
from jubako.flow.ledger.ledger import Ledger
from jubako.flow.ledger.retention import prune
from jubako.flow.ledger.run_id import make_run_id
from jubako.flow.ledger.task_log import TaskLogs
from jubako.flow.observer import Mode, Observer, RunEnded, RunStarted
from jubako.flow.options import RunOptions
from jubako.flow.pipeline_source import find_belonging
from jubako.flow.result import RunResult, TaskError
from jubako.flow.run.book import Book
from jubako.flow.run.closing import account_for_ranges, group_tasks
from jubako.flow.run.executor_set import ExecutorSet
from jubako.flow.run.planning import UNFINISHED, get_backoff, plan_run
from jubako.flow.run.presence import has_remains, hold_presence, is_living
from jubako.flow.run.run_loop import RunLoop
from jubako.flow.staleness.tracking import Changes
from jubako.flow.summary import RunStatus
from jubako.flow.targets.local_target import set_start_directory
from jubako.records import replace

if TYPE_CHECKING:
    from jubako.boxes.workers.worker import Worker
    from jubako.flow.run.desk import Desk
    from jubako.flow.run.recovering import Recovery

__all__ = ["describe_tasks", "run"]

_FINISHED: Final = (State.DONE, State.COMPLETE)


def run(
    tasks: Sequence[Any],
    options: RunOptions | None = None,
    *,
    observer: Observer | None = None,
    clock: Clock | None = None,
    **shortcuts: Any,
) -> RunResult:
    """Makes `tasks` and everything they need; what is done already is left alone.

    `shortcuts` are fields of `RunOptions` by name: `run([Report()], workers=4, box="none")`; `workers="auto"` is one
    for each processor. The result is true if
    everything asked for is there. Ctrl-C and SIGTERM end the run in good order, with `interrupted` set; a second one
    kills what still runs. Call it from one thread at a time.
    """
    if shortcuts.get("workers") == "auto":
        from jubako.kernel.processors import count_processors  # reads the mount table; few ask for it

        shortcuts["workers"] = count_processors()
    options = replace(options or RunOptions(), **shortcuts)
    clock = clock or SystemClock()

    def work(watching: Observer | None) -> RunResult:
        began_s = time.perf_counter()
        set_start_directory(os.getcwd())
        try:
            with ExitStack() as stack:
                return _Session(stack, tasks, options, watching, clock).run(began_s)
        finally:
            set_start_directory(None)

    if not options.is_reported:
        return work(observer)
    from jubako.flow.reporting import About, report_run  # 10 ms that most runs need not pay

    about = About(find_belonging(tasks, options.pipeline).name, options.backfill or describe_tasks(tasks))
    return report_run(work, about, options, observer, clock)


class _Session:
    """What one run has open, in the order it was opened; `stack` closes it."""

    def __init__(
        self,
        stack: ExitStack,
        tasks: Sequence[Any],
        options: RunOptions,
        observer: Observer | None,
        clock: Clock,
    ) -> None:
        self._stack = stack
        self._tasks = tasks
        self._options = options
        self._clock = clock
        self._mode: Mode = options.box or "host"
        if self._mode == "host":
            refuse_nesting(
                "tasks cannot run in boxes inside a box",
                hint="--box none (box='none') runs them without, if JUBAKO_STATE is a folder in the box: "
                "JUBAKO_STATE=$PWD/jubako-state jubako run ... --box none",
            )
        self._belonging = find_belonging(tasks, options.pipeline)
        self._state = open_state_root(options.state or find_state_root(os.environ, os.path.expanduser("~")))
        self._run_id = make_run_id(clock.wall_s())
        stack.enter_context(explaining(self._state.ledger_path))
        self._connection = stack.enter_context(
            closing(open_database(self._state.ledger_path, durability=options.durability))
        )
        ledger = Ledger(self._connection)
        self._recovery = self._take_place(ledger)
        self._ledger_run = ledger.begin_run(
            self._run_id,
            self._belonging.name,
            asked=options.backfill or describe_tasks(tasks),
            kind="backfill" if options.backfill else "run",
            mode=self._mode,
            pid=os.getpid(),
            now=clock.moment(),
            now_s=clock.wall_s(),
            beats=True,
            is_locked=lambda other: is_living(self._state, other),
        )
        self._book = Book(self._ledger_run, observer)
        self._logs = TaskLogs(os.path.join(self._state.logs_path, self._run_id), options.log_limit_bytes)

    def run(self, began_s: float) -> RunResult:
        """Plans, works, and sums up; whatever happens, the ledger is told how the run has ended."""
        try:
            result = self._work(began_s)
        except BaseException as error:
            self._end(_describe_break(error), {})
            raise
        self._end(_describe_end(result), result.counts)
        self._book.tell(RunEnded(result.interrupted))
        return result

    def _end(self, status: str, counts: Mapping[str, int]) -> None:
        self._ledger_run.end(status, counts, self._clock.wall_s(), log_bytes=self._logs.size_bytes)

    def _work(self, began_s: float) -> RunResult:
        book, options = self._book, self._options
        book.tell(RunStarted(self._run_id, self._mode, options.workers))
        self._tidy_history()
        changes = Changes(self._ledger_run.track, book.note, self._clock.wall_s)
        if options.stale:
            self._plan_stale(changes)
            options = self._options
        engine = Engine(slots=options.workers, capacities=options.capacities, backoff=get_backoff(options))
        graph = plan_run(self._tasks, engine, options, book, self._clock.wall_s())
        if options.backfill:
            self._ledger_run.note_plan(sum(engine.count(state) for state in UNFINISHED))
        loop = self._make_loop(engine, graph, changes)
        loop.work()
        changes.flush()
        return self._sum_up(loop, time.perf_counter() - began_s)

    def _tidy_history(self) -> None:
        """Lets go of old runs; what stands in the way of that is a note."""
        try:
            prune(self._connection, self._state, self._clock.wall_s())
        except HostError as error:
            self._book.note(error.message, hint=error.hint)

    def _take_place(self, ledger: Ledger) -> Recovery | None:
        """Recovers what dead runs have left, then holds the run's lock."""
        if self._mode == "none" and not has_remains(self._state):
            self._stack.enter_context(hold_presence(self._state, self._run_id))
            return None
        from jubako.flow.run.recovering import recover_and_stage

        recovery = recover_and_stage(self._connection, self._state, self._run_id, ledger)
        self._stack.enter_context(recovery.area)
        return recovery

    def _plan_stale(self, changes: Changes) -> None:
        """Adds to what was asked for what is stale, and what depends on that."""
        from jubako.flow.staleness.stale import find_stale  # 15 ms that only those who ask for it need pay

        found = find_stale(self._tasks, changes.take, changes.get_book().read)
        for line in found.describe():
            self._book.note(line)
        changes.stale.update(found.stale)
        changes.unchanged.update(found.below)
        again = [*found.stale, *found.below]
        self._tasks = list(dict.fromkeys([*self._tasks, *again]))
        self._options = replace(self._options, redo=frozenset({*self._options.redo, *again}))

    def _make_loop(self, engine: Engine, graph: Graph, changes: Changes) -> RunLoop:
        """Puts the run loop together, and makes sure that boxes can be made where they are needed."""
        desk = self._make_desk() if self._mode == "host" else None

        def is_done(task: Any) -> bool:
            return graph.has(task) and engine.state(graph.number(task)) in _FINISHED

        def start_worker() -> Worker:
            if desk is None:
                raise BugError("a run without boxes wants a worker")
            return desk.start_worker()

        executors = ExecutorSet(self._mode, self._options, is_done, start_worker, hidden=self._state.path)
        self._stack.callback(executors.close)
        to_run = [number for number, state in enumerate(engine.states()) if state in UNFINISHED]
        if desk is not None and any(executors.needs_box(graph.tasks[number]) for number in to_run):
            desk.require_boxes()
            executors.boxed.warm_up(len(to_run))
        return RunLoop(
            engine,
            graph,
            executors,
            self._book,
            self._logs,
            desk=desk,
            interrupts=self._stack.enter_context(
                Interrupts(executors.may_interrupt, winds_down_on_usr1=self._options.winds_down_on_usr1)
            ),
            clock=self._clock,
            options=self._options,
            changes=changes,
        )

    def _make_desk(self) -> Desk:
        from jubako.boxes.transactions.publish import Publisher
        from jubako.flow.run.desk import Desk

        if self._recovery is None:
            raise BugError("a run in boxes has no staging area")
        return Desk(
            self._state,
            self._recovery.area,
            Publisher(self._recovery.journal, self._options.durability),
            self._ledger_run,
            self._options,
            self._belonging,
            os.getcwd(),
            self._book.note,
        )

    def _sum_up(self, loop: RunLoop, wall_s: float) -> RunResult:
        engine, graph, book = loop.engine, loop.graph, loop.book

        def state_of(task: Any) -> State | None:
            return engine.state(graph.number(task)) if graph.has(task) else None

        groups = group_tasks(
            engine,
            graph.tasks,
            ever_failed=book.ever_failed,
            disabled=graph.disabled,
            held_elsewhere=loop.held_elsewhere,
        )
        accounts = account_for_ranges(graph.tasks, state_of)
        errors = dict(book.errors)
        for number, problem in graph.broken.items():
            task = graph.tasks[number]
            errors[number] = TaskError(task.task_id, str(task), problem.sentence, problem.traceback)
        after = (*book.other_errors, *loop.owed.errors)
        is_there = all(state_of(task) in _FINISHED for task in self._tasks) and not after
        if self._options.strict:
            is_there = is_there and all(account.is_whole for account in accounts)
        return RunResult(
            run_id=self._run_id,
            mode=self._mode,
            groups=groups,
            everything_there=is_there,
            interrupted=loop.was_interrupted,
            stopped=tuple(str(graph.tasks[n]) for n, state in enumerate(engine.states()) if state is State.STOPPED),
            accounts=tuple(accounts),
            undeclared=book.undeclared,
            undeclared_published=book.undeclared_published,
            unmade=book.unmade,
            errors=(*(error for _, error in sorted(errors.items())), *after),
            missing=tuple(describe_missing(groups.still_pending_ext)),
            notes=tuple(book.notes),
            recovered=self._recovery.sentences if self._recovery is not None else (),
            left_out=sum(account.left_out for account in accounts) if self._options.strict else 0,
            wall_s=wall_s,
        )


def describe_tasks(tasks: Sequence[Any]) -> str:
    """What a run is asked for, in a few words."""
    return ", ".join(map(str, tasks[:3])) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")


def _describe_end(result: RunResult) -> str:
    """How the run has ended, for the ledger: Luigi's word for it where that is the truth."""
    if result.interrupted:
        return "INTERRUPTED"
    if not result.everything_there and result.status in (RunStatus.SUCCESS, RunStatus.SUCCESS_WITH_RETRY):
        return "INCOMPLETE"
    return result.status.name


def _describe_break(error: BaseException) -> str:
    """How a run has ended that has no result, for the ledger."""
    if isinstance(error, (InputError, HostError)):
        return "REFUSED"
    return "INTERRUPTED" if isinstance(error, KeyboardInterrupt) else "BROKEN"
