"""Asking all tasks of a class at once; what asking them one by one says is the rule."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

import pytest

from crash.tracer import count_calls
from jubako.flow.graph.completeness import targets_exist
from jubako.flow.graph.standing import Broken, Standing, ask_family
from jubako.flow.parameters import DateParameter, IntParameter
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.targets.target import Target
from jubako.flow.tasks.task import Task, WrapperTask


class Odd(Target):
    def __init__(self, n: int) -> None:
        self.n = n

    def exists(self) -> bool:
        if self.n == 5:
            raise OSError("no answer")
        return self.n % 2 == 1


class Many(Task):
    """Of every kind there is, by number."""

    n = IntParameter()

    def output(self) -> Any:
        if self.n == 4:
            raise ValueError("no output")
        return [[LocalTarget(f"{self.n}")], [], [LocalTarget(f"{self.n}"), Odd(self.n)], Odd(self.n)][self.n % 4]


class Own(Many):
    def complete(self) -> bool:
        return self.n > 3


class Stamped(Many):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.n == 2:
            self.complete = lambda: True  # type: ignore[method-assign]


class Wraps(WrapperTask):
    n = IntParameter()

    def requires(self) -> Any:
        return [Many(self.n), Many(self.n + 4)]


@pytest.mark.parametrize("cls", [Many, Own, Stamped, Wraps])
def test_ask_family_says_what_asking_one_by_one_says(cls: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("0", "2", "3", "8"):
        (tmp_path / name).touch()
    tasks = [cls(n) for n in range(20)]
    expected = [Standing(targets_exist).look([task])[0] for task in tasks]
    answers = ask_family(tasks, targets_exist)
    assert [_comparable(answer) for answer in answers] == [_comparable(answer) for answer in expected]
    assert True in answers and False in answers
    assert ask_family([], targets_exist) == []


def _comparable(answer: Any) -> Any:
    return answer.sentence if isinstance(answer, Broken) else answer


class Pair(WrapperTask):
    n = IntParameter()
    m = IntParameter()

    def requires(self) -> Any:
        return [Many(self.n), Many(self.m)]


@pytest.mark.parametrize("pair", [Pair(4, 8), Pair(8, 4)])  # 4 cannot be asked, 8 is not done
def test_wrapper_is_answered_for_by_the_first_requirement_that_is_not_done(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        expected: Any = pair.complete()
    except ValueError as error:
        expected = error
    (answer,) = Standing(targets_exist).look([pair])
    assert str(answer.error if isinstance(answer, Broken) else answer) == str(expected)


class Dated(Task):
    date = DateParameter()
    folder = ""

    def output(self) -> Any:
        return LocalTarget(f"{self.folder}/{self.date}.txt")


def test_many_dated_tasks_of_one_folder_cost_one_listing_and_no_question_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dated, "folder", str(tmp_path))
    tasks = [Dated(datetime.date.fromordinal(700_000 + n)) for n in range(20_000)]
    for task in tasks[::2]:
        Path(task.output().path).touch()
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))

    def ask() -> None:
        assert Standing(targets_exist).look(tasks) == [True, False] * 10_000

    ask()
    assert listed == [str(tmp_path)]
    assert count_calls(ask) < 1000
