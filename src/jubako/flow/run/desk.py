"""Everything around the boxes of one run: attempts prepared for them, results collected, published, cleared away.

    prepare   staging directories, signatures of what is in place, the job
    collect   a box's answer becomes a transaction; or the reason why it cannot
    publish   all that is ready, in one batch
    clear     what is staged, and the box made for a failure

Only a run in boxes imports this module.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any, Final

from jubako.boxes.job import Finished, Job
from jubako.boxes.keeping.kept import make_box, remove_box
from jubako.boxes.spec import Box, Output, StagedOutput
from jubako.boxes.state import StateRoot
from jubako.boxes.transactions.publish import Move, Outcome, Publisher
from jubako.boxes.transactions.signature import take_signature
from jubako.boxes.transactions.stage import StageArea
from jubako.boxes.views.facts import is_below
from jubako.boxes.workers.worker import Worker
from jubako.errors import BugError, ConflictError, HostError, InputError
from jubako.flow.attempts import Attempt, Prepared, get_timeout_s
from jubako.flow.executors.executor import Ended
from jubako.flow.ledger.ledger import AttemptRecord, LedgerRun
from jubako.flow.options import RunOptions
from jubako.flow.pipeline_source import Belonging
from jubako.flow.run.owed import dump_owed
from jubako.flow.run.publishing import Ready, publish_batch, refuse_lost
from jubako.flow.run.undeclared import stage_undeclared
from jubako.flow.targets.outputs import find_targets
from jubako.flow.tasks.nesting import flatten
from jubako.flow.tasks.task_reference import refer
from jubako.kernel.durability import read_durability
from jubako.kernel.probe import probe_can_box
from jubako.layers.remove import remove_tree
from jubako.records import field, record, replace

__all__ = ["Collected", "Desk"]

# By name, as a job wants them: `flow.executors.inside` is for workers, and is not imported here.
_LOAD: Final = "jubako.flow.executors.inside:load"
_RUN: Final = "jubako.flow.executors.inside:run_task"
_CHECK: Final = "jubako.flow.executors.inside:check_task"
_RECORD: Final = "box.json"


@record
class Collected:
    """What a box has made: ready to be published, or the `problem` with it. `left_out`: what cannot be, in words."""

    ready: Ready | None = None
    problem: Ended | None = None
    left_out: Sequence[str] = ()
    to_send: Sequence[tuple[Any, str]] = ()  # targets in stores before that, and what is staged for each, if anything


@record(frozen=False)
class Desk:
    """The desk of one run. `start_directory` is what relative paths of tasks mean."""

    state: StateRoot
    area: StageArea
    publisher: Publisher
    run: LedgerRun
    options: RunOptions
    belonging: Belonging
    start_directory: str
    note: Callable[..., None]  # says something once, as `Book.note`
    call: str = _RUN  # what runs a task in its box
    _known_devices: set[int] = field(default_factory=set)

    def require_boxes(self) -> None:
        """HostError, with the cure, if boxes cannot be made here. Never falls back to running without."""
        ability = probe_can_box()
        if not ability.works:
            raise HostError(
                f"this host cannot make boxes: {ability.reason}",
                hint=f"{ability.cure + '; ' if ability.cure else ''}--box none (box='none') runs tasks without one",
            )

    def start_worker(self) -> Worker:
        """A worker that has the pipeline, hides the state of jubako, and keeps its scratch with the run."""
        from jubako.flow.executors.inside import (
            Preload,  # what workers call; it imports the loader, which is not needed else
        )

        source = self.belonging.get_source()
        preload = Preload(
            source, self.start_directory, self.belonging.is_main, self.options.prepare, self.options.rules
        )
        return Worker.start(
            _LOAD,
            pickle.dumps(preload),
            hidden=(self.state.path, *self.area.places),
            scratch_root=os.path.join(self.state.stage_path, self.area.run_id),
            cwd=self.start_directory,
        )

    def prepare(self, attempt: Attempt) -> Job:
        """Makes the staging directories of an attempt, notes what is in place, and writes the job.

        Raises InputError for parameters that cannot be handed over and outputs that the box shares with the host,
        HostError where an output cannot be written, OSError where an input cannot be looked at. Nothing is left then.
        """
        task = attempt.task
        outputs, stored, others = _split_outputs(task)
        payload = _dump(task)
        box = self._find_box(task)
        _refuse_shared(task, outputs, box)
        if box.for_commands:
            raise InputError(f"the box of {task} asks for what only commands can have: {', '.join(box.for_commands)}")
        elsewhere = [target.as_output() for target in stored]
        staged = self.area.stage(attempt.id, (*outputs, *elsewhere))
        local, sent = staged[: len(outputs)], staged[len(outputs) :]
        prepared = Prepared(outputs, others, local, sent=tuple(zip(stored, sent, strict=True)))
        attempt.prepared = prepared
        try:
            self._doubt_durability(prepared.staged)
            prepared.expected = tuple(take_signature(output.path) for output in outputs)
            prepared.inputs = tuple((path, take_signature(path)) for path in _input_paths(task))
            return Job(
                id=attempt.id,
                label=str(task),
                call=self.call,
                payload=payload,
                outputs=staged,
                check=_CHECK if task.has_check() else "",
                box=box,
                cwd=self.start_directory,
                timeout_s=get_timeout_s(task, self.options),
                hidden=self.area.places,
                keep_in=self._make_kept_box(prepared),
            )
        except BaseException:
            self.clear(attempt, keep=False)
            raise

    def collect(self, attempt: Attempt, ended: Ended, record: AttemptRecord) -> Collected:
        """What a box that ended well has made. `record` says "publishing"."""
        finished, prepared = ended.finished, _get_prepared(attempt)
        if finished is None:
            raise BugError(f"attempt {attempt.id} ended in a box that said nothing")
        in_stores = {staged.path for _, staged in prepared.sent}  # where tasks may have put things themselves
        missing = [path for path in finished.missing if path not in in_stores]
        missing += [str(target) for target in prepared.other_targets if not target.exists()]
        if missing and self.options.rules.unmade_outputs == "fail":
            why = f" ({'; '.join(finished.refused)})" if finished.refused else ""
            return Collected(
                problem=Ended(attempt.id, "failed", f"run() ended and did not make {', '.join(missing)}{why}")
            )
        prepared.unmade = tuple(missing)
        try:
            moves, left_out = self._plan_moves(attempt, prepared, finished)
        except (ConflictError, HostError) as error:
            return Collected(problem=Ended(attempt.id, "failed", error.message, exception=error))
        ready = Ready(attempt, record, moves, prepared.inputs, dump_owed(attempt.task))
        written = {staged.path for staged in finished.staged}
        to_send = [(target, staged.staged if staged.path in written else "") for target, staged in prepared.sent]
        return Collected(ready, left_out=(*finished.refused, *left_out), to_send=to_send)

    def refuse_lost(self, ready: Ready) -> None:
        """ConflictError if another run has taken the task over: nothing may be sent to a store then."""
        refuse_lost(self.run, ready.record)

    def publish(self, batch: Sequence[Ready], now_s: float) -> list[Outcome]:
        """Publishes each of `batch` or nothing of it; outcomes in the same order."""
        return publish_batch(self.publisher, self.run, batch, now_s)

    def clear(self, attempt: Attempt, *, keep: bool, is_published: bool = False) -> str:
        """Removes what is staged, and unless `keep` the box made for a failure; the id of a box that was kept."""
        prepared = attempt.prepared
        if prepared is None:
            return ""
        if is_published:
            self.area.release(attempt.id)
        else:
            self.area.discard(attempt.id)
        if prepared.stages_undeclared:
            self.area.discard(_undeclared_id(attempt))
        if prepared.kept_fd < 0:
            return prepared.kept_box
        directory = os.path.join(self.state.boxes_path, prepared.kept_box)
        if not keep or not os.path.exists(os.path.join(directory, _RECORD)):
            remove_box(directory)
            prepared.kept_box = ""
        os.close(prepared.kept_fd)
        prepared.kept_fd = -1
        return prepared.kept_box

    def _plan_moves(
        self, attempt: Attempt, prepared: Prepared, finished: Finished
    ) -> tuple[tuple[Move, ...], Sequence[str]]:
        moves = tuple(
            Move(staged.staged, staged.path, expected)
            for staged, expected in zip(prepared.staged, prepared.expected, strict=True)
            if staged.path not in prepared.unmade
        )
        if not finished.undeclared_in:
            return moves, ()
        prepared.stages_undeclared = True
        extra, left_out = stage_undeclared(
            self.area, _undeclared_id(attempt), finished.undeclared, finished.undeclared_in, attempt.started_s
        )
        remove_tree(finished.undeclared_in)
        return (*extra, *moves), left_out

    def _make_kept_box(self, prepared: Prepared) -> str:
        if not self.options.keep_failed:
            return ""
        prepared.kept_box, prepared.kept_fd = make_box(self.state.boxes_path)
        return os.path.join(self.state.boxes_path, prepared.kept_box)

    def _doubt_durability(self, staged: Sequence[StagedOutput]) -> None:
        """Says, once for each file system, where full durability is asked for and cannot hold."""
        if self.options.durability != "full":
            return
        for output in staged:
            folder = os.path.dirname(output.staged)
            device = os.stat(folder).st_dev
            if device in self._known_devices:
                continue
            self._known_devices.add(device)
            found = read_durability(folder)
            if not found.holds_full:
                self.note(
                    f"what is published on {found.mount_point} survives kill -9 only: {found.why_not}", hint=found.cure
                )

    def _find_box(self, task: Any) -> Box:
        box: Box = task.box or Box()
        if self.options.undeclared is not None:
            box = replace(box, undeclared=self.options.undeclared)
        return box


def _get_prepared(attempt: Attempt) -> Prepared:
    if attempt.prepared is None:
        raise BugError(f"attempt {attempt.id} was not prepared for a box")
    return attempt.prepared


def _split_outputs(task: Any) -> tuple[tuple[Output, ...], tuple[Any, ...], tuple[Any, ...]]:
    """What the task declares: files and directories of this machine, targets in stores, each once; everything else."""
    outputs: dict[str, Output] = {}
    stored: dict[str, Any] = {}
    others = []
    for target in find_targets(task):
        as_output = getattr(target, "as_output", None)
        if as_output is None:
            others.append(target)
        else:
            output: Output = as_output()
            if output.kind == "elsewhere":
                stored.setdefault(output.path, target)
            else:
                outputs.setdefault(output.path, output)
    return tuple(outputs.values()), tuple(stored.values()), tuple(others)


def _refuse_shared(task: Any, outputs: Sequence[Output], box: Box) -> None:
    """InputError for an output in a folder the box shares: what is written there is there at once, not published."""
    for output in outputs:
        for shared in (*box.binds, *box.cache):
            if is_below(output.path, shared):
                raise InputError(
                    f"{task} declares {output.path}, which lies in {shared}, a folder its box shares with the host",
                    hint="share another folder, or take the output out of it",
                )


def _input_paths(task: Any) -> list[str]:
    paths: dict[str, None] = {}
    for target in flatten(task.input()):
        as_output = getattr(target, "as_output", None)
        output: Output | None = None if as_output is None else as_output()
        if output is not None and output.kind != "elsewhere":
            paths[output.path] = None
    return list(paths)


def _dump(task: Any) -> bytes:
    try:
        return pickle.dumps(refer(task))
    except Exception as error:  # whatever a value's own __reduce__ raises
        raise InputError(
            f"{task} cannot be handed to a box: {error}",
            hint="parameter values have to be picklable: define their classes at the top of a module",
        ) from error


def _undeclared_id(attempt: Attempt) -> str:
    """Where what was written undeclared is staged."""
    return f"{attempt.id}-undeclared"
