"""Which executor a task goes to. Each is made when it is first needed.

its targets live in memory           in this process
boxes on this host                   a pool of workers
no box, one worker, no time limit    in this process, as Luigi
no box otherwise                     a process each
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jubako.flow.attempts import get_timeout_s
from jubako.flow.executors.executor import Executor
from jubako.flow.executors.in_process import InProcessExecutor
from jubako.flow.executors.performing import IsDone
from jubako.flow.observer import Mode
from jubako.flow.options import RunOptions
from jubako.flow.targets.outputs import lives_in_memory
from jubako.flow.tasks.nesting import flatten
from jubako.flow.tasks.task import Task

if TYPE_CHECKING:
    from jubako.flow.executors.boxed import BoxedExecutor, WorkerLike
    from jubako.flow.executors.forked import ForkedExecutor

__all__ = ["ExecutorSet"]


class ExecutorSet:
    """The executors of one run. `hidden` is the state root: children keep no descriptor of it."""

    def __init__(
        self,
        mode: Mode,
        options: RunOptions,
        is_done: IsDone,
        start_worker: Callable[[], WorkerLike],
        *,
        hidden: str,
    ) -> None:
        self.in_process = InProcessExecutor(is_done, options.rules)
        self.living: list[Executor] = [self.in_process]  # those that were needed so far
        self._mode = mode
        self._options = options
        self._is_done = is_done
        self._start_worker = start_worker
        self._hidden = hidden
        self._forked: ForkedExecutor | None = None
        self._boxed: BoxedExecutor | None = None

    @property
    def forked(self) -> ForkedExecutor:
        if self._forked is None:
            from jubako.flow.executors.forked import ForkedExecutor  # 5 ms that most runs need not pay

            self._forked = ForkedExecutor(self._is_done, hidden=self._hidden, rules=self._options.rules)
            self.living.append(self._forked)
        return self._forked

    @property
    def boxed(self) -> BoxedExecutor:
        if self._boxed is None:
            from jubako.flow.executors.boxed import BoxedExecutor  # 15 ms that an unboxed run need not pay

            self._boxed = BoxedExecutor(self._start_worker, self._options.workers)
            self.living.append(self._boxed)
        return self._boxed

    def choose(self, task: Any) -> Executor:
        """Where `task` is to run. Asks the task for its outputs only where it matters."""
        if self._mode == "host":
            return self.boxed if self.needs_box(task) else self.in_process
        options = self._options
        if options.workers == 1 and not options.rules.always_fork and get_timeout_s(task, options) is None:
            return self.in_process
        return self.in_process if lives_in_memory(flatten(task.output())) else self.forked

    def needs_box(self, task: Any) -> bool:
        """Whether `task` would run in a box, if tasks do."""
        return type(task).run is not Task.run and not lives_in_memory(flatten(task.output()))

    def for_owed(self) -> Executor:
        """Where after_publish() is called: beside the tasks, unless everything happens in this process."""
        return self.in_process if self._mode == "none" and self._options.workers == 1 else self.forked

    def may_interrupt(self) -> bool:
        """True, once, while a task's own code runs in this process: then KeyboardInterrupt ends it."""
        was_running, self.in_process.is_running = self.in_process.is_running, False
        return was_running

    def close(self) -> None:
        """Ends all that runs."""
        for executor in self.living:
            executor.close()
