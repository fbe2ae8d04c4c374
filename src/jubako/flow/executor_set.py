"""Which executor a task goes to. Each is made when it is first needed.

its targets live in memory           in this process
boxes on this host                   a pool of workers
no box, one worker, no time limit    in this process, as Luigi
no box otherwise                     a process each
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jubako.flow.attempts import get_timeout_s, lives_in_memory
from jubako.flow.executors.executor import Executor
from jubako.flow.executors.in_process import InProcessExecutor
from jubako.flow.executors.performing import IsDone
from jubako.flow.nesting import flatten
from jubako.flow.observer import Mode
from jubako.flow.options import RunOptions
from jubako.flow.task import Task

if TYPE_CHECKING:
    from jubako.flow.executors.boxed import BoxedExecutor, WorkerLike
    from jubako.flow.executors.forked import ForkedExecutor

__all__ = ["ExecutorSet"]


@dataclass(slots=True)
class ExecutorSet:
    """The executors of one run. `hidden` is the state root: children keep no descriptor of it."""

    mode: Mode
    options: RunOptions
    is_done: IsDone
    start_worker: Callable[[], WorkerLike]
    hidden: str
    in_process: InProcessExecutor = field(init=False)
    living: list[Executor] = field(init=False)  # those that were needed so far
    _forked: ForkedExecutor | None = None
    _boxed: BoxedExecutor | None = None

    def __post_init__(self) -> None:
        self.in_process = InProcessExecutor(self.is_done)
        self.living = [self.in_process]

    @property
    def forked(self) -> ForkedExecutor:
        if self._forked is None:
            from jubako.flow.executors.forked import ForkedExecutor  # 5 ms that most runs need not pay

            self._forked = ForkedExecutor(self.is_done, hidden=self.hidden)
            self.living.append(self._forked)
        return self._forked

    @property
    def boxed(self) -> BoxedExecutor:
        if self._boxed is None:
            from jubako.flow.executors.boxed import BoxedExecutor  # 15 ms that an unboxed run need not pay

            self._boxed = BoxedExecutor(self.start_worker, self.options.workers)
            self.living.append(self._boxed)
        return self._boxed

    def choose(self, task: Any) -> Executor:
        """Where `task` is to run. Asks the task for its outputs only where it matters."""
        if self.mode == "host":
            return self.boxed if self.needs_box(task) else self.in_process
        if self.options.workers == 1 and get_timeout_s(task, self.options) is None:
            return self.in_process
        return self.in_process if lives_in_memory(flatten(task.output())) else self.forked

    def needs_box(self, task: Any) -> bool:
        """Whether `task` would run in a box, if tasks do."""
        return type(task).run is not Task.run and not lives_in_memory(flatten(task.output()))

    def for_owed(self) -> Executor:
        """Where after_publish() is called: beside the tasks, unless everything happens in this process."""
        return self.in_process if self.mode == "none" and self.options.workers == 1 else self.forked

    def may_interrupt(self) -> bool:
        """True, once, while a task's own code runs in this process: then KeyboardInterrupt ends it."""
        was_running, self.in_process.is_running = self.in_process.is_running, False
        return was_running

    def close(self) -> None:
        """Ends all that runs."""
        for executor in self.living:
            executor.close()
