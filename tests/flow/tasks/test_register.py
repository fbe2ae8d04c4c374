"""The register of task classes: names, namespaces, signatures that follow changes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from jubako.flow.parameters import IntParameter, Parameter
from jubako.flow.tasks.register import (
    Register,
    TaskClassException,
    TaskClassNotFoundException,
    find_signature,
    load_task,
)
from jubako.flow.tasks.task import Task, namespace


def test_class_is_found_by_its_family() -> None:
    class Found(Task):
        task_namespace = "in.here"

    assert Register.get_task_cls("in.here.Found") is Found
    assert "in.here.Found" in Register.task_names()
    assert Register.tasks_str() == ",".join(Register.task_names())


def test_subclass_of_the_same_name_takes_over() -> None:
    class Same(Task):
        pass

    derived = type(Task)("Same", (Same,), {})
    assert Register.get_task_cls("Same") is derived


def test_unrelated_classes_of_one_name_are_ambiguous_whatever_comes_after() -> None:
    first = type(Task)("Same", (Task,), {})
    type(Task)("Same", (Task,), {})
    type(Task)("Same", (first,), {})
    with pytest.raises(TaskClassException, match="Task 'Same' is ambiguous"):
        Register.get_task_cls("Same")
    assert "Same" not in {family for family, *_ in Register.get_all_params()}


def test_invisible_class_is_not_found() -> None:
    class Hidden(Task):
        _visible_in_registry = False

    with pytest.raises(TaskClassNotFoundException):
        Register.get_task_cls("Hidden")


def test_nearest_scope_decides_the_namespace() -> None:
    namespace("all")
    namespace("some", scope="pkg.sub")
    for module, expected in (("pkg.sub.deep", "some"), ("pkg.sub", "some"), ("pkg.subother", "all"), ("pkg", "all")):
        assert Register._get_namespace(module) == expected
    namespace()
    assert Register._get_namespace("pkg") == ""


def test_all_parameters_are_listed_with_their_families() -> None:
    class Listed(Task):
        use_cmdline_section = False
        n = IntParameter()

    assert ("Listed", True, "n", Listed.n) in list(Register.get_all_params())


def test_reg_can_be_read_and_set() -> None:
    class Only(Task):
        pass

    Register._set_reg({"Only": Only, "Same": Register.AMBIGUOUS_CLASS})
    assert Register.task_names() == ["Only"]


def test_load_task_imports_the_module_and_parses() -> None:
    class Loaded(Task):
        n = IntParameter()

    assert load_task("json", "Loaded", {"n": "5"}) is Loaded(5)
    assert load_task(None, "Loaded", {"n": "5"}) is Loaded(5)


def test_tasks_made_while_forgetting_are_gone_and_others_stay() -> None:
    class Counted(Task):
        n = IntParameter()

    before = Counted(1)
    with Register.forgetting_new_tasks():
        assert Counted(1) is before
        assert Counted(2) is Counted(2)
        with pytest.raises(ZeroDivisionError), Register.forgetting_new_tasks():
            Counted(3)
            raise ZeroDivisionError
        assert Register._instances is not None
        assert len(Register._instances[Counted]) == 2
    assert list(Register._instances[Counted].values()) == [before]


def test_passing_tasks_are_those_a_call_makes_and_are_kept_nowhere() -> None:
    class Passing(Task):
        n = IntParameter()
        city = Parameter(default="Oslo")

    class Fussy(Passing):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.doubled = self.n * 2

    for cls in (Passing, Fussy):
        with Register.forgetting_new_tasks():
            passing = cls.make_passing("n", [1, 2, 3], {"city": "Rome"})
        assert Register._instances is not None
        assert not Register._instances.get(cls)
        called = [cls(n, city="Rome") for n in (1, 2, 3)]
        assert passing == called
        assert [repr(task) for task in passing] == [repr(task) for task in called]
        assert [task.param_kwargs for task in passing] == [task.param_kwargs for task in called]
        assert all(task.initialized() for task in passing)
        assert cls.make_passing("n", [], {}) == []
    assert not hasattr(object.__new__(Passing), "task_id")  # type: ignore[arg-type]


def test_signature_is_made_once_until_the_class_changes() -> None:
    class Base(Task):
        n = IntParameter(default=1)

    class Derived(Base):
        pass

    signature = find_signature(Derived)
    assert find_signature(Derived) is signature
    Derived.counter = 5  # type: ignore[attr-defined]  # no parameter: nothing changes
    assert find_signature(Derived) is signature
    Base.__name__ = "Renamed"
    assert find_signature(Derived) is not signature
    assert find_signature(Base).family == "Renamed"


def test_threads_get_the_same_task() -> None:
    class Shared(Task):
        n = IntParameter()

    found: list[Any] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        found.append([Shared(n) for n in range(200)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(task is other for tasks in found for task, other in zip(tasks, found[0], strict=True))
