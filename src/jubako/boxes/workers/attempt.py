"""One job, from its view to its end, as the zygote runs it. Nothing of it lives when `run_attempt` returns.

make the view ── fork: call ── kill all ── freeze ── fork: check ── kill all ── collect ── let the view go
     │                │                               │                            │
    host     failed, timeout, cancelled     check, failed, timeout           failed (undeclared, open database)
"""

from __future__ import annotations

import json
import os
import time
from contextlib import nullcontext, suppress

from jubako.boxes.job import Finished, Job, Outcome
from jubako.boxes.keeping.keep import keep_box
from jubako.boxes.views.bound_files import drop_untouched_files
from jubako.boxes.views.capabilities import choose_capabilities
from jubako.boxes.views.collect import UNWRITTEN_NS, Collected, collect_outputs, collect_undeclared, export_undeclared
from jubako.boxes.views.plan import TMP, staged_in_box
from jubako.boxes.workers.child import FAILURE, REJECTED, REPORT, Call
from jubako.boxes.workers.errand import Errand, ZygoteLink
from jubako.boxes.workers.explain import explain_status
from jubako.boxes.workers.watch import Deadline, Ended, Outflow, watch
from jubako.boxes.workers.zygote import DROPPED_VARIABLES
from jubako.errors import HostError
from jubako.layers.remove import remove_tree
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jubako.boxes.views.facts import HostFacts
    from jubako.boxes.views.view import View, Views
    from jubako.boxes.workers.task_limits import TaskLimits
    from jubako.boxes.workers.wire import Channel
    from jubako.layers.change import Change

__all__ = ["Workshop", "run_attempt"]

_NAMED_UNDECLARED = 3  # in the sentence; all of them are in the result


@record
class Workshop:
    """What every attempt of one worker shares."""

    channel: Channel
    zygote: ZygoteLink
    views: Views
    facts: HostFacts
    environment: Mapping[str, str]  # of a job that names none
    dropped_environment: Mapping[str, str]  # what was taken out of it
    umask: int
    scratch_root: str
    zygote_pid: int = 0


@record(frozen=False)
class _Result:
    """What is known of the attempt so far."""

    outcome: Outcome = "ok"
    error: str = ""
    traceback: str = ""
    report: bytes = b""
    exit_status: int | None = None
    cpu_s: float = 0.0
    peak_bytes: int = 0
    collected: Collected = field(default_factory=Collected)
    undeclared: tuple[Change, ...] = ()
    undeclared_in: str = ""
    scratch: int = 0


def run_attempt(job: Job, workshop: Workshop) -> tuple[Finished, View | None]:
    """Runs `job`. The answer, and its view, which the caller closes: that can wait until the answer is on its way.

    Raises EOFError when the runner is gone, ZygoteGone when no job can run any more.
    """
    started_ns, started = time.time_ns(), time.monotonic()
    result = _Result()
    view = None
    try:
        if job.box.network == "private":
            raise HostError("a task's network is 'host' or 'none'; a private one is for commands")
        environment = workshop.environment if job.environment is None else job.environment
        _mark_unwritten(job, workshop.umask)
        with _limit(job, workshop) as limits:
            view, errand = _open(job, workshop, environment)
            _run(job, workshop, (view, errand), limits, result)
        _collect(job, workshop, view, result)
        if result.outcome != "ok" and job.keep_in:
            keep_box(job, view, result.error, started_ns)
    except HostError as error:
        _fail(result, "host", f"{error.message} ({error.hint})" if error.hint else error.message)
    except OSError as error:
        _fail(result, "host", f"the box of {job.label} could not be handled: {error}")
    return _finish(job, result, time.monotonic() - started), view


def _mark_unwritten(job: Job, umask: int) -> None:
    for output in job.outputs:
        if output.kind == "directory":
            with suppress(FileExistsError):
                os.mkdir(output.staged, 0o777 & ~umask)
            os.utime(output.staged, ns=(UNWRITTEN_NS, UNWRITTEN_NS))


def _open(job: Job, workshop: Workshop, environment: Mapping[str, str]) -> tuple[View, Errand]:
    """The view, and a child that moves in while it is being made."""
    errands: list[Errand] = []

    def send_child(namespace_fd: int) -> None:
        while errands:  # the view it went to had to be given up
            errands.pop().abandon()
        errands.append(workshop.zygote.begin(namespace_fd, is_awaited=job.box.limits is not None))

    try:
        view = workshop.views.open(job, environment, send_child)
    except BaseException:
        for errand in errands:
            errand.abandon()
        raise
    return view, errands[0]


def _limit(job: Job, workshop: Workshop) -> TaskLimits | nullcontext[None]:
    """What keeps the attempt to its limits, if it has any."""
    if job.box.limits is None:
        return nullcontext()
    from jubako.boxes.workers.task_limits import limit_task  # 8 modules, for tasks with limits

    limits = limit_task(
        job,
        workshop.scratch_root,
        workshop.zygote_pid,
        own_user_namespace=workshop.facts.in_user_namespace,
    )
    workshop.views.notes.extend(limits.plan.notes)  # the run says each once
    return limits


def _run(job: Job, workshop: Workshop, opened: tuple[View, Errand], limits: TaskLimits | None, result: _Result) -> None:
    """The call, and the check if there is one."""
    view, errand = opened
    time_limits = [job.timeout_s, None if job.box.limits is None else job.box.limits.wall_s]
    timeout_s = min((one for one in time_limits if one is not None), default=None)
    deadline = Deadline(None if timeout_s is None else time.monotonic() + timeout_s, job.grace_s)
    if limits is not None:
        deadline.look, deadline.look_at = limits.look, time.monotonic()
    outflow = Outflow(job.id, workshop.channel)
    for is_check in (False, True):
        if is_check:
            if result.outcome != "ok" or not job.check:
                return
            view.freeze()
            errand = workshop.zygote.begin(view.namespace_fd, is_awaited=limits is not None)
        if limits is not None:
            try:
                errand.await_child()
                limits.restrain_child()
            except BaseException:
                errand.abandon()
                raise
        ended = watch(errand, _plan_call(job, workshop, view, is_check=is_check), outflow, deadline)
        _judge(ended, result, is_check=is_check)
        if limits is not None:
            _name_limits(limits, ended, result)


def _name_limits(limits: TaskLimits, ended: Ended, result: _Result) -> None:
    """Has a failure say which limits were met: instead of a guess at who killed the task, or after what it said."""
    said = limits.describe(ended.status, ended.exhausted)
    result.peak_bytes = max(result.peak_bytes, limits.peak_bytes)
    if said and result.outcome in ("failed", "check"):
        result.error = f"{result.error} ({said})" if ended.answer.kind else said


def _plan_call(job: Job, workshop: Workshop, view: View, *, is_check: bool) -> Call:
    return Call(
        function=job.check if is_check else job.call,
        payload=job.payload,
        cwd=job.cwd,
        staged={one.path: staged_in_box(one, view.plan.stages) for one in job.outputs},
        directories=view.plan.placed,
        writable=tuple(overlay.target for overlay in view.plan.overlays),
        umask=workshop.umask,
        environment=_plan_environment(job, workshop),
        capabilities=choose_capabilities(job.box, workshop.facts.uid),
        network=job.box.network == "host",
        abstract_sockets=job.box.abstract_sockets,
        is_check=is_check,
    )


def _plan_environment(job: Job, workshop: Workshop) -> dict[str, str] | None:
    """The environment of the job's children; None for the one they have from the workshop."""
    if job.environment is None and not job.box.sockets:
        return None
    named = workshop.environment if job.environment is None else job.environment
    environment = {name: value for name, value in named.items() if name not in DROPPED_VARIABLES}
    environment["TMPDIR"] = TMP
    candidates = workshop.dropped_environment if job.environment is None else job.environment
    for name in DROPPED_VARIABLES:
        value = candidates.get(name, "")
        if any(path in value for path in job.box.sockets):  # this one the box has opened by name
            environment[name] = value
    return environment


def _judge(ended: Ended, result: _Result, *, is_check: bool) -> None:
    """What the end of a child says about the attempt."""
    result.cpu_s += ended.cpu_s
    result.peak_bytes = max(result.peak_bytes, ended.peak_bytes)
    result.exit_status = ended.status
    what = "the check " if is_check else ""
    failed: Outcome = "check" if is_check else "failed"
    answer = ended.answer
    if ended.stopped == "timeout":
        _fail(result, "timeout", f"{what}took longer than its time limit")
    elif ended.stopped == "cancelled":
        _fail(result, "cancelled", "was cancelled")
    elif answer.kind == REPORT and ended.status == 0:
        if not is_check:
            result.report = answer.data
    elif answer.kind == REJECTED:
        _fail(result, failed, "the check did not accept the result")
    elif answer.kind == FAILURE:
        error, result.traceback = _parse_failure(answer.data)
        _fail(result, failed, error)
    else:
        _fail(result, failed, what + explain_status(ended.status))


def _parse_failure(data: bytes) -> tuple[str, str]:
    """The sentence and the traceback in a child's failure frame, which the task could write as well."""
    try:
        told = json.loads(data)
        return str(told["error"]), str(told["traceback"])
    except (ValueError, KeyError, TypeError):
        return "failed, and what it said about it makes no sense", ""


def _collect(job: Job, workshop: Workshop, view: View, result: _Result) -> None:
    drop_untouched_files(view.copies)
    result.undeclared, result.scratch = collect_undeclared(view, job.cwd, workshop.facts)
    if result.outcome != "ok":
        return
    if result.undeclared and job.box.undeclared == "fail":
        names = ", ".join(change.path for change in result.undeclared[:_NAMED_UNDECLARED])
        more = len(result.undeclared) - _NAMED_UNDECLARED
        rest = f" and {more} more" if more > 0 else ""
        _fail(result, "failed", f"wrote {names}{rest}, which it did not declare")
        return
    result.collected = collect_outputs(view)
    if result.collected.problems:
        _fail(result, "failed", "; ".join(result.collected.problems))
        return
    if result.undeclared and job.box.undeclared == "publish":
        if not workshop.scratch_root:
            raise HostError("undeclared='publish' needs a run with a staging directory")
        result.undeclared_in = os.path.join(workshop.scratch_root, f"{job.id}.undeclared")
        remove_tree(result.undeclared_in)
        result.collected.refused.extend(export_undeclared(result.undeclared, view, result.undeclared_in))


def _fail(result: _Result, outcome: Outcome, error: str) -> None:
    result.outcome = outcome
    result.error = error


def _finish(job: Job, result: _Result, wall_s: float) -> Finished:
    is_ok = result.outcome == "ok"
    return Finished(
        job_id=job.id,
        outcome=result.outcome,
        report=result.report,
        error=result.error,
        traceback=result.traceback,
        staged=tuple(result.collected.staged) if is_ok else (),
        missing=tuple(result.collected.missing),
        undeclared=result.undeclared,
        undeclared_in=result.undeclared_in if is_ok else "",
        scratch_dropped=result.scratch,
        refused=tuple(result.collected.refused),
        exit_status=result.exit_status,
        wall_s=wall_s,
        cpu_s=result.cpu_s,
        peak_bytes=result.peak_bytes,
    )
