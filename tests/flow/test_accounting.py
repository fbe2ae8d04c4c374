"""The lines after Luigi's summary."""

from __future__ import annotations

import pytest

from jubako.flow.accounting import RangeAccount, format_accounts, format_seconds, format_undeclared
from jubako.layers.change import Change


def test_account_leaves_out_what_is_nothing() -> None:
    assert RangeAccount("R of T", wanted=3, run=3).describe() == "R of T: 3 wanted = 3 run"
    assert RangeAccount("R of T", wanted=0).describe() == "R of T: 0 wanted"


def test_account_says_everything_and_why() -> None:
    account = RangeAccount(
        "R of T", 21, 1, 2, 3, 4, 5, 6, (("days_back", 100), ("days_forward", 0), ("task_limit", 50)), ("a note",)
    )
    assert format_accounts([account]) == [
        "R of T: 21 wanted = 1 done before + 2 run + 3 outside the window (days back 100, days forward 0)"
        " + 4 over the limit (task limit 50) + 5 failed + 6 not run",
        "a note",
    ]


@pytest.mark.parametrize(
    ("account", "whole"),
    [
        (RangeAccount("", 3, done_before=1, run=2), True),
        (RangeAccount("", 3, run=2, failed=1), False),
        (RangeAccount("", 3, run=2, outside=1), False),
    ],
)
def test_account_is_whole_when_all_that_was_wanted_is_there(account: RangeAccount, whole: bool) -> None:
    assert account.is_whole is whole


def test_undeclared_writes_are_shown_up_to_a_few() -> None:
    changes = [Change(f"/x/{n}", "added", "file") for n in range(7)]
    assert format_undeclared({"T()": changes[:1]}) == ["T() wrote 1 undeclared path (dropped):", "    added /x/0"]
    lines = format_undeclared({"T()": changes}, published=True)
    assert (lines[0], lines[-1], len(lines)) == ("T() wrote 7 undeclared paths (published):", "    and 2 more", 7)


def test_tasks_that_wrote_the_same_are_named_together() -> None:
    log = [Change("/x/log", "modified", "file", 9)]
    longer = [Change("/x/log", "modified", "file", 99)]
    assert format_undeclared({"A()": log, "B()": [Change("/x/b", "added", "file")], "C()": longer}) == [
        "A() and 1 more task wrote 1 undeclared path each (dropped):",
        "    modified /x/log",
        "B() wrote 1 undeclared path (dropped):",
        "    added /x/b",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 ms"), (0.0994, "99 ms"), (59.94, "59.9 s"), (60.0, "1 min 0 s"), (7322.0, "2 h 2 min")],
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
