"""How a run has ended, as a message: which outcome, and never more than a few names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import HostError
from jubako.flow.accounting import RangeAccount
from jubako.flow.notices.digest import describe_break, describe_result, describe_task
from jubako.flow.notices.message import NAMED, Message
from jubako.flow.observer import TaskFailed
from jubako.flow.outcome import find_outcome
from jubako.flow.parameters import IntParameter
from jubako.flow.result import RunResult, TaskError
from jubako.flow.summary import Groups
from jubako.flow.tasks.task import Task

ABOUT = Message("test", "success", "/data/pipeline.py", "Day(n=1)", "host7", 1000.0, 1003.5)


class Day(Task):
    n = IntParameter()


def clean(text: str) -> str:
    return text.replace("hunter2", "***")


def make_result(*errors: TaskError, everything_there: bool = False, **more: Any) -> RunResult:
    groups = more.pop("groups", Groups(completed=[Day(1)]))
    return RunResult("R-1", "none", groups, everything_there, errors=errors, **more)


ERROR = TaskError("Day_1", "Day(n=1)", "ValueError: hunter2", "", "/logs/1.log", "343f3fd4")


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (make_result(everything_there=True), "success"),
        (make_result(ERROR), "failure"),
        (make_result(), "missing"),
        (make_result(ERROR, interrupted=True), "interrupted"),
    ],
)
def test_outcome_says_how_the_run_has_ended(result: RunResult, outcome: str) -> None:
    assert find_outcome(result) == outcome


def test_message_of_a_failed_run_has_what_to_look_at() -> None:
    groups = Groups(completed=[Day(2)], failed=[Day(1)])
    accounts = (RangeAccount("RangeDaily", 2, done_before=1, failed=1), RangeAccount("Whole", 1, run=1))
    message = describe_result(ABOUT, make_result(ERROR, groups=groups, accounts=accounts), clean)
    assert message.summary == "Day(n=1) failed on host7: 1 done, 1 failed"
    assert message.format_text() == (
        "Day(n=1) failed on host7: 1 done, 1 failed\n"
        "\n"
        "pipeline  /data/pipeline.py\n"
        "run       R-1\n"
        f"began     {message.to_json()['began']}, took 3.5 s\n"
        "\n"
        "Day(n=1): ValueError: ***\n"
        "    log: /logs/1.log\n"
        "    jubako box enter 343f3fd4\n"
        "RangeDaily: 2 wanted = 1 done before + 1 failed\n"
        "\n"
        "'jubako history R-1' and 'jubako logs R-1' have more.\n"
    )
    assert "hunter2" not in json.dumps(message.to_json())


def test_page_shows_the_keys_of_a_message() -> None:
    text = (Path(__file__).parents[3] / "docs/notifications.md").read_text()
    (shown,) = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    message = describe_result(ABOUT, make_result(ERROR), clean).to_json()
    assert list(json.loads(shown)) == list(message)
    assert list(json.loads(shown)["errors"][0]) == list(message["errors"][0])


def test_message_of_ten_thousand_failed_tasks_names_a_few_and_counts_the_rest() -> None:
    errors = [TaskError(f"Day_{n}", f"Day(n={n})", "no") for n in range(10_000)]
    missing = [f"file {n} is not there" for n in range(200)]
    message = describe_result(ABOUT, make_result(*errors, missing=missing), clean)
    assert (len(message.errors), message.more_errors) == (NAMED, 9_990)
    assert (len(message.missing), message.more_missing) == (NAMED, 190)
    assert "and 9990 more failed\n" in message.format_text()
    assert len(json.dumps(message.to_json())) < 10_000


def test_run_that_was_refused_is_a_failure_with_the_reason() -> None:
    message = describe_break(ABOUT, HostError("this host has no hunter2"), clean)
    assert (message.outcome, message.summary) == ("failure", "Day(n=1) failed on host7: this host has no ***")
    assert describe_break(ABOUT, KeyError("x"), clean).problem == "KeyError: 'x'"
    assert describe_break(ABOUT, KeyboardInterrupt(), clean).outcome == "interrupted"


def test_message_of_one_task_says_which_and_why() -> None:
    message = describe_task(ABOUT, TaskFailed(Day(3), "ValueError: hunter2", log_path="/logs/3.log"), clean)
    assert message.summary == "Day(n=3) failed on host7: ValueError: ***"
    assert message.to_json()["errors"] == [
        {
            "task": "Day(n=3)",
            "task_id": Day(3).task_id,
            "error": "ValueError: ***",
            "at": None,
            "log": "/logs/3.log",
            "kept_box": None,
        }
    ]
