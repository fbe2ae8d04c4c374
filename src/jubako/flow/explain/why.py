"""Why a task would run or would not: one sentence, what it rests on, and a verdict for programs.

The outputs are the truth, the ledger is what happened; where the two differ, the difference has a name:

    verdict    reason
    done       complete, made_elsewhere (no run is known to have made what is there), stale (made of something else
               than what is there now; only --stale runs it)
    running    running (another run has it)
    would_run  missing, gone (recorded done, deleted since), failed, after_others (what it needs is made first),
               no_outputs
    incomplete left_out (nothing would run, and yet a range leaves out some of what it was asked for)
    cannot     external_missing, disabled, broken, ring
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from jubako.flow.backfills.backfill import format_spans
from jubako.flow.engine.disabling import Verdict as Judgement
from jubako.flow.explain.status import Recorded
from jubako.flow.explain.why_answer import Fact, Verdict, Why
from jubako.flow.graph.completeness import targets_exist
from jubako.flow.graph.graph import is_external
from jubako.flow.graph.missing import describe_missing
from jubako.flow.graph.needs import Needs, Obstacle, find_needs
from jubako.flow.graph.standing import Broken, Standing
from jubako.flow.ledger.history import History, PastAttempt, PastRun
from jubako.flow.ledger.ledger import FAILURES
from jubako.flow.ledger.partitions import find_partition
from jubako.flow.tasks.nesting import flatten
from jubako.flow.tasks.task import Task

__all__ = ["Fact", "Verdict", "Why", "explain_task"]

_SHOWN: Final = 3
_SPANS: Final = 5
_CLOCK_S: Final = 1.0  # how much later than its attempt an output may have been changed by that attempt
_ATTEMPTS: Final = 1000  # looked through for the one that made what is there


def explain_task(
    task: Any,
    history: History,
    pipeline: str,
    tell_time: Callable[[float], str],
    judge: Callable[[Any], Judgement] = lambda task: Judgement(),
) -> Why:
    """Why a run of `pipeline` would run `task` or not, now.

    `tell_time` writes seconds since 1970 for people; `judge` tells who has failed too often.
    """
    return _Case(task, history, pipeline, tell_time, judge).explain()


class _Case:
    """One question, and what was found out for it."""

    def __init__(
        self,
        task: Any,
        history: History,
        pipeline: str,
        tell_time: Callable[[float], str],
        judge: Callable[[Any], Judgement],
    ) -> None:
        self.task = task
        self.tell_time = tell_time
        self.judge = judge
        self.standing = Standing(targets_exist)
        self.held = history.list_held(pipeline)
        self.owed = history.list_owed(pipeline)
        self.recorded = "" if find_partition(task) is None else Recorded(history, pipeline, task.task_family).ask(task)
        self.attempts = [
            attempt
            for attempt in history.list_attempts(pipeline, task.task_id, limit=_ATTEMPTS)
            if attempt.outcome not in ("cancelled", "yielded", "publishing")
        ]
        self.history = history
        self.pipeline = pipeline

    @property
    def last(self) -> PastAttempt | None:
        return self.attempts[0] if self.attempts else None

    @property
    def made(self) -> PastAttempt | None:
        """The newest attempt that succeeded."""
        return next((attempt for attempt in self.attempts if attempt.outcome == "published"), None)

    def explain(self) -> Why:
        (answer,) = self.standing.look([self.task])
        if _is_range(self.task) and not isinstance(answer, Broken):
            return self._explain_range()
        if answer is True:
            done = self._explain_done()
            if not self.task.tracks_changes:
                return done
            from jubako.flow.explain.why_stale import explain_changes  # 15 ms, for tasks that track changes

            return explain_changes(done, self.history, self.pipeline, self.tell_time)
        if self.task.task_id in self.held:
            run = self.held[self.task.task_id]
            return self._answer("running", "running", f"is being made: {self._describe_run(run)} is at work on it", [])
        needs = find_needs(self.task, self.standing, self.judge)
        if needs.obstacles:
            return self._explain_obstacle(needs)
        if needs.ring:
            return self._answer("cannot", "ring", f"cannot run: {needs.ring}", [])
        if needs.open:
            return self._explain_after_others(needs)
        return self._explain_missing()

    # done

    def _explain_done(self) -> Why:
        task, facts = self.task, self._outputs()
        if task.task_id in self.owed:
            error = self.owed[task.task_id]
            because = f": {error}" if error else ""
            facts.append(Fact("owed", f"after_publish() has not succeeded yet{because}; the next run calls it"))
        if is_external(task):
            return self._answer("done", "complete", "is there; no task makes it", facts)
        if type(task).run is Task.run:
            count = len(flatten(task.requires()))
            tasks = f"{count} task{'' if count == 1 else 's'}"
            return self._answer("done", "complete", f"is done: all it stands for is done ({tasks})", facts)
        if self.last is not None and self.last.outcome in FAILURES:
            facts.append(self._attempt_fact(self.last))
        if self.made is not None:
            later = "; a later attempt failed, and left it as it was" if self.last is not self.made else ""
            return self._answer("done", "complete", f"is done: made by {self._at(self.made)}{later}", facts)
        if self.last is not None:
            sentence = "is done, though no attempt at it has succeeded: something else made what is there"
            return self._answer("done", "made_elsewhere", sentence, facts)
        if self.recorded == "done":
            return self._answer("done", "complete", "is done: made by a run that history has forgotten", facts)
        by = "its own complete() says so" if type(task).complete is not Task.complete else "its outputs are there"
        sentence = f"is done ({by}), and no run is known to have made it: something else did"
        return self._answer("done", "made_elsewhere", sentence, facts)

    # not done

    def _explain_obstacle(self, needs: Needs) -> Why:
        obstacle = needs.obstacles[0]
        how = _describe_obstacle(obstacle)
        facts = []
        if len(obstacle.chain) == 1:
            sentence = how
        else:
            sentence = f"cannot run: it needs {obstacle.task}, which {how}"
            facts.append(Fact("chain", " -> ".join(map(str, obstacle.chain))))
        facts += [
            Fact("need", f"{other.task} {_describe_obstacle(other)}") for other in needs.obstacles[1 : 1 + _SHOWN]
        ]
        more = len(needs.obstacles) - 1 - _SHOWN
        facts += [Fact("need", f"and {more} more like that")] if more > 0 else []
        reason = "external_missing" if obstacle.kind == "external" else obstacle.kind
        return self._answer("cannot", reason, sentence, facts, chain=obstacle.chain)

    def _explain_after_others(self, needs: Needs) -> Why:
        count = len(needs.open)
        facts: list[Fact] = []
        chain: list[Any] = []
        failures = self.history.find_last_failures(self.pipeline, [other.task_id for other in needs.open])
        for other in needs.open:
            if other.task_id in self.held:
                run = self.held[other.task_id]
                facts.append(Fact("run", f"{other} is being made: {self._describe_run(run)}", run=run.run_id))
            elif other.task_id in failures:
                failure = failures[other.task_id]
                facts.append(Fact("need", f"{other} failed last time: {_first_line(failure)}", run=failure.run_id))
                chain = chain or needs.chain_to(other)
            if len(facts) == _SHOWN:
                break
        if chain:
            facts.insert(0, Fact("chain", " -> ".join(map(str, chain))))
        facts += [fact for other in needs.open if _is_range(other) for fact in _left_out(other)]
        some = f"{needs.open[0]}" if count == 1 else f"{count} tasks that it needs, {needs.open[0]} among them"
        sentence = f"would run, after {some}: {'it is' if count == 1 else 'they are'} not done either"
        return self._answer(
            "would_run", "after_others", sentence, [*facts, *self._outputs()], chain=chain, to_run=count + 1
        )

    def _explain_missing(self) -> Why:
        facts = self._outputs()
        gone = [fact.path or fact.text.partition(": ")[2] for fact in facts if fact.text.startswith("not there: ")]
        what = f"{gone[0]} is not there" if gone else "it is not complete"
        if len(gone) > 1:
            what = f"{gone[0]} and {len(gone) - 1} more output{'s' if len(gone) > 2 else ''} are not there"
        last = self.last
        if last is not None and last.outcome in FAILURES:
            sentence = f"would run: {what}, since the last attempt failed, in {self._at(last)}: {_first_line(last)}"
            return self._answer("would_run", "failed", sentence, facts, to_run=1)
        if self.made is not None:
            sentence = f"would run: {what} any more: {self._at(self.made)} made it, and it was deleted since"
            return self._answer("would_run", "gone", sentence, facts, to_run=1)
        if self.recorded == "done":
            sentence = f"would run: {what} any more: a run made it that history has forgotten, and it was deleted since"
            return self._answer("would_run", "gone", sentence, facts, to_run=1)
        if not facts and type(self.task).complete is Task.complete:
            return self._answer(
                "would_run", "no_outputs", "would run: it has no outputs, so it is never done", [], to_run=1
            )
        return self._answer("would_run", "missing", f"would run: {what}, and was never made", facts, to_run=1)

    def _explain_range(self) -> Why:
        plan = self.task.account()
        facts = _left_out(self.task)
        parts = [
            f"{count} {what}"
            for count, what in (
                (plan.done_before, "done"),
                (plan.selected, "would run"),
                (plan.outside_window, "outside its window"),
                (plan.over_limit, "over its limit"),
            )
            if count
        ]
        numbers = f"{plan.wanted} wanted{' = ' if parts else ''}{' + '.join(parts)}"
        if plan.selected:
            return self._answer("would_run", "missing", f"would run: {numbers}", facts, to_run=plan.selected + 1)
        if not plan.is_whole:
            return self._answer("incomplete", "left_out", f"looks done and is not whole: {numbers}", facts)
        return self._answer("done", "complete", f"is done: {numbers}", facts)

    # words

    def _answer(
        self,
        verdict: Verdict,
        reason: str,
        sentence: str,
        facts: Sequence[Fact],
        *,
        chain: Sequence[Any] = (),
        to_run: int = 0,
    ) -> Why:
        return Why(self.task, verdict, reason, f"{self.task} {sentence}", facts, chain, to_run)

    def _outputs(self) -> list[Fact]:
        """A fact for each output that is a file or directory: since when it is there, or that it is not."""
        facts = []
        for target in flatten(self.task.output()):
            path = getattr(target, "absolute_path", None)
            if path is None:
                facts.append(Fact("output", f"{_ask(target)}: {target}"))
                continue
            try:
                status = os.stat(path)
            except OSError:
                facts.append(Fact("output", f"not there: {path}", path))
                continue
            changed = ""
            if self.made is not None and os.path.isfile(path):
                end_s = self.made.started_s + self.made.wall_s
                changed = ", changed after that run by something else" if status.st_mtime > end_s + _CLOCK_S else ""
            facts.append(Fact("output", f"there since {self.tell_time(status.st_mtime)}: {path}{changed}", path))
        return facts

    def _attempt_fact(self, attempt: PastAttempt) -> Fact:
        text = f"{attempt.outcome} in {self._at(attempt)}: {_first_line(attempt)}"
        return Fact("attempt", text, run=attempt.run_id)

    def _at(self, attempt: PastAttempt) -> str:
        return f"run {attempt.run_id} ({self.tell_time(attempt.started_s)})"

    def _describe_run(self, run: PastRun) -> str:
        return f"run {run.run_id} (pid {run.pid}, since {self.tell_time(run.started_s)})"


def _describe_obstacle(obstacle: Obstacle) -> str:
    """What is the matter with it, to follow its name."""
    if obstacle.problem:
        return obstacle.problem
    (line,) = describe_missing([obstacle.task])
    return f"is missing: {line.removeprefix(f'{obstacle.task}: ')}"


def _ask(target: Any) -> str:
    """Whether something that is no file of this machine is there."""
    try:
        return "there" if target.exists() else "not there"
    except Exception as error:  # noqa: BLE001  (the target's own code)
        return f"cannot be asked, {type(error).__name__}: {error}"


def _first_line(attempt: PastAttempt) -> str:
    return attempt.error.partition("\n")[0]


def _is_range(task: Any) -> bool:
    module = sys.modules.get("jubako.flow.ranges.range_base")
    return module is not None and isinstance(task, module.RangeBase)


def _left_out(task: Any) -> list[Fact]:
    """Which points a range leaves out, and what makes it."""
    plan = task.account()
    settings = dict(plan.settings)
    limit = settings.pop("task_limit", None)
    window = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
    facts = []
    outside = [*plan.before_window, *plan.after_window]
    for points, what in (
        (outside, f"outside its window ({window})"),
        (plan.left_by_limit, f"over its limit ({limit})"),
    ):
        if points:
            spans = _format_points(task, points)
            facts.append(Fact("range", f"{len(points)} of {plan.family} {what}: {spans}"))
    return [*facts, *(Fact("range", note) for note in plan.notes)]


def _format_points(task: Any, points: Sequence[Any]) -> str:
    values = sorted(task.datetime_to_parameter(point) for point in points)
    name = next(name for name in task.datetime_to_parameters(points[0]) if name not in task.of_params)
    spans = format_spans(dict(task.of_cls.get_params())[name], values)
    more = f" and {len(spans) - _SPANS} more" if len(spans) > _SPANS else ""
    return f"{', '.join(spans[:_SPANS])}{more}"
