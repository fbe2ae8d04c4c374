"""How a run is to be done. Values only; each field has the default a newcomer would want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Literal

from jubako.boxes.spec import Undeclared
from jubako.boxes.transactions.database import Durability
from jubako.errors import InputError
from jubako.flow.observer import Mode
from jubako.flow.run_rules import OUR_RULES, RunRules
from jubako.records import field, record

if TYPE_CHECKING:
    from jubako.flow.lineage.destination import Lineage
    from jubako.flow.loader import Pipeline
    from jubako.flow.notices.hooks import Hook

__all__ = ["RunOptions"]


@record
class RunOptions:
    """How a run is to be done.

    `box=None` and `box="host"` both mean a box on this host; a host that cannot make one is a HostError, never a run
    that quietly goes unboxed. `box="none"` runs tasks as Luigi does: no staging, no report of undeclared writes.
    """

    workers: int = 1
    box: Mode | None = None
    strict: bool = False  # what a range leaves out (window, limit) counts as not there
    durability: Durability = "full"
    keep_failed: bool = False  # keep the box of a failed task for `jubako box enter`
    undeclared: Undeclared | None = None  # for every task; None: what its box says
    state: str | None = None  # the state root; None: $JUBAKO_STATE and so on
    pipeline: Pipeline | None = None  # None: derived from where the first task's class is defined
    attempts: int = 1  # how often a task may be tried, where its own retry_count says nothing
    obeys_retry_count: bool = True  # False: every task may be tried `attempts` times, whatever its retry_count says
    retry_delay_s: float = 0.0  # before a second try, where a task says nothing itself; here and in the next two
    retry_backoff: float = 1.0  # how many times longer each further wait is
    retry_delay_max_s: float = 3600.0
    disable_after: int | None = None  # so many failures in a row disable a task; None: as it says itself; 0: never
    disable_window_s: float = 3600.0  # within so much time, where a task's own disable_window says nothing
    disable_for_s: float = 86_400.0  # for so long
    timeout_s: float | None = None  # of run and check together, where a task's own worker_timeout says nothing
    resources: Mapping[str, int] = field(default_factory=dict)  # capacities; an unnamed resource has 1
    shared_resources: Mapping[str, int] = field(default_factory=dict)  # capacities for all runs on this machine
    log_limit_bytes: int = 10_000_000  # of what one attempt prints, its beginning and its end, that are kept
    shared_outputs: Literal["refuse", "serialise"] = "refuse"  # serialise, as Luigi: several tasks may make one path
    rules: RunRules = OUR_RULES  # how tasks without a box are run
    prepare: str = ""  # "module:function" that a box's process calls before it imports the pipeline
    winds_down_on_usr1: bool = False  # SIGUSR1 lets running tasks end and starts no more, as Luigi's --take-lock wants

    notify: Sequence[Hook] = ()  # who is told how the run has ended
    metrics_file: str = ""  # where the run is counted, for Prometheus
    lineage: Lineage | None = None  # where its OpenLineage events go
    backfill: str = ""  # the range, where that is what the run is for: "Day 2010-01-01...2010-12-31"; goes into history
    stale: bool = False  # run what was made of something else than what is there now, and what depends on that
    redo: Set[Any] = frozenset()  # tasks to run though they are done: their outputs are replaced

    @property
    def is_reported(self) -> bool:
        """Whether the run is reported to anybody but its observer."""
        return bool(self.notify or self.metrics_file or self.lineage)

    @property
    def capacities(self) -> Mapping[str, int]:
        """How much of each named resource this run can ever use."""
        both = self.shared_resources.keys() & self.resources.keys()
        smaller = {name: min(self.resources[name], self.shared_resources[name]) for name in both}
        return {**self.shared_resources, **self.resources, **smaller}

    def __post_init__(self) -> None:
        wrong = [
            text
            for is_wrong, text in (
                (self.workers < 1, f"workers={self.workers} is less than 1"),
                (self.attempts < 1, f"attempts={self.attempts} is less than 1"),
                (self.retry_delay_s < 0, f"retry_delay_s={self.retry_delay_s} is negative"),
                (self.retry_backoff < 1, f"retry_backoff={self.retry_backoff} is less than 1"),
                (self.retry_delay_max_s < 0, f"retry_delay_max_s={self.retry_delay_max_s} is negative"),
                (
                    self.disable_after is not None and self.disable_after < 0,
                    f"disable_after={self.disable_after} is negative",
                ),
                (self.disable_window_s < 0, f"disable_window_s={self.disable_window_s} is negative"),
                (self.disable_for_s < 0, f"disable_for_s={self.disable_for_s} is negative"),
                (self.box not in (None, "host", "none"), f"box={self.box!r} is neither 'host' nor 'none'"),
                (self.durability not in ("full", "relaxed"), f"durability={self.durability!r} is not full or relaxed"),
            )
            if is_wrong
        ]
        wrong += [
            f"resource {name!r} of {amount} is less than 0"
            for name, amount in (*self.resources.items(), *self.shared_resources.items())
            if amount < 0
        ]
        if wrong:
            raise InputError("; ".join(wrong))
