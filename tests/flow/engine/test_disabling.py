"""Which tasks have failed too often, from endings alone."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.flow.engine.disabling import Disabling, Ending, Limit, Verdict, judge
from jubako.flow.tasks.task import Task


def failed(*moments: float) -> list[Ending]:
    return [Ending(True, moment) for moment in moments]


POLICY = {"after": 3, "window_s": 100.0, "for_s": 1000.0}


@pytest.mark.parametrize(
    ("endings", "now_s", "verdict"),
    [
        ([], 0, Verdict(3)),
        (failed(10), 20, Verdict(2)),
        (failed(10, 20), 30, Verdict(1)),
        (failed(10, 20, 30), 40, Verdict(0, 1030)),
        (failed(10, 20, 30), 1029, Verdict(0, 1030)),
        (failed(10, 20, 30), 1030, Verdict(3)),  # its time is over, and so is the window
        (failed(10, 20, 111), 120, Verdict(1)),  # the first has left the window of the third
        (failed(10, 110, 110), 120, Verdict(0, 1110)),  # it has not: the window has both its ends
        ([*failed(10, 20), Ending(False, 25), *failed(30)], 40, Verdict(2)),
        ([*failed(10, 20, 30), Ending(False, 35)], 40, Verdict(3)),
        (failed(10, 20), 500, Verdict(3)),
    ],
)
def test_verdict_follows_from_failures_in_a_row_within_the_window(
    endings: list[Ending], now_s: float, verdict: Verdict
) -> None:
    assert judge(endings, now_s=now_s, **POLICY) == verdict  # type: ignore[arg-type]


def test_task_that_may_fail_once_is_disabled_by_one_failure() -> None:
    assert judge(failed(10), after=1, window_s=0, for_s=5, now_s=12) == Verdict(0, 15)


class Plain(Task):
    pass


class Own(Task):
    disable_after = 1
    disable_window = 5


@pytest.mark.parametrize(
    ("task", "after", "verdict"),
    [
        (Plain, None, Verdict()),
        (Plain, 0, Verdict()),
        (Plain, 2, Verdict(0, 1020.0)),
        (Own, None, Verdict(0, 1020.0)),
        (Own, 9, Verdict(0, 1020.0)),
        (Own, 0, Verdict()),
    ],
)
def test_task_goes_before_the_run_but_where_the_run_turns_it_off(
    task: Any, after: int | None, verdict: Verdict
) -> None:
    reads: list[int] = []

    def read() -> dict[str, list[Ending]]:
        reads.append(1)
        return {task().task_id: failed(10, 20)}

    disabling = Disabling(read, Limit(after, window_s=100, for_s=1000), 30.0)
    assert [disabling.judge(task()), disabling.judge(task())] == [verdict, verdict]
    assert len(reads) == (0 if verdict == Verdict() else 1)
