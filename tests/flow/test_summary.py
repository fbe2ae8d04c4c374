"""Our summary against Luigi's own code: the same tasks, the same statuses, the same text to the letter.

Exempt, by name:
  concealed values    Luigi shows them; ours are starred
"""

from __future__ import annotations

import contextlib
import datetime
import random
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.flow.parameters import DateParameter, IntParameter, ParameterVisibility
from jubako.flow.summary import Groups, RunStatus, format_summary, get_status
from jubako.flow.tasks.task import Task

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    luigi = pytest.importorskip("luigi")
    from luigi import execution_summary as theirs


class Daily(luigi.Task):
    date = luigi.DateParameter()


class Hourly(luigi.Task):
    hour = luigi.DateHourParameter()


class Monthly(luigi.Task):
    month = luigi.MonthParameter()


class Numbered(luigi.Task):
    n = luigi.IntParameter()


class Plain(luigi.Task):
    pass


class Named(luigi.Task):
    name = luigi.Parameter()


class Two(luigi.Task):
    date = luigi.DateParameter()
    place = luigi.Parameter()


class LongNames(luigi.Task):
    a_parameter_with_a_name_of_some_length = luigi.Parameter()
    another_one_like_it = luigi.IntParameter()


class VeryLongNames(luigi.Task):
    a_parameter_with_a_name_of_some_length_that_is_long = luigi.Parameter()
    another_one_like_it = luigi.IntParameter()


class Secret(luigi.Task):
    name = luigi.Parameter(visibility=luigi.parameter.ParameterVisibility.PRIVATE)
    minute = luigi.DateMinuteParameter()


_DAY = datetime.date(2024, 2, 26)
_words = st.text("ab-é,", min_size=1, max_size=4) | st.sampled_from(["x" * 70, "y" * 210])
_dates = st.integers(0, 8).map(lambda n: _DAY + datetime.timedelta(days=n))
_hours = st.integers(0, 30).map(lambda n: datetime.datetime(2024, 2, 28, 20) + datetime.timedelta(hours=n))
_tasks = st.one_of(
    st.builds(Daily, date=_dates),
    st.builds(Hourly, hour=_hours),
    st.builds(Monthly, month=st.builds(datetime.date, st.sampled_from([2023, 2024]), st.integers(1, 12), st.just(1))),
    st.builds(Numbered, n=st.integers(-2, 40)),
    st.just(Plain()),
    st.builds(Named, name=_words),
    st.builds(Two, date=_dates, place=st.sampled_from("pq")),
    st.builds(
        LongNames, a_parameter_with_a_name_of_some_length=st.sampled_from("rs"), another_one_like_it=st.integers(0, 4)
    ),
    st.builds(
        VeryLongNames,
        a_parameter_with_a_name_of_some_length_that_is_long=st.just("t"),
        another_one_like_it=st.integers(0, 2),
    ),
    st.builds(Secret, name=_words, minute=_hours),
)


@dataclass
class FakeWorker:
    """As much of a Luigi worker as its summary looks at."""

    _add_task_history: list[tuple[Any, str, bool]]
    _get_work_response_history: list[dict[str, Any]] = field(default_factory=list)
    _scheduled_tasks: dict[str, Any] = field(default_factory=dict)
    _id: str = "me"


@contextlib.contextmanager
def luigis_summary_length(length: int) -> Iterator[None]:
    """Sets Luigi's own configuration for a moment."""
    config = luigi.configuration.get_config()
    config.set("execution_summary", "summary_length", str(length))
    try:
        yield
    finally:
        config.remove_option("execution_summary", "summary_length")


def concealed(summary: str) -> str:
    """The text of a summary without what Luigi shows in it of PRIVATE values, and we don't."""
    return re.sub(r"(Secret\(name=).*?(, minute=)", r"\1***\2", summary)


def groups_of(worker: FakeWorker) -> Groups:
    by_status = theirs._summary_dict(worker)
    by_status.pop("run_by_other_worker")
    external = theirs._get_external_workers(worker)
    return Groups(
        **{status: list(tasks) for status, tasks in by_status.items()},
        run_by_other_worker=list(set().union(*external.values())),
        other_workers={name: len(tasks) for name, tasks in external.items()},
    )


@settings(max_examples=300)
@given(
    st.lists(_tasks, max_size=60, unique=True),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
    st.integers(0, 6),
)
def test_summary_of_random_runs_equals_luigis(
    tasks: list[Any], other_workers: int, chance: random.Random, summary_length: int
) -> None:
    history: list[tuple[Any, str, bool]] = []
    for task in tasks:
        history += chance.choice(
            [
                [(task, "DONE", False)],
                [(task, "PENDING", True), (task, "DONE", False)],
                [(task, "PENDING", True), (task, "FAILED", False)],
                [(task, "PENDING", True), (task, "FAILED", False), (task, "DONE", False)],
                [(task, "UNKNOWN", False)],
                [(task, "PENDING", False)],
                [(task, "PENDING", True)],
            ]
        )
    worker = FakeWorker(history, _scheduled_tasks={task.task_id: task for task in tasks})
    for number in range(min(other_workers * 3, len(tasks))):
        running = [{"worker": f"other-{number}", "task_id": tasks[number].task_id}]
        worker._get_work_response_history.append({"task_id": None, "running_tasks": running})
    with luigis_summary_length(summary_length):
        expected = theirs.summary(worker)
    groups = groups_of(worker)
    assert concealed(format_summary(groups, summary_length=summary_length)) == concealed(expected)
    assert get_status(groups).name == theirs._tasks_status(theirs._summary_dict(worker)).name


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10, 400])
@pytest.mark.parametrize("hole", [False, True])
def test_summary_of_a_range_equals_luigis(count: int, hole: bool) -> None:
    tasks = [Daily(date=_DAY + datetime.timedelta(days=n)) for n in range(count) if not (hole and n == count // 2)]
    worker = FakeWorker([(task, "PENDING", True) for task in tasks] + [(task, "DONE", False) for task in tasks])
    assert format_summary(groups_of(worker)) == theirs.summary(worker)


class Pin(Task):
    pin = IntParameter(visibility=ParameterVisibility.HIDDEN)


class Dated(Task):
    pin = IntParameter(visibility=ParameterVisibility.PRIVATE)
    date = DateParameter()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_summary_conceals_what_a_task_conceals(count: int) -> None:
    pins = [Pin(4815 + n) for n in range(count)]
    dates = [Dated(4815 + n, _DAY) for n in range(count)] + [
        Dated(4815, _DAY + datetime.timedelta(days=1 + n)) for n in range(count)
    ]
    summary = format_summary(Groups(completed=[*pins, *dates], failed=dates[count - 1 :]))
    assert "Pin(pin=***)" in summary
    assert "48" not in summary


def test_summary_title_can_be_ours() -> None:
    assert format_summary(Groups(), title="T") == "\n===== T =====\n\nDid not schedule any tasks\n\n===== T =====\n"


def test_statuses_are_luigis() -> None:
    assert {status.name: status.value for status in RunStatus} == {s.name: s.value for s in theirs.LuigiStatusCode}
    assert RunStatus.SUCCESS.sentence == theirs._create_one_line_summary(theirs.LuigiStatusCode.SUCCESS)
