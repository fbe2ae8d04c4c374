"""Exit codes of the `luigi` command: `[retcode]` says which for what, and by default all are 0 but one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jubako.errors import JubakoError
from jubako.flow.parameters import IntParameter
from jubako.flow.tasks.task import Config
from jubako.luigi import sections
from jubako.luigi.command_line import CmdlineParser
from jubako.luigi.interface import LuigiRunResult, run_parsed
from jubako.luigi.log import InterfaceLogging, logger
from jubako.luigi.pid_lock import PidLockAlreadyTakenExit

__all__ = ["retcode", "run_with_retcodes"]

_INTERRUPTED = 130


class retcode(Config):
    """Exit codes, by what has happened; the highest one counts."""

    unhandled_exception = IntParameter(default=4, description="something went wrong outside tasks")
    missing_data = IntParameter(default=0, description="an external task is not complete")
    task_failed = IntParameter(default=0, description="a run() failed")
    already_running = IntParameter(default=0, description="the same command line, or a task, runs already")
    scheduling_error = IntParameter(default=0, description="a complete() or requires() failed")
    not_run = IntParameter(default=0, description="a task could not run for another reason")


def run_with_retcodes(argv: Sequence[str]) -> None:
    """Runs the command line and leaves with SystemExit; InputError for a line that can't be understood."""
    with CmdlineParser.global_instance(argv) as line:
        sys.exit(_run(line, retcode(), strict=sections.jubako().strict))


def _run(line: CmdlineParser, codes: retcode, *, strict: bool) -> int:
    """Runs the task; the exit code."""
    try:
        answer = run_parsed(line)
    except PidLockAlreadyTakenExit:
        return codes.already_running
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001  (whatever it is has an exit code)
        InterfaceLogging.setup(sections.core())
        _explain(error)
        return codes.unhandled_exception
    code = _find_code(codes, answer)
    return max(1, code) if strict and not answer.result.everything_there else code


def _explain(error: Exception) -> None:
    if isinstance(error, JubakoError):  # made for people; where in our code it was raised says nothing to them
        logger.error("%s", error.message)
        if error.hint:
            logger.error("hint: %s", error.hint)
    else:
        logger.error("Uncaught exception in luigi", exc_info=error)


def _find_code(codes: retcode, answer: LuigiRunResult) -> int:
    groups = answer.result.groups
    found: int = max(
        code if tasks else 0
        for code, tasks in (
            (codes.missing_data, groups.still_pending_ext),
            (codes.task_failed, groups.failed),
            (codes.already_running, groups.run_by_other_worker),
            (codes.scheduling_error, groups.scheduling_error),
            (codes.not_run, groups.not_run),
        )
    )
    (root,) = answer.worker.tasks
    return found or (0 if root in groups.completed or root in groups.already_done else codes.not_run)
