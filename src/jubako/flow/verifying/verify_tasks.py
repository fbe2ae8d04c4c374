"""`verify_tasks`: makes tasks that are done again, each in a fresh box, and compares what comes out with what is
published. Nothing is published, and nothing of it stays but a line of history and what the tasks printed.

    state root ── recovery ── lock ── [which can be verified?] ── run again ── compare ── discard

A task runs as if it had never been done: in its box its own outputs are not there. Its inputs are what is there
now. No event is triggered, and nothing that it requires is run.
"""

from __future__ import annotations

import itertools
import os
import select
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

from jubako.boxes.nesting import refuse_nesting
from jubako.boxes.state import find_state_root, open_state_root
from jubako.boxes.transactions.database import open_database
from jubako.boxes.transactions.publish import Publisher
from jubako.errors import BugError, HostError, InputError
from jubako.flow.attempts import Attempt, get_timeout_s
from jubako.flow.clock import Clock, SystemClock
from jubako.flow.executors.boxed import BoxedExecutor
from jubako.flow.executors.executor import Ended, ExecutorEvent, Order, Printed, Remarked
from jubako.flow.executors.inside import RERUN
from jubako.flow.graph.completeness import targets_exist
from jubako.flow.graph.standing import Standing
from jubako.flow.interrupts import Interrupts
from jubako.flow.ledger.ledger import Ledger
from jubako.flow.ledger.run_id import make_run_id
from jubako.flow.ledger.task_log import TaskLogs
from jubako.flow.observer import (
    Note,
    Observer,
    RunEvent,
    RunPlanned,
    RunStarted,
    TaskPrinted,
    TaskStarted,
    TaskVerified,
)
from jubako.flow.options import RunOptions
from jubako.flow.pipeline_source import find_belonging
from jubako.flow.run.desk import Desk
from jubako.flow.run.ending import blame
from jubako.flow.run.presence import is_living
from jubako.flow.run.recovering import recover_and_stage
from jubako.flow.run.runner import describe_tasks
from jubako.flow.staleness.tracking import Changes
from jubako.flow.targets.local_target import set_start_directory
from jubako.flow.verifying.compare_outputs import compare_outputs, find_change
from jubako.flow.verifying.kept_outputs import KeptOutputs
from jubako.flow.verifying.verification import TaskVerdict, Verification, find_rules, refuse
from jubako.records import replace
from jubako.verify.compare import Rules, worst
from jubako.verify.tolerance import Tolerance

__all__ = ["verify_tasks"]


def verify_tasks(
    tasks: Sequence[Any],
    options: RunOptions | None = None,
    *,
    tolerance: Tolerance | None = None,
    ignore: Sequence[str] = (),
    keep_in: str = "",
    observer: Observer | None = None,
    clock: Clock | None = None,
    **shortcuts: Any,
) -> Verification:
    """Makes `tasks`, which are done, again without publishing, and compares each output with the published one.

    `tolerance` replaces the tasks' own (`Task.verification`), `ignore` adds to what they leave out. Of `options` (and
    `shortcuts`, its fields by name) count workers, state, pipeline and time limits. Each task is run at most once, its
    requirements are not. Outputs that turn out different are kept in the folder `keep_in`, if one is given. Ctrl-C
    ends it in good order, with `is_interrupted` set.
    """
    options = replace(options or RunOptions(), **{**shortcuts, "undeclared": "warn", "durability": "relaxed"})
    options = replace(options, keep_failed=False)
    began_s = time.perf_counter()
    tasks = list(dict.fromkeys(tasks))
    rules = {task: find_rules(task, tolerance, ignore) for task in tasks}
    set_start_directory(os.getcwd())
    try:
        with ExitStack() as stack:
            session = _Session(stack, tasks, rules, options, keep_in, observer, clock or SystemClock())
            return replace(session.run(), wall_s=time.perf_counter() - began_s)
    finally:
        set_start_directory(None)


class _Session:
    """What one verification has open; `stack` closes it."""

    def __init__(
        self,
        stack: ExitStack,
        tasks: Sequence[Any],
        rules: dict[Any, Rules],
        options: RunOptions,
        keep_in: str,
        observer: Observer | None,
        clock: Clock,
    ) -> None:
        refuse_nesting("tasks cannot be verified inside a box", hint="verify them outside of it")
        self._tasks = tasks
        self._rules = rules
        self._options = options
        self._kept = KeptOutputs(keep_in, self._note)
        self._observer = observer
        self._clock = clock
        self._verdicts: dict[Any, TaskVerdict] = {}
        self._attempts: dict[str, Attempt] = {}
        self._notes: dict[str, str] = {}
        self._serial = itertools.count(1)
        belonging = find_belonging(tasks, options.pipeline)
        state = open_state_root(options.state or find_state_root(os.environ, os.path.expanduser("~")))
        self._run_id = make_run_id(clock.wall_s())
        connection = stack.enter_context(closing(open_database(state.ledger_path, durability=options.durability)))
        ledger = Ledger(connection)
        self._recovery = recover_and_stage(connection, state, self._run_id, ledger)
        stack.enter_context(self._recovery.area)
        self._ledger_run = ledger.begin_run(
            self._run_id,
            belonging.name,
            asked=options.backfill or describe_tasks(tasks),
            kind="verify",
            mode="host",
            pid=os.getpid(),
            now=clock.moment(),
            now_s=clock.wall_s(),
            beats=False,
            is_locked=lambda other: is_living(state, other),
        )
        self._changes = Changes(self._ledger_run.track, self._note, clock.wall_s)
        self._logs = TaskLogs(os.path.join(state.logs_path, self._run_id), options.log_limit_bytes)
        self._desk = Desk(
            state,
            self._recovery.area,
            Publisher(self._recovery.journal, options.durability),
            self._ledger_run,
            options,
            belonging,
            os.getcwd(),
            self._note,
            RERUN,
        )
        self._executor = BoxedExecutor(self._desk.start_worker, options.workers)
        stack.callback(self._executor.close)
        self._interrupts = stack.enter_context(Interrupts(lambda: False))

    def run(self) -> Verification:
        """Verifies, and tells the ledger how it has ended, whatever happens."""
        status = "BROKEN"
        try:
            self._tell(RunStarted(self._run_id, "host", self._options.workers))
            self._work(self._triage())
            found = self._sum_up()
            status = "INTERRUPTED" if found.is_interrupted else "SUCCESS" if found else "FAILED"
            return found
        except (InputError, HostError):
            status = "REFUSED"
            raise
        finally:
            agree = sum(each.verdict in ("same", "within") for each in self._verdicts.values())
            counts = {"done": agree, "failed": len(self._verdicts) - agree}
            self._ledger_run.end(status, counts, self._clock.wall_s(), log_bytes=self._logs.size_bytes)

    def _triage(self) -> deque[Any]:
        """Gives those that cannot be verified their verdict; the others are to be run."""
        standing = Standing(targets_exist)
        standing.look(self._tasks)
        refusals = [(task, refuse(task, standing)) for task in self._tasks]
        waiting = deque(task for task, refusal in refusals if refusal is None)
        count = len(self._tasks)
        self._tell(RunPlanned(found=count, complete=0, to_run=count, missing=0, broken=0))
        for _, refusal in refusals:
            if refusal is not None:
                self._settle(refusal)
        if waiting:
            self._desk.require_boxes()
            self._executor.warm_up(len(waiting))
        return waiting

    def _work(self, waiting: deque[Any]) -> None:
        seen = 0
        while (waiting and not seen) or self._attempts:
            while waiting and not seen and len(self._attempts) < self._options.workers:
                self._start(waiting.popleft())
            if not self._executor.is_ready and self._attempts:
                self._wait()
            if self._interrupts.count > seen:
                for attempt_id in list(self._attempts):
                    self._executor.cancel(attempt_id, kill=seen > 0)
                seen = self._interrupts.count
            for event in self._executor.poll():
                self._hear(event)

    def _wait(self) -> None:
        poll = select.poll()
        for fd in (self._interrupts.fileno(), *self._executor.filenos()):
            poll.register(fd, select.POLLIN)
        poll.poll()
        self._interrupts.drain()

    def _start(self, task: Any) -> None:
        attempt = Attempt(0, task, str(next(self._serial)), self._clock.wall_s())
        try:
            job = self._desk.prepare(attempt)
        except (InputError, HostError, OSError) as error:
            self._settle(TaskVerdict(task, "cannot", reason="failed", sentence=f"it cannot be run again: {error}"))
            return
        except Exception as error:  # noqa: BLE001  (output() and input() are the task's own code)
            blamed = blame(attempt.id, error)
            self._settle(
                TaskVerdict(task, "cannot", reason="broken", sentence=blamed.error, traceback=blamed.traceback)
            )
            return
        self._attempts[attempt.id] = attempt
        self._tell(TaskStarted(task, attempt.id))
        self._executor.start(Order(attempt.id, task, get_timeout_s(task, self._options), job))

    def _hear(self, event: ExecutorEvent) -> None:
        if isinstance(event, Remarked):
            self._note(event.text)
            return
        attempt = self._attempts.get(event.attempt_id)
        if attempt is None:
            return
        if isinstance(event, Printed):
            self._logs.write(attempt.id, event.data, [attempt.task])
            self._tell(TaskPrinted(attempt.task, event.data, self._logs.path(attempt.id)))
        elif isinstance(event, Ended):
            del self._attempts[attempt.id]
            try:
                if event.outcome != "cancelled":
                    log_path = self._logs.find(attempt.id)
                    self._settle(replace(self._judge(attempt, event), wall_s=event.wall_s, log_path=log_path))
            finally:
                self._logs.close(attempt.id)
                self._desk.clear(attempt, keep=False)

    def _judge(self, attempt: Attempt, ended: Ended) -> TaskVerdict:
        """What a run that has ended says about what is published."""
        task = attempt.task
        if ended.outcome == "needs":
            names = ", ".join(map(str, ended.requirements[:3]))
            return TaskVerdict(task, "cannot", reason="needs_more", sentence=f"its run() needs {names}, not done yet")
        if ended.outcome != "ok":
            what = "check() refused what came out" if ended.outcome == "check" else "it failed when it was run again"
            sentence = f"{what}: {ended.error.partition(chr(10))[0]}"
            return TaskVerdict(task, "cannot", reason="failed", sentence=sentence, traceback=ended.traceback)
        prepared = attempt.prepared
        if prepared is None:
            raise BugError(f"attempt {attempt.id} was not prepared for a box")
        outputs = compare_outputs(prepared, self._rules[task], lambda staged: self._kept.keep(task, staged))
        changed = find_change(prepared)
        if changed:
            return TaskVerdict(task, "cannot", outputs, "changed", f"{changed}, while it was being verified")
        verdict = worst([output.comparison.verdict for output in outputs])
        changes: Sequence[str] = ()
        if verdict == "different" and task.tracks_changes:  # then this may be why
            changes = [cause.text for cause in self._changes.find_causes(task) or ()]
        return TaskVerdict(task, verdict, outputs, "incomparable" if verdict == "cannot" else "", changes=changes)

    def _settle(self, verdict: TaskVerdict) -> None:
        self._verdicts[verdict.task] = verdict
        self._tell(TaskVerified(verdict.task, verdict.verdict, verdict.describe(), verdict.wall_s))

    def _sum_up(self) -> Verification:
        return Verification(
            self._run_id,
            [self._verdicts[task] for task in self._tasks if task in self._verdicts],
            tuple(self._notes.items()),
            self._recovery.sentences,
            not_verified=len(self._tasks) - len(self._verdicts),
            is_interrupted=self._interrupts.count > 0,
        )

    def _note(self, text: str, *, hint: str = "") -> None:
        if text not in self._notes:
            self._notes[text] = hint
            self._tell(Note(text, hint))

    def _tell(self, event: RunEvent) -> None:
        if self._observer is not None:
            self._observer.see(event)
