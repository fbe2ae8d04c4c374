"""Which tasks can run as one, and as what."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from jubako.flow.engine.batching import Batching, combine
from jubako.flow.parameters import DateParameter, IntParameter, ListParameter, Parameter
from jubako.flow.tasks.task import Task

DAYS = [datetime.date(2010, 1, day) for day in range(1, 5)]


class Upto(Task):
    date = DateParameter(batch_method=max)
    names = ListParameter(batch_method=lambda lists: sum(lists, ()), default=())
    city = Parameter(default="Oslo")


class Limited(Upto):
    max_batch_size = 3


class Alone(Upto):
    max_batch_size = 1


class Plain(Task):
    n = IntParameter()


def test_tasks_that_differ_in_batched_parameters_only_are_a_group() -> None:
    batching = Batching()
    oslo = [batching.find_group(Upto(day, names=[str(day)]), ()) for day in DAYS]
    assert len({group for group, _ in oslo}) == 1
    assert oslo[0][1] > 10**9
    assert batching.find_group(Upto(DAYS[0], city="Rome"), ())[0] != oslo[0][0]
    assert batching.find_group(Upto(DAYS[0]), (("gpu", 1),))[0] != oslo[0][0]
    assert batching.find_group(Limited(DAYS[0]), ()) == (3, 3)


def test_tasks_that_cannot_be_batched_run_alone() -> None:
    batching = Batching()
    assert batching.find_group(Plain(1), ()) == batching.find_group(Alone(DAYS[0]), ()) == (-1, 1)


def test_task_for_several_has_their_batched_values_combined() -> None:
    tasks = [Upto(day, names=[day.day], city="Rome") for day in DAYS]
    assert combine(tasks) is Upto(DAYS[-1], names=[1, 2, 3, 4], city="Rome")
    assert combine(tasks[:1]) is tasks[0]


def test_what_a_batch_method_raises_comes_out() -> None:
    class Wrong(Task):
        n: Any = IntParameter(batch_method=lambda values: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        combine([Wrong(1), Wrong(2)])
