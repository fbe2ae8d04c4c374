"""The run loop: obeys the engine, waits, hears executors, publishes. The only place where things happen in time.

    engine ── Start ──> claim a lease ──> prepare ──> executor
       ^                                                 │ Ended
       └── Published, Failed, Yielded ... <── publish <──┘

One pass of the loop takes everything that has happened, starts what can start, then publishes all that is ready in one
batch; boxes run on meanwhile. A slot is free from the end of the work, not of its publishing.
"""

from __future__ import annotations

import itertools
import select
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from jubako.errors import BugError, ConflictError, HostError, InputError
from jubako.flow.attempts import Attempt, get_timeout_s
from jubako.flow.clock import Clock
from jubako.flow.engine.batching import combine
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.engine_events import (
    Cancelled,
    Elsewhere,
    Entangled,
    Event,
    Failed,
    Found,
    Instruction,
    Pause,
    Planned,
    Published,
    Ran,
    Resume,
    Start,
    Stop,
    There,
    Tick,
    Yielded,
)
from jubako.flow.engine.transitions import State
from jubako.flow.executors.executor import Ended, ExecutorEvent, Order, Printed, Remarked
from jubako.flow.graph.graph import Graph, describe_cycle, find_cycle
from jubako.flow.graph.standing import Broken
from jubako.flow.interrupts import Interrupts
from jubako.flow.ledger.claims import Claims
from jubako.flow.ledger.lease import LEASE_S
from jubako.flow.ledger.task_log import TaskLogs
from jubako.flow.observer import Note, TaskGivenUp, TaskPrinted, TaskProgressed, TaskStarted
from jubako.flow.options import RunOptions
from jubako.flow.run.book import Book
from jubako.flow.run.ending import Endings, blame
from jubako.flow.run.executor_set import ExecutorSet
from jubako.flow.run.owed import OwedCalls
from jubako.flow.staleness.tracking import Changes
from jubako.flow.tasks.task import Task

if TYPE_CHECKING:
    from jubako.flow.run.desk import Desk
    from jubako.flow.run.publishing import Ready

__all__ = ["RunLoop"]

_ASK_AGAIN_S: Final = 0.5  # how often a task that another run has is asked for
_BEAT_S: Final = LEASE_S / 10
_WISH_S: Final = 1.0  # how often a run looks whether somebody wants it to pause
_SAME_AGAIN: Final = 3  # how often run() may ask for nothing but what is done


class RunLoop:
    """One run, from "everything is planned" to "nothing runs any more". `desk` is None in a run without boxes."""

    def __init__(
        self,
        engine: Engine,
        graph: Graph,
        executors: ExecutorSet,
        book: Book,
        logs: TaskLogs,
        *,
        desk: Desk | None,
        interrupts: Interrupts,
        clock: Clock,
        options: RunOptions,
        changes: Changes | None = None,
    ) -> None:
        self.engine = engine
        self.graph = graph
        self.book = book
        self.was_interrupted = False
        self.held_elsewhere: dict[int, str] = {}  # tasks another run is working on, and which
        self.owed = OwedCalls(book.run, executors.for_owed, options.workers)
        self._executors = executors
        self._logs = logs
        self._desk = desk
        self._interrupts = interrupts
        self._clock = clock
        self._options = options
        self._changes = changes or Changes(book.run.track, book.note, clock.wall_s)
        self._leases = book.run.leases
        self._claims = Claims(self._leases, self._upcoming)
        self._endings = Endings(book, desk, logs, clock)
        self._attempts: dict[str, Attempt] = {}
        self._sending: dict[str, Ready] = {}  # by attempt: what is published when what belongs in stores has been sent
        self._todo: deque[Instruction] = deque()
        self._serial = itertools.count(1)
        self._same_again: Counter[int] = Counter()
        self._looked_at: set[type] = set()
        self._seen_interrupts = 0
        self._winds_down = False
        self._beats = True
        self._next_beat_s = 0.0
        self._wish = ""
        self._next_wish_s = 0.0

    def work(self) -> None:
        """Runs until nothing is left to do. Whatever it raises, the caller closes executors and the staging area."""
        self.owed.look(self.graph.tasks)
        self._tell(Planned())
        while True:
            self._obey()
            if self.engine.is_over and not self.owed.is_busy:
                if self.was_interrupted or not self._untangle():
                    break
                continue
            self._wait()
            self._mind_interrupts()
            self._mind_wishes()
            self._beat()
            ready: list[Ready] = []
            for executor in self._executors.living:
                for event in executor.poll():
                    self._mind_wind_down()  # or what has ended makes way for one more
                    self._hear(event, ready)
            if self.engine.next_due_s is not None:
                self._tell(Tick())
            self._obey()
            if ready:
                self._publish(ready)
        self.book.flush()

    # engine

    def _tell(self, *events: Event) -> None:
        if self._options.shared_resources:
            for event in events:
                if isinstance(event, (Published, Failed, Yielded, Cancelled)):
                    self.book.run.shares.give_back(self.graph.tasks[event.task].task_id)
        self._todo.extend(self.engine.handle_all(events, self._clock.monotonic_s()))

    def _obey(self) -> None:
        while self._todo:
            instruction = self._todo.popleft()
            if isinstance(instruction, Start):
                self._start(instruction.task, instruction.others)
            elif self.book.watches:
                tasks = self.graph.tasks
                self.book.tell(TaskGivenUp(tasks[instruction.task], tasks[instruction.because]))

    def _upcoming(self, limit: int) -> list[str]:
        """Ids of the tasks that would start next."""
        return [self.graph.tasks[number].task_id for number in self.engine.upcoming(limit)]

    def _start(self, number: int, others: Sequence[int]) -> None:
        """Starts a task, as one with `others`, unless another run has it or has done it, or it cannot be prepared."""
        members = [(each, self.graph.tasks[each]) for each in (number, *others) if self._is_ours(each)]
        if not members or members[0][0] != number:
            self._put_off(members, 0.0)  # whoever was to take them along does not start: they go without, now
            self._tell(Tick())
            return
        attempt = Attempt(number, members[0][1], str(next(self._serial)), self._clock.wall_s(), members)
        try:
            task = attempt.task = combine([task for _, task in members])
        except Exception as error:  # noqa: BLE001  (a batch_method, or the task's own __init__)
            self._fail(attempt, blame(attempt.id, error))
            return
        if attempt.is_batch and self._claims.claim(task.task_id, self._clock.moment()) is not None:
            self._put_off(members, _ASK_AGAIN_S)
            return
        short = self._take_shares(number, members[0][1])
        if short is not None:
            self.book.note(f"other runs have {short} in use; waiting for them")
            self._put_off(members, _ASK_AGAIN_S)
            return
        job = None
        try:
            executor = self._executors.choose(task)
            self._say_what_is_lost(task, in_process=executor is self._executors.in_process)
            if executor is self._executors.in_process:
                if type(task).run is not Task.run:
                    self._stop_beating()
            elif self._desk is not None:
                job = self._desk.prepare(attempt)
            self._changes.note(attempt)
        except (InputError, HostError, OSError) as error:
            self._fail(attempt, Ended(attempt.id, "failed", str(error), exception=error))
            return
        except Exception as error:  # noqa: BLE001  (output() and input() are the task's own code)
            self._fail(attempt, blame(attempt.id, error))
            return
        self._attempts[attempt.id] = attempt
        if self.book.watches:
            for _, member in members:
                self.book.tell(TaskStarted(member, attempt.id))
        executor.start(Order(attempt.id, task, get_timeout_s(task, self._options), job))

    def _is_ours(self, number: int) -> bool:
        """Takes the lease of a task; False, and the engine knows, if another run has the task or has made it."""
        task = self.graph.tasks[number]
        if task.task_id not in self._leases.tokens:
            now = self._clock.moment()
            holder = self._claims.claim(task.task_id, now)
            if holder is not None:
                self.held_elsewhere[number] = holder
                self.book.note(f"another run ({holder}) is working on tasks that are needed here; waiting for them")
                self._tell(Elsewhere(number, now.monotonic_s + _ASK_AGAIN_S))
                return False
        if self._changes.is_unchanged(task) and self.graph.find_complete([task]):
            self._leases.release([task.task_id])
            self._tell(There(number))
            return False
        if self._leases.has_company:
            self.held_elsewhere.pop(number, None)
            is_due = task in self._options.redo and not self._changes.is_made_anew(task)
            if not is_due and self.graph.find_complete([task]):
                self._leases.release([task.task_id])
                self._tell(There(number))
                return False
        return True

    def _put_off(self, members: Sequence[tuple[int, Any]], wait_s: float) -> None:
        """Lets tasks that were about to start have their turn again after a while."""
        until_s = self._clock.monotonic_s() + wait_s
        self._tell(*(Elsewhere(number, until_s) for number, _ in members))

    def _take_shares(self, number: int, task: Any) -> str | None:
        """Takes what the task needs of what runs share; or returns the name of what is short."""
        shared = self._options.shared_resources
        needs = tuple(need for need in self.engine.needs(number) if need[0] in shared) if shared else ()
        return self.book.run.shares.take(task.task_id, needs, shared, self._clock.moment()) if needs else None

    def _say_what_is_lost(self, task: Any, *, in_process: bool) -> None:
        """Says once what a task would have had in a box, where it does not run in one."""
        cls = type(task)
        if cls in self._looked_at or cls.run is Task.run:
            return
        self._looked_at.add(cls)
        if self._desk is None:
            if task.has_check():
                self.book.note(f"check() of {cls.__name__} is not called: without a box there is nothing to hold back")
        elif in_process:
            self.book.note(f"{cls.__name__} makes targets that live in memory: it runs in this process, not in a box")

    # what has happened

    def _hear(self, event: ExecutorEvent, ready: list[Ready]) -> None:
        if isinstance(event, Ended):
            if self.owed.has(event.attempt_id):
                self.owed.end(event)
                self._logs.close(event.attempt_id)
            else:
                self._end(self._attempts.pop(event.attempt_id), event, ready)
            return
        if isinstance(event, Remarked):
            self.book.note(event.text)
            return
        attempt = self._attempts.get(event.attempt_id)
        if isinstance(event, Printed):
            tasks = self.owed.find_tasks(event.attempt_id) if attempt is None else attempt.tasks
            self._logs.write(event.attempt_id, event.data, tasks)
        if attempt is None or not self.book.watches:
            return
        if isinstance(event, Printed):
            self.book.tell(TaskPrinted(attempt.task, event.data, self._logs.path(event.attempt_id)))
        else:
            self.book.tell(TaskProgressed(attempt.task, **{event.what: event.value}))

    def _end(self, attempt: Attempt, ended: Ended, ready: list[Ready]) -> None:
        sent = self._sending.pop(attempt.id, None)
        if sent is not None and attempt.prepared is not None and ended.outcome == "ok":
            attempt.prepared.unmade += tuple(ended.unmade)
            self._make_ready(attempt, sent, ready)
        elif ended.outcome == "needs":
            self._need(attempt, ended)
        elif ended.outcome == "cancelled":
            self._endings.cancel(attempt, ended)
            self._stop()  # also where a task has raised KeyboardInterrupt by itself
            self._tell_of_each(attempt, Cancelled)
        elif ended.outcome != "ok":
            self._fail(attempt, ended)
        elif attempt.prepared is not None:
            self._collect(attempt, ended, ready)
        else:
            unmade = self._leave_unmade(attempt) if self._options.rules.unmade_outputs == "fail" else ()
            if self._endings.succeed_unboxed(attempt, ended):
                self.owed.look([attempt.task])
            self._tell_of_each(attempt, Published)
            self._fail_unmade(attempt, unmade)

    def _collect(self, attempt: Attempt, ended: Ended, ready: list[Ready]) -> None:
        """A box ended well; what it made is to be published, after what belongs in stores has been sent."""
        self._endings.tell_undeclared(attempt, ended)
        collected = self._get_desk().collect(attempt, ended, self._endings.record(attempt, ended, "publishing"))
        for text in collected.left_out:
            self.book.note(f"{attempt.task}: {text}")
        if collected.ready is not None and collected.to_send:
            self._send(attempt, collected.ready, collected.to_send)
        elif collected.ready is not None:
            self._make_ready(attempt, collected.ready, ready)
        elif collected.problem is not None:
            self._fail(attempt, collected.problem)

    def _send(self, attempt: Attempt, ready: Ready, to_send: Sequence[tuple[Any, str]]) -> None:
        """Sends what belongs in stores, in a process beside the tasks; the slot is taken until that has ended."""
        try:
            self._get_desk().refuse_lost(ready)
        except ConflictError as error:
            self._fail(attempt, Ended(attempt.id, "failed", error.message, exception=error))
            return
        self._sending[attempt.id] = ready
        self._attempts[attempt.id] = attempt
        self._executors.forked.start(Order(attempt.id, attempt.task, action="upload", uploads=to_send))

    def _make_ready(self, attempt: Attempt, made: Ready, ready: list[Ready]) -> None:
        """The slot is free, and what was made is published next."""
        ready.append(made)
        self._tell(Ran(attempt.number))  # others of a batch have no worker to free

    def _publish(self, ready: Sequence[Ready]) -> None:
        owing: list[Any] = []
        for each, outcome in zip(ready, self._get_desk().publish(ready, self._clock.wall_s()), strict=True):
            attempt = each.attempt
            if isinstance(outcome, Exception):
                problem = Ended(attempt.id, "failed", outcome.message, exception=outcome)
                self._fail(attempt, problem, is_recorded=True)
            else:
                unmade = self._leave_unmade(attempt)
                self._endings.succeed(attempt, each.record.wall_s)
                owing += [attempt.task] if each.owed is not None else []
                self._tell_of_each(attempt, Published)
                self._fail_unmade(attempt, unmade)
        if owing:
            self.owed.look(owing)

    def _get_desk(self) -> Desk:
        if self._desk is None:
            raise BugError("a run without boxes has the result of one")
        return self._desk

    def _fail(self, attempt: Attempt, ended: Ended, *, is_recorded: bool = False) -> None:
        again = self._endings.deserves_another(attempt, ended)
        self._tell_of_each(attempt, lambda number: Failed(number, again=again))
        tried_again = {
            number: self.engine.wait_s(number)
            for number, _ in attempt.members
            if self.engine.state(number) is not State.FAILED
        }
        self._endings.fail(attempt, ended, tried_again=tried_again, is_recorded=is_recorded)

    def _leave_unmade(self, attempt: Attempt) -> Sequence[tuple[int, Any]]:
        """Takes those members out of a batch that has ended well which are not complete all the same."""
        if not attempt.is_batch:
            return ()
        done = set(self.graph.find_complete([task for _, task in attempt.members]))
        unmade = [member for member in attempt.members if member[1] not in done]
        attempt.members = tuple(member for member in attempt.members if member[1] in done)
        return unmade

    def _fail_unmade(self, batch: Attempt, unmade: Sequence[tuple[int, Any]]) -> None:
        for number, task in unmade:
            attempt = Attempt(number, task, batch.id, batch.started_s)
            self._fail(attempt, Ended(batch.id, "failed", f"it ran as a part of {batch.task}, which did not make it"))

    def _tell_of_each(self, attempt: Attempt, make: Callable[[int], Event]) -> None:
        """Tells the engine the same of every task the attempt stands for."""
        self._tell(*(make(number) for number, _ in attempt.members))

    def _need(self, attempt: Attempt, ended: Ended) -> None:
        """Puts what run() asked for into the graph, and the task behind it."""
        number = attempt.number
        try:
            self._explore(ended.requirements)
        except InputError as error:
            self._fail(attempt, Ended(attempt.id, "failed", error.message))
            return
        numbers = tuple(self.graph.number(task) for task in ended.requirements)
        if all(self.engine.state(needed) in (State.DONE, State.COMPLETE) for needed in numbers):
            self._same_again[number] += 1
            if self._same_again[number] >= _SAME_AGAIN:
                names = ", ".join(map(str, ended.requirements[:3]))
                sentence = f"run() asks for {names} again and again, which has run and still says it is not complete"
                self._fail(attempt, Ended(attempt.id, "failed", sentence))
                return
        self._endings.suspend(attempt, ended)
        self._tell_of_each(attempt, lambda member: Yielded(member, numbers))

    def _explore(self, tasks: Sequence[Any]) -> None:
        """Tells the engine of what is new. InputError if it cannot be; what is new is then broken, not run."""
        found: list[Found] = []
        try:
            found.extend(self.graph.explore(tasks))
        except InputError as error:
            self.graph.broken.update((event.task, Broken(error.message, "", error)) for event in found)
            found = [Found(event.task, "broken") for event in found]
            raise
        finally:
            for event in found:
                self._tell(event)

    def _untangle(self) -> bool:
        """Gives up one task of a ring that dynamic requirements have made; False if there is none."""
        cycle = find_cycle(self.engine, only_waiting=True)
        if not cycle:
            return False
        sentence = describe_cycle(cycle, self.graph.tasks)
        self.graph.broken[cycle[0]] = Broken(sentence, "", InputError(sentence))
        self._tell(Entangled(cycle[0]))
        return True

    # time and signals

    def _wait(self) -> None:
        """Until something happens, a moment comes, or a signal."""
        executors = self._executors.living
        for executor in executors:
            if executor.is_ready:
                return
        self.book.flush()
        moments = [
            self._next_beat_s,
            self._next_wish_s,
            self.engine.next_due_s,
            *(executor.due_s for executor in executors),
        ]
        now_s = self._clock.monotonic_s()
        timeout_s = min(moment for moment in moments if moment is not None) - now_s
        poll = select.poll()
        poll.register(self._interrupts.fileno(), select.POLLIN)
        for executor in executors:
            for fd in executor.filenos():
                poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, timeout_s) * 1000 + 1)
        self._interrupts.drain()

    def _mind_interrupts(self) -> None:
        self._mind_wind_down()
        if self._interrupts.count > self._seen_interrupts:
            kill = self._seen_interrupts > 0
            self._seen_interrupts = self._interrupts.count
            self._cut_short(kill=kill)

    def _cut_short(self, *, kill: bool) -> None:
        self._stop()
        running = (*self._attempts, *self.owed.running)
        for executor in self._executors.living:
            for attempt_id in running:
                executor.cancel(attempt_id, kill=kill)

    def _mind_wishes(self) -> None:
        """Does what somebody has said from another terminal (`flow.ledger.steering`)."""
        now_s = self._clock.monotonic_s()
        if now_s < self._next_wish_s:
            return
        self._next_wish_s = now_s + _WISH_S
        wish = self.book.run.read_wish()
        if wish == self._wish:
            return
        self._wish = wish
        if wish == "cancel":
            self.book.tell(Note("cancelled from another terminal"))
            self._cut_short(kill=False)
        elif wish == "pause":
            self.book.tell(Note("paused from another terminal: nothing more is started until it goes on"))
            self._tell(Pause())
            attempts = self._attempts.values()
            at_work = {task.task_id for each in attempts for task in (each.task, *(task for _, task in each.members))}
            self._leases.release([task_id for task_id in self._leases.tokens if task_id not in at_work])
        else:
            self.book.tell(Note("goes on"))
            self._tell(Resume())

    def _mind_wind_down(self) -> None:
        if self._interrupts.is_winding_down and not self._winds_down:
            self._winds_down = True
            self._tell(Stop())

    def _stop(self) -> None:
        if not self.was_interrupted:
            self.was_interrupted = True
            self.owed.stop()
            self._tell(Stop())

    def _beat(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + _BEAT_S
            if self._beats:
                self.book.run.beat(self._clock.moment())

    def _stop_beating(self) -> None:
        """A task in this process may take hours, in which nothing can beat."""
        if self._beats:
            self._beats = False
            self.book.run.stop_beating()
