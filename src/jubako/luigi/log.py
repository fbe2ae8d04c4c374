"""What a run says in the `luigi-interface` log, where Luigi's users look for it, and how that log is set up.

Lines of a running task have Luigi's shape (`[pid 7] Worker w running   Task(...)`), so that what reads logs still does.
"""

from __future__ import annotations

import logging
import logging.config
import os
import sys
from typing import Any, ClassVar, Final

from jubako.flow.observer import (
    Note,
    RunEvent,
    RunPlanned,
    TaskFailed,
    TaskGivenUp,
    TaskPrinted,
    TaskPublished,
    TaskStarted,
    UndeclaredWrites,
)
from jubako.flow.parameters.frozen import unfreeze
from jubako.luigi.configuration import LuigiConfigParser, get_config

__all__ = ["InterfaceLogging", "RunLog", "logger"]

_NAMED: Final = 3  # of undeclared writes
logger: Final = logging.getLogger("luigi-interface")


class RunLog:
    """An observer that logs; what tasks print in processes of their own goes to this process's stdout, as it came."""

    def __init__(self, worker_id: str) -> None:
        self._who = f"[pid {os.getpid()}] Worker {worker_id}"

    def see(self, event: RunEvent) -> None:
        """Logs the event."""
        if isinstance(event, TaskStarted):
            logger.info("%s running   %s", self._who, event.task)
        elif isinstance(event, TaskPublished):
            logger.info("%s done      %s", self._who, event.task)
        elif isinstance(event, TaskFailed):
            logger.error("%s failed    %s\n%s", self._who, event.task, event.traceback or event.error)
            if event.wait_s:
                logger.info("%s is tried again in %g s", event.task, event.wait_s)
        elif isinstance(event, TaskGivenUp):
            logger.warning("%s is not run: %s is not there", event.task, event.because)
        elif isinstance(event, RunPlanned):
            logger.info("Done scheduling tasks")
        elif isinstance(event, Note):
            logger.warning("%s", event.text)
        elif isinstance(event, UndeclaredWrites):
            fate = "published" if event.published else "dropped"
            count = f"{len(event.changes)} undeclared path{'' if len(event.changes) == 1 else 's'}"
            names = ", ".join(change.path for change in event.changes[:_NAMED])
            more = f" and {len(event.changes) - _NAMED} more" if len(event.changes) > _NAMED else ""
            logger.warning("%s wrote %s (%s): %s%s", event.task, count, fate, names, more)
        elif isinstance(event, TaskPrinted):
            sys.stdout.write(event.data.decode(errors="replace"))
            sys.stdout.flush()


class InterfaceLogging:
    """Sets the log up once a process: by `[core] logging_conf_file`, `[logging]` in toml, or on stderr."""

    _configured: ClassVar[bool] = False

    @classmethod
    def setup(cls, opts: Any) -> bool:
        """Does so as the settings say; `opts` has `logging_conf_file` and `log_level`. False: it was left alone."""
        if cls._configured:
            return False
        cls._configured = True
        config = get_config()
        if config.getboolean("core", "no_configure_logging", False):
            return False
        if opts.logging_conf_file:
            if not os.path.exists(opts.logging_conf_file):
                raise OSError("Error: Unable to locate specified logging configuration file!")
            logging.config.fileConfig(opts.logging_conf_file, disable_existing_loggers=False)
        elif not isinstance(config, LuigiConfigParser) and config.has_section("logging"):
            logging.config.dictConfig(unfreeze(config["logging"]))
        else:
            handler = logging.StreamHandler()
            handler.setLevel(opts.log_level)
            handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
            logger.setLevel(opts.log_level)
            logger.addHandler(handler)
        return True
