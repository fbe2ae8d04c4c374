"""Luigi's settings by section, as classes that make the flags too: `[worker] keep_alive` and `--worker-keep-alive`.

Options, defaults and meanings are Luigi's; those that have no meaning here are accepted, and said to have none when
they are set (`find_unused`). `[jubako]` is our own.
"""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jubako.flow.parameters import (
    BoolParameter,
    ChoiceParameter,
    FloatParameter,
    IntParameter,
    OptionalChoiceParameter,
    OptionalParameter,
    Parameter,
    TimeDeltaParameter,
)
from jubako.flow.parameters.parameter import ConfigPath
from jubako.flow.tasks.task import Config

__all__ = ["core", "execution_summary", "find_unused", "jubako", "scheduler", "worker"]

_NONE: Any = None  # the default of numbers that may be left open, as in Luigi


def _old(section: str, name: str) -> ConfigPath:
    return ConfigPath(section=section, name=name)


class core(Config):
    """How to run, `--workers` and the like: flags without the section's name."""

    use_cmdline_section = False
    ignore_unconsumed = {"autoload_range", "no_configure_logging"}  # noqa: RUF012  (read from the settings directly)

    local_scheduler = BoolParameter(default=False, description="accepted; it always is local", always_in_help=True)
    scheduler_host = Parameter(default="localhost", config_path=_old("core", "default-scheduler-host"))
    scheduler_port = IntParameter(default=8082, config_path=_old("core", "default-scheduler-port"))
    scheduler_url = Parameter(default="", config_path=_old("core", "default-scheduler-url"))
    lock_size = IntParameter(default=1, description="how many processes may run the same command line")
    no_lock = BoolParameter(default=False, description="run even if the same command line runs already")
    lock_pid_dir = Parameter(default=os.path.join(tempfile.gettempdir(), "luigi"), description="where the lock is")
    take_lock = BoolParameter(default=False, description="tell the process with the same command line to wind down")
    workers = IntParameter(default=1, description="how many tasks run at a time")
    logging_conf_file = Parameter(default="", description="configuration file of logging")
    log_level = ChoiceParameter(
        default="DEBUG",
        choices=["NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        description="what is logged, where no configuration file says",
    )
    module = Parameter(default="", description="module to import, in which the tasks are", always_in_help=True)
    parallel_scheduling = BoolParameter(default=False)
    parallel_scheduling_processes = IntParameter(default=0)
    assistant = BoolParameter(default=False)
    help = BoolParameter(default=False, description="show the usual flags and those of the task", always_in_help=True)
    help_all = BoolParameter(default=False, description="show all flags", always_in_help=True)


class worker(Config):
    """How tasks are run."""

    id = Parameter(default="", description="what this process is called in the log")
    ping_interval = FloatParameter(default=1.0, config_path=_old("core", "worker-ping-interval"))
    keep_alive = BoolParameter(
        default=False, config_path=_old("core", "worker-keep-alive"), description="retry tasks that have failed"
    )
    count_uniques = BoolParameter(default=False, config_path=_old("core", "worker-count-uniques"))
    count_last_scheduled = BoolParameter(default=False)
    wait_interval = FloatParameter(default=1.0, config_path=_old("core", "worker-wait-interval"))
    wait_jitter = FloatParameter(default=5.0)
    max_keep_alive_idle_duration = TimeDeltaParameter(default=datetime.timedelta(0))
    max_reschedules = IntParameter(default=1, config_path=_old("core", "worker-max-reschedules"))
    timeout = IntParameter(
        default=0, config_path=_old("core", "worker-timeout"), description="seconds a task may take; 0: any number"
    )
    task_limit = IntParameter(default=_NONE, config_path=_old("core", "worker-task-limit"))
    retry_external_tasks = BoolParameter(default=False, config_path=_old("core", "retry-external-tasks"))
    send_failure_email = BoolParameter(default=True)
    no_install_shutdown_handler = BoolParameter(default=False, description="let SIGUSR1 do what it did before")
    check_unfulfilled_deps = BoolParameter(default=True, description="ask requirements again before a task runs")
    check_complete_on_run = BoolParameter(default=False, description="a task that ran must be complete")
    force_multiprocessing = BoolParameter(default=False, description="a process per task even for one worker")
    task_process_context = OptionalParameter(
        default=None, description="full name of a context manager class to put around every task"
    )
    cache_task_completion = BoolParameter(default=False)


class scheduler(Config):
    """When tasks are tried again."""

    retry_delay = FloatParameter(default=900.0, description="seconds from a failure to the next try")
    remove_delay = FloatParameter(default=600.0)
    worker_disconnect_delay = FloatParameter(default=60.0)
    state_path = Parameter(default="/var/lib/luigi-server/state.pickle")
    batch_emails = BoolParameter(default=False)
    disable_window = IntParameter(default=3600)
    retry_count = IntParameter(default=999999999, description="how often a task may be tried")
    disable_hard_timeout = IntParameter(default=999999999)
    disable_persist = IntParameter(default=86400)
    max_shown_tasks = IntParameter(default=100000)
    max_graph_nodes = IntParameter(default=100000)
    record_task_history = BoolParameter(default=False)
    prune_on_get_work = BoolParameter(default=False)
    pause_enabled = BoolParameter(default=True)
    send_messages = BoolParameter(default=True)
    metrics_collector = Parameter(default="default")
    metrics_custom_import = OptionalParameter(default=None)
    stable_done_cooldown_secs = IntParameter(default=10)


class execution_summary(Config):
    """How the summary looks."""

    summary_length = IntParameter(default=5, description="lines of a group at most; 0: all")


class jubako(Config):
    """What jubako can do beyond Luigi; `--box` and so on, or in full `--jubako-box`."""

    box: Any = ChoiceParameter(  # a section is never run, so it can call its own option as tasks call their box
        default="none",
        choices=["none", "host"],
        always_in_help=True,
        description="host: each task in a box, published whole or not at all",
    )
    strict = BoolParameter(
        default=False, always_in_help=True, description="exit code 1 unless all that was asked for is there"
    )
    undeclared = OptionalChoiceParameter(
        default=None,
        choices=["warn", "fail", "publish"],
        always_in_help=True,
        description="in boxes: what becomes of undeclared writes",
    )
    keep = BoolParameter(default=False, always_in_help=True, description="keep the box of a task that fails")
    durability = ChoiceParameter(
        default="full",
        choices=["full", "relaxed"],
        always_in_help=True,
        description="in boxes: survive power loss, or only kill -9",
    )


_UNUSED: Final[Mapping[type[Config], Mapping[str, str]]] = {
    core: {
        **dict.fromkeys(
            ("scheduler_host", "scheduler_port", "scheduler_url"), "there is no scheduler server, all is scheduled here"
        ),
        "assistant": "runs find each other through their ledger, and a run has its own tasks only",
        "parallel_scheduling": "completeness is asked in bulk, a listing per folder",
        "parallel_scheduling_processes": "completeness is asked in bulk, a listing per folder",
    },
    worker: {
        **dict.fromkeys(("count_uniques", "count_last_scheduled"), "a run has its own tasks only"),
        **dict.fromkeys(("ping_interval", "wait_interval", "wait_jitter"), "nothing is polled for"),
        "max_keep_alive_idle_duration": "a run ends when nothing is left to try",
        "max_reschedules": "a requirement that ran and is not complete is not run a second time",
        "task_limit": "there is no limit on how many tasks a run has",
        "retry_external_tasks": "external tasks are asked once a run; run it again later",
        "cache_task_completion": "a run knows what it has done",
    },
    scheduler: {
        **dict.fromkeys(
            ("remove_delay", "worker_disconnect_delay", "state_path", "max_shown_tasks", "max_graph_nodes",
             "prune_on_get_work", "pause_enabled", "send_messages", "stable_done_cooldown_secs"),
            "there is no scheduler server",
        ),
        **dict.fromkeys(
            ("disable_window", "disable_hard_timeout", "disable_persist"), "retries are counted, not timed"
        ),
        "batch_emails": "no mail is sent; name a jubako.toml with hooks in $JUBAKO_CONFIG",
        "record_task_history": "the ledger always keeps the history",
        "metrics_collector": "name a jubako.toml with [metrics] in $JUBAKO_CONFIG",
        "metrics_custom_import": "name a jubako.toml with [metrics] in $JUBAKO_CONFIG",
    },
}  # fmt: skip


def find_unused(*settings: Config) -> Iterator[str]:
    """A sentence for each option that was set to something else than its default and changes nothing here."""
    for section in settings:
        for name, reason in _UNUSED.get(type(section), {}).items():
            parameter = getattr(type(section), name)
            if getattr(section, name) != parameter.normalize(parameter._default):
                yield f"[{section.task_family}] {name} changes nothing in jubako: {reason}"
