"""What a run says while it works. `flow` never prints: whoever wants to show something gives `run` an observer.

Events carry the task itself, so that a text is only made of it where somebody wants to read one. An observer is called
on the run's own thread, between two steps, and must be quick; what it raises ends the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from jubako.records import record

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
    "TaskVerified",
    "UndeclaredWrites",
]

Mode = Literal["host", "none"]  # how tasks really run: in a box on this host, or not boxed


@record
class RunStarted:
    """The state is open and what earlier runs left is recovered."""

    run_id: str
    mode: Mode
    workers: int


@record
class TaskFound:
    """A task was looked at: what it stands at before anything runs."""

    task: Any
    standing: Literal["pending", "complete", "missing", "broken", "disabled"]


@record
class RunPlanned:
    """Everything asked for is known. `to_run` may grow when tasks ask for more while running."""

    found: int
    complete: int
    to_run: int
    missing: int
    broken: int


@record
class TaskStarted:
    """An attempt begins."""

    task: Any
    attempt_id: str


@record
class TaskPrinted:
    """Bytes a task wrote to its stdout or stderr, as they came."""

    task: Any
    data: bytes
    log_path: str = ""  # where the beginning and the end of all it prints are kept


@record
class TaskProgressed:
    """What a task said of itself while running; None where it said nothing new."""

    task: Any
    percentage: float | None = None
    message: str | None = None
    tracking_url: str | None = None


@record
class TaskPublished:
    """A task is done, its outputs in place."""

    task: Any
    wall_s: float


@record
class TaskVerified:
    """A task was made again and what came out compared with what is published; nothing was published."""

    task: Any
    verdict: Literal["same", "within", "different", "cannot"]
    sentence: str  # what the verdict rests on
    wall_s: float


@record
class TaskFailed:
    """An attempt failed and left nothing. `again`: there will be another one, `wait_s` seconds from now."""

    task: Any
    error: str
    again: bool = False
    kept_box: str = ""  # id of the box that was kept for a look
    log_path: str = ""
    traceback: str = ""
    wait_s: float = 0.0


@record
class TaskGivenUp:
    """A task will not run, because `because` cannot be had."""

    task: Any
    because: Any


@record
class UndeclaredWrites:
    """A task wrote what it had not declared; `published` tells whether that was kept."""

    task: Any
    changes: Sequence[Change]
    published: bool = False


@record
class Note:
    """Something the user should know, said once a run: a degraded mode, a wait for another run."""

    text: str
    hint: str = ""


@record
class RunEnded:
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
    | TaskVerified
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
