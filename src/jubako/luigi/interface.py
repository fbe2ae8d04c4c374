"""`luigi.build` and `luigi.run`: Luigi's ways to run tasks from a program, and what they answer."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from enum import Enum
from typing import Any

from jubako.errors import BugError, InputError
from jubako.flow.result import RunResult
from jubako.flow.summary import RunStatus
from jubako.luigi import sections
from jubako.luigi.command_line import CmdlineParser
from jubako.luigi.log import InterfaceLogging, logger
from jubako.luigi.pid_lock import PidLockAlreadyTakenExit, acquire_for
from jubako.luigi.worker import Worker

__all__ = ["LuigiRunResult", "LuigiStatusCode", "build", "run", "run_parsed"]


class LuigiStatusCode(Enum):
    """How a run looks; what Luigi calls `flow.summary.RunStatus`."""

    SUCCESS = RunStatus.SUCCESS.value
    SUCCESS_WITH_RETRY = RunStatus.SUCCESS_WITH_RETRY.value
    FAILED = RunStatus.FAILED.value
    FAILED_AND_SCHEDULING_FAILED = RunStatus.FAILED_AND_SCHEDULING_FAILED.value
    SCHEDULING_FAILED = RunStatus.SCHEDULING_FAILED.value
    NOT_RUN = RunStatus.NOT_RUN.value
    MISSING_EXT = RunStatus.MISSING_EXT.value


class LuigiRunResult:
    """What `build` and `run` answer with `detailed_summary=True`. `worker.result` is what jubako says of the run."""

    def __init__(self, worker: Worker, worker_add_run_status: bool = True) -> None:
        self.worker = worker
        self.summary_text = self.result.format_summary(summary_length=sections.execution_summary().summary_length)
        self.status = LuigiStatusCode[self.result.status.name]
        self.one_line_summary = self.result.status.sentence
        self.scheduling_succeeded = worker_add_run_status

    @property
    def result(self) -> RunResult:
        if self.worker.result is None:
            raise BugError("a worker that has not run has no result")
        return self.worker.result

    def __str__(self) -> str:
        return f"LuigiRunResult with status {self.status}"

    def __repr__(self) -> str:
        return (
            f"LuigiRunResult(status={self.status!r},worker={self.worker!r},"
            f"scheduling_succeeded={self.scheduling_succeeded!r})"
        )


def build(
    tasks: Sequence[Any], worker_scheduler_factory: Any = None, detailed_summary: bool = False, **env_params: Any
) -> Any:
    """Runs `tasks` and what they need. True if none failed and all could be scheduled, or a `LuigiRunResult`.

    `env_params` are options of `[core]`: `workers=4`, `local_scheduler=True`, `log_level="WARNING"`.
    """
    result = _schedule_and_run(tasks, worker_scheduler_factory, {"no_lock": True, **env_params})
    return result if detailed_summary else result.scheduling_succeeded


def run(
    cmdline_args: Sequence[str] | None = None,
    main_task_cls: Any = None,
    worker_scheduler_factory: Any = None,
    use_dynamic_argparse: Any = None,
    local_scheduler: bool = False,
    detailed_summary: bool = False,
) -> Any:
    """Runs what a command line says, by default this process's; answers as `build`."""
    if cmdline_args is not None and not isinstance(cmdline_args, (list, tuple)):
        raise TypeError(
            f"cmdline_args must be a list or tuple of command-line arguments, got {type(cmdline_args).__name__!r}. "
            "Example: ['MyTask', '--param', 'value']"
        )
    if use_dynamic_argparse is not None:
        warnings.warn("use_dynamic_argparse is deprecated, don't set it.", DeprecationWarning, stacklevel=2)
    arguments = list(sys.argv[1:] if cmdline_args is None else cmdline_args)
    if main_task_cls:
        arguments.insert(0, main_task_cls.task_family)
    if local_scheduler:
        arguments.append("--local-scheduler")
    with CmdlineParser.global_instance(arguments) as line:
        result = run_parsed(line, worker_scheduler_factory)
    return result if detailed_summary else result.scheduling_succeeded


def run_parsed(line: CmdlineParser, worker_scheduler_factory: Any = None) -> LuigiRunResult:
    """Runs the task that a command line names, which is in force."""
    return _schedule_and_run([line.get_task_obj()], worker_scheduler_factory, {})


def _schedule_and_run(tasks: Sequence[Any], factory: Any, overrides: dict[str, Any]) -> LuigiRunResult:
    if factory is not None:
        raise InputError(
            "worker_scheduler_factory is not part of jubako: a run schedules its tasks itself",
            hint="leave it out; [worker] and [scheduler] hold the settings of both",
        )
    settings = sections.core(**overrides)
    InterfaceLogging.setup(settings)
    for sentence in sections.find_unused(settings):
        logger.warning(sentence)
    kill_signal = signal.SIGUSR1 if settings.take_lock else None
    if not settings.no_lock and not acquire_for(settings.lock_pid_dir, settings.lock_size, kill_signal):
        logger.warning("the same command line runs already; --no-lock runs it all the same")
        raise PidLockAlreadyTakenExit
    with Worker(worker_processes=settings.workers) as worker:
        for task in tasks:
            worker.add(task)
        try:
            succeeded = worker.run()
        finally:
            if worker.result is not None:
                _say_what_became(worker.result)
    return LuigiRunResult(worker, succeeded)


def _say_what_became(result: RunResult) -> None:
    """Luigi's summary, then what it leaves out; that a range fell short also where little is logged."""
    logger.info(result.format_summary(summary_length=sections.execution_summary().summary_length))
    short = {account.describe() for account in result.accounts if not account.is_whole}
    for line in result.format_report():
        logger.log(logging.WARNING if line in short else logging.INFO, line)
