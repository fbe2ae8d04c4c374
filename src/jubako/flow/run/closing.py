"""What became of every task, once nothing runs any more: Luigi's groups, the accounts of ranges. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from jubako.flow.accounting import RangeAccount
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.transitions import BLAME_FAILED, BLAME_MISSING, BLAME_SCHEDULING_DIRECT, State
from jubako.flow.summary import Groups

__all__ = ["account_for_ranges", "group_tasks"]

_FINISHED = (State.DONE, State.COMPLETE)


def group_tasks(
    engine: Engine,
    tasks: Sequence[Any],
    *,
    ever_failed: Collection[int],
    disabled: Collection[int],
    held_elsewhere: Mapping[int, str],
) -> Groups:
    """Tasks by status, as Luigi's summary wants them. `held_elsewhere`: the run that still has a task.

    A disabled task is in no group, as in Luigi. One that has failed and was to be tried again, and is not because the
    run was interrupted, has failed.
    """
    groups: dict[str, list[Any]] = {
        "already_done": [], "completed": [], "failed": [], "scheduling_error": [], "still_pending_ext": [],
        "still_pending_not_ext": [], "upstream_failure": [], "upstream_missing_dependency": [],
        "upstream_scheduling_error": [], "run_by_other_worker": [], "not_run": [],
    }  # fmt: skip
    group_of = {
        State.COMPLETE: groups["already_done"],
        State.DONE: groups["completed"],
        State.FAILED: groups["failed"],
        State.UNSCHEDULED: groups["scheduling_error"],
        State.MISSING: groups["still_pending_ext"],
    }
    for number, state in enumerate(engine.states()):
        task = tasks[number]
        group = group_of.get(state)
        if group is not None:
            group.append(task)
        elif number in ever_failed and number not in held_elsewhere:
            groups["failed"].append(task)
        elif number not in disabled:
            groups["still_pending_not_ext"].append(task)
            blame = engine.blame(number)
            reasons = [
                name
                for bit, name in (
                    (BLAME_FAILED, "upstream_failure"),
                    (BLAME_MISSING, "upstream_missing_dependency"),
                    (BLAME_SCHEDULING_DIRECT, "upstream_scheduling_error"),
                )
                if blame & bit
            ]
            reasons += ["run_by_other_worker"] if number in held_elsewhere else []
            for reason in reasons or ["not_run"]:
                groups[reason].append(task)
    others: dict[str, int] = {}
    for run_id in held_elsewhere.values():
        others[run_id] = others.get(run_id, 0) + 1
    return Groups(**groups, ever_failed=[tasks[number] for number in sorted(ever_failed)], other_workers=others)


def account_for_ranges(tasks: Iterable[Any], state_of: Callable[[Any], State | None]) -> list[RangeAccount]:
    """The account of every range among `tasks`. `state_of` a task is None if the run never met it."""
    module = sys.modules.get("jubako.flow.ranges.range_base")
    if module is None:  # nobody has made a range
        return []
    return [
        _account(task, state_of)
        for task in tasks
        if isinstance(task, module.RangeBase) and state_of(task) is not State.UNSCHEDULED
    ]


def _account(task: Any, state_of: Callable[[Any], State | None]) -> RangeAccount:
    plan = task.account()
    states = [state_of(member) for member in task.requires()]
    run = sum(state in _FINISHED for state in states)
    failed = sum(state is State.FAILED for state in states)
    return RangeAccount(
        label=f"{type(task).__name__} of {plan.family}",
        wanted=plan.wanted,
        done_before=plan.done_before,
        run=run,
        outside=plan.outside_window,
        over_limit=plan.over_limit,
        failed=failed,
        not_run=len(states) - run - failed,
        settings=plan.settings,
        notes=plan.notes,
    )
