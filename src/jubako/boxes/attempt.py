"""One job, from its view to its end, as the zygote runs it. Nothing of it lives when `run_attempt` returns.

make the view ── fork: call ── kill all ── freeze ── fork: check ── kill all ── collect ── let the view go
     │                │                               │                            │
    host     failed, timeout, cancelled     check, failed, timeout           failed (undeclared, open database)
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from jubako.boxes.child import FAILURE, REJECTED, REPORT, Call, run_child
from jubako.boxes.collect import UNWRITTEN_NS, Collected, collect_outputs, collect_undeclared, export_undeclared
from jubako.boxes.explain import explain_status
from jubako.boxes.facts import HostFacts
from jubako.boxes.job import Finished, Job, Outcome
from jubako.boxes.keep import keep_box
from jubako.boxes.plan import TMP, staged_in_box
from jubako.boxes.view import View, Views
from jubako.boxes.watch import Deadline, Ended, Outflow, watch
from jubako.boxes.wire import Channel
from jubako.errors import HostError
from jubako.layers.change import Change
from jubako.layers.remove import remove_tree

__all__ = ["DROPPED_VARIABLES", "Zygote", "run_attempt"]

# Variables that lead to control sockets, which a box hides; and to a directory below /run, which is hidden whole.
DROPPED_VARIABLES = (
    *("SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"),
    *("XDG_RUNTIME_DIR", "DOCKER_HOST", "CONTAINER_HOST", "PODMAN_HOST", "WAYLAND_DISPLAY", "PULSE_SERVER"),
)

_NAMED_UNDECLARED = 3  # in the sentence; all of them are in the result


@dataclass(frozen=True, slots=True)
class Zygote:
    """What every attempt of one worker shares."""

    channel: Channel
    views: Views
    facts: HostFacts
    environment: Mapping[str, str]  # of a job that names none
    dropped_environment: Mapping[str, str]  # taken out of it: variable, and the socket it leads to
    null_fd: int
    kept_fds: tuple[int, ...]
    umask: int
    scratch_root: str
    output_limit_bytes: int
    preload: str = ""  # done in each child, in a worker that could not be forked with the pipeline loaded
    preload_argument: bytes = b""


@dataclass(slots=True)
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


def run_attempt(job: Job, zygote: Zygote) -> tuple[Finished, View | None]:
    """Runs `job`. The answer, and its view, which the caller closes: that can wait until the answer is on its way.

    Raises EOFError when the runner is gone.
    """
    started_ns, started = time.time_ns(), time.monotonic()
    result = _Result()
    view = None
    try:
        environment = zygote.environment if job.environment is None else job.environment
        _mark_unwritten(job, zygote.umask)
        view = zygote.views.open(job, environment)
        _run(job, zygote, view, result)
        _collect(job, zygote, view, result)
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


def _run(job: Job, zygote: Zygote, view: View, result: _Result) -> None:
    """The call, and the check if there is one. This process is in the view, and is not afterwards."""
    deadline = Deadline(None if job.timeout_s is None else time.monotonic() + job.timeout_s, job.grace_s)
    outflow = Outflow(job.id, zygote.channel, zygote.output_limit_bytes)
    _judge(_fork(job, zygote, view, outflow, deadline, is_check=False), result, is_check=False)
    if result.outcome == "ok" and job.check:
        view.freeze()
        _judge(_fork(job, zygote, view, outflow, deadline, is_check=True), result, is_check=True)


def _fork(job: Job, zygote: Zygote, view: View, outflow: Outflow, deadline: Deadline, *, is_check: bool) -> Ended:
    """Runs one child to its end, starting in the view, ending outside."""
    frames_read, frames_write = os.pipe2(os.O_CLOEXEC)
    output_read, output_write = os.pipe2(os.O_CLOEXEC)
    try:
        call = Call(
            function=job.check if is_check else job.call,
            payload=job.payload,
            cwd=job.cwd,
            staged={one.path: staged_in_box(one, view.plan.stages) for one in job.outputs},
            writable=tuple(overlay.target for overlay in view.plan.overlays),
            null_fd=zygote.null_fd,
            output_fd=output_write,
            frames_fd=frames_write,
            kept_fds=zygote.kept_fds,
            umask=zygote.umask,
            environment=_plan_environment(job, zygote),
            capabilities=tuple(job.box.capabilities),
            network=job.box.network,
            preload=zygote.preload,
            preload_argument=zygote.preload_argument,
            is_check=is_check,
        )
        pid = os.fork()
        if pid == 0:
            run_child(call)
        view.leave()
        return watch(pid, frames_read, output_read, outflow, deadline)
    finally:
        for fd in (frames_read, frames_write, output_read, output_write):
            os.close(fd)


def _plan_environment(job: Job, zygote: Zygote) -> Mapping[str, str] | None:
    """The environment of the job's children; None for the one they have from the zygote."""
    if job.environment is None and not job.box.sockets:
        return None
    named = zygote.environment if job.environment is None else job.environment
    environment = {name: value for name, value in named.items() if name not in DROPPED_VARIABLES}
    environment["TMPDIR"] = TMP
    candidates = zygote.dropped_environment if job.environment is None else job.environment
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
        told = json.loads(answer.data)
        _fail(result, failed, what + told["error"])
        result.traceback = told["traceback"]
    else:
        _fail(result, failed, what + explain_status(ended.status))


def _collect(job: Job, zygote: Zygote, view: View, result: _Result) -> None:
    result.undeclared, result.scratch = collect_undeclared(view, job.cwd, zygote.facts)
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
        if not zygote.scratch_root:
            raise HostError("undeclared='publish' needs a run with a staging directory")
        result.undeclared_in = os.path.join(zygote.scratch_root, f"{job.id}.undeclared")
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
