"""Luigi's worker, as far as programs use it: tasks are added, then run. Scheduling is the run's own affair.

with Worker(scheduler=Scheduler(), worker_processes=2) as worker:
    worker.add(MyTask())
    worker.run()
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from jubako.errors import InputError
from jubako.flow.options import RunOptions
from jubako.flow.result import RunResult
from jubako.flow.run.runner import run
from jubako.flow.run_rules import RunRules
from jubako.flow.settings_file import find_settings_file
from jubako.luigi import sections
from jubako.luigi.configuration import get_config
from jubako.luigi.log import RunLog, logger
from jubako.records import record

if TYPE_CHECKING:
    from jubako.boxes.spec import Undeclared
    from jubako.boxes.transactions.database import Durability
    from jubako.flow.settings import Settings

__all__ = ["Scheduler", "TaskProcess", "Worker"]


class Scheduler:
    """What a worker is given for a scheduler: settings of retries, and nothing to call."""

    def __init__(self, config: Any = None, resources: dict[str, int] | None = None, **settings: Any) -> None:
        for name in ("task_history_impl", "prune_on_get_work", "record_task_history"):
            settings.pop(name, None)
        self._config = config if config is not None else sections.scheduler(**settings)
        self._resources = get_config().getintdict("resources") if resources is None else resources

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise InputError(
            f"Scheduler.{name} is not part of jubako: nothing is scheduled outside a run",
            hint="the result of luigi.build([...], detailed_summary=True) says what became of tasks",
        )


class TaskProcess:
    """What a `task_process_context` is told of the attempt it is around."""

    def __init__(self, task: Any, worker_id: str, worker_timeout: float) -> None:
        self.task = task
        self.worker_id = worker_id
        self.worker_timeout = worker_timeout if task.worker_timeout is None else task.worker_timeout


@record
class _Around:
    """Makes the context around a task. `name` is its class; workers of boxes look it up when they have the pipeline."""

    name: str
    worker_id: str
    worker_timeout: float

    def __call__(self, task: Any) -> AbstractContextManager[Any]:
        process = TaskProcess(task, self.worker_id, self.worker_timeout)
        context: AbstractContextManager[Any] = self.find_context()(process)
        return context

    def find_context(self) -> Any:
        """The class of this name; InputError if there is none."""
        module, _, attribute = self.name.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"[worker] task_process_context: there is no {self.name}: {error}") from error


class Worker:
    """Runs what is added to it, when `run` is called."""

    def __init__(
        self,
        scheduler: Scheduler | None = None,
        worker_id: str | None = None,
        worker_processes: int = 1,
        assistant: bool = False,
        **settings: Any,
    ) -> None:
        self._scheduler = Scheduler() if scheduler is None else scheduler
        self._config = sections.worker(**settings)
        self._own = sections.jubako()
        self._id = worker_id or self._config.id or f"jubako(host={socket.gethostname()}, pid={os.getpid()})"
        self.worker_processes = int(worker_processes)
        self.result: RunResult | None = None  # what the last run came to, in full
        self.tasks: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> Literal[False]:
        return False

    def add(self, task: Any, multiprocess: bool = False, processes: int = 0) -> bool:
        """Puts a task on the list of what is to be run. True: whether it can be is found out by `run`."""
        self.tasks.append(task)
        return True

    def run(self) -> bool:
        """Runs what was added; True if no task failed and all could be scheduled.

        KeyboardInterrupt, after the run has ended in good order, if it was interrupted.
        """
        for sentence in sections.find_unused(self._config, self._scheduler._config):
            logger.warning(sentence)
        if get_config().has_option("email", "receiver"):
            logger.warning("[email] changes nothing in jubako: name a jubako.toml with hooks in $JUBAKO_CONFIG")
        self.result = run(self.tasks, self._make_options(), observer=RunLog(self._id))
        if self.result.interrupted:
            raise KeyboardInterrupt
        return not (self.result.groups.ever_failed or self.result.groups.scheduling_error)

    def _make_options(self) -> RunOptions:
        config, own, retries = self._config, self._own, self._scheduler._config
        settings = _find_settings()
        return RunOptions(
            workers=max(1, self.worker_processes),
            box=own.box,
            strict=own.strict,
            undeclared=cast("Undeclared | None", own.undeclared),
            keep_failed=own.keep,
            durability=cast("Durability", own.durability) if own.box == "host" else "relaxed",  # only history then
            attempts=max(1, retries.retry_count) if config.keep_alive else 1,
            obeys_retry_count=config.keep_alive,
            retry_delay_s=retries.retry_delay,
            retry_delay_max_s=retries.retry_delay,  # however long: it does not grow, and nothing cuts it
            timeout_s=config.timeout or None,
            resources=self._scheduler._resources,
            shared_outputs="serialise",
            rules=RunRules(
                unmade_outputs="name",
                asks_requirements=config.check_unfulfilled_deps,
                asks_complete=config.check_complete_on_run,
                always_fork=config.force_multiprocessing,
                around=self._find_context(),
            ),
            prepare="jubako.luigi:install",
            notify=() if settings is None else settings.notify,
            metrics_file="" if settings is None else settings.metrics_file,
            lineage=None if settings is None else settings.lineage,
            winds_down_on_usr1=not config.no_install_shutdown_handler,
        )

    def _find_context(self) -> Callable[[Any], AbstractContextManager[Any]] | None:
        """What makes the context manager around a task; InputError if the settings name no such class."""
        name = self._config.task_process_context
        if not name:
            return None
        around = _Around(name, self._id, self._config.timeout)
        around.find_context()
        return around


def _find_settings() -> Settings | None:
    """Whom the run is reported to: what $JUBAKO_CONFIG says, for a luigi.cfg says nothing of it."""
    path = find_settings_file("", os.environ)
    if not path:
        return None
    from jubako.flow.settings import read_settings  # 10 ms, for those who have such a file

    return read_settings(path)
