"""Inheriting decorators and the task before, each declared in Luigi and here and compared."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from jubako.flow import parameters
from jubako.flow.targets.mock import MockFileSystem, MockTarget
from jubako.flow.tasks import inheriting, preceding, task
from jubako.flow.tasks.task import Task


class Ours:
    """What stands where Luigi's modules stand, so that one piece of code can use both."""

    util = inheriting
    previous = staticmethod(preceding.previous)
    get_previous_completed = staticmethod(preceding.get_previous_completed)

    def __getattr__(self, name: str) -> Any:
        return getattr(task, name, None) or getattr(parameters, name)


@pytest.fixture
def both(luigi: Any) -> list[Any]:
    import luigi.util

    return [Ours(), luigi]


def answers(both: list[Any], function: Any) -> list[Any]:
    found = []
    for module in both:
        try:
            found.append(function(module))
        except Exception as error:  # noqa: BLE001  (which one is what is compared)
            found.append((type(error).__name__, str(error).replace("luigi.util", "").replace("abc.", "")))
    return found


def parents(module: Any) -> Any:
    class Parent(module.Task):
        m = module.IntParameter(default=1)

    class Other(module.Task):
        n = module.IntParameter(default=2)
        date = module.DateParameter(default=datetime.date(2024, 2, 29))

    return Parent, Other


def test_inherits_one_is_luigis(both: list[Any]) -> None:
    def ask(module: Any) -> Any:
        parent, _ = parents(module)

        @module.util.inherits(parent)
        class Child(module.Task):
            k = module.Parameter(default="x")

        child = Child(m=5)
        return str(child), str(child.clone_parent()), str(child.clone_parent(m=7)), str(child.clone_parents())

    ours, theirs = answers(both, ask)
    assert ours == theirs == ("Child(m=5, k=x)", "Parent(m=5)", "Parent(m=7)", "[Parent(m=5)]")


def test_inherits_several_by_name_is_luigis(both: list[Any]) -> None:
    def ask(module: Any) -> Any:
        parent, other = parents(module)

        @module.util.inherits(a=parent, b=other)
        class Child(module.Task):
            n = module.IntParameter(default=9)

        child = Child(m=5)
        return str(child), str(child.clone_parents()), hasattr(child, "clone_parent")

    ours, theirs = answers(both, ask)
    assert ours == theirs
    assert ours[2] is False


@pytest.mark.parametrize("arguments", [((), {}), ((1,), {"a": 2})])
def test_inherits_of_nothing_or_of_both_kinds_is_refused_as_in_luigi(both: list[Any], arguments: Any) -> None:
    ours, theirs = answers(both, lambda module: module.util.inherits(*arguments[0], **arguments[1]))
    assert ours == theirs
    assert ours[0] == "TypeError"


@pytest.mark.parametrize("shape", ["one", "two", "named"])
def test_requires_is_luigis(both: list[Any], shape: str) -> None:
    def ask(module: Any) -> Any:
        parent, other = parents(module)
        given = {"one": ([parent], {}), "two": ([parent, other], {}), "named": ([], {"p": parent, "o": other})}[shape]

        @module.util.requires(*given[0], **given[1])
        class Child(module.Task):
            pass

        return str(Child().requires()), sorted(map(str, Child(m=3).deps()))

    ours, theirs = answers(both, ask)
    assert ours == theirs


def test_common_params_are_luigis(both: list[Any]) -> None:
    def ask(module: Any) -> Any:
        parent, other = parents(module)

        @module.util.inherits(parent, other)
        class Child(module.Task):
            pass

        return module.util.common_params(Child(m=3), other), module.util.common_params(Child(m=3), parent)

    ours, theirs = answers(both, ask)
    assert ours == theirs == ({"n": 2, "date": datetime.date(2024, 2, 29)}, {"m": 3})
    assert (
        answers(both, lambda module: module.util.common_params(1, 2))
        == [("TypeError", "task_cls must be an uninstantiated Task")] * 2
    )


def test_copies_copies_and_keeps_its_name() -> None:
    class Original(Task):
        n = parameters.IntParameter()

        def output(self) -> MockTarget:
            return MockTarget(f"original {self.n}")

    @inheriting.copies(Original)
    class Copy(Task):
        """Says something."""

        def output(self) -> MockTarget:
            return MockTarget(f"copy {self.n}")  # type: ignore[attr-defined]

    MockFileSystem().clear()
    with Original(n=1).output().open("w") as file:
        file.write("a\nb\n")
    Copy(n=1).run()
    assert MockFileSystem().get_data("copy 1") == b"a\nb\n"
    assert (Copy.__name__, Copy.__doc__, Copy.get_task_family()) == ("Copy", "Says something.", "Copy")
    assert type(Task).get_task_cls("Copy") is Copy
    MockFileSystem().clear()


def test_delegates_runs_and_requires_for_its_subtasks(both: list[Any]) -> None:
    def ask(module: Any) -> Any:
        ran = []
        parent, other = parents(module)

        class Part(module.Task):
            n = module.IntParameter()

            def requires(self) -> Any:
                return parent(m=self.n)

            def run(self) -> None:
                ran.append(str(self))

        @module.util.delegates
        class Whole(module.Task):
            def requires(self) -> Any:
                return other()

            def subtasks(self) -> Any:
                return [Part(n=1), Part(n=2)]

            def run(self) -> None:
                ran.append(str(self))

        Whole().run()
        return ran, str(Whole().deps()), Whole.__name__

    ours, theirs = answers(both, ask)
    assert ours == theirs
    assert ours[0] == ["Part(n=1)", "Part(n=2)", "Whole()"]


def test_delegates_without_subtasks_is_refused() -> None:
    with pytest.raises(AttributeError, match='needs to implement the method "subtasks"'):
        inheriting.delegates(Task)


MOMENT = datetime.datetime(2024, 3, 1)


@pytest.mark.parametrize(
    ("kinds", "values"),
    [
        (["DateParameter"], [MOMENT.date()]),
        (["MonthParameter"], [MOMENT.date()]),
        (["YearParameter"], [MOMENT.date()]),
        (["DateHourParameter"], [MOMENT]),
        (["DateMinuteParameter"], [MOMENT]),
        (["DateSecondParameter"], [MOMENT]),
        (["DateIntervalParameter"], ["2024-W10"]),
        (["DateParameter", "IntParameter"], [MOMENT.date(), 4]),
        (["DateParameter", "DateHourParameter"], [MOMENT.date(), MOMENT]),
        (["IntParameter"], [4]),
    ],
)
def test_previous_is_luigis(luigi: Any, kinds: list[str], values: list[Any]) -> None:
    import luigi.util

    def ask(module: Any, find: Any) -> Any:
        body = {f"p{number}": getattr(module, kind)() for number, kind in enumerate(kinds)}
        made = type(module.Task)("Dated", (module.Task,), body)
        given = {
            name: body[name].parse(value) if isinstance(value, str) else value
            for name, value in zip(body, values, strict=True)
        }
        return str(find(made(**given)))

    ours, theirs = (
        answers([module], lambda module, find=find: ask(module, find))[0]
        for module, find in ((Ours(), preceding.previous), (luigi, luigi.util.previous))
    )
    assert ours == theirs


def test_previous_completed_looks_so_many_steps_back() -> None:
    class Daily(Task):
        date = parameters.DateParameter()

        def complete(self) -> bool:
            return self.date <= datetime.date(2024, 1, 1)

    assert preceding.get_previous_completed(Daily(datetime.date(2024, 1, 4))) == Daily(datetime.date(2024, 1, 1))
    assert preceding.get_previous_completed(Daily(datetime.date(2024, 1, 4)), max_steps=2) is None
