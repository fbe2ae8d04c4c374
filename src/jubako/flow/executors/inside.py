"""What a worker calls to run tasks: `load` once in the fresh process, then in each box `run_task`, and `check_task`.
`rerun_task` takes the place of `run_task` where a task that is done is made again to be compared.

Nothing is returned but by message: what the task says, what it found it needs, the exception it raised. The task is
made again from its reference each time, so `check` shares no memory with `run`. Events: START here; SUCCESS and FAILURE
are triggered by the runner, when the outputs are published or discarded.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Generator
from contextlib import nullcontext, suppress
from importlib import import_module
from typing import Any, Literal

from jubako.boxes.inside import send
from jubako.errors import JubakoError, WorkError
from jubako.flow.executors.performing import (
    Suspended,
    ask_requirements,
    refuse_incomplete,
    reporting,
    take_requirements,
)
from jubako.flow.loader import PipelineSource, reload
from jubako.flow.run_rules import OUR_RULES, RunRules
from jubako.flow.targets.local_target import set_start_directory
from jubako.flow.targets.outputs import find_targets
from jubako.flow.tasks.event import Event
from jubako.flow.tasks.task_reference import TaskReference, dump_references
from jubako.layers.remove import remove_tree
from jubako.records import record

__all__ = [
    "LOAD",
    "RERUN",
    "BoxMessage",
    "Preload",
    "check_task",
    "load",
    "load_exception",
    "read_message",
    "rerun_task",
    "run_task",
]

LOAD = "jubako.flow.executors.inside:load"
RERUN = "jubako.flow.executors.inside:rerun_task"

_rules = OUR_RULES  # of the run this process works for


@record
class Preload:
    """What a worker has to know before it can run tasks. `load` takes it pickled."""

    source: PipelineSource
    start_directory: str
    is_main: bool = False  # the runner has the pipeline as `__main__`
    prepare: str = ""  # "module:function" to call before
    rules: RunRules = OUR_RULES


@record
class BoxMessage:
    """Something from inside a box. `value`: text or number; references, pickled; an exception, pickled."""

    what: Literal["percentage", "message", "tracking_url", "needs", "raised"]
    value: Any


class NeedsMore(JubakoError):
    """Ends an attempt whose `run()` yielded tasks that are not done; they were sent as a message."""


def load(argument: bytes) -> None:
    """Imports the pipeline in this process, so that forks of it have it. InputError if that does not work."""
    global _rules  # noqa: PLW0603
    preload: Preload = pickle.loads(argument)
    _rules = preload.rules
    set_start_directory(preload.start_directory)
    if preload.prepare:
        module, _, function = preload.prepare.partition(":")
        getattr(import_module(module), function)()
    reload(preload.source)
    if preload.is_main:  # classes of the runner's `__main__` are found under that name here too
        sys.modules["__main__"] = sys.modules[preload.source.module]


def run_task(payload: bytes) -> bytes:
    """Runs the task that `payload`, a pickled reference, names."""
    return _perform(_make(payload), is_rerun=False)


def rerun_task(payload: bytes) -> bytes:
    """Runs the task as if it had never been done: in this box its outputs are not there. No event is triggered."""
    task = _make(payload)
    _hide_outputs(task)
    return _perform(task, is_rerun=True)


def check_task(payload: bytes) -> bytes:
    """Runs the task's `check()`; WorkError if it returns False."""
    task = _make(payload)
    try:
        if task.check() is False:
            raise WorkError(f"check() of {task} returned False")
    except Exception as error:
        _send_exception(error)
        raise
    return b""


def read_message(data: bytes) -> BoxMessage:
    """The inverse of what is sent; for the runner, which has the same pipeline loaded."""
    message: BoxMessage = pickle.loads(data)
    return message


def load_exception(data: bytes) -> BaseException | None:
    """The exception a task raised, where it can be made again in this process."""
    try:
        error = pickle.loads(data)
    except Exception:  # noqa: BLE001  (an exception class whose __init__ takes other arguments than it keeps)
        return None
    return error if isinstance(error, BaseException) else None


def _hide_outputs(task: Any) -> None:
    """Removes what is published from this box's own view. What it cannot remove is on a place without an overlay."""
    for target in find_targets(task):
        as_output = getattr(target, "as_output", None)
        if as_output is None:
            continue
        output = as_output()
        if output.kind == "elsewhere":
            target.hide()
            continue
        with suppress(OSError):
            if output.kind == "directory" and not os.path.islink(output.path):
                for name in os.listdir(output.path):  # mostly none: a new directory is in its place already
                    remove_tree(os.path.join(output.path, name))
            else:
                remove_tree(output.path)


def _perform(task: Any, *, is_rerun: bool) -> bytes:
    try:
        with nullcontext() if _rules.around is None else _rules.around(task):
            suspended = _run(task, is_rerun=is_rerun)
    except Exception as error:
        _send_exception(error)
        raise
    if suspended is not None:
        _send(BoxMessage("needs", dump_references(suspended.requirements.flat_requirements)))
        raise NeedsMore(f"{task} needs tasks that are not done yet")
    return b""


def _run(task: Any, *, is_rerun: bool) -> Suspended | None:
    """Calls `run()`, and what the run's rules want before and after it; what it waits for, if it yielded that."""
    if _rules.asks_requirements:
        ask_requirements(task)
    if not is_rerun:
        task.trigger_event(Event.START, task)
    with reporting(task, lambda what, value: _send(BoxMessage(what, value))):
        produced = task.run()
        suspended = take_requirements(produced, lambda _: False) if isinstance(produced, Generator) else None
    if suspended is None and _rules.asks_complete:
        refuse_incomplete(task)
    return suspended


def _make(payload: bytes) -> Any:
    reference: TaskReference = pickle.loads(payload)
    return reference.resolve()


def _send(message: BoxMessage) -> None:
    send(pickle.dumps(message))


def _send_exception(error: Exception) -> None:
    """Sends the exception itself where it can be pickled, so that `on_failure` gets it; its text comes over anyway."""
    try:
        data = pickle.dumps(error)
    except Exception:  # noqa: BLE001  (an exception class of the pipeline's own)
        return
    _send(BoxMessage("raised", data))
