"""`run`: the one way in. Opens what a run needs, in order, plans, works, and says what came of it.

    state root ── recovery ── lock ── ledger ── plan ── [host can box?] ── work ── result

What cannot be understood or done is raised before anything runs: InputError, HostError. What goes wrong with single
tasks is in the result. Whatever is raised later, nothing of this run keeps running or stays staged.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Any, Final

from jubako.boxes.journal import Journal, open_database
from jubako.boxes.publish import Publisher
from jubako.boxes.recovery import Recovered, RecoveryReport, recover
from jubako.boxes.run_lock import lock_dead_run
from jubako.boxes.stage import StageArea
from jubako.boxes.state import StateRoot, find_state_root, open_state_root
from jubako.boxes.worker import Worker
from jubako.errors import HostError
from jubako.flow import boxed
from jubako.flow.attempts import Desk
from jubako.flow.book import Book
from jubako.flow.claims import Claims
from jubako.flow.clock import Clock, SystemClock
from jubako.flow.closing import account_for_ranges, group_tasks
from jubako.flow.completeness import targets_exist
from jubako.flow.engine import Engine
from jubako.flow.executor_set import ExecutorSet
from jubako.flow.graph import Graph, refuse_cycle
from jubako.flow.interrupts import Interrupts
from jubako.flow.ledger import Ledger, LedgerRun
from jubako.flow.local_target import set_start_directory
from jubako.flow.observer import Mode, Observer, RunEnded, RunPlanned, RunStarted, TaskFound
from jubako.flow.options import RunOptions
from jubako.flow.owed import OwedCalls
from jubako.flow.pipeline_source import Belonging, find_belonging
from jubako.flow.result import RunResult, TaskError
from jubako.flow.run_loop import RunLoop
from jubako.flow.task_log import TaskLogs
from jubako.flow.transitions import State
from jubako.kernel.probe import probe_can_box

__all__ = ["run"]

_UNFINISHED: Final = (State.WAITING, State.READY, State.BLOCKED)


def run(
    tasks: Sequence[Any],
    options: RunOptions | None = None,
    *,
    observer: Observer | None = None,
    clock: Clock | None = None,
    **shortcuts: Any,
) -> RunResult:
    """Makes `tasks` and everything they need; what is done already is left alone.

    `shortcuts` are fields of `RunOptions` by name: `run([Report()], workers=4, box="none")`. The result is true if
    everything asked for is there. Ctrl-C and SIGTERM end the run in good order, with `interrupted` set; a second one
    kills what still runs. Call it from one thread at a time.
    """
    options = dataclasses.replace(options or RunOptions(), **shortcuts)
    clock = clock or SystemClock()
    began_s = time.perf_counter()
    start_directory = os.getcwd()
    set_start_directory(start_directory)
    try:
        belonging = find_belonging(tasks, options.pipeline)
        state = open_state_root(options.state or find_state_root(os.environ, os.path.expanduser("~")))
        with ExitStack() as stack:
            connection = stack.enter_context(closing(open_database(state.ledger_path, durability=options.durability)))
            ledger, journal = Ledger(connection), Journal(connection)
            report = recover(journal, state, record=_recovery_record(ledger))
            run_id = _make_run_id(clock)
            area = stack.enter_context(StageArea(state, run_id, journal))
            mode: Mode = options.box or "host"
            ledger_run = ledger.begin_run(
                run_id,
                belonging.name,
                asked=", ".join(map(str, tasks[:3])) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""),
                mode=mode,
                pid=os.getpid(),
                now=clock.moment(),
                now_s=clock.wall_s(),
                beats=True,
                is_locked=lambda other: _is_locked(state, other),
            )
            book = Book(ledger_run, observer)
            book.tell(RunStarted(run_id, mode, options.workers))
            engine = Engine(slots=options.workers, capacities=options.resources, retry_delay_s=options.retry_delay_s)
            graph = _plan(tasks, engine, options, book)
            loop = _make_loop(stack, state, area, belonging, engine, graph, ledger_run, book, options, clock, journal)
            loop.work()
            result = _make_result(tasks, loop, report, time.perf_counter() - began_s)
            ledger_run.end(result.status.name, result.counts, clock.wall_s())
            book.tell(RunEnded(result.interrupted))
            return result
    finally:
        set_start_directory(None)


def _plan(tasks: Sequence[Any], engine: Engine, options: RunOptions, book: Book) -> Graph:
    """Explores what is asked for and tells the engine. InputError for a cycle, or outputs that clash."""

    def see(task: Any, standing: Any) -> None:
        book.tell(TaskFound(task, standing))

    graph = Graph(
        targets_exist,
        attempts=options.attempts,
        shared_outputs=options.shared_outputs,
        see=see if book.watches else None,
    )
    found = 0
    for event in graph.explore(tasks):
        engine.handle(event, 0.0)
        found += 1
    refuse_cycle(engine, graph.tasks)
    book.tell(
        RunPlanned(
            found=found,
            complete=engine.count(State.COMPLETE),
            to_run=sum(engine.count(state) for state in _UNFINISHED),
            missing=engine.count(State.MISSING),
            broken=engine.count(State.UNSCHEDULED),
        )
    )
    return graph


def _make_loop(
    stack: ExitStack,
    state: StateRoot,
    area: StageArea,
    belonging: Belonging,
    engine: Engine,
    graph: Graph,
    ledger_run: LedgerRun,
    book: Book,
    options: RunOptions,
    clock: Clock,
    journal: Journal,
) -> RunLoop:
    """Puts the run loop together; `stack` closes what has to be closed."""
    mode: Mode = options.box or "host"
    start_directory = os.getcwd()

    def is_done(task: Any) -> bool:
        return graph.has(task) and engine.state(graph.number(task)) in (State.DONE, State.COMPLETE)

    def start_worker() -> Worker:
        preload = boxed.Preload(belonging.get_source(), start_directory, belonging.is_main)
        return Worker.start(
            boxed.LOAD,
            pickle.dumps(preload),
            hidden=(state.path, *area.places),
            scratch_root=os.path.join(state.stage_path, area.run_id),
            cwd=start_directory,
        )

    executors = ExecutorSet(mode, options, is_done, start_worker, hidden=state.path)
    stack.callback(executors.close)
    for_boxes = [number for number, found in enumerate(engine.states()) if found in _UNFINISHED]
    if mode == "host" and any(executors.needs_box(graph.tasks[number]) for number in for_boxes):
        _require_boxes()
        executors.boxed.warm_up(len(for_boxes))
    interrupts = stack.enter_context(Interrupts(executors.may_interrupt))
    leases = ledger_run.leases
    return RunLoop(
        engine=engine,
        graph=graph,
        leases=leases,
        claims=Claims(leases, lambda limit: [graph.tasks[number].task_id for number in engine.upcoming(limit)]),
        desk=Desk(area, state.boxes_path, options, start_directory),
        publisher=Publisher(journal, options.durability),
        executors=executors,
        owed=OwedCalls(ledger_run, executors.for_owed(), options.workers),
        book=book,
        logs=TaskLogs(os.path.join(state.logs_path, area.run_id), options.log_limit_bytes),
        clock=clock,
        options=options,
        interrupts=interrupts,
    )


def _make_result(tasks: Sequence[Any], loop: RunLoop, report: RecoveryReport, wall_s: float) -> RunResult:
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
    broken = {
        number: TaskError(graph.tasks[number].task_id, str(graph.tasks[number]), problem.sentence, problem.traceback)
        for number, problem in graph.broken.items()
    }
    after = (*book.other_errors, *loop.owed.errors)
    is_there = all(state_of(task) in (State.DONE, State.COMPLETE) for task in tasks) and not after
    if loop.options.strict:
        is_there = is_there and all(account.is_whole for account in accounts)
    return RunResult(
        run_id=loop.desk.area.run_id,
        mode=loop.executors.mode,
        groups=groups,
        everything_there=is_there,
        interrupted=loop.was_interrupted,
        accounts=tuple(accounts),
        undeclared=book.undeclared,
        undeclared_published=book.undeclared_published,
        errors=(*(error for _, error in sorted({**broken, **book.errors}.items())), *after),
        notes=tuple(book.notes),
        recovered=tuple(_describe_recovered(report)),
        wall_s=wall_s,
    )


def _require_boxes() -> None:
    """HostError, with the cure, if boxes cannot be made here. Never falls back to running without."""
    ability = probe_can_box()
    if not ability.works:
        raise HostError(
            f"this host cannot make boxes: {ability.reason}",
            hint=f"{ability.cure + '; ' if ability.cure else ''}--box none (box='none') runs tasks without one",
        )


def _recovery_record(ledger: Ledger) -> Callable[[Any, Recovered, bool], None]:
    def record(connection: Any, recovered: Recovered, published: bool) -> None:
        ledger.settle_recovered(connection, recovered.run_id, recovered.id, published=published)

    return record


def _describe_recovered(report: RecoveryReport) -> list[str]:
    fates = (
        (report.rolled_forward, "it is published now"),
        (report.rolled_back, "it was put back"),
        (report.needs_person, "you have to decide"),
    )
    return [
        f"{each.label}: an earlier run was killed while publishing it; {fate}"
        + (f": {each.words}" if each.words else "")
        for recovered, fate in fates
        for each in recovered
    ]


def _is_locked(state: StateRoot, run_id: str) -> bool:
    with lock_dead_run(state, run_id) as is_dead:
        return not is_dead


def _make_run_id(clock: Clock) -> str:
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(clock.wall_s()))
    return f"{moment}-{secrets.token_hex(3)}"
