"""What passes between a runner and a worker: jobs in, events out. Values only, picklable, no behaviour.

A job names a function instead of carrying one, so that the worker, a fresh process, imports what it needs itself:
`call` is "module:function", called as `function(payload)` in the box; its return value (bytes) comes back as `report`.
`check` (optional) is called the same way in a second child, after everything of the first has ended, with the top
read-only.

    Job ──> worker ──> Printed* ──> Finished
"""

from __future__ import annotations

from jubako.boxes.spec import Box, StagedOutput
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal, TypeAlias

    from jubako.layers.change import Change

__all__ = ["Finished", "Job", "JobEvent", "Message", "Outcome", "Printed"]

# ok        the call (and the check) returned
# failed    the call raised, exited non-zero, or was killed by a signal: `error` has the sentence, `traceback` the text
# check     the call returned, the check raised or returned false
# timeout   the time limit, which covers call and check, ran out
# cancelled the runner asked for it
# host      the box could not be made; `error` says which operation failed and why
Outcome: TypeAlias = "Literal['ok', 'failed', 'check', 'timeout', 'cancelled', 'host']"


@record
class Job:
    """One attempt at one piece of work in one box."""

    id: str  # unique in the run; names the attempt's staging directories and log
    label: str  # for people: "DailySummary(date=2010-01-01)"
    call: str
    payload: bytes
    outputs: tuple[StagedOutput, ...] = ()
    check: str = ""
    box: Box = field(default_factory=Box)
    cwd: str = "/"
    environment: Mapping[str, str] | None = None  # None: the worker's
    timeout_s: float | None = None
    grace_s: float = 5.0  # between TERM and KILL
    hidden: tuple[str, ...] = ()  # directories it must not see, beside those the worker was started with
    keep_in: str = ""  # a directory: what the box held is saved there if the outcome is not "ok" ("" = never)


@record
class Printed:
    """Bytes a job wrote to stdout or stderr, in order, as they came."""

    job_id: str
    data: bytes


@record
class Message:
    """Something the call said while running through `boxes.inside.send` (progress, status, events)."""

    job_id: str
    data: bytes


@record
class Finished:
    """The end of a job. Nothing of it lives any more: no process, no mount."""

    job_id: str
    outcome: Outcome
    report: bytes = b""
    error: str = ""
    traceback: str = ""
    staged: tuple[StagedOutput, ...] = ()  # declared and really written, ready to be published
    missing: tuple[str, ...] = ()  # declared and not written
    undeclared: tuple[Change, ...] = ()  # written, not declared, not scratch
    undeclared_in: str = ""  # with undeclared="publish": directory holding their contents, by absolute path
    scratch_dropped: int = 0  # entries under TMPDIR, /tmp and caches that were dropped
    refused: tuple[str, ...] = ()  # special files and attributes stripped from outputs, in words
    exit_status: int | None = None  # of the child, as a shell shows it; None if it never started
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0


JobEvent = Printed | Message | Finished
