"""What a run says while it works. `flow` never prints: whoever wants to show something gives `run` an observer.

Events carry the task itself, so that a text is only made of it where somebody wants to read one. An observer is called
on the run's own thread, between two steps, and must be quick; what it raises ends the run. They are named tuples:
twelve frozen dataclasses take longer to define than fifty tasks to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from jubako.layers.change import Change

__all__ = [
    "Mode",
    "Note",
    "Observer",
    "RunEnded",
    "RunEvent",
    "RunPlanned",
    "RunStarted",
    "TaskFailed",
    "TaskFound",
    "TaskGivenUp",
    "TaskPrinted",
    "TaskProgressed",
    "TaskPublished",
    "TaskStarted",
    "UndeclaredWrites",
]

Mode = Literal["host", "none"]  # how tasks really run: in a box on this host, or not boxed


class RunStarted(NamedTuple):
    """The state is open and what earlier runs left is recovered."""

    run_id: str
    mode: Mode
    workers: int


class TaskFound(NamedTuple):
    """A task was looked at: what it stands at before anything runs."""

    task: Any
    standing: Literal["pending", "complete", "missing", "broken", "disabled"]


class RunPlanned(NamedTuple):
    """Everything asked for is known. `to_run` may grow when tasks ask for more while running."""

    found: int
    complete: int
    to_run: int
    missing: int
    broken: int


class TaskStarted(NamedTuple):
    """An attempt begins."""

    task: Any
    attempt_id: str


class TaskPrinted(NamedTuple):
    """Bytes a task wrote to its stdout or stderr, as they came."""

    task: Any
    data: bytes


class TaskProgressed(NamedTuple):
    """What a task said of itself while running; None where it said nothing new."""

    task: Any
    percentage: float | None = None
    message: str | None = None
    tracking_url: str | None = None


class TaskPublished(NamedTuple):
    """A task is done, its outputs in place."""

    task: Any
    wall_s: float


class TaskFailed(NamedTuple):
    """An attempt failed and left nothing. `again`: there will be another one."""

    task: Any
    error: str
    again: bool = False
    kept_box: str = ""  # id of the box that was kept for a look
    log_path: str = ""
    traceback: str = ""


class TaskGivenUp(NamedTuple):
    """A task will not run, because `because` cannot be had."""

    task: Any
    because: Any


class UndeclaredWrites(NamedTuple):
    """A task wrote what it had not declared; `published` tells whether that was kept."""

    task: Any
    changes: Sequence[Change]
    published: bool = False


class Note(NamedTuple):
    """Something the user should know, said once a run: a degraded mode, a wait for another run."""

    text: str
    hint: str = ""


class RunEnded(NamedTuple):
    """Nothing runs any more."""

    interrupted: bool


RunEvent = (
    RunStarted
    | TaskFound
    | RunPlanned
    | TaskStarted
    | TaskPrinted
    | TaskProgressed
    | TaskPublished
    | TaskFailed
    | TaskGivenUp
    | UndeclaredWrites
    | Note
    | RunEnded
)


class Observer(Protocol):
    """Something that wants to know what happens. Ignore events you do not know: there will be more."""

    def see(self, event: RunEvent) -> None:
        """Called for every event, in order."""
