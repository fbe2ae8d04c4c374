"""One attempt at one task: what is known before it starts, so that its result can be published or thrown away.

`plan_attempt` asks the task (outputs, inputs, limits); `Desk` prepares an attempt for a box: staging directories,
signatures of what is in place now, the job. What goes wrong with that is the task's failure, in one sentence.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jubako.boxes.job import Job
from jubako.boxes.kept import make_box, remove_box
from jubako.boxes.signature import Signature, take_signature
from jubako.boxes.spec import Box, Output, StagedOutput
from jubako.boxes.stage import StageArea
from jubako.errors import InputError
from jubako.flow import boxed
from jubako.flow.nesting import flatten
from jubako.flow.options import RunOptions
from jubako.flow.task_reference import refer

__all__ = ["Attempt", "Desk", "get_timeout_s", "lives_in_memory", "split_outputs"]


@dataclass(slots=True)
class Attempt:
    """An attempt that has been started."""

    number: int  # of the task
    task: Any
    id: str
    started_s: float  # seconds since 1970
    outputs: tuple[Output, ...] = ()
    other_targets: tuple[Any, ...] = ()  # declared, and not files of this machine: looked at afterwards
    staged: tuple[StagedOutput, ...] = ()
    expected: tuple[Signature | None, ...] = ()  # of `outputs`, before it started
    inputs: tuple[tuple[str, Signature | None], ...] = ()
    kept_box: str = ""  # id of the box made for a failure; removed when it succeeds
    kept_fd: int = -1
    in_box: bool = False


@dataclass(slots=True)
class Desk:
    """Prepares attempts for boxes, and clears up after them."""

    area: StageArea
    boxes_path: str
    options: RunOptions
    start_directory: str

    def prepare(self, number: int, task: Any, attempt_id: str, now_s: float) -> tuple[Attempt, Job]:
        """Makes the staging directories of an attempt, notes what is in place, and writes the job.

        Raises InputError for parameters that cannot be handed over or outputs inside each other, HostError where an
        output cannot be written, OSError where an input cannot be looked at. Nothing is left then.
        """
        outputs, others = split_outputs(task)
        attempt = Attempt(number, task, attempt_id, now_s, outputs, others, in_box=True)
        payload = _dump(task)
        attempt.staged = self.area.stage(attempt_id, outputs)
        try:
            attempt.expected = tuple(take_signature(output.path) for output in outputs)
            attempt.inputs = tuple((path, take_signature(path)) for path in _input_paths(task))
            keep_in = self._make_kept_box(attempt)
            job = Job(
                id=attempt_id,
                label=str(task),
                call=boxed.RUN,
                payload=payload,
                outputs=attempt.staged,
                check=boxed.CHECK if task.has_check() else "",
                box=self._find_box(task),
                cwd=self.start_directory,
                timeout_s=get_timeout_s(task, self.options),
                keep_in=keep_in,
            )
        except BaseException:
            self.clear(attempt, keep=False)
            raise
        return attempt, job

    def clear(self, attempt: Attempt, *, keep: bool) -> None:
        """Removes what is staged, and unless `keep` the box made for a failure. Idempotent."""
        if attempt.in_box:
            self.area.discard(attempt.id)
        if attempt.kept_fd >= 0:
            directory = os.path.join(self.boxes_path, attempt.kept_box)
            if not keep or not os.path.exists(os.path.join(directory, "box.json")):
                remove_box(directory)
                attempt.kept_box = ""
            os.close(attempt.kept_fd)
            attempt.kept_fd = -1

    def _make_kept_box(self, attempt: Attempt) -> str:
        if not self.options.keep_failed:
            return ""
        attempt.kept_box, attempt.kept_fd = make_box(self.boxes_path)
        return os.path.join(self.boxes_path, attempt.kept_box)

    def _find_box(self, task: Any) -> Box:
        box: Box = task.box or Box()
        if self.options.undeclared is not None:
            box = dataclasses.replace(box, undeclared=self.options.undeclared)
        return box


def split_outputs(task: Any) -> tuple[tuple[Output, ...], tuple[Any, ...]]:
    """What the task declares: files and directories of this machine, each once, and everything else."""
    outputs: dict[str, Output] = {}
    others = []
    for target in flatten(task.output()):
        as_output = getattr(target, "as_output", None)
        if as_output is None:
            others.append(target)
        else:
            output: Output = as_output()
            outputs.setdefault(output.path, output)
    return tuple(outputs.values()), tuple(others)


def get_timeout_s(task: Any, options: RunOptions) -> float | None:
    """The task's time limit; None if it has none."""
    limit = options.timeout_s if task.worker_timeout is None else task.worker_timeout
    return float(limit) if limit else None


def lives_in_memory(targets: Sequence[Any]) -> bool:
    """True if one of `targets` exists in this process only, so that its task has to run here."""
    return any(getattr(target, "in_memory", False) for target in targets)


def _input_paths(task: Any) -> list[str]:
    paths: dict[str, None] = {}
    for target in flatten(task.input()):
        as_output = getattr(target, "as_output", None)
        if as_output is not None:
            paths[as_output().path] = None
    return list(paths)


def _dump(task: Any) -> bytes:
    try:
        return pickle.dumps(refer(task))
    except Exception as error:  # whatever a value's own __reduce__ raises
        raise InputError(
            f"{task} cannot be handed to a box: {error}",
            hint="parameter values have to be picklable: define their classes at the top of a module",
        ) from error
