"""Running one task outside a box, in the order Luigi does it, in whatever process this is called in.

    START, run(), [outputs looked at], PROCESSING_TIME, on_success(), SUCCESS
    START, run() raises, FAILURE, on_failure()

`flow.run_rules` says what is asked before START and when the outputs are looked at.

A `run()` that is a generator yields tasks it found it needs. If they are done it goes on at once; if not, the attempt
ends with "needs" and can be resumed where it stopped, in the same process.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Literal, NamedTuple

from jubako.errors import JubakoError, WorkError
from jubako.flow.executors.executor import AttemptOutcome
from jubako.flow.graph.completeness import find_complete
from jubako.flow.graph.standing import ask_complete
from jubako.flow.run_rules import OUR_RULES, RunRules
from jubako.flow.targets.outputs import find_targets
from jubako.flow.tasks.dynamic import DynamicRequirements
from jubako.flow.tasks.event import Event
from jubako.flow.tasks.nesting import flatten
from jubako.flow.tasks.task import Task

__all__ = [
    "Performed",
    "Suspended",
    "ask_requirements",
    "call_after_publish",
    "describe_error",
    "perform",
    "refuse_incomplete",
    "reporting",
    "take_requirements",
]

Say = Callable[[Literal["percentage", "message", "tracking_url"], Any], None]
IsDone = Callable[[Any], bool]


class Suspended(NamedTuple):
    """A `run()` that waits for what it yielded."""

    generator: Generator[Any, Any, Any]
    requirements: DynamicRequirements


class Performed(NamedTuple):
    """What became of it. `suspended` is set exactly when the outcome is "needs"."""

    outcome: AttemptOutcome
    error: str = ""
    traceback: str = ""
    exception: BaseException | None = None
    suspended: Suspended | None = None
    unmade: Sequence[str] = ()  # what is not there although the outcome is ok


_OK: Final = Performed("ok")


def perform(
    task: Any, *, is_done: IsDone, say: Say, resumed: Suspended | None = None, rules: RunRules = OUR_RULES
) -> Performed:
    """Runs `task`, or goes on with a suspended run of it. What it raises becomes part of the answer.

    `is_done(task)` tells if a task is done without asking its outputs. KeyboardInterrupt becomes "cancelled".
    """
    if rules.around is None:
        return _perform(task, is_done, say, resumed, rules)
    try:
        with rules.around(task):
            return _perform(task, is_done, say, resumed, rules)
    except KeyboardInterrupt as error:
        return Performed("cancelled", "it was interrupted", exception=error)
    except Exception as error:  # noqa: BLE001  (the context manager is the user's own code)
        return _fail(task, error)


def _perform(task: Any, is_done: IsDone, say: Say, resumed: Suspended | None, rules: RunRules) -> Performed:
    began_s = time.perf_counter()
    try:
        if rules.asks_requirements and resumed is None:
            ask_requirements(task)
        with reporting(task, say):
            if resumed is None:
                task.trigger_event(Event.START, task)
                produced = task.run()
                suspended = None
                if produced is not None and isinstance(produced, Generator):
                    suspended = take_requirements(produced, is_done)
            else:
                suspended = take_requirements(resumed.generator, is_done, resumed.requirements)
        if suspended is not None:
            return Performed("needs", suspended=suspended)
        if rules.asks_complete:
            refuse_incomplete(task)
        unmade = _find_unmade(task)
        if unmade and rules.unmade_outputs == "fail":
            names = ", ".join(unmade)
            if type(task).run is Task.run:
                raise WorkError(f"it has no run() that would make {names}")
            raise WorkError(f"run() ended and did not make {names}")
        task.trigger_event(Event.PROCESSING_TIME, task, time.perf_counter() - began_s)
        task.on_success()
        task.trigger_event(Event.SUCCESS, task)
        return Performed("ok", unmade=unmade) if unmade else _OK
    except KeyboardInterrupt as error:
        return Performed("cancelled", "it was interrupted", exception=error)
    except BaseException as error:  # noqa: BLE001  (the task's own code, SystemExit included, as in Luigi)
        return _fail(task, error)


def call_after_publish(task: Any) -> Performed:
    """Calls `task.after_publish()`; what it raises becomes part of the answer."""
    try:
        task.after_publish()
        return Performed("ok")
    except KeyboardInterrupt as error:
        return Performed("cancelled", "it was interrupted", exception=error)
    except BaseException as error:  # noqa: BLE001  (the task's own code)
        return Performed("failed", describe_error(error), "".join(traceback.format_exception(error)), error)


def take_requirements(
    generator: Generator[Any, Any, Any], is_done: IsDone, answered: DynamicRequirements | None = None
) -> Suspended | None:
    """Goes on with a `run()` until it ends (None) or yields what is not done. `answered` is what it waited for."""
    while True:
        try:
            produced = generator.send(None if answered is None else answered.paths)
        except StopIteration:
            return None
        answered = produced if isinstance(produced, DynamicRequirements) else DynamicRequirements(produced)
        if not answered.complete(lambda task: is_done(task) or ask_complete(task)):
            return Suspended(generator, answered)


def ask_requirements(task: Any) -> None:
    """RuntimeError in Luigi's words for requirements that are not complete: their run() may have made nothing."""
    required = task.deps()
    done = set(find_complete(required))
    missing = []
    for other in required:
        if other not in done:
            paths = [str(output) for output in flatten(other.output()) if not output.exists()]
            missing.append(f"{other.task_id} ({', '.join(paths)})" if paths else other.task_id)
    if missing:
        what = "dependency" if len(missing) == 1 else "dependencies"
        raise RuntimeError(f"Unfulfilled {what} at run time: {', '.join(missing)}")


def refuse_incomplete(task: Any) -> None:
    """WorkError in Luigi's words for a task that has run and says that it is not complete."""
    if not task.complete():
        raise WorkError("Task finished running, but complete() is still returning false.")


def describe_error(error: BaseException) -> str:
    """One sentence for why a task failed."""
    if isinstance(error, JubakoError):
        return error.message
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class reporting:
    """While the block runs, the task's `set_...` functions reach `say`."""

    __slots__ = ("_say", "_task")

    def __init__(self, task: Any, say: Say) -> None:
        self._task = task
        self._say = say

    def __enter__(self) -> None:
        task = self._task
        task.set_progress_percentage = self._say_percentage
        task.set_status_message = self._say_message
        task.set_tracking_url = self._say_tracking_url

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        attributes = vars(self._task)
        for name in ("set_progress_percentage", "set_status_message", "set_tracking_url"):
            attributes.pop(name, None)

    def _say_percentage(self, value: Any) -> None:
        self._say("percentage", value)

    def _say_message(self, value: Any) -> None:
        self._say("message", value)

    def _say_tracking_url(self, value: Any) -> None:
        self._say("tracking_url", value)


def _find_unmade(task: Any) -> list[str]:
    """What `run()` should have made and has not.

    A task without outputs has succeeded, and so has one whose own complete() says that it is done.
    """
    missing = [target for target in find_targets(task) if not target.exists()]
    if missing and (type(task).complete is Task.complete or not task.complete()):
        return [str(output) for output in missing]
    return []


def _fail(task: Any, error: BaseException) -> Performed:
    text = "".join(traceback.format_exception(error))
    task.trigger_event(Event.FAILURE, task, error)
    try:
        task.on_failure(error)
    except Exception as second:  # noqa: BLE001  (the task's own code)
        text += "\non_failure() raised too:\n" + "".join(traceback.format_exception(second))
    return Performed("failed", describe_error(error), text, error)
